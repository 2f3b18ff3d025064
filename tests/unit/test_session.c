// SPDX-License-Identifier: GPL-2.0-only
/*
 * The hand-over after the handshake: tickets, first data, KeyUpdate, and the keys that the kernel is given
 * (tls_link.h). With a real kernel: test_ktls.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "tls_link.h"

/* Takes the place of libc's in this program. */
int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
	return fake_kernel_setsockopt(fd, level, name, value, length);
}

/* Each version and suite; tickets before the first data, which arms; and none of either. */
static void keys_for_the_kernel(void **state)
{
	(void)state;
	static const unsigned int tickets[] = {0, 1, 2, 4};

	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		for (size_t suite = 0; suite < ARRAY_SIZE(link_suites_1_3); suite++) {
			for (size_t i = 0; i < ARRAY_SIZE(tickets); i++) {
				for (unsigned int records = 0; records <= 3; records++) {
					struct tls_link link;
					struct tls_session_info info;
					char row[100];

					snprintf(row, sizeof(row), "%04x %s, %u tickets, %u records before",
					         (unsigned int)version, link_suites_1_3[suite], tickets[i], records);
					link_connect(&link,
					             (struct far_end_options){.min_version = version,
					                                      .max_version = version,
					                                      .suites_1_2 = link_suites_1_2[suite],
					                                      .suites_1_3 = link_suites_1_3[suite],
					                                      .no_tickets = tickets[i] == 0,
					                                      .tickets = tickets[i]},
					             false);
					tls_session_info(link.client.session, &info);
					assert_int_equal(info.cipher, suite);
					assert_int_equal(tls_session_arm_transmit(link.client.session), 0);
					/* unread tickets are the kernel's, which gives them as type 22 */
					for (unsigned int n = 0; n < records; n++) {
						far_end_says(&link, "before");
						client_hears(&link, "before");
					}
					if (records == 0 && tickets[i] > 0) {
						char byte;

						assert_int_equal(tls_session_read(link.client.session, &byte, 1),
						                 -EAGAIN);
					}
					assert_true(tls_session_at_boundary(link.client.session));
					assert_int_equal(tls_session_arm_receive(link.client.session), 0);
					/* TLS 1.3: tickets and data; 1.2: Finished and data */
					assert_int_equal(fake_kernel.keys[TLS_DIRECTION_RECEIVE].record_sequence,
					                 version == TLS1_3_VERSION ? tickets[i] + records
					                                           : 1 + records);
					link_check_armed(&link, row);
					link_disconnect(&link);
				}
			}
		}
	}
}

/* Tickets that nobody read before TLS_RX come through the kernel as handshake records. */
static void tickets_left_to_the_kernel(void **state)
{
	(void)state;
	struct tls_link link;
	uint8_t plain[TLS_RECORD_PLAIN_MAX + 256];
	enum tls_content_type type = 0;

	link_connect(&link, (struct far_end_options){.min_version = TLS1_3_VERSION, .tickets = 2}, false);
	link_arm_both(&link);
	assert_int_equal(fake_kernel.keys[TLS_DIRECTION_RECEIVE].record_sequence, 0);
	struct record_cipher *receive = fake_kernel_cipher(TLS_DIRECTION_RECEIVE);
	for (int i = 0; i < 2; i++) {
		assert_true(fake_kernel_receives(&link, receive, plain, &type) > 0);
		assert_int_equal(type, TLS_CONTENT_HANDSHAKE);
		assert_int_equal(plain[0], SSL3_MT_NEWSESSION_TICKET);
	}
	record_cipher_free(receive);
	link_disconnect(&link);
}

/* A backend that speaks first: its data is in the flight that ends the handshake. */
static void data_with_finished(void **state)
{
	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		const struct far_end_options options = {
		        .leaf = link_certificate, .min_version = version, .max_version = version};
		const struct tls_settings settings = client_settings(link_pem);
		struct tls_link link;
		enum tls_step step;
		size_t written = 0;
		int pair[2];

		memset(&fake_kernel, 0, sizeof(fake_kernel));
		far_end_sockets(pair, false);
		link.far_end = far_end_new(&options, pair[1]);
		client_start(&link.client, &settings, pair[0]);
		assert_int_equal(tls_session_handshake(link.client.session), TLS_STEP_WANT_READ);
		far_end_pull(link.far_end);
		if (version == TLS1_3_VERSION) {
			char byte;
			size_t none;

			/* half a round trip early: the server may speak before the client's Finished */
			assert_int_equal(SSL_read_early_data(link.far_end->ssl, &byte, 1, &none),
			                 SSL_READ_EARLY_DATA_FINISH);
			assert_int_equal(SSL_write_early_data(link.far_end->ssl, "220 ready\r\n", 11, &written), 1);
		} else {
			assert_int_equal(SSL_accept(link.far_end->ssl), -1);
			far_end_push(link.far_end, SIZE_MAX);
			assert_int_equal(tls_session_handshake(link.client.session), TLS_STEP_WANT_READ);
			far_end_pull(link.far_end);
			assert_int_equal(SSL_accept(link.far_end->ssl), 1);
			SSL_write_ex(link.far_end->ssl, "220 ready\r\n", 11, &written);
		}
		assert_int_equal(written, 11);
		far_end_push(link.far_end, SIZE_MAX);
		step = tls_session_handshake(link.client.session);
		assert_int_equal(step, TLS_STEP_DONE);
		assert_int_equal(tls_session_arm_transmit(link.client.session), 0);
		client_hears(&link, "220 ready\r\n");
		assert_true(tls_session_at_boundary(link.client.session));
		far_end_step(link.far_end);
		char byte;
		assert_int_equal(tls_session_read(link.client.session, &byte, 1), -EAGAIN);
		assert_int_equal(tls_session_arm_receive(link.client.session), 0);
		link_check_armed(&link, "data with Finished");
		link_disconnect(&link);
	}
}

/* The boundary is where a record ends and nowhere else; keys go to the kernel there only. */
static void boundary(void **state)
{
	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		struct tls_link link;
		char buffer[100];
		size_t pending;

		link_connect(&link, (struct far_end_options){.max_version = version, .no_tickets = true}, false);
		assert_int_equal(tls_session_arm_transmit(link.client.session), 0);
		assert_int_equal(SSL_write(link.far_end->ssl, "hello", 5), 5);
		pending = far_end_pending(link.far_end);
		assert_true(tls_session_at_boundary(link.client.session));
		for (size_t i = 1; i < pending; i++) {
			far_end_push(link.far_end, 1);
			assert_int_equal(tls_session_read(link.client.session, buffer, sizeof(buffer)), -EAGAIN);
			if (tls_session_at_boundary(link.client.session))
				fail_msg("after %zu of %zu bytes: a boundary", i, pending);
			assert_int_equal(tls_session_arm_receive(link.client.session), -EINVAL);
		}
		far_end_push(link.far_end, 1);
		/* plaintext that was not taken yet is in user space, too */
		assert_int_equal(tls_session_read(link.client.session, buffer, 2), 2);
		assert_false(tls_session_at_boundary(link.client.session));
		assert_int_equal(tls_session_arm_receive(link.client.session), -EINVAL);
		assert_int_equal(tls_session_read(link.client.session, buffer, sizeof(buffer)), 3);
		assert_memory_equal(buffer, "llo", 3);
		assert_true(tls_session_at_boundary(link.client.session));

		/* of two records that are there, one is taken and the other left in the socket */
		far_end_says(&link, "first");
		far_end_says(&link, "second");
		client_hears(&link, "first");
		assert_true(tls_session_at_boundary(link.client.session));
		assert_int_equal(tls_session_arm_receive(link.client.session), 0);
		struct record_cipher *receive = fake_kernel_cipher(TLS_DIRECTION_RECEIVE);
		uint8_t plain[TLS_RECORD_PLAIN_MAX + 256];
		enum tls_content_type type;
		assert_int_equal(fake_kernel_receives(&link, receive, plain, &type), 6);
		assert_memory_equal(plain, "second", 6);
		record_cipher_free(receive);

		/* the session is out of the game */
		assert_int_equal(tls_session_read(link.client.session, buffer, sizeof(buffer)), -EINVAL);
		assert_int_equal(tls_session_write(link.client.session, "x", 1), -EINVAL);
		assert_int_equal(tls_session_shutdown(link.client.session), -EINVAL);
		assert_int_equal(tls_session_arm_receive(link.client.session), -EINVAL);
		assert_int_equal(tls_session_arm_transmit(link.client.session), -EINVAL);
		link_disconnect(&link);
	}
}

static void ticket_in_two_records(void **state)
{
	(void)state;
	static const uint8_t ticket[] = {4, 0, 0, 19, 0,   0,   1,   0,   1,   2,   3, 4,
	                                 1, 0, 0, 6,  't', 'i', 'c', 'k', 'e', 't', 0};
	uint8_t message[sizeof(ticket) + 1] = {0};
	struct tls_link link;
	char buffer[10];

	memcpy(message, ticket, sizeof(ticket));
	message[3] = (uint8_t)(sizeof(message) - 4);
	link_connect(&link, (struct far_end_options){.min_version = TLS1_3_VERSION, .no_tickets = true}, false);
	struct record_cipher *cipher = far_end_cipher(&link);
	assert_int_equal(tls_session_arm_transmit(link.client.session), 0);
	far_end_seals(&link, cipher, TLS_CONTENT_HANDSHAKE, message, 10, 0);
	assert_int_equal(tls_session_read(link.client.session, buffer, sizeof(buffer)), -EAGAIN);
	assert_false(tls_session_at_boundary(link.client.session));
	far_end_seals(&link, cipher, TLS_CONTENT_HANDSHAKE, message + 10, sizeof(message) - 10, 0);
	far_end_seals(&link, cipher, TLS_CONTENT_APPLICATION_DATA, "after", 5, 3);
	client_hears(&link, "after");
	assert_true(tls_session_at_boundary(link.client.session));
	assert_int_equal(tls_session_arm_receive(link.client.session), 0);
	assert_int_equal(fake_kernel.keys[TLS_DIRECTION_RECEIVE].record_sequence, 3);
	record_cipher_free(cipher);
	link_disconnect(&link);
}

/* RFC 8446 4.6.3: the peer's new key must be the one that the kernel gets. */
static void key_update_without_answer(void **state)
{
	(void)state;
	for (size_t suite = 0; suite < ARRAY_SIZE(link_suites_1_3); suite++) {
		for (int updates = 1; updates <= 3; updates++) {
			struct tls_link link;

			link_connect(&link,
			             (struct far_end_options){.min_version = TLS1_3_VERSION,
			                                      .suites_1_3 = link_suites_1_3[suite],
			                                      .tickets = 2},
			             false);
			assert_int_equal(tls_session_arm_transmit(link.client.session), 0);
			far_end_says(&link, "old key");
			client_hears(&link, "old key");
			for (int i = 0; i < updates; i++) {
				assert_int_equal(SSL_key_update(link.far_end->ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
				far_end_says(&link, "new key");
				client_hears(&link, "new key");
			}
			assert_int_equal(tls_session_arm_receive(link.client.session), 0);
			assert_int_equal(fake_kernel.keys[TLS_DIRECTION_RECEIVE].record_sequence, 1);
			link_check_armed(&link, link_suites_1_3[suite]);
			link_disconnect(&link);
		}
	}
}

/* No kernel TLS: nothing is armed, and the session goes on in user space. */
static void kernel_refuses(void **state)
{
	(void)state;
	static const struct {
		int ulp_error, keys_error, expected;
	} table[] = {{ENOENT, 0, -ENOENT}, {ENOPROTOOPT, 0, -ENOPROTOOPT}, {0, ENOENT, -ENOENT}, {0, EINVAL, -EINVAL}};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct tls_link link;

		link_connect(&link, (struct far_end_options){0}, false);
		fake_kernel.ulp_error = table[i].ulp_error;
		fake_kernel.keys_error = table[i].keys_error;
		assert_int_equal(tls_session_arm_transmit(link.client.session), table[i].expected);
		assert_int_equal(tls_session_write(link.client.session, "request", 7), 7);
		far_end_hears(&link, "request");
		far_end_says(&link, "response");
		client_hears(&link, "response");
		assert_int_equal(tls_session_arm_receive(link.client.session), table[i].expected);
		far_end_says(&link, "more");
		client_hears(&link, "more");
		/* a sequence number that OpenSSL has used is never given to the kernel again */
		fake_kernel.ulp_error = fake_kernel.keys_error = 0;
		assert_int_equal(tls_session_arm_transmit(link.client.session), -EINVAL);
		assert_false(fake_kernel.has[TLS_DIRECTION_TRANSMIT]);
		link_disconnect(&link);
	}
}

static void rekey_secrets(void **state)
{
	(void)state;
	struct tls_link link;
	struct tls_rekey_secrets secrets;

	for (size_t suite = 0; suite < ARRAY_SIZE(link_suites_1_3); suite++) {
		link_connect(
		        &link,
		        (struct far_end_options){.min_version = TLS1_3_VERSION, .suites_1_3 = link_suites_1_3[suite]},
		        false);
		link_arm_both(&link);
		assert_true(tls_session_take_rekey_secrets(link.client.session, &secrets));
		assert_int_equal(secrets.cipher, suite);
		assert_int_equal(secrets.length, link.far_end->secret_length);
		assert_memory_equal(secrets.transmit, link.far_end->secrets[0], secrets.length);
		assert_memory_equal(secrets.receive, link.far_end->secrets[1], secrets.length);
		/* they are given once */
		assert_false(tls_session_take_rekey_secrets(link.client.session, &secrets));
		link_disconnect(&link);
	}
	link_connect(&link, (struct far_end_options){.max_version = TLS1_2_VERSION}, false);
	link_arm_both(&link);
	assert_false(tls_session_take_rekey_secrets(link.client.session, &secrets));
	link_disconnect(&link);
	tls_session_free(NULL);
}

/* By these the heap is trimmed: each is counted when it is there, and again when its memory is free. */
static void sessions_are_counted(void **state)
{
	struct tls_session_counts before, now;
	struct tls_link link;

	(void)state;
	tls_session_count(&before);
	assert_int_equal(before.begun, before.freed);
	link_connect(&link, (struct far_end_options){0}, false);
	tls_session_count(&now);
	assert_int_equal(now.begun, before.begun + 1);
	assert_int_equal(now.freed, before.freed);
	link_disconnect(&link);
	tls_session_free(NULL);
	tls_session_count(&now);
	assert_int_equal(now.begun, before.begun + 1);
	assert_int_equal(now.freed, before.freed + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(keys_for_the_kernel),   cmocka_unit_test(tickets_left_to_the_kernel),
	        cmocka_unit_test(data_with_finished),    cmocka_unit_test(boundary),
	        cmocka_unit_test(ticket_in_two_records), cmocka_unit_test(key_update_without_answer),
	        cmocka_unit_test(kernel_refuses),        cmocka_unit_test(rekey_secrets),
	        cmocka_unit_test(sessions_are_counted),
	};
	return cmocka_run_group_tests(tests, link_set_up, link_tear_down);
}
