// SPDX-License-Identifier: GPL-2.0-only
#include <string.h>

#include <openssl/crypto.h>

#include "base/cleanup.h"
#include "tls/alert.h"
#include "tls/session_private.h"

#define CLIENT_SECRET "CLIENT_TRAFFIC_SECRET_0 "
#define SERVER_SECRET "SERVER_TRAFFIC_SECRET_0 "

/* OpenSSL writes nothing but 0-9a-f; no table and no branch, so that no cache line and no timing tells a secret. */
static uint8_t nibble(char digit)
{
	return (uint8_t)((digit & 0x0f) + 9 * (digit >> 6));
}

/* "LABEL <client random> <secret>", both in hex (the format of SSLKEYLOGFILE). */
static void keep_secret(struct tls_session *session, const char *random, uint8_t secret[static TLS_SECRET_MAX])
{
	const char *hex = strchr(random, ' ');
	size_t length = hex ? strlen(hex + 1) : 0;

	if (length == 0 || length % 2 != 0 || length / 2 > TLS_SECRET_MAX)
		return;
	for (size_t i = 0; i < length / 2; i++)
		secret[i] = (uint8_t)(nibble(hex[1 + 2 * i]) << 4 | nibble(hex[2 + 2 * i]));
	session->secrets.length = length / 2;
}

void session_on_keylog(const SSL *ssl, const char *line)
{
	struct tls_session *session = SSL_get_app_data(ssl);

	if (strncmp(line, CLIENT_SECRET, strlen(CLIENT_SECRET)) == 0)
		keep_secret(session, line + strlen(CLIENT_SECRET), session->secrets.transmit);
	else if (strncmp(line, SERVER_SECRET, strlen(SERVER_SECRET)) == 0)
		keep_secret(session, line + strlen(SERVER_SECRET), session->secrets.receive);
}

/* RFC 8446 4.6.3; OpenSSL judges the message itself after this. */
static void on_key_update(struct tls_session *session, const uint8_t *message, size_t length)
{
	/* What follows is under the next key: whoever arms the kernel later must have it. */
	session->reader.records = 0;
	if (keys_next_secret(session->info.cipher, session->secrets.receive, session->secrets.length) < 0)
		session_fail(session, REASON_INTERNAL, "the next receive secret could not be derived");
	if (session->transmit_armed && length == 5 && message[4] == SSL_KEY_UPDATE_REQUESTED)
		session->update_requested = session->answer_expected = true;
}

static void on_handshake_message(struct tls_session *session, const uint8_t *message, size_t length, bool is_1_3)
{
	uint8_t type = message[0];

	session->last_message = type;
	switch (type) {
	case SSL3_MT_SERVER_HELLO:
		session->server_hello = true;
		break;
	case SSL3_MT_CERTIFICATE_REQUEST:
		session->certificate_requested = true;
		break;
	case SSL3_MT_FINISHED:
		if (is_1_3) /* RFC 8446 5.3: the application traffic key begins at zero */
			session->reader.records = 0;
		break;
	case SSL3_MT_KEY_UPDATE:
		if (session->handshake_done)
			on_key_update(session, message, length);
		break;
	default:
		break;
	}
}

static void on_alert(struct tls_session *session, uint8_t level, uint8_t description, bool is_1_3)
{
	bool fatal = is_1_3 ? description != TLS_ALERT_CLOSE_NOTIFY && description != TLS_ALERT_USER_CANCELED
	                    : level == SSL3_AL_FATAL;

	if (!fatal)
		return;
	session->alerted = true;
	session->alert = description;
}

void session_on_message(int written, int version, int content_type, const void *bytes, size_t length, SSL *ssl,
                        void *argument)
{
	struct tls_session *session = SSL_get_app_data(ssl);
	const uint8_t *message = bytes;
	/* Until ServerHello, SSL_version() is the highest that was offered. */
	bool is_1_3 = session->server_hello && SSL_version(ssl) == TLS1_3_VERSION;

	(void)version;
	(void)argument;
	if (written)
		return;
	if (content_type == SSL3_RT_HANDSHAKE && length >= 1)
		on_handshake_message(session, message, length, is_1_3);
	else if (content_type == SSL3_RT_ALERT && length >= 2)
		on_alert(session, message[0], message[1], is_1_3);
}
