// SPDX-License-Identifier: GPL-2.0-only
/*
 * The hand-over to a real kernel: handshake with a real OpenSSL server over loopback TCP, keys to TLS_TX and TLS_RX,
 * data both ways, control records, close_notify. Exits 77 where the kernel has no TLS; runs in the guests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <linux/tls.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "tls/record.h"
#include "tls_client.h"

#define TRANSFER (300 * 1024 + 7)

static struct certificate *server_certificate;
static char *server_pem;
static uint8_t pattern[TRANSFER];
static uint8_t seen[TRANSFER];

static const char *const suites_1_2[] = {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
                                         "ECDHE-ECDSA-CHACHA20-POLY1305"};
static const char *const suites_1_3[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                         "TLS_CHACHA20_POLY1305_SHA256"};

struct variant {
	int version;
	enum tls_cipher cipher;
	unsigned int tickets;
	unsigned int
	        records_before; /* data records that OpenSSL reads before TLS_RX; 0: the tickets are the kernel's */
	bool resumed;           /* the session comes from an earlier connection */
};

static const char *variant_name(const struct variant *variant)
{
	static char name[100];

	snprintf(name, sizeof(name), "%s %s, %u tickets, %u records before%s",
	         variant->version == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2", tls_cipher_name(variant->cipher),
	         variant->tickets, variant->records_before, variant->resumed ? ", resumed" : "");
	return name;
}

struct connection {
	struct tls_client client;
	struct far_end *far_end;
	const struct variant *variant;
};

static void wait_for(int fd, short events, const char *what)
{
	struct pollfd poll_fd = {.fd = fd, .events = events};

	if (poll(&poll_fd, 1, 5000) != 1)
		fail_msg("nothing for 5 s: %s", what);
}

static void far_end_says(struct connection *connection, const void *bytes, int size)
{
	assert_int_equal(SSL_write(connection->far_end->ssl, bytes, size), size);
	far_end_push(connection->far_end, SIZE_MAX);
}

static struct tls_context *new_context(bool resumption)
{
	struct tls_settings settings = client_settings(server_pem);
	struct tls_context *context = NULL;
	char error[200] = "";

	settings.resumption = resumption;
	if (tls_context_new(&settings, &context, error, sizeof(error)) != 0)
		fail_msg("settings refused: %s", error);
	return context;
}

/* A connection of the same owner before, by the tickets of which this one is resumed. */
static void connect_before(struct tls_context *context, const struct tls_session_owner *owner,
                           const struct far_end_options *options)
{
	struct tls_client client = {.context = tls_context_ref(context)};
	struct far_end *far_end;
	char byte;
	int pair[2];

	far_end_sockets(pair, true);
	far_end = far_end_new(options, pair[1]);
	client.fd = pair[0];
	assert_int_equal(tls_session_new(context, pair[0], owner, &client.session), 0);
	assert_int_equal(client_handshake(&client, far_end), TLS_STEP_DONE);
	if (options->min_version == TLS1_3_VERSION)
		wait_for(pair[0], POLLIN, "tickets");
	assert_int_equal(tls_session_read(client.session, &byte, 1), -EAGAIN);
	client_end(&client);
	far_end_free(far_end);
}

static void connect_variant(struct connection *connection, const struct variant *variant)
{
	const struct far_end_options options = {.leaf = server_certificate,
	                                        .min_version = variant->version,
	                                        .max_version = variant->version,
	                                        .suites_1_2 = suites_1_2[variant->cipher],
	                                        .suites_1_3 = suites_1_3[variant->cipher],
	                                        .no_tickets = variant->tickets == 0,
	                                        .tickets = variant->tickets};
	const struct tls_session_owner owner = {.gateway_id = 1};
	struct tls_context *context = new_context(variant->resumed);
	struct tls_session_info info;
	struct tls_session *session;
	char buffer[100];
	int pair[2];
	int r;

	connection->variant = variant;
	if (variant->resumed)
		connect_before(context, &owner, &options);
	far_end_sockets(pair, true);
	connection->far_end = far_end_new(&options, pair[1]);
	connection->client = (struct tls_client){.context = context, .fd = pair[0]};
	assert_int_equal(tls_session_new(context, pair[0], &owner, &connection->client.session), 0);
	session = connection->client.session;
	assert_int_equal(client_handshake(&connection->client, connection->far_end), TLS_STEP_DONE);
	tls_session_info(session, &info);
	if (info.resumed != variant->resumed || SSL_session_reused(connection->far_end->ssl) != variant->resumed)
		fail_msg("%s: the client says resumed %d, the server %d", variant_name(variant), info.resumed,
		         SSL_session_reused(connection->far_end->ssl));

	r = tls_session_arm_transmit(session);
	if (r != 0)
		fail_msg("%s: TLS_TX: %s", variant_name(variant), strerror(-r));
	for (unsigned int i = 0; i < variant->records_before; i++) {
		far_end_says(connection, "before", 6);
		wait_for(pair[0], POLLIN, "data before TLS_RX");
		assert_int_equal(tls_session_read(session, buffer, sizeof(buffer)), 6);
		assert_memory_equal(buffer, "before", 6);
	}
	assert_true(tls_session_at_boundary(session));
	r = tls_session_arm_receive(session);
	if (r != 0)
		fail_msg("%s: TLS_RX: %s", variant_name(variant), strerror(-r));
	/* the installed keys outlive the SSL object */
	tls_session_free(session);
	connection->client.session = NULL;
}

static void disconnect(struct connection *connection)
{
	client_end(&connection->client);
	far_end_free(connection->far_end);
}

/* One record or a part of one, as the relay reads it. Returns its length; the type comes by cmsg. */
static ssize_t kernel_receive(int fd, void *buffer, size_t size, uint8_t *type)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(uint8_t))];
	} control;
	struct iovec vector = {buffer, size};
	struct msghdr message = {
	        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(fd, &message, 0);
	struct cmsghdr *header = n >= 0 ? CMSG_FIRSTHDR(&message) : NULL;

	*type = 0;
	if (header && header->cmsg_level == SOL_TLS && header->cmsg_type == TLS_GET_RECORD_TYPE)
		*type = *CMSG_DATA(header);
	return n;
}

static void send_alert(int fd, uint8_t level, uint8_t description)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(uint8_t))];
	} control = {.header = {.cmsg_level = SOL_TLS,
	                        .cmsg_type = TLS_SET_RECORD_TYPE,
	                        .cmsg_len = CMSG_LEN(sizeof(uint8_t))}};
	uint8_t alert[2] = {level, description};
	struct iovec vector = {alert, sizeof(alert)};
	struct msghdr message = {
	        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};

	*CMSG_DATA(&control.header) = TLS_CONTENT_ALERT;
	assert_int_equal(sendmsg(fd, &message, MSG_NOSIGNAL), sizeof(alert));
}

static void client_to_far_end(struct connection *connection)
{
	size_t sent = 0, received = 0;

	memset(seen, 0, sizeof(seen));
	while (received < TRANSFER) {
		int n;

		if (sent < TRANSFER) {
			size_t take = TRANSFER - sent < 40009 ? TRANSFER - sent : 40009;
			ssize_t put = send(connection->client.fd, pattern + sent, take, MSG_NOSIGNAL);

			assert_true(put > 0 || errno == EAGAIN);
			sent += put > 0 ? (size_t)put : 0;
		}
		wait_for(connection->far_end->fd, POLLIN, variant_name(connection->variant));
		far_end_pull(connection->far_end);
		while ((n = SSL_read(connection->far_end->ssl, seen + received, (int)(TRANSFER - received))) > 0)
			received += (size_t)n;
		if (received < TRANSFER && SSL_get_error(connection->far_end->ssl, n) != SSL_ERROR_WANT_READ)
			fail_msg("%s: OpenSSL cannot open what the kernel sealed", variant_name(connection->variant));
	}
	assert_memory_equal(seen, pattern, TRANSFER);
}

static void far_end_to_client(struct connection *connection, unsigned int *tickets)
{
	uint64_t deadline = monotonic_ns() + 10 * UINT64_C(1000000000);
	size_t sent = 0, received = 0;

	memset(seen, 0, sizeof(seen));
	while (received < TRANSFER) {
		uint8_t type;
		ssize_t n;

		if (sent < TRANSFER) {
			int take = TRANSFER - sent < 20011 ? (int)(TRANSFER - sent) : 20011;

			far_end_says(connection, pattern + sent, take);
			sent += (size_t)take;
		}
		wait_for(connection->client.fd, POLLIN, variant_name(connection->variant));
		n = kernel_receive(connection->client.fd, seen + received, TRANSFER - received, &type);
		/* poll() on TCP also tells of the first part of a record (6.1) */
		if (n < 0 && errno == EAGAIN && monotonic_ns() < deadline)
			continue;
		if (n <= 0)
			fail_msg("%s: recvmsg: %s", variant_name(connection->variant),
			         n == 0 ? "end of stream" : strerror(errno));
		if (type == TLS_CONTENT_HANDSHAKE) {
			(*tickets)++;
			continue;
		}
		assert_int_equal(type, TLS_CONTENT_APPLICATION_DATA);
		received += (size_t)n;
	}
	assert_memory_equal(seen, pattern, TRANSFER);
}

static void check_variant(const struct variant *variant)
{
	struct connection connection;
	unsigned int tickets = 0;
	uint8_t type, alert[2];

	connect_variant(&connection, variant);
	client_to_far_end(&connection);
	far_end_to_client(&connection, &tickets);
	/* TLS 1.3 tickets that nobody had read came through the kernel; in 1.2 they are part of the handshake */
	assert_int_equal(tickets,
	                 variant->version == TLS1_3_VERSION && variant->records_before == 0 ? variant->tickets : 0);
	client_to_far_end(&connection);

	send_alert(connection.client.fd, SSL3_AL_WARNING, SSL_AD_CLOSE_NOTIFY);
	wait_for(connection.far_end->fd, POLLIN, "close_notify");
	far_end_pull(connection.far_end);
	assert_int_equal(SSL_read(connection.far_end->ssl, &type, 1), 0);
	assert_int_equal(SSL_get_error(connection.far_end->ssl, 0), SSL_ERROR_ZERO_RETURN);
	SSL_shutdown(connection.far_end->ssl);
	far_end_push(connection.far_end, SIZE_MAX);
	wait_for(connection.client.fd, POLLIN, "close_notify");
	assert_int_equal(kernel_receive(connection.client.fd, alert, sizeof(alert), &type), 2);
	assert_int_equal(type, TLS_CONTENT_ALERT);
	assert_int_equal(alert[1], SSL_AD_CLOSE_NOTIFY);
	disconnect(&connection);
}

static void every_version_and_cipher(void **state)
{
	(void)state;
	static const unsigned int tickets[] = {0, 2};

	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++)
		for (enum tls_cipher cipher = 0; cipher < TLS_KERNEL_CIPHERS; cipher++)
			for (size_t i = 0; i < ARRAY_SIZE(tickets); i++)
				for (unsigned int records = 0; records <= 2; records += 2) {
					const struct variant variant = {version, cipher, tickets[i], records, false};

					check_variant(&variant);
				}
}

/*
 * Keys of a resumed session: TLS 1.3's come from the key log as ever, 1.2's from the master secret of the session that
 * is resumed, with the randoms of this connection. OpenSSL sends one ticket after a resumption in 1.3.
 */
static void resumed_sessions(void **state)
{
	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++)
		for (enum tls_cipher cipher = 0; cipher < TLS_KERNEL_CIPHERS; cipher++)
			for (unsigned int records = 0; records <= 2; records += 2) {
				const struct variant variant = {version, cipher, 1, records, true};

				check_variant(&variant);
			}
}

/* Tickets on their own, then TLS_RX when the ticket window ends: no data was needed to arm. */
static void tickets_without_data(void **state)
{
	(void)state;
	for (enum tls_cipher cipher = 0; cipher < TLS_KERNEL_CIPHERS; cipher++) {
		const struct far_end_options options = {.leaf = server_certificate,
		                                        .min_version = TLS1_3_VERSION,
		                                        .suites_1_3 = suites_1_3[cipher],
		                                        .tickets = 4};
		const struct tls_settings settings = client_settings(server_pem);
		const struct variant variant = {TLS1_3_VERSION, cipher, 4, 0, false};
		struct connection connection = {.variant = &variant};
		unsigned int tickets = 0;
		uint8_t byte;
		int pair[2];

		far_end_sockets(pair, true);
		connection.far_end = far_end_new(&options, pair[1]);
		client_start(&connection.client, &settings, pair[0]);
		assert_int_equal(client_handshake(&connection.client, connection.far_end), TLS_STEP_DONE);
		assert_int_equal(tls_session_arm_transmit(connection.client.session), 0);
		wait_for(pair[0], POLLIN, "tickets");
		assert_int_equal(tls_session_read(connection.client.session, &byte, 1), -EAGAIN);
		assert_int_equal(tls_session_arm_receive(connection.client.session), 0);
		far_end_to_client(&connection, &tickets);
		assert_int_equal(tickets, 0);
		client_to_far_end(&connection);
		disconnect(&connection);
	}
}

/* A peer that rekeyed before TLS_RX: the kernel gets the key that is in use by then. */
static void key_update_before_receive(void **state)
{
	(void)state;
	const struct far_end_options options = {
	        .leaf = server_certificate, .min_version = TLS1_3_VERSION, .no_tickets = true};
	const struct tls_settings settings = client_settings(server_pem);
	const struct variant variant = {TLS1_3_VERSION, TLS_CIPHER_AES_256, 0, 1, false};
	struct connection connection = {.variant = &variant};
	unsigned int tickets = 0;
	char buffer[10];
	int pair[2];

	far_end_sockets(pair, true);
	connection.far_end = far_end_new(&options, pair[1]);
	client_start(&connection.client, &settings, pair[0]);
	assert_int_equal(client_handshake(&connection.client, connection.far_end), TLS_STEP_DONE);
	assert_int_equal(tls_session_arm_transmit(connection.client.session), 0);
	assert_int_equal(SSL_key_update(connection.far_end->ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
	far_end_says(&connection, "new", 3);
	wait_for(pair[0], POLLIN, "KeyUpdate");
	assert_int_equal(tls_session_read(connection.client.session, buffer, sizeof(buffer)), 3);
	assert_int_equal(tls_session_arm_receive(connection.client.session), 0);
	far_end_to_client(&connection, &tickets);
	client_to_far_end(&connection);
	disconnect(&connection);
}

static int set_up(void **state)
{
	(void)state;
	for (size_t i = 0; i < TRANSFER; i++)
		pattern[i] = (uint8_t)(i * 13 + (i >> 9));
	if (tls_global_init() < 0)
		return -1;
	server_certificate = certificate_new(
	        &(struct certificate_options){.common_name = "backend", .names = {{GEN_DNS, "backend.example", 0}}});
	server_pem = certificate_pem((const struct certificate *const[]){server_certificate, NULL});
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	certificate_free(server_certificate);
	free(server_pem);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(every_version_and_cipher),
	        cmocka_unit_test(resumed_sessions),
	        cmocka_unit_test(tickets_without_data),
	        cmocka_unit_test(key_update_before_receive),
	};
	int pair[2];
	int r;

	far_end_sockets(pair, true);
	r = keys_attach_ulp(pair[0]);
	close(pair[0]);
	close(pair[1]);
	if (r == -ENOENT) {
		puts("skipped: this kernel has no TLS (CONFIG_TLS, module tls)");
		return 77;
	}
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
