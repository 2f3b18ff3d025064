// SPDX-License-Identifier: GPL-2.0-only
/* What a policy refers to: CA certificates of every kind, the system's, a CRL, a client certificate. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/pem.h>

#include "base/cleanup.h"
#include "certificates.h"
#include "policy_fixture.h"

#define ECHO                                                                                                           \
	"---\napiVersion: v1\nkind: Service\nmetadata: {name: echo}\nspec: {clusterIP: 10.96.0.1, ports: [{port: "     \
	"443}]}\n"
#define POLICY(validation, options)                                                                                    \
	ECHO "---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: p}\n"            \
	     "spec: {targetRefs: [{group: '', kind: Service, name: echo}], validation: {hostname: "                    \
	     "p.example, " validation "}, options: {" options "}}\n"
#define REFS(refs)         "caCertificateRefs: [" refs "]"
#define REF(kind, name)    "{group: '', kind: " kind ", name: " name "}"
#define BUNDLE_REF(name)   "{group: certificates.k8s.io, kind: ClusterTrustBundle, name: " name "}"
#define SYSTEM             "wellKnownCACertificates: System"
#define CONFIG_MAP(values) "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {" values "}\n"
#define SECRET(type, values)                                                                                           \
	"---\napiVersion: v1\nkind: Secret\nmetadata: {name: k}\ntype: " type "\nstringData: {" values "}\n"
#define BUNDLE(value)                                                                                                  \
	"---\napiVersion: certificates.k8s.io/v1beta1\nkind: ClusterTrustBundle\nmetadata: {name: b}\nspec: "          \
	"{trustBundle: " value "}\n"
#define CRL_OPTION(value)  "postern.dev/crl: " value
#define CERT_OPTION(value) "postern.dev/client-certificate: " value
#define TLS_PAIR           "tls.crt: @CERTIFICATE@, tls.key: @KEY@"
#define EIGHT(ref)         ref ", " ref ", " ref ", " ref ", " ref ", " ref ", " ref ", " ref

#define TLS        "TLS default/p p.example"
#define NO_CA      "DENY no_valid_ca default/p"
#define UNRESOLVED "DENY reference_unresolved default/p"
#define INVALID    "DENY policy_invalid default/p"

static const struct row {
	const char *name, *yaml, *verdict;
	const char *accepted, *resolved_refs; /* reasons */
	const char *message;                  /* a part of either's; NULL: anything */
	size_t certificates;                  /* in the settings' CA */
} rows[] = {
        {"ConfigMap", POLICY(REFS(REF("ConfigMap", "ca")), ""), TLS, "Accepted", "ResolvedRefs",
         "every reference is resolved", 1},
        {"Secret", POLICY(REFS(REF("Secret", "k")), "") SECRET("Opaque", "ca.crt: @CA@"), TLS, "Accepted",
         "ResolvedRefs", NULL, 1},
        {"a Secret of type kubernetes.io/tls has a ca.crt, too",
         POLICY(REFS(REF("Secret", "k")), "") SECRET("kubernetes.io/tls", "ca.crt: @CA@, " TLS_PAIR), TLS, "Accepted",
         "ResolvedRefs", NULL, 1},
        {"no such Secret", POLICY(REFS(REF("Secret", "k")), ""), NO_CA, "NoValidCACertificate",
         "InvalidCACertificateRef", "Secret default/k does not exist: create it", 0},
        {"a Secret without ca.crt", POLICY(REFS(REF("Secret", "k")), "") SECRET("Opaque", "x: 'y'"), NO_CA,
         "NoValidCACertificate", "InvalidCACertificateRef", "Secret default/k has no key ca.crt", 0},
        {"a Secret with junk", POLICY(REFS(REF("Secret", "k")), "") SECRET("Opaque", "ca.crt: junk"), NO_CA,
         "NoValidCACertificate", "InvalidCACertificateRef", "Secret default/k key ca.crt: ", 0},
        {"a private key among the CA certificates", POLICY(REFS(REF("ConfigMap", "c")), "") CONFIG_MAP("ca.crt: @KEY@"),
         NO_CA, "NoValidCACertificate", "InvalidCACertificateRef", "PRIVATE KEY", 0},
        {"ClusterTrustBundle", POLICY(REFS(BUNDLE_REF("b")), "") BUNDLE("@CA@"), TLS, "Accepted", "ResolvedRefs", NULL,
         1},
        {"no such ClusterTrustBundle", POLICY(REFS(BUNDLE_REF("b")), ""), NO_CA, "NoValidCACertificate",
         "InvalidCACertificateRef", "ClusterTrustBundle b does not exist", 0},
        {"a ClusterTrustBundle with junk", POLICY(REFS(BUNDLE_REF("b")), "") BUNDLE("junk"), NO_CA,
         "NoValidCACertificate", "InvalidCACertificateRef", "ClusterTrustBundle b key spec.trustBundle: ", 0},
        {"ClusterTrustBundle of the core group", POLICY(REFS(REF("ClusterTrustBundle", "b")), "") BUNDLE("@CA@"), NO_CA,
         "NoValidCACertificate", "InvalidKind", "kind \"ClusterTrustBundle\" of group \"\"", 0},
        {"ConfigMap of another group", POLICY(REFS("{group: certificates.k8s.io, kind: ConfigMap, name: ca}"), ""),
         NO_CA, "NoValidCACertificate", "InvalidKind", "group \"certificates.k8s.io\"", 0},
        {"one of each kind",
         POLICY(REFS(REF("ConfigMap", "other-ca") ", " REF("Secret", "k") ", " BUNDLE_REF("b")), "")
                 SECRET("Opaque", "ca.crt: @CA@") BUNDLE("@CA@"),
         TLS, "Accepted", "ResolvedRefs", NULL, 2},
        {"eight references", POLICY(REFS(EIGHT(REF("ConfigMap", "ca"))), ""), TLS, "Accepted", "ResolvedRefs", NULL, 1},
        {"nine references", POLICY(REFS(EIGHT(REF("ConfigMap", "ca")) ", " REF("Secret", "k")), ""), INVALID, "Invalid",
         "ResolvedRefs", "caCertificateRefs", 0},
        {"partly bad: a kind", POLICY(REFS("{group: x.io, kind: Z, name: z}, " REF("ConfigMap", "ca")), ""), TLS,
         "Accepted", "InvalidKind", "the other references are used", 1},
        {"partly bad: an object", POLICY(REFS(REF("ConfigMap", "ca") ", " REF("Secret", "k")), ""), TLS, "Accepted",
         "InvalidCACertificateRef", "spec.validation.caCertificateRefs[1]: Secret default/k", 1},
        {"all bad, in different ways", POLICY(REFS(REF("Secret", "k") ", {group: x.io, kind: Z, name: z}"), ""), NO_CA,
         "NoValidCACertificate", "InvalidCACertificateRef", "kind \"Z\" of group \"x.io\"", 0},
        {"the system's", POLICY(SYSTEM, ""), TLS, "Accepted", "ResolvedRefs", "refers to no object", 1},
        {"the system's beside an empty list", POLICY("caCertificateRefs: [], " SYSTEM, ""), TLS, "Accepted",
         "ResolvedRefs", NULL, 1},
        {"another well-known name", POLICY("wellKnownCACertificates: example.com/mine", ""), INVALID, "Invalid",
         "ResolvedRefs", "example.com/mine", 0},

        {"CRL of a ConfigMap", POLICY(SYSTEM, CRL_OPTION("configmap/c")) CONFIG_MAP("ca.crl: @CRL@"), TLS, "Accepted",
         "ResolvedRefs", "every reference is resolved", 1},
        {"CRL of a Secret", POLICY(SYSTEM, CRL_OPTION("secret/k")) SECRET("Opaque", "ca.crl: @CRL@"), TLS, "Accepted",
         "ResolvedRefs", NULL, 1},
        {"CRL: no such ConfigMap", POLICY(SYSTEM, CRL_OPTION("configmap/c")), UNRESOLVED, "Invalid", "InvalidCRLRef",
         "spec.options[postern.dev/crl]: ConfigMap default/c does not exist", 0},
        {"CRL: the other kind has it", POLICY(SYSTEM, CRL_OPTION("secret/c")) CONFIG_MAP("ca.crl: @CRL@"), UNRESOLVED,
         "Invalid", "InvalidCRLRef", "Secret default/c does not exist", 0},
        {"CRL: no such key", POLICY(SYSTEM, CRL_OPTION("configmap/c")) CONFIG_MAP("crl: x"), UNRESOLVED, "Invalid",
         "InvalidCRLRef", "ConfigMap default/c has no key ca.crl", 0},
        {"CRL: junk", POLICY(SYSTEM, CRL_OPTION("configmap/c")) CONFIG_MAP("ca.crl: junk"), UNRESOLVED, "Invalid",
         "InvalidCRLRef", "ConfigMap default/c key ca.crl: ", 0},
        {"CRL: a certificate is none", POLICY(SYSTEM, CRL_OPTION("configmap/c")) CONFIG_MAP("ca.crl: @CA@"), UNRESOLVED,
         "Invalid", "InvalidCRLRef", "key ca.crl: ", 0},

        {"client certificate", POLICY(SYSTEM, CERT_OPTION("k")) SECRET("kubernetes.io/tls", TLS_PAIR), TLS, "Accepted",
         "ResolvedRefs", NULL, 1},
        {"client certificate: no such Secret", POLICY(SYSTEM, CERT_OPTION("k")), UNRESOLVED, "Invalid",
         "InvalidClientCertificateRef", "spec.options[postern.dev/client-certificate]: Secret default/k does not exist",
         0},
        {"client certificate: Opaque", POLICY(SYSTEM, CERT_OPTION("k")) SECRET("Opaque", TLS_PAIR), UNRESOLVED,
         "Invalid", "InvalidClientCertificateRef", "is of type \"Opaque\": it must be kubernetes.io/tls", 0},
        {"client certificate: no key",
         POLICY(SYSTEM, CERT_OPTION("k")) SECRET("kubernetes.io/tls", "tls.crt: @CERTIFICATE@"), UNRESOLVED, "Invalid",
         "InvalidClientCertificateRef", "tls.key", 0},
        {"client certificate: another one's key",
         POLICY(SYSTEM, CERT_OPTION("k")) SECRET("kubernetes.io/tls", "tls.crt: @CA@, tls.key: @KEY@"), UNRESOLVED,
         "Invalid", "InvalidClientCertificateRef", "Secret default/k tls.key: ", 0},
        {"no CA weighs more than no CRL", POLICY(REFS(REF("Secret", "k")), CRL_OPTION("configmap/c")), NO_CA,
         "NoValidCACertificate", "InvalidCACertificateRef", "ConfigMap default/c does not exist", 0},
        {"a CA partly bad and no CRL",
         POLICY(REFS(REF("Secret", "k") ", " REF("ConfigMap", "ca")), CRL_OPTION("configmap/c")), UNRESOLVED, "Invalid",
         "InvalidCACertificateRef", "an option refers to an object that cannot be used", 0},
};

/* ---- what stands for the words in @...@ ---- */

static struct {
	const char *word;
	char *quoted;
} words[] = {{"@CA@", NULL}, {"@CERTIFICATE@", NULL}, {"@KEY@", NULL}, {"@CRL@", NULL}};

static int make_words(void **state)
{
	struct certificate *authority =
	        certificate_new(&(struct certificate_options){.common_name = "crl", .authority = true});
	struct certificate *leaf = certificate_new(&(struct certificate_options){.common_name = "gateway"});
	_cleanup_free_ char *certificate = certificate_pem((const struct certificate *const[]){leaf, NULL});
	_cleanup_free_ char *key = certificate_key_pem(leaf), *crl = certificate_crl_pem(authority, NULL, 86400);

	(void)state;
	words[0].quoted = fixture_quoted(fixture_ca());
	words[1].quoted = fixture_quoted(certificate);
	words[2].quoted = fixture_quoted(key);
	words[3].quoted = fixture_quoted(crl);
	certificate_free(authority);
	certificate_free(leaf);
	return 0;
}

static int free_words(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		free(words[i].quoted);
	return 0;
}

static void add(struct policy_fixture *fixture, const char *yaml)
{
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	assert_non_null(stream);
	while (*yaml) {
		size_t i = 0;

		while (i < ARRAY_SIZE(words) && strncmp(yaml, words[i].word, strlen(words[i].word)) != 0)
			i++;
		if (i < ARRAY_SIZE(words)) {
			fputs(words[i].quoted, stream);
			yaml += strlen(words[i].word);
		} else {
			fputc(*yaml++, stream);
		}
	}
	fclose(stream);
	fixture_add(fixture, text);
	free(text);
}

static size_t count_certificates(const struct tls_settings *settings)
{
	size_t count = 0;

	for (const char *at = settings ? settings->ca_pem : NULL; at && (at = strstr(at, "BEGIN CERTIFICATE")); at++)
		count++;
	return count;
}

static const struct tls_settings *settings_of(const struct policy_fixture *fixture)
{
	const struct destination *destination = fixture_find(fixture, "10.96.0.1", 443);

	assert_non_null(destination);
	return snapshot_settings(fixture->snapshot, destination->settings_id);
}

static void check_row(const struct row *row, const struct policy_fixture *fixture)
{
	const struct policy_status *status = fixture_policy(fixture, "p");
	const char *verdict = fixture_verdict(fixture, "10.96.0.1", 443);

	if (strcmp(verdict, row->verdict))
		fail_msg("%s: expected \"%s\", saw \"%s\"", row->name, row->verdict, verdict);
	if (strcmp(status->accepted.reason, row->accepted) || strcmp(status->resolved_refs.reason, row->resolved_refs))
		fail_msg("%s: expected %s and %s, saw %s: %s and %s: %s", row->name, row->accepted, row->resolved_refs,
		         status->accepted.reason, status->accepted.message, status->resolved_refs.reason,
		         status->resolved_refs.message);
	assert_int_equal(status->accepted.status, !strcmp(row->accepted, "Accepted"));
	assert_int_equal(status->resolved_refs.status, !strcmp(row->resolved_refs, "ResolvedRefs"));
	if (row->message && !strstr(status->accepted.message, row->message) &&
	    !strstr(status->resolved_refs.message, row->message))
		fail_msg("%s: expected \"%s\" in \"%s\" or \"%s\"", row->name, row->message, status->accepted.message,
		         status->resolved_refs.message);
	if (count_certificates(settings_of(fixture)) != row->certificates)
		fail_msg("%s: expected %zu CA certificates, saw %zu", row->name, row->certificates,
		         count_certificates(settings_of(fixture)));
}

static void table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct policy_fixture *fixture = policy_fixture_new();

		add(fixture, rows[i].yaml);
		fixture_compile(fixture);
		check_row(&rows[i], fixture);
		policy_fixture_free(fixture);
	}
}

static void no_system_ca(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();

	(void)state;
	fixture->options.system_ca = NULL;
	add(fixture, POLICY(SYSTEM, ""));
	fixture_compile(fixture);
	check_row(&(struct row){"no bundle", NULL, NO_CA, "NoValidCACertificate", "ResolvedRefs", "systemCA", 0},
	          fixture);
	policy_fixture_free(fixture);
}

/* An object that is broken somewhere else is there, and still not applied: its file says why. */
static void an_object_in_quarantine(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();

	(void)state;
	add(fixture, POLICY(REFS(REF("ConfigMap", "c")), CRL_OPTION("configmap/c") ", " CERT_OPTION("c")));
	fixture_quarantine(fixture, CONFIG_MAP("ca.crt: x"));
	fixture_compile(fixture);
	check_row(&(struct row){"CA", NULL, NO_CA, "NoValidCACertificate", "InvalidCACertificateRef",
	                        "spec.validation.caCertificateRefs[0]: ConfigMap default/c is not applied: test.yaml: "
	                        "broken",
	                        0},
	          fixture);
	check_row(&(struct row){"CRL", NULL, NO_CA, "NoValidCACertificate", "InvalidCACertificateRef",
	                        "spec.options[postern.dev/crl]: ConfigMap default/c is not applied: test.yaml: broken",
	                        0},
	          fixture);
	check_row(&(struct row){"certificate", NULL, NO_CA, "NoValidCACertificate", "InvalidCACertificateRef",
	                        "Secret default/c does not exist", 0},
	          fixture);
	policy_fixture_free(fixture);
}

/* What was resolved reaches the settings, and with them the handshake. */
static void settings_have_it(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();
	const struct tls_settings *settings;

	(void)state;
	add(fixture, POLICY(SYSTEM, CRL_OPTION("configmap/c") ", " CERT_OPTION("k")) CONFIG_MAP("ca.crl: @CRL@")
	                     SECRET("kubernetes.io/tls", TLS_PAIR));
	fixture_compile(fixture);
	settings = settings_of(fixture);
	assert_non_null(settings);
	assert_true(settings->system_ca);
	assert_non_null(settings->crl_pem);
	assert_non_null(strstr(settings->crl_pem, "BEGIN X509 CRL"));
	assert_non_null(settings->client_certificate);
	policy_fixture_free(fixture);
}

/* Bad content is bad, however good it was before: nothing old stays in use. */
static void what_goes_bad_refuses(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();

	(void)state;
	add(fixture,
	    POLICY(REFS(REF("ConfigMap", "c")), CRL_OPTION("configmap/c")) CONFIG_MAP("ca.crt: @CA@, ca.crl: @CRL@"));
	fixture_compile(fixture);
	assert_string_equal(fixture_verdict(fixture, "10.96.0.1", 443), TLS);
	add(fixture, CONFIG_MAP("ca.crt: @CA@, ca.crl: junk"));
	fixture_compile(fixture);
	assert_string_equal(fixture_verdict(fixture, "10.96.0.1", 443), UNRESOLVED);
	add(fixture, CONFIG_MAP("ca.crt: '', ca.crl: @CRL@"));
	fixture_compile(fixture);
	assert_string_equal(fixture_verdict(fixture, "10.96.0.1", 443), NO_CA);
	add(fixture, CONFIG_MAP("ca.crt: @CA@, ca.crl: @CRL@"));
	fixture_compile(fixture);
	assert_string_equal(fixture_verdict(fixture, "10.96.0.1", 443), TLS);
	policy_fixture_free(fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(table),
	        cmocka_unit_test(no_system_ca),
	        cmocka_unit_test(an_object_in_quarantine),
	        cmocka_unit_test(settings_have_it),
	        cmocka_unit_test(what_goes_bad_refuses),
	};

	return cmocka_run_group_tests(tests, make_words, free_words);
}
