/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * status.h: the JSON documents that the status socket answers with: `status`, `connections`, `failures`. posternctl
 * prints them for people; scripts read them as they are, so a field that is here stays.
 *
 * Control thread: it owns gateways and sources; workers are asked through their inbox, counters through the maps.
 * Every function returns a new reference, or NULL when memory is out.
 */
#ifndef POSTERN_OBSERVE_STATUS_H
#define POSTERN_OBSERVE_STATUS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config;
struct connection_view;
struct failure;
struct failures;
struct files_source;
struct gateway;
struct hooks;
struct policy_status;
struct proof;
struct snapshot_holder;
struct worker;

/* Where the documents come from. Pointers are borrowed; all but config and failures may be NULL (not there yet). */
struct status_sources {
	const struct config *config;
	uint64_t started_ns; /* CLOCK_MONOTONIC */
	bool ready;
	const char *reason; /* why not ready; "" or NULL if it is */
	struct hooks *hooks;
	const struct gateway *const *gateways;
	size_t gateway_count;
	const struct proof *proof;
	struct snapshot_holder *snapshots;
	struct failures *failures;
	const struct files_source *files;
	struct worker *const *workers;
	size_t worker_count;
};

json_t *status_document(const struct status_sources *sources);
/* Waits for the workers, at most a second each; a worker that does not answer is left out and logged. */
json_t *connections_document(const struct status_sources *sources);
json_t *failures_document(const struct status_sources *sources);

/* Parts of the above. */
json_t *status_gateway(const struct gateway *gateway);
json_t *status_policy(const struct policy_status *policy);
json_t *status_proof(const struct proof *proof);
json_t *connection_row(const struct connection_view *view);
json_t *failure_row(const struct failure *failure);

/* "tls", "plain", "deny", "hold", "none" */
const char *verdict_name(uint32_t verdict);

#endif
