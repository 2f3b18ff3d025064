// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which certificates a handshake takes: each row is a little PKI of its own, served by a real OpenSSL server in TLS 1.2
 * and 1.3, with the reason that postern gives and the alert that the server sees.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "tls_client.h"

#define DAY    86400L
#define SERIAL 4711 /* of the root and of the impostor */

enum who {
	NOBODY,
	ROOT,
	IMPOSTOR, /* another key under the root's name and serial number */
	INTERMEDIATE,
	LEAF,
	WHO,
};

struct crl {
	enum who issuer;
	enum who revoked;
	long next_update; /* seconds from now; 0: a day */
};

struct row {
	const char *name;
	struct certificate_options root, intermediate, leaf; /* common name and issuer are filled in */
	bool own_names;                                      /* leaf.names as they are; else it is backend.example */
	enum who issuer;                                     /* of the leaf; NOBODY: the root */
	bool withholds_intermediate;
	enum who trusted[2]; /* NOBODY first: the root */
	bool partial_chain;
	struct subject_alt_name *wanted; /* NULL: the hostname, backend.example */
	size_t wanted_count;
	struct crl crls[2];
	enum postern_reason expected;
	int alert;             /* what the server must see if it failed */
	const char *identity;  /* if verified; NULL: backend.example */
	const char *in_detail; /* if not */
};

static struct subject_alt_name spiffe[] = {{SUBJECT_ALT_NAME_URI, "spiffe://cluster.local/ns/a/sa/b"}};
static struct subject_alt_name two_names[] = {{SUBJECT_ALT_NAME_URI, "spiffe://nobody"},
                                              {SUBJECT_ALT_NAME_HOSTNAME, "elsewhere.example"}};

#define DNS(name)      .own_names = true, .leaf = {.names = {{GEN_DNS, name, 0}}}
#define URI(name)      .own_names = true, .leaf = {.names = {{GEN_URI, name, 0}}}
#define SPIFFE_WANTED  .wanted = spiffe, .wanted_count = 1
#define TWO_WANTED     .wanted = two_names, .wanted_count = 2
#define REFUSED(r, a)  .expected = REASON_##r, .alert = SSL_AD_##a
#define MISMATCH       REFUSED(IDENTITY_MISMATCH, BAD_CERTIFICATE)
#define UNTRUSTED      REFUSED(CERTIFICATE_UNTRUSTED, UNKNOWN_CA)
#define BY(ca)         .issuer = ca
#define IPV4_LOOPBACK  "\x7f\0\0\x01"
#define CONSTRAINED(c) .intermediate = {.name_constraints = c}, BY(INTERMEDIATE)

static const struct row rows[] = {
        /* who is it? */
        {.name = "the hostname"},
        {"in another case, second of two", .own_names = true,
         .leaf = {.names = {{GEN_DNS, "other.example", 0}, {GEN_DNS, "Backend.Example", 0}}},
         .identity = "Backend.Example"},
        {"wildcard", DNS("*.example"), .identity = "*.example"},
        {"URI wanted and served", URI("spiffe://cluster.local/ns/a/sa/b"), SPIFFE_WANTED,
         .identity = "spiffe://cluster.local/ns/a/sa/b"},
        {"second of two wanted names", DNS("elsewhere.example"), TWO_WANTED, .identity = "elsewhere.example"},
        {"wildcard for a wanted name", DNS("*.example"), TWO_WANTED, .identity = "*.example"},
        {"another hostname", DNS("elsewhere.example"), MISMATCH,
         .in_detail = "wanted backend.example; the certificate is for elsewhere.example"},
        {"the hostname does not count beside subjectAltNames", TWO_WANTED, MISMATCH,
         .in_detail = "wanted spiffe://nobody or elsewhere.example; the certificate is for backend.example"},
        {"another URI", URI("spiffe://cluster.local/ns/a/sa/c"), SPIFFE_WANTED, MISMATCH, .in_detail = "sa/c"},
        {"URI in another case", URI("spiffe://cluster.local/ns/a/sa/B"), SPIFFE_WANTED, MISMATCH, .in_detail = "sa/B"},
        {"the URI as a DNS name", DNS("spiffe://cluster.local/ns/a/sa/b"), SPIFFE_WANTED, MISMATCH},
        {"the hostname as a URI", URI("backend.example"), MISMATCH},
        {"common name only", .own_names = true, .leaf = {.common_name = "backend.example"}, MISMATCH,
         .in_detail = "no DNS name and no URI"},
        {"our common name, another DNS name", .own_names = true,
         .leaf = {.common_name = "backend.example", .names = {{GEN_DNS, "elsewhere.example", 0}}}, MISMATCH,
         .in_detail = "for elsewhere.example"},
        {"NUL after the hostname", .own_names = true,
         .leaf = {.names = {{GEN_DNS, "backend.example\0.evil.example", 29}}}, MISMATCH,
         .in_detail = "backend.example?.evil.example"},
        {"NUL after the URI", .own_names = true,
         .leaf = {.names = {{GEN_URI, "spiffe://cluster.local/ns/a/sa/b\0", 33}}}, SPIFFE_WANTED, MISMATCH},
        {"wildcard for two labels", DNS("*.example"), .wanted_count = 1,
         .wanted = (struct subject_alt_name[]){{SUBJECT_ALT_NAME_HOSTNAME, "a.b.example"}}, MISMATCH},
        {"wildcard for no label", DNS("*.backend.example"), MISMATCH},
        {"wildcard that is not the first label", DNS("backend.*"), MISMATCH},
        {"wildcard within a label", DNS("back*.example"), MISMATCH},
        {"wildcard alone", DNS("*"), MISMATCH},
        {"IP address only", .own_names = true, .leaf = {.names = {{GEN_IPADD, IPV4_LOOPBACK, 4}}}, MISMATCH,
         .in_detail = "no DNS name and no URI"},
        {"control characters in the names", .own_names = true,
         .leaf = {.common_name = "a\x1b[2Jb\nc", .names = {{GEN_DNS, "x\x1b[2J\ny.example", 0}}}, MISMATCH,
         .in_detail = "for x?[2J?y.example"},

        /* is the path good? */
        {"RSA", .leaf = {.rsa_bits = 2048}},
        {"through an intermediate", BY(INTERMEDIATE)},
        {"self-signed and trusted as such", BY(LEAF), .trusted = {ROOT, LEAF}},
        {"two anchors of one name, the second is it", .trusted = {IMPOSTOR, ROOT}},
        {"the same, and nothing in the certificate tells them apart", .root = {.no_key_identifiers = true},
         .leaf = {.no_key_identifiers = true}, .trusted = {IMPOSTOR, ROOT}},
        {"the same, the first is it", .root = {.no_key_identifiers = true}, .leaf = {.no_key_identifiers = true},
         .trusted = {ROOT, IMPOSTOR}},
        {"the same, and it signed an intermediate", BY(INTERMEDIATE), .root = {.no_key_identifiers = true},
         .leaf = {.no_key_identifiers = true}, .trusted = {IMPOSTOR, ROOT}},
        {"another CA of the same name and serial", BY(IMPOSTOR), UNTRUSTED, .in_detail = "issuer CN=test root"},
        {"the same, and nothing in the certificate tells them apart", BY(IMPOSTOR),
         .root = {.no_key_identifiers = true}, .leaf = {.no_key_identifiers = true},
         REFUSED(CERTIFICATE_UNTRUSTED, DECRYPT_ERROR), .in_detail = "signature failure"},
        {"self-signed", BY(LEAF), REFUSED(CERTIFICATE_SELF_SIGNED, UNKNOWN_CA), .in_detail = "CN=backend"},
        {"intermediate not sent", BY(INTERMEDIATE), .withholds_intermediate = true, UNTRUSTED,
         .in_detail = "issuer CN=test intermediate"},
        {"a lone intermediate is no anchor", BY(INTERMEDIATE), .trusted = {INTERMEDIATE}, UNTRUSTED,
         .in_detail = "CN=test intermediate, issuer CN=test root"},
        {"the leaf itself is no anchor", .trusted = {LEAF}, UNTRUSTED, .in_detail = "issuer CN=test root"},
        {"expired", .leaf = {.valid_from = -10 * DAY, .valid_until = -DAY},
         REFUSED(CERTIFICATE_EXPIRED, CERTIFICATE_EXPIRED),
         .in_detail = "certificate has expired: CN=backend, notAfter=20"},
        {"not yet valid", .leaf = {.valid_from = DAY, .valid_until = 10 * DAY},
         REFUSED(CERTIFICATE_NOT_YET_VALID, BAD_CERTIFICATE), .in_detail = ": CN=backend, notBefore=20"},
        {"expired intermediate", .intermediate = {.valid_from = -10 * DAY, .valid_until = -DAY}, BY(INTERMEDIATE),
         REFUSED(CERTIFICATE_EXPIRED, CERTIFICATE_EXPIRED), .in_detail = "CN=test intermediate"},
        {"expired root", .root = {.valid_from = -10 * DAY, .valid_until = -DAY},
         REFUSED(CERTIFICATE_EXPIRED, CERTIFICATE_EXPIRED), .in_detail = "CN=test root"},
        {"no extended key usage", .leaf = {.extended_key_usage = NULL}},
        {"for servers and clients", .leaf = {.extended_key_usage = "serverAuth,clientAuth"}},
        {"for clients", .leaf = {.extended_key_usage = "clientAuth"},
         REFUSED(CERTIFICATE_INVALID, UNSUPPORTED_CERTIFICATE), .in_detail = "purpose: CN=backend"},
        {"for any purpose but no server's", .leaf = {.extended_key_usage = "anyExtendedKeyUsage"},
         REFUSED(CERTIFICATE_INVALID, UNSUPPORTED_CERTIFICATE)},
        {"intermediate for clients", .intermediate = {.extended_key_usage = "clientAuth"}, BY(INTERMEDIATE),
         REFUSED(CERTIFICATE_INVALID, UNSUPPORTED_CERTIFICATE)},
        {"path length allows", .root = {.path_length = "1"}, BY(INTERMEDIATE)},
        {"path length forbids", .root = {.path_length = "0"}, BY(INTERMEDIATE),
         REFUSED(CERTIFICATE_INVALID, UNKNOWN_CA), .in_detail = "path length"},
        {"DNS name permitted", CONSTRAINED("permitted;DNS:example")},
        {"DNS name not permitted", CONSTRAINED("permitted;DNS:other"),
         REFUSED(CERTIFICATE_INVALID, CERTIFICATE_UNKNOWN), .in_detail = "permitted subtree"},
        {"DNS name excluded", CONSTRAINED("excluded;DNS:backend.example"),
         REFUSED(CERTIFICATE_INVALID, CERTIFICATE_UNKNOWN), .in_detail = "excluded subtree"},
        {"URI permitted", URI("spiffe://cluster.local/ns/a/sa/b"), SPIFFE_WANTED,
         CONSTRAINED("permitted;URI:cluster.local"), .identity = "spiffe://cluster.local/ns/a/sa/b"},
        {"URI not permitted", URI("spiffe://cluster.local/ns/a/sa/b"), SPIFFE_WANTED,
         CONSTRAINED("permitted;URI:other.local"), REFUSED(CERTIFICATE_INVALID, CERTIFICATE_UNKNOWN)},
        {"URI excluded", URI("spiffe://cluster.local/ns/a/sa/b"), SPIFFE_WANTED,
         CONSTRAINED("excluded;URI:cluster.local"), REFUSED(CERTIFICATE_INVALID, CERTIFICATE_UNKNOWN)},
        {"a common name is no DNS name, whatever it looks like", .own_names = true,
         .leaf = {.common_name = "backend.other", .names = {{GEN_URI, "spiffe://cluster.local/ns/a/sa/b", 0}}},
         SPIFFE_WANTED, CONSTRAINED("permitted;DNS:example"), .identity = "spiffe://cluster.local/ns/a/sa/b"},
        {"RSA of 1024 bits", .leaf = {.rsa_bits = 1024}, REFUSED(CERTIFICATE_INVALID, BAD_CERTIFICATE),
         .in_detail = "key too weak"},
        {"intermediate with RSA of 1024 bits", .intermediate = {.rsa_bits = 1024}, BY(INTERMEDIATE),
         REFUSED(CERTIFICATE_INVALID, BAD_CERTIFICATE), .in_detail = "key too weak"},
        {"SHA-1 signature", .leaf = {.digest = "SHA1"}, REFUSED(CERTIFICATE_INVALID, BAD_CERTIFICATE),
         .in_detail = "digest algorithm too weak"},
        {"SHA-1 signature on the intermediate", .intermediate = {.digest = "SHA1"}, BY(INTERMEDIATE),
         REFUSED(CERTIFICATE_INVALID, BAD_CERTIFICATE), .in_detail = "digest algorithm too weak"},
        {"SHA-1 signature on the anchor, which nobody looks at", .root = {.digest = "SHA1"}},
        {"MD5 signature", .root = {.rsa_bits = 2048}, .leaf = {.digest = "MD5"},
         REFUSED(CERTIFICATE_INVALID, BAD_CERTIFICATE), .in_detail = "digest algorithm too weak"},

        /* is it revoked? */
        {"a CRL that does not list it", .crls = {{ROOT, NOBODY, 0}}},
        {"a CRL that lists it", .crls = {{ROOT, LEAF, 0}}, REFUSED(CERTIFICATE_REVOKED, CERTIFICATE_REVOKED),
         .in_detail = "certificate revoked: CN=backend"},
        {"a CRL past its nextUpdate", .crls = {{ROOT, NOBODY, -60}}, REFUSED(CRL_UNUSABLE, CERTIFICATE_EXPIRED),
         .in_detail = "CRL has expired: CN=backend, issuer CN=test root, nextUpdate=20"},
        {"the same beside a newer one", .crls = {{ROOT, LEAF, -60}, {ROOT, NOBODY, DAY}}},
        {"a CRL of another issuer", BY(INTERMEDIATE), .crls = {{ROOT, NOBODY, 0}}, REFUSED(CRL_UNUSABLE, UNKNOWN_CA),
         .in_detail = "issuer CN=test intermediate"},
        {"a CRL that another CA of the same name signed", .root = {.no_key_identifiers = true},
         .leaf = {.no_key_identifiers = true}, .crls = {{IMPOSTOR, NOBODY, 0}}, REFUSED(CRL_UNUSABLE, DECRYPT_ERROR),
         .in_detail = "CRL signature failure"},
        {"the same, beside the right one", .root = {.no_key_identifiers = true}, .leaf = {.no_key_identifiers = true},
         .crls = {{IMPOSTOR, LEAF, 0}, {ROOT, NOBODY, 0}}},
        {"the same, the other way round", .root = {.no_key_identifiers = true}, .leaf = {.no_key_identifiers = true},
         .crls = {{IMPOSTOR, NOBODY, 0}, {ROOT, LEAF, 0}}, REFUSED(CERTIFICATE_REVOKED, CERTIFICATE_REVOKED)},
        {"two that another CA of the same name signed", .root = {.no_key_identifiers = true},
         .leaf = {.no_key_identifiers = true}, .crls = {{IMPOSTOR, NOBODY, 0}, {IMPOSTOR, NOBODY, DAY / 2}},
         REFUSED(CRL_UNUSABLE, DECRYPT_ERROR), .in_detail = "CRL signature failure"},
        {"CRLs of both issuers", BY(INTERMEDIATE), .crls = {{ROOT, NOBODY, 0}, {INTERMEDIATE, NOBODY, 0}}},
        {"no CRL of the intermediate's issuer", BY(INTERMEDIATE), .crls = {{INTERMEDIATE, NOBODY, 0}}},
        {"the intermediate is revoked", BY(INTERMEDIATE), .crls = {{ROOT, INTERMEDIATE, 0}, {INTERMEDIATE, NOBODY, 0}},
         REFUSED(CERTIFICATE_REVOKED, CERTIFICATE_REVOKED), .in_detail = "CN=test intermediate"},
        {"the intermediate's CRL is past its nextUpdate", BY(INTERMEDIATE),
         .crls = {{ROOT, NOBODY, -60}, {INTERMEDIATE, NOBODY, 0}}, REFUSED(CRL_UNUSABLE, CERTIFICATE_EXPIRED),
         .in_detail = "CN=test intermediate"},
        {"an anchor below the root needs no CRL", BY(INTERMEDIATE), .trusted = {INTERMEDIATE}, .partial_chain = true,
         .crls = {{ROOT, NOBODY, -60}, {INTERMEDIATE, NOBODY, 0}}},
        {"an anchor below the root that is listed", BY(INTERMEDIATE), .trusted = {INTERMEDIATE}, .partial_chain = true,
         .crls = {{ROOT, INTERMEDIATE, 0}, {INTERMEDIATE, NOBODY, 0}},
         REFUSED(CERTIFICATE_REVOKED, CERTIFICATE_REVOKED)},
        {"self-signed and trusted, but no CRL of its own", BY(LEAF), .trusted = {ROOT, LEAF},
         .crls = {{ROOT, NOBODY, 0}}, REFUSED(CRL_UNUSABLE, UNKNOWN_CA)},
};

struct pki {
	struct certificate *of[WHO];
	char *ca_pem;
	char *crl_pem; /* NULL: none */
};

static struct certificate *make(struct certificate_options options, const char *common_name,
                                const struct certificate *issuer)
{
	if (!options.common_name)
		options.common_name = common_name;
	options.issuer = issuer;
	return certificate_new(&options);
}

static void make_crls(struct pki *pki, const struct crl crls[static 2])
{
	for (size_t i = 0; i < 2 && crls[i].issuer != NOBODY; i++) {
		long next_update = crls[i].next_update ? crls[i].next_update : DAY;
		_cleanup_free_ char *one = certificate_crl_pem(pki->of[crls[i].issuer], pki->of[crls[i].revoked],
		                                               next_update);
		char *both = NULL;

		assert_true(asprintf(&both, "%s%s", pki->crl_pem ? pki->crl_pem : "", one) > 0);
		free(pki->crl_pem);
		pki->crl_pem = both;
	}
}

static struct pki pki_new(const struct row *row)
{
	const enum who *trusted = row->trusted[0] == NOBODY ? (const enum who[2]){ROOT} : row->trusted;
	struct certificate_options leaf = row->leaf, root = row->root, intermediate = row->intermediate;
	struct pki pki = {0};

	root.authority = intermediate.authority = true;
	root.serial = SERIAL;
	intermediate.no_key_identifiers = root.no_key_identifiers;
	if (!row->own_names)
		leaf.names[0] = (struct certificate_name){GEN_DNS, "backend.example", 0};
	pki.of[ROOT] = make(root, "test root", NULL);
	pki.of[IMPOSTOR] = make(root, "test root", NULL);
	pki.of[INTERMEDIATE] = make(intermediate, "test intermediate", pki.of[ROOT]);
	pki.of[LEAF] = make(leaf, "backend", row->issuer == LEAF ? NULL : pki.of[row->issuer ? row->issuer : ROOT]);
	pki.ca_pem = certificate_pem((const struct certificate *const[]){pki.of[trusted[0]], pki.of[trusted[1]], NULL});
	make_crls(&pki, row->crls);
	return pki;
}

static void pki_free(struct pki *pki)
{
	for (int i = 0; i < WHO; i++)
		certificate_free(pki->of[i]);
	free(pki->ca_pem);
	free(pki->crl_pem);
}

static void check_printable(const char *row, const char *text)
{
	for (const char *c = text; *c; c++)
		if (*c < ' ' || *c > '~')
			fail_msg("%s: byte %02x in \"%s\"", row, (unsigned char)*c, text);
}

static void check_done(const struct row *row, const struct tls_client *client, int version)
{
	const char *identity = row->identity ? row->identity : "backend.example";
	struct tls_session_info info;

	tls_session_info(client->session, &info);
	assert_string_equal(info.peer_identity, identity);
	assert_int_equal(info.version, version == TLS1_3_VERSION ? TLS_VERSION_1_3 : TLS_VERSION_1_2);
	assert_in_range(info.peer_not_after, time(NULL) + DAY - 600, time(NULL) + DAY);
	assert_in_range(info.peer_valid_until, time(NULL) + DAY - 600, info.peer_not_after);
	assert_string_equal(info.alpn, "");
	assert_false(info.resumed);
	assert_int_equal(tls_session_handshake(client->session), TLS_STEP_DONE);
}

/* Failed is failed: nothing more comes out of it. */
static void check_failed(const struct tls_client *client)
{
	uint8_t byte;

	assert_int_equal(tls_session_handshake(client->session), TLS_STEP_FAILED);
	assert_true(tls_session_read(client->session, &byte, 1) < 0);
	assert_true(tls_session_write(client->session, "x", 1) < 0);
	assert_true(tls_session_arm_transmit(client->session) < 0);
	assert_true(tls_session_arm_receive(client->session) < 0);
}

static void check_row(const struct row *row, const struct pki *pki, int version)
{
	const char *name = version == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2";
	bool sends = row->issuer == INTERMEDIATE && !row->withholds_intermediate;
	const struct far_end_options options = {
	        .leaf = pki->of[LEAF],
	        .intermediate = sends ? pki->of[INTERMEDIATE] : NULL,
	        .max_version = version,
	};
	int alert = row->expected == REASON_NONE ? -1 : row->alert;
	struct tls_settings settings = client_settings(pki->ca_pem);
	struct tls_client client;
	int pair[2];

	settings.subject_alt_names = row->wanted;
	settings.subject_alt_name_count = row->wanted_count;
	settings.partial_chain = row->partial_chain;
	settings.crl_pem = pki->crl_pem;
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
	if (far_end->alert != alert)
		fail_msg("%s, %s: expected alert %d, the server saw %d (%s)", row->name, name, alert, far_end->alert,
		         detail);
	if (row->in_detail && !strstr(detail, row->in_detail))
		fail_msg("%s, %s: expected \"%s\" in \"%s\"", row->name, name, row->in_detail, detail);
	assert_string_equal(far_end->server_name, "backend.example");
	assert_int_equal(far_end->accepted, step == TLS_STEP_DONE);
	if (step == TLS_STEP_DONE)
		check_done(row, &client, version);
	else
		check_failed(&client);
	client_end(&client);
	far_end_free(far_end);
}

static void certificates(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct pki pki = pki_new(&rows[i]);

		check_row(&rows[i], &pki, TLS1_2_VERSION);
		check_row(&rows[i], &pki, TLS1_3_VERSION);
		pki_free(&pki);
	}
}

static int set_up(void **state)
{
	(void)state;
	return tls_global_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(certificates)};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
