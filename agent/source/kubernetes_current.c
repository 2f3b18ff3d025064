// SPDX-License-Identifier: GPL-2.0-only
/*
 * As of now (design section 2). A watch tells what happened, never that nothing did: its bookmarks come once a minute,
 * and the resourceVersion of a list is that of all of etcd, which goes on while nothing happens to the objects of the
 * watch. Three ways to know that it has shown everything, of which the first that gets there counts:
 *
 *   probe  a LIST of one object without resourceVersion, which is as new as etcd: how far has the watch to reach?
 *   names  a LIST of names and resourceVersions of all of them: has the watch shown each of them, or something newer,
 *          and dropped the rest? What it costs the server grows with their number; above a number it is not asked
 *   hasten where these do not do at once: the watch is opened anew for so short a time that its bookmark comes within
 *          1 to 2 s (kubernetes_watch_hasten()). What it costs depends on nothing
 *
 * resourceVersions are compared as the numbers that they are (KEP-5504); where they are none, only the same one will
 * do.
 *
 * One question is under way, of one scope (source.h); who asks while it is gets the next one. A failure is asked again
 * as long as somebody may wait.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "kubernetes/client.h"
#include "kubernetes/metadata_list.h"
#include "policy/vector.h"
#include "source/kubernetes_internal.h"

#define PROBE_FROM      200u   /* objects: up to here the names cost no more than the probe */
#define NAMES_UP_TO     20000u /* objects */
#define ANSWER_LIMIT_NS 3000000000ull
#define WAITER_LIMIT_NS 3000000000ull /* the worker's, for who waits */
#define RETRY_NS        200000000ull
#define HASTEN_NS       250000000ull
#define BEHIND_NS       1500000000ull /* a watch that does not open is opened anew, on another connection */
#define GIVE_UP_NS      4000000000ull
#define SPACING_NS      20000000ull
#define MOST_SPACING_NS 100000000ull

_Static_assert(RESOURCE_VERSION_MAX == METADATA_VERSION_MAX, "copied as a whole");

/* What a watch has to show yet. */
struct missing {
	char *namespace_, *name, *version; /* version NULL: it has to go */
};

/* One stream's part of the question. */
struct part {
	struct question *question;
	struct stream *stream;
	struct kubernetes_request *probe, *names; /* NULL: answered, or not asked */
	bool listed, hastened;
	char seen[RESOURCE_VERSION_MAX];    /* how far the watch had come when it was asked */
	char probed[RESOURCE_VERSION_MAX];  /* as far as the watch has to reach; "": not known yet */
	char version[RESOURCE_VERSION_MAX]; /* of the list of names; "": it is not there */
	struct missing *missing;
	size_t missing_count, missing_capacity;
};

struct question {
	struct kubernetes_source *source;
	uint64_t asked_ns[SOURCE_SCOPES]; /* the newest who waits; 0: nobody */
	uint64_t started_ns;              /* of the question under way; 0: none */
	enum source_scope scope;
	uint64_t ended_ns, took_ns; /* the last */
	struct part *parts;
	size_t part_count;
	unsigned int limits;           /* that have passed */
	struct loop_timer check_timer; /* in a round of its own: something may have been reached */
	struct loop_timer start_timer;
	struct loop_timer limit_timer;
};

static bool is_number(const char *text)
{
	return *text && strspn(text, "0123456789") == strlen(text);
}

/* Is what we have what is wanted, or newer? */
static bool reached(const char *have, const char *wanted)
{
	size_t have_length = strlen(have), wanted_length = strlen(wanted);

	if (!is_number(have) || !is_number(wanted))
		return strcmp(have, wanted) == 0;
	return have_length != wanted_length ? have_length > wanted_length : strcmp(have, wanted) >= 0;
}

static const char *watch_version(const struct stream *stream)
{
	return stream->watch ? kubernetes_watch_statistics(stream->watch)->resource_version : "";
}

/* ---- the end of a question ---- */

static void free_missing(struct part *part)
{
	for (size_t i = 0; i < part->missing_count; i++) {
		free(part->missing[i].namespace_);
		free(part->missing[i].name);
		free(part->missing[i].version);
	}
	free(part->missing);
	part->missing = NULL;
	part->missing_count = part->missing_capacity = 0;
}

static void cancel_part(struct part *part)
{
	kubernetes_cancel(part->probe);
	kubernetes_cancel(part->names);
	part->probe = part->names = NULL;
	free_missing(part);
}

static void end_parts(struct question *question)
{
	for (size_t i = 0; i < question->part_count; i++) {
		cancel_part(&question->parts[i]);
	}
	free(question->parts);
	question->parts = NULL;
	question->part_count = 0;
	question->ended_ns = monotonic_ns();
	question->took_ns = question->ended_ns - question->started_ns;
	question->started_ns = 0;
	loop_timer_cancel(question->source->loop, &question->limit_timer);
}

/* The next one, if somebody waits; not one behind the other, whatever they cost. */
static void plan_next(struct question *question, uint64_t delay_ns)
{
	uint64_t now = monotonic_ns();
	bool waits = false;

	for (unsigned int i = 0; i < SOURCE_SCOPES; i++) {
		if (question->asked_ns[i] && now - question->asked_ns[i] > WAITER_LIMIT_NS)
			question->asked_ns[i] = 0;
		waits |= question->asked_ns[i] != 0;
	}
	if (waits)
		(void)loop_timer_set(question->source->loop, &question->start_timer, delay_ns);
}

static void give_up(struct question *question, const char *why)
{
	char shown[300];

	log_warning("state as of now not known", "reason=%s", log_quote(why, shown, sizeof(shown)));
	end_parts(question);
	plan_next(question, RETRY_NS);
}

static void answer(struct question *question)
{
	struct kubernetes_source *source = question->source;
	uint64_t as_of_ns = question->started_ns, delay;

	end_parts(question);
	log_debug("state as of now known", "scope=%s milliseconds=%llu",
	          question->scope == SOURCE_ALL ? "all" : "addresses",
	          (unsigned long long)(question->took_ns / 1000000));
	for (unsigned int i = 0; i <= question->scope; i++)
		if (question->asked_ns[i] <= as_of_ns)
			question->asked_ns[i] = 0;
	delay = question->took_ns < MOST_SPACING_NS ? question->took_ns : MOST_SPACING_NS;
	plan_next(question, delay > SPACING_NS ? delay : SPACING_NS);
	source->source.events.current(source->source.events.context, as_of_ns, question->scope);
}

/* ---- what is missing ---- */

static bool is_reached(const struct part *part, const struct missing *missing)
{
	const struct record *record;

	record = record_find(part->stream->source, part->stream, missing->namespace_, missing->name);
	if (!missing->version)
		return !record || !reached(part->version, record->resource_version);
	return record && reached(record->resource_version, missing->version);
}

static void drop_reached(struct part *part)
{
	size_t kept = 0;

	for (size_t i = 0; i < part->missing_count; i++) {
		struct missing *missing = &part->missing[i];

		if (!is_reached(part, missing)) {
			part->missing[kept++] = *missing;
			continue;
		}
		free(missing->namespace_);
		free(missing->name);
		free(missing->version);
	}
	part->missing_count = kept;
}

/* The watch alone, or the watch and the names. */
static bool is_known(struct part *part)
{
	const char *seen = watch_version(part->stream);

	if ((*part->probed && reached(seen, part->probed)) || (*part->version && reached(seen, part->version))) {
		cancel_part(part);
		return true;
	}
	drop_reached(part);
	return part->listed && !part->missing_count;
}

/* Once, and not before it is known how far it has to reach: of a bookmark that is too old there is no second. */
static void hasten(struct part *part)
{
	if (part->hastened || (!*part->probed && !*part->version) || !part->stream->watch)
		return;
	part->hastened = true;
	kubernetes_watch_hasten(part->stream->watch);
}

static void check(struct question *question)
{
	bool done = question->part_count != 0;

	for (size_t i = 0; i < question->part_count; i++) {
		bool known = is_known(&question->parts[i]);

		done &= known;
		if (!known && question->limits)
			hasten(&question->parts[i]);
	}
	if (done)
		answer(question);
}

static void on_check(struct loop_timer *timer)
{
	check(container_of(timer, struct question, check_timer));
}

static void check_soon(struct question *question)
{
	(void)loop_timer_set(question->source->loop, &question->check_timer, 0);
}

static int add_missing(struct part *part, const char *namespace_, const char *name, const char *version)
{
	struct missing missing;

	if (vector_reserve(&part->missing, part->missing_count, &part->missing_capacity, sizeof(missing)) < 0)
		return -ENOMEM;
	missing = (struct missing){
	        .namespace_ = strdup(namespace_), .name = strdup(name), .version = version ? strdup(version) : NULL};
	part->missing[part->missing_count++] = missing;
	return missing.namespace_ && missing.name && (!version || missing.version) ? 0 : -ENOMEM;
}

/* ---- lists ---- */

/* An object of the list. 0 or -ENOMEM. */
static int take_item(void *context, const struct metadata_item *item)
{
	struct part *part = context;
	const struct stream *stream = part->stream;
	struct record *record = record_find(stream->source, stream, item->namespace_, item->name);

	if (record)
		record->asked_ns = part->question->started_ns;
	if (record && reached(record->resource_version, item->resource_version))
		return 0;
	return add_missing(part, item->namespace_, item->name, item->resource_version);
}

/* Records that the list did not show. */
static int expect_removals(struct part *part)
{
	for (const struct record *record = part->stream->records; record; record = record->next)
		if (record->asked_ns != part->question->started_ns &&
		    reached(part->version, record->resource_version) &&
		    add_missing(part, record->namespace_, record->name, NULL) < 0)
			return -ENOMEM;
	return 0;
}

static const char *why_not(const struct kubernetes_answer *received, int result)
{
	if (received->error)
		return received->error;
	return result == -ENOMEM ? "no memory" : "the answer is no list of metadata";
}

/*
 * A list of etcd's quorum is no older than what a watch had shown when it was asked for, unless the cluster was put
 * back to an earlier state. Its watches say nothing of that: one that is asked to go on from a resourceVersion that is
 * yet to come shows nothing below it, so what came before that is never seen, and each question would be answered from
 * what was there once.
 */
static bool went_back(const struct part *part, const char *listed)
{
	return is_number(part->seen) && is_number(listed) && !reached(listed, part->seen);
}

/* All of it: other streams show the same storage. What has a resourceVersion of the time before is no longer known. */
static void begin_anew(struct question *question, const char *listed, const char *seen)
{
	struct kubernetes_source *source = question->source;

	log_warning("the cluster's storage went back", "resource_version=%s seen=%s effect=\"all is listed anew\"",
	            listed, seen);
	end_parts(question);
	for (struct stream *stream = source->streams; stream; stream = stream->next) {
		for (struct record *record = stream->records; record; record = record->next)
			record->resource_version[0] = '\0';
		if (stream->watch)
			stream_restart(stream, 0);
	}
	plan_next(question, RETRY_NS);
}

static int read_list(const struct kubernetes_answer *received, struct metadata_list *list,
                     int (*on_item)(void *context, const struct metadata_item *item), void *context)
{
	int result = received->error || !received->bytes
	                     ? -EINVAL
	                     : metadata_list_read(received->bytes, received->length, list, on_item, context);

	return result == 0 && !*list->resource_version ? -EINVAL : result;
}

static void on_probe(void *context, const struct kubernetes_answer *received)
{
	struct part *part = context;
	struct metadata_list list;
	int result = read_list(received, &list, NULL, NULL);

	part->probe = NULL;
	if (result < 0) {
		give_up(part->question, why_not(received, result));
		return;
	}
	if (went_back(part, list.resource_version)) {
		begin_anew(part->question, list.resource_version, part->seen);
		return;
	}
	memcpy(part->probed, list.resource_version, sizeof(part->probed));
	check_soon(part->question);
}

static void on_names(void *context, const struct kubernetes_answer *received)
{
	struct part *part = context;
	struct metadata_list list;
	int result = read_list(received, &list, take_item, part);

	part->names = NULL;
	if (result == 0 && list.continues)
		result = -EINVAL;
	if (result == 0 && went_back(part, list.resource_version)) {
		begin_anew(part->question, list.resource_version, part->seen);
		return;
	}
	if (result == 0) {
		memcpy(part->version, list.resource_version, sizeof(part->version));
		result = expect_removals(part);
	}
	if (result == 0) {
		part->listed = true;
		check_soon(part->question);
		return;
	}
	/* Too large, or too slow: a probe leads on by itself. */
	free_missing(part);
	part->version[0] = '\0';
	if (!part->probe && !*part->probed)
		give_up(part->question, why_not(received, result));
}

static int add_selectors(const struct stream *stream, char **path)
{
	char name[300];

	if (*stream->name) {
		(void)snprintf(name, sizeof(name), "metadata.name=%s", stream->name);
		return kubernetes_path_add(path, "fieldSelector", name);
	}
	return *stream->field_selector ? kubernetes_path_add(path, "fieldSelector", stream->field_selector) : 0;
}

static int make_path(const struct stream *stream, bool probe, char **path)
{
	int result = kubernetes_path(stream->resource->group, stream->resource->versions[stream->version],
	                             stream->namespace_, stream->resource->name, "", "", path);

	if (result == 0)
		result = add_selectors(stream, path);
	return result == 0 && probe ? kubernetes_path_add(path, "limit", "1") : result;
}

static struct kubernetes_request *send_list(struct part *part, bool probe)
{
	_cleanup_free_ char *path = NULL;
	struct kubernetes_call call = {
	        .method = "GET",
	        .accept = METADATA_LIST_ACCEPT,
	        .wants_bytes = true,
	        .timeout_ns = ANSWER_LIMIT_NS,
	        .on_answer = probe ? on_probe : on_names,
	        .context = part,
	};

	if (make_path(part->stream, probe, &path) < 0)
		return NULL;
	call.path = path;
	return kubernetes_send(part->stream->source->client, &call);
}

static int send_part(struct part *part)
{
	bool probe, names;

	if (!part->stream) /* make_parts() filled it: said for clang's analyzer */
		return -EINVAL;
	probe = part->stream->record_count > PROBE_FROM;
	names = part->stream->record_count <= NAMES_UP_TO;
	(void)snprintf(part->seen, sizeof(part->seen), "%s", watch_version(part->stream));
	if (probe)
		part->probe = send_list(part, true);
	if (names)
		part->names = send_list(part, false);
	return (probe && !part->probe) || (names && !part->names) ? -ENOMEM : 0;
}

/* ---- the question ---- */

/* What can turn TLS into plaintext. Pods decide only where endpoints are contested. */
static bool decides(const struct kubernetes_source *source, const struct stream *stream, enum source_scope scope)
{
	switch (stream->resource->kind) {
	case OBJECT_SERVICE:
	case OBJECT_ENDPOINT_SLICE:
		return true;
	case OBJECT_BACKEND_TLS_POLICY:
		return scope == SOURCE_ALL;
	case OBJECT_POD:
		return scope == SOURCE_ALL && source->pod_count && *source->node_name;
	default:
		return false;
	}
}

static int make_parts(struct question *question)
{
	const struct kubernetes_source *source = question->source;
	size_t count = 0;

	for (const struct stream *stream = source->streams; stream; stream = stream->next)
		count += decides(source, stream, question->scope);
	question->parts = calloc(count + 1, sizeof(*question->parts));
	if (!question->parts)
		return -ENOMEM;
	for (struct stream *stream = source->streams; stream; stream = stream->next)
		if (decides(source, stream, question->scope))
			question->parts[question->part_count++] = (struct part){.question = question, .stream = stream};
	return 0;
}

static void start(struct question *question)
{
	int result;

	question->started_ns = monotonic_ns();
	question->limits = 0;
	question->scope = question->asked_ns[SOURCE_ALL] ? SOURCE_ALL : SOURCE_ADDRESSES;
	result = make_parts(question);
	for (size_t i = 0; i < question->part_count && result == 0; i++)
		result = send_part(&question->parts[i]);
	if (result == 0)
		result = loop_timer_set(question->source->loop, &question->limit_timer, HASTEN_NS);
	if (result < 0)
		give_up(question, "no memory");
}

static void on_start(struct loop_timer *timer)
{
	struct question *question = container_of(timer, struct question, start_timer);

	if (!question->started_ns)
		start(question);
}

/* The connection may be dead. */
static void reopen_unanswered(struct question *question)
{
	for (size_t i = 0; i < question->part_count; i++) {
		struct part *part = &question->parts[i];

		if (!part->hastened || is_known(part) || !part->stream->watch ||
		    kubernetes_watch_is_open(part->stream->watch))
			continue;
		kubernetes_distrust(question->source->client);
		kubernetes_watch_hasten(part->stream->watch);
	}
}

static void on_limit(struct loop_timer *timer)
{
	static const uint64_t limits[] = {HASTEN_NS, BEHIND_NS, GIVE_UP_NS};
	struct question *question = container_of(timer, struct question, limit_timer);

	if (++question->limits == ARRAY_SIZE(limits)) {
		give_up(question, "the watches do not catch up");
		return;
	}
	(void)loop_timer_set(question->source->loop, &question->limit_timer,
	                     limits[question->limits] - limits[question->limits - 1]);
	if (question->limits > 1)
		reopen_unanswered(question);
	check(question);
}

static struct question *question_of(struct kubernetes_source *source)
{
	struct question *question = source->question;

	if (question)
		return question;
	question = calloc(1, sizeof(*question));
	if (!question)
		return NULL;
	question->source = source;
	question->check_timer.on_expire = on_check;
	question->start_timer.on_expire = on_start;
	question->limit_timer.on_expire = on_limit;
	source->question = question;
	return question;
}

void current_ask(struct kubernetes_source *source, uint64_t as_of_ns, enum source_scope scope)
{
	struct question *question = question_of(source);

	if (!question || !source->synced)
		return; /* the waiters' limit answers */
	if (question->asked_ns[scope] < as_of_ns)
		question->asked_ns[scope] = as_of_ns;
	if (question->started_ns || question->start_timer.due_ns)
		return; /* the next one */
	(void)loop_timer_set(source->loop, &question->start_timer, 0);
}

void current_record_changed(struct kubernetes_source *source, const struct record *record)
{
	if (source->question && source->question->started_ns &&
	    decides(source, record->stream, source->question->scope))
		check_soon(source->question);
}

void current_progress(struct kubernetes_source *source)
{
	if (source->question && source->question->started_ns)
		check_soon(source->question);
}

void current_stream_ends(struct kubernetes_source *source, const struct stream *stream)
{
	if (source->question && source->question->started_ns && decides(source, stream, source->question->scope))
		give_up(source->question, "what is watched has changed");
}

void current_free(struct kubernetes_source *source)
{
	struct question *question = source->question;

	if (!question)
		return;
	end_parts(question);
	loop_timer_cancel(source->loop, &question->check_timer);
	loop_timer_cancel(source->loop, &question->start_timer);
	source->question = NULL;
	loop_defer_free(source->loop, question);
}
