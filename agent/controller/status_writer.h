/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * status_writer.h: brings the status of objects to what it should be: GET, merge (policy_status.h, conditions.h), PUT
 * to /status with the resourceVersion that was read; a conflict begins anew. Nothing is put that is there already. Of
 * Pods and Nodes, which others write all the time, one condition (pod_readiness.h) and the taints (startup_taint.h) are
 * patched instead, with that resourceVersion, too. One thread: the loop's.
 *
 *   IDLE --wanted, or the object, is another one--> QUEUED --a slot and a token--> READING --differs--> WRITING --+
 *    ^                                                ^                               |                          |
 *    +------------------------ done, gone, stale -----|-------------------------------+--------------------------+
 *                                                     +--- WAITING (back-off) <--- conflict, failure, refusal ---+
 *
 * Many changes of one object are one write: what counts is what is wanted when its turn comes. At most
 * STATUS_WRITER_PARALLEL requests at once, and STATUS_WRITER_RATE objects a second. Who does not lead sends nothing:
 * that is asked before every request, and what is under way is cancelled.
 *
 *   409  read and merged again, after 100 ms, 200 ms ...
 *   404  gone; forgotten by the next round of wants
 *   403  counted; again after a minute (RBAC may be mended), or when something else is wanted
 *   422  counted; again after five minutes, or when something else is wanted
 *   429, 5xx, no answer: again after 1 s, 2 s ... 60 s, or when the server says (Retry-After)
 */
#ifndef POSTERN_CONTROLLER_STATUS_WRITER_H
#define POSTERN_CONTROLLER_STATUS_WRITER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kubernetes/client.h"

#define STATUS_WRITER_PARALLEL 8
#define STATUS_WRITER_RATE     100

struct loop;
struct status_writer;

enum written_kind {
	WRITTEN_POLICY,
	WRITTEN_GATEWAY,
	WRITTEN_GATEWAY_CLASS,
	WRITTEN_POD,
	WRITTEN_NODE,
	WRITTEN_KINDS,
};
const char *written_kind_name(enum written_kind kind);

struct status_writer_options {
	struct loop *loop;
	struct kubernetes_client *client;
	/* kubernetes_send() and kubernetes_cancel(), or what a test plays. */
	struct kubernetes_request *(*send)(struct kubernetes_client *client, const struct kubernetes_call *call);
	void (*cancel)(struct kubernetes_request *request);
	bool (*leads)(void *context);
	/* A write went through: the whole object before and after it. */
	void (*on_written)(void *context, enum written_kind kind, const json_t *before, const json_t *after);
	void *context;
};

struct status_writer_statistics {
	uint64_t reads, writes;
	uint64_t unchanged; /* read, and as they should be */
	uint64_t stale;     /* read, and of a generation that was not compiled yet */
	uint64_t conflicts, denied, gone, invalid, failures;
	size_t objects, queued, in_flight, waiting;
	char last_error[256]; /* "" if there was none since the last that went through */
};

int status_writer_new(const struct status_writer_options *options, struct status_writer **writer);
void status_writer_free(struct status_writer *writer); /* NULL-safe; cancels what is under way */

/*
 * All that is wanted, in one round: begin, want for each, end; what was not named is forgotten. wanted is taken over
 * (also by an error); seen tells versions of the object apart, as the source has it: it is looked at again if it is
 * another one. 0 or -ENOMEM.
 */
void status_writer_begin(struct status_writer *writer);
int status_writer_want(struct status_writer *writer, enum written_kind kind, const char *namespace_, const char *name,
                       json_t *wanted, uint64_t seen);
void status_writer_end(struct status_writer *writer);

/* We lead from now on: every object is looked at. Or no more: all requests are cancelled. */
void status_writer_lead(struct status_writer *writer, bool leads);

struct status_writer_statistics status_writer_statistics(const struct status_writer *writer);

#endif
