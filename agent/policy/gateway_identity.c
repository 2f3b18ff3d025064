// SPDX-License-Identifier: GPL-2.0-only
#include "policy/gateway_identity.h"

#include <string.h>

#include "policy/client_certificate.h"
#include "policy/snapshot.h"

bool client_certificates_equal(const struct client_certificate *left, const struct client_certificate *right)
{
	if (!left || !right)
		return left == right;
	return memcmp(left->digest, right->digest, sizeof(left->digest)) == 0;
}

void gateway_identity_find(const struct snapshot *snapshot, const struct object_name *refs, size_t ref_count,
                           const struct tls_settings *settings, struct gateway_identity *identity)
{
	*identity = (struct gateway_identity){0};
	if (settings && settings->client_certificate) {
		identity->certificate = settings->client_certificate;
		return;
	}
	for (size_t i = 0; i < ref_count; i++) {
		const struct gateway_status *gateway = snapshot_find_gateway(snapshot, refs[i].namespace_,
		                                                             refs[i].name);
		struct client_certificate *certificate = gateway ? gateway->client_certificate : NULL;

		if (gateway && gateway->has_reference && !certificate) {
			*identity = (struct gateway_identity){.unusable = gateway};
			return;
		}
		if (i == 0)
			identity->certificate = certificate;
		else if (!client_certificates_equal(identity->certificate, certificate))
			identity->disagreement = true;
	}
	if (identity->disagreement)
		identity->certificate = NULL;
}

static bool shows_the_same(const struct gateway_status *left, const struct gateway_status *right)
{
	return strcmp(left->namespace_, right->namespace_) == 0 && strcmp(left->name, right->name) == 0 &&
	       left->has_reference == right->has_reference &&
	       client_certificates_equal(left->client_certificate, right->client_certificate);
}

bool gateway_identities_equal(const struct snapshot *old, const struct snapshot *new)
{
	size_t count = old ? snapshot_gateway_count(old) : 0;

	if (count != snapshot_gateway_count(new))
		return false;
	for (size_t i = 0; i < count; i++) {
		if (!shows_the_same(snapshot_gateway_at(old, i), snapshot_gateway_at(new, i)))
			return false;
	}
	return true;
}
