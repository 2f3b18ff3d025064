// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sessions in user space, and how they end: transfers, KeyUpdate and renegotiation, close_notify, truncation, garbage.
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

static void user_space_transfer(void **state)
{
	(void)state;
	enum { total = 1 << 20 };
	uint8_t *pattern = malloc(total);
	uint8_t *seen = malloc(total);

	for (size_t i = 0; i < total; i++)
		pattern[i] = (uint8_t)(i * 17 + (i >> 8) * 3);
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		struct tls_link link;
		size_t sent = 0, received = 0;
		unsigned int blocked = 0;

		link_connect(&link, (struct far_end_options){.max_version = version}, false);
		while (received < total) {
			/* odd sizes, so that records and writes do not line up */
			size_t take = total - sent < 50021 ? total - sent : 50021;
			ssize_t n = take > 0 ? tls_session_write(link.client.session, pattern + sent, take) : 0;
			int got;

			assert_true(n > 0 || n == -EAGAIN || take == 0);
			sent += n > 0 ? (size_t)n : 0;
			if (n == -EAGAIN || take == 0) {
				blocked++;
				far_end_pull(link.far_end);
				while ((got = SSL_read(link.far_end->ssl, seen + received, (int)(total - received))) >
				       0)
					received += (size_t)got;
			}
		}
		assert_memory_equal(seen, pattern, total);
		assert_true(blocked > 1); /* or nothing was shown of EAGAIN */

		memset(seen, 0, total);
		for (sent = received = 0; received < total;) {
			ssize_t n;

			if (sent < total) {
				int take = total - sent < 30011 ? (int)(total - sent) : 30011;

				assert_int_equal(SSL_write(link.far_end->ssl, pattern + sent, take), take);
				sent += (size_t)take;
			}
			far_end_push(link.far_end, SIZE_MAX);
			while ((n = tls_session_read(link.client.session, seen + received, total - received)) > 0)
				received += (size_t)n;
			assert_true(n == -EAGAIN || received == total);
		}
		assert_memory_equal(seen, pattern, total);
		link_disconnect(&link);
	}
	free(pattern);
	free(seen);
}

static void key_update_that_wants_an_answer(void **state)
{
	(void)state;
	struct tls_link link;
	char buffer[10];

	/* the kernel has the write key: the answer is the caller's, and OpenSSL's own goes nowhere, however often */
	link_connect(&link, (struct far_end_options){.min_version = TLS1_3_VERSION, .no_tickets = true}, false);
	assert_int_equal(tls_session_arm_transmit(link.client.session), 0);
	assert_int_equal(SSL_key_update(link.far_end->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
	assert_false(tls_session_take_update_request(link.client.session));
	for (int i = 0; i < 3; i++) {
		far_end_says(&link, "new key");
		client_hears(&link, "new key");
		assert_true(tls_session_take_update_request(link.client.session));
		assert_false(tls_session_take_update_request(link.client.session));
		assert_int_equal(SSL_key_update(link.far_end->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
	}
	assert_int_equal(recv(link.far_end->fd, buffer, sizeof(buffer), MSG_DONTWAIT), -1);
	link_disconnect(&link);

	/* in user space it answers, and goes on in both directions */
	link_connect(&link, (struct far_end_options){.min_version = TLS1_3_VERSION, .no_tickets = true}, false);
	assert_int_equal(SSL_key_update(link.far_end->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
	far_end_says(&link, "new key");
	client_hears(&link, "new key");
	assert_int_equal(tls_session_arm_transmit(link.client.session), -EINVAL);
	assert_int_equal(tls_session_write(link.client.session, "answer", 6), 6);
	far_end_hears(&link, "answer");
	/* whose records the kernel cannot continue */
	assert_int_equal(tls_session_arm_transmit(link.client.session), -EINVAL);
	link_disconnect(&link);
}

/* A post-handshake CertificateRequest was not asked for; TLS 1.2 HelloRequests are declined or, armed, fatal. */
static void renegotiation_is_refused(void **state)
{
	(void)state;
	/* no context, one extension: signature_algorithms with ecdsa_secp256r1_sha256 */
	static const uint8_t message[15] = {13, 0, 0, 11, 0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3};
	struct tls_link link;

	for (int armed = 0; armed <= 1; armed++) {
		link_connect(&link, (struct far_end_options){.min_version = TLS1_3_VERSION, .no_tickets = true}, false);
		struct record_cipher *cipher = far_end_cipher(&link);
		if (armed)
			assert_int_equal(tls_session_arm_transmit(link.client.session), 0);
		far_end_seals(&link, cipher, TLS_CONTENT_HANDSHAKE, message, sizeof(message), 0);
		client_fails(&link, REASON_RENEGOTIATION);
		record_cipher_free(cipher);
		link_disconnect(&link);

		link_connect(&link, (struct far_end_options){.max_version = TLS1_2_VERSION}, false);
		if (armed)
			assert_int_equal(tls_session_arm_transmit(link.client.session), 0);
		assert_int_equal(SSL_renegotiate(link.far_end->ssl), 1);
		SSL_do_handshake(link.far_end->ssl);
		far_end_push(link.far_end, SIZE_MAX);
		if (armed) {
			client_fails(&link, REASON_RENEGOTIATION);
		} else {
			char buffer[10];

			assert_int_equal(tls_session_read(link.client.session, buffer, sizeof(buffer)), -EAGAIN);
			far_end_pull(link.far_end);
			SSL_peek(link.far_end->ssl, buffer, 1);
			assert_int_equal(link.far_end->alert, SSL_AD_NO_RENEGOTIATION);
		}
		link_disconnect(&link);
	}
}

static void endings(void **state)
{
	(void)state;
	static const uint8_t garbage[] = "HTTP/1.1 200 OK\r\n\r\n";
	static const uint8_t bad_record[] = {23, 3,  3,  0,  40, 1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
	                                     11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
	                                     26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40};
	static const uint8_t change_cipher_spec[] = {20, 3, 3, 0, 1, 1};
	static const uint8_t alert[] = {SSL3_AL_FATAL, SSL_AD_INTERNAL_ERROR};

	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		const struct far_end_options options = {
		        .min_version = version, .max_version = version, .no_tickets = true};
		struct tls_link link;
		char buffer[100];

		/* close_notify: a clean end, as often as one asks; and ours goes out */
		link_connect(&link, options, false);
		far_end_says(&link, "bye");
		SSL_shutdown(link.far_end->ssl);
		far_end_push(link.far_end, SIZE_MAX);
		client_hears(&link, "bye");
		assert_int_equal(tls_session_read(link.client.session, buffer, sizeof(buffer)), 0);
		assert_int_equal(tls_session_read(link.client.session, buffer, sizeof(buffer)), 0);
		assert_int_equal(tls_session_shutdown(link.client.session), 0);
		far_end_pull(link.far_end);
		assert_int_equal(SSL_read(link.far_end->ssl, buffer, sizeof(buffer)), 0);
		assert_int_equal(SSL_get_error(link.far_end->ssl, 0), SSL_ERROR_ZERO_RETURN);
		link_disconnect(&link);

		/* ours first: the other direction lives on */
		link_connect(&link, options, false);
		assert_int_equal(tls_session_shutdown(link.client.session), 0);
		far_end_pull(link.far_end);
		assert_int_equal(SSL_read(link.far_end->ssl, buffer, sizeof(buffer)), 0);
		far_end_says(&link, "still here");
		client_hears(&link, "still here");
		link_disconnect(&link);

		link_connect(&link, options, false);
		shutdown(link.far_end->fd, SHUT_WR);
		client_fails(&link, REASON_TRUNCATED);
		link_disconnect(&link);

		/* in the middle of a record, with the write side armed */
		link_connect(&link, options, false);
		assert_int_equal(tls_session_arm_transmit(link.client.session), 0);
		SSL_write(link.far_end->ssl, "hello", 5);
		far_end_push(link.far_end, 9);
		shutdown(link.far_end->fd, SHUT_WR);
		client_fails(&link, REASON_TRUNCATED);
		link_disconnect(&link);

		link_connect(&link, options, true);
		const struct linger reset = {.l_onoff = 1, .l_linger = 0};
		assert_int_equal(setsockopt(link.far_end->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
		close(link.far_end->fd);
		link.far_end->fd = -1;
		client_fails(&link, REASON_BACKEND_RESET);
		link_disconnect(&link);

		static const struct {
			const uint8_t *bytes;
			size_t length;
			enum postern_reason expected;
		} table[] = {
		        {garbage, sizeof(garbage), REASON_UNEXPECTED_RECORD},
		        {bad_record, sizeof(bad_record), REASON_DECRYPT_ERROR},
		        {change_cipher_spec, sizeof(change_cipher_spec), REASON_NONE}, /* any failure */
		};
		for (int armed = 0; armed <= 1; armed++) {
			for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
				link_connect(&link, options, false);
				if (armed)
					assert_int_equal(tls_session_arm_transmit(link.client.session), 0);
				assert_int_equal(send(link.far_end->fd, table[i].bytes, table[i].length, 0),
				                 table[i].length);
				if (table[i].expected == REASON_NONE)
					assert_int_equal(tls_session_read(link.client.session, buffer, sizeof(buffer)),
					                 -ECONNRESET);
				else
					client_fails(&link, table[i].expected);
				assert_int_not_equal(tls_session_reason(link.client.session), REASON_NONE);
				assert_false(tls_session_at_boundary(link.client.session));
				link_disconnect(&link);
			}
		}
	}
	struct tls_link link;
	link_connect(&link, (struct far_end_options){.min_version = TLS1_3_VERSION, .no_tickets = true}, false);
	struct record_cipher *cipher = far_end_cipher(&link);
	far_end_seals(&link, cipher, TLS_CONTENT_ALERT, alert, sizeof(alert), 0);
	client_fails(&link, REASON_PEER_ALERT);
	assert_string_equal(tls_session_detail(link.client.session), "alert internal_error (80) after the handshake");
	record_cipher_free(cipher);
	link_disconnect(&link);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(user_space_transfer),
	        cmocka_unit_test(key_update_that_wants_an_answer),
	        cmocka_unit_test(renegotiation_is_refused),
	        cmocka_unit_test(endings),
	};
	return cmocka_run_group_tests(tests, link_set_up, link_tear_down);
}
