// SPDX-License-Identifier: GPL-2.0-only
/*
 * Handshakes with a real OpenSSL server: what the two sides agree on, and what a backend that is no TLS server, ends
 * early or is tampered with is called. Certificates are test_handshake_certificates.c, options
 * test_handshake_options.c.
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

#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "tls_client.h"

static struct certificate *root, *good;
static char *root_pem;

static int set_up(void **state)
{
	(void)state;
	if (tls_global_init() < 0)
		return -1;
	root = certificate_new(&(struct certificate_options){.common_name = "test root", .authority = true});
	good = certificate_new(&(struct certificate_options){
	        .common_name = "backend", .names = {{GEN_DNS, "backend.example", 0}}, .issuer = root});
	root_pem = certificate_pem((const struct certificate *const[]){root, NULL});
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	certificate_free(good);
	certificate_free(root);
	free(root_pem);
	return 0;
}

static void check_printable(const char *row, const char *text)
{
	for (const char *c = text; *c; c++)
		if (*c < ' ' || *c > '~')
			fail_msg("%s: byte %02x in \"%s\"", row, (unsigned char)*c, text);
}

/* What the two sides agree on, beside certificates. */
struct negotiation {
	const char *name;
	int client_min, client_max; /* 0: 1.2, 1.3 */
	enum alpn_protocol alpn;
	struct far_end_options server; /* leaf is filled in */
	enum postern_reason expected;
	enum postern_reason or_else; /* what another OpenSSL may leave to us */
	const char *cipher;          /* NULL: any */
	const char *selected;
	const char *in_detail;
};

static const struct negotiation negotiations[] = {
        {"AES-128, 1.2", .server = {.max_version = TLS1_2_VERSION, .suites_1_2 = "ECDHE-ECDSA-AES128-GCM-SHA256"},
         .cipher = "ECDHE-ECDSA-AES128-GCM-SHA256"},
        {"AES-256, 1.2", .server = {.max_version = TLS1_2_VERSION, .suites_1_2 = "ECDHE-ECDSA-AES256-GCM-SHA384"},
         .cipher = "ECDHE-ECDSA-AES256-GCM-SHA384"},
        {"ChaCha20, 1.2", .server = {.max_version = TLS1_2_VERSION, .suites_1_2 = "ECDHE-ECDSA-CHACHA20-POLY1305"},
         .cipher = "ECDHE-ECDSA-CHACHA20-POLY1305"},
        {"AES-128, 1.3", .server = {.suites_1_3 = "TLS_AES_128_GCM_SHA256"}, .cipher = "TLS_AES_128_GCM_SHA256"},
        {"AES-256, 1.3", .server = {.suites_1_3 = "TLS_AES_256_GCM_SHA384"}, .cipher = "TLS_AES_256_GCM_SHA384"},
        {"ChaCha20, 1.3", .server = {.suites_1_3 = "TLS_CHACHA20_POLY1305_SHA256"},
         .cipher = "TLS_CHACHA20_POLY1305_SHA256"},
        {"HelloRetryRequest", .server = {.groups = "P-384", .min_version = TLS1_3_VERSION}},
        {"P-384, 1.2", .server = {.groups = "P-384", .max_version = TLS1_2_VERSION}},
        {"no group in common, 1.3", .server = {.groups = "X448", .min_version = TLS1_3_VERSION},
         .expected = REASON_NO_SHARED_CIPHER, .in_detail = "handshake_failure (40) in the handshake"},
        {"CBC only", .server = {.max_version = TLS1_2_VERSION, .suites_1_2 = "ECDHE-ECDSA-AES128-SHA256"},
         .expected = REASON_NO_SHARED_CIPHER},
        {"server up to 1.1", .server = {.min_version = TLS1_VERSION, .max_version = TLS1_1_VERSION},
         .expected = REASON_PROTOCOL_VERSION},
        {"policy from 1.3, server up to 1.2", .client_min = TLS1_3_VERSION, .server = {.max_version = TLS1_2_VERSION},
         .expected = REASON_PROTOCOL_VERSION},
        {"policy up to 1.2, server from 1.3", .client_max = TLS1_2_VERSION, .server = {.min_version = TLS1_3_VERSION},
         .expected = REASON_PROTOCOL_VERSION},
        {"client certificate wanted, 1.2", .server = {.max_version = TLS1_2_VERSION, .want_client_certificate = true},
         .expected = REASON_CLIENT_CERTIFICATE_REFUSED, .in_detail = "handshake_failure"},

        {"h2 selected", .alpn = ALPN_H2, .server = {.alpn = "h2"}, .selected = "h2"},
        {"http/1.1 selected", .alpn = ALPN_HTTP_1_1, .server = {.alpn = "http/1.1"}, .selected = "http/1.1"},
        {"http/1.1 offered, nothing selected", .alpn = ALPN_HTTP_1_1, .selected = ""},
        {"h2 offered, nothing selected", .alpn = ALPN_H2, .expected = REASON_ALPN_MISMATCH,
         .in_detail = "offered h2, nothing"},
        {"h2 offered, the server has http/1.1 only", .alpn = ALPN_H2, .server = {.alpn = "http/1.1"},
         .expected = REASON_ALPN_MISMATCH, .in_detail = "no_application_protocol"},
        /* OpenSSL 3.0.22 sees it first: "bad extension" */
        {"http/1.1 offered, h2 selected", .alpn = ALPN_HTTP_1_1, .server = {.alpn = "h2", .alpn_anyway = true},
         .expected = REASON_HANDSHAKE_FAILED, .or_else = REASON_ALPN_MISMATCH},
        {"nothing offered", .alpn = ALPN_NONE, .server = {.alpn = "h2"}, .selected = ""},
};

static void check_negotiation(const struct negotiation *row)
{
	struct far_end_options options = row->server;
	struct tls_settings settings = client_settings(root_pem);
	struct tls_client client;
	struct tls_session_info info;
	int pair[2];

	options.leaf = good;
	settings.alpn = row->alpn;
	if (row->client_min)
		settings.min_version = row->client_min;
	if (row->client_max)
		settings.max_version = row->client_max;
	far_end_sockets(pair, false);
	struct far_end *far_end = far_end_new(&options, pair[1]);
	client_start(&client, &settings, pair[0]);

	enum tls_step step = client_handshake(&client, far_end);
	enum postern_reason reason = tls_session_reason(client.session);

	if ((reason != row->expected && (row->or_else == REASON_NONE || reason != row->or_else)) ||
	    (step == TLS_STEP_DONE) != (row->expected == REASON_NONE))
		fail_msg("%s: expected %s, seen %s (%s)", row->name, reason_name(row->expected), reason_name(reason),
		         tls_session_detail(client.session));
	if (row->in_detail && !strstr(tls_session_detail(client.session), row->in_detail))
		fail_msg("%s: expected \"%s\" in \"%s\"", row->name, row->in_detail,
		         tls_session_detail(client.session));
	if (step == TLS_STEP_DONE) {
		tls_session_info(client.session, &info);
		assert_string_equal(info.alpn, row->selected ? row->selected : "");
		assert_int_not_equal(info.cipher, TLS_CIPHER_OTHER);
		if (row->cipher)
			assert_string_equal(info.cipher_name, row->cipher);
	}
	client_end(&client);
	far_end_free(far_end);
}

static void negotiation(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(negotiations); i++)
		check_negotiation(&negotiations[i]);
}

/* TLS 1.3 learns of the refusal after its own Finished: the alert comes with the first read. */
static void client_certificate_wanted_1_3(void **state)
{
	(void)state;
	const struct far_end_options options = {.leaf = good, .want_client_certificate = true};
	const struct tls_settings settings = client_settings(root_pem);
	struct tls_client client;
	char buffer[100];
	int pair[2];

	far_end_sockets(pair, false);
	struct far_end *far_end = far_end_new(&options, pair[1]);
	client_start(&client, &settings, pair[0]);
	assert_int_equal(client_handshake(&client, far_end), TLS_STEP_DONE);
	far_end_step(far_end);
	assert_int_equal(tls_session_read(client.session, buffer, sizeof(buffer)), -ECONNRESET);
	assert_int_equal(tls_session_reason(client.session), REASON_CLIENT_CERTIFICATE_REFUSED);
	assert_string_equal(tls_session_detail(client.session), "alert certificate_required (116) after the handshake");
	client_end(&client);
	far_end_free(far_end);
}

/* Bytes that are no handshake at all, sent in answer to the ClientHello. */
static const struct {
	const char *name;
	const char *bytes;
	size_t length; /* 0: nothing, the peer just closes */
	enum postern_reason expected;
	const char *in_detail;
} strangers[] = {
        {"HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n", 28, REASON_NOT_TLS, "\"HTTP/\""},
        {"SSH", "SSH-2.0-OpenSSH_9.2\r\n", 21, REASON_NOT_TLS, "\"SSH-2\""},
        {"binary", "\xff\x00\x1b\x0a\x80\x01", 6, REASON_NOT_TLS, "ff 00 1b 0a 80 \".....\""},
        {"half a header", "\x16\x03", 2, REASON_HANDSHAKE_EOF, "end of stream"},
        {"nothing", "", 0, REASON_HANDSHAKE_EOF, "before any answer"},
        {"half a record", "\x16\x03\x03\x00\x40\x02\x00\x00", 8, REASON_HANDSHAKE_EOF, "in the handshake"},
        {"oversized record", "\x16\x03\x03\xff\xff\x02\x00\x00", 8, REASON_NOT_TLS, "16 03 03 ff ff"},
        {"application data first", "\x17\x03\x03\x00\x02hi", 7, REASON_HANDSHAKE_FAILED, NULL},
        {"garbage in a handshake record", "\x16\x03\x03\x00\x05\x63\x00\x00\x01\x00", 10, REASON_HANDSHAKE_FAILED,
         NULL},
        {"alert protocol_version", "\x15\x03\x01\x00\x02\x02\x46", 7, REASON_PROTOCOL_VERSION, "protocol_version (70)"},
        {"alert handshake_failure", "\x15\x03\x03\x00\x02\x02\x28", 7, REASON_NO_SHARED_CIPHER, "handshake_failure"},
        {"alert unrecognized_name", "\x15\x03\x03\x00\x02\x02\x70", 7, REASON_PEER_ALERT, "unrecognized_name (112)"},
        {"alert internal_error", "\x15\x03\x03\x00\x02\x02\x50", 7, REASON_PEER_ALERT, "internal_error (80)"},
        {"alert unknown", "\x15\x03\x03\x00\x02\x02\xc8", 7, REASON_PEER_ALERT, "alert unknown (200)"},
        {"warning, then the end", "\x15\x03\x03\x00\x02\x01\x70", 7, REASON_HANDSHAKE_EOF, "in the handshake"},
        {"close_notify", "\x15\x03\x03\x00\x02\x01\x00", 7, REASON_HANDSHAKE_EOF, "close_notify"},
        {"ServerHello of SSL 3.0",
         "\x16\x03\x00\x00\x2a\x02\x00\x00\x26\x03\x00"
         "0123456789abcdef0123456789abcdef\x00\xc0\x2b\x00",
         47, REASON_PROTOCOL_VERSION, NULL},
};

static void check_stranger(size_t i, size_t piece)
{
	const struct tls_settings settings = client_settings(root_pem);
	struct tls_client client;
	enum tls_step step;
	const char *detail;
	int pair[2];

	far_end_sockets(pair, false);
	client_start(&client, &settings, pair[0]);
	step = tls_session_handshake(client.session);
	assert_int_equal(step, TLS_STEP_WANT_READ);
	for (size_t sent = 0; sent < strangers[i].length && step == TLS_STEP_WANT_READ;) {
		size_t take = strangers[i].length - sent < piece ? strangers[i].length - sent : piece;

		assert_int_equal(send(pair[1], strangers[i].bytes + sent, take, MSG_NOSIGNAL), take);
		sent += take;
		step = tls_session_handshake(client.session);
	}
	shutdown(pair[1], SHUT_WR);
	step = tls_session_handshake(client.session);
	detail = tls_session_detail(client.session);
	if (step != TLS_STEP_FAILED || tls_session_reason(client.session) != strangers[i].expected)
		fail_msg("%s: expected %s, seen %s (%s)", strangers[i].name, reason_name(strangers[i].expected),
		         reason_name(tls_session_reason(client.session)), detail);
	check_printable(strangers[i].name, detail);
	if (strangers[i].in_detail && !strstr(detail, strangers[i].in_detail))
		fail_msg("%s: expected \"%s\" in \"%s\"", strangers[i].name, strangers[i].in_detail, detail);
	client_end(&client);
	close(pair[1]);
}

static void not_a_tls_server(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(strangers); i++) {
		check_stranger(i, SIZE_MAX);
		check_stranger(i, 1);
	}
}

static void reset_in_the_handshake(void **state)
{
	(void)state;
	const struct tls_settings settings = client_settings(root_pem);
	const struct linger reset = {.l_onoff = 1, .l_linger = 0};
	struct tls_client client;
	int pair[2];

	far_end_sockets(pair, true);
	client_start(&client, &settings, pair[0]);
	assert_int_equal(tls_session_handshake(client.session), TLS_STEP_WANT_READ);
	setsockopt(pair[1], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(pair[1]);
	assert_int_equal(tls_session_handshake(client.session), TLS_STEP_FAILED);
	assert_int_equal(tls_session_reason(client.session), REASON_BACKEND_RESET);
	client_end(&client);
}

/* The server's flight cut at every byte: never done, never a crash, always HANDSHAKE_EOF. */
static void truncated_anywhere(void **state)
{
	(void)state;
	static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		for (size_t cut = 0;; cut++) {
			const struct far_end_options options = {.leaf = good, .max_version = versions[i]};
			const struct tls_settings settings = client_settings(root_pem);
			struct tls_client client;
			int pair[2];
			bool whole;

			far_end_sockets(pair, false);
			struct far_end *far_end = far_end_new(&options, pair[1]);
			client_start(&client, &settings, pair[0]);
			assert_int_equal(tls_session_handshake(client.session), TLS_STEP_WANT_READ);
			far_end_pull(far_end);
			SSL_accept(far_end->ssl);
			far_end_push(far_end, cut);
			whole = far_end_pending(far_end) == 0;
			shutdown(pair[1], SHUT_WR);
			if (!whole) {
				assert_int_equal(tls_session_handshake(client.session), TLS_STEP_FAILED);
				assert_int_equal(tls_session_reason(client.session), REASON_HANDSHAKE_EOF);
			}
			client_end(&client);
			far_end_free(far_end);
			if (whole)
				break;
			if (cut > 20)
				cut += 22; /* not every byte from there: the same code, a twentieth of the time */
		}
	}
}

/* Any single bit of the server's first flight turned: never done. */
static void tampered_flight(void **state)
{
	(void)state;
	static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		size_t length = 1;

		for (size_t at = 0; at < length; at += at < 60 ? 1 : 41) {
			const struct far_end_options options = {.leaf = good, .max_version = versions[i]};
			const struct tls_settings settings = client_settings(root_pem);
			struct tls_client client;
			enum tls_step step;
			uint8_t flight[8192];
			int pair[2];

			far_end_sockets(pair, false);
			struct far_end *far_end = far_end_new(&options, pair[1]);
			client_start(&client, &settings, pair[0]);
			assert_int_equal(tls_session_handshake(client.session), TLS_STEP_WANT_READ);
			far_end_pull(far_end);
			SSL_accept(far_end->ssl);
			length = (size_t)BIO_read(far_end->out, flight, sizeof(flight));
			flight[at] ^= 0x01;
			assert_int_equal(send(pair[1], flight, length, MSG_NOSIGNAL), length);
			step = tls_session_handshake(client.session);
			for (int round = 0; round < 3 && step == TLS_STEP_WANT_READ; round++) {
				far_end_step(far_end);
				step = tls_session_handshake(client.session);
			}
			/* the first record's minor version: RFC 8446 5.1 says to ignore it */
			if (step == TLS_STEP_DONE && at != 2)
				fail_msg("version %04x: byte %zu changed and the handshake is done", versions[i], at);
			client_end(&client);
			far_end_free(far_end);
		}
	}
}

/* A whole handshake, with so many bytes of the server's at a time. */
static void handshake_in_pieces(const struct far_end_options *options, size_t piece, int rounds)
{
	const struct tls_settings settings = client_settings(root_pem);
	struct tls_client client;
	enum tls_step step = TLS_STEP_WANT_READ;
	int pair[2];

	far_end_sockets(pair, false);
	struct far_end *far_end = far_end_new(options, pair[1]);
	client_start(&client, &settings, pair[0]);
	for (int round = 0; round < rounds && step == TLS_STEP_WANT_READ; round++) {
		step = tls_session_handshake(client.session);
		if (far_end_pending(far_end) == 0) {
			far_end_pull(far_end);
			SSL_accept(far_end->ssl);
		}
		far_end_push(far_end, piece);
	}
	if (step != TLS_STEP_DONE)
		fail_msg("%04x, pieces of %zu: expected a handshake in %d rounds, seen step %d: %s",
		         (unsigned int)options->max_version, piece, rounds, step, tls_session_detail(client.session));
	client_end(&client);
	far_end_free(far_end);
}

/* One byte at a time from the server: the same handshake. */
static void byte_by_byte(void **state)
{
	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		const struct far_end_options options = {.leaf = good, .max_version = version};

		handshake_in_pieces(&options, 1, 10000);
	}
}

/* A certificate of more than one record, and than one look at the socket shows: the same handshake, whole or in pieces.
 */
static void large_certificate(void **state)
{
	(void)state;
	struct certificate_options large = {.issuer = root, .names = {{GEN_DNS, "backend.example", 0}}};
	static const size_t pieces[] = {SIZE_MAX, 8192, 8191, 5000, 1000};
	char uri[5000];
	struct certificate *leaf;

	memset(uri, 'a', sizeof(uri));
	memcpy(uri, "spiffe://", 9);
	for (int i = 1; i < CERTIFICATE_NAMES_MAX; i++)
		large.names[i] = (struct certificate_name){GEN_URI, uri, sizeof(uri)};
	leaf = certificate_new(&large);
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++)
		for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
			const struct far_end_options options = {.leaf = leaf, .max_version = version};

			handshake_in_pieces(&options, pieces[i], 100);
		}
	certificate_free(leaf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(negotiation),        cmocka_unit_test(client_certificate_wanted_1_3),
	        cmocka_unit_test(not_a_tls_server),   cmocka_unit_test(reset_in_the_handshake),
	        cmocka_unit_test(truncated_anywhere), cmocka_unit_test(tampered_flight),
	        cmocka_unit_test(byte_by_byte),       cmocka_unit_test(large_certificate),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
