/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * context.h: one SSL_CTX per TLS settings: built when the first connection needs it, shared and reference-counted by
 * all workers (OpenSSL's SSL_CTX is thread-safe once configured), freed by the last session. Any thread.
 */
#ifndef POSTERN_TLS_CONTEXT_H
#define POSTERN_TLS_CONTEXT_H

#include <stddef.h>

struct tls_context;
struct tls_settings;
struct trust_cache; /* trust_cache.h */

/*
 * Process-wide set-up: no openssl.cnf, no atexit surprises, SSLKEYLOGFILE out of the environment, not dumpable, no
 * core. Once, at the start of main() and of tests. 0 or negative errno.
 */
int tls_global_init(void);

/* 0; -EINVAL with a one-line message in error (no CA certificate in the PEM, bad option), -ENOMEM. */
int tls_context_new(const struct tls_settings *settings, struct tls_context **context, char *error, size_t error_size);
/* The same for one of many: what is trusted comes from the cache if another context trusts the same. */
int tls_context_new_sharing(const struct tls_settings *settings, struct trust_cache *cache,
                            struct tls_context **context, char *error, size_t error_size);
struct tls_context *tls_context_ref(struct tls_context *context);
void tls_context_unref(struct tls_context *context); /* NULL-safe */

#endif
