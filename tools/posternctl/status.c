/* SPDX-License-Identifier: GPL-2.0-only */
/* Asks agent and kernel, decides whether all is well, and has status_page.c print it. */
#include "status.h"

#include <stdio.h>
#include <string.h>

#include "agent_client.h"
#include "kernel_truth.h"
#include "observe/json.h"
#include "posternctl.h"
#include "print.h"
#include "terminal.h"

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
	       number_of(hooks, "attached") == number_of(hooks, "hooks");
}

/* Ready by the agent's word and by the kernel's. The kernel is not asked where nothing is pinned: a wrong --bpffs. */
static bool gateways_are_ready(const json_t *document)
{
	const json_t *kernel = json_object_get(document, "kernel");
	size_t index;
	json_t *gateway;

	json_array_foreach (json_object_get(document, "gateways"), index, gateway) {
		const json_t *hooks = kernel_gateway(kernel, text_of(gateway, "name"));

		if (strcmp(text_of(gateway, "state"), "ready") != 0 || (hooks && !hooks_are_whole(hooks)))
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

static bool all_is_well(const json_t *document)
{
	return truth_of(document, "ready") && gateways_are_ready(document) && policies_are_accepted(document) &&
	       json_array_size(json_object_get(document, "source_errors")) == 0;
}

/* The agent's document, or {"ready": false, "agent": "dead", ...}; both with the kernel's own word beside it. */
int command_status(const struct options *options)
{
	char reason[256] = "";
	json_t *document = NULL;
	enum agent_answer agent = agent_ask(options->run_dir, "status", JSON_OBJECT, &document, reason, sizeof(reason));
	json_t *kernel = kernel_truth(options->bpffs);
	int status;

	if (agent != AGENT_ANSWERED)
		document = json_pack("{s:b, s:o}", "ready", 0, "reason", json_text(reason));
	if (!kernel || !document ||
	    json_object_set_new(document, "agent",
	                        json_string(agent == AGENT_ANSWERED ? "running"
	                                    : agent == AGENT_DEAD   ? "dead"
	                                                            : "unknown")) == -1 ||
	    json_object_set_new(document, "kernel", kernel) == -1) {
		fprintf(stderr, "posternctl: out of memory\n");
		json_decref(document);
		return EXIT_WRONG;
	}
	status = agent == AGENT_ANSWERED && all_is_well(document) ? EXIT_FINE : EXIT_WRONG;
	if (options->json)
		return print_json(document) == EXIT_FINE ? status : EXIT_WRONG;
	if (agent == AGENT_ANSWERED)
		print_status_page(document);
	else
		print_dead_page(document, options);
	json_decref(document);
	return status;
}
