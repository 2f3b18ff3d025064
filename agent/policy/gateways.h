/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * gateways.h: each Gateway by itself: is it served, and which client certificate does it show (GEP-3155,
 * spec.tls.backend.clientCertificateRef with ReferenceGrant)? Pure; control thread.
 *
 * Condition ResolvedRefs: True/ResolvedRefs; False/RefNotPermitted (another namespace without a grant: said first, so
 * that nobody learns what exists there); False/InvalidClientCertificateRef (group or kind other than core Secret, no
 * such Secret, type other than kubernetes.io/tls, tls.crt or tls.key missing, malformed, too weak, or not a pair). The
 * message names the object, the key of it, and what to do.
 */
#ifndef POSTERN_POLICY_GATEWAYS_H
#define POSTERN_POLICY_GATEWAYS_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/snapshot.h"

struct object;
struct object_store;

/*
 * One status a Gateway of the store, in its order; *statuses is the caller's (gateway_statuses_free()), with a
 * reference for each certificate. 0 or -ENOMEM.
 */
int gateway_statuses_new(const struct object_store *store, struct gateway_status **statuses, size_t *count);
void gateway_statuses_free(struct gateway_status *statuses, size_t count);

/* Its GatewayClass claims BackendTLSPolicy in supportedFeatures, and no annotation postern.dev/force overrides that. */
bool gateway_does_backend_tls(const struct object_store *store, const struct object *gateway);

/* Does a ReferenceGrant of to_namespace allow it? True within one namespace. name is that of the object referred to. */
bool reference_granted(const struct object_store *store, const char *from_group, const char *from_kind,
                       const char *from_namespace, const char *to_group, const char *to_kind, const char *to_namespace,
                       const char *name);

#endif
