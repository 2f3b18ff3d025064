/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * context_private.h: what context.c builds and session.c uses. Immutable once built, but for the reference count.
 */
#ifndef POSTERN_TLS_CONTEXT_PRIVATE_H
#define POSTERN_TLS_CONTEXT_PRIVATE_H

#include <stdatomic.h>

#include <openssl/ssl.h>

#include "policy/snapshot.h"
#include "tls/verify.h"

struct tls_context {
	atomic_uint references;
	SSL_CTX *ssl_ctx;
	char *hostname;
	struct subject_alt_name *subject_alt_names;
	struct verify_identity identity; /* points at the two above */
	const char *alpn;                /* offered protocol, static; NULL: none */
	bool alpn_required;              /* h2: a backend that selects nothing would be spoken to in HTTP/2 unasked */
};

#endif
