/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How a connection ends. A and B carry SO_LINGER{1,0} from birth: whatever closes them, the kernel on the agent's death
 * included, is a reset. Only end_gracefully() takes that away, after both directions ended in order: a gateway can
 * never take a cut body for a whole one.
 */
#include "datapath/relay_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>

#include "datapath/record_message.h"

/* RFC 8446 6.1, RFC 5246 7.2.1: warning(1), close_notify(0). */
static const uint8_t close_notify[2] = {1, 0};

/* Bytes of SO_SNDBUF for the few records that kTLS may hold back, their skbs' overhead included. */
#define CLOSE_NOTIFY_ROOM (256 << 10)

static void end(struct relay *relay, enum postern_reason reason, const char *detail)
{
	struct relay_worker *worker = relay->worker;
	struct loop *loop = worker->loop;

	relay->ended = true;
	loop_timer_cancel(loop, &relay->ticket_timer);
	loop_timer_cancel(loop, &relay->half_closed_timer);
	loop_timer_cancel(loop, &relay->idle_timer);
	loop_timer_cancel(loop, &relay->stall_timer);
	relay_look_forget(relay);
	loop_timer_cancel(loop, &relay->tail_timer);
	loop_timer_cancel(loop, &relay->gather_timer);
	loop_remove(loop, &relay->a);
	loop_remove(loop, &relay->b);
	tls_session_free(relay->session);
	relay->session = NULL;
	OPENSSL_cleanse(&relay->secrets, sizeof(relay->secrets));
	/* close() frees the descriptor whatever it returns. */
	(void)worker->io->close(relay->b_fd);
	(void)worker->io->close(relay->a_fd);
	relay->a_fd = relay->b_fd = -1;
	relay_rest_free(&relay->to_backend.rest);
	relay_rest_free(&relay->to_gateway.rest);
	if (relay->on_end)
		relay->on_end(relay->context, reason, detail);
	loop_defer(loop, slab_give, relay);
}

static void end_gracefully(struct relay *relay)
{
	const struct linger background = {.l_onoff = 0, .l_linger = 0};
	const struct kernel_io *io = relay->worker->io;

	(void)io->setsockopt(relay->a_fd, SOL_SOCKET, SO_LINGER, &background, sizeof(background));
	(void)io->setsockopt(relay->b_fd, SOL_SOCKET, SO_LINGER, &background, sizeof(background));
	end(relay, REASON_NONE, "");
}

void relay_fail(struct relay *relay, enum postern_reason reason, const char *format, ...)
{
	char detail[TLS_DETAIL_MAX];
	va_list arguments;

	if (relay->ended)
		return;
	va_start(arguments, format);
	vsnprintf(detail, sizeof(detail), format, arguments);
	va_end(arguments);
	end(relay, reason, detail);
}

static enum postern_reason call_reason(const struct relay *relay, bool on_backend, int error)
{
	switch (error) {
	case ENOMEM:
	case ENOBUFS:
		return REASON_NO_MEMORY;
	case ECONNRESET:
	case EPIPE:
		return on_backend ? REASON_BACKEND_RESET : REASON_GATEWAY_RESET;
	case ECONNABORTED: /* SOCK_DESTROY */
		return on_backend ? REASON_RELAY_ERROR : REASON_GATEWAY_RESET;
	}
	if (!on_backend)
		return REASON_RELAY_ERROR;
	switch (error) {
	case ETIMEDOUT:
		return REASON_BACKEND_SILENT;
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ECONNREFUSED:
		return REASON_BACKEND_UNREACHABLE;
	}
	if (relay->to_backend.mode == RELAY_PLAIN)
		return REASON_RELAY_ERROR;
	/* What net/tls says of the peer's records; EBADMSG stays in sk_err and meets writers, too. */
	switch (error) {
	case EBADMSG:
		return REASON_DECRYPT_ERROR;
	case EKEYEXPIRED:
		return REASON_KEY_UPDATE;
	case EINVAL: /* a version that is not 3.3 */
	case EMSGSIZE:
	case EPROTO:
		return REASON_UNEXPECTED_RECORD;
	}
	return REASON_KERNEL_TLS_FAILED;
}

void relay_fail_call(struct relay *relay, const char *call, bool on_backend, int error)
{
	enum postern_reason reason = call_reason(relay, on_backend, error);

	if (reason == REASON_KEY_UPDATE)
		relay->key_updates++;
	relay_fail(relay, reason, "%s on %s: %s", call, on_backend ? "B" : "A", strerror(error));
}

/*
 * Servers answer the end of an idle connection by closing theirs, without a word: nothing was cut off then, and nothing
 * failed. It is a reset all the same, as G may have closed one direction only and be waiting.
 */
void relay_fail_truncated(struct relay *relay, const char *detail)
{
	bool idle = relay->gateway_ended && !relay->awaits_answer && relay->to_gateway.bytes == relay->answered;

	relay_fail(relay, idle ? REASON_NONE : REASON_TRUNCATED, "%s%s",
	           detail ? detail : "TCP ended without close_notify",
	           relay->gateway_ended ? ", after the gateway's own end" : "");
}

void relay_fail_session(struct relay *relay)
{
	enum postern_reason reason = tls_session_reason(relay->session);
	const char *detail = tls_session_detail(relay->session);

	if (reason == REASON_TRUNCATED)
		relay_fail_truncated(relay, detail);
	else
		relay_fail(relay, reason == REASON_NONE ? REASON_INTERNAL : reason, "%s", detail);
}

void relay_abort(struct relay *relay, enum postern_reason reason, const char *detail)
{
	relay_fail(relay, reason, "%s", detail);
}

static void end_if_both_ended(struct relay *relay)
{
	if (relay->transmit == TRANSMIT_ENDED && relay->receive == RECEIVE_ENDED)
		end_gracefully(relay);
}

static int send_close_notify_record(struct relay *relay)
{
	struct record_message message;

	record_message_to_send(&message, TLS_CONTENT_ALERT, close_notify, sizeof(close_notify));
	if (relay->worker->io->sendmsg(relay->b_fd, &message.header, MSG_DONTWAIT | MSG_NOSIGNAL) == -1)
		return -errno;
	return 0;
}

/*
 * kTLS takes a record when TCP has any room at all, and keeps a part of its ciphertext to itself until TCP has room
 * again (net/tls: partially_sent_record). A FIN sent meanwhile cuts that part off for good, without an error to anyone:
 * measured on 6.1, 6.12 and 7.3 with a full send buffer, close_notify and shutdown(). With room beyond what was ever
 * asked for, the sendmsg() of close_notify pushes everything that is before it, and itself, into TCP in the same call
 * (tls_tx_records(), in order), and FIN comes after it. False: no CAP_NET_ADMIN.
 */
static bool make_room(struct relay *relay)
{
	const struct kernel_io *io = relay->worker->io;
	int size = 0;
	socklen_t length = sizeof(size);

	if (relay->room_made)
		return true;
	/* The kernel reports, and doubles when it is told. Its own growing ends with this; so does B's sending. */
	if (io->getsockopt(relay->b_fd, SOL_SOCKET, SO_SNDBUF, &size, &length) == -1)
		return false;
	size = (size + CLOSE_NOTIFY_ROOM) / 2;
	relay->room_made = io->setsockopt(relay->b_fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) == 0;
	return relay->room_made;
}

void relay_close_backend(struct relay *relay, bool writable)
{
	int error;

	if (relay->to_backend.mode == RELAY_USER_TLS) {
		error = tls_session_shutdown(relay->session);
	} else {
		/* Otherwise the third of the buffer that EPOLLOUT stands for must do: far more than one record. */
		if (!make_room(relay) && !writable)
			return;
		error = send_close_notify_record(relay);
	}
	if (error == -EAGAIN || error == -EINTR)
		return;
	/* A backend that ended before us has closed its socket, as a rule: it need not hear our close_notify. */
	if (error && relay->receive != RECEIVE_ENDED) {
		if (relay->to_backend.mode == RELAY_USER_TLS)
			relay_fail_session(relay);
		else
			relay_fail_call(relay, "close_notify", true, -error);
		return;
	}
	(void)relay->worker->io->shutdown(relay->b_fd, SHUT_WR);
	relay->transmit = TRANSMIT_ENDED;
	end_if_both_ended(relay);
}

static void begin_closing(struct relay *relay)
{
	relay->transmit = TRANSMIT_CLOSING;
	relay->key_update_due = false; /* no data follows that would need it, and it may not follow close_notify */
	relay_close_backend(relay, false);
}

void relay_gateway_ended(struct relay *relay)
{
	struct relay_worker *worker = relay->worker;

	relay->gateway_ended = true;
	relay->answered = relay->to_gateway.bytes;
	if (relay->to_backend.mode == RELAY_PLAIN) {
		(void)worker->io->shutdown(relay->b_fd, SHUT_WR);
		relay->transmit = TRANSMIT_ENDED;
		end_if_both_ended(relay);
		return;
	}
	/*
	 * A peer of TLS 1.2 answers close_notify by dropping what it still had to send (RFC 5246 7.2.1): a gateway that
	 * half-closes would lose the response. TLS 1.3 closes one direction only (RFC 8446 6.1).
	 */
	if (relay->version == TLS_VERSION_1_2 && relay->receive != RECEIVE_ENDED) {
		relay->transmit = TRANSMIT_DEFERRED;
		if (loop_timer_set(worker->loop, &relay->half_closed_timer, worker->timeouts.half_closed_ns))
			relay_fail(relay, REASON_NO_MEMORY, "no timer");
		return;
	}
	begin_closing(relay);
}

void relay_backend_ended(struct relay *relay)
{
	relay->receive = RECEIVE_ENDED;
	loop_timer_cancel(relay->worker->loop, &relay->half_closed_timer);
	loop_timer_cancel(relay->worker->loop, &relay->ticket_timer);
	relay_look_forget(relay);
	loop_timer_cancel(relay->worker->loop, &relay->tail_timer);
	/* Everything before it was written to A: B is not read while a rest waits. */
	(void)relay->worker->io->shutdown(relay->a_fd, SHUT_WR);
	if (relay->transmit == TRANSMIT_DEFERRED)
		begin_closing(relay);
	else
		end_if_both_ended(relay);
}

void relay_half_closed_expired(struct relay *relay)
{
	struct relay_worker *worker = relay->worker;
	uint64_t limit = worker->timeouts.half_closed_ns;
	uint64_t quiet = monotonic_ns() - relay->to_gateway.moved_ns;

	/* A response that still flows, or waits for a slow gateway, is let flow: close_notify would cut it. */
	if (quiet < limit || relay->receive == RECEIVE_BLOCKED) {
		if (loop_timer_set(worker->loop, &relay->half_closed_timer, quiet < limit ? limit - quiet : limit))
			relay_fail(relay, REASON_NO_MEMORY, "no timer");
		return;
	}
	begin_closing(relay);
}
