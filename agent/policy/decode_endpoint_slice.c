// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <string.h>

#include "policy/decode_kinds.h"
#include "policy/text.h"

/* Kubernetes' own limits of the kind. */
#define SLICE_MAX_ENDPOINTS          1000
#define SLICE_MAX_ENDPOINT_ADDRESSES 100
#define SLICE_MAX_PORTS              100
#define SLICE_MAX_DESTINATIONS       100000 /* ours: addresses times ports */

static const char service_label[] = "kubernetes.io/service-name";
static const char managed_by_label[] = "endpointslice.kubernetes.io/managed-by";
static const char kubernetes_controller[] = "endpointslice-controller.k8s.io";

static int decode_labels(struct decoder *decoder, const json_t *document, struct endpoint_slice *slice)
{
	struct path root = {0}, metadata_path = path_key(&root, "metadata"),
	            labels_path = path_key(&metadata_path, "labels");
	const json_t *labels;
	const char *managed_by;
	int result = field_map(decoder, &metadata_path, json_object_get(document, "metadata"), "labels", OPTIONAL,
	                       &labels);

	slice->service = "";
	if (result < 0 || !labels)
		return result;
	if ((result = field_string(decoder, &labels_path, labels, service_label, OPTIONAL, &slice->service)) < 0 ||
	    (result = field_string(decoder, &labels_path, labels, managed_by_label, OPTIONAL, &managed_by)) < 0)
		return result;
	slice->service = slice->service ? slice->service : "";
	slice->managed = managed_by && !strcmp(managed_by, kubernetes_controller);
	return 0;
}

static int decode_slice_port(struct decoder *decoder, const struct path *where, const json_t *map,
                             struct slice_port *port)
{
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

static int decode_slice_ports(struct decoder *decoder, const json_t *document, struct endpoint_slice *slice)
{
	struct path root = {0}, where = path_key(&root, "ports");
	const json_t *list, *item;
	struct slice_port *ports;
	size_t index;
	int result = field_list(decoder, &root, document, "ports", OPTIONAL, SLICE_MAX_PORTS, &list);

	if (result < 0 || !list)
		return result;
	ports = arena_alloc(decoder->arena, json_array_size(list), sizeof(*ports));
	if (!ports)
		return -ENOMEM;
	json_array_foreach (list, index, item) {
		struct path here = path_index(&where, index);

		result = decode_slice_port(decoder, &here, item, &ports[index]);
		if (result < 0)
			return result;
	}
	slice->ports = ports;
	slice->port_count = json_array_size(list);
	return 0;
}

static int decode_own_pod(struct decoder *decoder, const struct path *where, const json_t *map,
                          const char *slice_namespace, bool *own_pod)
{
	struct path here = path_key(where, "targetRef");
	const json_t *target;
	const char *kind, *namespace_;
	int result = field_map(decoder, where, map, "targetRef", OPTIONAL, &target);

	*own_pod = false;
	if (result < 0 || !target)
		return result;
	if ((result = field_string(decoder, &here, target, "kind", OPTIONAL, &kind)) < 0 ||
	    (result = field_string(decoder, &here, target, "namespace", OPTIONAL, &namespace_)) < 0)
		return result;
	*own_pod = kind && !strcmp(kind, "Pod") && namespace_ && !strcmp(namespace_, slice_namespace);
	return 0;
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
	bool own_pod;
	int result;

	if ((result = value_map(decoder, where, map)) < 0 ||
	    (result = field_list(decoder, where, map, "addresses", REQUIRED, SLICE_MAX_ENDPOINT_ADDRESSES,
	                         &addresses)) < 0 ||
	    (result = decode_own_pod(decoder, where, map, slice_namespace, &own_pod)) < 0)
		return result;
	json_array_foreach (addresses, index, item) {
		struct path here = path_index(&addresses_path, index);

		endpoints[*count].own_pod = own_pod;
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
	    (result = field_string(decoder, &root, document, "addressType", REQUIRED, &type)) < 0)
		return result;
	v4 = !strcmp(type, "IPv4");
	object->endpoint_slice.fqdn = !strcmp(type, "FQDN");
	if (!v4 && !object->endpoint_slice.fqdn && strcmp(type, "IPv6"))
		return refuse_field(decoder, &type_path, "must be IPv4, IPv6 or FQDN, not \"%s\"",
		                    printable(type, shown));
	result = decode_slice_ports(decoder, document, &object->endpoint_slice);
	if (result < 0 || object->endpoint_slice.fqdn)
		return result;
	return decode_endpoints(decoder, document, v4, object);
}
