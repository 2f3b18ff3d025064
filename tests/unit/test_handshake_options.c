// SPDX-License-Identifier: GPL-2.0-only
/*
 * What each option of a policy does to a real handshake: from its text in spec.options to what the server sees. The
 * timeouts, ktls and resumption are seen by tests/e2e/options.py, resumption by test_resumption.c, too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "policy/client_certificate.h"
#include "policy/settings.h"
#include "tls_client.h"

#define OURS        "postern.dev/"
#define MAX_OPTIONS 4

enum leaf {
	LEAF_EC,
	LEAF_RSA,
	LEAF_DEEP,       /* below the intermediate, which is sent, too */
	LEAF_UNTRUSTED,  /* self-signed */
	LEAF_OTHER_NAME, /* trusted, but of another host */
	LEAVES,
};

static struct {
	struct certificate *root, *intermediate, *leaf[LEAVES];
	struct shared_text *root_pem, *intermediate_pem, *crl_pem;
	struct client_certificate *of_policy, *of_gateway;
	char pin[LEAVES][64]; /* base64 */
} pki;

static struct shared_text *shared_pem(const struct certificate *certificate)
{
	_cleanup_free_ char *pem = certificate_pem((const struct certificate *const[]){certificate, NULL});
	struct shared_text *shared = shared_text_new(pem, strlen(pem));

	assert_non_null(shared);
	return shared;
}

static struct client_certificate *make_client_certificate(const char *common_name)
{
	struct certificate *leaf =
	        certificate_new(&(struct certificate_options){.common_name = common_name, .issuer = pki.intermediate});
	_cleanup_free_ char *chain = certificate_pem((const struct certificate *const[]){leaf, pki.intermediate, NULL});
	struct client_certificate *made = NULL;
	_cleanup_free_ char *key = certificate_key_pem(leaf);
	char error[200] = "";

	if (client_certificate_new(chain, strlen(chain), key, strlen(key), &made, error, sizeof(error)) != 0)
		fail_msg("client certificate: %s", error);
	certificate_free(leaf);
	return made;
}

static void make_pin(enum leaf leaf)
{
	unsigned char *der = NULL;
	int length = i2d_PUBKEY(pki.leaf[leaf]->key, &der);
	unsigned char digest[SHA256_DIGEST_LENGTH];

	SHA256(der, (size_t)length, digest);
	EVP_EncodeBlock((unsigned char *)pki.pin[leaf], digest, sizeof(digest));
	OPENSSL_free(der);
}

static int set_up(void **state)
{
	(void)state;
	struct certificate_options leaf = {.common_name = "backend", .names = {{GEN_DNS, "backend.example", 0}}};
	char *crl;

	if (tls_global_init() < 0)
		return -1;
	pki.root = certificate_new(&(struct certificate_options){.common_name = "root", .authority = true});
	pki.intermediate = certificate_new(
	        &(struct certificate_options){.common_name = "intermediate", .authority = true, .issuer = pki.root});
	pki.leaf[LEAF_UNTRUSTED] = certificate_new(&leaf);
	leaf.issuer = pki.root;
	pki.leaf[LEAF_EC] = certificate_new(&leaf);
	pki.leaf[LEAF_OTHER_NAME] = certificate_new(&(struct certificate_options){
	        .common_name = "backend.example", .names = {{GEN_DNS, "elsewhere.example", 0}}, .issuer = pki.root});
	leaf.issuer = pki.intermediate;
	pki.leaf[LEAF_DEEP] = certificate_new(&leaf);
	leaf.issuer = pki.root;
	leaf.rsa_bits = 2048;
	pki.leaf[LEAF_RSA] = certificate_new(&leaf);
	for (enum leaf i = 0; i < LEAVES; i++)
		make_pin(i);
	pki.root_pem = shared_pem(pki.root);
	pki.intermediate_pem = shared_pem(pki.intermediate);
	crl = certificate_crl_pem(pki.root, pki.leaf[LEAF_RSA], 3600);
	pki.crl_pem = shared_text_new(crl, strlen(crl));
	free(crl);
	pki.of_policy = make_client_certificate("of the policy");
	pki.of_gateway = make_client_certificate("of the gateway");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (size_t i = 0; i < LEAVES; i++)
		certificate_free(pki.leaf[i]);
	certificate_free(pki.root);
	certificate_free(pki.intermediate);
	shared_text_unref(pki.root_pem);
	shared_text_unref(pki.intermediate_pem);
	shared_text_unref(pki.crl_pem);
	client_certificate_unref(pki.of_policy);
	client_certificate_unref(pki.of_gateway);
	return 0;
}

/* Of a policy with these options, as the compile step makes them. NULL: the options are refused, for why (free()). */
static struct settings_entry *make_settings(const struct option_value *values, struct shared_text *ca, char **why)
{
	const struct object policy = {
	        .namespace_ = "ns", .name = "p", .backend_tls_policy = {.hostname = "backend.example"}};
	struct text problems = {0};
	struct tls_options options;
	struct settings_entry *entry;
	uint8_t digest[32];
	size_t count = 0;

	while (count < MAX_OPTIONS && values[count].key)
		count++;
	options_parse(values, count, &options, &problems);
	*why = text_is_empty(&problems) ? NULL : text_take(&problems);
	if (*why)
		return NULL;
	const struct settings_input input = {
	        .policy = &policy,
	        .options = &options,
	        .ca = ca,
	        .crl = options.crl.name ? pki.crl_pem : NULL,
	        .client_certificate = options.client_certificate.name ? pki.of_policy : NULL,
	        .alpn = options.alpn_given ? options.alpn : ALPN_NONE,
	};
	assert_int_equal(settings_digest(&input, digest), 0);
	entry = settings_entry_new(&input, digest, 1);
	assert_non_null(entry);
	return entry;
}

/* One handshake of a session of the gateway (NULL: of nobody) with a server that shows the leaf. */
struct run {
	struct tls_client client;
	struct far_end *far_end;
	struct far_end_options server; /* the far end looks at it while it lives */
	enum tls_step step;
};

static void run_start(struct run *run, const struct tls_settings *settings, struct far_end_options server,
                      enum leaf leaf, const struct tls_session_owner *owner)
{
	char error[200] = "";
	int pair[2];

	*run = (struct run){.server = server};
	run->server.leaf = pki.leaf[leaf];
	run->server.intermediate = leaf == LEAF_DEEP ? pki.intermediate : NULL;
	far_end_sockets(pair, false);
	run->far_end = far_end_new(&run->server, pair[1]);
	run->client.fd = pair[0];
	if (tls_context_new(settings, &run->client.context, error, sizeof(error)) != 0)
		fail_msg("settings refused: %s", error);
	assert_int_equal(tls_session_new(run->client.context, pair[0], owner, &run->client.session), 0);
	run->step = client_handshake(&run->client, run->far_end);
}

static void run_end(struct run *run)
{
	client_end(&run->client);
	far_end_free(run->far_end);
}

struct row {
	const char *name;
	struct option_value options[MAX_OPTIONS];
	struct far_end_options server;
	enum leaf leaf;
	bool intermediate_is_ca;
	enum postern_reason expected;
	int alert; /* what the server sees if it failed; 0: none, the server itself gave up */
	const char *in_detail;
	/* If it is done. NULL, 0: whatever. */
	int version;
	const char *cipher;
	const char *group;  /* TLS 1.3's name */
	const char *digest; /* of the server's signature */
	const char *alpn;
	unsigned int client_hellos;
};

#define OPTION(name, value)           .options = {{OURS name, value}}
#define OPTION_AND(name, value, n, v) .options = {{OURS name, value}, {OURS n, v}}
#define ONLY_1_2                      .max_version = TLS1_2_VERSION
#define ONLY_1_3                      .min_version = TLS1_3_VERSION

static const struct row rows[] = {
        {"by default the newest version", .version = TLS1_3_VERSION, .cipher = "TLS_AES_128_GCM_SHA256",
         .group = "x25519", .alpn = "", .client_hellos = 1},
        {"by default also TLS 1.2", .server = {ONLY_1_2}, .version = TLS1_2_VERSION},

        {"min 1.3, the server has both", OPTION("min-tls-version", "1.3"), .version = TLS1_3_VERSION},
        {"min 1.3, the server has 1.2", OPTION("min-tls-version", "1.3"), .server = {ONLY_1_2},
         .expected = REASON_PROTOCOL_VERSION, .in_detail = "protocol_version (70)"},
        {"min 1.2, the server has 1.2", OPTION("min-tls-version", "1.2"), .server = {ONLY_1_2},
         .version = TLS1_2_VERSION},
        {"max 1.2, the server has both", OPTION("max-tls-version", "1.2"), .version = TLS1_2_VERSION},
        {"max 1.2, the server has 1.3", OPTION("max-tls-version", "1.2"), .server = {ONLY_1_3},
         .expected = REASON_PROTOCOL_VERSION, .in_detail = "protocol_version (70)"},
        {"max 1.3, the server has 1.3", OPTION("max-tls-version", "1.3"), .server = {ONLY_1_3},
         .version = TLS1_3_VERSION},

        {"one suite", OPTION("cipher-suites", "TLS_CHACHA20_POLY1305_SHA256"),
         .cipher = "TLS_CHACHA20_POLY1305_SHA256"},
        {"suites in the policy's order", OPTION("cipher-suites", "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"),
         .cipher = "TLS_AES_256_GCM_SHA384"},
        {"the second suite", OPTION("cipher-suites", "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"),
         .server = {.suites_1_3 = "TLS_AES_128_GCM_SHA256"}, .cipher = "TLS_AES_128_GCM_SHA256"},
        {"no suite in common", OPTION("cipher-suites", "TLS_AES_256_GCM_SHA384"),
         .server = {ONLY_1_3, .suites_1_3 = "TLS_AES_128_GCM_SHA256"}, .expected = REASON_NO_SHARED_CIPHER,
         .in_detail = "handshake_failure (40)"},
        {"suites are not for 1.2", OPTION("cipher-suites", "TLS_AES_256_GCM_SHA384"), .server = {ONLY_1_2},
         .cipher = "ECDHE-ECDSA-AES128-GCM-SHA256"},
        {"one cipher, by IANA's name", OPTION("ciphers", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
         .server = {ONLY_1_2}, .cipher = "ECDHE-ECDSA-CHACHA20-POLY1305"},
        {"ciphers in the policy's order",
         OPTION("ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256"), .server = {ONLY_1_2},
         .cipher = "ECDHE-ECDSA-AES256-GCM-SHA384"},
        {"no cipher for the server's key", OPTION("ciphers", "ECDHE-RSA-AES128-GCM-SHA256"), .server = {ONLY_1_2},
         .expected = REASON_NO_SHARED_CIPHER, .in_detail = "handshake_failure (40)"},
        {"the same with a key that fits", OPTION("ciphers", "ECDHE-RSA-AES128-GCM-SHA256"), .server = {ONLY_1_2},
         .leaf = LEAF_RSA, .cipher = "ECDHE-RSA-AES128-GCM-SHA256"},
        {"ciphers are not for 1.3", OPTION("ciphers", "ECDHE-RSA-AES128-GCM-SHA256"),
         .cipher = "TLS_AES_128_GCM_SHA256"},

        {"one group", OPTION("groups", "P-384"), .group = "secp384r1", .client_hellos = 1},
        {"one group, the server has another", OPTION("groups", "P-384"), .server = {ONLY_1_3, .groups = "X25519"},
         .expected = REASON_NO_SHARED_CIPHER, .in_detail = "handshake_failure (40)"},
        {"one group, the server has another, 1.2", OPTION("groups", "P-384"), .server = {ONLY_1_2, .groups = "X25519"},
         .expected = REASON_NO_SHARED_CIPHER, .in_detail = "handshake_failure (40)"},
        {"the second group costs a HelloRetryRequest", OPTION("groups", "X25519:P-521"), .server = {.groups = "P-521"},
         .group = "secp521r1", .client_hellos = 2},
        {"the first group does not", OPTION("groups", "P-521:X25519"), .server = {.groups = "P-521"},
         .group = "secp521r1", .client_hellos = 1},
        {"X448", OPTION("groups", "x448"), .group = "x448", .client_hellos = 1},

        {"one signature algorithm", OPTION("signature-algorithms", "rsa_pss_rsae_sha512"), .leaf = LEAF_RSA,
         .digest = "SHA512"},
        {"the policy's order", OPTION("signature-algorithms", "rsa_pss_rsae_sha384:rsa_pss_rsae_sha256"),
         .leaf = LEAF_RSA, .digest = "SHA384"},
        {"RSA PKCS #1 in TLS 1.2", OPTION_AND("signature-algorithms", "rsa_pkcs1_sha512", "max-tls-version", "1.2"),
         .leaf = LEAF_RSA, .digest = "SHA512", .version = TLS1_2_VERSION},
        {"none for the server's key", OPTION("signature-algorithms", "rsa_pss_rsae_sha256"),
         .expected = REASON_NO_SHARED_CIPHER, .in_detail = "handshake_failure (40)"},
        {"none for the server's key, 1.2", OPTION("signature-algorithms", "rsa_pss_rsae_sha256"), .server = {ONLY_1_2},
         .expected = REASON_NO_SHARED_CIPHER, .in_detail = "handshake_failure (40)"},

        {"alpn h2", OPTION("alpn", "h2"), .server = {.alpn = "h2"}, .alpn = "h2"},
        {"alpn http/1.1", OPTION("alpn", "http/1.1"), .server = {.alpn = "http/1.1"}, .alpn = "http/1.1"},
        {"alpn none", OPTION("alpn", "none"), .server = {.alpn = "h2"}, .alpn = ""},
        {"alpn h2, the server selects nothing", OPTION("alpn", "h2"), .expected = REASON_ALPN_MISMATCH,
         .in_detail = "offered h2, nothing was selected"},
        {"alpn h2, the server has http/1.1", OPTION("alpn", "h2"), .server = {.alpn = "http/1.1"},
         .expected = REASON_ALPN_MISMATCH, .in_detail = "no_application_protocol"},
        {"alpn http/1.1, the server selects nothing", OPTION("alpn", "http/1.1"), .alpn = ""},

        {"depth 0, no intermediate", OPTION("verify-depth", "0")},
        {"depth 0, one intermediate", OPTION("verify-depth", "0"), .leaf = LEAF_DEEP,
         .expected = REASON_CERTIFICATE_INVALID, .alert = SSL_AD_UNKNOWN_CA, .in_detail = "chain too long"},
        {"depth 1, one intermediate", OPTION("verify-depth", "1"), .leaf = LEAF_DEEP},
        {"no depth, one intermediate", .leaf = LEAF_DEEP},

        {"an intermediate is no anchor", .leaf = LEAF_DEEP, .intermediate_is_ca = true,
         .expected = REASON_CERTIFICATE_UNTRUSTED, .alert = SSL_AD_UNKNOWN_CA, .in_detail = "CN=intermediate"},
        {"partial-chain false", OPTION("partial-chain", "false"), .leaf = LEAF_DEEP, .intermediate_is_ca = true,
         .expected = REASON_CERTIFICATE_UNTRUSTED, .alert = SSL_AD_UNKNOWN_CA, .in_detail = "CN=intermediate"},
        {"partial-chain true", OPTION("partial-chain", "true"), .leaf = LEAF_DEEP, .intermediate_is_ca = true},
        {"partial-chain true, another issuer", OPTION("partial-chain", "true"), .intermediate_is_ca = true,
         .expected = REASON_CERTIFICATE_UNTRUSTED, .alert = SSL_AD_UNKNOWN_CA},

        {"crl, not listed", OPTION("crl", "configmap/list")},
        {"crl, listed", OPTION("crl", "secret/list"), .leaf = LEAF_RSA, .expected = REASON_CERTIFICATE_REVOKED,
         .alert = SSL_AD_CERTIFICATE_REVOKED, .in_detail = "CN=backend"},
        {"no crl", .leaf = LEAF_RSA},
        {"crl, none of the issuer", OPTION("crl", "configmap/list"), .leaf = LEAF_DEEP, .expected = REASON_CRL_UNUSABLE,
         .alert = SSL_AD_UNKNOWN_CA, .in_detail = "issuer CN=intermediate"},

        {"the pin of its key", OPTION("pin-sha256", pki.pin[LEAF_EC])},
        {"the pin of another key", OPTION("pin-sha256", pki.pin[LEAF_RSA]), .expected = REASON_PIN_MISMATCH,
         .alert = SSL_AD_BAD_CERTIFICATE, .in_detail = "none of the 1 pinned"},
        {"a pin does not mend the path", OPTION("pin-sha256", pki.pin[LEAF_UNTRUSTED]), .leaf = LEAF_UNTRUSTED,
         .expected = REASON_CERTIFICATE_SELF_SIGNED, .alert = SSL_AD_UNKNOWN_CA},
        {"nor the name", OPTION("pin-sha256", pki.pin[LEAF_OTHER_NAME]), .leaf = LEAF_OTHER_NAME,
         .expected = REASON_IDENTITY_MISMATCH, .alert = SSL_AD_BAD_CERTIFICATE},
};

static void check_equal(const char *row, const char *what, const char *expected, const char *seen)
{
	if (expected && strcmp(expected, seen) != 0)
		fail_msg("%s: %s: expected %s, seen %s", row, what, expected, seen);
}

static void check_done(const struct row *row, const struct run *run)
{
	SSL *server = run->far_end->ssl;
	const unsigned char *selected;
	unsigned int length;
	char alpn[32];
	int digest;

	if (row->version && SSL_version(server) != row->version)
		fail_msg("%s: expected version %04x, seen %04x", row->name, row->version, SSL_version(server));
	check_equal(row->name, "cipher", row->cipher, SSL_get_cipher_name(server));
	if (row->group)
		check_equal(row->name, "group", row->group,
		            SSL_group_to_name(server, SSL_get_negotiated_group(server)));
	if (row->digest) {
		assert_int_equal(SSL_get_signature_nid(server, &digest), 1);
		check_equal(row->name, "digest", row->digest, OBJ_nid2sn(digest));
	}
	SSL_get0_alpn_selected(server, &selected, &length);
	snprintf(alpn, sizeof(alpn), "%.*s", (int)length, (const char *)selected);
	check_equal(row->name, "ALPN", row->alpn, alpn);
	if (row->client_hellos && run->far_end->client_hellos != row->client_hellos)
		fail_msg("%s: expected %u ClientHellos, seen %u", row->name, row->client_hellos,
		         run->far_end->client_hellos);
}

static void check_row(const struct row *row)
{
	char *why;
	struct settings_entry *entry =
	        make_settings(row->options, row->intermediate_is_ca ? pki.intermediate_pem : pki.root_pem, &why);
	int alert = row->alert ? row->alert : -1;
	struct run run;

	if (!entry)
		fail_msg("%s: %s", row->name, why);
	run_start(&run, &entry->settings, row->server, row->leaf, NULL);

	enum postern_reason reason = tls_session_reason(run.client.session);
	const char *detail = tls_session_detail(run.client.session);

	if (reason != row->expected || (run.step == TLS_STEP_DONE) != (row->expected == REASON_NONE))
		fail_msg("%s: expected %s, seen %s (%s)", row->name, reason_name(row->expected), reason_name(reason),
		         detail);
	if (run.far_end->alert != alert)
		fail_msg("%s: expected alert %d, the server saw %d", row->name, alert, run.far_end->alert);
	if (row->in_detail && !strstr(detail, row->in_detail))
		fail_msg("%s: expected \"%s\" in \"%s\"", row->name, row->in_detail, detail);
	if (run.step == TLS_STEP_DONE)
		check_done(row, &run);
	run_end(&run);
	settings_entry_unref(entry);
}

static void effects(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		check_row(&rows[i]);
}

/* Any of sixteen; here the last. */
static void any_of_the_pins(void **state)
{
	(void)state;
	char pins[OPTION_MAX_PINS * 64] = "";
	size_t used = 0;

	for (int i = 1; i < OPTION_MAX_PINS; i++) {
		unsigned char other[SHA256_DIGEST_LENGTH] = {(unsigned char)i};
		unsigned char text[64];

		EVP_EncodeBlock(text, other, sizeof(other));
		used += (size_t)snprintf(pins + used, sizeof(pins) - used, "sha256/%s, ", (const char *)text);
	}
	const struct row without = {"fifteen other pins", OPTION("pin-sha256", pins), .expected = REASON_PIN_MISMATCH,
	                            .alert = SSL_AD_BAD_CERTIFICATE, .in_detail = "none of the 15 pinned"};
	check_row(&without);
	snprintf(pins + used, sizeof(pins) - used, "%s", pki.pin[LEAF_EC]);
	const struct row with = {"and the right one", OPTION("pin-sha256", pins)};
	check_row(&with);
}

/* With the post-quantum hybrid first, a server that has it takes it in one round trip. */
static void hybrid_group(void **state)
{
	(void)state;
	const struct row row = {"hybrid", OPTION("groups", "X25519MLKEM768:X25519"), .group = "X25519MLKEM768",
	                        .client_hellos = 1, .version = TLS1_3_VERSION};
	char *why;
	struct settings_entry *entry = make_settings(row.options, pki.root_pem, &why);

	if (!entry) {
		assert_non_null(strstr(why, "this OpenSSL"));
		print_message("no handshake with it: %s\n", why);
		free(why);
		skip();
	}
	settings_entry_unref(entry);
	check_row(&row);
}

static const struct {
	const char *name;
	bool policy, gateway, asked;
	const char *seen; /* by the server; NULL: none */
} client_certificates[] = {
        {"the Gateway's", false, true, true, "of the gateway"},
        {"the policy's", true, false, true, "of the policy"},
        {"the policy's before the Gateway's", true, true, true, "of the policy"},
        {"nobody asks", true, true, false, NULL},
};

static void check_shown(size_t i, int version)
{
	const struct option_value options[MAX_OPTIONS] = {
	        {client_certificates[i].policy ? OURS "client-certificate" : NULL, "mine"}};
	const struct tls_session_owner owner = {
	        .gateway_id = 1, .client_certificate = client_certificates[i].gateway ? pki.of_gateway : NULL};
	char *why;
	struct settings_entry *entry = make_settings(options, pki.root_pem, &why);
	struct run run;
	char seen[64] = "";

	run_start(&run, &entry->settings,
	          (struct far_end_options){.max_version = version,
	                                   .want_client_certificate = client_certificates[i].asked},
	          LEAF_EC, &owner);
	X509 *shown = SSL_get0_peer_certificate(run.far_end->ssl);

	if (shown)
		X509_NAME_get_text_by_NID(X509_get_subject_name(shown), NID_commonName, seen, sizeof(seen));
	if (run.step != TLS_STEP_DONE || !run.far_end->accepted)
		fail_msg("%s: %s", client_certificates[i].name, tls_session_detail(run.client.session));
	check_equal(client_certificates[i].name, "client certificate",
	            client_certificates[i].seen ? client_certificates[i].seen : "", seen);
	/* with what stands after the leaf in the Secret */
	assert_int_equal(shown ? sk_X509_num(SSL_get_peer_cert_chain(run.far_end->ssl)) : 0, shown ? 1 : 0);
	run_end(&run);
	settings_entry_unref(entry);
}

static void client_certificate_shown(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(client_certificates); i++) {
		check_shown(i, TLS1_2_VERSION);
		check_shown(i, TLS1_3_VERSION);
	}
}

/* TLS 1.3 learns of the refusal after its own Finished: the alert comes with the first read. */
static void client_certificate_missing(void **state)
{
	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		const struct option_value none[MAX_OPTIONS] = {0};
		const struct tls_session_owner owner = {.gateway_id = 1};
		char *why;
		struct settings_entry *entry = make_settings(none, pki.root_pem, &why);
		struct run run;
		uint8_t byte;

		run_start(&run, &entry->settings,
		          (struct far_end_options){.max_version = version, .want_client_certificate = true}, LEAF_EC,
		          &owner);
		assert_int_equal(run.step, version == TLS1_3_VERSION ? TLS_STEP_DONE : TLS_STEP_FAILED);
		assert_true(run.far_end->failed);
		assert_int_equal(tls_session_read(run.client.session, &byte, 1), -ECONNRESET);
		assert_int_equal(tls_session_reason(run.client.session), REASON_CLIENT_CERTIFICATE_REFUSED);
		run_end(&run);
		settings_entry_unref(entry);
	}
}

/*
 * The whole table of options, each with everything that it takes of these values: an untrusted certificate and one of
 * another host are refused whatever the policy says beside its validation.
 */
static void none_turns_verification_off(void **state)
{
	(void)state;
	const char *const values[] = {
	        "off",
	        "on",
	        "none",
	        "no",
	        "false",
	        "true",
	        "any",
	        "*",
	        "",
	        "0",
	        "1",
	        "100",
	        "0s",
	        "24h",
	        "1.2",
	        "1.3",
	        "h2",
	        "http/1.1",
	        "auto",
	        "require",
	        "a",
	        "configmap/a",
	        "secret/a",
	        "TLS_AES_128_GCM_SHA256",
	        "ECDHE-ECDSA-AES128-GCM-SHA256",
	        "X25519",
	        "ecdsa_secp256r1_sha256",
	        pki.pin[LEAF_UNTRUSTED],
	        pki.pin[LEAF_OTHER_NAME],
	};
	static const struct {
		enum leaf leaf;
		enum postern_reason expected;
	} refused[] = {{LEAF_UNTRUSTED, REASON_CERTIFICATE_SELF_SIGNED}, {LEAF_OTHER_NAME, REASON_IDENTITY_MISMATCH}};
	const char *name;

	for (size_t option = 0; (name = options_name_at(option)); option++) {
		size_t taken = 0;

		for (size_t i = 0; i < ARRAY_SIZE(values) * ARRAY_SIZE(refused); i++) {
			const char *value = values[i / ARRAY_SIZE(refused)];
			size_t which = i % ARRAY_SIZE(refused);
			char key[64], *why;
			snprintf(key, sizeof(key), OURS "%s", name);
			const struct option_value options[MAX_OPTIONS] = {{key, value}};
			struct settings_entry *entry = make_settings(options, pki.root_pem, &why);
			struct run run;

			free(why);
			if (!entry)
				continue;
			taken++;
			run_start(&run, &entry->settings, (struct far_end_options){0}, refused[which].leaf, NULL);
			enum postern_reason reason = tls_session_reason(run.client.session);
			if (run.step != TLS_STEP_FAILED || run.far_end->accepted || reason != refused[which].expected)
				fail_msg("%s: %s: expected %s, seen %s", key, value,
				         reason_name(refused[which].expected), reason_name(reason));
			run_end(&run);
			settings_entry_unref(entry);
		}
		if (taken == 0)
			fail_msg("%s took none of the values", name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(effects),
	        cmocka_unit_test(any_of_the_pins),
	        cmocka_unit_test(hybrid_group),
	        cmocka_unit_test(client_certificate_shown),
	        cmocka_unit_test(client_certificate_missing),
	        cmocka_unit_test(none_turns_verification_off),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
