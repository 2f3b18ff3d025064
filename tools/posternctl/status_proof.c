/* SPDX-License-Identifier: GPL-2.0-only */
#include <stdio.h>
#include <string.h>

#include "agent_client.h"
#include "status.h"
#include "terminal.h"

#define INDENT 2

static const char *const versions[] = {"TLSv1.2", "TLSv1.3", NULL};
static const char *const directions[] = {"transmit", "receive", NULL};
/* Best first. "no_pad" is no mode of its own, but something that "copy" may do. */
static const char *const modes[] = {"splice", "copy", NULL};

static bool is_safe(const json_t *rows, const char *mode, const char *direction, const char *version,
                    const char *cipher)
{
	size_t index;
	json_t *row;

	json_array_foreach (rows, index, row) {
		if (strcmp(text_of(row, "mode"), mode) == 0 && strcmp(text_of(row, "direction"), direction) == 0 &&
		    strcmp(text_of(row, "version"), version) == 0 && strcmp(text_of(row, "cipher"), cipher) == 0)
			return strcmp(text_of(row, "verdict"), "safe") == 0;
	}
	return false;
}

static void best_mode(struct table *table, const json_t *rows, const char *direction, const char *version,
                      const char *cipher)
{
	const char *no_pad = is_safe(rows, "no_pad", direction, version, cipher) ? " +no_pad" : "";

	for (const char *const *mode = modes; *mode; mode++) {
		if (is_safe(rows, *mode, direction, version, cipher)) {
			table_cell(table, COLOUR_GOOD, "kernel, %s%s", *mode, no_pad);
			return;
		}
	}
	table_cell(table, COLOUR_WARN, "user space");
}

/* The ciphers in the order in which the document first names them. */
static size_t cipher_names(const json_t *rows, const char *names[], size_t size)
{
	size_t count = 0;
	size_t index;
	json_t *row;

	json_array_foreach (rows, index, row) {
		const char *cipher = text_of(row, "cipher");
		size_t i = 0;

		while (i < count && strcmp(names[i], cipher) != 0)
			i++;
		if (i == count && count < size)
			names[count++] = cipher;
	}
	return count;
}

static void print_modes(const json_t *rows)
{
	const char *headings[TABLE_COLUMNS_MAX + 1] = {"DIRECTION"};
	size_t count = cipher_names(rows, headings + 1, TABLE_COLUMNS_MAX - 1);
	struct table *table = table_new(headings);

	for (const char *const *direction = directions; *direction; direction++) {
		for (const char *const *version = versions; *version; version++) {
			table_cell(table, COLOUR_NONE, "%s %s", *direction, *version);
			for (size_t i = 0; i < count; i++)
				best_mode(table, rows, *direction, *version, headings[i + 1]);
		}
	}
	table_print(table, INDENT);
}

/*
 * "unsafe" is news: it ran and did wrong. "unavailable" is said once, by the first detail, and not of no_pad, which
 * most combinations cannot have.
 */
static void print_trouble(const json_t *rows)
{
	size_t index;
	json_t *row;
	bool said = false;

	json_array_foreach (rows, index, row) {
		bool unsafe = strcmp(text_of(row, "verdict"), "unsafe") == 0;
		bool unavailable = strcmp(text_of(row, "verdict"), "unavailable") == 0 &&
		                   strcmp(text_of(row, "mode"), "no_pad") != 0;

		if (!unsafe && (!unavailable || said || !text_of(row, "detail")[0]))
			continue;
		said |= unavailable;
		printf("  ");
		terminal_printf(unsafe ? COLOUR_BAD : COLOUR_DIM, "%s: %s %s %s %s: %s", text_of(row, "verdict"),
		                text_of(row, "mode"), text_of(row, "direction"), text_of(row, "version"),
		                text_of(row, "cipher"), text_of(row, "detail"));
		putchar('\n');
	}
}

static void print_verdict(const char *name, const json_t *result)
{
	bool safe = strcmp(text_of(result, "verdict"), "safe") == 0;

	printf("  ");
	terminal_printf(COLOUR_NONE, "%-16s ", name);
	terminal_put(safe ? COLOUR_GOOD : COLOUR_WARN, text_of(result, "verdict"));
	if (text_of(result, "detail")[0])
		terminal_printf(COLOUR_DIM, "  %s", text_of(result, "detail"));
	putchar('\n');
}

void print_proof(const json_t *proof)
{
	const json_t *rekey = json_object_get(proof, "rekey");
	size_t index;
	json_t *hook;

	terminal_put(COLOUR_BOLD, "Proved on this kernel");
	printf(" (%lld ms, kernel TLS: %s)\n", number_of(proof, "milliseconds"),
	       truth_of(proof, "kernel_tls") ? "yes" : "no");
	print_modes(json_object_get(proof, "crypto"));
	print_trouble(json_object_get(proof, "crypto"));
	print_verdict("rekey transmit", json_object_get(rekey, "transmit"));
	print_verdict("rekey receive", json_object_get(rekey, "receive"));
	json_array_foreach (json_object_get(proof, "hooks"), index, hook)
		print_verdict(text_of(hook, "hook"), hook);
}
