/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * resumption_world.h: a backend with an old and a renewed certificate, two client certificates, and the ways in which a
 * server lets a session be resumed. Included by the tests of resumption with a real OpenSSL server (meeting.h; one .c a
 * program, so its functions are defined here).
 */
#ifndef POSTERN_TESTS_RESUMPTION_WORLD_H
#define POSTERN_TESTS_RESUMPTION_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "meeting.h"
#include "tls/session_cache.h"
#include "tls/session_private.h"

#define DAY 86400L

static struct certificate *root, *backend, *renewed, *gateway_a, *gateway_b;
static char *root_pem;

static inline int set_up(void **state)
{
	(void)state;
	struct certificate_options leaf = {.common_name = "backend",
	                                   .names = {{GEN_DNS, "backend.example", 0}},
	                                   .valid_from = -DAY,
	                                   .valid_until = 20 * DAY};

	if (tls_global_init() < 0)
		return -1;
	root = certificate_new(&(struct certificate_options){
	        .common_name = "root", .authority = true, .valid_from = -DAY, .valid_until = 365 * DAY});
	leaf.issuer = root;
	backend = certificate_new(&leaf);
	leaf.valid_until = 90 * DAY;
	renewed = certificate_new(&leaf);
	gateway_a = certificate_new(&(struct certificate_options){.common_name = "gateway a"});
	gateway_b = certificate_new(&(struct certificate_options){.common_name = "gateway b"});
	root_pem = certificate_pem((const struct certificate *const[]){root, NULL});
	return 0;
}

static inline int tear_down(void **state)
{
	(void)state;
	certificate_free(root);
	certificate_free(backend);
	certificate_free(renewed);
	certificate_free(gateway_a);
	certificate_free(gateway_b);
	free(root_pem);
	return 0;
}

static inline int reset_clock(void **state)
{
	(void)state;
	meeting_clock_offset = 0;
	return 0;
}

static inline struct tls_settings resuming_settings(void)
{
	struct tls_settings settings = client_settings(root_pem);

	settings.resumption = true;
	return settings;
}

static inline struct tls_context *resuming_context(void)
{
	const struct tls_settings settings = resuming_settings();

	return meeting_context(&settings);
}

static const struct way {
	const char *name;
	int version;
	bool session_ids; /* the server keeps sessions, and sends no tickets (1.3: tickets that are no more than ids) */
} ways[] = {
        {"1.3, tickets", TLS1_3_VERSION, false},
        {"1.3, stateful tickets", TLS1_3_VERSION, true},
        {"1.2, tickets", TLS1_2_VERSION, false},
        {"1.2, session ids", TLS1_2_VERSION, true},
};

static inline struct far_end_options server_of(const struct way *way)
{
	struct far_end_options options = {.leaf = backend, .min_version = way->version, .max_version = way->version};

	options.ssl_ctx = far_end_new_ssl_ctx(&options);
	if (way->session_ids)
		SSL_CTX_set_options(options.ssl_ctx, SSL_OP_NO_TICKET);
	return options;
}

#define TEST(function) cmocka_unit_test_teardown(function, reset_clock)

#endif
