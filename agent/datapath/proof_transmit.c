// SPDX-License-Identifier: GPL-2.0-only
/*
 * G->A->B->S: what the kernel seals must be records, nothing but records, and hold the pattern in order; then
 * close_notify, then the end.
 */
#include "datapath/proof_case.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"

/* What G writes at a time: around a record's limit, single bytes, and more than a pipe or a buffer takes. */
static const size_t write_sizes[] = {1, 3, 16383, 16384, 16385, 2, 40000, 5, 1000, 65536, 7, 32768, 17, 4096};

struct transmit {
	struct proof_case *proof_case;
	size_t fed;       /* written by G */
	size_t turn;      /* of write_sizes */
	size_t in_turn;   /* written of the present size */
	bool g_ended;     /* G's FIN is sent */
	bool a_ended;     /* and seen at A */
	size_t held;      /* bytes between A and B, in buffer or pipe */
	size_t held_from; /* where in the buffer */
	bool b_ended;     /* close_notify and FIN are sent */
	size_t raw_size;  /* bytes in raw */
	size_t opened;    /* plaintext that S has opened */
	bool notified;    /* close_notify opened by S */
	bool s_ended;
};

static bool feed(struct transmit *transmit)
{
	struct proof_case *proof_case = transmit->proof_case;
	size_t want = write_sizes[transmit->turn] - transmit->in_turn;
	ssize_t n;

	if (transmit->g_ended)
		return false;
	if (transmit->fed == PROOF_BYTES) {
		shutdown(proof_case->g, SHUT_WR);
		return transmit->g_ended = true;
	}
	if (want > PROOF_BYTES - transmit->fed)
		want = PROOF_BYTES - transmit->fed;
	n = send(proof_case->g, proof_case->pattern + transmit->fed, want, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n <= 0)
		return false;
	transmit->fed += (size_t)n;
	transmit->in_turn += (size_t)n;
	if (transmit->in_turn == write_sizes[transmit->turn]) {
		transmit->turn = (transmit->turn + 1) % ARRAY_SIZE(write_sizes);
		transmit->in_turn = 0;
	}
	return true;
}

/* One refill, only when nothing is held. */
static bool take_from_a(struct transmit *transmit)
{
	struct proof_case *proof_case = transmit->proof_case;
	ssize_t n;

	if (transmit->held > 0 || transmit->a_ended)
		return false;
	if (proof_case->mode == PROOF_SPLICE)
		n = splice(proof_case->a, NULL, proof_case->pipe[1], NULL, proof_case->pipe_size, SPLICE_F_NONBLOCK);
	else
		n = recv(proof_case->a, proof_case->buffer, PROOF_BUFFER, MSG_DONTWAIT);
	if (n == -1) {
		if (errno != EAGAIN)
			proof_verdict(proof_case, PROOF_UNSAFE, "reading A: %s", strerror(errno));
		return false;
	}
	transmit->a_ended = n == 0;
	transmit->held = (size_t)n;
	transmit->held_from = 0;
	return true;
}

static bool give_to_b(struct transmit *transmit)
{
	struct proof_case *proof_case = transmit->proof_case;
	ssize_t n;

	if (transmit->held == 0)
		return false;
	if (proof_case->mode == PROOF_SPLICE)
		n = splice(proof_case->pipe[0], NULL, proof_case->b, NULL, transmit->held, SPLICE_F_NONBLOCK);
	else
		n = send(proof_case->b, proof_case->buffer + transmit->held_from, transmit->held,
		         MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n == -1) {
		if (errno != EAGAIN)
			proof_verdict(proof_case, PROOF_UNSAFE, "writing B: %s", strerror(errno));
		return false;
	}
	transmit->held -= (size_t)n;
	transmit->held_from += (size_t)n;
	return n > 0;
}

static bool end_b(struct transmit *transmit)
{
	static const uint8_t close_notify[] = {1, 0};
	struct proof_case *proof_case = transmit->proof_case;
	struct pollfd writable = {proof_case->b, POLLOUT, 0};
	int error;

	/* As the relay does: only when B is writable, so that FIN cannot cut what kTLS still keeps to itself. */
	if (!transmit->a_ended || transmit->held > 0 || transmit->b_ended || poll(&writable, 1, 0) != 1)
		return false;
	error = proof_send_control(proof_case->b, TLS_CONTENT_ALERT, close_notify, sizeof(close_notify));
	if (error == -EAGAIN)
		return false;
	if (error)
		proof_verdict(proof_case, PROOF_UNSAFE, "close_notify: %s", strerror(-error));
	shutdown(proof_case->b, SHUT_WR);
	return transmit->b_ended = true;
}

/* One record of S. */
static void check_record(struct transmit *transmit, const uint8_t *record, size_t length)
{
	struct proof_case *proof_case = transmit->proof_case;
	uint8_t plain[TLS_RECORD_PLAIN_MAX + 256];
	enum tls_content_type type;
	ssize_t size = record_open(proof_case->far_end, record, length, plain, &type);

	if (size < 0) {
		proof_verdict(proof_case, PROOF_UNSAFE, "a record after %zu bytes does not open", transmit->opened);
		return;
	}
	if (transmit->notified) {
		proof_verdict(proof_case, PROOF_UNSAFE, "a record after close_notify");
		return;
	}
	if (type == TLS_CONTENT_ALERT && size == 2 && plain[0] == 1 && plain[1] == 0) {
		transmit->notified = true;
		return;
	}
	if (type != TLS_CONTENT_APPLICATION_DATA) {
		proof_verdict(proof_case, PROOF_UNSAFE, "a record of type %u", type);
		return;
	}
	if ((size_t)size > PROOF_BYTES - transmit->opened ||
	    memcmp(plain, proof_case->pattern + transmit->opened, (size_t)size) != 0) {
		proof_verdict(proof_case, PROOF_UNSAFE, "bytes lost, changed or reordered after %zu", transmit->opened);
		return;
	}
	transmit->opened += (size_t)size;
}

/* The bytes of the wire, looked at twice: for the marker, and as records. */
static bool drain(struct transmit *transmit)
{
	struct proof_case *proof_case = transmit->proof_case;
	size_t done = 0;
	ssize_t n = recv(proof_case->s, proof_case->raw + transmit->raw_size, PROOF_RAW - transmit->raw_size,
	                 MSG_DONTWAIT);

	if (n == -1) {
		if (errno != EAGAIN)
			proof_verdict(proof_case, PROOF_UNSAFE, "reading S: %s", strerror(errno));
		return false;
	}
	if (n == 0)
		return transmit->s_ended = true;
	transmit->raw_size += (size_t)n;
	if (proof_has_marker(proof_case->raw, transmit->raw_size))
		proof_verdict(proof_case, PROOF_UNSAFE, "plaintext on the wire");
	while (!proof_decided(proof_case)) {
		ssize_t length = record_length(proof_case->raw + done, transmit->raw_size - done);

		if (length < 0)
			proof_verdict(proof_case, PROOF_UNSAFE, "bytes on the wire that are no TLS record");
		if (length <= 0 || (size_t)length > transmit->raw_size - done)
			break;
		check_record(transmit, proof_case->raw + done, (size_t)length);
		done += (size_t)length;
	}
	transmit->raw_size -= done;
	memmove(proof_case->raw, proof_case->raw + done, transmit->raw_size);
	return true;
}

void proof_transmit(struct proof_case *proof_case)
{
	struct transmit transmit = {.proof_case = proof_case};

	while (!proof_decided(proof_case) && !transmit.s_ended) {
		bool moved = feed(&transmit);

		moved |= take_from_a(&transmit);
		moved |= give_to_b(&transmit);
		moved |= end_b(&transmit);
		moved |= drain(&transmit);
		if (moved)
			proof_progress(proof_case);
		else if (!proof_decided(proof_case) &&
		         !proof_wait(proof_case,
		                     (const short[4]){
		                             transmit.g_ended ? 0 : POLLOUT,
		                             transmit.held > 0 || transmit.a_ended ? 0 : POLLIN,
		                             transmit.held > 0 || (transmit.a_ended && !transmit.b_ended) ? POLLOUT : 0,
		                             POLLIN}))
			return;
	}
	if (transmit.opened != PROOF_BYTES)
		proof_verdict(proof_case, PROOF_UNSAFE, "%zu of %zu bytes arrived", transmit.opened, PROOF_BYTES);
	else if (!transmit.notified || transmit.raw_size > 0)
		proof_verdict(proof_case, PROOF_UNSAFE, "the end of the stream without close_notify");
	proof_verdict(proof_case, PROOF_SAFE, "%s", "");
}
