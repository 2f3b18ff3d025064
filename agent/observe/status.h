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
struct gateway;
struct gateway_status;
struct hooks;
struct memory_budget;
struct policy_status;
struct proof;
struct snapshot;
struct snapshot_holder;
struct shadow;
struct source;
struct worker;

/* The bundle that wellKnownCACertificates: System stands for. */
struct status_system_ca {
	const char *file; /* NULL or "": none is configured */
	bool in_force;
	size_t left_out;     /* blocks of it that cannot be used */
	const char *problem; /* why the file is not what is in force; NULL or "" if it is */
};

/* What no status of a policy says: of a Pod or a Gateway. */
struct status_finding {
	const char *reason; /* "StartRace" */
	const char *object; /* "Pod shop/web-0" */
	const char *message;
};

/* Where the documents come from. Pointers are borrowed; all but config and failures may be NULL (not there yet). */
struct status_sources {
	const struct config *config;
	uint64_t started_ns; /* CLOCK_MONOTONIC */
	bool ready;
	const char *reason; /* why not ready; "" or NULL if it is */
	struct hooks *hooks;
	const struct gateway *const *gateways;
	size_t gateway_count;
	const struct status_finding *findings;
	size_t finding_count;
	const struct proof *proof;
	struct snapshot_holder *snapshots;
	struct shadow *shadow; /* NULL: nothing was tried */
	struct failures *failures;
	const struct source *source;
	struct status_system_ca system_ca;
	const struct memory_budget *memory_budget; /* NULL: none */
	const char *memory_source;                 /* where it comes from */
	uint64_t descriptor_limit;
	uint64_t descriptors_needed;
	uint32_t max_connections;         /* in force */
	size_t destinations_without_room; /* covered keys that the full map does not hold */
	struct worker *const *workers;
	size_t worker_count;
};

json_t *status_document(const struct status_sources *sources);
/* Waits for the workers, at most a second. {"error"} if one does not answer: the kernel's list is whole. */
json_t *connections_document(const struct status_sources *sources);
json_t *failures_document(const struct status_sources *sources);

/* Parts of the above. */
json_t *status_gateway(const struct gateway *gateway, const struct snapshot *snapshot); /* snapshot may be NULL */
json_t *status_gateway_object(const struct gateway_status *gateway);
json_t *status_programs(struct hooks *hooks);
json_t *status_expected(const struct status_sources *sources, const struct snapshot *snapshot); /* it may be NULL */
json_t *status_system_ca(const struct status_system_ca *ca);
json_t *status_policy(const struct policy_status *policy);
json_t *status_proof(const struct proof *proof);
json_t *connection_row(const struct connection_view *view);
json_t *failure_row(const struct failure *failure);

/* "tls", "plain", "deny", "hold", "none" */
const char *verdict_name(uint32_t verdict);

#endif
