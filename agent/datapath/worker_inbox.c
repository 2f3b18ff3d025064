/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the control thread asks of a worker: a short queue and a wake-up; each message runs in the worker's thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/cleanup.h"
#include "datapath/traffic.h"
#include "datapath/worker_internal.h"

/* ---- the queue ---- */

void worker_run_inbox(struct worker *worker)
{
	struct inbox_message *message;
	bool policy_changed;

	pthread_mutex_lock(&worker->inbox_lock);
	message = worker->inbox_head;
	worker->inbox_head = NULL;
	worker->inbox_tail = NULL;
	policy_changed = worker->policy_changed;
	worker->policy_changed = false;
	pthread_mutex_unlock(&worker->inbox_lock);
	if (policy_changed) {
		attempt_policy_changed(worker);
		connection_policy_changed(worker);
	}
	while (message) {
		struct inbox_message *next = message->next;

		message->run(worker, message);
		message = next;
	}
}

void worker_post(struct worker *worker, struct inbox_message *message)
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

static void drop(struct inbox_message *message)
{
	if (message->drop)
		message->drop(message);
	else
		free(message);
}

void worker_drop_inbox(struct worker *worker)
{
	while (worker->inbox_head) {
		struct inbox_message *next = worker->inbox_head->next;

		drop(worker->inbox_head);
		worker->inbox_head = next;
	}
	worker->inbox_tail = NULL;
}

void worker_finish(struct worker *worker, struct inbox_message *message)
{
	bool abandoned;

	pthread_mutex_lock(&worker->inbox_lock);
	message->done = true;
	abandoned = message->abandoned;
	pthread_cond_broadcast(&worker->inbox_done);
	pthread_mutex_unlock(&worker->inbox_lock);
	if (abandoned)
		drop(message);
}

int worker_await(struct worker *worker, struct inbox_message *message, uint64_t until_ns)
{
	const struct timespec until = {
	        .tv_sec = (time_t)(until_ns / 1000000000),
	        .tv_nsec = (long)(until_ns % 1000000000),
	};
	int error = 0;

	pthread_mutex_lock(&worker->inbox_lock);
	while (!message->done && error == 0) {
		if (until_ns)
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

void worker_post_and_wait(struct worker *worker, struct inbox_message *message)
{
	worker_post(worker, message);
	(void)worker_await(worker, message, 0);
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
		loop_timer_cancel(worker->loop, &gateway->listeners[i].rest);
	}
}

static int add_gateway(struct worker *worker, const struct gateway *gateway)
{
	struct worker_gateway *added;

	added = calloc(1, sizeof(*added) + gateway->listener_count * sizeof(added->listeners[0]));
	if (!added)
		return -ENOMEM;
	added->gateway = gateway;
	if (!gateway->probe)
		added->traffic = traffic_of_gateway(worker->options.traffic, worker->options.index, gateway->name);
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
	gateway_index_add(worker, added);
	return 0;
}

static void run_add_gateway(struct worker *worker, struct inbox_message *inbox)
{
	struct gateway_message *message = container_of(inbox, struct gateway_message, inbox);

	message->error = add_gateway(worker, message->gateway);
	worker_finish(worker, inbox);
}

static void drop_attempt(struct attempt *attempt, void *context)
{
	(void)context;
	attempt_refuse(attempt, REASON_GATEWAY_REMOVED, "");
	attempt_free(attempt);
}

void worker_drop_gateway(struct worker *worker, const struct worker_gateway *gateway)
{
	attempt_for_each(worker, gateway, drop_attempt, NULL);
	connection_abort_all(worker, gateway, REASON_GATEWAY_REMOVED);
}

static void run_remove_gateway(struct worker *worker, struct inbox_message *inbox)
{
	struct gateway_message *message = container_of(inbox, struct gateway_message, inbox);

	for (struct worker_gateway **link = &worker->gateways; *link; link = &(*link)->next) {
		struct worker_gateway *gateway = *link;

		if (gateway->gateway != message->gateway)
			continue;
		remove_listeners(worker, gateway);
		worker_drop_gateway(worker, gateway);
		*link = gateway->next;
		gateway_index_remove(worker, gateway);
		loop_defer_free(worker->loop, gateway);
		break;
	}
	worker_finish(worker, inbox);
}

static int change_gateway(struct worker *worker, const struct gateway *gateway,
                          void (*run)(struct worker *worker, struct inbox_message *inbox))
{
	struct gateway_message message = {.inbox.run = run, .gateway = gateway};

	worker_post_and_wait(worker, &message.inbox);
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
	size_t count;
	struct hold_answer answers[];
};

static void run_hold_answered(struct worker *worker, struct inbox_message *inbox)
{
	struct hold_message *message = container_of(inbox, struct hold_message, inbox);

	attempt_hold_answered(worker, message->as_of_ns, message->answers, message->count);
	free(message);
}

void worker_hold_answered(struct worker *worker, uint64_t as_of_ns, const struct hold_answer *answers, size_t count)
{
	struct hold_message *message = calloc(1, sizeof(*message) + count * sizeof(answers[0]));

	if (!message)
		return; /* the held attempts run into their limit, and are refused with it as the reason */
	message->inbox.run = run_hold_answered;
	message->as_of_ns = as_of_ns;
	message->count = count;
	memcpy(message->answers, answers, count * sizeof(answers[0]));
	worker_post(worker, &message->inbox);
}

void worker_policy_changed(struct worker *worker)
{
	pthread_mutex_lock(&worker->inbox_lock);
	worker->policy_changed = true;
	pthread_mutex_unlock(&worker->inbox_lock);
	loop_wake(worker->loop);
}
