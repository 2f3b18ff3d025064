// SPDX-License-Identifier: GPL-2.0-only
/* One stream: a watch of one resource, and a record of each object that it showed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "policy/decode.h"
#include "source/kubernetes_internal.h"

#define ORIGIN           "cluster"
#define ABSENT_FIRST_NS  5000000000ull /* a resource that is not served: it may be installed one day */
#define ABSENT_MOST_NS   300000000000ull
#define REQUIRED_MOST_NS 10000000000ull
#define RETRY_NS         1000000000ull /* after want of memory */

static void decref(json_t **value)
{
	json_decref(*value);
}
#define _cleanup_json_ _cleanup_(decref)

/* ---- records ---- */

static uint64_t hash_of(const struct stream *stream, const char *namespace_, const char *name)
{
	return table_hash_names(namespace_, name, stream->resource->kind);
}

static struct record *record_of(struct table_node *node)
{
	return node ? container_of(node, struct record, node) : NULL;
}

struct record *record_find(const struct kubernetes_source *source, const struct stream *stream, const char *namespace_,
                           const char *name)
{
	struct table_node *node = table_first(&source->records, hash_of(stream, namespace_, name));

	for (; node; node = table_next(node)) {
		struct record *record = record_of(node);

		if (record->stream == stream && !record->gone && strcmp(record->name, name) == 0 &&
		    strcmp(record->namespace_, namespace_) == 0)
			return record;
	}
	return NULL;
}

static struct record *record_new(struct stream *stream, const char *namespace_, const char *name)
{
	size_t namespace_size = strlen(namespace_) + 1, name_size = strlen(name) + 1;
	struct record *record;

	if (table_reserve(&stream->source->records) < 0)
		return NULL;
	record = calloc(1, sizeof(*record) + namespace_size + name_size);
	if (!record)
		return NULL;
	record->source = stream->source;
	record->resource = stream->resource;
	record->stream = stream;
	memcpy(record->text, namespace_, namespace_size);
	memcpy(record->text + namespace_size, name, name_size);
	record->namespace_ = record->text;
	record->name = record->text + namespace_size;
	table_insert(&stream->source->records, &record->node, hash_of(stream, namespace_, name));
	record->next = stream->records;
	record->place = &stream->records;
	if (record->next)
		record->next->place = &record->next;
	stream->records = record;
	stream->record_count++;
	return record;
}

static void leave_stream(struct record *record)
{
	if (!record->place)
		return;
	*record->place = record->next;
	if (record->next)
		record->next->place = record->place;
	record->place = NULL;
	record->stream->record_count--;
}

void record_free(struct record *record)
{
	leave_stream(record);
	object_unref(record->object);
	object_unref(record->visible);
	free(record->problem);
	free(record->note);
	free(record);
}

void record_mark(struct record *record)
{
	struct kubernetes_source *source = record->source;

	if (record->dirty)
		return;
	record->dirty = true;
	record->next_dirty = NULL;
	*source->dirty_end = record;
	source->dirty_end = &record->next_dirty;
}

/* It is freed when the store knows. */
static void record_remove(struct record *record)
{
	struct kubernetes_source *source = record->source;

	source->findings_due |= record->problem || record->note;
	record->gone = true;
	record_mark(record);
	leave_stream(record);
	current_record_changed(source, record);
}

/* ---- objects ---- */

static int set_text(char **text, const char *value)
{
	char *copy = value ? strdup(value) : NULL;

	if (value && !copy)
		return -ENOMEM;
	free(*text);
	*text = copy;
	return 0;
}

/* Fields without a meaning here, as one sentence; NULL: none, or no memory, which costs a note. */
static char *describe_unknown_fields(const struct unknown_fields *fields)
{
	char *text = NULL;

	if (!fields->count || asprintf(&text, "%s: %s%s has no meaning here", fields->items[0].subject,
	                               fields->items[0].path, fields->count > 1 ? " (among others)" : "") == -1)
		return NULL;
	return text;
}

static bool is_as_named(const struct record *record, const struct object *object)
{
	return object->kind == record->resource->kind && strcmp(object->name, record->name) == 0 &&
	       strcmp(object->namespace_, record->namespace_) == 0;
}

static int keep_problem(struct record *record, const struct decoded *decoded)
{
	const char *message = decoded->problem_count ? decoded->problems[0].message : "is no object of this resource";

	if (set_text(&record->problem, message) < 0)
		return -ENOMEM;
	object_unref(record->visible);
	record->visible = decoded->visible_count ? object_ref(decoded->visible[0]) : NULL;
	return 0;
}

static void keep_object(struct record *record, const struct decoded *decoded)
{
	free(record->problem);
	record->problem = NULL;
	object_unref(record->visible);
	record->visible = NULL;
	object_unref(record->object);
	record->object = object_ref(decoded->objects[0]);
}

static void forget_note(struct record *record)
{
	free(record->note);
	record->note = NULL;
}

/* 0 or -ENOMEM, then the record is as it was. */
static int decode_record(struct record *record, const json_t *document)
{
	_cleanup_(decoded_free) struct decoded decoded = {0};
	_cleanup_json_ json_t *documents = json_array();
	bool had_problem = record->problem != NULL;
	int result = 0;

	if (!documents || json_array_append(documents, (json_t *)document) < 0 ||
	    decode_documents(documents, ORIGIN, &decoded) < 0)
		return -ENOMEM;
	if (decoded.object_count == 1 && !decoded.problem_count && is_as_named(record, decoded.objects[0]))
		keep_object(record, &decoded);
	else
		result = keep_problem(record, &decoded);
	if (result < 0)
		return result;
	record->source->findings_due |= had_problem || record->problem || record->note;
	forget_note(record);
	record->note = describe_unknown_fields(&decoded.unknown_fields);
	record->source->findings_due |= record->note != NULL;
	return 0;
}

static void log_problem(const struct record *record)
{
	char problem[600];

	if (record->problem)
		log_warning("object refused", "kind=%s namespace=%s name=%s error=%s",
		            object_kind_name(record->resource->kind), record->namespace_, record->name,
		            log_quote(record->problem, problem, sizeof(problem)));
}

/* 1: it changed, 0: nothing that matters did, -ENOMEM. */
static int update_record(struct record *record, const json_t *document)
{
	uint8_t digest[DIGEST_BYTES];
	int result = kubernetes_digest(record->resource->kind, document, digest);

	if (result < 0)
		return result;
	if ((record->object || record->problem) && memcmp(digest, record->digest, sizeof(digest)) == 0)
		return 0;
	result = decode_record(record, document);
	if (result < 0)
		return result;
	memcpy(record->digest, digest, sizeof(digest));
	log_problem(record);
	return 1;
}

static void lost(struct stream *stream)
{
	stream->source->out_of_memory = true;
	log_error("no memory", "what=\"an object of %s\"", stream->resource->name);
	stream_restart(stream, RETRY_NS);
}

/* ---- what the watch tells ---- */

/*
 * A Pod that was asked for by its name and is not there: known to have no address, which is another thing than a Pod
 * that nobody has looked for yet.
 */
static void note_absent_pod(struct stream *stream)
{
	_cleanup_json_ json_t *document = NULL;
	struct record *record;

	if (stream->resource->kind != OBJECT_POD || !*stream->name || stream->records)
		return;
	document = json_pack("{s:s,s:s,s:{s:s,s:s}}", "apiVersion", "v1", "kind", "Pod", "metadata", "namespace",
	                     stream->namespace_, "name", stream->name);
	record = document ? record_new(stream, stream->namespace_, stream->name) : NULL;
	if (!record || decode_record(record, document) < 0) {
		lost(stream);
		return;
	}
	record_mark(record);
	kubernetes_source_changed(stream->source);
}

static void on_object(void *context, json_t *document)
{
	struct stream *stream = context;
	const json_t *metadata = json_object_get(document, "metadata");
	const char *namespace_ = json_string_value(json_object_get(metadata, "namespace"));
	const char *name = json_string_value(json_object_get(metadata, "name"));
	const char *version = json_string_value(json_object_get(metadata, "resourceVersion"));
	struct record *record;
	int changed;

	namespace_ = namespace_ ? namespace_ : "";
	record = record_find(stream->source, stream, namespace_, name);
	if (!record)
		record = record_new(stream, namespace_, name);
	changed = record ? 0 : -ENOMEM;
	if (record && strcmp(record->resource_version, version) != 0)
		changed = update_record(record, document);
	if (changed < 0) {
		lost(stream);
		return;
	}
	(void)snprintf(record->resource_version, sizeof(record->resource_version), "%s", version);
	record->list = stream->list;
	if (changed && record->object && !record->problem && !is_kept(stream->source, record->object)) {
		record_remove(record);
	} else if (changed) {
		record_mark(record);
		current_record_changed(stream->source, record);
	} else {
		current_record_changed(stream->source, record);
		return;
	}
	kubernetes_source_changed(stream->source);
}

static void on_removed(void *context, const char *namespace_, const char *name)
{
	struct stream *stream = context;
	struct record *record = record_find(stream->source, stream, namespace_, name);

	if (!record)
		return;
	record_remove(record);
	kubernetes_source_changed(stream->source);
	note_absent_pod(stream);
}

static void end_list(struct stream *stream)
{
	struct record *next;

	for (struct record *record = stream->records; record; record = next) {
		next = record->next;
		if (record->list == stream->list)
			continue;
		record_remove(record);
		kubernetes_source_changed(stream->source);
	}
}

static void on_list(void *context, bool begins)
{
	struct stream *stream = context;

	stream->listing = begins;
	if (begins) {
		stream->list++;
		return;
	}
	end_list(stream);
	note_absent_pod(stream);
	stream->absent = false;
	stream->absent_delay_ns = 0;
	stream->known = true;
	stream->source->references_due = true;
	kubernetes_source_progress(stream->source);
}

enum kubernetes_watch_state stream_state(const struct stream *stream)
{
	return stream->watch && !stream->absent ? kubernetes_watch_statistics(stream->watch)->state : WATCH_ABSENT;
}

const char *stream_error(const struct stream *stream)
{
	if (stream->watch && !stream->absent)
		return kubernetes_watch_statistics(stream->watch)->error;
	return "404: the API server does not serve it";
}

static void end_watch(struct stream *stream)
{
	const struct kubernetes_watch_statistics *statistics;

	if (!stream->watch)
		return;
	statistics = kubernetes_watch_statistics(stream->watch);
	stream->lists += statistics->lists;
	stream->events += statistics->events;
	stream->failures += statistics->failures;
	kubernetes_watch_free(TAKE_PTR(stream->watch));
}

static void start_watch(struct stream *stream);

/* The next version of the resource; after the last one a while passes. */
static void try_other_version(struct stream *stream)
{
	uint64_t most = stream->resource->required ? REQUIRED_MOST_NS : ABSENT_MOST_NS;

	current_stream_ends(stream->source, stream);
	end_watch(stream);
	if (stream->resource->versions[stream->version + 1]) {
		stream->version++;
		start_watch(stream);
		return;
	}
	stream->version = 0;
	stream->absent = true;
	/* What it showed stays: a server that has just started may not serve everything yet. */
	if (!stream->resource->required)
		stream->known = true;
	stream->absent_delay_ns = stream->absent_delay_ns ? 2 * stream->absent_delay_ns : ABSENT_FIRST_NS;
	if (stream->absent_delay_ns > most)
		stream->absent_delay_ns = most;
	(void)loop_timer_set(stream->source->loop, &stream->absent_timer, stream->absent_delay_ns);
	kubernetes_source_progress(stream->source);
}

static void log_state(struct stream *stream, enum kubernetes_watch_state state)
{
	const char *error = state == WATCH_WATCHING || state == WATCH_LISTING ? "" : stream_error(stream);
	char shown[300], line[sizeof(stream->state_logged)];

	if (state == WATCH_LISTING)
		return;
	(void)snprintf(line, sizeof(line), "%s %s", kubernetes_watch_state_name(state), error);
	if (strcmp(line, stream->state_logged) == 0)
		return;
	(void)snprintf(stream->state_logged, sizeof(stream->state_logged), "%s", line);
	stream->source->findings_due = true;
	if (state == WATCH_WATCHING)
		log_info("watch open", "resource=%s namespace=%s name=%s objects=%zu", stream->resource->name,
		         stream->namespace_, stream->name, stream->record_count);
	else
		log_warning("watch fails", "resource=%s namespace=%s name=%s state=%s error=%s", stream->resource->name,
		            stream->namespace_, stream->name, kubernetes_watch_state_name(state),
		            log_quote(error, shown, sizeof(shown)));
}

/* The server is there again: nobody need wait any longer to find that out. */
static void hurry_others(const struct stream *stream)
{
	for (const struct stream *other = stream->source->streams; other; other = other->next)
		if (other != stream && other->watch && kubernetes_watch_statistics(other->watch)->unreachable)
			kubernetes_watch_hurry(other->watch);
}

static void on_state(void *context)
{
	struct stream *stream = context;
	enum kubernetes_watch_state state = kubernetes_watch_statistics(stream->watch)->state;

	if (state == WATCH_ABSENT) {
		try_other_version(stream);
		log_state(stream, stream_state(stream));
		return;
	}
	if (state == WATCH_WATCHING && !*stream_error(stream))
		hurry_others(stream);
	if (state == WATCH_DENIED && !stream->resource->required)
		stream->known = true;
	if (state != WATCH_LISTING && state != WATCH_WATCHING)
		stream->source->references_due = true;
	log_state(stream, state);
	current_progress(stream->source);
	kubernetes_source_progress(stream->source);
}

static void start_watch(struct stream *stream)
{
	const struct kubernetes_watch_options options = {
	        .group = stream->resource->group,
	        .version = stream->resource->versions[stream->version],
	        .namespace_ = stream->namespace_,
	        .resource = stream->resource->name,
	        .name = stream->name,
	        .label_selector = "",
	        .field_selector = stream->field_selector,
	        .on_object = on_object,
	        .on_removed = on_removed,
	        .on_list = on_list,
	        .on_state = on_state,
	        .context = stream,
	};

	stream->watch = kubernetes_watch_new(stream->source->loop, stream->source->client, &options);
	if (stream->watch)
		return;
	log_error("no memory", "what=\"watch of %s\"", stream->resource->name);
	(void)loop_timer_set(stream->source->loop, &stream->absent_timer, ABSENT_FIRST_NS);
}

static void on_absent_timer(struct loop_timer *timer)
{
	struct stream *stream = container_of(timer, struct stream, absent_timer);

	if (!stream->watch)
		start_watch(stream);
}

void stream_restart(struct stream *stream, uint64_t delay_ns)
{
	current_stream_ends(stream->source, stream);
	end_watch(stream);
	(void)loop_timer_set(stream->source->loop, &stream->absent_timer, delay_ns);
}

struct stream *stream_new(struct kubernetes_source *source, const struct resource *resource, const char *namespace_,
                          const char *name, const char *field_selector)
{
	struct stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return NULL;
	stream->source = source;
	stream->resource = resource;
	stream->absent_timer.on_expire = on_absent_timer;
	stream->namespace_ = strdup(namespace_);
	stream->name = strdup(name);
	stream->field_selector = strdup(field_selector);
	if (!stream->namespace_ || !stream->name || !stream->field_selector) {
		stream_free(stream);
		return NULL;
	}
	start_watch(stream);
	return stream;
}

void stream_free(struct stream *stream)
{
	if (!stream)
		return;
	current_stream_ends(stream->source, stream);
	end_watch(stream);
	loop_timer_cancel(stream->source->loop, &stream->absent_timer);
	while (stream->records)
		record_remove(stream->records);
	free(stream->namespace_);
	free(stream->name);
	free(stream->field_selector);
	loop_defer_free(stream->source->loop, stream);
}
