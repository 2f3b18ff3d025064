/* SPDX-License-Identifier: GPL-2.0-only */
#include "both.h"

#include <stdio.h>
#include <time.h>

#include "posternctl.h"
#include "print.h"
#include "rows.h"
#include "terminal.h"

/* Kernel and agent are not read at one moment: what changed between the two is the same a little later. */
#define LOOK_AGAIN_NS 300000000

void both_print_kernel(const struct options *options, const char *error, bool pinned)
{
	if (error[0])
		terminal_printf(COLOUR_BAD, "the kernel cannot be read whole: %s", error);
	else if (!pinned)
		terminal_printf(COLOUR_NONE, "nothing is pinned in %s: no gateway is intercepted", options->bpffs);
	else
		return;
	putchar('\n');
}

static void print_page(const struct options *options, const struct both_list *list, const struct both *result,
                       size_t before)
{
	char none[NONE_TEXT_MAX];
	struct table *table = table_new(list->headings);
	size_t index;
	json_t *row;

	both_print_kernel(options, result->kernel_error, result->pinned || result->agent == AGENT_ANSWERED);
	json_array_foreach (result->rows, index, row)
		list->add_row(table, row);
	/* Of what could not be read it is not said that there is none. */
	if (index == 0 && result->kernel_error[0] && result->agent != AGENT_ANSWERED)
		table_discard(table);
	else
		table_print_or(table, none_text(list->none, before, none));
}

static int status_of(const struct both *result)
{
	if (result->agent != AGENT_ANSWERED)
		return (int)complain_of_agent(result->agent, result->reason, "; by the kernel's word alone:");
	if (result->differences)
		return EXIT_DISAGREE;
	return result->kernel_error[0] ? EXIT_WRONG : EXIT_FINE;
}

int both_command(const struct options *options, const struct both_list *list)
{
	static const struct timespec pause = {.tv_nsec = LOOK_AGAIN_NS};
	struct both result = {0};
	size_t before;
	int status;

	if (!filters_make_sense(options))
		return EXIT_USAGE;
	list->look(options, &result);
	if (result.differences && result.agent == AGENT_ANSWERED) {
		json_decref(result.rows);
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
		result = (struct both){0};
		list->look(options, &result);
	}
	status = status_of(&result);
	before = json_array_size(result.rows);
	result.rows = rows_wanted(options, result.rows);
	if (options->json)
		return print_json(options, result.rows) == EXIT_FINE ? status : EXIT_WRONG;
	print_page(options, list, &result, before);
	json_decref(result.rows);
	return status;
}
