/* SPDX-License-Identifier: GPL-2.0-only */
/* A live connection as bytes: there and back, cut, mutated, of another format, and states that cannot be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "base/cleanup.h"
#include "datapath/connection_state.h"

static const uint8_t chain[] = {0x30, 0x03, 0x02, 0x01, 0x07};
static const uint8_t up[] = "bytes that B did not take";
static const uint8_t down[] = "bytes that A did not take";

static struct connection_state full_state(void)
{
	return (struct connection_state){
	        .gateway = "default/edge",
	        .destination = {.address.byte = {[10] = 0xff, 0xff, 10, 96, 0, 1}, .port = 0x5000},
	        .gateway_port = 40001,
	        .b_port = 40002,
	        .ring = 63,
	        .lane_slot = POSTERN_MAX_LANE_SLOTS - 1,
	        .gateway_cookie = UINT64_C(0x1122334455667788),
	        .begun_ns = 123456789,
	        .idle_ns = 1,
	        .policy = "demo/held",
	        .sni = "echo.example",
	        .cipher = TLS_CIPHER_AES_256,
	        .cipher_name = "TLS_AES_256_GCM_SHA384",
	        .alpn = "h2",
	        .peer_identity = "DNS:echo.example",
	        .resumed = true,
	        .peer_not_after = -1,
	        .peer_valid_until = 1893456000,
	        .shows_certificate = true,
	        .certificate_digest = {1, 2, 3, [31] = 32},
	        .chain = chain,
	        .chain_size = sizeof(chain),
	        .relay =
	                {
	                        .kernel_tls = true,
	                        .version = TLS_VERSION_1_3,
	                        .limits_key = true,
	                        .first_read = true,
	                        .gateway_ended = true,
	                        .room_made = true,
	                        .lane = true,
	                        .update_wanted = true,
	                        .transmit = TRANSMIT_BLOCKED,
	                        .receive = RECEIVE_BLOCKED,
	                        .handshake = {.header = {4, 0, 1}, .header_size = 3, .body_left = 7},
	                        .warnings = 2,
	                        .tickets_dropped = 3,
	                        .key_updates = 4,
	                        .secrets = {.cipher = TLS_CIPHER_AES_256,
	                                    .length = 48,
	                                    .transmit = {9, [47] = 8},
	                                    .receive = {7, [47] = 6}},
	                        .to_backend = {.bytes = 1ull << 40,
	                                       .key_blocks = 5,
	                                       .moved_ns = 6,
	                                       .rest = up,
	                                       .rest_size = sizeof(up)},
	                        .to_gateway = {.bytes = 7,
	                                       .key_blocks = 8,
	                                       .moved_ns = 9,
	                                       .rest = down,
	                                       .rest_size = sizeof(down)},
	                },
	};
}

static uint8_t *encoded(const struct connection_state *state, size_t *size)
{
	uint8_t *bytes = NULL;

	assert_int_equal(connection_state_encode(state, &bytes, size), 0);
	return bytes;
}

static int decoded(const uint8_t *bytes, size_t size)
{
	struct connection_state state;
	/* Of exactly that size, so that a sanitizer sees a read beyond it. */
	uint8_t *copy = malloc(size ? size : 1);
	int result;

	assert_non_null(copy);
	memcpy(copy, bytes, size);
	result = connection_state_decode(copy, size, &state);
	relay_state_wipe(&state.relay);
	free(copy);
	return result;
}

/* What is borrowed is compared by its bytes; then the two structs must be the same in everything else. */
static void assert_same_bytes(const uint8_t **seen, const uint8_t *expected, size_t size)
{
	assert_memory_equal(*seen, expected, size);
	*seen = expected;
}

static void test_round_trip(void **unused)
{
	struct connection_state state = full_state(), seen;
	size_t size;
	uint8_t *bytes = encoded(&state, &size);

	(void)unused;
	assert_int_equal(connection_state_decode(bytes, size, &seen), 0);
	assert_same_bytes(&seen.chain, state.chain, state.chain_size);
	assert_same_bytes(&seen.relay.to_backend.rest, up, sizeof(up));
	assert_same_bytes(&seen.relay.to_gateway.rest, down, sizeof(down));
	assert_string_equal(seen.gateway, state.gateway);
	assert_string_equal(seen.policy, state.policy);
	assert_string_equal(seen.sni, state.sni);
	assert_string_equal(seen.cipher_name, state.cipher_name);
	assert_string_equal(seen.alpn, state.alpn);
	assert_string_equal(seen.peer_identity, state.peer_identity);
	assert_memory_equal(&seen.destination, &state.destination, sizeof(seen.destination));
	assert_memory_equal(&seen.relay.secrets, &state.relay.secrets, sizeof(seen.relay.secrets));
	/* Both are zero where nothing was said, so this finds a field that was forgotten. */
	{
		size_t again_size;
		uint8_t *again = encoded(&seen, &again_size);

		assert_int_equal(again_size, size);
		assert_memory_equal(again, bytes, size);
		OPENSSL_free(again);
	}
#define SAME(field) assert_int_equal(seen.field, state.field)
	SAME(gateway_port);
	SAME(b_port);
	SAME(ring);
	SAME(lane_slot);
	SAME(gateway_cookie);
	SAME(begun_ns);
	SAME(idle_ns);
	SAME(cipher);
	SAME(resumed);
	SAME(peer_not_after);
	SAME(peer_valid_until);
	SAME(shows_certificate);
	SAME(relay.kernel_tls);
	SAME(relay.version);
	SAME(relay.limits_key);
	SAME(relay.first_read);
	SAME(relay.gateway_ended);
	SAME(relay.room_made);
	SAME(relay.lane);
	SAME(relay.update_wanted);
	SAME(relay.transmit);
	SAME(relay.receive);
	SAME(relay.handshake.header_size);
	SAME(relay.handshake.body_left);
	SAME(relay.warnings);
	SAME(relay.tickets_dropped);
	SAME(relay.key_updates);
	SAME(relay.to_backend.bytes);
	SAME(relay.to_backend.key_blocks);
	SAME(relay.to_backend.moved_ns);
	SAME(relay.to_gateway.bytes);
	SAME(relay.to_gateway.key_blocks);
	SAME(relay.to_gateway.moved_ns);
#undef SAME
	OPENSSL_free(bytes);
}

static void test_plain(void **unused)
{
	const struct connection_state state = {.gateway = "a", .lane_slot = POSTERN_NO_LANE_SLOT};
	size_t size;
	uint8_t *bytes = encoded(&state, &size);

	(void)unused;
	assert_int_equal(decoded(bytes, size), 0);
	OPENSSL_free(bytes);
}

static void test_cut_anywhere(void **unused)
{
	const struct connection_state state = full_state();
	size_t size;
	uint8_t *bytes = encoded(&state, &size);

	(void)unused;
	for (size_t cut = 0; cut < size; cut++) {
		int result = decoded(bytes, cut);

		if (result != -EBADMSG)
			fail_msg("cut at %zu of %zu: expected -EBADMSG, seen %d", cut, size, result);
	}
	bytes = OPENSSL_realloc(bytes, size + 1);
	bytes[size] = 0;
	assert_int_equal(decoded(bytes, size + 1), -EBADMSG);
	OPENSSL_free(bytes);
}

static void test_other_formats(void **unused)
{
	const struct connection_state state = full_state();
	size_t size;
	uint8_t *bytes = encoded(&state, &size);

	(void)unused;
	bytes[4]++; /* the format's number */
	assert_int_equal(decoded(bytes, size), -EPROTO);
	bytes[4] -= 2;
	assert_int_equal(decoded(bytes, size), -EPROTO);
	bytes[4]++;
	bytes[0] ^= 1;
	assert_int_equal(decoded(bytes, size), -EBADMSG);
	OPENSSL_free(bytes);
}

/* Whatever comes back is in range, and nothing is read beyond the bytes. */
static void test_mutated(void **unused)
{
	const struct connection_state state = full_state();
	size_t size, accepted = 0;
	uint8_t *bytes = encoded(&state, &size);

	(void)unused;
	for (size_t at = 0; at < size; at++) {
		for (unsigned int bit = 0; bit < 8; bit++) {
			struct connection_state seen;

			bytes[at] ^= 1u << bit;
			if (connection_state_decode(bytes, size, &seen) == 0) {
				accepted++;
				assert_true(seen.relay.transmit <= TRANSMIT_ENDED &&
				            seen.relay.receive <= RECEIVE_ENDED);
				assert_true(seen.relay.handshake.header_size < 4 && seen.cipher <= TLS_CIPHER_OTHER);
				assert_true(seen.relay.secrets.length <= TLS_SECRET_MAX);
				assert_true(seen.lane_slot < POSTERN_MAX_LANE_SLOTS ||
				            seen.lane_slot == POSTERN_NO_LANE_SLOT);
				assert_true(seen.chain + seen.chain_size <= bytes + size);
			}
			bytes[at] ^= 1u << bit;
		}
	}
	assert_true(accepted > 0); /* of numbers that may be anything */
	OPENSSL_free(bytes);
}

static void no_gateway(struct connection_state *state)
{
	state->gateway[0] = '\0';
}

static void padding(struct connection_state *state)
{
	state->destination.padding = 1;
}

static void slot_beyond(struct connection_state *state)
{
	state->lane_slot = POSTERN_MAX_LANE_SLOTS;
}

static void lane_without_slot(struct connection_state *state)
{
	state->lane_slot = POSTERN_NO_LANE_SLOT;
}

static void whole_header(struct connection_state *state)
{
	state->relay.handshake.header_size = 4;
}

static void tls_without_chain(struct connection_state *state)
{
	state->chain_size = 0;
}

static void plain_with_chain(struct connection_state *state)
{
	state->relay.kernel_tls = false;
	state->relay.secrets.length = 0;
}

static void plain_with_secrets(struct connection_state *state)
{
	state->relay.kernel_tls = false;
	state->chain_size = 0;
}

static void rest_of_the_unblocked(struct connection_state *state)
{
	state->relay.transmit = TRANSMIT_FLOWING;
}

static void blocked_without_rest(struct connection_state *state)
{
	state->relay.to_gateway.rest_size = 0;
}

static void ended_both_ways(struct connection_state *state)
{
	state->relay.transmit = TRANSMIT_ENDED;
	state->relay.receive = RECEIVE_ENDED;
	state->relay.to_backend.rest_size = state->relay.to_gateway.rest_size = 0;
}

static void test_states_that_cannot_be(void **unused)
{
#define CASE(function)                                                                                                 \
	{                                                                                                              \
#function, function                                                                                    \
	}
	static const struct {
		const char *name;
		void (*spoil)(struct connection_state *state);
	} cases[] = {
	        CASE(no_gateway),
	        CASE(padding),
	        CASE(slot_beyond),
	        CASE(lane_without_slot),
	        CASE(whole_header),
	        CASE(tls_without_chain),
	        CASE(plain_with_chain),
	        CASE(plain_with_secrets),
	        CASE(rest_of_the_unblocked),
	        CASE(blocked_without_rest),
	        CASE(ended_both_ways),
	};

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct connection_state state = full_state();
		size_t size;
		uint8_t *bytes;
		int result;

		cases[i].spoil(&state);
		bytes = encoded(&state, &size);
		result = decoded(bytes, size);
		if (result != -EBADMSG)
			fail_msg("%s: expected -EBADMSG, seen %d", cases[i].name, result);
		OPENSSL_free(bytes);
	}
}

static void test_too_large(void **unused)
{
	struct connection_state state = full_state();
	uint8_t *bytes = NULL;
	size_t size;

	(void)unused;
	state.relay.to_backend.rest_size = CONNECTION_STATE_MAX;
	state.relay.to_backend.rest = calloc(1, CONNECTION_STATE_MAX);
	assert_int_equal(connection_state_encode(&state, &bytes, &size), -E2BIG);
	assert_null(bytes);
	/* More than a worker's buffer is no rest. */
	state.relay.to_backend.rest_size = RELAY_BUFFER_SIZE + 1;
	bytes = encoded(&state, &size);
	assert_int_equal(decoded(bytes, size), -EBADMSG);
	OPENSSL_free(bytes);
	free((void *)state.relay.to_backend.rest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_plain),
	        cmocka_unit_test(test_cut_anywhere), cmocka_unit_test(test_other_formats),
	        cmocka_unit_test(test_mutated),      cmocka_unit_test(test_states_that_cannot_be),
	        cmocka_unit_test(test_too_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
