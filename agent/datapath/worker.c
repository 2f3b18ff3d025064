/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/worker.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/failures.h"
#include "base/log.h"
#include "datapath/hooks.h"
#include "datapath/worker_internal.h"
#include "datapath/worker_trace.h"

/*
 * Relay before handshakes: so much of each round may go into handshake steps, into new connects, and into another look
 * at live connections.
 */
#define HANDSHAKE_BUDGET_NS 500000ull
#define REVIEW_BUDGET_NS    1000000ull
#define HANDOVER_BUDGET_NS  1000000ull
#define RING_BUDGET_NS      1000000ull
/* A reading of so many records began late, perhaps too late for some: a full ring is seven times that. */
#define RING_BEHIND 1024

/* ---- what the files of a worker share ---- */

void worker_report(struct worker *worker, struct trace_subject subject, const char *policy, enum postern_reason reason,
                   const char *detail)
{
	struct failure failure = {
	        .gateway_port = subject.gateway_port,
	        .destination = *subject.destination,
	        .reason = reason,
	};

	snprintf(failure.gateway, sizeof(failure.gateway), "%s", subject.gateway->gateway->name);
	snprintf(failure.policy, sizeof(failure.policy), "%s", policy);
	snprintf(failure.detail, sizeof(failure.detail), "%s", detail);
	failures_add(worker->options.failures, &failure);
	worker_trace(worker, TRACE_FAIL, subject, reason, "%s", detail);
}

/* ---- the ring ---- */

/* False: no record of ours. */
static bool take_record(struct worker *worker, const void *data, size_t size)
{
	const struct postern_record_header *header = data;

	if (size < sizeof(*header))
		return false;
	if (header->type == POSTERN_RECORD_SYN) {
		if (size < sizeof(struct postern_syn_record))
			return false;
		attempt_on_syn(worker, data);
		return true;
	}
	if (size < sizeof(struct postern_connect_record))
		return false;
	switch ((enum postern_record_type)header->type) {
	case POSTERN_RECORD_CONNECT:
		attempt_on_connect(worker, data);
		return true;
	case POSTERN_RECORD_GONE:
		attempt_on_gone(worker, data);
		return true;
	case POSTERN_RECORD_CLOSED:
		lane_slot_closed(worker, data);
		return true;
	case POSTERN_RECORD_SYN:
		break;
	}
	return false;
}

/* A negative number ends this round's reading; the record is taken all the same. */
static int on_record(void *context, void *data, size_t size)
{
	struct worker *worker = context;
	uint64_t now;
	bool cut;

	if (!take_record(worker, data, size))
		failures_count(worker->options.failures, REASON_INTERNAL);
	now = monotonic_ns();
	cut = now >= worker->ring_deadline_ns;
	if (++worker->ring_read % RING_BEHIND == 0 || cut)
		worker->ring_behind_ns = now;
	return cut ? -EAGAIN : 0;
}

bool worker_ring_has_more(const struct worker *worker)
{
	struct pollfd ring = {.fd = ring_buffer__epoll_fd(worker->ring), .events = POLLIN};

	return poll(&ring, 1, 0) != 0;
}

static void on_ring(struct loop_source *source, uint32_t events)
{
	struct worker *worker = container_of(source, struct worker, ring_source);
	int count;

	(void)events;
	worker->ring_deadline_ns = monotonic_ns() + RING_BUDGET_NS;
	worker->ring_read = 0;
	count = ring_buffer__consume(worker->ring);
	if (count == -EAGAIN)
		loop_wake(worker->loop);
	else if (count < 0)
		log_error("ring unreadable", "worker=%u error=\"%s\"", worker->options.index, strerror(-count));
}

static void on_round_end(void *context)
{
	struct worker *worker = context;

	bool more = dial_run_handshakes(worker, HANDSHAKE_BUDGET_NS);

	more |= connection_review_run(worker, REVIEW_BUDGET_NS);
	more |= worker_handover_run(worker, HANDOVER_BUDGET_NS);
	if (more)
		loop_wake(worker->loop);
}

static void on_wake(void *context)
{
	worker_run_inbox(context);
}

struct loop *worker_loop(struct worker *worker)
{
	return worker->loop;
}

pthread_t worker_thread(const struct worker *worker)
{
	return worker->thread;
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
	        .socket_memory = READ(socket_memory),
	        .verified_again = READ(verified_again),
	        .draining = READ(draining),
	        .handed_over = READ(handed_over),
	        .taken_over = READ(taken_over),
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
	if (error) {
		/* Connects to a worker that is gone would wait for their own limits; to a dead agent they are refused.
		 */
		log_error("worker ended", "worker=%u error=\"%s\"", worker->options.index, strerror(-error));
		abort();
	}
	return NULL;
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
	error = connection_review_start(worker);
	if (error)
		return error;
	connection_limits_start(worker);
	error = lane_slots_start(worker, worker->options.worker_count);
	if (error)
		return error;
	worker->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (worker->spare_fd == -1)
		return -errno;
	worker->ring = ring_buffer__new(hooks_ring_fd(worker->options.hooks, worker->options.index), on_record, worker,
	                                NULL);
	if (!worker->ring)
		return -errno;
	worker->ring_source.on_event = on_ring;
	error = loop_add(worker->loop, &worker->ring_source, ring_buffer__epoll_fd(worker->ring), EPOLLIN);
	if (error)
		return error;
	/* Signals are the control thread's, but for the watchdog's question where a thread is. */
	sigfillset(&all);
	sigdelset(&all, SIGUSR2);
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
	worker->spare_fd = -1;
	slab_init(&worker->connection_slab, sizeof(struct connection));
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
	worker_drop_gateway(worker, NULL);
	loop_stop(worker->loop);
	worker_finish(worker, inbox);
}

void worker_stop(struct worker *worker)
{
	struct inbox_message message = {.run = run_stop};

	if (!worker)
		return;
	if (worker->thread_runs) {
		worker_post_and_wait(worker, &message);
		pthread_join(worker->thread, NULL);
	}
	worker_drop_inbox(worker);
	while (worker->gateways) {
		struct worker_gateway *next = worker->gateways->next;

		free(worker->gateways);
		worker->gateways = next;
	}
	connection_review_stop(worker);
	worker_handover_stop(worker);
	if (worker->relay.buffer)
		relay_worker_destroy(&worker->relay);
	ring_buffer__free(worker->ring);
	loop_free(worker->loop);
	slab_destroy(&worker->connection_slab);
	if (worker->spare_fd != -1)
		close(worker->spare_fd);
	key_table_free(&worker->in_flight_to);
	free(worker->free_slots);
	free(worker->slot_states);
	pthread_cond_destroy(&worker->inbox_done);
	pthread_mutex_destroy(&worker->inbox_lock);
	free(worker);
}
