/* SPDX-License-Identifier: GPL-2.0-only */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent_client.h"
#include "disagree.h"
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

/* Only what somebody must do something about. */
static void print_limits(const json_t *limits)
{
	if (truth_of(limits, "memory_full")) {
		terminal_printf(COLOUR_BAD, "  memory: %lld MB of a budget of %lld MB (%s): new connects are refused",
		                number_of(limits, "memory_used") >> 20, number_of(limits, "memory_budget") >> 20,
		                text_of(limits, "memory_source"));
		putchar('\n');
	}
	if (number_of(limits, "descriptors") < number_of(limits, "descriptors_needed")) {
		terminal_printf(COLOUR_WARN,
		                "  descriptors: %lld of the %lld that maxConnections needs: at most %lld connections",
		                number_of(limits, "descriptors"), number_of(limits, "descriptors_needed"),
		                number_of(limits, "max_connections"));
		putchar('\n');
	}
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
	print_limits(json_object_get(document, "limits"));
	if (number_of(workers, "draining"))
		printf("  %lld connections show a client certificate that was replaced: they end within ten minutes\n",
		       number_of(workers, "draining"));
}

/* What it shows to backends, where that is not what somebody may expect. */
static void note_certificate(struct table *table, const json_t *gateway)
{
	const char *state = text_of(json_object_get(gateway, "client_certificate"), "state");

	if (strcmp(state, "unusable") == 0)
		table_note(table, COLOUR_BAD,
		           "client certificate: one of its Gateways names one that cannot be used: "
		           "covered connections are refused");
	else if (strcmp(state, "disagreement") == 0)
		table_note(table, COLOUR_WARN,
		           "client certificate: none is shown, its Gateways do not name the same one");
	else if (strcmp(state, "shown") == 0)
		table_note(table, COLOUR_NONE, "client certificate: shown to backends that ask for one");
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
		note_certificate(table, gateway);
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

static bool says_nothing(const json_t *accepted)
{
	return truth_of(accepted, "status") && strcmp(text_of(accepted, "message"), "the policy is in force") == 0;
}

/* Dozens of Gateways are a number. */
static void note_ancestors(struct table *table, const json_t *policy)
{
	const json_t *ancestors = json_object_get(policy, "ancestors");
	const json_t *first = json_array_get(ancestors, 0);
	size_t count = json_array_size(ancestors);

	if (count == 1 && text_of(first, "name")[0])
		table_note(table, COLOUR_DIM, "for Gateway %s/%s", text_of(first, "namespace"), text_of(first, "name"));
	else if (count > 1)
		table_note(table, COLOUR_DIM, "for %zu Gateways, of them %s/%s", count, text_of(first, "namespace"),
		           text_of(first, "name"));
	if (number_of(policy, "ancestors_left_out"))
		table_note(table, COLOUR_WARN, "%lld Gateways more have no room in its status",
		           number_of(policy, "ancestors_left_out"));
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
		/* When they are true they say that there is nothing to say, as a rule. */
		if (text_of(accepted, "message")[0] && !says_nothing(accepted))
			table_note(table, COLOUR_NONE, "%s", text_of(accepted, "message"));
		if (!truth_of(references, "status") && text_of(references, "message")[0])
			table_note(table, COLOUR_NONE, "%s", text_of(references, "message"));
		note_ancestors(table, policy);
	}
	table_print(table, INDENT);
}

/* Gateway objects are as they should be, as a rule: only the others are worth a line. */
static void print_gateway_objects(const json_t *document)
{
	size_t index;
	json_t *gateway;
	bool first = true;

	json_array_foreach (json_object_get(document, "gateway_objects"), index, gateway) {
		const json_t *references = json_object_get(gateway, "resolvedRefs");

		if (strcmp(text_of(json_object_get(gateway, "client_certificate"), "state"), "unusable") != 0)
			continue;
		if (first)
			heading("Gateways whose client certificate cannot be used");
		first = false;
		printf("  ");
		terminal_printf(COLOUR_BAD, "%s/%s: %s: %s", text_of(gateway, "namespace"), text_of(gateway, "name"),
		                text_of(references, "reason"), text_of(references, "message"));
		putchar('\n');
	}
}

static void print_system_ca(const json_t *document)
{
	const json_t *ca = json_object_get(document, "system_ca");

	if (!text_of(ca, "problem")[0])
		return;
	printf("  ");
	terminal_printf(truth_of(ca, "in_force") ? COLOUR_WARN : COLOUR_BAD, "system CA %s: %s: %s",
	                text_of(ca, "file"), text_of(ca, "problem"),
	                truth_of(ca, "in_force") ? "the last good one counts"
	                                         : "policies with wellKnownCACertificates are refused");
	putchar('\n');
}

/* Watches of an API server: those that fail are worth a line. */
static void print_source_watches(const json_t *document)
{
	size_t index;
	json_t *watch;
	bool first = true;

	json_array_foreach (json_object_get(document, "source_watches"), index, watch) {
		char since[AMOUNT_TEXT_MAX];

		if (!json_is_number(json_object_get(watch, "failing_seconds")))
			continue;
		if (first)
			heading("Watches that fail (the last state counts)");
		first = false;
		printf("  ");
		terminal_printf(COLOUR_BAD, "%s: failing for %s: %s", text_of(watch, "resource"),
		                format_age(real_of(watch, "failing_seconds"), since), text_of(watch, "error"));
		putchar('\n');
	}
	if (!first)
		puts("  remedy: is the API server reachable from this node, and may the agent's ServiceAccount list "
		     "and "
		     "watch?");
}

static void print_findings(const json_t *document)
{
	const json_t *findings = json_object_get(document, "findings");
	size_t index;
	json_t *finding;

	if (json_array_size(findings) == 0)
		return;
	heading("Findings");
	json_array_foreach (findings, index, finding) {
		printf("  ");
		terminal_printf(COLOUR_WARN, "%s: %s: %s", text_of(finding, "object"), text_of(finding, "reason"),
		                text_of(finding, "message"));
		putchar('\n');
	}
}

static void print_source_notes(const json_t *document)
{
	const json_t *notes = json_object_get(document, "source_notes");
	size_t index;
	json_t *note;

	if (json_array_size(notes) == 0)
		return;
	heading("Source notes");
	json_array_foreach (notes, index, note) {
		printf("  ");
		terminal_printf(COLOUR_DIM, "%s", json_string_value(note));
		putchar('\n');
	}
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

static void print_reasons(const json_t *document, const char *title, bool of_mode)
{
	const char *name;
	json_t *value;
	bool first = true;

	json_object_foreach (json_object_get(document, "failures"), name, value) {
		if (json_integer_value(value) == 0 || is_mode_reason(name) != of_mode)
			continue;
		if (first)
			heading(title);
		first = false;
		printf("  %12" JSON_INTEGER_FORMAT " ", json_integer_value(value));
		terminal_put(of_mode ? COLOUR_WARN : COLOUR_BAD, name);
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

/* By whom the kernel was read, and what is in its way. */
static void print_kernel(const json_t *kernel)
{
	const json_t *destinations = json_object_get(kernel, "destinations");

	printf("  ");
	if (text_of(kernel, "error")[0])
		terminal_printf(COLOUR_BAD, "the kernel cannot be read whole: %s", text_of(kernel, "error"));
	else if (truth_of(kernel, "pinned"))
		terminal_printf(COLOUR_NONE,
		                "the kernel, by %s: %zu %s with hooks, %lld TLS, %lld refused and %lld plain "
		                "destinations, %lld guarded ports",
		                text_of(kernel, "reader"),
		                COUNTED(json_array_size(json_object_get(kernel, "gateways")), "gateway", "gateways"),
		                number_of(destinations, "tls"), number_of(destinations, "deny"),
		                number_of(destinations, "plain"), number_of(kernel, "guarded_ports"));
	else
		terminal_put(COLOUR_BAD, "the kernel: nothing is pinned");
	putchar('\n');
}

void print_status_page(const json_t *document)
{
	print_disagreements(json_object_get(document, "disagreements"));
	print_agent(document);
	print_kernel(json_object_get(document, "kernel"));
	print_switches(document);
	print_system_ca(document);
	print_what_is_wrong(document);
	print_gateways(document);
	print_gateway_objects(document);
	print_policies(document);
	print_source_errors(document);
	print_source_watches(document);
	print_findings(document);
	print_source_notes(document);
	putchar('\n');
	print_proof(json_object_get(document, "proof"));
	print_counters(document);
	print_reasons(document, "Connections not in kernel TLS, or not yet: they live", true);
	print_reasons(document, "Refused and reset connections (posternctl failures shows the last ones)", false);
	print_observed(document);
}

/* What becomes of its covered connects without an agent that answers. */
static const char *fate_of_covered(const char *agent)
{
	if (strcmp(agent, "dead") == 0)
		return "; covered and guarded connects are refused, others pass";
	if (strcmp(agent, "hung") == 0)
		return "; covered and guarded connects wait if its workers hang, too; others pass";
	return "; covered and guarded connects go to the agent, others pass";
}

static void print_kernel_gateway(const json_t *gateway, const char *agent)
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
		terminal_put(strcmp(agent, "dead") == 0 ? COLOUR_GOOD : COLOUR_WARN, fate_of_covered(agent));
	if (!truth_of(gateway, "guarded"))
		terminal_put(COLOUR_BAD, "; the guard is off");
	putchar('\n');
}

void print_dead_page(const json_t *document, const struct options *options)
{
	const json_t *kernel = json_object_get(document, "kernel");
	const json_t *destinations = json_object_get(kernel, "destinations");
	const json_t *gateways = json_object_get(kernel, "gateways");
	const char *agent = text_of(document, "agent");
	bool dead = strcmp(agent, "dead") == 0;
	size_t index;
	json_t *gateway;

	terminal_put(COLOUR_BAD, dead ? "posternd is not running" : "posternd cannot be asked");
	terminal_printf(COLOUR_NONE, ": %s", text_of(document, "reason"));
	putchar('\n');
	if (dead || strcmp(agent, "hung") == 0) {
		terminal_put(COLOUR_DIM, dead ? "remedy: " REMEDY_DEAD : "remedy: " REMEDY_HUNG);
		putchar('\n');
	}
	heading("What the kernel does meanwhile");
	printf("  read by %s\n", text_of(kernel, "reader"));
	if (text_of(kernel, "error")[0]) {
		printf("  ");
		terminal_printf(COLOUR_BAD, "cannot be read whole: %s", text_of(kernel, "error"));
		putchar('\n');
		if (!truth_of(kernel, "pinned"))
			return; /* nothing of it was read: no number is true */
	} else if (!truth_of(kernel, "pinned")) {
		printf("  ");
		terminal_printf(COLOUR_NONE, "nothing is pinned in %s: no gateway is intercepted", options->bpffs);
		putchar('\n');
		return;
	}
	json_array_foreach (gateways, index, gateway)
		print_kernel_gateway(gateway, agent);
	if (json_array_size(gateways) == 0)
		puts("  no gateway has hooks");
	printf("  destinations in the kernel's map: %lld tls, %lld deny, %lld plain\n", number_of(destinations, "tls"),
	       number_of(destinations, "deny"), number_of(destinations, "plain"));
}
