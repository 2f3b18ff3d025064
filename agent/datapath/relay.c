/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/relay_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/cleanup.h"
#include "datapath/traffic.h"

const char *relay_mode_name(enum relay_mode mode)
{
	switch (mode) {
	case RELAY_PLAIN:
		return "plain";
	case RELAY_USER_TLS:
		return "user_tls";
	case RELAY_KTLS_COPY:
		return "ktls_copy";
	case RELAY_KTLS_SPLICE:
		return "ktls_splice";
	case RELAY_TICKETS:
		return "tickets";
	}
	return "unknown";
}

static uint32_t wanted_of_a(const struct relay *relay)
{
	bool reads = relay_transmit_reads(relay) && relay_gather_awaits_event(relay);

	return (reads ? EPOLLIN : 0u) | (relay->receive == RECEIVE_BLOCKED ? EPOLLOUT : 0u);
}

static bool transmit_writes(const struct relay *relay)
{
	return relay->transmit == TRANSMIT_BLOCKED || relay->transmit == TRANSMIT_CLOSING || relay->key_update_due;
}

static uint32_t wanted_of_b(const struct relay *relay)
{
	return (relay_receive_reads(relay) ? EPOLLIN : 0u) | (transmit_writes(relay) ? EPOLLOUT : 0u);
}

static int ask(struct relay *relay, struct loop_source *source, int fd, uint32_t wanted)
{
	if (source->registered)
		return loop_set_events(relay->worker->loop, source, wanted);
	if (wanted) /* it was set aside by hang_up() */
		return loop_add(relay->worker->loop, source, fd, wanted);
	return 0;
}

void relay_ask_for_events(struct relay *relay)
{
	int error;

	if (relay->ended)
		return;
	error = ask(relay, &relay->a, relay->a_fd, wanted_of_a(relay));
	if (!error)
		error = ask(relay, &relay->b, relay->b_fd, wanted_of_b(relay));
	if (error)
		relay_fail(relay, reason_of_errno(-error, REASON_INTERNAL), "epoll: %s", strerror(-error));
}

/*
 * Nothing was read from or written to a socket that reported something. EPOLLERR and EPOLLHUP come unasked: an error
 * ends the connection, and EPOLLHUP alone says that FIN went both ways while bytes of the other side wait in the
 * receive queue or nothing is left to do: a socket of which nothing is wanted is set aside, or it would be reported for
 * ever.
 */
static void hang_up(struct relay *relay, struct loop_source *source, uint32_t events)
{
	bool on_backend = source == &relay->b;
	int fd = on_backend ? relay->b_fd : relay->a_fd;
	int error = 0;
	socklen_t length = sizeof(error);

	if (!(events & EPOLLERR)) {
		if (source->events == 0)
			loop_remove(relay->worker->loop, source);
		return;
	}
	if (relay->worker->io->getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == -1)
		error = errno;
	relay_fail_call(relay, "poll", on_backend, error ? error : ECONNRESET);
}

/*
 * Where the socket is read or written, the call finds out what EPOLLERR and EPOLLHUP mean. Reading comes first: what
 * the other side said before it hung up is passed on.
 */
static void serve_a(struct relay *relay, struct loop_source *source, uint32_t events)
{
	bool used = false;

	if ((events & ~(uint32_t)EPOLLOUT) && relay_transmit_reads(relay))
		used = relay_transmit_read(relay);
	if (!relay->ended && (events & EPOLLOUT) && relay->receive == RECEIVE_BLOCKED) {
		relay_receive_writable(relay);
		used = true;
	}
	if (!relay->ended && !used)
		hang_up(relay, source, events);
	relay_ask_for_events(relay);
}

static void serve_b(struct relay *relay, struct loop_source *source, uint32_t events)
{
	bool used = false;

	if ((events & ~(uint32_t)EPOLLOUT) && relay_receive_reads(relay))
		used = relay_receive_read(relay);
	if (!relay->ended && (events & EPOLLOUT) && transmit_writes(relay)) {
		relay_transmit_writable(relay);
		used = true;
	}
	if (!relay->ended && !used)
		hang_up(relay, source, events);
	relay_ask_for_events(relay);
}

/*
 * Is this one of the events whose CPU is measured? One in TRAFFIC_CPU_SAMPLE, by a generator of pseudo-random numbers,
 * not by counting: events of A and B come in turns, and a count would always meet the same side.
 */
static bool is_sampled(struct relay *relay)
{
	uint32_t *state = &relay->worker->sample;

	if (!relay->traffic)
		return false;
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8 < (1u << 24) / TRAFFIC_CPU_SAMPLE;
}

static void serve(struct relay *relay, struct loop_source *source, uint32_t events,
                  void (*serve_side)(struct relay *relay, struct loop_source *source, uint32_t events))
{
	struct traffic_connections *traffic = relay->traffic; /* the connection may end */
	uint64_t before;

	if (!is_sampled(relay)) {
		serve_side(relay, source, events);
		return;
	}
	before = traffic_cpu_ns();
	serve_side(relay, source, events);
	traffic_add(&traffic->cpu_ns, (traffic_cpu_ns() - before) * TRAFFIC_CPU_SAMPLE);
}

static void on_a_event(struct loop_source *source, uint32_t events)
{
	serve(container_of(source, struct relay, a), source, events, serve_a);
}

static void on_b_event(struct loop_source *source, uint32_t events)
{
	serve(container_of(source, struct relay, b), source, events, serve_b);
}

static void on_ticket_window(struct loop_timer *timer)
{
	struct relay *relay = container_of(timer, struct relay, ticket_timer);

	relay->arm_due = true;
	relay_receive_arm(relay);
	relay_ask_for_events(relay);
}

static void on_half_closed(struct loop_timer *timer)
{
	struct relay *relay = container_of(timer, struct relay, half_closed_timer);

	relay_half_closed_expired(relay);
	relay_ask_for_events(relay);
}

/* Armed once and looked at when it fires: a connection that moves bytes never touches the timer. */
static void on_idle(struct loop_timer *timer)
{
	struct relay *relay = container_of(timer, struct relay, idle_timer);
	uint64_t last = relay->to_backend.moved_ns > relay->to_gateway.moved_ns ? relay->to_backend.moved_ns
	                                                                        : relay->to_gateway.moved_ns;
	uint64_t idle = monotonic_ns() - last;

	if (idle >= relay->idle_ns)
		relay_fail(relay, REASON_IDLE_TIMEOUT, "no byte for %llu ms", (unsigned long long)(idle / 1000000));
	else if (loop_timer_set(relay->worker->loop, timer, relay->idle_ns - idle))
		relay_fail(relay, REASON_NO_MEMORY, "no timer");
}

/* Runs only while a direction is blocked. */
static void on_stall(struct loop_timer *timer)
{
	struct relay *relay = container_of(timer, struct relay, stall_timer);
	uint64_t limit = relay->worker->timeouts.stall_ns;
	uint64_t now = monotonic_ns();
	uint64_t longest = 0;

	if (relay->transmit != TRANSMIT_BLOCKED && relay->receive != RECEIVE_BLOCKED)
		return;
	if (relay->transmit == TRANSMIT_BLOCKED)
		longest = now - relay->to_backend.moved_ns;
	if (relay->receive == RECEIVE_BLOCKED && now - relay->to_gateway.moved_ns > longest)
		longest = now - relay->to_gateway.moved_ns;
	if (longest >= limit)
		relay_fail(relay, REASON_STALLED, "%s takes no bytes",
		           relay->transmit == TRANSMIT_BLOCKED && now - relay->to_backend.moved_ns >= limit
		                   ? "the backend"
		                   : "the gateway");
	else if (loop_timer_set(relay->worker->loop, timer, limit - longest))
		relay_fail(relay, REASON_NO_MEMORY, "no timer");
}

static void on_look(struct loop_timer *timer)
{
	struct relay *relay = container_of(timer, struct relay, look_timer);

	relay_look(relay);
	relay_ask_for_events(relay);
}

static void on_tail(struct loop_timer *timer)
{
	struct relay *relay = container_of(timer, struct relay, tail_timer);

	relay_receive_tail(relay);
	relay_ask_for_events(relay);
}

static void on_gather(struct loop_timer *timer)
{
	struct relay *relay = container_of(timer, struct relay, gather_timer);

	if (!relay_transmit_reads(relay) || !relay_transmit_read(relay))
		relay_gather_stop(relay);
	relay_ask_for_events(relay);
}

static void choose_modes(struct relay *relay, const struct relay_options *options)
{
	struct tls_session_info info;

	relay->to_backend.mode = relay->to_gateway.mode = RELAY_PLAIN;
	relay->splices_without_lane = options->splice_to_backend && (!options->session || options->transmit_armed);
	relay->to_backend.may_splice = relay->splices_without_lane && !options->lane_slot;
	relay->to_gateway.may_splice = options->splice_to_gateway;
	if (!options->session)
		return;
	tls_session_info(options->session, &info);
	relay->version = info.version;
	relay->limits_key = info.cipher != TLS_CIPHER_CHACHA20;
	relay->no_pad = options->no_pad && info.version == TLS_VERSION_1_3;
	relay->hides_key_update = options->kernel_rekey && info.version == TLS_VERSION_1_3;
	relay->rekeys_transmit = options->kernel_rekey_transmit && options->transmit_armed &&
	                         info.version == TLS_VERSION_1_3;
	relay->mode_reason = options->user_mode_reason;
	relay->to_backend.mode = options->transmit_armed ? RELAY_KTLS_COPY : RELAY_USER_TLS;
	relay->to_gateway.mode = RELAY_USER_TLS;
	if (options->transmit_armed && options->kernel_receive) {
		relay->to_gateway.mode = RELAY_TICKETS;
		relay->mode_reason = REASON_TICKETS_PENDING;
		/* TLS 1.2 sends its ticket within the handshake: nothing to wait for. */
		relay->arm_due = info.version == TLS_VERSION_1_2;
	}
	/* OpenSSL's directions are not spliced. */
	relay->to_gateway.may_splice &= relay->to_gateway.mode == RELAY_TICKETS;
}

/* Descriptors and timers into the loop; on failure nothing stays there. */
static int enter_loop(struct relay *relay, struct loop_source *b_source)
{
	struct relay_worker *worker = relay->worker;
	int error = 0;

	relay->ticket_timer.on_expire = on_ticket_window;
	relay->half_closed_timer.on_expire = on_half_closed;
	relay->idle_timer.on_expire = on_idle;
	relay->stall_timer.on_expire = on_stall;
	relay->look_timer.on_expire = on_look;
	relay->tail_timer.on_expire = on_tail;
	relay->gather_timer.on_expire = on_gather;
	relay->a.on_event = on_a_event;
	relay->b.on_event = on_b_event;
	if (relay->to_gateway.mode == RELAY_TICKETS && !relay->arm_due)
		error = loop_timer_set(worker->loop, &relay->ticket_timer, worker->timeouts.ticket_window_ns);
	if (!error && relay->idle_ns)
		error = loop_timer_set(worker->loop, &relay->idle_timer, relay->idle_ns);
	if (!error)
		error = loop_add(worker->loop, &relay->a, relay->a_fd, wanted_of_a(relay));
	if (!error)
		error = b_source && b_source->registered
		                ? loop_pass_on(worker->loop, b_source, &relay->b, wanted_of_b(relay))
		                : loop_add(worker->loop, &relay->b, relay->b_fd, wanted_of_b(relay));
	if (!error)
		return 0;
	loop_remove(worker->loop, &relay->a);
	loop_timer_cancel(worker->loop, &relay->ticket_timer);
	loop_timer_cancel(worker->loop, &relay->idle_timer);
	return error;
}

int relay_start(struct relay_worker *worker, const struct relay_options *options, struct relay **result)
{
	struct relay *relay = slab_take(&worker->relays);
	int error;

	if (!relay)
		return -ENOMEM;
	relay->worker = worker;
	relay->a_fd = options->a_fd;
	relay->b_fd = options->b_fd;
	relay->session = options->session;
	relay->lane_slot = options->lane_slot;
	relay->leave_lane = options->leave_lane;
	relay->idle_ns = options->idle_ns ? options->idle_ns : worker->timeouts.idle_ns;
	relay->traffic = options->traffic;
	relay->on_end = options->on_end;
	relay->context = options->context;
	relay->first_read = true;
	relay->low_water = 1;
	relay->to_backend.to_backend = true;
	relay->to_backend.moved_ns = relay->to_gateway.moved_ns = monotonic_ns();
	choose_modes(relay, options);
	error = enter_loop(relay, options->b_source);
	if (error) {
		slab_give(relay);
		return error;
	}
	relay_receive_arm(relay); /* TLS 1.2 */
	*result = relay;
	return 0;
}

bool relay_is_idle(const struct relay *relay, uint64_t since_ns)
{
	return relay->transmit != TRANSMIT_BLOCKED && relay->receive != RECEIVE_BLOCKED && !relay->awaits_answer &&
	       relay->to_backend.moved_ns <= since_ns && relay->to_gateway.moved_ns <= since_ns;
}

static enum relay_mode shown_mode(const struct relay_direction *direction)
{
	return direction->mode == RELAY_KTLS_COPY && direction->splicing ? RELAY_KTLS_SPLICE : direction->mode;
}

void relay_stats(const struct relay *relay, struct relay_stats *stats)
{
	*stats = (struct relay_stats){
	        .bytes_to_backend = relay->to_backend.bytes,
	        .bytes_to_gateway = relay->to_gateway.bytes,
	        .to_backend = shown_mode(&relay->to_backend),
	        .to_gateway = shown_mode(&relay->to_gateway),
	        .mode_reason = relay->mode_reason,
	        .lane = relay->lane_slot != NULL,
	        .gateway_ended = relay->gateway_ended,
	        .backend_ended = relay->receive == RECEIVE_ENDED,
	        .tickets_dropped = relay->tickets_dropped,
	        .key_updates = relay->key_updates,
	};
}
