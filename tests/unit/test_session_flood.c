// SPDX-License-Identifier: GPL-2.0-only
/*
 * A backend that never stops: messages that TLS lets come without end, HelloRequests before any certificate and tickets
 * after the handshake. One call takes a part of them, so that a worker comes back to its other connections; the next
 * one goes on where it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "tls_link.h"

#define A_CALL_TAKES (64 << 10) /* bytes at most, a last record that is whole included */

/* Takes the place of libc's in this program. */
int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
	return fake_kernel_setsockopt(fd, level, name, value, length);
}

static int waiting(int fd)
{
	int bytes = 0;

	assert_int_equal(ioctl(fd, FIONREAD, &bytes), 0);
	return bytes;
}

/* As many records of HelloRequests alone (RFC 5246 7.4.1.1) as the socket takes, of so many messages each. */
static void send_hello_requests(int fd, size_t messages)
{
	enum { header = 5, message = 4 };
	size_t body = messages * message;
	uint8_t *record = calloc(1, header + body);
	ssize_t sent;

	assert_non_null(record);
	memcpy(record, (const uint8_t[]){22, 3, 3, (uint8_t)(body >> 8), (uint8_t)body}, header);
	do {
		sent = send(fd, record, header + body, MSG_DONTWAIT);
	} while (sent == (ssize_t)(header + body));
	/* A record that did not go whole is not ended here: it stays one that has begun. */
	free(record);
}

static void check_hello_requests(size_t messages)
{
	const struct tls_settings settings = client_settings(link_pem);
	struct tls_client client;
	unsigned int calls = 0;
	int pair[2], before;

	far_end_sockets(pair, false);
	client_start(&client, &settings, pair[0]);
	assert_int_equal(tls_session_handshake(client.session), TLS_STEP_WANT_READ);
	send_hello_requests(pair[1], messages);
	before = waiting(pair[0]);
	assert_true(before > 2 * A_CALL_TAKES || messages == 1);
	while (before > 0) {
		int left;

		assert_int_equal(tls_session_handshake(client.session), TLS_STEP_WANT_READ);
		left = waiting(pair[0]);
		assert_true(left < before);
		assert_true(before - left <= A_CALL_TAKES);
		before = left;
		calls++;
	}
	assert_true(calls > 2);
	client_end(&client);
	close(pair[1]);
}

static void hello_requests_without_end(void **state)
{
	(void)state;
	check_hello_requests(1);
	check_hello_requests(4096);
}

/* Also while the kernel has the write key, when the next call arms the read key: at a record's boundary it must be. */
static void tickets_without_end(void **state)
{
	(void)state;
	enum { tickets = 100 };

	for (int armed = 0; armed <= 1; armed++) {
		struct tls_link link;
		unsigned int calls = 0;
		char byte;
		int before;

		link_connect(&link, (struct far_end_options){.min_version = TLS1_3_VERSION, .tickets = tickets}, false);
		if (armed)
			assert_int_equal(tls_session_arm_transmit(link.client.session), 0);
		before = waiting(link.client.fd);
		while (before > 0) {
			int left;

			assert_int_equal(tls_session_read(link.client.session, &byte, 1), -EAGAIN);
			assert_true(tls_session_at_boundary(link.client.session));
			left = waiting(link.client.fd);
			assert_true(left < before);
			before = left;
			calls++;
		}
		assert_true(calls > 2 && calls <= tickets);
		far_end_says(&link, "and then data");
		client_hears(&link, "and then data");
		if (armed) {
			assert_int_equal(tls_session_arm_receive(link.client.session), 0);
			link_check_armed(&link, "tickets");
		}
		link_disconnect(&link);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(hello_requests_without_end),
	        cmocka_unit_test(tickets_without_end),
	};

	return cmocka_run_group_tests(tests, link_set_up, link_tear_down);
}
