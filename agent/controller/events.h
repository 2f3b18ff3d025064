/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * events.h: Events of events.k8s.io/v1, so that `kubectl describe` shows what is wrong beside the object. That API and
 * not the core one, because it counts repeats in a series by one PATCH of the Event that is there, and because only the
 * verbs create, get and patch are needed. The API server keeps them for an hour.
 *
 * What is told again is counted, not told again: an Event is named after what it says (object, reason, note), so that
 * another leader or a restarted one finds it and counts on. A repeat is patched in at once the first time, then every
 * EVENTS_SERIES_NS at most. Of one object at most EVENTS_PER_OBJECT different ones in EVENTS_WINDOW_NS are told, and
 * EVENTS_KEPT in all are remembered; what goes beyond is counted and dropped. One thread: the loop's.
 */
#ifndef POSTERN_CONTROLLER_EVENTS_H
#define POSTERN_CONTROLLER_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kubernetes/client.h"

#define EVENTS_PER_OBJECT 10
#define EVENTS_KEPT       1024
#define EVENTS_PARALLEL   4
#define EVENTS_WINDOW_NS  300000000000ull
#define EVENTS_SERIES_NS  60000000000ull
#define EVENT_NOTE_MAX    1024 /* bytes, as the API server has it */

struct events;
struct loop;

struct event_regarding {
	const char *api_version; /* "v1", "gateway.networking.k8s.io/v1" */
	const char *kind, *namespace_, *name, *uid;
};

struct events_options {
	struct loop *loop;
	struct kubernetes_client *client;
	struct kubernetes_request *(*send)(struct kubernetes_client *client, const struct kubernetes_call *call);
	void (*cancel)(struct kubernetes_request *request);
	bool (*leads)(void *context);
	void *context;
	const char *controller; /* reportingController; borrowed */
	const char *instance;   /* reportingInstance: the pod; borrowed */
};

struct events_statistics {
	uint64_t told;    /* Events made */
	uint64_t counted; /* repeats patched into a series */
	uint64_t dropped; /* limits, or no memory */
	uint64_t failures;
};

int events_new(const struct events_options *options, struct events **events);
void events_free(struct events *events); /* NULL-safe; cancels what is under way */

/* Tell it, unless we do not lead. reason and action are words ("Refused"); the note is cut to EVENT_NOTE_MAX. */
void events_tell(struct events *events, const struct event_regarding *regarding, bool warning, const char *reason,
                 const char *action, const char *note);
/* We lead no more: what is under way is cancelled, and what was remembered forgotten. */
void events_stop(struct events *events);

struct events_statistics events_statistics(const struct events *events);

#endif
