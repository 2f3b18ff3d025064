/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KeyUpdate (RFC 8446 4.6.3, 7.2) once keys are in the kernel.
 *
 * The backend's is read as a record; from then on the kernel refuses to read (EKEYEXPIRED) until TLS_RX is set again. A
 * kernel that cannot do so (EBUSY: 6.1, 6.12) leaves a counted reset. Ours is a record of the kernel's under the old
 * key, and TLS_TX set again behind it: sent when the backend asks for it, or when a key nears its limit. It may find no
 * room on B: then nothing else is written to B before it.
 */
#include "datapath/relay_internal.h"

#include <errno.h>
#include <string.h>

#include <openssl/crypto.h>

#include "base/cleanup.h"
#include "datapath/record_message.h"

#define HANDSHAKE_KEY_UPDATE 24

static void keys_cleanup(struct traffic_keys *keys)
{
	OPENSSL_cleanse(keys, sizeof(*keys));
}

void relay_keep_secrets(struct relay *relay)
{
	if (relay->hides_key_update || relay->rekeys_transmit)
		(void)tls_session_take_rekey_secrets(relay->session, &relay->secrets);
}

bool relay_can_rekey(const struct relay *relay, const struct relay_direction *direction)
{
	bool known = relay->session || relay->secrets.length > 0;

	/* The backend's key changes when it is asked to, by a KeyUpdate of ours. */
	return known && relay->rekeys_transmit && direction->mode != RELAY_USER_TLS &&
	       (direction->to_backend || relay->hides_key_update);
}

static int next_keys(struct relay *relay, enum tls_direction direction, struct traffic_keys *keys)
{
	struct tls_rekey_secrets *secrets = &relay->secrets;
	uint8_t *secret = direction == TLS_DIRECTION_TRANSMIT ? secrets->transmit : secrets->receive;
	int error;

	/* While OpenSSL reads, the secrets are the session's. */
	if (relay->session)
		return tls_session_next_transmit_keys(relay->session, keys);
	error = keys_next_secret(secrets->cipher, secret, secrets->length);
	return error ? error : keys_derive_1_3(secrets->cipher, secret, secrets->length, keys);
}

static bool install_next(struct relay *relay, enum tls_direction direction)
{
	_cleanup_(keys_cleanup) struct traffic_keys keys = {0};
	const char *name = direction == TLS_DIRECTION_TRANSMIT ? "TLS_TX" : "TLS_RX";
	int error = next_keys(relay, direction, &keys);

	if (!error)
		error = keys_install_by(relay->worker->io->setsockopt, relay->b_fd, direction, &keys);
	if (error)
		relay_fail(relay, error == -ENOMEM ? REASON_NO_MEMORY : REASON_KEY_UPDATE, "%s set again: %s", name,
		           strerror(-error));
	return !error;
}

bool relay_follow_key_update(struct relay *relay, bool answer_wanted)
{
	relay->key_updates++;
	if (!relay->hides_key_update || relay->secrets.length == 0) {
		relay_fail(relay, REASON_KEY_UPDATE, "the backend sent KeyUpdate");
		return false;
	}
	if (!install_next(relay, TLS_DIRECTION_RECEIVE))
		return false;
	relay->to_gateway.key_blocks = 0;
	relay->update_wanted = false;
	return !answer_wanted || relay_begin_key_update(relay, false);
}

bool relay_begin_key_update(struct relay *relay, bool wants_update)
{
	/* Nothing may follow close_notify, and nothing of ours does. */
	if (relay->transmit == TRANSMIT_CLOSING || relay->transmit == TRANSMIT_ENDED)
		return true;
	if (!relay->rekeys_transmit || (!relay->session && relay->secrets.length == 0)) {
		relay_fail(relay, REASON_KEY_UPDATE, "the backend asked for a KeyUpdate of ours");
		return false;
	}
	relay->key_update_due = true;
	relay->wants_update |= wants_update;
	(void)relay_finish_key_update(relay);
	return !relay->ended;
}

bool relay_finish_key_update(struct relay *relay)
{
	const uint8_t key_update[] = {HANDSHAKE_KEY_UPDATE, 0, 0, 1, relay->wants_update};
	struct record_message message;

	if (!relay->key_update_due)
		return true;
	record_message_to_send(&message, TLS_CONTENT_HANDSHAKE, key_update, sizeof(key_update));
	if (relay->worker->io->sendmsg(relay->b_fd, &message.header, MSG_DONTWAIT | MSG_NOSIGNAL) == -1) {
		if (errno != EAGAIN && errno != EINTR)
			relay_fail_call(relay, "KeyUpdate", true, errno);
		return false;
	}
	relay->key_update_due = relay->wants_update = false;
	if (!install_next(relay, TLS_DIRECTION_TRANSMIT))
		return false;
	return true;
}
