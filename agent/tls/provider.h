/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * provider.h: the OpenSSL library context that handshakes run in. OpenSSL before 3.2 walks every registered decoder,
 * and every algorithm of any kind that it has met, for each certificate that it parses: a third of a full handshake. So
 * there handshakes have a library context of their own, whose only provider hands out the default provider's own
 * functions, but only those that a handshake of ours can need. What is accepted and refused is the same; PEM files and
 * private keys are read in the default context. Private to tls/; any thread.
 */
#ifndef POSTERN_TLS_PROVIDER_H
#define POSTERN_TLS_PROVIDER_H

struct ossl_lib_ctx_st;
struct tls_rekey_secrets; /* keys.h */

/*
 * For SSL_CTX_new_ex(). NULL, which means the default context: where OpenSSL needs no help (3.2 and later), where FIPS
 * rules, and where it could not be made, which is logged. Made at the first call; lives as long as the process.
 */
struct ossl_lib_ctx_st *provider_library_context(void);

/*
 * Until the next call, the application traffic secrets that TLS 1.3 derives in this thread, in that library context, go
 * into secrets, too; NULL: nowhere. For the time of one step of one handshake. OpenSSL's own way to tell them writes
 * each as text, six per cent of a full handshake: it is for the default context only.
 */
void provider_keep_secrets(struct tls_rekey_secrets *secrets);

#endif
