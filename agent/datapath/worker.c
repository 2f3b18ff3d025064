/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/worker.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/failures.h"
#include "base/log.h"
#include "datapath/hooks.h"
#include "datapath/worker_internal.h"

/* Relay before handshakes: so much of each round may go into handshake steps. */
#define HANDSHAKE_BUDGET_NS 500000ull
#define LIST_LIMIT_SECONDS  1

/* ---- what the files of a worker share ---- */

void worker_report(struct worker *worker, const struct worker_gateway *gateway, uint16_t gateway_port,
                   const struct postern_destination_key *destination, const char *policy, enum postern_reason reason,
                   const char *detail)
{
	struct failure failure = {
	        .gateway_port = gateway_port,
	        .destination = *destination,
	        .reason = reason,
	};

	snprintf(failure.gateway, sizeof(failure.gateway), "%s", gateway->gateway->name);
	snprintf(failure.policy, sizeof(failure.policy), "%s", policy);
	snprintf(failure.detail, sizeof(failure.detail), "%s", detail);
	failures_add(worker->options.failures, &failure);
}

struct worker_gateway *worker_find_gateway(struct worker *worker, uint32_t gateway_id)
{
	for (struct worker_gateway *gateway = worker->gateways; gateway; gateway = gateway->next) {
		if (gateway->gateway->id == gateway_id)
			return gateway;
	}
	return NULL;
}

struct worker_listener *worker_find_listener(struct worker *worker, uint64_t listener_cookie)
{
	for (struct worker_gateway *gateway = worker->gateways; gateway; gateway = gateway->next) {
		for (size_t i = 0; i < gateway->listener_count; i++) {
			const struct gateway_listener *listener = gateway->listeners[i].listener;

			if (listener->cookie_v4 == listener_cookie || listener->cookie_v6 == listener_cookie)
				return &gateway->listeners[i];
		}
	}
	return NULL;
}

/* ---- the ring ---- */

static int on_record(void *context, void *data, size_t size)
{
	struct worker *worker = context;
	const struct postern_record_header *header = data;

	if (size < sizeof(*header)) {
		failures_count(worker->options.failures, REASON_INTERNAL);
		return 0;
	}
	switch ((enum postern_record_type)header->type) {
	case POSTERN_RECORD_SYN:
		if (size >= sizeof(struct postern_syn_record))
			attempt_on_syn(worker, data);
		return 0;
	case POSTERN_RECORD_CONNECT:
		if (size >= sizeof(struct postern_connect_record))
			attempt_on_connect(worker, data);
		return 0;
	case POSTERN_RECORD_GONE:
		if (size >= sizeof(struct postern_connect_record))
			attempt_on_gone(worker, data);
		return 0;
	case POSTERN_RECORD_CLOSED:
		if (size >= sizeof(struct postern_connect_record))
			lane_slot_closed(worker, data);
		return 0;
	}
	failures_count(worker->options.failures, REASON_INTERNAL);
	return 0;
}

static void on_ring(struct loop_source *source, uint32_t events)
{
	struct worker *worker = container_of(source, struct worker, ring_source);
	int count = ring_buffer__consume(worker->ring);

	(void)events;
	if (count < 0)
		log_error("ring unreadable", "worker=%u error=\"%s\"", worker->options.index, strerror(-count));
}

static void on_round_end(void *context)
{
	struct worker *worker = context;

	if (dial_run_handshakes(worker, HANDSHAKE_BUDGET_NS))
		loop_wake(worker->loop);
}

/* ---- the inbox ---- */

static void on_wake(void *context)
{
	struct worker *worker = context;
	struct inbox_message *message;

	pthread_mutex_lock(&worker->inbox_lock);
	message = worker->inbox_head;
	worker->inbox_head = NULL;
	worker->inbox_tail = NULL;
	pthread_mutex_unlock(&worker->inbox_lock);
	while (message) {
		struct inbox_message *next = message->next;

		message->run(worker, message);
		message = next;
	}
}

static void post(struct worker *worker, struct inbox_message *message)
{
	message->next = NULL;
	pthread_mutex_lock(&worker->inbox_lock);
	if (worker->inbox_tail)
		worker->inbox_tail->next = message;
	else
		worker->inbox_head = message;
	worker->inbox_tail = message;
	pthread_mutex_unlock(&worker->inbox_lock);
	loop_wake(worker->loop);
}

/* In the worker: the answer is there; or nobody waits for it any more, and the message is ours to free. */
static void finish(struct worker *worker, struct inbox_message *message)
{
	bool abandoned;

	pthread_mutex_lock(&worker->inbox_lock);
	message->done = true;
	abandoned = message->abandoned;
	pthread_cond_broadcast(&worker->inbox_done);
	pthread_mutex_unlock(&worker->inbox_lock);
	if (abandoned)
		free(message);
}

/* In the control thread. limit_seconds 0: as long as it takes. 0, or -ETIMEDOUT: the message is no longer the caller's.
 */
static int post_and_wait(struct worker *worker, struct inbox_message *message, time_t limit_seconds)
{
	struct timespec until;
	int error = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += limit_seconds;
	post(worker, message);
	pthread_mutex_lock(&worker->inbox_lock);
	while (!message->done && error == 0) {
		if (limit_seconds)
			error = -pthread_cond_timedwait(&worker->inbox_done, &worker->inbox_lock, &until);
		else
			pthread_cond_wait(&worker->inbox_done, &worker->inbox_lock);
	}
	if (message->done)
		error = 0;
	else
		message->abandoned = true;
	pthread_mutex_unlock(&worker->inbox_lock);
	return error;
}

/* ---- gateways ---- */

struct gateway_message {
	struct inbox_message inbox;
	const struct gateway *gateway;
	int error;
};

static void on_listener(struct worker_listener *listener, struct loop_source *source)
{
	release_accept(listener, source->fd);
}

static void on_listener_v4(struct loop_source *source, uint32_t events)
{
	(void)events;
	on_listener(container_of(source, struct worker_listener, source_v4), source);
}

static void on_listener_v6(struct loop_source *source, uint32_t events)
{
	(void)events;
	on_listener(container_of(source, struct worker_listener, source_v6), source);
}

static void remove_listeners(struct worker *worker, struct worker_gateway *gateway)
{
	for (size_t i = 0; i < gateway->listener_count; i++) {
		loop_remove(worker->loop, &gateway->listeners[i].source_v4);
		loop_remove(worker->loop, &gateway->listeners[i].source_v6);
	}
}

static int add_gateway(struct worker *worker, const struct gateway *gateway)
{
	struct worker_gateway *added;

	added = calloc(1, sizeof(*added) + gateway->listener_count * sizeof(added->listeners[0]));
	if (!added)
		return -ENOMEM;
	added->gateway = gateway;
	for (size_t i = 0; i < gateway->listener_count; i++) {
		const struct gateway_listener *listener = &gateway->listeners[i];
		struct worker_listener *mine = &added->listeners[added->listener_count];
		int error = 0;

		if (listener->worker != worker->options.index)
			continue;
		mine->worker = worker;
		mine->gateway = added;
		mine->listener = listener;
		mine->source_v4.on_event = on_listener_v4;
		mine->source_v6.on_event = on_listener_v6;
		added->listener_count++;
		error = loop_add(worker->loop, &mine->source_v4, listener->fd_v4, EPOLLIN);
		if (!error && listener->fd_v6 >= 0)
			error = loop_add(worker->loop, &mine->source_v6, listener->fd_v6, EPOLLIN);
		if (error) {
			remove_listeners(worker, added);
			free(added);
			return error;
		}
	}
	added->next = worker->gateways;
	worker->gateways = added;
	return 0;
}

static void run_add_gateway(struct worker *worker, struct inbox_message *inbox)
{
	struct gateway_message *message = container_of(inbox, struct gateway_message, inbox);

	message->error = add_gateway(worker, message->gateway);
	finish(worker, inbox);
}

static void drop_attempt(struct attempt *attempt, void *context)
{
	(void)context;
	attempt_refuse(attempt, REASON_GATEWAY_REMOVED, "");
	attempt_free(attempt);
}

static void run_remove_gateway(struct worker *worker, struct inbox_message *inbox)
{
	struct gateway_message *message = container_of(inbox, struct gateway_message, inbox);

	for (struct worker_gateway **link = &worker->gateways; *link; link = &(*link)->next) {
		struct worker_gateway *gateway = *link;

		if (gateway->gateway != message->gateway)
			continue;
		remove_listeners(worker, gateway);
		attempt_for_each(worker, gateway, drop_attempt, NULL);
		connection_abort_all(worker, gateway, REASON_GATEWAY_REMOVED);
		*link = gateway->next;
		loop_defer_free(worker->loop, gateway);
		break;
	}
	finish(worker, inbox);
}

static int change_gateway(struct worker *worker, const struct gateway *gateway,
                          void (*run)(struct worker *worker, struct inbox_message *inbox))
{
	struct gateway_message message = {.inbox.run = run, .gateway = gateway};

	post_and_wait(worker, &message.inbox, 0);
	return message.error;
}

int worker_add_gateway(struct worker *worker, const struct gateway *gateway)
{
	return change_gateway(worker, gateway, run_add_gateway);
}

int worker_remove_gateway(struct worker *worker, const struct gateway *gateway)
{
	return change_gateway(worker, gateway, run_remove_gateway);
}

/* ---- what the control thread says ---- */

struct hold_message {
	struct inbox_message inbox;
	uint64_t as_of_ns;
};

static void decide_held(struct attempt *attempt, void *context)
{
	const struct hold_message *message = context;

	if (attempt->state == ATTEMPT_WAITING)
		attempt_decide(attempt, message->as_of_ns);
}

static void run_hold_answered(struct worker *worker, struct inbox_message *inbox)
{
	struct hold_message *message = container_of(inbox, struct hold_message, inbox);

	attempt_for_each(worker, NULL, decide_held, message);
	free(message);
}

void worker_hold_answered(struct worker *worker, uint64_t as_of_ns)
{
	struct hold_message *message = calloc(1, sizeof(*message));

	if (!message)
		return; /* the held attempts run into their limit, and are refused with it as the reason */
	message->inbox.run = run_hold_answered;
	message->as_of_ns = as_of_ns;
	post(worker, &message->inbox);
}

static void run_policy_changed(struct worker *worker, struct inbox_message *inbox)
{
	connection_policy_changed(worker);
	free(inbox);
}

void worker_policy_changed(struct worker *worker)
{
	struct inbox_message *message = calloc(1, sizeof(*message));

	if (!message) {
		log_error("no memory", "what=\"telling a worker of a new policy\" worker=%u", worker->options.index);
		return;
	}
	message->run = run_policy_changed;
	post(worker, message);
}

struct list_message {
	struct inbox_message inbox;
	struct connection_view *views;
	size_t count;
	int error;
};

static void run_list(struct worker *worker, struct inbox_message *inbox)
{
	struct list_message *message = container_of(inbox, struct list_message, inbox);
	struct connection_view *views = NULL;

	message->error = connection_list(worker, &views, &message->count);
	message->views = views;
	pthread_mutex_lock(&worker->inbox_lock);
	if (message->inbox.abandoned)
		message->views = NULL;
	else
		views = NULL;
	pthread_mutex_unlock(&worker->inbox_lock);
	free(views);
	finish(worker, inbox);
}

int worker_list_connections(struct worker *worker, struct connection_view **views, size_t *count)
{
	struct list_message *message = calloc(1, sizeof(*message));
	int error;

	if (!message)
		return -ENOMEM;
	message->inbox.run = run_list;
	error = post_and_wait(worker, &message->inbox, LIST_LIMIT_SECONDS);
	if (error)
		return -ETIMEDOUT;
	error = message->error;
	if (!error) {
		*views = message->views;
		*count = message->count;
	}
	free(message);
	return error;
}

void worker_statistics(struct worker *worker, struct worker_statistics *statistics)
{
#define READ(field) atomic_load_explicit(&worker->statistics.field, memory_order_relaxed)
	*statistics = (struct worker_statistics){
	        .attempts = READ(attempts),
	        .attempts_live = READ(attempts_live),
	        .connections = READ(connections),
	        .connections_live = READ(connections_live),
	        .handshakes_full = READ(handshakes_full),
	        .handshakes_resumed = READ(handshakes_resumed),
	        .bytes_to_backend = READ(bytes_to_backend),
	        .bytes_to_gateway = READ(bytes_to_gateway),
	        .tickets_dropped = READ(tickets_dropped),
	        .lane_connections = READ(lane_connections),
	};
#undef READ
}

/* ---- life ---- */

static void *run(void *argument)
{
	struct worker *worker = argument;
	int error;

	loop_set_wake(worker->loop, on_wake, worker);
	loop_set_idle(worker->loop, on_round_end, worker);
	error = loop_run(worker->loop);
	if (error)
		log_error("worker ended", "worker=%u error=\"%s\"", worker->options.index, strerror(-error));
	return NULL;
}

/* The slots are shared out evenly, so that no worker needs a lock for its own. */
static int take_lane_slots(struct worker *worker, unsigned int worker_count)
{
	uint32_t share = POSTERN_MAX_LANE_SLOTS / worker_count;
	uint32_t first = worker->options.index * share;

	worker->free_slots = calloc(share, sizeof(uint32_t));
	worker->slot_states = calloc(POSTERN_MAX_LANE_SLOTS, sizeof(struct lane_slot_state));
	if (!worker->free_slots || !worker->slot_states)
		return -ENOMEM;
	for (uint32_t i = 0; i < share; i++)
		worker->free_slots[worker->free_slot_count++] = first + share - 1 - i;
	return 0;
}

static int start(struct worker *worker)
{
	sigset_t all;
	sigset_t before;
	int error = loop_new(&worker->loop);

	if (!error)
		error = relay_worker_init(&worker->relay, worker->loop, &kernel_io_system);
	if (error)
		return error;
	worker->relay.timeouts = worker->options.timeouts;
	error = take_lane_slots(worker, worker->options.worker_count);
	if (error)
		return error;
	worker->ring = ring_buffer__new(hooks_ring_fd(worker->options.hooks, worker->options.index), on_record, worker,
	                                NULL);
	if (!worker->ring)
		return -errno;
	worker->ring_source.on_event = on_ring;
	error = loop_add(worker->loop, &worker->ring_source, ring_buffer__epoll_fd(worker->ring), EPOLLIN);
	if (error)
		return error;
	/* Signals are the control thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = -pthread_create(&worker->thread, NULL, run, worker);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	worker->thread_runs = error == 0;
	return error;
}

int worker_start(const struct worker_options *options, struct worker **result)
{
	struct worker *worker = calloc(1, sizeof(*worker));
	pthread_condattr_t attributes;
	int error;

	if (!worker)
		return -ENOMEM;
	worker->options = *options;
	pthread_mutex_init(&worker->inbox_lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&worker->inbox_done, &attributes);
	pthread_condattr_destroy(&attributes);
	error = start(worker);
	if (error) {
		worker_stop(worker);
		return error;
	}
	*result = worker;
	return 0;
}

static void run_stop(struct worker *worker, struct inbox_message *inbox)
{
	attempt_for_each(worker, NULL, drop_attempt, NULL);
	connection_abort_all(worker, NULL, REASON_GATEWAY_REMOVED);
	loop_stop(worker->loop);
	finish(worker, inbox);
}

void worker_stop(struct worker *worker)
{
	struct inbox_message message = {.run = run_stop};

	if (!worker)
		return;
	if (worker->thread_runs) {
		post_and_wait(worker, &message, 0);
		pthread_join(worker->thread, NULL);
	}
	/* Messages that came after the last round. */
	while (worker->inbox_head) {
		struct inbox_message *next = worker->inbox_head->next;

		free(worker->inbox_head);
		worker->inbox_head = next;
	}
	while (worker->gateways) {
		struct worker_gateway *next = worker->gateways->next;

		free(worker->gateways);
		worker->gateways = next;
	}
	if (worker->relay.buffer)
		relay_worker_destroy(&worker->relay);
	ring_buffer__free(worker->ring);
	loop_free(worker->loop);
	free(worker->free_slots);
	free(worker->slot_states);
	pthread_cond_destroy(&worker->inbox_done);
	pthread_mutex_destroy(&worker->inbox_lock);
	free(worker);
}
