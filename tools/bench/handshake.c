// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a handshake costs in the library alone: CPU time of the agent's own calls for one connection, from a session's
 * beginning to its end (both keys derived, tickets read, everything freed), against an OpenSSL server in the same
 * thread whose time is not counted. The kernel's part of the keys is not in it; the chain is leaf and intermediate.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "meeting.h"
#include "row.h"

#define HANDSHAKES 150
#define RUNS       5
#define WARM_UP    3

enum kind {
	KIND_FIRST,    /* the chain was never seen: path building and its signatures are in it */
	KIND_VERIFIED, /* full, by a backend whose chain was verified before */
	KIND_RESUMED,
};

static const struct {
	const char *name;
	int version;
	bool rsa;
	enum kind kind;
} cases[] = {
        {"handshake, TLS 1.3 ECDSA, chain not known", TLS1_3_VERSION, false, KIND_FIRST},
        {"handshake, TLS 1.3 ECDSA, chain known", TLS1_3_VERSION, false, KIND_VERIFIED},
        {"handshake, TLS 1.3 ECDSA, resumed", TLS1_3_VERSION, false, KIND_RESUMED},
        {"handshake, TLS 1.3 RSA, chain not known", TLS1_3_VERSION, true, KIND_FIRST},
        {"handshake, TLS 1.3 RSA, chain known", TLS1_3_VERSION, true, KIND_VERIFIED},
        {"handshake, TLS 1.3 RSA, resumed", TLS1_3_VERSION, true, KIND_RESUMED},
        {"handshake, TLS 1.2 ECDSA, chain not known", TLS1_2_VERSION, false, KIND_FIRST},
        {"handshake, TLS 1.2 ECDSA, chain known", TLS1_2_VERSION, false, KIND_VERIFIED},
        {"handshake, TLS 1.2 ECDSA, resumed", TLS1_2_VERSION, false, KIND_RESUMED},
};

struct backend {
	struct certificate *root;
	struct certificate *intermediate;
	struct certificate *leaf;
	char *ca_pem;
};

static struct backend new_backend(bool rsa)
{
	const unsigned int bits = rsa ? 2048 : 0;
	struct backend backend;

	backend.root = certificate_new(
	        &(struct certificate_options){.common_name = "root", .authority = true, .rsa_bits = bits});
	backend.intermediate = certificate_new(&(struct certificate_options){
	        .common_name = "intermediate", .authority = true, .issuer = backend.root, .rsa_bits = bits});
	backend.leaf = certificate_new(&(struct certificate_options){.common_name = "backend",
	                                                             .names = {{GEN_DNS, "backend.example", 0}},
	                                                             .issuer = backend.intermediate,
	                                                             .rsa_bits = bits});
	backend.ca_pem = certificate_pem((const struct certificate *const[]){backend.root, NULL});
	return backend;
}

static void end_backend(struct backend *backend)
{
	certificate_free(backend->root);
	certificate_free(backend->intermediate);
	certificate_free(backend->leaf);
	free(backend->ca_pem);
}

static double cpu_us(void)
{
	struct timespec time;

	assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time), 0);
	return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

/* The client's CPU time for one connection. */
static double connect_once(struct tls_context *context, const struct far_end_options *options, bool resumed)
{
	const struct tls_session_owner owner = meeting_owner();
	struct tls_session *session = NULL;
	struct tls_session_info info;
	struct far_end *far_end;
	enum tls_step step = TLS_STEP_WANT_READ;
	double spent, began;
	int pair[2];
	char byte;

	far_end_sockets(pair, false);
	far_end = far_end_new(options, pair[1]);
	began = cpu_us();
	assert_int_equal(tls_session_new(context, pair[0], &owner, &session), 0);
	spent = cpu_us() - began;
	for (int round = 0; step != TLS_STEP_DONE; round++) {
		began = cpu_us();
		step = tls_session_handshake(session);
		spent += cpu_us() - began;
		if (step == TLS_STEP_FAILED || round == 10)
			fail_msg("handshake: %s", tls_session_detail(session));
		far_end_step(far_end);
	}
	tls_session_info(session, &info);
	assert_int_equal(info.resumed, resumed);
	began = cpu_us();
	/* The tickets; and this socket is none of TCP's, so that the keys are derived and go nowhere. */
	assert_int_equal(tls_session_read(session, &byte, 1), -EAGAIN);
	assert_true(tls_session_arm_transmit(session) < 0);
	assert_true(tls_session_arm_receive(session) < 0);
	tls_session_free(session);
	spent += cpu_us() - began;
	close(pair[0]);
	SSL_set_shutdown(far_end->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	far_end_free(far_end);
	return spent;
}

static double run(const struct tls_settings *settings, const struct far_end_options *options, enum kind kind)
{
	struct tls_context *context = meeting_context(settings);
	double spent = 0;

	for (int i = 0; kind != KIND_FIRST && i < WARM_UP; i++)
		(void)connect_once(context, options, kind == KIND_RESUMED && i > 0);
	for (int i = 0; i < HANDSHAKES; i++) {
		if (kind == KIND_FIRST) {
			tls_context_unref(context);
			context = meeting_context(settings);
		}
		spent += connect_once(context, options, kind == KIND_RESUMED);
	}
	tls_context_unref(context);
	return spent / HANDSHAKES;
}

static void measure(size_t i, struct backend backends[static 2])
{
	struct backend *backend = &backends[cases[i].rsa];
	struct far_end_options options = {.leaf = backend->leaf,
	                                  .intermediate = backend->intermediate,
	                                  .min_version = cases[i].version,
	                                  .max_version = cases[i].version,
	                                  .suites_1_2 = "ECDHE+AES128+AESGCM",
	                                  .suites_1_3 = "TLS_AES_128_GCM_SHA256"};
	struct tls_settings settings = client_settings(backend->ca_pem);
	double lowest = 0, highest = 0;

	settings.resumption = cases[i].kind == KIND_RESUMED;
	options.ssl_ctx = far_end_new_ssl_ctx(&options);
	for (int j = 0; j < RUNS; j++) {
		double spent = run(&settings, &options, cases[i].kind);

		if (j == 0 || spent < lowest)
			lowest = spent;
		if (spent > highest)
			highest = spent;
	}
	SSL_CTX_free(options.ssl_ctx);
	row_print(&(struct row){
	        .name = cases[i].name, .value = lowest, .unit = "us", .spread = (highest - lowest) / lowest});
}

int main(int argc, char **argv)
{
	struct backend backends[2];

	if (tls_global_init() < 0)
		return 1;
	for (int i = 0; i < 2; i++)
		backends[i] = new_backend(i);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (argc < 2 || strstr(cases[i].name, argv[1]))
			measure(i, backends);
	for (int i = 0; i < 2; i++)
		end_backend(&backends[i]);
	return 0;
}
