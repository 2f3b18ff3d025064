// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sessions after the handshake: tickets, data, KeyUpdate, endings, and the keys that the kernel is given. This program
 * has a setsockopt() of its own that keeps what the kernel would get; the test then does the kernel's part with
 * record_seal() and record_open(), so a wrong key, nonce or sequence number is a record that does not open. With a
 * real kernel: test_ktls.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "tls/record.h"
#include "tls_client.h"

static struct {
	int ulp_error; /* errno that the next calls give; 0: success */
	int keys_error;
	bool ulp;
	bool has[2]; /* by enum tls_direction */
	struct traffic_keys keys[2];
} kernel;

static struct traffic_keys keys_of_gcm(const struct tls_crypto_info *info, const uint8_t *salt, const uint8_t *iv,
                                       const uint8_t *key, size_t key_length, const uint8_t *rec_seq)
{
	struct traffic_keys keys = {.cipher = key_length == 16 ? TLS_CIPHER_AES_128 : TLS_CIPHER_AES_256};

	keys.version = info->version == TLS_1_3_VERSION ? TLS_VERSION_1_3 : TLS_VERSION_1_2;
	memcpy(keys.key, key, key_length);
	memcpy(keys.iv, salt, 4);
	/* TLS 1.2: the kernel begins its explicit nonces here; ours are the sequence, so that none comes twice */
	if (keys.version == TLS_VERSION_1_3)
		memcpy(keys.iv + 4, iv, 8);
	else
		assert_memory_equal(iv, rec_seq, 8);
	for (int i = 0; i < 8; i++)
		keys.record_sequence = keys.record_sequence << 8 | rec_seq[i];
	return keys;
}

static struct traffic_keys keys_of(const void *value, socklen_t length)
{
	const struct tls_crypto_info *info = value;
	const struct tls12_crypto_info_aes_gcm_128 *aes_128 = value;
	const struct tls12_crypto_info_aes_gcm_256 *aes_256 = value;
	const struct tls12_crypto_info_chacha20_poly1305 *chacha20 = value;
	struct traffic_keys keys = {.cipher = TLS_CIPHER_CHACHA20};

	switch (info->cipher_type) {
	case TLS_CIPHER_AES_GCM_128:
		assert_int_equal(length, sizeof(*aes_128));
		return keys_of_gcm(info, aes_128->salt, aes_128->iv, aes_128->key, 16, aes_128->rec_seq);
	case TLS_CIPHER_AES_GCM_256:
		assert_int_equal(length, sizeof(*aes_256));
		return keys_of_gcm(info, aes_256->salt, aes_256->iv, aes_256->key, 32, aes_256->rec_seq);
	default:
		assert_int_equal(info->cipher_type, TLS_CIPHER_CHACHA20_POLY1305);
		assert_int_equal(length, sizeof(*chacha20));
		keys.version = info->version == TLS_1_3_VERSION ? TLS_VERSION_1_3 : TLS_VERSION_1_2;
		memcpy(keys.key, chacha20->key, sizeof(keys.key));
		memcpy(keys.iv, chacha20->iv, sizeof(keys.iv));
		for (int i = 0; i < 8; i++)
			keys.record_sequence = keys.record_sequence << 8 | chacha20->rec_seq[i];
		return keys;
	}
}

static int fake_error(int error)
{
	errno = error;
	return error == 0 ? 0 : -1;
}

/* Takes the place of libc's in this program. */
int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
	if (level == IPPROTO_TCP && name == TCP_ULP) {
		kernel.ulp |= kernel.ulp_error == 0;
		return fake_error(kernel.ulp_error);
	}
	if (level == SOL_TLS && (name == TLS_TX || name == TLS_RX)) {
		enum tls_direction direction = name == TLS_TX ? TLS_DIRECTION_TRANSMIT : TLS_DIRECTION_RECEIVE;

		if (kernel.keys_error == 0) {
			assert_true(kernel.ulp);
			kernel.has[direction] = true;
			kernel.keys[direction] = keys_of(value, length);
		}
		return fake_error(kernel.keys_error);
	}
	return (int)syscall(SYS_setsockopt, fd, level, name, value, length);
}

static struct certificate *server_certificate;
static char *server_pem;

static int set_up(void **state)
{
	(void)state;
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

struct connection {
	struct tls_client client;
	struct far_end *far_end;
};

static void connect_with(struct connection *connection, struct far_end_options options, bool tcp)
{
	const struct tls_settings settings = client_settings(server_pem);
	int pair[2];

	memset(&kernel, 0, sizeof(kernel));
	options.leaf = server_certificate;
	far_end_sockets(pair, tcp);
	connection->far_end = far_end_new(&options, pair[1]);
	client_start(&connection->client, &settings, pair[0]);
	if (client_handshake(&connection->client, connection->far_end) != TLS_STEP_DONE)
		fail_msg("handshake: %s", tls_session_detail(connection->client.session));
	assert_true(connection->far_end->accepted);
}

static void disconnect(struct connection *connection)
{
	client_end(&connection->client);
	far_end_free(connection->far_end);
}

static void far_end_says(struct connection *connection, const char *text)
{
	assert_int_equal(SSL_write(connection->far_end->ssl, text, (int)strlen(text)), strlen(text));
	far_end_push(connection->far_end, SIZE_MAX);
}

static void far_end_hears(struct connection *connection, const char *text)
{
	char buffer[1000];

	far_end_pull(connection->far_end);
	assert_int_equal(SSL_read(connection->far_end->ssl, buffer, sizeof(buffer)), strlen(text));
	assert_memory_equal(buffer, text, strlen(text));
}

static void client_hears(struct connection *connection, const char *text)
{
	char buffer[1000];
	ssize_t n = tls_session_read(connection->client.session, buffer, sizeof(buffer));

	if (n != (ssize_t)strlen(text))
		fail_msg("expected \"%s\", seen %zd (%s)", text, n, tls_session_detail(connection->client.session));
	assert_memory_equal(buffer, text, strlen(text));
}

static void client_fails(struct connection *connection, enum postern_reason expected)
{
	char buffer[1000];
	ssize_t n = tls_session_read(connection->client.session, buffer, sizeof(buffer));
	enum postern_reason reason = tls_session_reason(connection->client.session);

	if (n != -ECONNRESET || reason != expected)
		fail_msg("expected %s, seen %zd, %s (%s)", reason_name(expected), n, reason_name(reason),
		         tls_session_detail(connection->client.session));
	/* and it stays so */
	assert_int_equal(tls_session_read(connection->client.session, buffer, sizeof(buffer)), -ECONNRESET);
	assert_true(tls_session_write(connection->client.session, "x", 1) < 0);
	assert_int_equal(tls_session_reason(connection->client.session), expected);
}

/* What a kernel with these keys would make of the next record on the client's socket. */
static ssize_t kernel_receives(struct connection *connection, struct record_cipher *cipher, uint8_t *plain,
                               enum tls_content_type *type)
{
	uint8_t record[TLS_RECORD_MAX];
	ssize_t length;

	assert_int_equal(recv(connection->client.fd, record, TLS_RECORD_HEADER, 0), TLS_RECORD_HEADER);
	length = record_length(record, TLS_RECORD_HEADER);
	assert_true(length > TLS_RECORD_HEADER);
	assert_int_equal(recv(connection->client.fd, record + TLS_RECORD_HEADER, (size_t)length - TLS_RECORD_HEADER,
	                      MSG_WAITALL),
	                 length - TLS_RECORD_HEADER);
	return record_open(cipher, record, (size_t)length, plain, type);
}

static struct record_cipher *kernel_cipher(enum tls_direction direction)
{
	struct record_cipher *cipher = NULL;

	assert_true(kernel.has[direction]);
	assert_int_equal(record_cipher_new(&kernel.keys[direction], &cipher), 0);
	return cipher;
}

/* The kernel's part in both directions, three records each way. */
static void check_armed(struct connection *connection, const char *row)
{
	struct record_cipher *receive = kernel_cipher(TLS_DIRECTION_RECEIVE);
	struct record_cipher *transmit = kernel_cipher(TLS_DIRECTION_TRANSMIT);
	uint8_t plain[TLS_RECORD_PLAIN_MAX + 256];
	uint8_t record[TLS_RECORD_MAX];
	enum tls_content_type type;

	for (int i = 0; i < 3; i++) {
		char text[20];
		ssize_t length;

		snprintf(text, sizeof(text), "message %d", i);
		far_end_says(connection, text);
		if (kernel_receives(connection, receive, plain, &type) != (ssize_t)strlen(text))
			fail_msg("%s: received record %d does not open", row, i);
		assert_int_equal(type, TLS_CONTENT_APPLICATION_DATA);
		assert_memory_equal(plain, text, strlen(text));

		length = record_seal(transmit, TLS_CONTENT_APPLICATION_DATA, text, strlen(text), 0, record);
		assert_int_equal(send(connection->client.fd, record, (size_t)length, 0), length);
		far_end_hears(connection, text);
	}
	record_cipher_free(receive);
	record_cipher_free(transmit);
}

static void arm_both(struct connection *connection)
{
	assert_int_equal(tls_session_arm_transmit(connection->client.session), 0);
	assert_true(tls_session_at_boundary(connection->client.session));
	assert_int_equal(tls_session_arm_receive(connection->client.session), 0);
}

static const char *const suites_1_2[] = {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
                                         "ECDHE-ECDSA-CHACHA20-POLY1305"};
static const char *const suites_1_3[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                         "TLS_CHACHA20_POLY1305_SHA256"};

/* Each version and suite; tickets before the first data, which arms; and none of either. */
static void keys_for_the_kernel(void **state)
{
	(void)state;
	static const unsigned int tickets[] = {0, 1, 2, 4};

	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		for (size_t suite = 0; suite < ARRAY_SIZE(suites_1_3); suite++) {
			for (size_t i = 0; i < ARRAY_SIZE(tickets); i++) {
				for (unsigned int records = 0; records <= 3; records++) {
					struct connection connection;
					struct tls_session_info info;
					char row[100];

					snprintf(row, sizeof(row), "%04x %s, %u tickets, %u records before",
					         (unsigned int)version, suites_1_3[suite], tickets[i], records);
					connect_with(&connection,
					             (struct far_end_options){.min_version = version,
					                                      .max_version = version,
					                                      .suites_1_2 = suites_1_2[suite],
					                                      .suites_1_3 = suites_1_3[suite],
					                                      .no_tickets = tickets[i] == 0,
					                                      .tickets = tickets[i]},
					             false);
					tls_session_info(connection.client.session, &info);
					assert_int_equal(info.cipher, suite);
					assert_int_equal(tls_session_arm_transmit(connection.client.session), 0);
					/* unread tickets are the kernel's, which gives them as type 22 */
					for (unsigned int n = 0; n < records; n++) {
						far_end_says(&connection, "before");
						client_hears(&connection, "before");
					}
					if (records == 0 && tickets[i] > 0) {
						char byte;

						assert_int_equal(tls_session_read(connection.client.session, &byte, 1),
						                 -EAGAIN);
					}
					assert_true(tls_session_at_boundary(connection.client.session));
					assert_int_equal(tls_session_arm_receive(connection.client.session), 0);
					/* TLS 1.3: tickets and data; 1.2: Finished and data */
					assert_int_equal(kernel.keys[TLS_DIRECTION_RECEIVE].record_sequence,
					                 version == TLS1_3_VERSION ? tickets[i] + records
					                                           : 1 + records);
					check_armed(&connection, row);
					disconnect(&connection);
				}
			}
		}
	}
}

/* Tickets that nobody read before TLS_RX come through the kernel as handshake records. */
static void tickets_left_to_the_kernel(void **state)
{
	(void)state;
	struct connection connection;
	uint8_t plain[TLS_RECORD_PLAIN_MAX + 256];
	enum tls_content_type type = 0;

	connect_with(&connection, (struct far_end_options){.min_version = TLS1_3_VERSION, .tickets = 2}, false);
	arm_both(&connection);
	assert_int_equal(kernel.keys[TLS_DIRECTION_RECEIVE].record_sequence, 0);
	struct record_cipher *receive = kernel_cipher(TLS_DIRECTION_RECEIVE);
	for (int i = 0; i < 2; i++) {
		assert_true(kernel_receives(&connection, receive, plain, &type) > 0);
		assert_int_equal(type, TLS_CONTENT_HANDSHAKE);
		assert_int_equal(plain[0], SSL3_MT_NEWSESSION_TICKET);
	}
	record_cipher_free(receive);
	disconnect(&connection);
}

/* A backend that speaks first: its data is in the flight that ends the handshake. */
static void data_with_finished(void **state)
{
	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		const struct far_end_options options = {
		        .leaf = server_certificate, .min_version = version, .max_version = version};
		const struct tls_settings settings = client_settings(server_pem);
		struct connection connection;
		enum tls_step step;
		size_t written = 0;
		int pair[2];

		memset(&kernel, 0, sizeof(kernel));
		far_end_sockets(pair, false);
		connection.far_end = far_end_new(&options, pair[1]);
		client_start(&connection.client, &settings, pair[0]);
		assert_int_equal(tls_session_handshake(connection.client.session), TLS_STEP_WANT_READ);
		far_end_pull(connection.far_end);
		if (version == TLS1_3_VERSION) {
			char byte;
			size_t none;

			/* half a round trip early: the server may speak before the client's Finished */
			assert_int_equal(SSL_read_early_data(connection.far_end->ssl, &byte, 1, &none),
			                 SSL_READ_EARLY_DATA_FINISH);
			assert_int_equal(SSL_write_early_data(connection.far_end->ssl, "220 ready\r\n", 11, &written),
			                 1);
		} else {
			assert_int_equal(SSL_accept(connection.far_end->ssl), -1);
			far_end_push(connection.far_end, SIZE_MAX);
			assert_int_equal(tls_session_handshake(connection.client.session), TLS_STEP_WANT_READ);
			far_end_pull(connection.far_end);
			assert_int_equal(SSL_accept(connection.far_end->ssl), 1);
			SSL_write_ex(connection.far_end->ssl, "220 ready\r\n", 11, &written);
		}
		assert_int_equal(written, 11);
		far_end_push(connection.far_end, SIZE_MAX);
		step = tls_session_handshake(connection.client.session);
		assert_int_equal(step, TLS_STEP_DONE);
		assert_int_equal(tls_session_arm_transmit(connection.client.session), 0);
		client_hears(&connection, "220 ready\r\n");
		assert_true(tls_session_at_boundary(connection.client.session));
		far_end_step(connection.far_end);
		char byte;
		assert_int_equal(tls_session_read(connection.client.session, &byte, 1), -EAGAIN);
		assert_int_equal(tls_session_arm_receive(connection.client.session), 0);
		check_armed(&connection, "data with Finished");
		disconnect(&connection);
	}
}

/* The boundary is where a record ends and nowhere else; keys go to the kernel there only. */
static void boundary(void **state)
{
	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		struct connection connection;
		char buffer[100];
		size_t pending;

		connect_with(&connection, (struct far_end_options){.max_version = version, .no_tickets = true}, false);
		assert_int_equal(tls_session_arm_transmit(connection.client.session), 0);
		assert_int_equal(SSL_write(connection.far_end->ssl, "hello", 5), 5);
		pending = far_end_pending(connection.far_end);
		assert_true(tls_session_at_boundary(connection.client.session));
		for (size_t i = 1; i < pending; i++) {
			far_end_push(connection.far_end, 1);
			assert_int_equal(tls_session_read(connection.client.session, buffer, sizeof(buffer)), -EAGAIN);
			if (tls_session_at_boundary(connection.client.session))
				fail_msg("after %zu of %zu bytes: a boundary", i, pending);
			assert_int_equal(tls_session_arm_receive(connection.client.session), -EINVAL);
		}
		far_end_push(connection.far_end, 1);
		/* plaintext that was not taken yet is in user space, too */
		assert_int_equal(tls_session_read(connection.client.session, buffer, 2), 2);
		assert_false(tls_session_at_boundary(connection.client.session));
		assert_int_equal(tls_session_arm_receive(connection.client.session), -EINVAL);
		assert_int_equal(tls_session_read(connection.client.session, buffer, sizeof(buffer)), 3);
		assert_memory_equal(buffer, "llo", 3);
		assert_true(tls_session_at_boundary(connection.client.session));

		/* of two records that are there, one is taken and the other left in the socket */
		far_end_says(&connection, "first");
		far_end_says(&connection, "second");
		client_hears(&connection, "first");
		assert_true(tls_session_at_boundary(connection.client.session));
		assert_int_equal(tls_session_arm_receive(connection.client.session), 0);
		struct record_cipher *receive = kernel_cipher(TLS_DIRECTION_RECEIVE);
		uint8_t plain[TLS_RECORD_PLAIN_MAX + 256];
		enum tls_content_type type;
		assert_int_equal(kernel_receives(&connection, receive, plain, &type), 6);
		assert_memory_equal(plain, "second", 6);
		record_cipher_free(receive);

		/* the session is out of the game */
		assert_int_equal(tls_session_read(connection.client.session, buffer, sizeof(buffer)), -EINVAL);
		assert_int_equal(tls_session_write(connection.client.session, "x", 1), -EINVAL);
		assert_int_equal(tls_session_shutdown(connection.client.session), -EINVAL);
		assert_int_equal(tls_session_arm_receive(connection.client.session), -EINVAL);
		assert_int_equal(tls_session_arm_transmit(connection.client.session), -EINVAL);
		disconnect(&connection);
	}
}

/* The far end's own records cannot be made odd; these are sealed by hand with its key. */
static void far_end_seals(struct connection *connection, struct record_cipher *cipher, enum tls_content_type type,
                          const void *plain, size_t size, size_t padding)
{
	uint8_t record[TLS_RECORD_MAX];
	ssize_t length = record_seal(cipher, type, plain, size, padding, record);

	assert_true(length > 0);
	assert_int_equal(send(connection->far_end->fd, record, (size_t)length, MSG_NOSIGNAL), length);
}

static struct record_cipher *far_end_cipher(struct connection *connection)
{
	struct record_cipher *cipher = NULL;
	struct traffic_keys keys;
	struct tls_session_info info;

	tls_session_info(connection->client.session, &info);
	assert_int_equal(keys_derive_1_3(info.cipher, connection->far_end->secrets[1],
	                                 connection->far_end->secret_length, &keys),
	                 0);
	assert_int_equal(record_cipher_new(&keys, &cipher), 0);
	return cipher;
}

static void ticket_in_two_records(void **state)
{
	(void)state;
	static const uint8_t ticket[] = {4, 0, 0, 19, 0,   0,   1,   0,   1,   2,   3, 4,
	                                 1, 0, 0, 6,  't', 'i', 'c', 'k', 'e', 't', 0};
	uint8_t message[sizeof(ticket) + 1] = {0};
	struct connection connection;
	char buffer[10];

	memcpy(message, ticket, sizeof(ticket));
	message[3] = (uint8_t)(sizeof(message) - 4);
	connect_with(&connection, (struct far_end_options){.min_version = TLS1_3_VERSION, .no_tickets = true}, false);
	struct record_cipher *cipher = far_end_cipher(&connection);
	assert_int_equal(tls_session_arm_transmit(connection.client.session), 0);
	far_end_seals(&connection, cipher, TLS_CONTENT_HANDSHAKE, message, 10, 0);
	assert_int_equal(tls_session_read(connection.client.session, buffer, sizeof(buffer)), -EAGAIN);
	assert_false(tls_session_at_boundary(connection.client.session));
	far_end_seals(&connection, cipher, TLS_CONTENT_HANDSHAKE, message + 10, sizeof(message) - 10, 0);
	far_end_seals(&connection, cipher, TLS_CONTENT_APPLICATION_DATA, "after", 5, 3);
	client_hears(&connection, "after");
	assert_true(tls_session_at_boundary(connection.client.session));
	assert_int_equal(tls_session_arm_receive(connection.client.session), 0);
	assert_int_equal(kernel.keys[TLS_DIRECTION_RECEIVE].record_sequence, 3);
	record_cipher_free(cipher);
	disconnect(&connection);
}

/* RFC 8446 4.6.3: the peer's new key must be the one that the kernel gets. */
static void key_update_without_answer(void **state)
{
	(void)state;
	for (size_t suite = 0; suite < ARRAY_SIZE(suites_1_3); suite++) {
		for (int updates = 1; updates <= 3; updates++) {
			struct connection connection;

			connect_with(&connection,
			             (struct far_end_options){.min_version = TLS1_3_VERSION,
			                                      .suites_1_3 = suites_1_3[suite],
			                                      .tickets = 2},
			             false);
			assert_int_equal(tls_session_arm_transmit(connection.client.session), 0);
			far_end_says(&connection, "old key");
			client_hears(&connection, "old key");
			for (int i = 0; i < updates; i++) {
				assert_int_equal(SSL_key_update(connection.far_end->ssl, SSL_KEY_UPDATE_NOT_REQUESTED),
				                 1);
				far_end_says(&connection, "new key");
				client_hears(&connection, "new key");
			}
			assert_int_equal(tls_session_arm_receive(connection.client.session), 0);
			assert_int_equal(kernel.keys[TLS_DIRECTION_RECEIVE].record_sequence, 1);
			check_armed(&connection, suites_1_3[suite]);
			disconnect(&connection);
		}
	}
}

static void key_update_that_wants_an_answer(void **state)
{
	(void)state;
	struct connection connection;
	char buffer[10];

	/* the kernel has the write key: OpenSSL can answer no more */
	connect_with(&connection, (struct far_end_options){.min_version = TLS1_3_VERSION, .no_tickets = true}, false);
	assert_int_equal(tls_session_arm_transmit(connection.client.session), 0);
	assert_int_equal(SSL_key_update(connection.far_end->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
	far_end_says(&connection, "new key");
	client_fails(&connection, REASON_KEY_UPDATE);
	assert_int_equal(recv(connection.far_end->fd, buffer, sizeof(buffer), MSG_DONTWAIT), -1);
	disconnect(&connection);

	/* in user space it answers, and goes on in both directions */
	connect_with(&connection, (struct far_end_options){.min_version = TLS1_3_VERSION, .no_tickets = true}, false);
	assert_int_equal(SSL_key_update(connection.far_end->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
	far_end_says(&connection, "new key");
	client_hears(&connection, "new key");
	assert_int_equal(tls_session_arm_transmit(connection.client.session), -EINVAL);
	assert_int_equal(tls_session_write(connection.client.session, "answer", 6), 6);
	far_end_hears(&connection, "answer");
	/* whose records the kernel cannot continue */
	assert_int_equal(tls_session_arm_transmit(connection.client.session), -EINVAL);
	disconnect(&connection);
}

/* A post-handshake CertificateRequest was not asked for; TLS 1.2 HelloRequests are declined or, armed, fatal. */
static void renegotiation_is_refused(void **state)
{
	(void)state;
	/* no context, one extension: signature_algorithms with ecdsa_secp256r1_sha256 */
	static const uint8_t message[15] = {13, 0, 0, 11, 0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3};
	struct connection connection;

	for (int armed = 0; armed <= 1; armed++) {
		connect_with(&connection, (struct far_end_options){.min_version = TLS1_3_VERSION, .no_tickets = true},
		             false);
		struct record_cipher *cipher = far_end_cipher(&connection);
		if (armed)
			assert_int_equal(tls_session_arm_transmit(connection.client.session), 0);
		far_end_seals(&connection, cipher, TLS_CONTENT_HANDSHAKE, message, sizeof(message), 0);
		client_fails(&connection, REASON_RENEGOTIATION);
		record_cipher_free(cipher);
		disconnect(&connection);

		connect_with(&connection, (struct far_end_options){.max_version = TLS1_2_VERSION}, false);
		if (armed)
			assert_int_equal(tls_session_arm_transmit(connection.client.session), 0);
		assert_int_equal(SSL_renegotiate(connection.far_end->ssl), 1);
		SSL_do_handshake(connection.far_end->ssl);
		far_end_push(connection.far_end, SIZE_MAX);
		if (armed) {
			client_fails(&connection, REASON_RENEGOTIATION);
		} else {
			char buffer[10];

			assert_int_equal(tls_session_read(connection.client.session, buffer, sizeof(buffer)), -EAGAIN);
			far_end_pull(connection.far_end);
			SSL_peek(connection.far_end->ssl, buffer, 1);
			assert_int_equal(connection.far_end->alert, SSL_AD_NO_RENEGOTIATION);
		}
		disconnect(&connection);
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
		struct connection connection;
		char buffer[100];

		/* close_notify: a clean end, as often as one asks; and ours goes out */
		connect_with(&connection, options, false);
		far_end_says(&connection, "bye");
		SSL_shutdown(connection.far_end->ssl);
		far_end_push(connection.far_end, SIZE_MAX);
		client_hears(&connection, "bye");
		assert_int_equal(tls_session_read(connection.client.session, buffer, sizeof(buffer)), 0);
		assert_int_equal(tls_session_read(connection.client.session, buffer, sizeof(buffer)), 0);
		assert_int_equal(tls_session_shutdown(connection.client.session), 0);
		far_end_pull(connection.far_end);
		assert_int_equal(SSL_read(connection.far_end->ssl, buffer, sizeof(buffer)), 0);
		assert_int_equal(SSL_get_error(connection.far_end->ssl, 0), SSL_ERROR_ZERO_RETURN);
		disconnect(&connection);

		/* ours first: the other direction lives on */
		connect_with(&connection, options, false);
		assert_int_equal(tls_session_shutdown(connection.client.session), 0);
		far_end_pull(connection.far_end);
		assert_int_equal(SSL_read(connection.far_end->ssl, buffer, sizeof(buffer)), 0);
		far_end_says(&connection, "still here");
		client_hears(&connection, "still here");
		disconnect(&connection);

		connect_with(&connection, options, false);
		shutdown(connection.far_end->fd, SHUT_WR);
		client_fails(&connection, REASON_TRUNCATED);
		disconnect(&connection);

		/* in the middle of a record, with the write side armed */
		connect_with(&connection, options, false);
		assert_int_equal(tls_session_arm_transmit(connection.client.session), 0);
		SSL_write(connection.far_end->ssl, "hello", 5);
		far_end_push(connection.far_end, 9);
		shutdown(connection.far_end->fd, SHUT_WR);
		client_fails(&connection, REASON_TRUNCATED);
		disconnect(&connection);

		connect_with(&connection, options, true);
		const struct linger reset = {.l_onoff = 1, .l_linger = 0};
		assert_int_equal(setsockopt(connection.far_end->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
		close(connection.far_end->fd);
		connection.far_end->fd = -1;
		client_fails(&connection, REASON_BACKEND_RESET);
		disconnect(&connection);

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
				connect_with(&connection, options, false);
				if (armed)
					assert_int_equal(tls_session_arm_transmit(connection.client.session), 0);
				assert_int_equal(send(connection.far_end->fd, table[i].bytes, table[i].length, 0),
				                 table[i].length);
				if (table[i].expected == REASON_NONE)
					assert_int_equal(
					        tls_session_read(connection.client.session, buffer, sizeof(buffer)),
					        -ECONNRESET);
				else
					client_fails(&connection, table[i].expected);
				assert_int_not_equal(tls_session_reason(connection.client.session), REASON_NONE);
				assert_false(tls_session_at_boundary(connection.client.session));
				disconnect(&connection);
			}
		}
	}
	struct connection connection;
	connect_with(&connection, (struct far_end_options){.min_version = TLS1_3_VERSION, .no_tickets = true}, false);
	struct record_cipher *cipher = far_end_cipher(&connection);
	far_end_seals(&connection, cipher, TLS_CONTENT_ALERT, alert, sizeof(alert), 0);
	client_fails(&connection, REASON_PEER_ALERT);
	assert_string_equal(tls_session_detail(connection.client.session),
	                    "alert internal_error (80) after the handshake");
	record_cipher_free(cipher);
	disconnect(&connection);
}

/* No kernel TLS: nothing is armed, and the session goes on in user space. */
static void kernel_refuses(void **state)
{
	(void)state;
	static const struct {
		int ulp_error, keys_error, expected;
	} table[] = {{ENOENT, 0, -ENOENT}, {ENOPROTOOPT, 0, -ENOPROTOOPT}, {0, ENOENT, -ENOENT}, {0, EINVAL, -EINVAL}};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct connection connection;

		connect_with(&connection, (struct far_end_options){0}, false);
		kernel.ulp_error = table[i].ulp_error;
		kernel.keys_error = table[i].keys_error;
		assert_int_equal(tls_session_arm_transmit(connection.client.session), table[i].expected);
		assert_int_equal(tls_session_write(connection.client.session, "request", 7), 7);
		far_end_hears(&connection, "request");
		far_end_says(&connection, "response");
		client_hears(&connection, "response");
		assert_int_equal(tls_session_arm_receive(connection.client.session), table[i].expected);
		far_end_says(&connection, "more");
		client_hears(&connection, "more");
		/* a sequence number that OpenSSL has used is never given to the kernel again */
		kernel.ulp_error = kernel.keys_error = 0;
		assert_int_equal(tls_session_arm_transmit(connection.client.session), -EINVAL);
		assert_false(kernel.has[TLS_DIRECTION_TRANSMIT]);
		disconnect(&connection);
	}
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
		struct connection connection;
		size_t sent = 0, received = 0;
		unsigned int blocked = 0;

		connect_with(&connection, (struct far_end_options){.max_version = version}, false);
		while (received < total) {
			/* odd sizes, so that records and writes do not line up */
			size_t take = total - sent < 50021 ? total - sent : 50021;
			ssize_t n = take > 0 ? tls_session_write(connection.client.session, pattern + sent, take) : 0;
			int got;

			assert_true(n > 0 || n == -EAGAIN || take == 0);
			sent += n > 0 ? (size_t)n : 0;
			if (n == -EAGAIN || take == 0) {
				blocked++;
				far_end_pull(connection.far_end);
				while ((got = SSL_read(connection.far_end->ssl, seen + received,
				                       (int)(total - received))) > 0)
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

				assert_int_equal(SSL_write(connection.far_end->ssl, pattern + sent, take), take);
				sent += (size_t)take;
			}
			far_end_push(connection.far_end, SIZE_MAX);
			while ((n = tls_session_read(connection.client.session, seen + received, total - received)) > 0)
				received += (size_t)n;
			assert_true(n == -EAGAIN || received == total);
		}
		assert_memory_equal(seen, pattern, total);
		disconnect(&connection);
	}
	free(pattern);
	free(seen);
}

static void rekey_secrets(void **state)
{
	(void)state;
	struct connection connection;
	struct tls_rekey_secrets secrets;

	for (size_t suite = 0; suite < ARRAY_SIZE(suites_1_3); suite++) {
		connect_with(&connection,
		             (struct far_end_options){.min_version = TLS1_3_VERSION, .suites_1_3 = suites_1_3[suite]},
		             false);
		arm_both(&connection);
		assert_true(tls_session_take_rekey_secrets(connection.client.session, &secrets));
		assert_int_equal(secrets.cipher, suite);
		assert_int_equal(secrets.length, connection.far_end->secret_length);
		assert_memory_equal(secrets.transmit, connection.far_end->secrets[0], secrets.length);
		assert_memory_equal(secrets.receive, connection.far_end->secrets[1], secrets.length);
		/* they are given once */
		assert_false(tls_session_take_rekey_secrets(connection.client.session, &secrets));
		disconnect(&connection);
	}
	connect_with(&connection, (struct far_end_options){.max_version = TLS1_2_VERSION}, false);
	arm_both(&connection);
	assert_false(tls_session_take_rekey_secrets(connection.client.session, &secrets));
	disconnect(&connection);
	tls_session_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(keys_for_the_kernel),
	        cmocka_unit_test(tickets_left_to_the_kernel),
	        cmocka_unit_test(data_with_finished),
	        cmocka_unit_test(boundary),
	        cmocka_unit_test(ticket_in_two_records),
	        cmocka_unit_test(key_update_without_answer),
	        cmocka_unit_test(key_update_that_wants_an_answer),
	        cmocka_unit_test(renegotiation_is_refused),
	        cmocka_unit_test(endings),
	        cmocka_unit_test(kernel_refuses),
	        cmocka_unit_test(user_space_transfer),
	        cmocka_unit_test(rekey_secrets),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
