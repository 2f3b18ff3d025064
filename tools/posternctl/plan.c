/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * posternctl plan: what would change if the gateways that are only observed were enforced. By the connects that they
 * have made: how many to each destination that a policy concerns, and what became of a handshake beside them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent_client.h"
#include "base/reason.h"
#include "posternctl.h"
#include "print.h"
#include "terminal.h"

const char plan_help[] = "For gateways with postern.dev/mode: observe. Exit status: 0 every connect that was seen "
                         "would work; 1 some would\n"
                         "be refused, or a destination was not tried yet.\n";

enum outcome {
	OUTCOME_WORKS,
	OUTCOME_UNTRIED,
	OUTCOME_HELD,
	OUTCOME_REFUSED,
	OUTCOMES,
};

struct plan {
	const json_t *would;
	const json_t *gateways;
	size_t observed; /* gateways */
	long long destinations[OUTCOMES];
	long long connects[OUTCOMES];
	long long ambiguous; /* destinations, of the refused ones */
};

static bool is_verdict(const json_t *row, const char *verdict)
{
	return strcmp(text_of(row, "verdict"), verdict) == 0;
}

static enum outcome outcome_of(const json_t *row)
{
	const json_t *shadow = json_object_get(row, "shadow");

	if (is_verdict(row, "deny") || text_of(row, "reason")[0])
		return OUTCOME_REFUSED;
	if (is_verdict(row, "hold"))
		return OUTCOME_HELD;
	if (!json_is_object(shadow))
		return OUTCOME_UNTRIED;
	return truth_of(shadow, "verified") ? OUTCOME_WORKS : OUTCOME_REFUSED;
}

static bool is_observed(const struct plan *plan, const char *name)
{
	const json_t *gateway;
	size_t index;

	json_array_foreach (plan->gateways, index, gateway) {
		if (strcmp(text_of(gateway, "name"), name) == 0)
			return strcmp(text_of(gateway, "mode"), "observe") == 0;
	}
	return false;
}

static bool is_planned(const struct plan *plan, const struct options *options, const json_t *row)
{
	const char *gateway = text_of(row, "gateway");

	return is_observed(plan, gateway) && (!options->gateway || strcmp(options->gateway, gateway) == 0);
}

static void count(struct plan *plan, const struct options *options)
{
	const json_t *row;
	size_t index;

	json_array_foreach (plan->gateways, index, row)
		plan->observed += strcmp(text_of(row, "mode"), "observe") == 0;
	json_array_foreach (plan->would, index, row) {
		enum outcome outcome = outcome_of(row);

		if (!is_planned(plan, options, row))
			continue;
		plan->destinations[outcome]++;
		plan->connects[outcome] += number_of(row, "count");
		plan->ambiguous += strcmp(text_of(row, "reason"), reason_name(REASON_AMBIGUOUS_ENDPOINT)) == 0;
	}
}

static void add_outcome(struct table *table, const json_t *row)
{
	const json_t *shadow = json_object_get(row, "shadow");
	const char *reason = text_of(row, "reason");
	const char *remedy = remedy_of(reason);

	switch (outcome_of(row)) {
	case OUTCOME_WORKS:
		table_cell(table, COLOUR_GOOD, "TLS, verified as %s", text_of(shadow, "detail"));
		return;
	case OUTCOME_HELD:
		table_cell(table, COLOUR_WARN, "held until it is known; plain if nothing covers it");
		return;
	case OUTCOME_REFUSED:
		break;
	case OUTCOME_UNTRIED:
	case OUTCOMES:
		table_cell(table, COLOUR_WARN, "TLS, not tried yet");
		return;
	}
	if (!reason[0] && json_is_object(shadow)) {
		reason = text_of(shadow, "reason");
		remedy = text_of(shadow, "remedy");
	}
	table_cell(table, COLOUR_BAD, "refused: %s", reason[0] ? reason : "the policy denied it when it was dialed");
	if (json_is_object(shadow) && text_of(shadow, "detail")[0] && !truth_of(shadow, "verified"))
		table_note(table, COLOUR_NONE, "%s", text_of(shadow, "detail"));
	if (remedy[0])
		table_note(table, COLOUR_DIM, "remedy: %s", remedy);
}

static void print_rows(const struct plan *plan, const struct options *options)
{
	static const char *const headings[] = {"GATEWAY", "DESTINATION", "POLICY", "CONNECTS", "IF ENFORCED", NULL};
	struct table *table = table_new(headings);
	const json_t *row;
	size_t index;

	json_array_foreach (plan->would, index, row) {
		if (!is_planned(plan, options, row))
			continue;
		table_cell(table, COLOUR_NONE, "%s", text_of(row, "gateway"));
		table_cell(table, COLOUR_NONE, "%s", text_of(row, "destination"));
		table_cell(table, COLOUR_NONE, "%s", text_of(row, "policy"));
		table_cell(table, COLOUR_NONE, "%lld", number_of(row, "count"));
		add_outcome(table, row);
	}
	table_print(table, 0);
}

static void print_page(const struct plan *plan, const struct options *options)
{
	long long all = 0;

	for (enum outcome outcome = 0; outcome < OUTCOMES; outcome++)
		all += plan->destinations[outcome];
	if (!plan->observed) {
		puts("no gateway is observed: annotation postern.dev/mode: observe of a Pod or its Gateways, or "
		     "mode=observe of a "
		     "configured one");
		return;
	}
	if (!all) {
		printf("%zu observed, and nothing that a policy concerns was dialed: enforcing would change nothing "
		       "that was "
		       "seen\n",
		       plan->observed);
		return;
	}
	print_rows(plan, options);
	printf("\n%lld destinations would be TLS and verified, %lld refused (%lld of them ambiguous), %lld held, %lld "
	       "not tried "
	       "yet\n",
	       plan->destinations[OUTCOME_WORKS], plan->destinations[OUTCOME_REFUSED], plan->ambiguous,
	       plan->destinations[OUTCOME_HELD], plan->destinations[OUTCOME_UNTRIED]);
}

static json_t *plan_document(const struct plan *plan, const struct options *options)
{
	static const char *const names[OUTCOMES] = {"works", "untried", "held", "refused"};
	json_t *rows = json_array(), *counts = json_object(), *row;
	size_t index;

	json_array_foreach (plan->would, index, row) {
		json_t *copy = is_planned(plan, options, row) ? json_deep_copy(row) : NULL;

		if (!copy)
			continue;
		(void)json_object_set_new(copy, "outcome", json_string(names[outcome_of(row)]));
		(void)json_array_append_new(rows, copy);
	}
	for (enum outcome outcome = 0; outcome < OUTCOMES; outcome++)
		(void)json_object_set_new(counts, names[outcome],
		                          json_pack("{s:I, s:I}", "destinations",
		                                    (json_int_t)plan->destinations[outcome], "connects",
		                                    (json_int_t)plan->connects[outcome]));
	return json_pack("{s:I, s:I, s:o, s:o}", "observed_gateways", (json_int_t)plan->observed, "ambiguous",
	                 (json_int_t)plan->ambiguous, "outcomes", counts, "destinations", rows);
}

int command_plan(const struct options *options)
{
	struct plan plan = {0};
	json_t *status = NULL;
	int result = ask_or_complain(options, "status", JSON_OBJECT, &status);

	if (result)
		return result;
	plan.would = json_object_get(status, "would");
	plan.gateways = json_object_get(status, "gateways");
	count(&plan, options);
	if (options->json)
		(void)print_json(options, plan_document(&plan, options));
	else
		print_page(&plan, options);
	json_decref(status);
	return plan.destinations[OUTCOME_REFUSED] || plan.destinations[OUTCOME_UNTRIED] ? EXIT_WRONG : EXIT_FINE;
}
