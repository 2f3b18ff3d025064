/* SPDX-License-Identifier: GPL-2.0-only */
#include "controller/events.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/loop.h"
#include "controller/conditions.h"
#include "controller/json_cleanup.h"
#include "observe/json.h"

#define EVENTS_GROUP      "events.k8s.io"
#define REQUEST_NS        10000000000ull
#define NAME_KEPT         200 /* of the object's name, in the Event's */
#define HASH_BYTES        8
#define SWEEP_NS          10000000000ull
#define MERGE_PATCH       "application/merge-patch+json"
#define DEFAULT_NAMESPACE "default" /* of Events on objects without one */

enum event_state {
	EVENT_NEW,     /* to be made */
	EVENT_MADE,    /* it is there */
	EVENT_EXISTED, /* it was there before: how often was it counted? */
	EVENT_DROPPED, /* it was refused: not tried again */
};

struct event {
	struct event *next;
	struct events *events;
	uint8_t digest[HASH_BYTES];
	char *namespace_, *name, *uid;
	json_t *document; /* as it is made; NULL afterwards */
	enum event_state state;
	uint64_t count;   /* how often it was told */
	uint64_t written; /* as the server has it */
	uint64_t last_ns, written_ns, begun_ns;
	struct timespec last;
	struct kubernetes_request *request;
};

struct events {
	struct events_options options;
	struct event *first;
	size_t count, in_flight;
	struct loop_timer timer;
	struct events_statistics statistics;
};

static void pump(struct events *events);

/* ---- what an Event is ---- */

static void digest_of(const struct event_regarding *regarding, const char *reason, const char *note,
                      uint8_t digest[HASH_BYTES])
{
	const char *const parts[] = {regarding->uid,  regarding->kind, regarding->namespace_,
	                             regarding->name, reason,          note};
	uint8_t whole[EVP_MAX_MD_SIZE] = {0};
	EVP_MD_CTX *context = EVP_MD_CTX_new();

	/* Without memory all are one: the first is told, and the rest counted. */
	if (context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1) {
		for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
			(void)EVP_DigestUpdate(context, parts[i], strlen(parts[i]) + 1);
		(void)EVP_DigestFinal_ex(context, whole, NULL);
	}
	EVP_MD_CTX_free(context);
	memcpy(digest, whole, HASH_BYTES);
}

/* "policy.0123456789abcdef": the name of an object must end, before the dot, with a letter or digit. */
static char *name_of(const char *object, const uint8_t digest[HASH_BYTES])
{
	int length = (int)strnlen(object, NAME_KEPT);
	char hash[2 * HASH_BYTES + 1];
	char *name = NULL;

	while (length > 0 && !isalnum((unsigned char)object[length - 1]))
		length--;
	for (size_t i = 0; i < HASH_BYTES; i++)
		snprintf(hash + 2 * i, 3, "%02x", digest[i]);
	return asprintf(&name, "%.*s.%s", length, object, hash) > 0 ? name : NULL;
}

/* Cut between characters. */
static json_t *note_of(const char *note)
{
	char cut[EVENT_NOTE_MAX + 1];
	size_t length = strlen(note);

	if (length <= EVENT_NOTE_MAX)
		return json_text(note);
	length = EVENT_NOTE_MAX - 3;
	while (length > 0 && ((unsigned char)note[length] & 0xc0) == 0x80)
		length--;
	snprintf(cut, sizeof(cut), "%.*s...", (int)length, note);
	return json_text(cut);
}

static json_t *document_of(const struct events *events, const struct event *event,
                           const struct event_regarding *regarding, bool warning, const char *reason,
                           const char *action, const char *note)
{
	char now[TIME_TEXT_MAX];
	json_t *object = json_pack("{s:s, s:s, s:s, s:s*, s:s}", "apiVersion", regarding->api_version, "kind",
	                           regarding->kind, "name", regarding->name, "namespace",
	                           *regarding->namespace_ ? regarding->namespace_ : NULL, "uid", regarding->uid);

	return json_pack("{s:s, s:s, s:{s:s, s:s}, s:s, s:s, s:s, s:s, s:s, s:o, s:s, s:o}", "apiVersion",
	                 EVENTS_GROUP "/v1", "kind", "Event", "metadata", "namespace", event->namespace_, "name",
	                 event->name, "eventTime", condition_time(&event->last, true, now), "reportingController",
	                 events->options.controller, "reportingInstance", events->options.instance, "action", action,
	                 "reason", reason, "regarding", object, "type", warning ? "Warning" : "Normal", "note",
	                 note_of(note));
}

static void free_event(struct event *event)
{
	json_decref(event->document);
	free(event->namespace_);
	free(event->name);
	free(event->uid);
	free(event);
}

/* ---- requests ---- */

static void on_answer(void *context, const struct kubernetes_answer *answer)
{
	struct event *event = context;
	struct events *events = event->events;
	char error[256];

	event->request = NULL;
	events->in_flight--;
	if (event->state == EVENT_NEW && !answer->error) {
		event->state = EVENT_MADE;
		event->written = 1;
		events->statistics.told++;
	} else if (event->state == EVENT_NEW && answer->status == 409) {
		event->state = EVENT_EXISTED;
	} else if (event->state == EVENT_EXISTED && !answer->error) {
		json_int_t there =
		        json_integer_value(json_object_get(json_object_get(answer->body, "series"), "count"));

		event->state = EVENT_MADE;
		event->written = there > 1 ? (uint64_t)there : 1;
		event->count += event->written;
		event->written_ns = 0;
	} else if (event->state == EVENT_MADE && !answer->error) {
		events->statistics.counted++;
	} else {
		events->statistics.failures++;
		log_warning("event not written", "namespace=%s name=%s status=%d error=%s", event->namespace_,
		            event->name, answer->status,
		            log_quote(answer->error ? answer->error : "", error, sizeof(error)));
		/* Past its hour, or refused: the next time that it is told, it begins anew. */
		event->state = EVENT_DROPPED;
	}
	if (event->state != EVENT_NEW && event->document) {
		json_decref(event->document);
		event->document = NULL;
	}
	pump(events);
}

static int send_event(struct event *event)
{
	static const char *const methods[] = {[EVENT_NEW] = "POST", [EVENT_EXISTED] = "GET", [EVENT_MADE] = "PATCH"};
	struct events *events = event->events;
	struct kubernetes_call call = {
	        .method = methods[event->state],
	        .timeout_ns = REQUEST_NS,
	        .on_answer = on_answer,
	        .context = event,
	};
	_cleanup_json_ json_t *series = NULL;
	_cleanup_free_ char *path = NULL;
	char time[TIME_TEXT_MAX];
	int result = kubernetes_path(EVENTS_GROUP, "v1", event->namespace_, "events",
	                             event->state == EVENT_NEW ? "" : event->name, "", &path);

	if (result < 0)
		return result;
	call.path = path;
	if (event->state == EVENT_NEW) {
		call.body = event->document;
	} else if (event->state == EVENT_MADE) {
		call.content_type = MERGE_PATCH;
		call.body = series = json_pack("{s:{s:I, s:s}}", "series", "count", (json_int_t)event->count,
		                               "lastObservedTime", condition_time(&event->last, true, time));
		if (!series)
			return -ENOMEM;
		event->written = event->count;
	}
	event->written_ns = monotonic_ns();
	event->request = events->options.send(events->options.client, &call);
	if (!event->request)
		return -ENOMEM;
	events->in_flight++;
	return 0;
}

static bool is_due(const struct event *event, uint64_t now_ns)
{
	if (event->request)
		return false;
	if (event->state == EVENT_NEW || event->state == EVENT_EXISTED)
		return true;
	/* The first repeat makes a series of it. */
	return event->state == EVENT_MADE && event->count > event->written &&
	       (event->written == 1 || !event->written_ns || now_ns - event->written_ns >= EVENTS_SERIES_NS);
}

static void pump(struct events *events)
{
	uint64_t now_ns = monotonic_ns();

	for (struct event *event = events->first; event && events->in_flight < EVENTS_PARALLEL; event = event->next) {
		if (!is_due(event, now_ns))
			continue;
		if (!events->options.leads(events->options.context))
			return;
		if (send_event(event) < 0) {
			events->statistics.failures++;
			event->state = EVENT_DROPPED;
		}
	}
}

/* ---- what is remembered ---- */

static void forget_old(struct events *events, uint64_t now_ns)
{
	struct event **place = &events->first;

	while (*place) {
		struct event *event = *place;
		bool settled = !event->request && (event->state == EVENT_DROPPED ||
		                                   (event->state == EVENT_MADE && event->count == event->written));

		if (!settled || now_ns - event->last_ns < 2 * EVENTS_WINDOW_NS) {
			place = &event->next;
			continue;
		}
		*place = event->next;
		events->count--;
		free_event(event);
	}
}

static void on_sweep(struct loop_timer *timer)
{
	struct events *events = container_of(timer, struct events, timer);

	forget_old(events, monotonic_ns());
	pump(events);
	(void)loop_timer_set(events->options.loop, timer, SWEEP_NS);
}

static struct event *find(const struct events *events, const uint8_t digest[HASH_BYTES])
{
	for (struct event *event = events->first; event; event = event->next)
		if (!memcmp(event->digest, digest, HASH_BYTES))
			return event;
	return NULL;
}

static bool is_too_much(const struct events *events, const char *uid, uint64_t now_ns)
{
	size_t of_object = 0;

	for (const struct event *event = events->first; event; event = event->next)
		of_object += !strcmp(event->uid, uid) && now_ns - event->begun_ns < EVENTS_WINDOW_NS;
	return of_object >= EVENTS_PER_OBJECT || events->count >= EVENTS_KEPT;
}

static struct event *add(struct events *events, const struct event_regarding *regarding,
                         const uint8_t digest[HASH_BYTES], uint64_t now_ns)
{
	struct event *event = calloc(1, sizeof(*event)), **place = &events->first;

	if (!event)
		return NULL;
	event->events = events;
	event->begun_ns = now_ns;
	memcpy(event->digest, digest, HASH_BYTES);
	event->namespace_ = strdup(*regarding->namespace_ ? regarding->namespace_ : DEFAULT_NAMESPACE);
	event->name = name_of(regarding->name, digest);
	event->uid = strdup(regarding->uid);
	if (!event->namespace_ || !event->name || !event->uid) {
		free_event(event);
		return NULL;
	}
	while (*place)
		place = &(*place)->next;
	*place = event;
	events->count++;
	return event;
}

void events_tell(struct events *events, const struct event_regarding *regarding, bool warning, const char *reason,
                 const char *action, const char *note)
{
	uint64_t now_ns = monotonic_ns();
	uint8_t digest[HASH_BYTES];
	struct event *event;

	if (!events->options.leads(events->options.context))
		return;
	digest_of(regarding, reason, note, digest);
	event = find(events, digest);
	if (!event &&
	    (is_too_much(events, regarding->uid, now_ns) || !(event = add(events, regarding, digest, now_ns)))) {
		events->statistics.dropped++;
		return;
	}
	event->count++;
	event->last_ns = now_ns;
	clock_gettime(CLOCK_REALTIME, &event->last);
	if (event->state == EVENT_DROPPED && !event->request) {
		event->state = EVENT_NEW;
		event->count = 1;
	}
	if (event->state == EVENT_NEW && !event->document) {
		event->document = document_of(events, event, regarding, warning, reason, action, note);
		if (!event->document) {
			event->state = EVENT_DROPPED;
			events->statistics.dropped++;
		}
	}
	pump(events);
}

void events_stop(struct events *events)
{
	while (events->first) {
		struct event *event = events->first;

		events->first = event->next;
		if (event->request)
			events->options.cancel(event->request);
		free_event(event);
	}
	events->count = events->in_flight = 0;
}

struct events_statistics events_statistics(const struct events *events)
{
	return events->statistics;
}

int events_new(const struct events_options *options, struct events **result)
{
	struct events *events = calloc(1, sizeof(*events));

	if (!events)
		return -ENOMEM;
	events->options = *options;
	events->timer.on_expire = on_sweep;
	if (loop_timer_set(options->loop, &events->timer, SWEEP_NS) < 0) {
		free(events);
		return -ENOMEM;
	}
	*result = events;
	return 0;
}

void events_free(struct events *events)
{
	if (!events)
		return;
	events_stop(events);
	loop_timer_cancel(events->options.loop, &events->timer);
	free(events);
}
