// SPDX-License-Identifier: GPL-2.0-only
/*
 * S->B->A->G: records sealed by hand, of all sizes, padded where TLS 1.3 allows it, with tickets between; G must read
 * the pattern and nothing else, the tickets must come out at their places, and close_notify last.
 */
#include "datapath/proof_case.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tls.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif
#ifndef TLS_RX_EXPECT_NO_PAD
#define TLS_RX_EXPECT_NO_PAD 4 /* Linux 6.0 */
#endif

/* What S puts into a record. Padding counts in TLS 1.3 only. */
static const struct shape {
	size_t size, padding;
} shapes[] = {
        {1, 0},        {3, 0},     {16383, 0},  {16384, 0}, {16384, 0}, {100, 1000}, {5, 0},     {16383, 1},
        {1000, 15384}, {16384, 0}, {12000, 31}, {1, 16383}, {0, 0},     {7, 0},      {16384, 0}, {16384, 0},
        {4096, 0},     {15, 1},    {0, 5},      {8192, 0},  {16384, 0}, {2, 255},    {9000, 0},  {16384, 0},
};
#define RECORDS_PER_TICKET 5
#define RECORDS_AT_A_TIME  24

struct receive {
	struct proof_case *proof_case;
	size_t sealed;  /* bytes of the pattern that S has sealed */
	size_t records; /* data records sealed */
	size_t tickets_sent;
	bool notified; /* S has sealed close_notify */
	bool s_ended;
	uint8_t record[TLS_RECORD_MAX]; /* S's present record */
	size_t record_size, record_sent;

	size_t taken; /* bytes of data out of B */
	size_t tickets_seen;
	bool b_notified; /* close_notify out of B */
	bool b_ended;
	size_t held, held_from; /* between B and A, in buffer or pipe */
	bool a_ended;
	size_t arrived; /* at G */
	bool g_ended;
};

/* As a NewSessionTicket begins, and with the place in the stream that it must come out at. */
struct ticket {
	uint8_t type;
	uint8_t length[3];
	uint64_t place;
};

static void seal_next(struct receive *receive)
{
	struct proof_case *proof_case = receive->proof_case;
	static const uint8_t close_notify[] = {1, 0};
	bool is_1_3 = proof_case->keys.version == TLS_VERSION_1_3;
	const struct shape *shape = &shapes[receive->records % ARRAY_SIZE(shapes)];
	size_t size = shape->size < PROOF_BYTES - receive->sealed ? shape->size : PROOF_BYTES - receive->sealed;
	ssize_t length;

	if (receive->sealed == PROOF_BYTES) {
		length = record_seal(proof_case->far_end, TLS_CONTENT_ALERT, close_notify, sizeof(close_notify), 0,
		                     receive->record);
		receive->notified = true;
	} else if (receive->records / RECORDS_PER_TICKET > receive->tickets_sent) {
		const struct ticket ticket = {4, {0, 0, 8}, receive->sealed};

		length = record_seal(proof_case->far_end, TLS_CONTENT_HANDSHAKE, &ticket, sizeof(ticket),
		                     is_1_3 ? 3 : 0, receive->record);
		receive->tickets_sent++;
	} else {
		length = record_seal(proof_case->far_end, TLS_CONTENT_APPLICATION_DATA,
		                     proof_case->pattern + receive->sealed, size, is_1_3 ? shape->padding : 0,
		                     receive->record);
		receive->sealed += size;
		receive->records++;
	}
	if (length < 0)
		proof_verdict(proof_case, PROOF_UNAVAILABLE, "OpenSSL cannot seal: %s", strerror((int)-length));
	receive->record_size = length < 0 ? 0 : (size_t)length;
	receive->record_sent = 0;
}

static bool feed(struct receive *receive)
{
	struct proof_case *proof_case = receive->proof_case;
	ssize_t n;

	if (receive->s_ended)
		return false;
	if (receive->record_sent == receive->record_size) {
		if (receive->notified) {
			shutdown(proof_case->s, SHUT_WR);
			return receive->s_ended = true;
		}
		seal_next(receive);
	}
	n = send(proof_case->s, receive->record + receive->record_sent, receive->record_size - receive->record_sent,
	         MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n <= 0)
		return false;
	receive->record_sent += (size_t)n;
	return true;
}

static void check_control(struct receive *receive, unsigned int type, size_t size)
{
	struct proof_case *proof_case = receive->proof_case;
	const uint8_t *bytes = proof_case->buffer;
	struct ticket ticket;

	if (type == TLS_CONTENT_ALERT && size == 2 && bytes[0] == 1 && bytes[1] == 0) {
		receive->b_notified = true;
		return;
	}
	if (type != TLS_CONTENT_HANDSHAKE || size != sizeof(ticket)) {
		proof_verdict(proof_case, PROOF_UNSAFE, "a record of type %u and %zu bytes that nobody sent", type,
		              size);
		return;
	}
	memcpy(&ticket, bytes, sizeof(ticket));
	if (ticket.type != 4 || ticket.place != receive->taken)
		proof_verdict(proof_case, PROOF_UNSAFE, "a control record came after %zu bytes, not after %llu",
		              receive->taken, (unsigned long long)ticket.place);
	receive->tickets_seen++;
}

/* recvmsg(), as the relay does it: data into the buffer, or one control record. */
static bool take_record(struct receive *receive)
{
	struct proof_case *proof_case = receive->proof_case;
	unsigned int type;
	ssize_t n = proof_receive_record(proof_case->b, proof_case->buffer, PROOF_BUFFER, &type);

	if (n == -1) {
		if (errno != EAGAIN)
			proof_verdict(proof_case, PROOF_UNSAFE, "recvmsg: %s", strerror(errno));
		return false;
	}
	if (type == 0 && n == 0)
		return receive->b_ended = true;
	if (type == 0)
		proof_verdict(proof_case, PROOF_UNSAFE, "%zd bytes without a record type", n);
	else if (type != TLS_CONTENT_APPLICATION_DATA)
		check_control(receive, type, (size_t)n);
	else
		receive->held = (size_t)n;
	receive->held_from = 0;
	receive->taken += receive->held;
	return true;
}

/* splice() into the pipe, which is empty; what it will not take is a control record, or the end. */
static bool take_spliced(struct receive *receive, bool *held_in_pipe)
{
	struct proof_case *proof_case = receive->proof_case;
	ssize_t n = splice(proof_case->b, NULL, proof_case->pipe[1], NULL, proof_case->pipe_size, SPLICE_F_NONBLOCK);

	*held_in_pipe = n > 0;
	if (n > 0) {
		receive->held = (size_t)n;
		receive->taken += (size_t)n;
		return true;
	}
	if (n == 0 || errno == EINVAL)
		return take_record(receive);
	if (errno != EAGAIN)
		proof_verdict(proof_case, PROOF_UNSAFE, "splice from B: %s", strerror(errno));
	return false;
}

static bool give_to_a(struct receive *receive, bool held_in_pipe)
{
	struct proof_case *proof_case = receive->proof_case;
	ssize_t n;

	if (receive->held == 0)
		return false;
	if (held_in_pipe)
		n = splice(proof_case->pipe[0], NULL, proof_case->a, NULL, receive->held, SPLICE_F_NONBLOCK);
	else
		n = send(proof_case->a, proof_case->buffer + receive->held_from, receive->held,
		         MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n == -1) {
		if (errno != EAGAIN)
			proof_verdict(proof_case, PROOF_UNSAFE, "writing A: %s", strerror(errno));
		return false;
	}
	receive->held -= (size_t)n;
	receive->held_from += (size_t)n;
	return n > 0;
}

static bool move(struct receive *receive, bool *held_in_pipe)
{
	struct proof_case *proof_case = receive->proof_case;
	bool moved = false;

	if (receive->held == 0 && !receive->b_ended) {
		*held_in_pipe = false;
		moved = proof_case->mode == PROOF_SPLICE ? take_spliced(receive, held_in_pipe) : take_record(receive);
	}
	moved |= give_to_a(receive, *held_in_pipe);
	if (receive->b_ended && receive->held == 0 && !receive->a_ended) {
		shutdown(proof_case->a, SHUT_WR);
		moved = receive->a_ended = true;
	}
	return moved;
}

/* raw serves as G's buffer here: the wire is of our own making in this direction. */
static bool drain(struct receive *receive)
{
	struct proof_case *proof_case = receive->proof_case;
	ssize_t n = recv(proof_case->g, proof_case->raw, PROOF_RAW, MSG_DONTWAIT);

	if (n == -1) {
		if (errno != EAGAIN)
			proof_verdict(proof_case, PROOF_UNSAFE, "reading G: %s", strerror(errno));
		return false;
	}
	if (n == 0)
		return receive->g_ended = true;
	if ((size_t)n > PROOF_BYTES - receive->arrived ||
	    memcmp(proof_case->raw, proof_case->pattern + receive->arrived, (size_t)n) != 0)
		proof_verdict(proof_case, PROOF_UNSAFE, "bytes lost, changed or reordered after %zu", receive->arrived);
	receive->arrived += (size_t)n;
	return true;
}

static bool expect_no_padding(struct proof_case *proof_case)
{
	const int on = 1;

	if (setsockopt(proof_case->b, SOL_TLS, TLS_RX_EXPECT_NO_PAD, &on, sizeof(on)) != -1)
		return true;
	proof_verdict(proof_case, PROOF_UNAVAILABLE, "TLS_RX_EXPECT_NO_PAD: %s", strerror(errno));
	return false;
}

void proof_receive(struct proof_case *proof_case)
{
	struct receive receive = {.proof_case = proof_case};
	bool held_in_pipe = false;

	if (proof_case->mode == PROOF_NO_PAD && !expect_no_padding(proof_case))
		return;
	while (!proof_decided(proof_case) && !receive.g_ended) {
		bool moved = false;

		/* Many at a time: one read that joins records is where Debian 6.12.95 corrupts padded ones (seen). */
		for (int burst = 0; burst < RECORDS_AT_A_TIME && feed(&receive); burst++)
			moved = true;
		moved |= move(&receive, &held_in_pipe);
		moved |= drain(&receive);
		if (moved)
			proof_progress(proof_case);
		else if (!proof_decided(proof_case) &&
		         !proof_wait(proof_case, (const short[4]){POLLIN, receive.held > 0 ? POLLOUT : 0,
		                                                  receive.held > 0 || receive.b_ended ? 0 : POLLIN,
		                                                  receive.s_ended ? 0 : POLLOUT}))
			return;
	}
	if (receive.arrived != PROOF_BYTES)
		proof_verdict(proof_case, PROOF_UNSAFE, "%zu of %zu bytes arrived", receive.arrived, PROOF_BYTES);
	else if (receive.tickets_seen != receive.tickets_sent)
		proof_verdict(proof_case, PROOF_UNSAFE, "%zu of %zu control records arrived", receive.tickets_seen,
		              receive.tickets_sent);
	else if (!receive.b_notified)
		proof_verdict(proof_case, PROOF_UNSAFE, "close_notify did not arrive");
	proof_verdict(proof_case, PROOF_SAFE, "%s", "");
}
