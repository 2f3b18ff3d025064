// SPDX-License-Identifier: GPL-2.0-only
#include "kubernetes/watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "base/printable.h"
#include "kubernetes/backoff.h"
#include "kubernetes/client.h"

#define LIST_LIMIT       100u /* objects a page; fewer where they are too large for one answer */
#define LIST_MAX_PAGES   50000u
#define LIST_TIMEOUT_NS  60000000000ull
#define OPEN_TIMEOUT_NS  30000000000ull
#define IDLE_TIMEOUT_NS  150000000000ull /* bookmarks come every minute */
#define WATCH_SECONDS    300             /* the server ends a watch after these, or up to twice as many */
#define SETTLED_NS       5000000000ull   /* a watch that lived so long was no failure */
#define HASTENED_SECONDS 3               /* its bookmark comes 2 s before the end; of 2 s there would be none */
#define HASTENED_NS      2000000000ull
#define BACKOFF_MOST_NS  60000000000ull
#define AWAY_MOST_NS     30000000000ull /* a server that is not there costs nobody anything */

struct kubernetes_watch {
	struct loop *loop;
	struct kubernetes_client *client;
	struct kubernetes_watch_options options; /* the callbacks; the strings are not kept */
	char *path;                              /* with the selectors */
	struct kubernetes_request *request;      /* NULL: waiting */
	struct loop_timer timer;
	char *continue_token;     /* NULL: the first page is next */
	char *api_version, *kind; /* of the list's items, which need not say it; NULL: unknown */
	unsigned int limit, pages;
	unsigned int attempt; /* failures in a row */
	bool relist;          /* the resourceVersion is of no use */
	bool hastened;        /* the next one, or the one that is open, is a short one */
	bool freed;
	uint64_t opened_ns; /* when the watch was answered; 0: it was not */
	struct kubernetes_watch_statistics statistics;
};

const char *kubernetes_watch_state_name(enum kubernetes_watch_state state)
{
	static const char *const names[] = {
	        [WATCH_LISTING] = "listing", [WATCH_WATCHING] = "watching", [WATCH_BACKOFF] = "backoff",
	        [WATCH_DENIED] = "denied",   [WATCH_ABSENT] = "absent",
	};

	return names[state];
}

static void start(struct kubernetes_watch *watch);

static void set_state(struct kubernetes_watch *watch, enum kubernetes_watch_state state)
{
	watch->statistics.state = state;
	if (watch->options.on_state)
		watch->options.on_state(watch->options.context);
}

/* ---- failures and when to try again ---- */

static void start_later(struct kubernetes_watch *watch, uint64_t delay_ns)
{
	/* Without memory for a timer nothing would ever happen again; it is asked for once, and lives on. */
	(void)loop_timer_set(watch->loop, &watch->timer, delay_ns);
}

static void note_failure(struct kubernetes_watch *watch, int status, const char *error)
{
	struct kubernetes_watch_statistics *statistics = &watch->statistics;

	statistics->failures++;
	/* A server that was away and now answers is one that starts: soon it will refuse nothing any more. */
	if (statistics->unreachable && status)
		watch->attempt = 1;
	statistics->unreachable = status == 0;
	if (!statistics->failing_since_ns)
		statistics->failing_since_ns = monotonic_ns();
	(void)snprintf(statistics->error, sizeof(statistics->error), "%s", error);
}

static void note_recovery(struct kubernetes_watch *watch)
{
	watch->statistics.failing_since_ns = 0;
	watch->statistics.error[0] = '\0';
	watch->statistics.unreachable = false;
}

static enum kubernetes_watch_state state_of(int status)
{
	return status == 403 ? WATCH_DENIED : status == 404 ? WATCH_ABSENT : WATCH_BACKOFF;
}

static void back_off(struct kubernetes_watch *watch, enum kubernetes_watch_state state, uint64_t retry_after_ns)
{
	uint64_t delay = kubernetes_backoff_ns(++watch->attempt,
	                                       watch->statistics.unreachable ? AWAY_MOST_NS : BACKOFF_MOST_NS);

	if (delay < retry_after_ns)
		delay = retry_after_ns + kubernetes_with_jitter(retry_after_ns / 4);
	start_later(watch, delay);
	set_state(watch, state);
}

static void fail(struct kubernetes_watch *watch, int status, const char *error, uint64_t retry_after_ns)
{
	note_failure(watch, status, error);
	back_off(watch, state_of(status), retry_after_ns);
}

/* ---- objects ---- */

/* NULL: it is no text of this length. */
static const char *text_of(const json_t *map, const char *key, size_t most)
{
	const json_t *value = json_object_get(map, key);
	const char *text = json_string_value(value);

	return text && *text && strlen(text) == json_string_length(value) && strlen(text) <= most ? text : NULL;
}

#define NAME_MAX_BYTES 512 /* 253 of Kubernetes, and a ClusterTrustBundle's colons */

struct identity {
	const char *namespace_, *name, *resource_version;
};

static bool identify(const json_t *object, struct identity *identity)
{
	const json_t *metadata = json_object_get(object, "metadata");
	const json_t *namespace_ = json_object_get(metadata, "namespace");

	identity->name = text_of(metadata, "name", NAME_MAX_BYTES);
	identity->namespace_ = namespace_ ? text_of(metadata, "namespace", NAME_MAX_BYTES) : "";
	identity->resource_version = text_of(metadata, "resourceVersion",
	                                     sizeof(((struct kubernetes_watch *)0)->statistics.resource_version) - 1);
	return identity->name && identity->namespace_ && identity->resource_version;
}

static void set_version(struct kubernetes_watch *watch, const char *resource_version)
{
	struct kubernetes_watch_statistics *statistics = &watch->statistics;

	(void)snprintf(statistics->resource_version, sizeof(statistics->resource_version), "%s", resource_version);
	statistics->last_event_ns = monotonic_ns();
}

/* ---- lists ---- */

/* The items of a list need not say what they are: "ServiceList" of "v1" does. */
static int learn_kind(struct kubernetes_watch *watch, const json_t *list)
{
	const char *kind = json_string_value(json_object_get(list, "kind"));
	const char *api_version = json_string_value(json_object_get(list, "apiVersion"));
	size_t length = kind ? strlen(kind) : 0;

	free(watch->kind);
	free(watch->api_version);
	watch->kind = watch->api_version = NULL;
	if (length <= 4 || strcmp(kind + length - 4, "List") != 0 || !api_version)
		return 0;
	watch->kind = strndup(kind, length - 4);
	watch->api_version = strdup(api_version);
	return watch->kind && watch->api_version ? 0 : -ENOMEM;
}

static int fill_in_kind(const struct kubernetes_watch *watch, json_t *item)
{
	if (!watch->kind || json_object_get(item, "kind"))
		return 0;
	return json_object_set_new(item, "kind", json_string(watch->kind)) == 0 &&
	                       json_object_set_new(item, "apiVersion", json_string(watch->api_version)) == 0
	               ? 0
	               : -ENOMEM;
}

/* 0, or -1 with the reason; with watch->freed set, nothing more may be done. */
static int take_items(struct kubernetes_watch *watch, const json_t *list, char *error, size_t size)
{
	const json_t *items = json_object_get(list, "items");
	struct identity identity;
	json_t *item;
	size_t index;

	if (items && !json_is_null(items) && !json_is_array(items)) {
		(void)snprintf(error, size, "the list's items are no list");
		return -1;
	}
	json_array_foreach (items, index, item) {
		if (!identify(item, &identity)) {
			(void)snprintf(error, size, "items[%zu] of the list has no name and resourceVersion", index);
			return -1;
		}
		if (fill_in_kind(watch, item) < 0) {
			(void)snprintf(error, size, "no memory");
			return -1;
		}
		watch->options.on_object(watch->options.context, item);
		if (watch->freed)
			return -1;
	}
	return 0;
}

/* 1: there are more pages; 0: that was the last one; -1 with the reason. */
static int next_page(struct kubernetes_watch *watch, const json_t *metadata, char *error, size_t size)
{
	const char *token = json_string_value(json_object_get(metadata, "continue"));

	if (!token || !*token)
		return 0;
	if ((watch->continue_token && strcmp(watch->continue_token, token) == 0) || ++watch->pages >= LIST_MAX_PAGES) {
		(void)snprintf(error, size, "the list does not end");
		return -1;
	}
	free(watch->continue_token);
	watch->continue_token = strdup(token);
	if (watch->continue_token)
		return 1;
	(void)snprintf(error, size, "no memory");
	return -1;
}

static void forget_pages(struct kubernetes_watch *watch)
{
	free(watch->continue_token);
	watch->continue_token = NULL;
	watch->pages = 0;
}

static void list_complete(struct kubernetes_watch *watch, const char *resource_version)
{
	forget_pages(watch);
	watch->relist = false;
	watch->statistics.synced = true;
	watch->statistics.lists++;
	set_version(watch, resource_version);
	note_recovery(watch);
	if (watch->options.on_list)
		watch->options.on_list(watch->options.context, false);
	if (!watch->freed)
		start(watch);
}

/* One page. */
static void take_page(struct kubernetes_watch *watch, const json_t *list)
{
	const json_t *metadata = json_object_get(list, "metadata");
	const char *resource_version = text_of(metadata, "resourceVersion",
	                                       sizeof(watch->statistics.resource_version) - 1);
	char error[128] = "";
	int more = -1;

	if (!resource_version) {
		(void)snprintf(error, sizeof(error), "the list has no resourceVersion");
	} else if (!watch->continue_token) {
		if (learn_kind(watch, list) < 0)
			(void)snprintf(error, sizeof(error), "no memory");
		else if (watch->options.on_list)
			watch->options.on_list(watch->options.context, true);
	}
	if (watch->freed)
		return;
	if (!error[0] && take_items(watch, list, error, sizeof(error)) == 0)
		more = next_page(watch, metadata, error, sizeof(error));
	if (watch->freed)
		return;
	if (more < 0) {
		forget_pages(watch);
		fail(watch, 200, error, 0);
	} else if (more) {
		start(watch);
	} else {
		list_complete(watch, resource_version);
	}
}

/* Smaller pages, until one fits. False: one object alone is too large. */
static bool ask_for_less(struct kubernetes_watch *watch)
{
	if (watch->limit == 1)
		return false;
	watch->limit = watch->limit > 4 ? watch->limit / 4 : 1;
	return true;
}

static void on_list_answer(void *context, const struct kubernetes_answer *answer)
{
	struct kubernetes_watch *watch = context;

	watch->request = NULL;
	if (!answer->error && json_is_object(answer->body)) {
		take_page(watch, answer->body);
		return;
	}
	if (answer->error && strcmp(answer->error, KUBERNETES_TOO_LARGE) == 0 && ask_for_less(watch)) {
		note_failure(watch, 200, answer->error);
		start(watch); /* the same page */
		return;
	}
	forget_pages(watch);
	fail(watch, answer->status, answer->error ? answer->error : "the answer is no list", answer->retry_after_ns);
}

static int list_path(const struct kubernetes_watch *watch, char **path)
{
	char limit[16];

	*path = strdup(watch->path);
	if (!*path)
		return -ENOMEM;
	(void)snprintf(limit, sizeof(limit), "%u", watch->limit);
	if (kubernetes_path_add(path, "limit", limit) < 0)
		return -ENOMEM;
	return watch->continue_token ? kubernetes_path_add(path, "continue", watch->continue_token) : 0;
}

/* ---- watches ---- */

/* A stream that ended, whoever ended it: go on from where it was, unless that is gone. */
static void go_on(struct kubernetes_watch *watch, uint64_t retry_after_ns)
{
	uint64_t lived = watch->opened_ns ? monotonic_ns() - watch->opened_ns : 0;

	watch->opened_ns = 0;
	if (lived >= SETTLED_NS || (watch->hastened && lived >= HASTENED_NS))
		watch->attempt = 0;
	watch->hastened = false;
	if (!watch->attempt && !retry_after_ns) {
		watch->attempt++;
		start_later(watch, 0);
		set_state(watch, watch->relist ? WATCH_LISTING : WATCH_WATCHING);
		return;
	}
	back_off(watch, WATCH_BACKOFF, retry_after_ns);
}

static bool is_expired(const struct kubernetes_answer *answer)
{
	return answer->status == 410;
}

static void on_watch_end(void *context, const struct kubernetes_answer *answer)
{
	struct kubernetes_watch *watch = context;

	watch->request = NULL;
	if (!answer->error) {
		go_on(watch, 0);
		return;
	}
	watch->relist |= is_expired(answer) || answer->status == 403 || answer->status == 404;
	if (answer->status == 403 || answer->status == 404) {
		fail(watch, answer->status, answer->error, answer->retry_after_ns);
		return;
	}
	note_failure(watch, answer->status, answer->error);
	go_on(watch, answer->retry_after_ns);
}

/* The stream makes no sense, or says that it is over. */
static void end_stream(struct kubernetes_watch *watch, const char *error, bool relist)
{
	kubernetes_cancel(watch->request);
	watch->request = NULL;
	watch->relist |= relist;
	note_failure(watch, 200, error);
	go_on(watch, 0);
}

static void take_error(struct kubernetes_watch *watch, const json_t *status)
{
	const char *reason = json_string_value(json_object_get(status, "reason"));
	const char *message = json_string_value(json_object_get(status, "message"));
	json_int_t code = json_integer_value(json_object_get(status, "code"));
	bool expired = code == 410 || (reason && (strcmp(reason, "Expired") == 0 || strcmp(reason, "Gone") == 0));
	char error[256];

	(void)snprintf(error, sizeof(error), "the watch said %d %.60s: %.160s", (int)code, reason ? reason : "",
	               message ? message : "");
	printable_in_place(error);
	end_stream(watch, error, expired);
}

static void take_change(struct kubernetes_watch *watch, const char *type, json_t *object)
{
	struct identity identity;
	bool removed = strcmp(type, "DELETED") == 0;

	if (!removed && strcmp(type, "ADDED") != 0 && strcmp(type, "MODIFIED") != 0) {
		end_stream(watch, "an event of an unknown type", true);
		return;
	}
	if (!identify(object, &identity)) {
		end_stream(watch, "an event's object has no name and resourceVersion", true);
		return;
	}
	if (!removed && fill_in_kind(watch, object) < 0) {
		end_stream(watch, "no memory", true);
		return;
	}
	watch->statistics.events++;
	set_version(watch, identity.resource_version);
	if (removed)
		watch->options.on_removed(watch->options.context, identity.namespace_, identity.name);
	else
		watch->options.on_object(watch->options.context, object);
}

static void take_bookmark(struct kubernetes_watch *watch, const json_t *object)
{
	const char *resource_version = text_of(json_object_get(object, "metadata"), "resourceVersion",
	                                       sizeof(watch->statistics.resource_version) - 1);

	if (!resource_version) {
		end_stream(watch, "a bookmark has no resourceVersion", true);
		return;
	}
	watch->statistics.bookmarks++;
	set_version(watch, resource_version);
	if (watch->options.on_state)
		watch->options.on_state(watch->options.context);
}

static void on_event(void *context, json_t *line)
{
	struct kubernetes_watch *watch = context;
	const char *type = json_string_value(json_object_get(line, "type"));
	json_t *object = json_object_get(line, "object");

	if (!type || !json_is_object(object))
		end_stream(watch, "a line of the watch is no event", true);
	else if (strcmp(type, "ERROR") == 0)
		take_error(watch, object);
	else if (strcmp(type, "BOOKMARK") == 0)
		take_bookmark(watch, object);
	else
		take_change(watch, type, object);
}

static void on_open(void *context)
{
	struct kubernetes_watch *watch = context;

	watch->opened_ns = monotonic_ns();
	watch->statistics.watches++;
	note_recovery(watch);
	set_state(watch, WATCH_WATCHING);
}

static int watch_path(const struct kubernetes_watch *watch, char **path)
{
	uint32_t random = 0;
	char seconds[16];

	*path = strdup(watch->path);
	if (!*path)
		return -ENOMEM;
	(void)getrandom(&random, sizeof(random), GRND_NONBLOCK);
	(void)snprintf(seconds, sizeof(seconds), "%u",
	               watch->hastened ? HASTENED_SECONDS : WATCH_SECONDS + random % WATCH_SECONDS);
	return kubernetes_path_add(path, "watch", "1") < 0 ||
	                       kubernetes_path_add(path, "allowWatchBookmarks", "true") < 0 ||
	                       kubernetes_path_add(path, "resourceVersion", watch->statistics.resource_version) < 0 ||
	                       kubernetes_path_add(path, "timeoutSeconds", seconds) < 0
	               ? -ENOMEM
	               : 0;
}

/* ---- both ---- */

static int send_next(struct kubernetes_watch *watch, bool list)
{
	_cleanup_free_ char *path = NULL;
	struct kubernetes_call call = {
	        .method = "GET",
	        .timeout_ns = list ? LIST_TIMEOUT_NS : OPEN_TIMEOUT_NS,
	        .on_answer = list ? on_list_answer : on_watch_end,
	        .on_line = list ? NULL : on_event,
	        .on_open = list ? NULL : on_open,
	        .idle_timeout_ns = IDLE_TIMEOUT_NS,
	        .context = watch,
	};
	int result = list ? list_path(watch, &path) : watch_path(watch, &path);

	if (result)
		return result;
	call.path = path;
	watch->request = kubernetes_send(watch->client, &call);
	return watch->request ? 0 : -ENOMEM;
}

static void start(struct kubernetes_watch *watch)
{
	bool list = !watch->statistics.synced || watch->relist;

	loop_timer_cancel(watch->loop, &watch->timer);
	if (send_next(watch, list) < 0) {
		fail(watch, 200, "no memory", 0);
		return;
	}
	if (list && watch->statistics.state != WATCH_LISTING)
		set_state(watch, WATCH_LISTING);
}

static void on_timer(struct loop_timer *timer)
{
	start(container_of(timer, struct kubernetes_watch, timer));
}

static int add_selectors(char **path, const struct kubernetes_watch_options *options)
{
	_cleanup_free_ char *fields = NULL;

	if (asprintf(&fields, "%s%s%s%s", *options->name ? "metadata.name=" : "", options->name,
	             *options->name && *options->field_selector ? "," : "", options->field_selector) == -1) {
		fields = NULL;
		return -ENOMEM;
	}
	if (*fields && kubernetes_path_add(path, "fieldSelector", fields) < 0)
		return -ENOMEM;
	return *options->label_selector ? kubernetes_path_add(path, "labelSelector", options->label_selector) : 0;
}

struct kubernetes_watch *kubernetes_watch_new(struct loop *loop, struct kubernetes_client *client,
                                              const struct kubernetes_watch_options *options)
{
	struct kubernetes_watch *watch = calloc(1, sizeof(*watch));

	if (!watch)
		return NULL;
	watch->loop = loop;
	watch->client = client;
	watch->options = *options;
	watch->limit = LIST_LIMIT;
	watch->timer.on_expire = on_timer;
	if (kubernetes_path(options->group, options->version, options->namespace_, options->resource, "", "",
	                    &watch->path) < 0 ||
	    add_selectors(&watch->path, options) < 0 || loop_timer_set(loop, &watch->timer, 0) < 0) {
		kubernetes_watch_free(watch);
		return NULL;
	}
	return watch;
}

void kubernetes_watch_free(struct kubernetes_watch *watch)
{
	if (!watch)
		return;
	watch->freed = true;
	kubernetes_cancel(watch->request);
	loop_timer_cancel(watch->loop, &watch->timer);
	free(watch->path);
	free(watch->continue_token);
	free(watch->kind);
	free(watch->api_version);
	loop_defer_free(watch->loop, watch);
}

const struct kubernetes_watch_statistics *kubernetes_watch_statistics(const struct kubernetes_watch *watch)
{
	return &watch->statistics;
}

void kubernetes_watch_hurry(struct kubernetes_watch *watch)
{
	if (!watch->request)
		start_later(watch, 0);
}

bool kubernetes_watch_is_open(const struct kubernetes_watch *watch)
{
	return watch->request && watch->opened_ns;
}

void kubernetes_watch_hasten(struct kubernetes_watch *watch)
{
	if (!watch->request || watch->statistics.state != WATCH_WATCHING)
		return;
	kubernetes_cancel(watch->request);
	watch->request = NULL;
	watch->opened_ns = 0;
	watch->hastened = true;
	start(watch);
}
