/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * relay_fixture.h: one relay between the mock kernel's two sockets, with a fake session. Included by the tests that run
 * the relay on the mock (one .c a program, so its functions are defined here).
 *
 *   struct fixture *f = fixture_new(RELAY_KTLS_COPY, TLS_VERSION_1_3);
 *   ... change f->options, f->session, f->kernel, f->worker.timeouts ...
 *   fixture_start(f);
 *   mock_feed(&f->kernel.a, ...); fixture_run(f); assert what f->kernel.b.out holds
 *   fixture_free(f);
 */
#ifndef POSTERN_TESTS_RELAY_FIXTURE_H
#define POSTERN_TESTS_RELAY_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "datapath/relay_internal.h"
#include "mock_kernel_io.h"
#include "fake_session.h"
#include "tls/record.h"

#define MILLISECOND         UINT64_C(1000000)
#define FIXTURE_PATIENCE_NS (30000 * MILLISECOND) /* it ends a hang, and judges no speed */

struct fixture {
	struct loop *loop;
	struct relay_worker worker;
	struct mock_kernel kernel;
	struct tls_session session;
	struct relay_options options;
	struct relay *relay;
	unsigned int ends; /* calls of on_end */
	enum postern_reason reason;
	char detail[TLS_DETAIL_MAX];
	struct relay_stats last; /* as on_end saw it */
	bool sockets_closed_at_end;
};

static inline void fixture_on_end(void *context, enum postern_reason reason, const char *detail)
{
	struct fixture *f = context;

	f->ends++;
	f->reason = reason;
	snprintf(f->detail, sizeof(f->detail), "%s", detail);
	relay_stats(f->relay, &f->last);
	f->sockets_closed_at_end = f->kernel.a.closed && f->kernel.b.closed;
	f->relay = NULL;
}

/*
 * mode: RELAY_PLAIN; RELAY_USER_TLS both ways; RELAY_TICKETS: transmit armed, receive still with OpenSSL;
 * RELAY_KTLS_COPY: both in the kernel once fixture_start() returns; RELAY_KTLS_SPLICE: and splicing where it pays.
 */
static inline struct fixture *fixture_new(enum relay_mode mode, enum tls_version version)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(loop_new(&f->loop), 0);
	mock_kernel_init(&f->kernel, f->loop, &f->worker);
	assert_int_equal(relay_worker_init(&f->worker, f->loop, &mock_kernel_io), 0);
	f->session.info.version = version;
	f->session.info.cipher = TLS_CIPHER_AES_128;
	f->session.at_boundary = true;
	f->session.socket = &f->kernel.b;
	f->options = (struct relay_options){
	        .a_fd = f->kernel.a.fd,
	        .b_fd = f->kernel.b.fd,
	        .session = mode == RELAY_PLAIN ? NULL : &f->session,
	        .on_end = fixture_on_end,
	        .context = f,
	};
	switch (mode) {
	case RELAY_PLAIN:
		break;
	case RELAY_USER_TLS:
		f->options.user_mode_reason = REASON_KTLS_UNAVAILABLE;
		break;
	case RELAY_KTLS_SPLICE:
		f->options.splice_to_backend = true;
		f->options.splice_to_gateway = true;
		/* fall through */
	case RELAY_KTLS_COPY:
		f->worker.timeouts.ticket_window_ns = 0;
		/* fall through */
	case RELAY_TICKETS:
		f->options.transmit_armed = true;
		f->options.kernel_receive = true;
		break;
	}
	return f;
}

/* Reading and writing until nothing moves any more; fails the test when the relay spins or misuses the kernel. */
static inline void fixture_run(struct fixture *f)
{
	assert_true(mock_run(&f->kernel));
	if (f->kernel.misuse[0])
		fail_msg("misuse: %s", f->kernel.misuse);
	assert_int_equal(f->kernel.pipe_size, 0); /* the pipe is the worker's: it must be empty between two events */
}

static inline void fixture_start(struct fixture *f)
{
	/* The control records of TLS_TX's side are sendmsg()'s. */
	assert_int_equal(relay_start(&f->worker, &f->options, &f->relay), 0);
	f->kernel.a.source = &f->relay->a;
	f->kernel.b.source = &f->relay->b;
	if (f->options.transmit_armed)
		f->kernel.b.kernel_transmit = true;
	/* A ticket window of 0 is over with the loop's first round. */
	if (f->options.session && f->worker.timeouts.ticket_window_ns == 0) {
		assert_int_equal(loop_step(f->loop, 0), 0);
		if (f->options.kernel_receive && f->session.at_boundary && !f->session.arm_error)
			assert_true(f->session.receive_armed);
	}
}

/* One read of the session's script, and the readable socket that goes with it. */
static inline void fixture_script(struct fixture *f, ssize_t result, const char *bytes, bool at_boundary)
{
	struct fake_read *next = &f->session.reads[f->session.read_count++];

	*next = (struct fake_read){.result = result, .bytes = bytes, .at_boundary = at_boundary};
	mock_feed(&f->kernel.b, "r", 1);
}

/* B's orderly end where the kernel reads: close_notify and FIN. */
static inline void fixture_feed_close_notify(struct fixture *f)
{
	mock_feed_record(&f->kernel.b, TLS_CONTENT_ALERT, "\1\0", 2);
	mock_feed_fin(&f->kernel.b);
}

/*
 * Where time decides, it is made to have passed, not waited for: a timer of minutes (fixture_set_timer()) is not due
 * however long the machine keeps the test from the CPU, and expires when the test says so.
 */
#define MINUTE (UINT64_C(60000) * MILLISECOND) /* a machine has been up for some of them */

static inline void fixture_set_timer(struct fixture *f, struct loop_timer *timer, uint64_t delay_ns)
{
	assert_int_not_equal(timer->due_ns, 0);
	assert_int_equal(loop_timer_set(f->loop, timer, delay_ns), 0);
}

static inline void fixture_expire(struct fixture *f, struct loop_timer *timer)
{
	loop_timer_cancel(f->loop, timer);
	timer->on_expire(timer);
}

/* Let so much time pass for the relay's timers; the sockets are still. */
static inline void fixture_wait(struct fixture *f, uint64_t milliseconds)
{
	uint64_t end = monotonic_ns() + milliseconds * MILLISECOND;

	assert_int_equal(loop_set_events(f->loop, &f->kernel.driver, 0), 0);
	while (monotonic_ns() < end)
		assert_int_equal(loop_step(f->loop, 1), 0);
	/* What has become due by now, if another process had the CPU meanwhile and there was no round. */
	assert_int_equal(loop_step(f->loop, 0), 0);
	assert_int_equal(loop_set_events(f->loop, &f->kernel.driver, EPOLLIN), 0);
}

/* Rounds of the loop, with its timers, until the relay ends. */
static inline void fixture_wait_end(struct fixture *f)
{
	uint64_t deadline = monotonic_ns() + FIXTURE_PATIENCE_NS;

	while (f->ends == 0 && monotonic_ns() < deadline) {
		fixture_run(f);
		if (f->ends == 0)
			fixture_wait(f, 1);
	}
	assert_int_equal(f->ends, 1);
}

static inline void fixture_free(struct fixture *f)
{
	bool ended = f->ends != 0;

	if (f->relay)
		relay_abort(f->relay, REASON_GATEWAY_REMOVED, "the test is over");
	assert_int_equal(f->ends, 1);
	assert_true(f->sockets_closed_at_end);
	if (!ended)
		assert_int_equal(f->reason, REASON_GATEWAY_REMOVED);
	if (f->options.session)
		assert_true(f->session.freed);
	assert_string_equal(f->kernel.misuse, "");
	relay_worker_destroy(&f->worker);
	mock_kernel_destroy(&f->kernel);
	loop_free(f->loop);
	free(f);
}

/* The relay has ended with this reason, by resets. */
static inline void assert_reset(struct fixture *f, enum postern_reason reason)
{
	assert_int_equal(f->ends, 1);
	if (f->reason != reason)
		fail_msg("expected the reason %s, seen %s (%s)", reason_name(reason), reason_name(f->reason),
		         f->detail);
	assert_true(f->kernel.a.lingers_reset);
	assert_true(f->kernel.b.lingers_reset);
}

static inline void assert_graceful(struct fixture *f)
{
	if (f->ends != 1 || f->reason != REASON_NONE)
		fail_msg("expected a graceful end, seen %u ends, %s (%s)", f->ends, reason_name(f->reason), f->detail);
	assert_false(f->kernel.a.lingers_reset);
	assert_false(f->kernel.b.lingers_reset);
	assert_true(f->kernel.a.shut_for_writing);
	assert_true(f->kernel.b.shut_for_writing);
	assert_int_equal(f->kernel.b.lost, 0);
}

static inline void assert_alive(struct fixture *f)
{
	if (f->ends)
		fail_msg("expected a live connection, seen its end: %s (%s)", reason_name(f->reason), f->detail);
}

static inline void assert_out(const struct mock_socket *socket, const void *bytes, size_t size)
{
	assert_int_equal(socket->out_size, size);
	if (size)
		assert_memory_equal(socket->out, bytes, size);
}

/* Exactly one control record was sent to B: close_notify, after all the data. */
static inline void assert_close_notify(const struct mock_socket *socket)
{
	static const uint8_t close_notify_record[2] = {1, 0};

	assert_int_equal(socket->control_count, 1);
	assert_int_equal(socket->controls[0].type, TLS_CONTENT_ALERT);
	assert_int_equal(socket->controls[0].size, 2);
	assert_memory_equal(socket->controls[0].bytes, close_notify_record, 2);
	assert_int_equal(socket->controls[0].at, socket->out_size);
}

/* size bytes that repeat with a period no buffer size divides; free() it. */
static inline uint8_t *pattern(size_t size)
{
	uint8_t *bytes = malloc(size ? size : 1);

	assert_non_null(bytes);
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(i % 251 ^ i >> 16);
	return bytes;
}

#endif
