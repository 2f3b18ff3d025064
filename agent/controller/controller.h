/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * controller.h: postern-controller, put together. One thread, one loop.
 *
 *   source (kubernetes.h) --changed, at most every COMPILE_INTERVAL_NS--> compile --> wants --> status_writer -->
 * Events fleet (the agents' Pods) --+ the source's Pods ---------+--> findings --> Events lease --> status_writer,
 * events: only who leads writes; fleet --> agent_reader --> enrolments --> wants (readiness gate, if it is on)
 *
 * Both replicas do all of this but writing, so that the other one can go on at once.
 */
#ifndef POSTERN_CONTROLLER_CONTROLLER_H
#define POSTERN_CONTROLLER_CONTROLLER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "controller/events.h"
#include "controller/fleet.h"
#include "controller/findings.h"
#include "controller/lease.h"
#include "controller/options.h"
#include "controller/status_writer.h"
#include "policy/compile.h"
#include "policy/snapshot.h"
#include "source/source.h"

struct kubernetes_credentials;
struct report;
struct agent_reader;
struct enrolments;

struct controller {
	const struct controller_options *options;
	char identity[128];
	const char *namespace_;
	struct loop *loop;
	struct loop_source signals;
	int signal_fd;
	struct kubernetes_credentials *credentials;
	struct kubernetes_client *client;
	struct source *source;
	struct system_ca *system_ca;
	struct settings_registry *registry;
	struct compiler *compiler;
	struct snapshot *snapshot; /* NULL before the first */
	struct lease *lease;
	struct status_writer *writer;
	struct events *events;
	struct fleet *fleet;
	struct pod_findings *findings;
	struct agent_reader *reader; /* NULL: no readiness gate is asked for; so the next */
	struct enrolments *enrolments;
	struct loop_timer enrolments_timer;
	json_t *untold; /* refused policies that no status tells of: what was said of each */
	struct loop_timer compile_timer, findings_timer, system_ca_timer;
	uint64_t compiled_ns;
	bool ending;
	struct report *report; /* HTTP; NULL: none */
};

/* Runs until SIGTERM or SIGINT. 0, or -errno with a line in the log. */
int controller_run(const struct controller_options *options);

/* controller_sync.c: compile, and say what is wanted. */
void controller_sync(struct controller *controller);
/* What is wrong with pods, now. */
void controller_look_at_pods(struct controller *controller);
/* Who is to be asked whether its Pods are enrolled; only by who leads. */
void controller_ask_agents(struct controller *controller);
/* For writer and events: an Event on an object of the API. */
void controller_tell_policy(struct controller *controller, const json_t *policy, const char *reason, const char *note);
void controller_on_written(void *context, enum written_kind kind, const json_t *before, const json_t *after);

#endif
