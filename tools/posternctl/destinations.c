/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * posternctl destinations: every key of the kernel's map beside what the agent made of policy. A key that the agent
 * covers and the kernel does not, or with other settings, is a disagreement; one that only the kernel has is on its way
 * out, or a HOLD's answer.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent_client.h"
#include "base/address.h"
#include "base/cleanup.h"
#include "base/sorted.h"
#include "both.h"
#include "kernel_view.h"
#include "observe/json.h"
#include "observe/status.h"
#include "posternctl.h"
#include "print.h"
#include "terminal.h"

struct entry {
	struct postern_destination_key key;
	struct postern_destination destination;
};

struct entries {
	struct entry *at;
	size_t count;
	size_t room;
	bool out_of_memory;
};

static void take_destination(void *context, const void *key, const void *value)
{
	struct entries *entries = context;

	if (entries->count == entries->room) {
		size_t room = entries->room ? 2 * entries->room : 64;
		struct entry *grown = reallocarray(entries->at, room, sizeof(*grown));

		entries->out_of_memory |= !grown;
		if (!grown)
			return;
		entries->at = grown;
		entries->room = room;
	}
	memcpy(&entries->at[entries->count].key, key, sizeof(entries->at->key));
	memcpy(&entries->at[entries->count++].destination, value, sizeof(entries->at->destination));
}

static int compare_keys(const void *left, const void *right)
{
	return memcmp(&((const struct entry *)left)->key, &((const struct entry *)right)->key,
	              sizeof(struct postern_destination_key));
}

/* {destination: {"verdict", "settings_id"}}, by address and port: a hash map has no order of its own. */
static json_t *read_kernel(struct kernel_view *view)
{
	struct entries entries = {0};
	json_t *object = json_object();

	(void)kernel_view_each(view, "destination_map", sizeof(struct postern_destination_key),
	                       sizeof(struct postern_destination), false, take_destination, &entries);
	if (entries.out_of_memory)
		kernel_view_note(view, "destination_map", ENOMEM);
	sort_list(entries.at, entries.count, sizeof(*entries.at), compare_keys);
	for (size_t i = 0; i < entries.count; i++) {
		const struct postern_destination *destination = &entries.at[i].destination;
		char text[DESTINATION_TEXT_MAX];

		json_set(&object, destination_format(&entries.at[i].key, text),
		         json_pack("{s:s, s:I}", "verdict", verdict_name(destination->verdict), "settings_id",
		                   (json_int_t)destination->settings_id));
	}
	free(entries.at);
	return object;
}

static bool is_covered(const char *verdict)
{
	return strcmp(verdict, "tls") == 0 || strcmp(verdict, "deny") == 0;
}

/* A covered key must be in the kernel as it is in the snapshot. Others may lag behind: they fail closed. */
static bool differs(const json_t *row, const json_t *kernel)
{
	if (!is_covered(text_of(row, "verdict")) || truth_of(row, "tombstone"))
		return false;
	return strcmp(text_of(row, "verdict"), text_of(kernel, "verdict")) != 0 ||
	       number_of(row, "settings_id") != number_of(kernel, "settings_id");
}

/* Adds "kernel" (its verdict, "" if it has none) and "differs" to every row; then the kernel's own rows. */
static json_t *join(json_t *agent, json_t *kernel, size_t *differences)
{
	json_t *rows = json_array();
	const char *name;
	size_t index;
	json_t *row;

	*differences = 0;
	json_array_foreach (agent, index, row) {
		const json_t *entry = json_object_get(kernel, text_of(row, "destination"));
		bool different = differs(row, entry);
		json_t *copy = json_copy(row);

		*differences += different;
		json_set(&copy, "kernel", json_text(text_of(entry, "verdict")));
		json_set(&copy, "differs", json_boolean(different));
		json_append(&rows, copy);
		(void)json_object_del(kernel, text_of(row, "destination"));
	}
	json_object_foreach (kernel, name, row) {
		json_append(&rows, json_pack("{s:o, s:s, s:s, s:s, s:I, s:s, s:s, s:b, s:b, s:s, s:b}", "destination",
		                             json_text(name), "class", "", "verdict", "", "policy", "", "settings_id",
		                             number_of(row, "settings_id"), "reason", "none", "remedy", "", "trusted",
		                             0, "tombstone", 0, "kernel", text_of(row, "verdict"), "differs", 0));
	}
	json_decref(agent);
	return rows;
}

static void look(const struct options *options, struct both *result)
{
	_cleanup_(kernel_view_close) struct kernel_view view;
	json_t *kernel = NULL;
	json_t *agent = NULL;

	result->pinned = kernel_view_open(&view, options);
	if (result->pinned)
		kernel = read_kernel(&view);
	memcpy(result->kernel_error, view.error, sizeof(result->kernel_error));
	result->agent = agent_ask(options->run_dir, "destinations", JSON_ARRAY, &agent, result->reason,
	                          sizeof(result->reason));
	result->rows = join(agent, kernel, &result->differences);
	json_decref(kernel);
}

static void add_row(struct table *table, const json_t *row)
{
	const char *verdict = text_of(row, "verdict");
	const char *reason = text_of(row, "reason");
	bool wrong = truth_of(row, "differs");

	table_cell(table, COLOUR_BOLD, "%s", text_of(row, "destination"));
	table_cell(table, COLOUR_NONE, "%s", text_of(row, "class"));
	table_cell(table, strcmp(verdict, "deny") == 0 ? COLOUR_BAD : COLOUR_NONE, "%s", verdict);
	table_cell(table, wrong ? COLOUR_BAD : COLOUR_NONE, "%s", text_of(row, "kernel"));
	table_cell(table, COLOUR_NONE, "%s", text_of(row, "policy"));
	table_cell(table, COLOUR_NONE, "%lld", number_of(row, "settings_id"));
	if (wrong)
		table_note(table, COLOUR_BAD,
		           "KERNEL AND AGENT DISAGREE: restart posternd, which writes the maps anew");
	if (reason[0] && strcmp(reason, "none") != 0)
		table_note(table, COLOUR_WARN, "%s: %s", reason, text_of(row, "remedy"));
	if (truth_of(row, "tombstone"))
		table_note(table, COLOUR_DIM, "no object names it any more: it stays covered for the tombstone's time");
}

int command_destinations(const struct options *options)
{
	static const char *const headings[] = {"DESTINATION", "CLASS", "VERDICT", "KERNEL", "POLICY", "SETTINGS", NULL};
	static const struct both_list list = {look, headings, add_row, "no destination"};

	return both_command(options, &list);
}
