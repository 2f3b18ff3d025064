/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * gateway_identity.h: which client certificate a data plane shows to a backend (design section 10, GEP-3155). A policy
 * that names one of its own (option client-certificate) is obeyed. Else the Gateways that the data plane serves decide:
 *
 *   one of them names a certificate that cannot be used   nothing may be dialed: a backend that asks for none would be
 *                                                         spoken to by nobody in particular
 *   all name the same one                                 that
 *   they disagree, or some name none                      none
 *   none names one, or none is known                      none
 *
 * Pure; any thread.
 */
#ifndef POSTERN_POLICY_GATEWAY_IDENTITY_H
#define POSTERN_POLICY_GATEWAY_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct client_certificate;
struct gateway_status;
struct object_name;
struct snapshot;
struct tls_settings;

struct gateway_identity {
	/* Borrowed from the snapshot. NULL: none is shown. */
	struct client_certificate *certificate;
	/* The Gateway whose certificate cannot be used; NULL: there is none. */
	const struct gateway_status *unusable;
	bool disagreement; /* none is shown because the Gateways do not all say the same */
};

/* settings NULL: whatever the policy. */
void gateway_identity_find(const struct snapshot *snapshot, const struct object_name *refs, size_t ref_count,
                           const struct tls_settings *settings, struct gateway_identity *identity);

/* Both NULL, or equal digests. */
bool client_certificates_equal(const struct client_certificate *left, const struct client_certificate *right);

/* Does every Gateway show the same under both? old may be NULL. */
bool gateway_identities_equal(const struct snapshot *old, const struct snapshot *new);

#endif
