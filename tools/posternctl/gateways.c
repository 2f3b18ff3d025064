/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * posternctl gateways: what the kernel has on each gateway's cgroup, and what the agent says of it. With the agent dead
 * the kernel's half is there.
 */
#include <stdio.h>
#include <string.h>

#include "agent_client.h"
#include "both.h"
#include "disagree.h"
#include "kernel_view.h"
#include "observe/json.h"
#include "posternctl.h"
#include "print.h"
#include "rows.h"
#include "status.h"
#include "terminal.h"

/* One row a gateway, of either source: {"name", "agent": {} or null, "kernel": {} or null}. */
static json_t *join(const struct options *options, const json_t *status, const json_t *kernel)
{
	json_t *rows = json_array();
	json_t *seen = json_object();
	size_t index;
	json_t *row;

	json_array_foreach (json_object_get(status, "gateways"), index, row) {
		const json_t *hooks = kernel_gateway(kernel, text_of(row, "name"));

		json_set(&seen, text_of(row, "name"), json_true());
		if (name_fits(options->gateway, text_of(row, "name")))
			json_append(&rows, json_pack("{s:O, s:O, s:o}", "name", json_object_get(row, "name"), "agent",
			                             row, "kernel", hooks ? json_deep_copy(hooks) : json_null()));
	}
	json_array_foreach (json_object_get(kernel, "gateways"), index, row) {
		if (!json_object_get(seen, text_of(row, "name")) && name_fits(options->gateway, text_of(row, "name")))
			json_append(&rows, json_pack("{s:O, s:n, s:O}", "name", json_object_get(row, "name"), "agent",
			                             "kernel", row));
	}
	json_decref(seen);
	return rows;
}

static void note_links(struct table *table, const json_t *hooks)
{
	size_t index;
	json_t *link;

	json_array_foreach (json_object_get(hooks, "links"), index, link) {
		bool attached = truth_of(link, "attached");

		table_note(table, attached ? COLOUR_DIM : COLOUR_BAD, "%-14s %s, program %lld, tag %s%s",
		           text_of(link, "hook"), text_of(link, "attach_type"), number_of(link, "program_id"),
		           text_of(link, "tag"), attached ? "" : ", NOT ATTACHED");
	}
}

static void add_row(struct table *table, const json_t *row)
{
	const json_t *agent = json_object_get(row, "agent");
	const json_t *kernel = json_object_get(row, "kernel");
	bool whole = hooks_are_whole(kernel);

	table_cell(table, COLOUR_BOLD, "%s", text_of(row, "name"));
	table_cell(table, COLOUR_NONE, "%s", text_of(kernel, "mode"));
	table_cell(table, whole ? COLOUR_GOOD : COLOUR_BAD, "%lld of %lld", number_of(kernel, "attached"),
	           number_of(kernel, "hooks"));
	table_cell(table, COLOUR_NONE, "%zu", json_array_size(json_object_get(kernel, "ports")));
	table_cell(table, strcmp(text_of(agent, "state"), "ready") == 0 ? COLOUR_GOOD : COLOUR_BAD, "%s",
	           text_of(agent, "state"));
	table_cell(table, COLOUR_NONE, "%s", text_of(kernel, "cgroup"));
	table_cell(table, COLOUR_NONE, "%s", text_of(agent, "netns"));
	if (text_of(agent, "reason")[0])
		table_note(table, COLOUR_WARN, "%s", text_of(agent, "reason"));
	note_links(table, kernel);
}

static bool all_ready(const json_t *rows)
{
	size_t index;
	json_t *row;

	json_array_foreach (rows, index, row)
		if (strcmp(text_of(json_object_get(row, "agent"), "state"), "ready") != 0 ||
		    !hooks_are_whole(json_object_get(row, "kernel")))
			return false;
	return true;
}

static int exit_status_of(enum agent_answer agent, const json_t *rows, const json_t *differences)
{
	if (agent != AGENT_ANSWERED)
		return EXIT_DEAD;
	if (json_array_size(differences))
		return EXIT_DISAGREE;
	return all_ready(rows) ? EXIT_FINE : EXIT_WRONG;
}

int command_gateways(const struct options *options)
{
	static const char *const headings[] = {"GATEWAY",    "MODE",   "HOOKS", "PORTS",
	                                       "AGENT SAYS", "CGROUP", "NETNS", NULL};
	enum agent_answer agent;
	json_t *document = status_look_twice(options, &agent);
	json_t *rows = join(options, document, json_object_get(document, "kernel"));
	const json_t *differences = json_object_get(document, "disagreements");
	int status = exit_status_of(agent, rows, differences);
	struct table *table;
	size_t index;
	json_t *row;

	if (agent != AGENT_ANSWERED)
		(void)complain_of_agent(agent, text_of(document, "reason"), "; by the kernel's word alone:");
	if (options->json) {
		json_decref(document);
		return print_json(options, rows) == EXIT_FINE ? status : EXIT_WRONG;
	}
	print_disagreements(differences);
	both_print_kernel(options, text_of(json_object_get(document, "kernel"), "error"),
	                  agent == AGENT_ANSWERED || truth_of(json_object_get(document, "kernel"), "pinned"));
	table = table_new(headings);
	json_array_foreach (rows, index, row)
		add_row(table, row);
	if (index == 0 && agent != AGENT_ANSWERED && text_of(json_object_get(document, "kernel"), "error")[0])
		table_discard(table);
	else
		table_print_or(table, "no gateway");
	json_decref(rows);
	json_decref(document);
	return status;
}
