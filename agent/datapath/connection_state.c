/* SPDX-License-Identifier: GPL-2.0-only */
/* One list of fields (transfer_state()) writes and reads: the two cannot differ. */
#include "datapath/connection_state.h"

#include <errno.h>
#include <string.h>

#include <openssl/crypto.h>

#define MAGIC 0x74736f70u /* "post" */

_Static_assert(TRANSMIT_FLOWING == 0 && TRANSMIT_ENDED == 4 && RECEIVE_FLOWING == 0 && RECEIVE_ENDED == 2 &&
                       TLS_VERSION_1_2 == 0 && TLS_VERSION_1_3 == 1 && TLS_CIPHER_OTHER == 3,
               "numbers of format 1");

struct codec {
	uint8_t *to;         /* writing; NULL while it is measured */
	const uint8_t *from; /* reading */
	size_t used;
	size_t size; /* reading: how much there is */
	int error;
};

static bool reads(const struct codec *codec)
{
	return codec->from != NULL;
}

static void transfer(struct codec *codec, void *value, size_t size)
{
	if (codec->error)
		return;
	if (reads(codec)) {
		if (codec->size - codec->used < size) {
			codec->error = -EBADMSG;
			return;
		}
		memcpy(value, codec->from + codec->used, size);
	} else if (codec->to) {
		memcpy(codec->to + codec->used, value, size);
	}
	codec->used += size;
}

#define NUMBER(codec, value) transfer(codec, &(value), sizeof(value))

static void transfer_bool(struct codec *codec, bool *value)
{
	uint8_t byte = *value;

	NUMBER(codec, byte);
	if (byte > 1)
		codec->error = -EBADMSG;
	*value = byte == 1;
}

/* An enum, 0..last. */
static unsigned int transfer_choice(struct codec *codec, unsigned int value, unsigned int last)
{
	uint8_t byte = (uint8_t)value;

	NUMBER(codec, byte);
	if (byte > last) {
		codec->error = -EBADMSG;
		return 0;
	}
	return byte;
}

static void transfer_text(struct codec *codec, char *text, size_t size)
{
	uint16_t length = (uint16_t)(reads(codec) ? 0 : strnlen(text, size - 1));

	NUMBER(codec, length);
	if (length >= size)
		codec->error = -EBADMSG;
	transfer(codec, text, codec->error ? 0 : length);
	if (!reads(codec))
		return;
	text[codec->error ? 0 : length] = '\0';
	if (!codec->error && strlen(text) != length)
		codec->error = -EBADMSG;
}

/* Bytes that stay where they are. */
static void transfer_bytes(struct codec *codec, const uint8_t **bytes, size_t *size)
{
	uint32_t length = (uint32_t)*size;

	NUMBER(codec, length);
	if (codec->error)
		return;
	if (reads(codec)) {
		if (codec->size - codec->used < length) {
			codec->error = -EBADMSG;
			return;
		}
		*bytes = length ? codec->from + codec->used : NULL;
		*size = length;
	} else if (codec->to && length) {
		memcpy(codec->to + codec->used, *bytes, length);
	}
	codec->used += length;
}

static void transfer_direction(struct codec *codec, struct relay_direction_state *direction)
{
	NUMBER(codec, direction->bytes);
	NUMBER(codec, direction->key_blocks);
	NUMBER(codec, direction->moved_ns);
	transfer_bytes(codec, &direction->rest, &direction->rest_size);
}

static void transfer_secrets(struct codec *codec, struct tls_rekey_secrets *secrets)
{
	uint8_t length = (uint8_t)secrets->length;

	NUMBER(codec, length);
	if (length > TLS_SECRET_MAX)
		codec->error = -EBADMSG;
	if (codec->error || length == 0)
		return;
	secrets->cipher = (enum tls_cipher)transfer_choice(codec, secrets->cipher, TLS_CIPHER_OTHER);
	secrets->length = length;
	transfer(codec, secrets->transmit, length);
	transfer(codec, secrets->receive, length);
}

static void transfer_relay(struct codec *codec, struct relay_state *relay)
{
	uint8_t header_size = (uint8_t)relay->handshake.header_size;
	uint32_t body_left = (uint32_t)relay->handshake.body_left;
	uint32_t warnings = relay->warnings;

	transfer_bool(codec, &relay->kernel_tls);
	relay->version = (enum tls_version)transfer_choice(codec, relay->version, TLS_VERSION_1_3);
	transfer_bool(codec, &relay->limits_key);
	transfer_bool(codec, &relay->first_read);
	transfer_bool(codec, &relay->gateway_ended);
	transfer_bool(codec, &relay->room_made);
	transfer_bool(codec, &relay->lane);
	transfer_bool(codec, &relay->update_wanted);
	relay->transmit = (enum transmit_state)transfer_choice(codec, relay->transmit, TRANSMIT_ENDED);
	relay->receive = (enum receive_state)transfer_choice(codec, relay->receive, RECEIVE_ENDED);
	transfer(codec, relay->handshake.header, sizeof(relay->handshake.header));
	NUMBER(codec, header_size);
	NUMBER(codec, body_left);
	NUMBER(codec, warnings);
	NUMBER(codec, relay->tickets_dropped);
	NUMBER(codec, relay->key_updates);
	transfer_secrets(codec, &relay->secrets);
	transfer_direction(codec, &relay->to_backend);
	transfer_direction(codec, &relay->to_gateway);
	relay->handshake.header_size = header_size;
	relay->handshake.body_left = body_left;
	relay->warnings = warnings;
}

static void transfer_state(struct codec *codec, struct connection_state *state)
{
	transfer_text(codec, state->gateway, sizeof(state->gateway));
	NUMBER(codec, state->destination);
	NUMBER(codec, state->gateway_port);
	NUMBER(codec, state->b_port);
	NUMBER(codec, state->ring);
	NUMBER(codec, state->lane_slot);
	NUMBER(codec, state->gateway_cookie);
	NUMBER(codec, state->begun_ns);
	NUMBER(codec, state->idle_ns);
	transfer_text(codec, state->policy, sizeof(state->policy));
	transfer_text(codec, state->sni, sizeof(state->sni));
	state->cipher = (enum tls_cipher)transfer_choice(codec, state->cipher, TLS_CIPHER_OTHER);
	transfer_text(codec, state->cipher_name, sizeof(state->cipher_name));
	transfer_text(codec, state->alpn, sizeof(state->alpn));
	transfer_text(codec, state->peer_identity, sizeof(state->peer_identity));
	transfer_bool(codec, &state->resumed);
	NUMBER(codec, state->peer_not_after);
	NUMBER(codec, state->peer_valid_until);
	transfer_bool(codec, &state->shows_certificate);
	transfer(codec, state->certificate_digest, sizeof(state->certificate_digest));
	transfer_bytes(codec, &state->chain, &state->chain_size);
	transfer_relay(codec, &state->relay);
}

static void transfer_all(struct codec *codec, struct connection_state *state)
{
	uint32_t magic = MAGIC, format = CONNECTION_STATE_FORMAT;

	NUMBER(codec, magic);
	NUMBER(codec, format);
	if (!codec->error && magic != MAGIC)
		codec->error = -EBADMSG;
	else if (!codec->error && format != CONNECTION_STATE_FORMAT)
		codec->error = -EPROTO;
	transfer_state(codec, state);
}

int connection_state_encode(const struct connection_state *state, uint8_t **bytes, size_t *size)
{
	struct connection_state copy = *state; /* transfer_state() takes what it may write */
	struct codec codec = {0};

	transfer_all(&codec, &copy);
	*size = codec.used;
	*bytes = *size <= CONNECTION_STATE_MAX ? OPENSSL_malloc(*size) : NULL;
	codec = (struct codec){.to = *bytes};
	if (*bytes)
		transfer_all(&codec, &copy);
	relay_state_wipe(&copy.relay);
	if (*bytes)
		return 0;
	return *size > CONNECTION_STATE_MAX ? -E2BIG : -ENOMEM;
}

/* A rest belongs to a blocked direction, and to no other one. */
static bool rests_fit(const struct relay_state *relay)
{
	return (relay->to_backend.rest_size > 0) == (relay->transmit == TRANSMIT_BLOCKED) &&
	       (relay->to_gateway.rest_size > 0) == (relay->receive == RECEIVE_BLOCKED) &&
	       relay->to_backend.rest_size <= RELAY_BUFFER_SIZE && relay->to_gateway.rest_size <= RELAY_BUFFER_SIZE;
}

static bool makes_sense(const struct connection_state *state)
{
	const struct relay_state *relay = &state->relay;

	if (state->gateway[0] == '\0' || state->destination.padding != 0)
		return false;
	if (state->lane_slot >= POSTERN_MAX_LANE_SLOTS && state->lane_slot != POSTERN_NO_LANE_SLOT)
		return false;
	if (relay->handshake.header_size >= sizeof(relay->handshake.header))
		return false;
	if (relay->kernel_tls != (state->chain_size > 0) || (relay->secrets.length && !relay->kernel_tls))
		return false;
	if (relay->lane && state->lane_slot == POSTERN_NO_LANE_SLOT)
		return false;
	if (relay->transmit == TRANSMIT_ENDED && relay->receive == RECEIVE_ENDED)
		return false;
	return rests_fit(relay);
}

int connection_state_decode(const uint8_t *bytes, size_t size, struct connection_state *state)
{
	struct codec codec = {.from = bytes, .size = size};

	*state = (struct connection_state){0};
	if (!bytes)
		return -EBADMSG;
	transfer_all(&codec, state);
	if (!codec.error && (codec.used != size || !makes_sense(state)))
		codec.error = -EBADMSG;
	if (codec.error)
		relay_state_wipe(&state->relay);
	return codec.error;
}
