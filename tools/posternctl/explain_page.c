/* SPDX-License-Identifier: GPL-2.0-only */
#include <stdio.h>
#include <string.h>

#include "agent_client.h"
#include "explain.h"
#include "terminal.h"

static void print_step(const json_t *step)
{
	const char *state = text_of(step, "state");
	bool wrong = strcmp(state, "wrong") == 0;

	terminal_printf(wrong                      ? COLOUR_BAD
	                : strcmp(state, "ok") == 0 ? COLOUR_GOOD
	                                           : COLOUR_WARN,
	                "  %-6s", wrong ? "WRONG" : state);
	terminal_printf(COLOUR_BOLD, "%s", text_of(step, "step"));
	terminal_printf(COLOUR_NONE, ": %s", text_of(step, "says"));
	putchar('\n');
}

static void print_chain(const json_t *chain)
{
	size_t index;
	json_t *certificate;

	if (json_array_size(chain))
		puts("\nWhat the backend shows, the leaf first:");
	json_array_foreach (chain, index, certificate) {
		printf("  %zu ", index);
		terminal_printf(COLOUR_BOLD, "%s", text_of(certificate, "subject"));
		printf("\n      ");
		terminal_printf(COLOUR_DIM, "issued by %s; %s to %s", text_of(certificate, "issuer"),
		                text_of(certificate, "not_before"), text_of(certificate, "not_after"));
		putchar('\n');
		if (text_of(certificate, "names")[0]) {
			printf("      ");
			terminal_printf(COLOUR_DIM, "names: %s", text_of(certificate, "names"));
			putchar('\n');
		}
	}
}

/* The first wrong step is the cause; the others are what comes of it. */
static const json_t *first_wrong(const json_t *steps)
{
	size_t index;
	json_t *step;

	json_array_foreach (steps, index, step)
		if (strcmp(text_of(step, "state"), "wrong") == 0 && text_of(step, "remedy")[0])
			return step;
	json_array_foreach (steps, index, step)
		if (strcmp(text_of(step, "state"), "wrong") == 0)
			return step;
	return NULL;
}

void print_explain_page(const json_t *document)
{
	const json_t *steps = json_object_get(document, "steps");
	const json_t *wrong = first_wrong(steps);
	size_t index;
	json_t *step;

	terminal_printf(COLOUR_BOLD, "%s -> %s", text_of(document, "gateway"), text_of(document, "destination"));
	putchar('\n');
	json_array_foreach (steps, index, step)
		print_step(step);
	print_chain(json_object_get(document, "chain"));
	putchar('\n');
	terminal_printf(wrong ? COLOUR_BAD : COLOUR_GOOD, "%s", text_of(document, "conclusion"));
	putchar('\n');
	if (wrong) {
		terminal_printf(COLOUR_NONE, "cause:  %s: %s", text_of(wrong, "step"), text_of(wrong, "says"));
		putchar('\n');
		terminal_printf(COLOUR_NONE, "remedy: %s",
		                text_of(wrong, "remedy")[0] ? text_of(wrong, "remedy") : "see the steps above");
		putchar('\n');
	}
}
