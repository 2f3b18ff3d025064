/* SPDX-License-Identifier: GPL-2.0-only */
#include <stdio.h>
#include <string.h>

#include "agent_client.h"
#include "observe/json.h"
#include "posternctl.h"
#include "print.h"
#include "rows.h"
#include "terminal.h"

static void put_condition(struct table *table, const json_t *condition, const char *good)
{
	if (truth_of(condition, "status"))
		table_cell(table, COLOUR_GOOD, "%s", good);
	else
		table_cell(table, COLOUR_BAD, "not %s: %s", good, text_of(condition, "reason"));
}

static void note_names(struct table *table, const json_t *settings)
{
	size_t index;
	json_t *name;

	json_array_foreach (json_object_get(settings, "subject_alt_names"), index, name)
		table_note(table, COLOUR_DIM, "subject alternative name: %s %s", text_of(name, "type"),
		           text_of(name, "value"));
}

static void note_settings(struct table *table, const json_t *settings)
{
	const char *client = text_of(settings, "client_certificate");

	if (!number_of(settings, "id"))
		return;
	table_note(table, COLOUR_DIM, "settings %lld: CA %s%s, %s to %s, resumption %s, kernel TLS %s%s%.16s",
	           number_of(settings, "id"), truth_of(settings, "system_ca") ? "the system's" : "its own",
	           truth_of(settings, "crl") ? " with CRL" : "", text_of(settings, "min_version"),
	           text_of(settings, "max_version"), truth_of(settings, "resumption") ? "on" : "off",
	           text_of(settings, "ktls"), client[0] ? ", client certificate " : "", client);
	note_names(table, settings);
}

static void add_row(struct table *table, const json_t *policy)
{
	const json_t *accepted = json_object_get(policy, "accepted");
	const json_t *references = json_object_get(policy, "resolvedRefs");
	const json_t *settings = json_object_get(policy, "settings");

	table_cell(table, COLOUR_BOLD, "%s/%s", text_of(policy, "namespace"), text_of(policy, "name"));
	put_condition(table, accepted, "accepted");
	put_condition(table, references, "resolved");
	table_cell(table, COLOUR_NONE, "%s", text_of(settings, "hostname"));
	table_cell(table, COLOUR_NONE, "%s", text_of(settings, "alpn"));
	table_cell(table, COLOUR_NONE, "%lld", number_of(policy, "destinations"));
	if (text_of(accepted, "message")[0])
		table_note(table, COLOUR_NONE, "%s", text_of(accepted, "message"));
	if (!truth_of(references, "status") && text_of(references, "message")[0])
		table_note(table, COLOUR_NONE, "%s", text_of(references, "message"));
	note_settings(table, settings);
}

static bool is_accepted(const json_t *policy)
{
	return truth_of(json_object_get(policy, "accepted"), "status") &&
	       truth_of(json_object_get(policy, "resolvedRefs"), "status");
}

static bool is_wanted(const struct options *options, const json_t *policy)
{
	char name[600];

	(void)snprintf(name, sizeof(name), "%.290s/%.290s", text_of(policy, "namespace"), text_of(policy, "name"));
	return name_fits(options->policy, name);
}

static json_t *wanted_policies(const struct options *options, json_t *rows, bool *all_accepted)
{
	json_t *wanted = json_array();
	size_t index;
	json_t *row;

	*all_accepted = true;
	json_array_foreach (rows, index, row) {
		if (!is_wanted(options, row))
			continue;
		*all_accepted &= is_accepted(row);
		json_append(&wanted, json_incref(row));
	}
	json_decref(rows);
	return wanted;
}

int command_policies(const struct options *options)
{
	static const char *const headings[] = {"POLICY", "ACCEPTED",     "REFERENCES", "HOSTNAME",
	                                       "ALPN",   "DESTINATIONS", NULL};
	json_t *rows = NULL;
	struct table *table;
	char none[NONE_TEXT_MAX];
	bool all_accepted;
	size_t before;
	size_t index;
	json_t *row;
	int status = ask_or_complain(options, "policies", JSON_ARRAY, &rows);

	if (status)
		return status;
	before = json_array_size(rows);
	rows = wanted_policies(options, rows, &all_accepted);
	status = all_accepted ? EXIT_FINE : EXIT_WRONG;
	if (options->json)
		return print_json(options, rows) == EXIT_FINE ? status : EXIT_WRONG;
	table = table_new(headings);
	json_array_foreach (rows, index, row)
		add_row(table, row);
	table_print_or(table, none_text("no policy", before, none));
	json_decref(rows);
	return status;
}
