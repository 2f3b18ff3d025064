/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * enrolments.h: which gateway Pods are enrolled, by the word of their nodes' agents: for the readiness gate
 * postern.dev/enrolled. Only nodes with a Pod that has this gate are asked about, every ENROLMENTS_SOON_NS while one of
 * them is not enrolled, else every ENROLMENTS_LATER_NS.
 *
 *   an agent of the node says that it is                     YES
 *   one says that it is not, or does not know it             NO
 *   the node has no Ready agent for longer than the grace    NO: connects that a policy covers are refused
 *   a Ready agent does not answer us                         as it was: the kubelet reaches it, so the fault may be
 *                                                            ours, and one fault must not take every gateway away
 *   what it named as a gateway is none                       NO
 *
 * Two agents of a node (a rollout): one that says yes is enough; one that was replaced says nothing. One thread. Asks
 * by what it is given, and looks at no clock of its own.
 */
#ifndef POSTERN_CONTROLLER_ENROLMENTS_H
#define POSTERN_CONTROLLER_ENROLMENTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENROLMENTS_SOON_NS  2000000000ull
#define ENROLMENTS_LATER_NS 5000000000ull
#define ENROLMENTS_AGENTS   8 /* Ready ones of one node that are asked */

struct enrolments;
struct object;
struct object_store;
struct pod_gateways;

struct fleet_agent {
	const char *name, *address; /* of its Pod */
};

struct enrolments_options {
	uint64_t grace_ns;
	/* The Ready agents of a node, borrowed until the fleet changes. Returns how many were put there. */
	size_t (*agents_of)(void *context, const char *node, struct fleet_agent *at, size_t max);
	/* The answer comes by enrolments_answer(). 0 or negative errno: asked again later. */
	int (*ask)(void *context, const char *agent, const char *address);
	/* Somebody says something else than before: judge anew. */
	void (*on_change)(void *context);
	void *context;
};

struct enrolments *enrolments_new(const struct enrolments_options *options); /* NULL: no memory */
void enrolments_free(struct enrolments *enrolments);                         /* NULL-safe */

/* Nothing was said yet: who begins to lead has old answers, or none. */
void enrolments_forget(struct enrolments *enrolments);

/* Ask who is due. agents_known: agents_of() may be believed. Returns in how many ns to call again; 0: no need to. */
uint64_t enrolments_update(struct enrolments *enrolments, const struct object_store *store,
                           const struct pod_gateways *pods, bool agents_known, uint64_t now_ns);
/* answer: agent.h of control has the form; NULL: error says why there is none. */
void enrolments_answer(struct enrolments *enrolments, const char *agent, const json_t *answer, const char *error);

enum enrolment_word {
	ENROLMENT_UNKNOWN, /* leave the condition as it is */
	ENROLMENT_YES,
	ENROLMENT_NO,
};

struct enrolment_verdict {
	enum enrolment_word word;
	const char *reason;
	char message[512];
};

/* Of a Pod with the gate, after an update. */
void enrolments_judge(const struct enrolments *enrolments, const struct object *pod, const struct pod_gateways *pods,
                      struct enrolment_verdict *verdict);

/* For /status: [{"agent":, "node":, "error":}...], those that did not answer the last time; NULL: no memory. */
json_t *enrolments_silent(const struct enrolments *enrolments);

#endif
