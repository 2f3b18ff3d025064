/* SPDX-License-Identifier: GPL-2.0-only */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent_client.h"
#include "posternctl.h"
#include "print.h"
#include "status.h"
#include "terminal.h"

#define INDENT 2

static void heading(const char *text)
{
	putchar('\n');
	terminal_put(COLOUR_BOLD, text);
	putchar('\n');
}

static void print_agent(const json_t *document)
{
	const json_t *snapshot = json_object_get(document, "snapshot");
	const json_t *workers = json_object_get(document, "workers");
	char uptime[AMOUNT_TEXT_MAX];
	char age[AMOUNT_TEXT_MAX];

	terminal_put(COLOUR_BOLD, "posternd ");
	terminal_printf(COLOUR_NONE, "%s, pid %lld, up %s: ", text_of(document, "version"), number_of(document, "pid"),
	                format_age(real_of(document, "uptime_seconds"), uptime));
	if (truth_of(document, "ready"))
		terminal_put(COLOUR_GOOD, "ready");
	else
		terminal_printf(COLOUR_BAD, "NOT READY: %s", text_of(document, "reason"));
	putchar('\n');
	printf("  snapshot %lld, %s old: %lld policies, %lld destinations\n", number_of(snapshot, "generation"),
	       format_age(real_of(snapshot, "age_seconds"), age), number_of(snapshot, "policies"),
	       number_of(snapshot, "destinations"));
	printf("  %lld workers: %lld connections live of %lld made, %lld connects held; handshakes %lld full, %lld "
	       "resumed\n",
	       number_of(workers, "count"), number_of(workers, "connections_live"), number_of(workers, "connections"),
	       number_of(workers, "attempts_live"), number_of(workers, "handshakes_full"),
	       number_of(workers, "handshakes_resumed"));
}

static void print_gateways(const json_t *document)
{
	static const char *const headings[] = {"GATEWAY", "MODE", "STATE", "PORTS", "CGROUP", "NETNS", NULL};
	const json_t *gateways = json_object_get(document, "gateways");
	struct table *table;
	size_t index;
	json_t *gateway;

	heading("Gateways");
	if (json_array_size(gateways) == 0) {
		puts("  none is configured");
		return;
	}
	table = table_new(headings);
	json_array_foreach (gateways, index, gateway) {
		bool ready = strcmp(text_of(gateway, "state"), "ready") == 0;
		const json_t *kernel = kernel_gateway(json_object_get(document, "kernel"), text_of(gateway, "name"));

		table_cell(table, COLOUR_BOLD, "%s", text_of(gateway, "name"));
		table_cell(table, COLOUR_NONE, "%s", text_of(gateway, "mode"));
		table_cell(table, ready ? COLOUR_GOOD : COLOUR_BAD, "%s", text_of(gateway, "state"));
		table_cell(table, COLOUR_NONE, "%zu", json_array_size(json_object_get(gateway, "listeners")));
		table_cell(table, COLOUR_NONE, "%s", text_of(gateway, "cgroup"));
		table_cell(table, COLOUR_NONE, "%s", text_of(gateway, "netns"));
		if (text_of(gateway, "reason")[0])
			table_note(table, COLOUR_WARN, "%s", text_of(gateway, "reason"));
		if (kernel && !hooks_are_whole(kernel))
			table_note(table, COLOUR_BAD, "the kernel says: %lld of %lld hooks are attached",
			           number_of(kernel, "attached"), number_of(kernel, "hooks"));
	}
	table_print(table, INDENT);
}

static void condition(struct table *table, const json_t *condition, const char *good)
{
	if (truth_of(condition, "status"))
		table_cell(table, COLOUR_GOOD, "%s", good);
	else
		table_cell(table, COLOUR_BAD, "not %s: %s", good, text_of(condition, "reason"));
}

static void print_policies(const json_t *document)
{
	static const char *const headings[] = {"POLICY", "ACCEPTED", "REFERENCES", "DESTINATIONS", NULL};
	const json_t *policies = json_object_get(document, "policies");
	struct table *table;
	size_t index;
	json_t *policy;

	heading("Policies");
	if (json_array_size(policies) == 0) {
		puts("  none");
		return;
	}
	table = table_new(headings);
	json_array_foreach (policies, index, policy) {
		const json_t *accepted = json_object_get(policy, "accepted");
		const json_t *references = json_object_get(policy, "resolvedRefs");

		table_cell(table, COLOUR_BOLD, "%s/%s", text_of(policy, "namespace"), text_of(policy, "name"));
		condition(table, accepted, "accepted");
		condition(table, references, "resolved");
		table_cell(table, COLOUR_NONE, "%lld", number_of(policy, "destinations"));
		if (text_of(accepted, "message")[0])
			table_note(table, COLOUR_NONE, "%s", text_of(accepted, "message"));
		/* When it is true it only says that there is nothing to say. */
		if (!truth_of(references, "status") && text_of(references, "message")[0])
			table_note(table, COLOUR_NONE, "%s", text_of(references, "message"));
	}
	table_print(table, INDENT);
}

static void print_source_errors(const json_t *document)
{
	const json_t *errors = json_object_get(document, "source_errors");
	size_t index;
	json_t *error;

	if (json_array_size(errors) == 0)
		return;
	heading("Source errors (the last good state is kept)");
	json_array_foreach (errors, index, error) {
		printf("  ");
		terminal_printf(COLOUR_BAD, "%s: %s", text_of(error, "object"), text_of(error, "message"));
		putchar('\n');
	}
}

static void print_switches(const json_t *document)
{
	const json_t *switches = json_object_get(document, "switches");

	printf("  ");
	terminal_printf(COLOUR_NONE, "switches: ktls %s, lane %s, splice %s", text_of(switches, "ktls"),
	                text_of(switches, "lane"), text_of(switches, "splice"));
	putchar('\n');
}

static void print_counters(const json_t *document)
{
	const json_t *errors = json_object_get(document, "helper_errors");
	const char *name;
	json_t *value;
	size_t index;
	bool first = true;

	json_object_foreach (json_object_get(document, "counters"), name, value) {
		if (json_integer_value(value) == 0)
			continue;
		if (first)
			heading("Counters of the hooks (those that are not zero)");
		first = false;
		printf("  %12" JSON_INTEGER_FORMAT " ", json_integer_value(value));
		terminal_put(COLOUR_NONE, name);
		putchar('\n');
	}
	json_array_foreach (errors, index, value) {
		printf("  %12lld ", number_of(value, "count"));
		terminal_printf(COLOUR_WARN, "helper failed: %s %s", text_of(value, "site"), text_of(value, "errno"));
		putchar('\n');
	}
}

static void print_failures(const json_t *document)
{
	const char *name;
	json_t *value;
	bool first = true;

	json_object_foreach (json_object_get(document, "failures"), name, value) {
		if (json_integer_value(value) == 0)
			continue;
		if (first)
			heading("Refused and reset connections (posternctl failures shows the last ones)");
		first = false;
		printf("  %12" JSON_INTEGER_FORMAT " ", json_integer_value(value));
		terminal_put(COLOUR_BAD, name);
		terminal_printf(COLOUR_DIM, "  %s", remedy_of(name));
		putchar('\n');
	}
}

static void print_observed(const json_t *document)
{
	static const char *const headings[] = {"GATEWAY", "DESTINATION", "WOULD BE", "CONNECTS", NULL};
	const json_t *rows = json_object_get(document, "would");
	struct table *table;
	size_t index;
	json_t *row;

	if (json_array_size(rows) == 0)
		return;
	heading("Observed only (mode observe: nothing was done)");
	table = table_new(headings);
	json_array_foreach (rows, index, row) {
		table_cell(table, COLOUR_NONE, "%s", text_of(row, "gateway"));
		table_cell(table, COLOUR_NONE, "%s", text_of(row, "destination"));
		table_cell(table, COLOUR_WARN, "%s", text_of(row, "verdict"));
		table_cell(table, COLOUR_NONE, "%lld", number_of(row, "count"));
	}
	table_print(table, INDENT);
}

void print_status_page(const json_t *document)
{
	print_agent(document);
	print_switches(document);
	print_gateways(document);
	print_policies(document);
	print_source_errors(document);
	print_proof(json_object_get(document, "proof"));
	print_counters(document);
	print_failures(document);
	print_observed(document);
}

static void print_kernel_gateway(const json_t *gateway)
{
	const char *mode = text_of(gateway, "mode");

	printf("  ");
	terminal_put(COLOUR_BOLD, text_of(gateway, "name"));
	printf(": %lld of %lld hooks attached", number_of(gateway, "attached"), number_of(gateway, "hooks"));
	if (!truth_of(gateway, "intercepts"))
		terminal_put(COLOUR_BAD, "; connects are NOT intercepted");
	else if (strcmp(mode, "observe") == 0)
		terminal_put(COLOUR_WARN, "; mode observe: connects pass as the gateway makes them");
	else
		terminal_put(COLOUR_GOOD, "; covered and guarded connects are refused, others pass");
	if (!truth_of(gateway, "guarded"))
		terminal_put(COLOUR_BAD, "; the guard is off");
	putchar('\n');
}

void print_dead_page(const json_t *document, const struct options *options)
{
	const json_t *kernel = json_object_get(document, "kernel");
	const json_t *destinations = json_object_get(kernel, "destinations");
	const json_t *gateways = json_object_get(kernel, "gateways");
	size_t index;
	json_t *gateway;

	terminal_put(COLOUR_BAD, strcmp(text_of(document, "agent"), "dead") == 0 ? "posternd is not running"
	                                                                         : "posternd cannot be asked");
	terminal_printf(COLOUR_NONE, ": %s", text_of(document, "reason"));
	putchar('\n');
	heading("What the kernel does meanwhile");
	if (text_of(kernel, "error")[0]) {
		printf("  ");
		terminal_printf(COLOUR_BAD, "cannot be read whole: %s", text_of(kernel, "error"));
		putchar('\n');
	} else if (!truth_of(kernel, "pinned")) {
		printf("  ");
		terminal_printf(COLOUR_NONE, "nothing is pinned in %s: no gateway is intercepted", options->bpffs);
		putchar('\n');
		return;
	}
	json_array_foreach (gateways, index, gateway)
		print_kernel_gateway(gateway);
	if (json_array_size(gateways) == 0)
		puts("  no gateway has hooks");
	printf("  destinations in the kernel's map: %lld tls, %lld deny, %lld plain\n", number_of(destinations, "tls"),
	       number_of(destinations, "deny"), number_of(destinations, "plain"));
}
