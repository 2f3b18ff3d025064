/* SPDX-License-Identifier: GPL-2.0-only */
#include "controller/status_writer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/log.h"
#include "base/loop.h"
#include "controller/conditions.h"
#include "controller/json_cleanup.h"
#include "controller/pod_readiness.h"
#include "controller/policy_status.h"
#include "controller/startup_taint.h"
#include "policy/table.h"

#define GATEWAY_GROUP   "gateway.networking.k8s.io"
#define STRATEGIC_PATCH "application/strategic-merge-patch+json"
#define MERGE_PATCH     "application/merge-patch+json"

#define MILLISECOND    1000000ull
#define SECOND         1000000000ull
#define REQUEST_NS     (10 * SECOND)
#define CONFLICT_NS    (100 * MILLISECOND)
#define FAILURE_NS     SECOND
#define BACKOFF_MAX_NS (60 * SECOND)
#define DENIED_NS      (60 * SECOND)
#define INVALID_NS     (300 * SECOND)

enum subject_state {
	SUBJECT_IDLE,
	SUBJECT_QUEUED,
	SUBJECT_READING,
	SUBJECT_WRITING,
	SUBJECT_WAITING,
};

struct subject {
	struct table_node node; /* the first member */
	struct status_writer *writer;
	struct subject *all_next, *queue_next;
	enum written_kind kind;
	char *namespace_, *name;
	json_t *wanted;
	uint64_t seen, round;
	enum subject_state state;
	bool again;   /* something else is wanted than when its request began */
	bool refused; /* it waits because of what is wanted, or of RBAC */
	unsigned int tries;
	struct kubernetes_request *request;
	json_t *before, *after; /* while WRITING */
	struct loop_timer timer;
};

struct status_writer {
	struct status_writer_options options;
	struct table table;
	struct subject *all;
	struct subject *queue, **queue_end;
	uint64_t round;
	bool leads;
	double tokens;
	uint64_t tokens_ns;
	struct loop_timer timer; /* for a token */
	struct status_writer_statistics statistics;
};

static int merge_node(json_t *node, const json_t *wanted, const char *now)
{
	(void)now;
	return startup_taint_merge(node, wanted);
}

static const struct {
	const char *name, *group, *resource, *subresource;
	int (*merge)(json_t *object, const json_t *wanted, const char *now); /* 1: write it; 0, -ESTALE, -ENOMEM */
	json_t *(*patch)(const json_t *object);                              /* NULL: the whole object is put */
	const char *patch_type;
} kinds[WRITTEN_KINDS] = {
        [WRITTEN_POLICY] = {"BackendTLSPolicy", GATEWAY_GROUP, "backendtlspolicies", "status", policy_status_merge},
        [WRITTEN_GATEWAY] = {"Gateway", GATEWAY_GROUP, "gateways", "status", object_conditions_merge},
        [WRITTEN_GATEWAY_CLASS] = {"GatewayClass", GATEWAY_GROUP, "gatewayclasses", "status", object_conditions_merge},
        [WRITTEN_POD] = {"Pod", "", "pods", "status", pod_readiness_merge, pod_readiness_patch, STRATEGIC_PATCH},
        [WRITTEN_NODE] = {"Node", "", "nodes", "", merge_node, startup_taint_patch, MERGE_PATCH},
};

const char *written_kind_name(enum written_kind kind)
{
	return kind < WRITTEN_KINDS ? kinds[kind].name : "unknown";
}

static void pump(struct status_writer *writer);

/* ---- the queue ---- */

static void enqueue(struct subject *subject)
{
	struct status_writer *writer = subject->writer;

	subject->state = SUBJECT_QUEUED;
	subject->queue_next = NULL;
	*writer->queue_end = subject;
	writer->queue_end = &subject->queue_next;
	writer->statistics.queued++;
}

static void dequeue(struct subject *subject)
{
	struct status_writer *writer = subject->writer;
	struct subject **place = &writer->queue;

	while (*place && *place != subject)
		place = &(*place)->queue_next;
	if (!*place)
		return;
	*place = subject->queue_next;
	if (writer->queue_end == &subject->queue_next)
		writer->queue_end = place;
	writer->statistics.queued--;
	subject->state = SUBJECT_IDLE;
}

/* Leave whatever it is doing. */
static void stop(struct subject *subject)
{
	struct status_writer *writer = subject->writer;

	switch (subject->state) {
	case SUBJECT_QUEUED:
		dequeue(subject);
		break;
	case SUBJECT_READING:
	case SUBJECT_WRITING:
		writer->options.cancel(subject->request);
		writer->statistics.in_flight--;
		break;
	case SUBJECT_WAITING:
		loop_timer_cancel(writer->options.loop, &subject->timer);
		writer->statistics.waiting--;
		break;
	case SUBJECT_IDLE:
		break;
	}
	subject->request = NULL;
	subject->state = SUBJECT_IDLE;
	json_decref(subject->before);
	json_decref(subject->after);
	subject->before = subject->after = NULL;
}

/* Half of it by chance, so that many do not come back at once. */
static uint64_t jitter(uint64_t ns)
{
	uint32_t random = 0;

	(void)getrandom(&random, sizeof(random), GRND_NONBLOCK);
	return ns / 2 + (uint64_t)((double)ns / 2 * random / UINT32_MAX);
}

static uint64_t backoff(uint64_t base_ns, unsigned int tries)
{
	uint64_t ns = tries < 16 ? base_ns << tries : BACKOFF_MAX_NS;

	return jitter(ns < BACKOFF_MAX_NS ? ns : BACKOFF_MAX_NS);
}

static void wait_for(struct subject *subject, uint64_t ns, bool refused)
{
	struct status_writer *writer = subject->writer;

	subject->tries++;
	subject->refused = refused;
	subject->state = SUBJECT_WAITING;
	writer->statistics.waiting++;
	if (loop_timer_set(writer->options.loop, &subject->timer, ns) == 0)
		return;
	writer->statistics.waiting--;
	enqueue(subject);
}

static void on_waited(struct loop_timer *timer)
{
	struct subject *subject = container_of(timer, struct subject, timer);

	subject->writer->statistics.waiting--;
	enqueue(subject);
	pump(subject->writer);
}

static void on_token(struct loop_timer *timer)
{
	pump(container_of(timer, struct status_writer, timer));
}

/* ---- requests ---- */

static void done(struct subject *subject)
{
	subject->state = SUBJECT_IDLE;
	subject->tries = 0;
	if (subject->again)
		enqueue(subject);
	subject->again = false;
}

/* Its request has ended, one way or the other. */
static void finish_request(struct subject *subject)
{
	subject->request = NULL;
	subject->state = SUBJECT_IDLE;
	subject->writer->statistics.in_flight--;
}

static void fail(struct subject *subject, const struct kubernetes_answer *answer)
{
	struct status_writer_statistics *statistics = &subject->writer->statistics;
	const char *error = answer->error ? answer->error : "no body";
	char quoted[256];

	if (answer->status == 404) {
		statistics->gone++;
		done(subject);
		return;
	}
	if (answer->status == 409) {
		statistics->conflicts++;
		wait_for(subject, backoff(CONFLICT_NS, subject->tries), false);
		return;
	}
	snprintf(statistics->last_error, sizeof(statistics->last_error), "%s %s%s%s: %s", kinds[subject->kind].name,
	         subject->namespace_, *subject->namespace_ ? "/" : "", subject->name, error);
	log_warning("status not written", "kind=%s namespace=%s name=%s status=%d error=%s", kinds[subject->kind].name,
	            subject->namespace_, subject->name, answer->status, log_quote(error, quoted, sizeof(quoted)));
	if (answer->status == 401 || answer->status == 403) {
		statistics->denied++;
		wait_for(subject, jitter(DENIED_NS * 2), true);
	} else if (answer->status == 400 || answer->status == 413 || answer->status == 422) {
		statistics->invalid++;
		wait_for(subject, jitter(INVALID_NS * 2), true);
	} else {
		statistics->failures++;
		wait_for(subject, answer->retry_after_ns ? answer->retry_after_ns : backoff(FAILURE_NS, subject->tries),
		         false);
	}
}

static int send_request(struct subject *subject, const char *method, const char *subresource, const json_t *body,
                        void (*on_answer)(void *context, const struct kubernetes_answer *answer))
{
	struct status_writer *writer = subject->writer;
	struct kubernetes_call call = {
	        .method = method,
	        .content_type = body ? kinds[subject->kind].patch_type : NULL,
	        .body = body,
	        .timeout_ns = REQUEST_NS,
	        .on_answer = on_answer,
	        .context = subject,
	};
	_cleanup_free_ char *path = NULL;
	int result = kubernetes_path(kinds[subject->kind].group, "v1", subject->namespace_,
	                             kinds[subject->kind].resource, subject->name, subresource, &path);

	if (result < 0)
		return result;
	call.path = path;
	subject->request = writer->options.send(writer->options.client, &call);
	return subject->request ? 0 : -ENOMEM;
}

static const struct kubernetes_answer no_memory = {.error = "no memory"};

static void on_put(void *context, const struct kubernetes_answer *answer)
{
	struct subject *subject = context;
	struct status_writer *writer = subject->writer;
	_cleanup_json_ json_t *before = TAKE_PTR(subject->before), *after = TAKE_PTR(subject->after);

	finish_request(subject);
	if (answer->error) {
		fail(subject, answer);
	} else {
		writer->statistics.writes++;
		writer->statistics.last_error[0] = '\0';
		done(subject);
		writer->options.on_written(writer->options.context, subject->kind, before, after);
	}
	pump(writer);
}

static int merge(enum written_kind kind, json_t *object, const json_t *wanted)
{
	char now[TIME_TEXT_MAX];
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	condition_time(&time, false, now);
	return kinds[kind].merge(object, wanted, now);
}

static int send_change(struct subject *subject, const json_t *after)
{
	json_t *(*make_patch)(const json_t *object) = kinds[subject->kind].patch;
	_cleanup_json_ json_t *patch = NULL;

	if (!make_patch)
		return send_request(subject, "PUT", kinds[subject->kind].subresource, after, on_put);
	patch = make_patch(after);
	return patch ? send_request(subject, "PATCH", kinds[subject->kind].subresource, patch, on_put) : -ENOMEM;
}

/* What was read differs from what is wanted. Takes after. */
static void put(struct subject *subject, json_t *before, json_t *after)
{
	struct status_writer *writer = subject->writer;

	/* Not ours to write any more: status_writer_lead() is on its way. */
	if (!writer->options.leads(writer->options.context)) {
		json_decref(after);
		return;
	}
	if (send_change(subject, after) < 0) {
		json_decref(after);
		fail(subject, &no_memory);
		return;
	}
	subject->before = json_incref(before);
	subject->after = after;
	subject->state = SUBJECT_WRITING;
	writer->statistics.in_flight++;
}

static void on_get(void *context, const struct kubernetes_answer *answer)
{
	struct subject *subject = context;
	struct status_writer *writer = subject->writer;
	_cleanup_json_ json_t *after = NULL;
	int result;

	finish_request(subject);
	if (answer->error || !answer->body) {
		fail(subject, answer);
		pump(writer);
		return;
	}
	/* What is wanted now counts, not what was when it was asked for. */
	subject->again = false;
	after = json_deep_copy(answer->body);
	result = after ? merge(subject->kind, after, subject->wanted) : -ENOMEM;
	if (result == 1) {
		put(subject, answer->body, TAKE_PTR(after));
	} else if (result == -ENOMEM) {
		fail(subject, &no_memory);
	} else {
		writer->statistics.unchanged += result == 0;
		writer->statistics.stale += result < 0;
		done(subject);
	}
	pump(writer);
}

static void start(struct subject *subject)
{
	subject->again = false;
	if (send_request(subject, "GET", "", NULL, on_get) < 0) {
		fail(subject, &no_memory);
		return;
	}
	subject->state = SUBJECT_READING;
	subject->writer->statistics.in_flight++;
	subject->writer->statistics.reads++;
}

static bool take_token(struct status_writer *writer)
{
	uint64_t now_ns = monotonic_ns();

	writer->tokens += (double)(now_ns - writer->tokens_ns) * STATUS_WRITER_RATE / 1e9;
	if (writer->tokens > STATUS_WRITER_RATE)
		writer->tokens = STATUS_WRITER_RATE;
	writer->tokens_ns = now_ns;
	if (writer->tokens < 1)
		return false;
	writer->tokens -= 1;
	return true;
}

static void pump(struct status_writer *writer)
{
	while (writer->queue && writer->statistics.in_flight < STATUS_WRITER_PARALLEL) {
		struct subject *subject = writer->queue;

		if (!writer->leads || !writer->options.leads(writer->options.context))
			return;
		if (!take_token(writer)) {
			(void)loop_timer_set(writer->options.loop, &writer->timer, SECOND / STATUS_WRITER_RATE);
			return;
		}
		dequeue(subject);
		start(subject);
	}
}

/* ---- what is wanted ---- */

static struct subject *find(struct status_writer *writer, enum written_kind kind, const char *namespace_,
                            const char *name, uint64_t hash)
{
	for (struct table_node *node = table_first(&writer->table, hash); node; node = table_next(node)) {
		struct subject *subject = container_of(node, struct subject, node);

		if (subject->kind == kind && !strcmp(subject->namespace_, namespace_) && !strcmp(subject->name, name))
			return subject;
	}
	return NULL;
}

static void free_subject(struct subject *subject)
{
	json_decref(subject->wanted);
	free(subject->namespace_);
	free(subject->name);
	free(subject);
}

static struct subject *add(struct status_writer *writer, enum written_kind kind, const char *namespace_,
                           const char *name, uint64_t hash)
{
	struct subject *subject = calloc(1, sizeof(*subject));

	if (!subject)
		return NULL;
	subject->writer = writer;
	subject->kind = kind;
	subject->timer.on_expire = on_waited;
	subject->namespace_ = strdup(namespace_);
	subject->name = strdup(name);
	if (!subject->namespace_ || !subject->name || table_reserve(&writer->table) < 0) {
		free_subject(subject);
		return NULL;
	}
	table_insert(&writer->table, &subject->node, hash);
	subject->all_next = writer->all;
	writer->all = subject;
	writer->statistics.objects++;
	return subject;
}

static void look_again(struct subject *subject)
{
	subject->again = subject->state == SUBJECT_READING || subject->state == SUBJECT_WRITING;
	if (subject->state == SUBJECT_WAITING && subject->refused)
		stop(subject);
	if (subject->state == SUBJECT_IDLE && subject->writer->leads)
		enqueue(subject);
}

void status_writer_begin(struct status_writer *writer)
{
	writer->round++;
}

int status_writer_want(struct status_writer *writer, enum written_kind kind, const char *namespace_, const char *name,
                       json_t *wanted, uint64_t seen)
{
	uint64_t hash = table_hash_names(namespace_, name, kind);
	struct subject *subject = find(writer, kind, namespace_, name, hash);
	bool same = subject && wanted && subject->seen == seen && json_equal(subject->wanted, wanted);

	if (!subject && wanted)
		subject = add(writer, kind, namespace_, name, hash);
	if (!subject || !wanted) {
		if (subject)
			subject->round = writer->round;
		json_decref(wanted);
		return -ENOMEM;
	}
	subject->round = writer->round;
	if (same) {
		json_decref(wanted);
		return 0;
	}
	json_decref(subject->wanted);
	subject->wanted = wanted;
	subject->seen = seen;
	look_again(subject);
	return 0;
}

void status_writer_end(struct status_writer *writer)
{
	struct subject **place = &writer->all;

	while (*place) {
		struct subject *subject = *place;

		if (subject->round == writer->round) {
			place = &subject->all_next;
			continue;
		}
		*place = subject->all_next;
		stop(subject);
		table_remove(&writer->table, &subject->node);
		writer->statistics.objects--;
		free_subject(subject);
	}
	pump(writer);
}

void status_writer_lead(struct status_writer *writer, bool leads)
{
	if (writer->leads == leads)
		return;
	writer->leads = leads;
	for (struct subject *subject = writer->all; subject; subject = subject->all_next) {
		stop(subject);
		subject->tries = 0;
		subject->again = false;
		if (leads)
			enqueue(subject);
	}
	pump(writer);
}

struct status_writer_statistics status_writer_statistics(const struct status_writer *writer)
{
	return writer->statistics;
}

int status_writer_new(const struct status_writer_options *options, struct status_writer **result)
{
	struct status_writer *writer = calloc(1, sizeof(*writer));

	if (!writer)
		return -ENOMEM;
	writer->options = *options;
	writer->queue_end = &writer->queue;
	writer->tokens = STATUS_WRITER_RATE;
	writer->tokens_ns = monotonic_ns();
	writer->timer.on_expire = on_token;
	*result = writer;
	return 0;
}

void status_writer_free(struct status_writer *writer)
{
	if (!writer)
		return;
	status_writer_lead(writer, false);
	loop_timer_cancel(writer->options.loop, &writer->timer);
	status_writer_begin(writer);
	status_writer_end(writer);
	table_free(&writer->table, NULL);
	free(writer);
}
