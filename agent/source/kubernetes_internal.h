/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kubernetes_internal.h: what the parts of the Kubernetes source share.
 *
 *   kubernetes.c             the source: which streams there are, synced, refresh
 *   kubernetes_stream.c      one stream: a watch, its objects' records, the version that is served
 *   kubernetes_apply.c       records -> the store
 *   kubernetes_references.c  which ConfigMaps, Secrets and Pods are asked for; what is denied
 *   kubernetes_current.c     as of now: what source_make_current() asks
 *   kubernetes_digest.c      what of an object can matter
 *   kubernetes_report.c      errors, notes and rows of the status
 */
#ifndef POSTERN_SOURCE_KUBERNETES_INTERNAL_H
#define POSTERN_SOURCE_KUBERNETES_INTERNAL_H

#include <jansson.h>

#include "base/loop.h"
#include "kubernetes/watch.h"
#include "policy/object.h"
#include "policy/table.h"
#include "source/assemble.h"
#include "source/kubernetes.h"

#define RESOURCE_VERSION_MAX 24
#define DIGEST_BYTES         16

struct kubernetes_source;

struct resource {
	enum object_kind kind;
	const char *group;
	const char *versions[4]; /* the best first; ends with NULL */
	const char *name;        /* "endpointslices" */
	bool required;           /* without it nothing is known */
};

/* One object of one stream, as it was seen last. */
struct record {
	struct table_node node;
	struct kubernetes_source *source;
	const struct resource *resource;
	struct stream *stream;        /* not looked at once it is gone */
	struct record *next, **place; /* of the stream's */
	struct record *next_dirty;
	bool dirty, gone;
	bool quarantined; /* in the store */
	const char *namespace_, *name;
	char resource_version[RESOURCE_VERSION_MAX];
	uint8_t digest[DIGEST_BYTES];
	unsigned int list;      /* the number of the list that showed it last */
	uint64_t asked_ns;      /* the question whose list showed it last */
	struct object *object;  /* the last good version; NULL: none */
	struct object *visible; /* of one that does not decode; NULL: none */
	char *problem;          /* NULL: it decodes */
	char *note;             /* NULL: none */
	char text[];            /* namespace and name */
};

struct stream {
	struct kubernetes_source *source;
	struct stream *next;
	const struct resource *resource;
	char *namespace_, *name; /* "": all */
	char *field_selector;
	struct kubernetes_watch *watch; /* NULL: not served, asked again when the timer ends */
	unsigned int version;           /* of resource->versions */
	struct loop_timer absent_timer;
	uint64_t absent_delay_ns;
	bool absent;
	bool known;  /* a list was complete once, or it is denied or absent */
	bool wanted; /* of those that come and go: something still refers to it */
	bool listing;
	unsigned int list; /* the number of the last */
	struct record *records;
	size_t record_count;
	char state_logged[300];
	uint64_t lists, events, failures; /* of watches that were replaced */
};

/* A ConfigMap or Secret that is referred to. */
struct reference {
	enum object_kind kind;
	const char *namespace_, *name; /* of the objects that refer to it, which the store holds */
};

struct denial { /* in the store's quarantine */
	enum object_kind kind;
	char *namespace_, *name, *why;
};

struct question; /* kubernetes_current.c */

struct kubernetes_source {
	struct source source;
	struct loop *loop;
	struct kubernetes_client *client;
	char *node_name;
	struct object_store *store;
	struct stream *streams;
	struct table records;
	struct record *dirty, **dirty_end;
	bool synced;
	bool out_of_memory;  /* something was lost; it is tried again */
	bool references_due; /* a policy, Gateway or grant changed, or a stream's state */
	struct denial *denials;
	size_t denial_count, denial_capacity;
	bool store_changed;       /* and no refresh has said so yet */
	uint64_t adopting;        /* of which namespaces Pods are kept: a sum */
	struct object_name *pods; /* that were asked for by name */
	size_t pod_count;

	struct loop_timer progress_timer; /* in a round: streams became known, or something changed */
	struct loop_timer changed_timer;
	struct loop_timer patience_timer; /* before synced: what is not needed is waited for so long */
	bool patience_over;
	uint64_t changed_ns;  /* events.changed was called last */
	uint64_t coalesce_ns; /* not before so long after that */

	struct question *question;
	struct findings findings;
	bool findings_due;
};

/* kubernetes.c */
const struct resource *resource_of(enum object_kind kind);
struct kubernetes_source *kubernetes_source_of(const struct source *source);
/* Something that whoever compiles should know of. */
void kubernetes_source_changed(struct kubernetes_source *source);
/* Streams may have become known. */
void kubernetes_source_progress(struct kubernetes_source *source);

/* kubernetes_stream.c. NULL: no memory. */
struct stream *stream_new(struct kubernetes_source *source, const struct resource *resource, const char *namespace_,
                          const char *name, const char *field_selector);
/* Its records become dirty and gone. It is out of source->streams already. */
void stream_free(struct stream *stream);
enum kubernetes_watch_state stream_state(const struct stream *stream);
const char *stream_error(const struct stream *stream); /* "" if there is none */
/* List anew, after a while. */
void stream_restart(struct stream *stream, uint64_t delay_ns);
struct record *record_find(const struct kubernetes_source *source, const struct stream *stream, const char *namespace_,
                           const char *name);
void record_free(struct record *record);
void record_mark(struct record *record);

/* kubernetes_apply.c: dirty records into the store. True if it changed. */
bool apply_records(struct kubernetes_source *source);
/* Is it of use to anybody? For streams that show more than is kept. */
bool is_kept(const struct kubernetes_source *source, const struct object *object);

/* kubernetes_references.c. True if the store's quarantine changed. */
bool references_update(struct kubernetes_source *source);
void references_free(struct kubernetes_source *source);

/* kubernetes_current.c */
void current_ask(struct kubernetes_source *source, uint64_t as_of_ns, enum source_scope scope);
void current_record_changed(struct kubernetes_source *source, const struct record *record);
/* A bookmark, perhaps. */
void current_progress(struct kubernetes_source *source);
/* A stream goes, or begins anew. */
void current_stream_ends(struct kubernetes_source *source, const struct stream *stream);
void current_free(struct kubernetes_source *source);

/* kubernetes_digest.c. 0 or -ENOMEM. */
int kubernetes_digest(enum object_kind kind, const json_t *document, uint8_t digest[static DIGEST_BYTES]);

/* kubernetes_report.c */
size_t report_error_count(const struct source *source);
const struct source_error *report_error_at(const struct source *source, size_t index);
size_t report_note_count(const struct source *source);
const char *report_note_at(const struct source *source, size_t index);
size_t report_watch_count(const struct source *source);
struct source_watch report_watch_at(const struct source *source, size_t index);

#endif
