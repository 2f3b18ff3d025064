/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * G->A->B. What G sends is read from A and written to B.
 *
 *            short write                        B ended, or silent for half_closed_ns
 *   FLOWING ------------> BLOCKED      DEFERRED --------------------+
 *      ^  \  \__ all written __/          ^                         v        room on B
 *      |   \                              | TLS 1.2              CLOSING ------------------> ENDED
 *      +----+----- G's FIN ---------------+-- TLS 1.3, or B ended ->+   close_notify, SHUT_WR
 *                      \________ PLAIN: SHUT_WR at once ____________________________________^
 *
 * A's EPOLLIN is asked for in FLOWING only: that is the back-pressure. B's EPOLLOUT is asked for in BLOCKED and CLOSING
 * only; room for close_notify is made, as a rule, and CLOSING left at once (relay_ending.c). With a lane slot A is in a
 * sockmap: then it is always read with recv() (splice() would skip the redirected bytes and lose them), and every read
 * is added to the slot, which opens the credit window again; a stream of large messages leaves the lane (relay_lane.c).
 */
#include "datapath/relay_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "tls/record.h"

bool relay_transmit_reads(const struct relay *relay)
{
	return relay->transmit == TRANSMIT_FLOWING;
}

/*
 * A ClientHello as G's first bytes: the gateway speaks TLS itself, and a second layer would hide that its own
 * verification is what counts (design section 10). Clients send it in one piece, so the first read decides.
 */
static bool is_client_hello(const uint8_t *bytes, size_t size)
{
	return size > TLS_RECORD_HEADER && bytes[0] == TLS_CONTENT_HANDSHAKE && bytes[1] == 3 &&
	       bytes[TLS_RECORD_HEADER] == 1;
}

static bool transmit_copy(struct relay *relay)
{
	struct relay_worker *worker = relay->worker;
	struct relay_direction *direction = &relay->to_backend;
	ssize_t got = worker->io->recv(relay->a_fd, worker->buffer, worker->buffer_size, MSG_DONTWAIT);

	if (got == -1) {
		if (errno != EAGAIN && errno != EINTR)
			relay_fail_call(relay, "recv", false, errno);
		return false;
	}
	if (got == 0) {
		relay_gateway_ended(relay);
		return true;
	}
	if (relay->lane_slot)
		relay_lane_read(relay, (size_t)got);
	if (relay->first_read) {
		relay->first_read = false;
		if (direction->mode != RELAY_PLAIN && is_client_hello(worker->buffer, (size_t)got)) {
			relay_fail(relay, REASON_GATEWAY_ALREADY_TLS, "the gateway's first bytes are a ClientHello");
			return true;
		}
	}
	if (!relay_count_blocks(relay, direction, (size_t)got))
		return true;
	relay_choose_splice(direction, (size_t)got);
	if (relay_write(relay, direction, worker->buffer, (size_t)got))
		relay_gather_read(relay, (size_t)got);
	return true;
}

static bool transmit_splice(struct relay *relay)
{
	struct relay_worker *worker = relay->worker;
	struct relay_direction *direction = &relay->to_backend;
	ssize_t got = worker->io->splice(relay->a_fd, worker->pipe[1], worker->pipe_size, SPLICE_F_NONBLOCK);

	if (got == -1) {
		if (errno == EINVAL) {
			direction->may_splice = direction->splicing = false;
			return transmit_copy(relay);
		}
		if (errno != EAGAIN && errno != EINTR)
			relay_fail_call(relay, "splice", false, errno);
		return false;
	}
	if (got == 0) {
		relay_gateway_ended(relay);
		return true;
	}
	if (!relay_count_blocks(relay, direction, (size_t)got)) {
		(void)relay_worker_empty_pipe(worker, (size_t)got);
		return true;
	}
	relay_choose_splice(direction, (size_t)got);
	if (relay_write_pipe(relay, direction, (size_t)got))
		relay_gather_read(relay, (size_t)got);
	return true;
}

/* One read an event: a heavy connection must not starve the others of its worker. */
bool relay_transmit_read(struct relay *relay)
{
	if (relay->to_backend.splicing && relay->worker->pipe_size > 0)
		return transmit_splice(relay);
	return transmit_copy(relay);
}

void relay_transmit_writable(struct relay *relay)
{
	if (!relay_finish_key_update(relay))
		return;
	if (relay->transmit == TRANSMIT_BLOCKED)
		(void)relay_flush(relay, &relay->to_backend);
	else if (relay->transmit == TRANSMIT_CLOSING)
		relay_close_backend(relay, true);
}
