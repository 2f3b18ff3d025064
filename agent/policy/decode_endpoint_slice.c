// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <string.h>

#include "base/printable.h"
#include "policy/decode_kinds.h"

/* Kubernetes' own limits of the kind. */
#define SLICE_MAX_ENDPOINTS          1000
#define SLICE_MAX_ENDPOINT_ADDRESSES 100
#define SLICE_MAX_PORTS              100

static const char service_label[] = "kubernetes.io/service-name";
static const char managed_by_label[] = "endpointslice.kubernetes.io/managed-by";
static const char kubernetes_controller[] = "endpointslice-controller.k8s.io";

static int decode_labels(struct decoder *decoder, const json_t *document, struct endpoint_slice *slice)
{
	const char *managed_by;
	int result;

	if ((result = decode_metadata_string(decoder, document, "labels", service_label, &slice->service)) < 0 ||
	    (result = decode_metadata_string(decoder, document, "labels", managed_by_label, &managed_by)) < 0)
		return result;
	slice->managed = !strcmp(managed_by, kubernetes_controller);
	return 0;
}

static int decode_slice_port(struct decoder *decoder, const struct path *where, const json_t *map, void *item)
{
	struct slice_port *port = item;
	json_int_t number = 0;
	int result;

	if ((result = value_map(decoder, where, map)) < 0 ||
	    (result = field_string(decoder, where, map, "name", OPTIONAL, &port->name)) < 0 ||
	    (result = decode_protocol(decoder, where, map, &port->protocol)) < 0 ||
	    (result = field_integer(decoder, where, map, "port", OPTIONAL, 1, UINT16_MAX, &number)) < 0)
		return result;
	port->name = port->name ? port->name : "";
	port->port = (uint16_t)number;
	return 0;
}

static const struct field_item slice_port_item = {sizeof(struct slice_port), decode_slice_port};

/* *pod: "" if the target is none of the slice's namespace, or says no name. */
static int decode_own_pod(struct decoder *decoder, const struct path *where, const json_t *map,
                          const char *slice_namespace, bool *own_pod, const char **pod)
{
	struct path here = path_key(where, "targetRef");
	const json_t *target;
	const char *kind, *namespace_;
	int result = field_map(decoder, where, map, "targetRef", OPTIONAL, &target);

	*own_pod = false;
	*pod = "";
	if (result < 0 || !target)
		return result;
	if ((result = field_borrow(decoder, &here, target, "kind", OPTIONAL, &kind)) < 0 ||
	    (result = field_borrow(decoder, &here, target, "namespace", OPTIONAL, &namespace_)) < 0)
		return result;
	*own_pod = kind && !strcmp(kind, "Pod") && namespace_ && !strcmp(namespace_, slice_namespace);
	if (!*own_pod)
		return 0;
	result = field_string(decoder, &here, target, "name", OPTIONAL, pod);
	*pod = *pod ? *pod : "";
	return result;
}

static size_t count_addresses(const json_t *endpoints)
{
	const json_t *item;
	size_t index, count = 0;

	json_array_foreach (endpoints, index, item)
		count += json_array_size(json_object_get(item, "addresses"));
	return count;
}

static int decode_endpoint_address(struct decoder *decoder, const struct path *where, const json_t *value, bool v4,
                                   struct endpoint *endpoint)
{
	int result = decode_address(decoder, where, value, &endpoint->address);

	if (result < 0)
		return result;
	if (address_is_v4(&endpoint->address) != v4)
		return refuse_field(decoder, where, "must be an %s address, as addressType says", v4 ? "IPv4" : "IPv6");
	return 0;
}

/* Every address counts, whatever its conditions say: ready, serving or terminating, a gateway may dial it. */
static int decode_endpoint(struct decoder *decoder, const struct path *where, const json_t *map,
                           const char *slice_namespace, bool v4, struct endpoint *endpoints, size_t *count)
{
	struct path addresses_path = path_key(where, "addresses");
	const json_t *addresses, *item;
	size_t index;
	const char *pod;
	bool own_pod;
	int result;

	if ((result = value_map(decoder, where, map)) < 0 ||
	    (result = field_list(decoder, where, map, "addresses", REQUIRED, SLICE_MAX_ENDPOINT_ADDRESSES,
	                         &addresses)) < 0 ||
	    (result = decode_own_pod(decoder, where, map, slice_namespace, &own_pod, &pod)) < 0)
		return result;
	json_array_foreach (addresses, index, item) {
		struct path here = path_index(&addresses_path, index);

		endpoints[*count].own_pod = own_pod;
		endpoints[*count].pod = pod;
		result = decode_endpoint_address(decoder, &here, item, v4, &endpoints[*count]);
		if (result < 0)
			return result;
		(*count)++;
	}
	return 0;
}

static int decode_endpoints(struct decoder *decoder, const json_t *document, bool v4, struct object *object)
{
	struct path root = {0}, where = path_key(&root, "endpoints");
	struct endpoint_slice *slice = &object->endpoint_slice;
	const json_t *list, *item;
	struct endpoint *endpoints;
	size_t index, addresses, count = 0;
	int result = field_list(decoder, &root, document, "endpoints", OPTIONAL, SLICE_MAX_ENDPOINTS, &list);

	if (result < 0 || !list)
		return result;
	addresses = count_addresses(list);
	if (addresses * slice->port_count > SLICE_MAX_DESTINATIONS)
		return refuse_field(decoder, &where, "%zu addresses with %zu ports each are more than %d destinations",
		                    addresses, slice->port_count, SLICE_MAX_DESTINATIONS);
	endpoints = arena_alloc(decoder->arena, addresses, sizeof(*endpoints));
	if (!endpoints)
		return -ENOMEM;
	json_array_foreach (list, index, item) {
		struct path here = path_index(&where, index);

		result = decode_endpoint(decoder, &here, item, object->namespace_, v4, endpoints, &count);
		if (result < 0)
			return result;
	}
	slice->endpoints = endpoints;
	slice->endpoint_count = count;
	return 0;
}

int decode_endpoint_slice(struct decoder *decoder, const json_t *document, struct object *object)
{
	struct path root = {0}, type_path = path_key(&root, "addressType");
	const char *type;
	char shown[PRINTABLE_MAX];
	bool v4;
	int result;

	if ((result = decode_labels(decoder, document, &object->endpoint_slice)) < 0 ||
	    (result = field_borrow(decoder, &root, document, "addressType", REQUIRED, &type)) < 0)
		return result;
	v4 = !strcmp(type, "IPv4");
	object->endpoint_slice.fqdn = !strcmp(type, "FQDN");
	if (!v4 && !object->endpoint_slice.fqdn && strcmp(type, "IPv6"))
		return refuse_field(decoder, &type_path, "must be IPv4, IPv6 or FQDN, not \"%s\"",
		                    printable(type, shown));
	result = field_items(decoder, &root, document, "ports", OPTIONAL, SLICE_MAX_PORTS, &slice_port_item,
	                     &object->endpoint_slice.ports, &object->endpoint_slice.port_count);
	if (result < 0 || object->endpoint_slice.fqdn)
		return result;
	return decode_endpoints(decoder, document, v4, object);
}
