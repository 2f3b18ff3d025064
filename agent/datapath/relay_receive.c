/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * B->A->G. What the backend sends is read from B, decrypted by the kernel or by OpenSSL, and written to A.
 *
 *            short write
 *   FLOWING ------------> BLOCKED         B's EPOLLIN is asked for in FLOWING only, A's EPOLLOUT in BLOCKED only
 *      ^  \                  /
 *      |   \                /
 *      +----+- all written -+
 *            \
 *             +-- close_notify (PLAIN: FIN) --> ENDED: A is shut down for writing
 *
 * Its mode moves on its own, at any time outside ENDED:
 *
 *   TICKETS ---- at a record boundary: first data read, or ticket_window_ns over (TLS 1.2: at once) ----> KTLS_COPY
 *      |                                                                   a full 64 KB read |  ^ a short record
 *      +-- the kernel refuses --> USER_TLS                                                   v  |
 *                                                                                        KTLS_SPLICE
 *
 * In the kernel's modes recvmsg() always brings the record's type: bytes without one are not trusted to be plaintext.
 * Everything but application data is judged by relay_record.c.
 */
#include "datapath/relay_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tls.h>
#include <string.h>

#include "base/log.h"
#include "datapath/record_message.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif
#ifndef TLS_RX_EXPECT_NO_PAD
#define TLS_RX_EXPECT_NO_PAD 4
#endif

/* So many warnings of TLS 1.2 in one connection, and no more (OpenSSL's own bound). */
#define WARNINGS_MAX 5
/* Reads that follow B's reset: what its receive buffer may hold, and an end all the same. */
#define LAST_WORDS_MAX 64

#define HANDSHAKE_KEY_UPDATE 24 /* RFC 8446 B.3 */

bool relay_receive_reads(const struct relay *relay)
{
	return relay->receive == RECEIVE_FLOWING;
}

void relay_receive_arm(struct relay *relay)
{
	struct relay_direction *direction = &relay->to_gateway;
	const int on = 1;
	int error;

	if (direction->mode != RELAY_TICKETS || !relay->arm_due || !tls_session_at_boundary(relay->session))
		return;
	loop_timer_cancel(relay->worker->loop, &relay->ticket_timer);
	error = tls_session_arm_receive(relay->session);
	if (error) {
		/* OpenSSL has the read keys still: the direction is as safe as before, only dearer. */
		direction->mode = RELAY_USER_TLS;
		relay->mode_reason = error == -ENOENT ? REASON_KTLS_CIPHER : REASON_KERNEL_TLS_FAILED;
		log_warning("kernel TLS receive refused", "error=\"%s\"", strerror(-error));
		return;
	}
	direction->mode = RELAY_KTLS_COPY;
	relay->mode_reason = REASON_NONE;
	/* An optimisation that was proved on this kernel; records with padding are read all the same. */
	if (relay->no_pad &&
	    relay->worker->io->setsockopt(relay->b_fd, SOL_TLS, TLS_RX_EXPECT_NO_PAD, &on, sizeof(on)) == -1)
		log_debug("TLS_RX_EXPECT_NO_PAD refused", "error=\"%s\"", strerror(errno));
	if (relay->to_backend.mode == RELAY_KTLS_COPY) {
		relay_keep_secrets(relay);
		tls_session_free(relay->session);
		relay->session = NULL;
	}
}

/* Bytes of application data that are in the worker's buffer. */
static void receive_data(struct relay *relay, size_t size)
{
	relay->read_size = size;
	if (!relay_count_blocks(relay, &relay->to_gateway, size))
		return;
	relay_choose_splice(&relay->to_gateway, size);
	(void)relay_write(relay, &relay->to_gateway, relay->worker->buffer, size);
}

/* The receive steps return false when there was nothing to read. */
static bool receive_plain(struct relay *relay)
{
	struct relay_worker *worker = relay->worker;
	ssize_t got = worker->io->recv(relay->b_fd, worker->buffer, worker->buffer_size, MSG_DONTWAIT);

	if (got == -1) {
		if (errno != EAGAIN && errno != EINTR)
			relay_fail_call(relay, "recv", true, errno);
		return false;
	}
	/* The write that failed took the socket's error with it: a reset reads as an end of file now. */
	if (got == 0 && relay->last_words)
		return false;
	if (got == 0)
		relay_backend_ended(relay);
	else
		receive_data(relay, (size_t)got);
	return true;
}

/* One record through OpenSSL. */
static bool receive_session(struct relay *relay)
{
	struct relay_worker *worker = relay->worker;
	ssize_t got = tls_session_read(relay->session, worker->buffer, worker->buffer_size);

	if (got < 0 && got != -EAGAIN) {
		relay_fail_session(relay);
		return false;
	}
	if (tls_session_take_update_request(relay->session)) {
		relay->key_updates++;
		if (!relay_begin_key_update(relay, false))
			return false;
	}
	if (got == 0) {
		relay_backend_ended(relay);
		return true;
	}
	if (got > 0) {
		relay->arm_due = true;
		receive_data(relay, (size_t)got);
		if (relay->ended)
			return true;
	}
	relay_receive_arm(relay);
	return got > 0;
}

static void receive_control_record(struct relay *relay, unsigned int type, size_t size)
{
	struct relay_record_verdict verdict;

	relay_record_judge(&relay->handshake, relay->version, type, relay->worker->buffer, size, &verdict);
	relay->tickets_dropped += verdict.tickets;
	if (verdict.reason != REASON_NONE) {
		relay_fail(relay, verdict.reason, "%s", verdict.detail);
		return;
	}
	/* A kernel that can rekey judges a record by its first byte, takes this one for KeyUpdate, and reads no
	 * further. */
	if (relay->hides_key_update && type == TLS_CONTENT_HANDSHAKE && !verdict.key_update &&
	    relay->worker->buffer[0] == HANDSHAKE_KEY_UPDATE) {
		relay_fail(relay, REASON_KEY_UPDATE, "a record that begins like KeyUpdate and is none");
		return;
	}
	if (verdict.key_update) {
		(void)relay_follow_key_update(relay, verdict.answer_wanted);
		return;
	}
	if (verdict.warning && ++relay->warnings > WARNINGS_MAX) {
		relay_fail(relay, REASON_PEER_ALERT, "%u warning alerts", relay->warnings);
		return;
	}
	if (verdict.close_notify)
		relay_backend_ended(relay);
}

static bool receive_records(struct relay *relay)
{
	struct relay_worker *worker = relay->worker;
	struct record_message message;
	ssize_t got;
	unsigned int type;

	record_message_to_receive(&message, worker->buffer, worker->buffer_size);
	got = worker->io->recvmsg(relay->b_fd, &message.header, MSG_DONTWAIT);
	if (got == -1) {
		if (errno != EAGAIN && errno != EINTR)
			relay_fail_call(relay, "recvmsg", true, errno);
		return false;
	}
	type = record_message_type(&message);
	if (type == RECORD_TYPE_NONE) {
		if (got == 0)
			relay_fail_truncated(relay, NULL);
		else
			/* Were the kernel not decrypting, these bytes would have no type, and be ciphertext. */
			relay_fail(relay, REASON_KERNEL_TLS_FAILED, "%zd bytes without a record type", got);
		return true;
	}
	if (type != TLS_CONTENT_APPLICATION_DATA || !relay_handshake_complete(&relay->handshake))
		receive_control_record(relay, type, (size_t)got);
	else {
		relay->joined = got;
		if (got > 0) /* 0: an empty record, which RFC 8446 5.1 allows */
			receive_data(relay, (size_t)got);
	}
	return true;
}

static bool receive_splice(struct relay *relay)
{
	struct relay_worker *worker = relay->worker;
	struct relay_direction *direction = &relay->to_gateway;
	/* The pipe is empty here, always: into a pipe that is short of room 6.12 loses bytes of a record in silence. */
	ssize_t got = worker->io->splice(relay->b_fd, worker->pipe[1], worker->pipe_size, SPLICE_F_NONBLOCK);

	if (got > 0) {
		relay->read_size = (size_t)got;
		if (!relay_count_blocks(relay, direction, (size_t)got)) {
			(void)relay_worker_empty_pipe(worker, (size_t)got);
			return true;
		}
		relay_choose_splice(direction, (size_t)got);
		(void)relay_write_pipe(relay, direction, (size_t)got);
		return true;
	}
	if (direction->mode == RELAY_PLAIN && (got == 0 || errno == EINVAL)) {
		if (got == -1)
			direction->may_splice = direction->splicing = false;
		return receive_plain(relay);
	}
	/*
	 * EINVAL: the next record is no application data. 0: the end, or an empty record. EAGAIN: nothing, perhaps.
	 * recvmsg() tells, with the record's type.
	 */
	if (got == 0 || errno == EINVAL)
		return receive_records(relay);
	if (errno != EAGAIN && errno != EINTR)
		relay_fail_call(relay, "splice", true, errno);
	return false;
}

static bool read_once(struct relay *relay)
{
	struct relay_direction *direction = &relay->to_gateway;

	relay->joined = -1;
	relay->read_size = 0;
	if (direction->mode == RELAY_USER_TLS || direction->mode == RELAY_TICKETS)
		return receive_session(relay);
	if (direction->splicing && relay->worker->pipe_size > 0)
		return receive_splice(relay);
	if (direction->mode == RELAY_PLAIN)
		return receive_plain(relay);
	return receive_records(relay);
}

/* OpenSSL takes one record at a time. */
static bool batches(const struct relay *relay)
{
	return relay->to_gateway.mode == RELAY_KTLS_COPY || relay->to_gateway.mode == RELAY_PLAIN;
}

bool relay_receive_step(struct relay *relay)
{
	bool read = read_once(relay);

	if (read && !relay->ended && batches(relay))
		relay_stream_read(relay, relay->read_size);
	return read;
}

/* One read an event, as in the other direction. */
bool relay_receive_read(struct relay *relay)
{
	bool read = relay_receive_step(relay);

	if (!read && !relay->ended && batches(relay))
		relay_stream_starved(relay);
	if (!relay->ended)
		relay_look_later(relay);
	return read;
}

void relay_receive_tail(struct relay *relay)
{
	if (relay_receive_reads(relay))
		(void)relay_receive_read(relay);
}

void relay_receive_writable(struct relay *relay)
{
	if (relay->receive != RECEIVE_BLOCKED || !relay_flush(relay, &relay->to_gateway))
		return;
	relay_stream_watch(relay);
	if (relay->ended)
		return;
	/* What blocked may have been joined: the look that it was owed. */
	if (relay->hides_key_update && relay->to_gateway.mode == RELAY_KTLS_COPY)
		relay_look(relay);
}

void relay_receive_last_words(struct relay *relay)
{
	relay->last_words = true;
	for (int i = 0; i < LAST_WORDS_MAX && !relay->ended && relay_receive_reads(relay); i++) {
		if (!relay_receive_step(relay))
			return;
	}
}
