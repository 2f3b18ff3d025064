// SPDX-License-Identifier: GPL-2.0-only
#include "policy/gateways.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/printable.h"
#include "policy/client_certificate.h"
#include "policy/object.h"
#include "policy/store.h"
#include "policy/text.h"

#define GATEWAY_GROUP "gateway.networking.k8s.io"
#define FIELD         "spec.tls.backend.clientCertificateRef: "

bool gateway_does_backend_tls(const struct object_store *store, const struct object *gateway)
{
	const struct object *class;

	if (gateway->gateway.force)
		return false;
	class = object_store_find(store, OBJECT_GATEWAY_CLASS, "", gateway->gateway.class_name);
	return class && class->gateway_class.supports_backend_tls_policy;
}

/* Why the Secret of this name is not in force although there is one; NULL: there is none. */
static const char *why_quarantined(const struct object_store *store, const char *namespace_, const char *name)
{
	for (size_t i = 0; i < object_store_quarantined_count(store, OBJECT_SECRET); i++) {
		const struct quarantined *entry = object_store_quarantined_at(store, OBJECT_SECRET, i);

		if (!strcmp(entry->object->namespace_, namespace_) && !strcmp(entry->object->name, name))
			return entry->why;
	}
	return NULL;
}

static void say_missing(const struct object_store *store, const char *namespace_, const char *name,
                        struct text *message)
{
	const char *why = why_quarantined(store, namespace_, name);
	char namespace_shown[PRINTABLE_MAX], name_shown[PRINTABLE_MAX];

	text_append(message, FIELD "Secret %s/%s ", printable(namespace_, namespace_shown),
	            printable(name, name_shown));
	if (why)
		text_append(message, "is not applied: %s", why);
	else
		text_append(message, "does not exist: create it with type kubernetes.io/tls, tls.crt and tls.key");
}

/* Borrowed from the Secret; NULL with *reason and a message. */
static struct client_certificate *resolve(const struct object_store *store, const struct object *gateway,
                                          const char **reason, struct text *message)
{
	const struct secret_reference *reference = &gateway->gateway.client_certificate;
	char namespace_[PRINTABLE_MAX], name[PRINTABLE_MAX], kind[PRINTABLE_MAX], other[PRINTABLE_MAX];
	const struct object *secret;

	if (!reference_granted(store, GATEWAY_GROUP, "Gateway", gateway->namespace_, reference->group, reference->kind,
	                       reference->namespace_, reference->name)) {
		*reason = "RefNotPermitted";
		text_append(message,
		            FIELD "%s %s/%s is in another namespace and no ReferenceGrant there permits it: add one "
		                  "from kind Gateway of namespace %s, or use an object of the Gateway's own namespace",
		            printable(reference->kind, kind), printable(reference->namespace_, namespace_),
		            printable(reference->name, name), gateway->namespace_);
		return NULL;
	}
	*reason = "InvalidClientCertificateRef";
	if (*reference->group || strcmp(reference->kind, "Secret")) {
		text_append(message,
		            FIELD "kind \"%s\" of group \"%s\" is not supported: refer to a Secret of the core group",
		            printable(reference->kind, kind), printable(reference->group, other));
		return NULL;
	}
	secret = object_store_find(store, OBJECT_SECRET, reference->namespace_, reference->name);
	if (!secret) {
		say_missing(store, reference->namespace_, reference->name, message);
		return NULL;
	}
	text_append(message, FIELD "Secret %s/%s ", secret->namespace_, secret->name);
	if (strcmp(secret->secret.type, "kubernetes.io/tls")) {
		text_append(message, "is of type \"%s\": it must be kubernetes.io/tls, with tls.crt and tls.key",
		            printable(secret->secret.type, other));
		return NULL;
	}
	if (!secret->secret.certificate) {
		text_append(message, "cannot be used: %s", secret->secret.certificate_problem);
		return NULL;
	}
	*reason = "ResolvedRefs";
	text_append(message, "is used");
	return secret->secret.certificate;
}

static int fill_status(const struct object_store *store, const struct object *gateway, struct gateway_status *status)
{
	const char *reason = "ResolvedRefs";
	struct text message = {0};

	status->namespace_ = strdup(gateway->namespace_);
	status->name = strdup(gateway->name);
	status->generation = gateway->generation;
	status->served = !gateway_does_backend_tls(store, gateway);
	status->has_reference = gateway->gateway.has_client_certificate;
	if (status->has_reference) {
		struct client_certificate *certificate = resolve(store, gateway, &reason, &message);

		if (certificate)
			status->client_certificate = client_certificate_ref(certificate);
	} else {
		text_append(&message, "the Gateway refers to no client certificate");
	}
	status->resolved_refs.status = !status->has_reference || status->client_certificate;
	snprintf(status->resolved_refs.reason, sizeof(status->resolved_refs.reason), "%s", reason);
	status->resolved_refs.message = text_take(&message);
	return status->namespace_ && status->name && status->resolved_refs.message ? 0 : -ENOMEM;
}

int gateway_statuses_new(const struct object_store *store, struct gateway_status **statuses, size_t *count)
{
	size_t gateways = object_store_count(store, OBJECT_GATEWAY);
	struct gateway_status *made = calloc(gateways + 1, sizeof(*made));

	if (!made)
		return -ENOMEM;
	for (size_t i = 0; i < gateways; i++) {
		int result = fill_status(store, object_store_at(store, OBJECT_GATEWAY, i), &made[i]);

		if (result < 0) {
			gateway_statuses_free(made, i + 1);
			return result;
		}
	}
	*statuses = made;
	*count = gateways;
	return 0;
}

void gateway_statuses_free(struct gateway_status *statuses, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(statuses[i].namespace_);
		free(statuses[i].name);
		free(statuses[i].resolved_refs.message);
		client_certificate_unref(statuses[i].client_certificate);
	}
	free(statuses);
}
