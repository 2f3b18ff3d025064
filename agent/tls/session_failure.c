// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/sslerr.h>

#include "tls/alert.h"
#include "tls/session_private.h"

void session_fail(struct tls_session *session, enum postern_reason reason, const char *format, ...)
{
	va_list arguments;

	if (session->failed)
		return;
	session->failed = true;
	session->reason = reason;
	va_start(arguments, format);
	vsnprintf(session->detail, sizeof(session->detail), format, arguments);
	va_end(arguments);
}

static const char *phase(const struct tls_session *session)
{
	return session->handshake_done ? "after the handshake" : "in the handshake";
}

static void fail_by_alert(struct tls_session *session)
{
	enum postern_reason reason = alert_reason(session->alert, session->certificate_requested);

	/* Before ServerHello the backend has judged nothing but what was offered. */
	if (session->alert == SSL3_AD_HANDSHAKE_FAILURE && !session->server_hello)
		reason = REASON_NO_SHARED_CIPHER;
	session_fail(session, reason, "alert %s (%u) %s", alert_name(session->alert), session->alert, phase(session));
}

static void fail_by_socket(struct tls_session *session)
{
	enum postern_reason reason = REASON_RELAY_ERROR;

	switch (session->socket_error) {
	case ECONNRESET:
	case EPIPE:
		reason = REASON_BACKEND_RESET;
		break;
	case ETIMEDOUT:
		reason = REASON_BACKEND_SILENT;
		break;
	case EHOSTUNREACH:
	case ENETUNREACH:
		reason = REASON_BACKEND_UNREACHABLE;
		break;
	case ENOMEM:
	case ENOBUFS:
		reason = REASON_NO_MEMORY;
		break;
	default:
		break;
	}
	session_fail(session, reason, "%s: %s", phase(session), strerror(session->socket_error));
}

static void fail_by_malformed_record(struct tls_session *session)
{
	const uint8_t *header = session->reader.header;
	char text[TLS_RECORD_HEADER + 1] = "";

	for (size_t i = 0; i < TLS_RECORD_HEADER; i++)
		text[i] = header[i] >= ' ' && header[i] < 0x7f ? (char)header[i] : '.';
	session_fail(session, session->reader.any ? REASON_UNEXPECTED_RECORD : REASON_NOT_TLS,
	             "no TLS record begins with %02x %02x %02x %02x %02x \"%s\"", header[0], header[1], header[2],
	             header[3], header[4], text);
}

static void fail_by_end(struct tls_session *session)
{
	if (session->handshake_done)
		session_fail(session, REASON_TRUNCATED, "end of stream without close_notify");
	else if (session->reader.any)
		session_fail(session, REASON_HANDSHAKE_EOF, "end of stream in the handshake");
	else
		session_fail(session, REASON_HANDSHAKE_EOF, "end of stream before any answer");
}

static enum postern_reason reason_in_handshake(int code)
{
	switch (code) {
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_WRONG_SSL_VERSION:
	case SSL_R_WRONG_VERSION_NUMBER:
	case SSL_R_VERSION_TOO_LOW:
	case SSL_R_VERSION_TOO_HIGH:
	case SSL_R_BAD_PROTOCOL_VERSION_NUMBER:
	case SSL_R_INAPPROPRIATE_FALLBACK:
		return REASON_PROTOCOL_VERSION;
	case SSL_R_WRONG_CIPHER_RETURNED:
	case SSL_R_UNKNOWN_CIPHER_RETURNED:
	case SSL_R_WRONG_CURVE:
	case SSL_R_UNSUPPORTED_ELLIPTIC_CURVE:
		return REASON_NO_SHARED_CIPHER;
	default:
		return REASON_HANDSHAKE_FAILED;
	}
}

/* libssl's own word, if it has one: below it there may be a provider's "cipher operation failed". */
static unsigned long take_error(void)
{
	unsigned long first = ERR_get_error();
	unsigned long error = first;

	while (error != 0 && ERR_GET_LIB(error) != ERR_LIB_SSL)
		error = ERR_get_error();
	return error != 0 ? error : first;
}

static void fail_by_error_queue(struct tls_session *session, unsigned long error)
{
	const char *text = ERR_reason_error_string(error);
	int code = ERR_GET_REASON(error);
	enum postern_reason reason;

	if (code == ERR_R_MALLOC_FAILURE)
		reason = REASON_NO_MEMORY;
	else if (code == SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC)
		reason = REASON_DECRYPT_ERROR;
	else if (!session->handshake_done)
		reason = reason_in_handshake(code);
	else if (code == SSL_R_UNEXPECTED_MESSAGE) /* a handshake message that is neither ticket nor KeyUpdate */
		reason = REASON_RENEGOTIATION;
	else
		reason = REASON_UNEXPECTED_RECORD;
	session_fail(session, reason, "%s %s", text ? text : "unknown error", phase(session));
}

static void fail_by_sink(struct tls_session *session)
{
	session_fail(session, REASON_RENEGOTIATION, "handshake message %u wants an answer", session->last_message);
}

void session_fail_by_openssl(struct tls_session *session)
{
	unsigned long error = take_error();

	/* What was seen first-hand goes before what OpenSSL made of it. */
	if (session->verified.reason != REASON_NONE)
		session_fail(session, session->verified.reason, "%s", session->verified.detail);
	else if (session->alerted)
		fail_by_alert(session);
	else if (session->socket_error != 0)
		fail_by_socket(session);
	else if (session->reader.malformed)
		fail_by_malformed_record(session);
	else if (session->reader.ended)
		fail_by_end(session);
	else if (error != 0)
		fail_by_error_queue(session, error);
	else if (session->sink_hit)
		fail_by_sink(session);
	else if (SSL_get_shutdown(session->ssl) & SSL_RECEIVED_SHUTDOWN)
		session_fail(session, REASON_HANDSHAKE_EOF, "close_notify %s", phase(session));
	else
		session_fail(session, REASON_INTERNAL, "OpenSSL failed without an error");
	ERR_clear_error();
}
