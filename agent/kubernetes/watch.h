/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * watch.h: one resource kept as it is in the cluster: list, watch, list again.
 *
 *   LISTING --all pages--> WATCHING --ended, cut--> WATCHING from the last resourceVersion: at once if the watch had
 *      ^                      |                      lived for 5 s, else after a back-off
 *      +--- 410, 'Expired' ---+
 *   LISTING --failed--> BACKOFF, DENIED (403), ABSENT (404: no such resource is served) --> LISTING
 *      after 1 s, 2 s .. 60 s (30 s if there was no answer at all), less up to a half by chance, or Retry-After
 *
 * Lists are paged (limit, continue; a 410 in mid-list begins anew, pages that are too large get smaller), from etcd's
 * quorum. Watches ask for bookmarks; one that is silent for 150 s is opened anew. What was there stays in force until a
 * list that is complete says otherwise: a server that is away takes nothing away. An answer that makes no sense (an
 * object without a name, a list without resourceVersion or without end) is a failure like any other.
 *
 * One thread: the loop's.
 */
#ifndef POSTERN_KUBERNETES_WATCH_H
#define POSTERN_KUBERNETES_WATCH_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct kubernetes_client;
struct kubernetes_watch;
struct loop;

enum kubernetes_watch_state {
	WATCH_LISTING,
	WATCH_WATCHING,
	WATCH_BACKOFF,
	WATCH_DENIED,
	WATCH_ABSENT,
};
const char *kubernetes_watch_state_name(enum kubernetes_watch_state state);

struct kubernetes_watch_options {
	const char *group, *version, *namespace_, *resource; /* namespace_ "": all */
	const char *name;                                    /* "": all; else this object alone, by a field selector */
	const char *label_selector;                          /* "": none; so field_selector */
	const char *field_selector;
	/*
	 * An object as it is now: borrowed, whole, with kind and apiVersion, name and resourceVersion. A list's objects
	 * come like this too, between on_list(true) and on_list(false); what the list did not show is gone then. A list
	 * that failed on its way begins again with on_list(true).
	 */
	void (*on_object)(void *context, json_t *object);
	void (*on_removed)(void *context, const char *namespace_, const char *name);
	void (*on_list)(void *context, bool begins);
	void (*on_state)(void *context); /* state, or resource_version by a bookmark; may be NULL */
	void *context;
};

struct kubernetes_watch_statistics {
	enum kubernetes_watch_state state;
	bool synced;               /* a list was complete once */
	char resource_version[24]; /* of the last event, bookmark or list; "" before */
	uint64_t lists, watches, events, bookmarks, failures;
	uint64_t last_event_ns;    /* CLOCK_MONOTONIC: list, event or bookmark */
	uint64_t failing_since_ns; /* 0: it does not */
	char error[256];           /* of the last failure; "" if there is none */
	bool unreachable;          /* it was no answer at all */
};

/* Begins at once. The strings are copied. NULL: no memory. */
struct kubernetes_watch *kubernetes_watch_new(struct loop *loop, struct kubernetes_client *client,
                                              const struct kubernetes_watch_options *options);
void kubernetes_watch_free(struct kubernetes_watch *watch); /* NULL-safe; also from inside its callbacks */
const struct kubernetes_watch_statistics *kubernetes_watch_statistics(const struct kubernetes_watch *watch);
/* After a back-off it would wait for: now. */
void kubernetes_watch_hurry(struct kubernetes_watch *watch);
/*
 * How far does it reach? A watch tells so once a minute by a bookmark, and 2 s before its time is over: this opens it
 * anew from the last resourceVersion, for 3 s, so that one comes within 1 to 2 s, for as long as nothing was listed. In
 * a round of the loop.
 */
void kubernetes_watch_hasten(struct kubernetes_watch *watch);
/* Has the server answered it? Not while it lists or backs off. */
bool kubernetes_watch_is_open(const struct kubernetes_watch *watch);

#endif
