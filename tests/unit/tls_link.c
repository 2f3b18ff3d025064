// SPDX-License-Identifier: GPL-2.0-only
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
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>

#include <openssl/x509v3.h>

#include "tls_link.h"

struct fake_kernel fake_kernel;
struct certificate *link_certificate;
char *link_pem;

const char *const link_suites_1_2[TLS_KERNEL_CIPHERS] = {
        "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"};
const char *const link_suites_1_3[TLS_KERNEL_CIPHERS] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                                         "TLS_CHACHA20_POLY1305_SHA256"};

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

int fake_kernel_setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
	if (level == IPPROTO_TCP && name == TCP_ULP) {
		fake_kernel.ulp |= fake_kernel.ulp_error == 0;
		return fake_error(fake_kernel.ulp_error);
	}
	if (level == SOL_TLS && (name == TLS_TX || name == TLS_RX)) {
		enum tls_direction direction = name == TLS_TX ? TLS_DIRECTION_TRANSMIT : TLS_DIRECTION_RECEIVE;

		if (fake_kernel.keys_error == 0) {
			assert_true(fake_kernel.ulp);
			fake_kernel.has[direction] = true;
			fake_kernel.keys[direction] = keys_of(value, length);
		}
		return fake_error(fake_kernel.keys_error);
	}
	return (int)syscall(SYS_setsockopt, fd, level, name, value, length);
}

int link_set_up(void **state)
{
	(void)state;
	if (tls_global_init() < 0)
		return -1;
	link_certificate = certificate_new(
	        &(struct certificate_options){.common_name = "backend", .names = {{GEN_DNS, "backend.example", 0}}});
	link_pem = certificate_pem((const struct certificate *const[]){link_certificate, NULL});
	return 0;
}

int link_tear_down(void **state)
{
	(void)state;
	certificate_free(link_certificate);
	free(link_pem);
	return 0;
}

void link_connect(struct tls_link *link, struct far_end_options options, bool tcp)
{
	const struct tls_settings settings = client_settings(link_pem);
	int pair[2];

	memset(&fake_kernel, 0, sizeof(fake_kernel));
	options.leaf = link_certificate;
	far_end_sockets(pair, tcp);
	link->far_end = far_end_new(&options, pair[1]);
	client_start(&link->client, &settings, pair[0]);
	if (client_handshake(&link->client, link->far_end) != TLS_STEP_DONE)
		fail_msg("handshake: %s", tls_session_detail(link->client.session));
	assert_true(link->far_end->accepted);
}

void link_disconnect(struct tls_link *link)
{
	client_end(&link->client);
	far_end_free(link->far_end);
}

void far_end_says(struct tls_link *link, const char *text)
{
	assert_int_equal(SSL_write(link->far_end->ssl, text, (int)strlen(text)), strlen(text));
	far_end_push(link->far_end, SIZE_MAX);
}

void far_end_hears(struct tls_link *link, const char *text)
{
	char buffer[1000];

	far_end_pull(link->far_end);
	assert_int_equal(SSL_read(link->far_end->ssl, buffer, sizeof(buffer)), strlen(text));
	assert_memory_equal(buffer, text, strlen(text));
}

void client_hears(struct tls_link *link, const char *text)
{
	char buffer[1000];
	ssize_t n = tls_session_read(link->client.session, buffer, sizeof(buffer));

	if (n != (ssize_t)strlen(text))
		fail_msg("expected \"%s\", seen %zd (%s)", text, n, tls_session_detail(link->client.session));
	assert_memory_equal(buffer, text, strlen(text));
}

void client_fails(struct tls_link *link, enum postern_reason expected)
{
	char buffer[1000];
	ssize_t n = tls_session_read(link->client.session, buffer, sizeof(buffer));
	enum postern_reason reason = tls_session_reason(link->client.session);

	if (n != -ECONNRESET || reason != expected)
		fail_msg("expected %s, seen %zd, %s (%s)", reason_name(expected), n, reason_name(reason),
		         tls_session_detail(link->client.session));
	/* and it stays so */
	assert_int_equal(tls_session_read(link->client.session, buffer, sizeof(buffer)), -ECONNRESET);
	assert_true(tls_session_write(link->client.session, "x", 1) < 0);
	assert_int_equal(tls_session_reason(link->client.session), expected);
}

/* What a kernel with these keys would make of the next record on the client's socket. */
ssize_t fake_kernel_receives(struct tls_link *link, struct record_cipher *cipher, uint8_t *plain,
                             enum tls_content_type *type)
{
	uint8_t record[TLS_RECORD_MAX];
	ssize_t length;

	assert_int_equal(recv(link->client.fd, record, TLS_RECORD_HEADER, 0), TLS_RECORD_HEADER);
	length = record_length(record, TLS_RECORD_HEADER);
	assert_true(length > TLS_RECORD_HEADER);
	assert_int_equal(
	        recv(link->client.fd, record + TLS_RECORD_HEADER, (size_t)length - TLS_RECORD_HEADER, MSG_WAITALL),
	        length - TLS_RECORD_HEADER);
	return record_open(cipher, record, (size_t)length, plain, type);
}

struct record_cipher *fake_kernel_cipher(enum tls_direction direction)
{
	struct record_cipher *cipher = NULL;

	assert_true(fake_kernel.has[direction]);
	assert_int_equal(record_cipher_new(&fake_kernel.keys[direction], &cipher), 0);
	return cipher;
}

/* The kernel's part in both directions, three records each way. */
void link_check_armed(struct tls_link *link, const char *row)
{
	struct record_cipher *receive = fake_kernel_cipher(TLS_DIRECTION_RECEIVE);
	struct record_cipher *transmit = fake_kernel_cipher(TLS_DIRECTION_TRANSMIT);
	uint8_t plain[TLS_RECORD_PLAIN_MAX + 256];
	uint8_t record[TLS_RECORD_MAX];
	enum tls_content_type type;

	for (int i = 0; i < 3; i++) {
		char text[20];
		ssize_t length;

		snprintf(text, sizeof(text), "message %d", i);
		far_end_says(link, text);
		if (fake_kernel_receives(link, receive, plain, &type) != (ssize_t)strlen(text))
			fail_msg("%s: received record %d does not open", row, i);
		assert_int_equal(type, TLS_CONTENT_APPLICATION_DATA);
		assert_memory_equal(plain, text, strlen(text));

		length = record_seal(transmit, TLS_CONTENT_APPLICATION_DATA, text, strlen(text), 0, record);
		assert_int_equal(send(link->client.fd, record, (size_t)length, 0), length);
		far_end_hears(link, text);
	}
	record_cipher_free(receive);
	record_cipher_free(transmit);
}

void link_arm_both(struct tls_link *link)
{
	assert_int_equal(tls_session_arm_transmit(link->client.session), 0);
	assert_true(tls_session_at_boundary(link->client.session));
	assert_int_equal(tls_session_arm_receive(link->client.session), 0);
}

/* The far end's own records cannot be made odd; these are sealed by hand with its key. */
void far_end_seals(struct tls_link *link, struct record_cipher *cipher, enum tls_content_type type, const void *plain,
                   size_t size, size_t padding)
{
	uint8_t record[TLS_RECORD_MAX];
	ssize_t length = record_seal(cipher, type, plain, size, padding, record);

	assert_true(length > 0);
	assert_int_equal(send(link->far_end->fd, record, (size_t)length, MSG_NOSIGNAL), length);
}

struct record_cipher *far_end_cipher(struct tls_link *link)
{
	struct record_cipher *cipher = NULL;
	struct traffic_keys keys;
	struct tls_session_info info;

	tls_session_info(link->client.session, &info);
	assert_int_equal(keys_derive_1_3(info.cipher, link->far_end->secrets[1], link->far_end->secret_length, &keys),
	                 0);
	assert_int_equal(record_cipher_new(&keys, &cipher), 0);
	return cipher;
}
