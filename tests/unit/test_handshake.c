// SPDX-License-Identifier: GPL-2.0-only
/*
 * Handshakes with a real OpenSSL server: which certificate and which settings give which reason, which alert the
 * server sees, and what a backend that is no TLS server, or ends early, is called.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "tls/session_private.h"
#include "tls_client.h"

#define DAY 86400L

enum leaf {
	LEAF_GOOD,
	LEAF_RSA,
	LEAF_WILDCARD,
	LEAF_SPIFFE,
	LEAF_COMMON_NAME_ONLY,
	LEAF_OTHER_NAME,
	LEAF_EXPIRED,
	LEAF_NOT_YET_VALID,
	LEAF_SELF_SIGNED,
	LEAF_WRONG_CA,
	LEAF_CLIENT_PURPOSE,
	LEAF_BY_INTERMEDIATE,
	LEAF_WEAK_KEY,
	LEAF_WEAK_DIGEST,
	LEAF_CONTROL_CHARACTERS,
	LEAVES,
};

static struct {
	struct certificate *root, *impostor_root, *intermediate, *leaf[LEAVES];
	char *root_pem, *self_signed_pem, *intermediate_pem;
} pki;

static const struct {
	enum leaf leaf;
	struct certificate_options options;
} leaves[] = {
        {LEAF_GOOD, {.common_name = "good", .names = {{GEN_DNS, "other.example", 0}, {GEN_DNS, "Backend.Example", 0}}}},
        {LEAF_RSA, {.common_name = "rsa", .names = {{GEN_DNS, "backend.example", 0}}, .rsa_bits = 2048}},
        {LEAF_WILDCARD, {.names = {{GEN_DNS, "*.example", 0}}}},
        {LEAF_SPIFFE, {.names = {{GEN_URI, "spiffe://cluster.local/ns/a/sa/b", 0}}}},
        {LEAF_COMMON_NAME_ONLY, {.common_name = "backend.example"}},
        {LEAF_OTHER_NAME, {.common_name = "backend.example", .names = {{GEN_DNS, "elsewhere.example", 0}}}},
        {LEAF_EXPIRED,
         {.common_name = "old",
          .names = {{GEN_DNS, "backend.example", 0}},
          .valid_from = -10 * DAY,
          .valid_until = -DAY}},
        {LEAF_NOT_YET_VALID,
         {.common_name = "early",
          .names = {{GEN_DNS, "backend.example", 0}},
          .valid_from = DAY,
          .valid_until = 10 * DAY}},
        {LEAF_CLIENT_PURPOSE,
         {.common_name = "client", .names = {{GEN_DNS, "backend.example", 0}}, .extended_key_usage = "clientAuth"}},
        {LEAF_WEAK_KEY, {.common_name = "weak", .names = {{GEN_DNS, "backend.example", 0}}, .rsa_bits = 1024}},
        {LEAF_WEAK_DIGEST, {.common_name = "sha1", .names = {{GEN_DNS, "backend.example", 0}}, .digest = "SHA1"}},
        {LEAF_CONTROL_CHARACTERS, {.common_name = "a\x1b[2Jb\nc", .names = {{GEN_DNS, "x\x1b[2J\ny.example", 0}}}},
};

static int make_pki(void **state)
{
	(void)state;
	if (tls_global_init() < 0)
		return -1;
	pki.root = certificate_new(&(struct certificate_options){.common_name = "test root", .authority = true});
	pki.impostor_root =
	        certificate_new(&(struct certificate_options){.common_name = "test root", .authority = true});
	pki.intermediate = certificate_new(&(struct certificate_options){
	        .common_name = "test intermediate", .authority = true, .issuer = pki.root});
	for (size_t i = 0; i < ARRAY_SIZE(leaves); i++) {
		struct certificate_options options = leaves[i].options;

		options.issuer = pki.root;
		pki.leaf[leaves[i].leaf] = certificate_new(&options);
	}
	struct certificate_options good = {.common_name = "backend", .names = {{GEN_DNS, "backend.example", 0}}};
	pki.leaf[LEAF_SELF_SIGNED] = certificate_new(&good);
	good.issuer = pki.impostor_root;
	pki.leaf[LEAF_WRONG_CA] = certificate_new(&good);
	good.issuer = pki.intermediate;
	pki.leaf[LEAF_BY_INTERMEDIATE] = certificate_new(&good);
	pki.root_pem = certificate_pem((const struct certificate *const[]){pki.root, NULL});
	pki.self_signed_pem =
	        certificate_pem((const struct certificate *const[]){pki.root, pki.leaf[LEAF_SELF_SIGNED], NULL});
	pki.intermediate_pem = certificate_pem((const struct certificate *const[]){pki.intermediate, NULL});
	return 0;
}

static int free_pki(void **state)
{
	(void)state;
	for (size_t i = 0; i < LEAVES; i++)
		certificate_free(pki.leaf[i]);
	certificate_free(pki.root);
	certificate_free(pki.impostor_root);
	certificate_free(pki.intermediate);
	free(pki.root_pem);
	free(pki.self_signed_pem);
	free(pki.intermediate_pem);
	return 0;
}

static struct subject_alt_name wants_spiffe[] = {{SUBJECT_ALT_NAME_URI, "spiffe://cluster.local/ns/a/sa/b"}};
static struct subject_alt_name wants_other_spiffe[] = {{SUBJECT_ALT_NAME_URI, "spiffe://cluster.local/ns/a/sa/B"}};
static struct subject_alt_name wants_elsewhere[] = {{SUBJECT_ALT_NAME_URI, "spiffe://nobody"},
                                                    {SUBJECT_ALT_NAME_HOSTNAME, "elsewhere.example"}};

struct row {
	const char *name;
	enum leaf leaf;
	bool sends_intermediate;
	char **ca_pem; /* NULL: the root */
	struct subject_alt_name *names;
	size_t name_count;
	enum postern_reason expected;
	int alert;             /* what the server must see; -1: none */
	const char *identity;  /* if verified */
	const char *in_detail; /* if not */
};

static const struct row rows[] = {
        {"DNS name, other case, second of two", LEAF_GOOD, .alert = -1, .identity = "Backend.Example"},
        {"RSA", LEAF_RSA, .alert = -1, .identity = "backend.example"},
        {"wildcard", LEAF_WILDCARD, .alert = -1, .identity = "*.example"},
        {"URI wanted and served", LEAF_SPIFFE, .names = wants_spiffe, .name_count = 1, .alert = -1,
         .identity = "spiffe://cluster.local/ns/a/sa/b"},
        {"second of two wanted names", LEAF_OTHER_NAME, .names = wants_elsewhere, .name_count = 2, .alert = -1,
         .identity = "elsewhere.example"},
        {"chain through an intermediate", LEAF_BY_INTERMEDIATE, .sends_intermediate = true, .alert = -1,
         .identity = "backend.example"},
        {"self-signed and trusted as such", LEAF_SELF_SIGNED, .ca_pem = &pki.self_signed_pem, .alert = -1,
         .identity = "backend.example"},

        {"URI differs in case", LEAF_SPIFFE, .names = wants_other_spiffe, .name_count = 1,
         .expected = REASON_IDENTITY_MISMATCH, .alert = SSL_AD_BAD_CERTIFICATE, .in_detail = "sa/B"},
        {"the hostname does not count beside subjectAltNames", LEAF_GOOD, .names = wants_elsewhere, .name_count = 2,
         .expected = REASON_IDENTITY_MISMATCH, .alert = SSL_AD_BAD_CERTIFICATE,
         .in_detail = "wanted spiffe://nobody or elsewhere.example; the certificate is for other.example, Backend"},
        {"common name only", LEAF_COMMON_NAME_ONLY, .expected = REASON_IDENTITY_MISMATCH,
         .alert = SSL_AD_BAD_CERTIFICATE, .in_detail = "no DNS name and no URI"},
        {"another DNS name, our common name", LEAF_OTHER_NAME, .expected = REASON_IDENTITY_MISMATCH,
         .alert = SSL_AD_BAD_CERTIFICATE, .in_detail = "for elsewhere.example"},
        {"control characters in the names", LEAF_CONTROL_CHARACTERS, .expected = REASON_IDENTITY_MISMATCH,
         .alert = SSL_AD_BAD_CERTIFICATE, .in_detail = "for x?[2J?y.example"},
        {"expired", LEAF_EXPIRED, .expected = REASON_CERTIFICATE_EXPIRED, .alert = SSL_AD_CERTIFICATE_EXPIRED,
         .in_detail = "certificate has expired: CN=old, notAfter=20"},
        {"not yet valid", LEAF_NOT_YET_VALID, .expected = REASON_CERTIFICATE_NOT_YET_VALID,
         .alert = SSL_AD_BAD_CERTIFICATE, .in_detail = ": CN=early, notBefore=20"},
        {"self-signed", LEAF_SELF_SIGNED, .expected = REASON_CERTIFICATE_SELF_SIGNED, .alert = SSL_AD_UNKNOWN_CA,
         .in_detail = "CN=backend"},
        {"another CA of the same name", LEAF_WRONG_CA, .expected = REASON_CERTIFICATE_UNTRUSTED,
         .alert = SSL_AD_UNKNOWN_CA, .in_detail = "issuer CN=test root"},
        {"intermediate not sent", LEAF_BY_INTERMEDIATE, .expected = REASON_CERTIFICATE_UNTRUSTED,
         .alert = SSL_AD_UNKNOWN_CA, .in_detail = "issuer CN=test intermediate"},
        {"a lone intermediate is no trust anchor", LEAF_BY_INTERMEDIATE, .sends_intermediate = true,
         .ca_pem = &pki.intermediate_pem, .expected = REASON_CERTIFICATE_UNTRUSTED, .alert = SSL_AD_UNKNOWN_CA,
         .in_detail = "CN=test intermediate, issuer CN=test root"},
        {"a client's certificate", LEAF_CLIENT_PURPOSE, .expected = REASON_CERTIFICATE_INVALID,
         .alert = SSL_AD_UNSUPPORTED_CERTIFICATE, .in_detail = "CN=client"},
        {"RSA of 1024 bits", LEAF_WEAK_KEY, .expected = REASON_CERTIFICATE_INVALID, .alert = SSL_AD_BAD_CERTIFICATE,
         .in_detail = "key too weak"},
        {"SHA-1 signature", LEAF_WEAK_DIGEST, .expected = REASON_CERTIFICATE_INVALID, .alert = SSL_AD_BAD_CERTIFICATE,
         .in_detail = "digest algorithm too weak"},
};

static void check_printable(const char *row, const char *text)
{
	for (const char *c = text; *c; c++)
		if (*c < ' ' || *c > '~')
			fail_msg("%s: byte %02x in \"%s\"", row, (unsigned char)*c, text);
}

static void check_row(const struct row *row, int version)
{
	const char *name = version == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2";
	const struct far_end_options options = {
	        .leaf = pki.leaf[row->leaf],
	        .intermediate = row->sends_intermediate ? pki.intermediate : NULL,
	        .max_version = version,
	};
	struct tls_settings settings = client_settings(row->ca_pem ? *row->ca_pem : pki.root_pem);
	struct tls_client client;
	struct tls_session_info info;
	int pair[2];

	settings.subject_alt_names = row->names;
	settings.subject_alt_name_count = row->name_count;
	far_end_sockets(pair, false);
	struct far_end *far_end = far_end_new(&options, pair[1]);
	client_start(&client, &settings, pair[0]);

	enum tls_step step = client_handshake(&client, far_end);
	enum postern_reason reason = tls_session_reason(client.session);
	const char *detail = tls_session_detail(client.session);

	check_printable(row->name, detail);
	if (reason != row->expected || (step == TLS_STEP_DONE) != (row->expected == REASON_NONE))
		fail_msg("%s, %s: expected %s, seen %s (%s)", row->name, name, reason_name(row->expected),
		         reason_name(reason), detail);
	if (far_end->alert != row->alert)
		fail_msg("%s, %s: expected alert %d, the server saw %d", row->name, name, row->alert, far_end->alert);
	if (row->in_detail && !strstr(detail, row->in_detail))
		fail_msg("%s, %s: expected \"%s\" in \"%s\"", row->name, name, row->in_detail, detail);
	assert_string_equal(far_end->server_name, "backend.example");
	if (step == TLS_STEP_DONE) {
		tls_session_info(client.session, &info);
		assert_true(far_end->accepted);
		assert_string_equal(info.peer_identity, row->identity);
		assert_int_equal(info.version, version == TLS1_3_VERSION ? TLS_VERSION_1_3 : TLS_VERSION_1_2);
		assert_in_range(info.peer_not_after, time(NULL) + DAY - 600, time(NULL) + DAY);
		assert_string_equal(info.alpn, "");
		assert_false(info.resumed);
		assert_int_equal(tls_session_handshake(client.session), TLS_STEP_DONE);
	} else {
		uint8_t byte;

		/* failed is failed: nothing more comes out of it */
		assert_int_equal(tls_session_handshake(client.session), TLS_STEP_FAILED);
		assert_true(tls_session_read(client.session, &byte, 1) < 0);
		assert_true(tls_session_write(client.session, "x", 1) < 0);
		assert_true(tls_session_arm_transmit(client.session) < 0);
		assert_true(tls_session_arm_receive(client.session) < 0);
	}
	client_end(&client);
	far_end_free(far_end);
}

static void certificates(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		check_row(&rows[i], TLS1_2_VERSION);
		check_row(&rows[i], TLS1_3_VERSION);
	}
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

static void check_negotiation(const struct negotiation *row, enum leaf leaf)
{
	struct far_end_options options = row->server;
	struct tls_settings settings = client_settings(pki.root_pem);
	struct tls_client client;
	struct tls_session_info info;
	int pair[2];

	options.leaf = pki.leaf[leaf];
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
		check_negotiation(&negotiations[i], LEAF_GOOD);
}

/* TLS 1.3 learns of the refusal after its own Finished: the alert comes with the first read. */
static void client_certificate_wanted_1_3(void **state)
{
	(void)state;
	const struct far_end_options options = {.leaf = pki.leaf[LEAF_GOOD], .want_client_certificate = true};
	const struct tls_settings settings = client_settings(pki.root_pem);
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

/*
 * There is no session cache yet; but whoever gives OpenSSL a session must not be able to skip verification: OpenSSL
 * itself only remembers the verdict of the first connection, here made under another policy.
 */
static void resumed_sessions_are_verified_again(void **state)
{
	(void)state;
	static const struct {
		struct subject_alt_name *names;
		size_t name_count;
		enum postern_reason expected;
	} table[] = {
	        {NULL, 0, REASON_NONE},
	        {wants_elsewhere, ARRAY_SIZE(wants_elsewhere), REASON_IDENTITY_MISMATCH},
	};

	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		const struct far_end_options options = {.leaf = pki.leaf[LEAF_GOOD], .max_version = version};
		struct tls_settings settings = client_settings(pki.root_pem);
		struct tls_client client;
		struct tls_session_info info;
		char buffer[10];
		int pair[2];

		far_end_sockets(pair, false);
		struct far_end *far_end = far_end_new(&options, pair[1]);
		client_start(&client, &settings, pair[0]);
		assert_int_equal(client_handshake(&client, far_end), TLS_STEP_DONE);
		assert_int_equal(tls_session_read(client.session, buffer, sizeof(buffer)), -EAGAIN);
		/* a copy: SSL_free() without close_notify marks the original as not resumable */
		SSL_SESSION *session = SSL_SESSION_dup(SSL_get0_session(client.session->ssl));
		assert_true(SSL_SESSION_is_resumable(session));
		client_end(&client);
		far_end_free(far_end);

		for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
			SSL_SESSION *copy = SSL_SESSION_dup(session);
			enum tls_step step;

			settings.subject_alt_names = table[i].names;
			settings.subject_alt_name_count = table[i].name_count;
			far_end_sockets(pair, false);
			far_end = far_end_new(&options, pair[1]);
			client_start(&client, &settings, pair[0]);
			assert_int_equal(SSL_set_session(client.session->ssl, copy), 1);
			SSL_SESSION_free(copy);
			step = client_handshake(&client, far_end);
			assert_int_equal(SSL_session_reused(client.session->ssl), 1);
			assert_int_equal(step, table[i].expected == REASON_NONE ? TLS_STEP_DONE : TLS_STEP_FAILED);
			assert_int_equal(tls_session_reason(client.session), table[i].expected);
			tls_session_info(client.session, &info);
			if (step == TLS_STEP_DONE) {
				assert_true(info.resumed);
				assert_string_equal(info.peer_identity, "Backend.Example");
			}
			client_end(&client);
			far_end_free(far_end);
		}
		SSL_SESSION_free(session);
	}
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
	const struct tls_settings settings = client_settings(pki.root_pem);
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
	const struct tls_settings settings = client_settings(pki.root_pem);
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
			const struct far_end_options options = {.leaf = pki.leaf[LEAF_GOOD],
			                                        .max_version = versions[i]};
			const struct tls_settings settings = client_settings(pki.root_pem);
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
			const struct far_end_options options = {.leaf = pki.leaf[LEAF_GOOD],
			                                        .max_version = versions[i]};
			const struct tls_settings settings = client_settings(pki.root_pem);
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

/* One byte at a time from the server: the same handshake. */
static void byte_by_byte(void **state)
{
	(void)state;
	static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		const struct far_end_options options = {.leaf = pki.leaf[LEAF_GOOD], .max_version = versions[i]};
		const struct tls_settings settings = client_settings(pki.root_pem);
		struct tls_client client;
		enum tls_step step = TLS_STEP_WANT_READ;
		int pair[2];

		far_end_sockets(pair, false);
		struct far_end *far_end = far_end_new(&options, pair[1]);
		client_start(&client, &settings, pair[0]);
		for (int round = 0; round < 10000 && step == TLS_STEP_WANT_READ; round++) {
			step = tls_session_handshake(client.session);
			if (far_end_pending(far_end) == 0) {
				far_end_pull(far_end);
				SSL_accept(far_end->ssl);
			}
			far_end_push(far_end, 1);
		}
		assert_int_equal(step, TLS_STEP_DONE);
		client_end(&client);
		far_end_free(far_end);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(certificates),
	        cmocka_unit_test(negotiation),
	        cmocka_unit_test(client_certificate_wanted_1_3),
	        cmocka_unit_test(resumed_sessions_are_verified_again),
	        cmocka_unit_test(not_a_tls_server),
	        cmocka_unit_test(reset_in_the_handshake),
	        cmocka_unit_test(truncated_anywhere),
	        cmocka_unit_test(tampered_flight),
	        cmocka_unit_test(byte_by_byte),
	};
	return cmocka_run_group_tests(tests, make_pki, free_pki);
}
