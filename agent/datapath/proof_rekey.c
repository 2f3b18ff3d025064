// SPDX-License-Identifier: GPL-2.0-only
/*
 * Rekey (RFC 8446 4.6.3): a KeyUpdate under the old key, TLS_TX or TLS_RX set a second time, data under the new key.
 * Kernels that cannot say EBUSY.
 */
#include "datapath/proof_case.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "base/cleanup.h"

static const uint8_t key_update[] = {24, 0, 0, 1, 0}; /* update_not_requested */

static void keys_cleanup(struct traffic_keys *keys)
{
	OPENSSL_cleanse(keys, sizeof(*keys));
}

/* The second setsockopt. False: the verdict is set. */
static bool install_next(struct proof_case *proof_case, const struct traffic_keys *next)
{
	int error = keys_install(proof_case->b, proof_case->direction, next);

	if (error)
		proof_verdict(proof_case, PROOF_UNAVAILABLE, "set a second time: %s", strerror(-error));
	return !error;
}

/* One whole record at S, opened; the type, or 0 with the verdict set. */
static unsigned int open_at_s(struct proof_case *proof_case, struct record_cipher *cipher, uint8_t *plain,
                              ssize_t *size)
{
	size_t filled = 0;

	for (;;) {
		ssize_t length = record_length(proof_case->raw, filled);
		size_t want = length > 0 ? (size_t)length : TLS_RECORD_HEADER;
		enum tls_content_type type;
		ssize_t n;

		if (length < 0) {
			proof_verdict(proof_case, PROOF_UNSAFE, "bytes on the wire that are no TLS record");
			return 0;
		}
		if (length > 0 && filled == want) {
			*size = record_open(cipher, proof_case->raw, filled, plain, &type);
			if (*size >= 0)
				return type;
			proof_verdict(proof_case, PROOF_UNSAFE, "a record does not open");
			return 0;
		}
		n = recv(proof_case->s, proof_case->raw + filled, want - filled, MSG_DONTWAIT);
		if (n > 0) {
			filled += (size_t)n;
			continue;
		}
		if (n == 0 || errno != EAGAIN) {
			proof_verdict(proof_case, PROOF_UNSAFE, "the end of the stream at S");
			return 0;
		}
		if (!proof_wait(proof_case, (const short[4]){0, 0, 0, POLLIN}))
			return 0;
	}
}

static void rekey_transmit(struct proof_case *proof_case, const struct traffic_keys *next, struct record_cipher *after)
{
	uint8_t plain[TLS_RECORD_PLAIN_MAX + 256];
	ssize_t size = 0;
	int error;

	if (send(proof_case->b, proof_case->pattern, 100, MSG_NOSIGNAL) != 100)
		proof_verdict(proof_case, PROOF_UNSAFE, "writing B: %s", strerror(errno));
	error = proof_send_control(proof_case->b, TLS_CONTENT_HANDSHAKE, key_update, sizeof(key_update));
	if (error)
		proof_verdict(proof_case, PROOF_UNSAFE, "KeyUpdate: %s", strerror(-error));
	if (proof_decided(proof_case) || !install_next(proof_case, next))
		return;
	if (send(proof_case->b, proof_case->pattern + 100, 200, MSG_NOSIGNAL) != 200)
		proof_verdict(proof_case, PROOF_UNSAFE, "writing B: %s", strerror(errno));

	if (open_at_s(proof_case, proof_case->far_end, plain, &size) != TLS_CONTENT_APPLICATION_DATA || size != 100 ||
	    memcmp(plain, proof_case->pattern, 100) != 0)
		proof_verdict(proof_case, PROOF_UNSAFE, "the data under the old key is wrong");
	if (proof_decided(proof_case))
		return;
	if (open_at_s(proof_case, proof_case->far_end, plain, &size) != TLS_CONTENT_HANDSHAKE)
		proof_verdict(proof_case, PROOF_UNSAFE, "KeyUpdate did not arrive");
	if (proof_decided(proof_case))
		return;
	if (open_at_s(proof_case, after, plain, &size) != TLS_CONTENT_APPLICATION_DATA || size != 200 ||
	    memcmp(plain, proof_case->pattern + 100, 200) != 0)
		proof_verdict(proof_case, PROOF_UNSAFE, "the data under the new key is wrong");
	proof_verdict(proof_case, PROOF_SAFE, "%s", "");
}

/* One record out of B must be this. */
static void expect_at_b(struct proof_case *proof_case, unsigned int expected, const uint8_t *bytes, ssize_t size)
{
	unsigned int type;
	ssize_t n;

	if (proof_decided(proof_case))
		return;
	while ((n = proof_receive_record(proof_case->b, proof_case->buffer, PROOF_BUFFER, &type)) == -1 &&
	       errno == EAGAIN) {
		if (!proof_wait(proof_case, (const short[4]){0, 0, POLLIN, 0}))
			return;
	}
	if (n == -1)
		proof_verdict(proof_case, PROOF_UNSAFE, "recvmsg: %s", strerror(errno));
	else if (type != expected || n != size || memcmp(proof_case->buffer, bytes, (size_t)size) != 0)
		proof_verdict(proof_case, PROOF_UNSAFE, "a record of type %u is not what was sent", type);
}

static void send_from_s(struct proof_case *proof_case, struct record_cipher *cipher, enum tls_content_type type,
                        const uint8_t *plain, size_t size)
{
	uint8_t record[TLS_RECORD_MAX];
	ssize_t length = record_seal(cipher, type, plain, size, 0, record);

	if (length < 0 || send(proof_case->s, record, (size_t)length, MSG_NOSIGNAL) != length)
		proof_verdict(proof_case, PROOF_UNAVAILABLE, "S cannot send");
}

static void rekey_receive(struct proof_case *proof_case, const struct traffic_keys *next, struct record_cipher *after)
{
	send_from_s(proof_case, proof_case->far_end, TLS_CONTENT_APPLICATION_DATA, proof_case->pattern, 100);
	send_from_s(proof_case, proof_case->far_end, TLS_CONTENT_HANDSHAKE, key_update, sizeof(key_update));
	send_from_s(proof_case, after, TLS_CONTENT_APPLICATION_DATA, proof_case->pattern + 100, 200);
	expect_at_b(proof_case, TLS_CONTENT_APPLICATION_DATA, proof_case->pattern, 100);
	expect_at_b(proof_case, TLS_CONTENT_HANDSHAKE, key_update, sizeof(key_update));
	if (proof_decided(proof_case) || !install_next(proof_case, next))
		return;
	expect_at_b(proof_case, TLS_CONTENT_APPLICATION_DATA, proof_case->pattern + 100, 200);
	proof_verdict(proof_case, PROOF_SAFE, "%s", "");
}

static void cipher_cleanup(struct record_cipher **cipher)
{
	record_cipher_free(*cipher);
}

void proof_rekey(struct proof_case *proof_case)
{
	_cleanup_(keys_cleanup) struct traffic_keys next = proof_case->keys;
	_cleanup_(cipher_cleanup) struct record_cipher *after = NULL;

	next.record_sequence = 0;
	if (RAND_bytes(next.key, sizeof(next.key)) != 1 || RAND_bytes(next.iv, sizeof(next.iv)) != 1 ||
	    record_cipher_new(&next, &after) != 0) {
		proof_verdict(proof_case, PROOF_UNAVAILABLE, "no second key");
		return;
	}
	if (proof_case->direction == TLS_DIRECTION_TRANSMIT)
		rekey_transmit(proof_case, &next, after);
	else
		rekey_receive(proof_case, &next, after);
}
