/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * source.h: where objects come from, whatever it is: a directory of manifests (files.h) or the Kubernetes API
 * (kubernetes.h). The agent and the controller know this interface alone. Control thread.
 *
 * The store is the source's; it changes only inside source_refresh(), so that who compiles sees one state.
 */
#ifndef POSTERN_SOURCE_SOURCE_H
#define POSTERN_SOURCE_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct object_name;
struct object_store;
struct source;

struct source_error {
	char *object;  /* "backend.yaml", "backend.yaml: Service default/echo" or "endpointslices (cluster)" */
	char *message; /* "line 12: ...", "spec.validation.hostname: ..." or "403: ..." */
};

/* Of what the state as of now is asked. */
enum source_scope {
	SOURCE_ADDRESSES, /* does anything name the destination? Services and EndpointSlices */
	SOURCE_ALL,       /* is it covered? All that decides about plaintext */
};
#define SOURCE_SCOPES 2

/* What the source tells, in a round of the loop and never from inside one of the functions below. */
struct source_events {
	void (*changed)(void *context); /* source_refresh() may have something; or an error came or went */
	/* The store shows (after source_refresh()) what was true at as_of_ns or later; see source_make_current(). */
	void (*current)(void *context, uint64_t as_of_ns, enum source_scope scope);
	void *context;
};

/* One stream of objects of a Kubernetes source. */
struct source_watch {
	const char *resource;   /* "endpointslices" */
	const char *namespace_; /* "": all */
	const char *name;       /* "": all */
	const char *state;      /* "watching", "listing", "backoff", "denied", "absent" */
	size_t objects;
	uint64_t lists, events, failures;
	uint64_t last_event_ns, failing_since_ns; /* CLOCK_MONOTONIC; 0: never, it does not */
	const char *error;                        /* "" if there is none */
};

/* What a source does. Made by the sources; the functions below call them. */
struct source_operations {
	void (*close)(struct source *source);
	bool (*refresh)(struct source *source, bool force);
	void (*make_current)(struct source *source, uint64_t as_of_ns, enum source_scope scope);
	void (*want_pods)(struct source *source, const struct object_name *pods, size_t count); /* NULL: has them */
	const struct object_store *(*store)(const struct source *source);
	bool (*synced)(const struct source *source);
	bool (*in_order)(const struct source *source);
	size_t (*error_count)(const struct source *source);
	const struct source_error *(*error_at)(const struct source *source, size_t index);
	size_t (*note_count)(const struct source *source);
	const char *(*note_at)(const struct source *source, size_t index);
	size_t (*watch_count)(const struct source *source);
	struct source_watch (*watch_at)(const struct source *source, size_t index);
};

struct source { /* the first member of each source's own struct */
	const struct source_operations *operations;
	struct source_events events;
};

void source_close(struct source *source); /* NULL-safe */

/* Bring into the store what came in the meantime. force: look even where nothing was heard of (files). True if the
 * store changed: a compile is due. */
bool source_refresh(struct source *source, bool force);
/*
 * For HOLD (design section 2): make the store show what is true now of scope, and call events.current with that or a
 * larger scope; one question of many waiters. It may never be called: who waits has a limit of his own.
 */
void source_make_current(struct source *source, uint64_t as_of_ns, enum source_scope scope);

/*
 * Pods that decide which of several claims on an endpoint counts: a source that does not have all Pods gets these, by
 * their names. Each time all of them; what is not named any more is let go.
 */
void source_want_pods(struct source *source, const struct object_name *pods, size_t count);

const struct object_store *source_store(const struct source *source);
/* Was everything seen once? Before, the store is empty, and means nothing: no snapshot may be made of it. */
bool source_synced(const struct source *source);
/* False: the store lacks something that is there (a broken manifest, a watch that fails). */
bool source_in_order(const struct source *source);

size_t source_error_count(const struct source *source);
const struct source_error *source_error_at(const struct source *source, size_t index);
/* What is no error and still worth a line. */
size_t source_note_count(const struct source *source);
const char *source_note_at(const struct source *source, size_t index);
size_t source_watch_count(const struct source *source); /* 0: the source is none of this kind */
struct source_watch source_watch_at(const struct source *source, size_t index);

#endif
