// SPDX-License-Identifier: GPL-2.0-only
/*
 * The hand-over: OpenSSL's traffic keys become the kernel's.
 */
#include <errno.h>

#include <openssl/crypto.h>

#include "base/cleanup.h"
#include "tls/session_private.h"

static void keys_cleanup(struct traffic_keys *keys)
{
	OPENSSL_cleanse(keys, sizeof(*keys));
}

static int derive_1_2(struct tls_session *session, struct traffic_keys *transmit, struct traffic_keys *receive)
{
	uint8_t client_random[SSL3_RANDOM_SIZE];
	uint8_t server_random[SSL3_RANDOM_SIZE];
	uint8_t master[SSL_MAX_MASTER_KEY_LENGTH];
	size_t length = SSL_SESSION_get_master_key(SSL_get0_session(session->ssl), master, sizeof(master));
	int r = -EIO;

	SSL_get_client_random(session->ssl, client_random, sizeof(client_random));
	SSL_get_server_random(session->ssl, server_random, sizeof(server_random));
	if (length == sizeof(master))
		r = keys_derive_1_2(session->info.cipher, master, client_random, server_random, transmit, receive);
	OPENSSL_cleanse(master, sizeof(master));
	return r;
}

static int derive(struct tls_session *session, enum tls_direction direction, struct traffic_keys *keys)
{
	const struct tls_rekey_secrets *secrets = &session->secrets;
	_cleanup_(keys_cleanup) struct traffic_keys other = {0};

	if (session->info.version == TLS_VERSION_1_3)
		return keys_derive_1_3(session->info.cipher,
		                       direction == TLS_DIRECTION_TRANSMIT ? secrets->transmit : secrets->receive,
		                       secrets->length, keys);
	if (direction == TLS_DIRECTION_TRANSMIT)
		return derive_1_2(session, keys, &other);
	return derive_1_2(session, &other, keys);
}

int tls_session_arm_transmit(struct tls_session *session)
{
	_cleanup_(keys_cleanup) struct traffic_keys keys = {0};
	int r;

	/* A record that OpenSSL has sealed since would make the sequence number wrong, and a nonce be used twice. */
	if (!session->handshake_done || session->failed || session->transmit_armed || session->written ||
	    SSL_get_key_update_type(session->ssl) != SSL_KEY_UPDATE_NONE)
		return -EINVAL;
	if (session->info.cipher == TLS_CIPHER_OTHER)
		return -ENOENT;
	r = derive(session, TLS_DIRECTION_TRANSMIT, &keys);
	if (r == 0)
		r = keys_attach_ulp(session->fd);
	if (r == 0)
		r = keys_install(session->fd, TLS_DIRECTION_TRANSMIT, &keys);
	session->transmit_armed = r == 0;
	return r;
}

bool tls_session_at_boundary(const struct tls_session *session)
{
	/* SSL_in_init(): the first part of a handshake message that goes on in the next record was taken. */
	return session->handshake_done && !session->failed && session->reader.header_length == 0 &&
	       !SSL_has_pending(session->ssl) && !SSL_in_init(session->ssl);
}

int tls_session_arm_receive(struct tls_session *session)
{
	_cleanup_(keys_cleanup) struct traffic_keys keys = {0};
	int r;

	if (!tls_session_at_boundary(session) || session->receive_armed)
		return -EINVAL;
	if (session->info.cipher == TLS_CIPHER_OTHER)
		return -ENOENT;
	r = derive(session, TLS_DIRECTION_RECEIVE, &keys);
	if (r < 0)
		return r;
	keys.record_sequence = session->reader.records;
	r = session->transmit_armed ? 0 : keys_attach_ulp(session->fd);
	if (r == 0 || r == -EEXIST)
		r = keys_install(session->fd, TLS_DIRECTION_RECEIVE, &keys);
	session->receive_armed = r == 0;
	return r;
}

bool tls_session_take_update_request(struct tls_session *session)
{
	bool requested = session->update_requested;

	session->update_requested = false;
	return requested;
}

int tls_session_next_transmit_keys(struct tls_session *session, struct traffic_keys *keys)
{
	struct tls_rekey_secrets *secrets = &session->secrets;
	int r = -EINVAL;

	if (session->info.version == TLS_VERSION_1_3 && session->transmit_armed)
		r = keys_next_secret(session->info.cipher, secrets->transmit, secrets->length);
	return r < 0 ? r : keys_derive_1_3(session->info.cipher, secrets->transmit, secrets->length, keys);
}

bool tls_session_take_rekey_secrets(struct tls_session *session, struct tls_rekey_secrets *secrets)
{
	bool any = session->info.version == TLS_VERSION_1_3 && session->secrets.length > 0;

	if (any) {
		*secrets = session->secrets;
		secrets->cipher = session->info.cipher;
	}
	OPENSSL_cleanse(&session->secrets, sizeof(session->secrets));
	return any;
}
