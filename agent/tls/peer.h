/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * peer.h: who was at the other end: the chain that a backend sent and that was verified, shared by every connection to
 * which it was sent. Immutable, reference-counted, any thread. A live connection keeps one, so that it can be judged
 * again when the policy changes or a certificate expires (design section 9) without 10 KB of parsed certificates each.
 */
#ifndef POSTERN_TLS_PEER_H
#define POSTERN_TLS_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "tls/verify.h"

struct tls_context;
struct tls_peer;

struct tls_peer *tls_peer_ref(struct tls_peer *peer);
void tls_peer_unref(struct tls_peer *peer); /* NULL-safe */

/*
 * Judge the chain by the settings of context (the same or newer ones): path, identity, pins, CRL, as of now. True if it
 * would be accepted; else result says why. *valid_until: Unix time until which that holds by the chain's own dates (its
 * anchor and CRLs included). What was judged lately is answered from the context's verification cache.
 */
bool tls_context_judge_peer(struct tls_context *context, struct tls_peer *peer, struct verify_result *result,
                            int64_t *valid_until);

#endif
