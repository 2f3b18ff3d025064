/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * metric_agent.h: the agent's metrics, from where each is known. Control thread: it owns gateways and sources; workers
 * are not asked, what they count is read as it is.
 */
#ifndef POSTERN_OBSERVE_METRIC_AGENT_H
#define POSTERN_OBSERVE_METRIC_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "observe/metric_snapshot.h"

struct failures;
struct gateway;
struct hooks;
struct memory_budget;
struct metric_text;
struct proof;
struct snapshot_holder;
struct source_watch;
struct traffic;
struct trace;
struct worker;

struct metric_map {
	const char *name;
	uint64_t entries;
	uint64_t capacity;
};

struct metric_sources { /* pointers are borrowed; all but figures may be NULL */
	double started; /* Unix time */
	bool ready;
	struct hooks *hooks;
	const struct gateway *const *gateways;
	size_t gateway_count;
	const struct proof *proof;
	struct snapshot_holder *snapshots;
	struct metric_snapshot *figures;
	struct failures *failures;
	struct traffic *traffic;
	const struct memory_budget *memory_budget;
	struct worker *const *workers;
	size_t worker_count;
	const struct metric_map *maps;
	size_t map_count;
	uint64_t map_overflow;
	size_t source_errors;
	const struct source_watch *watches;
	size_t watch_count;
	uint64_t probes_passed;
	uint64_t probes_failed;
	uint64_t ulp_checks;
	uint64_t ulp_mismatches;
	uint64_t tls_decrypt_errors;
	struct trace *trace;
};

/* Adds every family that the agent has. */
void metrics_of_agent(struct metric_text *text, const struct metric_sources *sources);
/* What agent and controller have in common: build, start, log. started: Unix time. At the end of a text. */
void metrics_of_both(struct metric_text *text, double started, uint64_t folded_since_start);

#endif
