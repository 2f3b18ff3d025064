// SPDX-License-Identifier: GPL-2.0-only
/*
 * Contexts: settings that are refused and how it is said, the process-wide set-up, and the life of a shared context.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>

#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "tls/context_private.h"
#include "tls/trust_cache.h"
#include "tls/trust_store.h"
#include "tls_client.h"

static struct certificate *trusted; /* the server's own, self-signed */
static char *trusted_pem, *other_pem;
static char configuration[] = "/tmp/postern-test-openssl-XXXXXX";

/* An openssl.cnf that would forbid everything below TLS 1.3, as a distribution or an operator may have. */
static int set_up(void **state)
{
	(void)state;
	static const char text[] = "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n"
	                           "MinProtocol = TLSv1.3\nOptions = IgnoreUnexpectedEOF\n";
	int fd = mkstemp(configuration);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		return -1;
	close(fd);
	setenv("OPENSSL_CONF", configuration, 1);
	setenv("SSLKEYLOGFILE", "/tmp/postern-test-keylog", 1);
	if (tls_global_init() != 0)
		return -1;
	trusted = certificate_new(
	        &(struct certificate_options){.common_name = "backend", .names = {{GEN_DNS, "backend.example", 0}}});
	trusted_pem = certificate_pem((const struct certificate *const[]){trusted, NULL});
	struct certificate *other = certificate_new(&(struct certificate_options){.common_name = "other"});
	other_pem = certificate_pem((const struct certificate *const[]){other, NULL});
	certificate_free(other);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(configuration);
	certificate_free(trusted);
	free(trusted_pem);
	free(other_pem);
	return 0;
}

static void process_set_up(void **state)
{
	(void)state;
	struct rlimit core;

	assert_null(getenv("SSLKEYLOGFILE"));
	assert_int_equal(prctl(PR_GET_DUMPABLE), 0);
	assert_int_equal(getrlimit(RLIMIT_CORE, &core), 0);
	assert_int_equal(core.rlim_cur, 0);
	assert_int_equal(core.rlim_max, 0);
	assert_int_equal(tls_global_init(), 0); /* again does no harm */

	/* the configuration above was not read, or this would be TLS 1.3 */
	SSL_CTX *plain = SSL_CTX_new(TLS_client_method());
	assert_int_equal(SSL_CTX_get_min_proto_version(plain), 0);
	assert_int_equal(SSL_CTX_get_options(plain) & SSL_OP_IGNORE_UNEXPECTED_EOF, 0);
	SSL_CTX_free(plain);
}

static void what_is_offered(void **state)
{
	(void)state;
	struct tls_settings settings = client_settings(trusted_pem);
	struct tls_context *context = NULL;
	char error[200] = "";

	assert_int_equal(tls_context_new(&settings, &context, error, sizeof(error)), 0);
	assert_int_equal(SSL_CTX_get_security_level(context->ssl_ctx), 2);
	assert_int_equal(SSL_CTX_get_min_proto_version(context->ssl_ctx), TLS1_2_VERSION);
	assert_int_equal(SSL_CTX_get_max_proto_version(context->ssl_ctx), TLS1_3_VERSION);
	assert_int_equal(SSL_CTX_get_verify_mode(context->ssl_ctx), SSL_VERIFY_PEER);
	/* every suite is ECDHE or TLS 1.3, and AEAD */
	STACK_OF(SSL_CIPHER) *ciphers = SSL_CTX_get_ciphers(context->ssl_ctx);
	assert_int_equal(sk_SSL_CIPHER_num(ciphers), 9);
	for (int i = 0; i < sk_SSL_CIPHER_num(ciphers); i++) {
		const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(ciphers, i);
		int exchange = SSL_CIPHER_get_kx_nid(cipher);

		if (!SSL_CIPHER_is_aead(cipher) || (exchange != NID_kx_ecdhe && exchange != NID_kx_any))
			fail_msg("%s is offered", SSL_CIPHER_get_name(cipher));
	}
	tls_context_unref(context);
}

static void refused_settings(void **state)
{
	(void)state;
	char long_name[300];
	memset(long_name, 'a', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	_cleanup_free_ char *cut = strdup(trusted_pem);
	cut[strlen(cut) / 2] = '\0';
	_cleanup_free_ char *broken_second = malloc(2 * strlen(trusted_pem) + 1);
	sprintf(broken_second, "%s%s", trusted_pem, cut);
	char not_base64[] = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
	char not_a_certificate[] = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
	char empty[] = "";
	char prose[] = "no PEM at all\n";
	char other_block[] = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
	const struct {
		const char *name;
		char *hostname, *pem;
		int min_version, max_version;
		const char *in_error;
	} table[] = {
	        {"no PEM", "a", NULL, 0, 0, "no CA"},
	        {"empty PEM", "a", empty, 0, 0, "no CA certificate"},
	        {"prose", "a", prose, 0, 0, "no CA certificate"},
	        {"a key instead", "a", other_block, 0, 0, "no CA certificate"},
	        {"not base64", "a", not_base64, 0, 0, "CA certificate 1"},
	        {"not a certificate", "a", not_a_certificate, 0, 0, "CA certificate 1"},
	        {"cut in half", "a", cut, 0, 0, "CA certificate 1"},
	        {"the second is cut", "a", broken_second, 0, 0, "CA certificate 2"},
	        {"no hostname", NULL, trusted_pem, 0, 0, "hostname"},
	        {"empty hostname", empty, trusted_pem, 0, 0, "hostname"},
	        {"long hostname", long_name, trusted_pem, 0, 0, "hostname"},
	        {"TLS 1.1", "a", trusted_pem, TLS1_1_VERSION, 0, "0x0302"},
	        {"beyond 1.3", "a", trusted_pem, 0, 0x0305, "0x0305"},
	        {"minimum above maximum", "a", trusted_pem, TLS1_3_VERSION, TLS1_2_VERSION, "0x0304 to 0x0303"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct tls_settings settings = client_settings(table[i].pem);
		struct tls_context *context = NULL;
		char error[100] = "";
		int r;

		settings.hostname = table[i].hostname;
		if (table[i].min_version)
			settings.min_version = table[i].min_version;
		if (table[i].max_version)
			settings.max_version = table[i].max_version;
		r = tls_context_new(&settings, &context, error, sizeof(error));
		if (r != -EINVAL || context || !strstr(error, table[i].in_error) || strchr(error, '\n'))
			fail_msg("%s: expected -EINVAL and \"%s\", seen %d, \"%s\"", table[i].name, table[i].in_error,
			         r, error);
		/* a small buffer is not overrun */
		char tiny[4] = "xx";
		assert_int_equal(tls_context_new(&settings, &context, tiny, 2), -EINVAL);
		assert_int_equal(tiny[1], '\0');
	}
	tls_context_unref(NULL);
}

/* Text around the blocks, other blocks, the same certificate twice: all usual in bundles. */
static void bundles(void **state)
{
	(void)state;
	_cleanup_free_ char *bundle = malloc(2 * strlen(trusted_pem) + 300);
	struct tls_context *context = NULL;
	char error[200] = "";

	sprintf(bundle, "# comment\n%s\nsubject=...\n%s# end\n", trusted_pem, trusted_pem);
	const struct tls_settings settings = client_settings(bundle);
	if (tls_context_new(&settings, &context, error, sizeof(error)) != 0)
		fail_msg("seen: %s", error);
	tls_context_unref(context);
}

static enum tls_step handshake_with_trusted(const struct tls_settings *settings, bool drop_context_early)
{
	const struct far_end_options options = {.leaf = trusted};
	struct tls_client client;
	enum tls_step step;
	int pair[2];

	far_end_sockets(pair, false);
	struct far_end *far_end = far_end_new(&options, pair[1]);
	client_start(&client, settings, pair[0]);
	if (drop_context_early) {
		tls_context_unref(client.context);
		client.context = NULL;
	}
	step = client_handshake(&client, far_end);
	client_end(&client);
	far_end_free(far_end);
	return step;
}

/* The settings die with their snapshot, the context lives as long as the last session. */
static void lifetimes(void **state)
{
	(void)state;
	struct tls_settings settings = client_settings(trusted_pem);
	struct subject_alt_name names[] = {{SUBJECT_ALT_NAME_HOSTNAME, strdup("backend.example")}};
	struct tls_context *context = NULL;
	struct tls_session *session = NULL;
	char error[200] = "";
	char *ca_pem;
	int pair[2];

	assert_int_equal(handshake_with_trusted(&settings, true), TLS_STEP_DONE);

	settings.hostname = strdup("elsewhere.example");
	ca_pem = strdup(trusted_pem);
	settings.ca_pem = ca_pem;
	settings.subject_alt_names = names;
	settings.subject_alt_name_count = 1;
	assert_int_equal(tls_context_new(&settings, &context, error, sizeof(error)), 0);
	memset(settings.hostname, 'x', strlen(settings.hostname));
	memset(names[0].value, 'x', strlen(names[0].value));
	free(settings.hostname);
	free(ca_pem);
	free(names[0].value);
	assert_ptr_equal(tls_context_ref(context), context);
	tls_context_unref(context);

	far_end_sockets(pair, false);
	struct far_end *far_end = far_end_new(&(struct far_end_options){.leaf = trusted}, pair[1]);
	assert_int_equal(tls_session_new(context, pair[0], NULL, &session), 0);
	struct tls_client client = {context, session, pair[0]};
	assert_int_equal(client_handshake(&client, far_end), TLS_STEP_DONE);
	assert_string_equal(far_end->server_name, "elsewhere.example");
	client_end(&client);
	far_end_free(far_end);
}

/* The system's certificates come with the settings: where OpenSSL would look for them is nobody's business here. */
static void system_certificates(void **state)
{
	(void)state;
	struct tls_settings settings = client_settings(NULL);
	struct tls_context *context = NULL;
	char path[] = "/tmp/postern-test-ca-XXXXXX";
	char error[200] = "";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, trusted_pem, strlen(trusted_pem)), strlen(trusted_pem));
	close(fd);
	setenv("SSL_CERT_FILE", path, 1);
	settings.system_ca = true;
	assert_int_equal(tls_context_new(&settings, &context, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "no CA"));
	settings.ca_pem = trusted_pem;
	assert_int_equal(handshake_with_trusted(&settings, false), TLS_STEP_DONE);
	settings.ca_pem = other_pem;
	assert_int_equal(handshake_with_trusted(&settings, false), TLS_STEP_FAILED);
	unlink(path);
	unsetenv("SSL_CERT_FILE");
}

static struct tls_context *share(const struct tls_settings *settings, struct trust_cache *cache)
{
	struct tls_context *context = NULL;
	char error[200] = "";

	if (tls_context_new_sharing(settings, cache, &context, error, sizeof(error)) != 0)
		fail_msg("settings refused: %s", error);
	return context;
}

/* Contexts that trust the same have one store, however else they differ; what makes it is all of its key. */
static void shared_trust(void **state)
{
	(void)state;
	struct trust_cache *cache = trust_cache_new();
	struct tls_settings settings = client_settings(trusted_pem);
	struct tls_settings others[5];
	struct tls_context *contexts[ARRAY_SIZE(others)];
	_cleanup_free_ char *crl = certificate_crl_pem(trusted, NULL, 3600);
	_cleanup_free_ char *copy = strdup(trusted_pem);
	char error[200] = "";
	struct tls_context *broken;

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		others[i] = settings;
	others[0].ca_pem = other_pem;
	others[1].verify_depth = 3;
	others[2].partial_chain = true;
	others[3].crl_pem = crl;
	others[4].ca_pem = copy; /* equal text, another policy */
	others[4].hostname = "elsewhere.example";
	others[4].max_version = TLS1_2_VERSION;
	struct tls_context *first = share(&settings, cache);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		contexts[i] = share(&others[i], cache);
		if ((contexts[i]->trust == first->trust) != (i == 4))
			fail_msg("settings %zu: the same trust is %d", i, contexts[i]->trust == first->trust);
		assert_ptr_equal(SSL_CTX_get_cert_store(contexts[i]->ssl_ctx), contexts[i]->trust->x509);
	}
	assert_int_equal(trust_cache_count(cache), 5);
	settings.ca_pem = "";
	assert_int_equal(tls_context_new_sharing(&settings, cache, &broken, error, sizeof(error)), -EINVAL);
	assert_int_equal(trust_cache_count(cache), 5);

	tls_context_unref(first); /* the last of these has its store, still */
	trust_cache_trim(cache);
	assert_int_equal(trust_cache_count(cache), 5);
	for (size_t i = 0; i < 4; i++)
		tls_context_unref(contexts[i]);
	trust_cache_trim(cache);
	assert_int_equal(trust_cache_count(cache), 1);
	settings.ca_pem = trusted_pem;
	first = share(&settings, cache);
	assert_ptr_equal(first->trust, contexts[4]->trust);
	tls_context_unref(contexts[4]);
	trust_cache_free(cache);

	/* what a context has outlives the cache */
	int pair[2];
	far_end_sockets(pair, false);
	struct far_end *far_end = far_end_new(&(struct far_end_options){.leaf = trusted}, pair[1]);
	struct tls_client client = {.context = first, .fd = pair[0]};
	assert_int_equal(tls_session_new(first, pair[0], NULL, &client.session), 0);
	assert_int_equal(client_handshake(&client, far_end), TLS_STEP_DONE);
	client_end(&client);
	far_end_free(far_end);
	trust_cache_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(process_set_up),   cmocka_unit_test(what_is_offered),
	        cmocka_unit_test(refused_settings), cmocka_unit_test(bundles),
	        cmocka_unit_test(lifetimes),        cmocka_unit_test(system_certificates),
	        cmocka_unit_test(shared_trust),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
