/* SPDX-License-Identifier: GPL-2.0-only */
/* Asks kernel and agent, decides whether all is well, and has status_page.c print it. */
#include "status.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "agent_client.h"
#include "disagree.h"
#include "kernel_view.h"
#include "observe/json.h"
#include "posternctl.h"
#include "print.h"

/* Kernel and agent are not read at one moment: what changed between the two is the same a little later. */
#define LOOK_AGAIN_NS 300000000

const json_t *kernel_gateway(const json_t *kernel, const char *name)
{
	size_t index;
	json_t *gateway;

	json_array_foreach (json_object_get(kernel, "gateways"), index, gateway) {
		if (strcmp(text_of(gateway, "name"), name) == 0)
			return gateway;
	}
	return NULL;
}

bool hooks_are_whole(const json_t *hooks)
{
	return truth_of(hooks, "intercepts") && truth_of(hooks, "guarded") &&
	       json_array_size(json_object_get(hooks, "missing")) == 0 &&
	       json_array_size(json_object_get(hooks, "foreign")) == 0;
}

static bool gateways_are_ready(const json_t *document)
{
	size_t index;
	json_t *gateway;

	json_array_foreach (json_object_get(document, "gateways"), index, gateway) {
		if (strcmp(text_of(gateway, "state"), "ready") != 0)
			return false;
	}
	return true;
}

static bool policies_are_accepted(const json_t *document)
{
	size_t index;
	json_t *policy;

	json_array_foreach (json_object_get(document, "policies"), index, policy) {
		if (!truth_of(json_object_get(policy, "accepted"), "status") ||
		    !truth_of(json_object_get(policy, "resolvedRefs"), "status"))
			return false;
	}
	return true;
}

static bool watches_go_on(const json_t *document)
{
	size_t index;
	json_t *watch;

	json_array_foreach (json_object_get(document, "source_watches"), index, watch)
		if (json_is_number(json_object_get(watch, "failing_seconds")))
			return false;
	return true;
}

static bool all_is_well(const json_t *document)
{
	return truth_of(document, "ready") && gateways_are_ready(document) && policies_are_accepted(document) &&
	       json_array_size(json_object_get(document, "source_errors")) == 0 && watches_go_on(document) &&
	       !text_of(json_object_get(document, "kernel"), "error")[0];
}

static const char *agent_word(enum agent_answer agent)
{
	return agent == AGENT_ANSWERED ? "running"
	       : agent == AGENT_DEAD   ? "dead"
	       : agent == AGENT_HUNG   ? "hung"
	                               : "unknown";
}

/* The agent's document, or {"ready": false, "reason"}; with "agent", "kernel" and "disagreements". NULL: no memory. */
static json_t *look(const struct options *options, enum agent_answer *agent)
{
	char reason[256] = "";
	json_t *document = NULL;
	json_t *kernel = kernel_document(options);

	*agent = agent_ask(options->run_dir, "status", JSON_OBJECT, &document, reason, sizeof(reason));
	if (*agent != AGENT_ANSWERED)
		document = json_pack("{s:b, s:o}", "ready", 0, "reason", json_text(reason));
	json_set(&document, "agent", json_string(agent_word(*agent)));
	json_set(&document, "disagreements",
	         *agent == AGENT_ANSWERED ? disagreements(options, document, kernel) : json_array());
	json_set(&document, "kernel", kernel);
	return document;
}

json_t *status_look_twice(const struct options *options, enum agent_answer *agent)
{
	static const struct timespec pause = {.tv_nsec = LOOK_AGAIN_NS};
	json_t *document = look(options, agent);

	if (json_array_size(json_object_get(document, "disagreements")) == 0)
		return document;
	(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	json_decref(document);
	return look(options, agent);
}

int command_status(const struct options *options)
{
	enum agent_answer agent;
	json_t *document = status_look_twice(options, &agent);
	int status = EXIT_WRONG;

	if (!document) {
		fprintf(stderr, "posternctl: out of memory\n");
		return EXIT_WRONG;
	}
	if (agent != AGENT_ANSWERED)
		status = EXIT_DEAD;
	else if (json_array_size(json_object_get(document, "disagreements")))
		status = EXIT_DISAGREE;
	else if (all_is_well(document))
		status = EXIT_FINE;
	if (options->json)
		return print_json(options, document) == EXIT_FINE ? status : EXIT_WRONG;
	if (agent == AGENT_ANSWERED)
		print_status_page(document);
	else
		print_dead_page(document, options);
	json_decref(document);
	return status;
}
