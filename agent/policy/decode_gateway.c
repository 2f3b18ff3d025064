// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "policy/decode_kinds.h"

/* Of the listener's own defaults: TLS is terminated, Routes of the Gateway's namespace only. */
static int decode_listener_details(struct decoder *decoder, const struct path *where, const json_t *map,
                                   struct listener *listener)
{
	struct path tls_path = path_key(where, "tls"), routes_path = path_key(where, "allowedRoutes"),
	            namespaces_path = path_key(&routes_path, "namespaces");
	const json_t *tls, *routes, *namespaces = NULL;
	const char *mode = NULL, *from = NULL;
	int result = field_map(decoder, where, map, "tls", OPTIONAL, &tls);

	if (result == 0 && tls)
		result = field_borrow(decoder, &tls_path, tls, "mode", OPTIONAL, &mode);
	if (result == 0)
		result = field_map(decoder, where, map, "allowedRoutes", OPTIONAL, &routes);
	if (result == 0 && routes)
		result = field_map(decoder, &routes_path, routes, "namespaces", OPTIONAL, &namespaces);
	if (result == 0 && namespaces)
		result = field_borrow(decoder, &namespaces_path, namespaces, "from", OPTIONAL, &from);
	listener->passthrough = mode && !strcmp(mode, "Passthrough");
	listener->from_all_namespaces = from && (!strcmp(from, "All") || !strcmp(from, "Selector"));
	return result;
}

static int decode_listener(struct decoder *decoder, const struct path *where, const json_t *map, void *item)
{
	struct listener *listener = item;
	json_int_t port = 0;
	int result;

	if ((result = value_map(decoder, where, map)) < 0 ||
	    (result = field_string(decoder, where, map, "name", REQUIRED, &listener->name)) < 0 ||
	    (result = field_string(decoder, where, map, "protocol", REQUIRED, &listener->protocol)) < 0 ||
	    (result = field_integer(decoder, where, map, "port", REQUIRED, 1, UINT16_MAX, &port)) < 0)
		return result;
	listener->port = (uint16_t)port;
	return decode_listener_details(decoder, where, map, listener);
}

static const struct field_item listener_item = {sizeof(struct listener), decode_listener};

static int decode_secret_reference(struct decoder *decoder, const struct path *where, const json_t *map,
                                   const char *own_namespace, struct secret_reference *reference)
{
	static const char *const known[] = {"group", "kind", "name", "namespace", NULL};
	int result;

	if ((result = note_unknown_fields(decoder, where, map, known)) < 0 ||
	    (result = field_string(decoder, where, map, "group", OPTIONAL, &reference->group)) < 0 ||
	    (result = field_string(decoder, where, map, "kind", OPTIONAL, &reference->kind)) < 0 ||
	    (result = field_string(decoder, where, map, "namespace", OPTIONAL, &reference->namespace_)) < 0 ||
	    (result = field_string(decoder, where, map, "name", REQUIRED, &reference->name)) < 0)
		return result;
	reference->group = reference->group ? reference->group : "";
	reference->kind = reference->kind ? reference->kind : "Secret";
	reference->namespace_ = reference->namespace_ ? reference->namespace_ : own_namespace;
	return 0;
}

static int decode_backend_tls(struct decoder *decoder, const struct path *spec_path, const json_t *spec,
                              struct object *object)
{
	static const char *const known[] = {"clientCertificateRef", NULL};
	struct path tls_path = path_key(spec_path, "tls"), backend_path = path_key(&tls_path, "backend"),
	            reference_path = path_key(&backend_path, "clientCertificateRef");
	const json_t *tls, *backend = NULL, *reference = NULL;
	int result = field_map(decoder, spec_path, spec, "tls", OPTIONAL, &tls);

	if (result == 0 && tls)
		result = field_map(decoder, &tls_path, tls, "backend", OPTIONAL, &backend);
	if (result == 0 && backend)
		result = note_unknown_fields(decoder, &backend_path, backend, known);
	if (result == 0 && backend)
		result = field_map(decoder, &backend_path, backend, "clientCertificateRef", OPTIONAL, &reference);
	if (result < 0 || !reference)
		return result;
	object->gateway.has_client_certificate = true;
	return decode_secret_reference(decoder, &reference_path, reference, object->namespace_,
	                               &object->gateway.client_certificate);
}

int decode_gateway(struct decoder *decoder, const json_t *document, struct object *object)
{
	struct path root = {0}, spec_path = path_key(&root, "spec");
	struct gateway_spec *gateway = &object->gateway;
	const json_t *spec;
	const char *force;
	int result;

	gateway->class_name = "";
	if ((result = decode_metadata_string(decoder, document, "annotations", "postern.dev/force", &force)) < 0 ||
	    (result = decode_metadata_string(decoder, document, "annotations", "postern.dev/mode", &gateway->mode)) <
	            0 ||
	    (result = decode_metadata_string(decoder, document, "annotations", "postern.dev/pod-selector",
	                                     &gateway->pod_selector)) < 0 ||
	    (result = field_map(decoder, &root, document, "spec", OPTIONAL, &spec)) < 0)
		return result;
	gateway->force = !strcmp(force, "true");
	if (!spec)
		return 0;
	if ((result = field_string(decoder, &spec_path, spec, "gatewayClassName", OPTIONAL, &gateway->class_name)) <
	            0 ||
	    (result = field_items(decoder, &spec_path, spec, "listeners", OPTIONAL, SIZE_MAX, &listener_item,
	                          &gateway->listeners, &gateway->listener_count)) < 0)
		return result;
	gateway->class_name = gateway->class_name ? gateway->class_name : "";
	return decode_backend_tls(decoder, &spec_path, spec, object);
}

/* Strings in Gateway API v1.0 and 1.1, maps with a name since. Others write the status: what it is not is let be. */
static bool lists_feature(const json_t *features, const char *wanted)
{
	const json_t *item;
	size_t index;

	json_array_foreach (features, index, item) {
		const char *name = json_string_value(json_is_object(item) ? json_object_get(item, "name") : item);

		if (name && !strcmp(name, wanted))
			return true;
	}
	return false;
}

int decode_gateway_class(struct decoder *decoder, const json_t *document, struct object *object)
{
	struct path root = {0}, spec_path = path_key(&root, "spec");
	struct gateway_class *class = &object->gateway_class;
	const json_t *spec;
	int result = field_map(decoder, &root, document, "spec", OPTIONAL, &spec);

	if (result == 0 && spec)
		result = field_string(decoder, &spec_path, spec, "controllerName", OPTIONAL, &class->controller_name);
	class->controller_name = class->controller_name ? class->controller_name : "";
	class->supports_backend_tls_policy = lists_feature(
	        json_object_get(json_object_get(document, "status"), "supportedFeatures"), "BackendTLSPolicy");
	return result;
}
