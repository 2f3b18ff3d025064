// SPDX-License-Identifier: GPL-2.0-only
/* A library context for handshakes cannot be made: they run in the default one, and are as good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <openssl/provider.h>
#include <openssl/x509v3.h>

#include "base/log.h"
#include "meeting.h"
#include "tls/provider.h"

static unsigned int asked;

/* In this program OpenSSL takes no provider of ours. */
int OSSL_PROVIDER_add_builtin(OSSL_LIB_CTX *context, const char *name, OSSL_provider_init_fn *initialise)
{
	(void)context;
	(void)name;
	(void)initialise;
	asked++;
	return 0;
}

static void the_default_does_it(void **state)
{
	struct certificate *backend = certificate_new(
	        &(struct certificate_options){.common_name = "backend", .names = {{GEN_DNS, "backend.example", 0}}});
	char *pem = certificate_pem((const struct certificate *const[]){backend, NULL});
	const struct far_end_options options = {.leaf = backend};
	const struct tls_settings settings = client_settings(pem);

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct tls_context *context = meeting_context(&settings);

		assert_null(provider_library_context());
		meet_fully("in the default context", context, NULL, &options);
		tls_context_unref(context);
	}
	/* It was tried once, where it is of use at all. */
	assert_int_equal(asked, OpenSSL_version_num() < 0x30200000ul);
	free(pem);
	certificate_free(backend);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(the_default_does_it)};

	log_set_level(LOG_LEVEL_WARNING);
	return tls_global_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
