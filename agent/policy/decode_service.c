// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/printable.h"
#include "policy/decode_kinds.h"
#include "policy/names.h"

#define SERVICE_MAX_PORTS       1000
#define SERVICE_MAX_CLUSTER_IPS 2 /* one per IP family */
#define SERVICE_MAX_EXTERNAL    1000

int decode_protocol(struct decoder *decoder, const struct path *where, const json_t *map,
                    enum transport_protocol *protocol)
{
	struct path here = path_key(where, "protocol");
	const char *text;
	char shown[PRINTABLE_MAX];
	int result = field_borrow(decoder, where, map, "protocol", OPTIONAL, &text);

	if (result < 0)
		return result;
	*protocol = TRANSPORT_TCP;
	if (!text || !strcmp(text, "TCP"))
		return 0;
	if (!strcmp(text, "UDP"))
		*protocol = TRANSPORT_UDP;
	else if (!strcmp(text, "SCTP"))
		*protocol = TRANSPORT_SCTP;
	else
		return refuse_field(decoder, &here, "must be TCP, UDP or SCTP, not \"%s\"", printable(text, shown));
	return 0;
}

static bool is_unicast(const struct postern_address *address)
{
	static const struct postern_address unspecified_v6;
	const unsigned char *byte = address->byte;

	if (address_is_v4(address))
		return byte[12] < 224 && (byte[12] || byte[13] || byte[14] || byte[15]);
	return byte[0] != 0xff && !address_equal(address, &unspecified_v6);
}

int decode_address(struct decoder *decoder, const struct path *where, const json_t *value,
                   struct postern_address *address)
{
	const char *text;
	char shown[PRINTABLE_MAX];
	int result = value_borrow(decoder, where, value, &text);

	if (result < 0)
		return result;
	if (address_parse(text, address) < 0)
		return refuse_field(decoder, where, "must be an IP address, not \"%s\"", printable(text, shown));
	if (address_is_v4(address) && strchr(text, ':'))
		return refuse_field(decoder, where, "must not be an IPv4-mapped IPv6 address: \"%s\"",
		                    printable(text, shown));
	if (!is_unicast(address))
		return refuse_field(decoder, where, "must be a unicast address, not \"%s\"", printable(text, shown));
	return 0;
}

/* A whole number is the port itself, a string the name of a container's port. */
static int decode_target_port(struct decoder *decoder, const struct path *where, const json_t *map,
                              struct service_port *port)
{
	const json_t *value = json_object_get(map, "targetPort");
	json_int_t number = port->port;
	int result;

	if (json_is_string(value))
		return 0;
	result = field_integer(decoder, where, map, "targetPort", OPTIONAL, 0, UINT16_MAX, &number);
	if (result < 0)
		return result;
	port->target_port = (uint16_t)(number ? number : port->port); /* 0 is "not set" */
	return 0;
}

static int decode_port(struct decoder *decoder, const struct path *where, const json_t *map, struct service_port *port)
{
	struct path name_path = path_key(where, "name");
	json_int_t number = 0, node_port = 0;
	char shown[PRINTABLE_MAX];
	int result;

	if ((result = value_map(decoder, where, map)) < 0 ||
	    (result = field_string(decoder, where, map, "name", OPTIONAL, &port->name)) < 0 ||
	    (result = decode_protocol(decoder, where, map, &port->protocol)) < 0 ||
	    (result = field_integer(decoder, where, map, "port", REQUIRED, 1, UINT16_MAX, &number)) < 0 ||
	    (result = field_integer(decoder, where, map, "nodePort", OPTIONAL, 0, UINT16_MAX, &node_port)) < 0 ||
	    (result = field_string(decoder, where, map, "appProtocol", OPTIONAL, &port->app_protocol)) < 0)
		return result;
	port->port = (uint16_t)number;
	port->node_port = (uint16_t)node_port;
	port->name = port->name ? port->name : "";
	port->app_protocol = port->app_protocol ? port->app_protocol : "";
	if (*port->name && !is_dns_label(port->name))
		return refuse_field(decoder, &name_path, "must be a DNS label (RFC 1123), not \"%s\"",
		                    printable(port->name, shown));
	return decode_target_port(decoder, where, map, port);
}

static int check_unique(struct decoder *decoder, const struct path *where, const struct service_port *ports,
                        size_t index)
{
	struct path item = path_index(where, index);
	struct path name = path_key(&item, "name");

	for (size_t other = 0; other < index; other++) {
		if (!strcmp(ports[index].name, ports[other].name))
			return refuse_field(decoder, &name, "must differ from that of ports[%zu]", other);
		if (ports[index].port == ports[other].port && ports[index].protocol == ports[other].protocol)
			return refuse_field(decoder, &item, "has the port and protocol of ports[%zu]", other);
	}
	return 0;
}

static int decode_ports(struct decoder *decoder, const struct path *spec_path, const json_t *spec,
                        struct service *service)
{
	struct path where = path_key(spec_path, "ports");
	struct service_port *ports;
	const json_t *list, *item;
	size_t index;
	int result = field_list(decoder, spec_path, spec, "ports", OPTIONAL, SERVICE_MAX_PORTS, &list);

	if (result < 0 || !list)
		return result;
	ports = arena_alloc(decoder->arena, json_array_size(list), sizeof(*ports));
	if (!ports)
		return -ENOMEM;
	json_array_foreach (list, index, item) {
		struct path here = path_index(&where, index);

		if ((result = decode_port(decoder, &here, item, &ports[index])) < 0 ||
		    (result = check_unique(decoder, &where, ports, index)) < 0)
			return result;
	}
	service->ports = ports;
	service->port_count = json_array_size(list);
	return 0;
}

static bool is_no_address(const json_t *value)
{
	const char *text = json_string_value(value);

	return text && (!*text || !strcmp(text, "None"));
}

static int decode_cluster_ips(struct decoder *decoder, const struct path *spec_path, const json_t *spec,
                              struct service *service)
{
	struct path list_path = path_key(spec_path, "clusterIPs"), single_path = path_key(spec_path, "clusterIP");
	const json_t *single = json_object_get(spec, "clusterIP"), *list, *item;
	struct postern_address address;
	struct postern_address *addresses = arena_alloc(decoder->arena, SERVICE_MAX_CLUSTER_IPS,
	                                                sizeof(struct postern_address));
	size_t index, count = 0;
	int result;

	if (!addresses)
		return -ENOMEM;
	result = field_list(decoder, spec_path, spec, "clusterIPs", OPTIONAL, SERVICE_MAX_CLUSTER_IPS, &list);
	if (result < 0)
		return result;
	json_array_foreach (list, index, item) {
		struct path here = path_index(&list_path, index);

		if (is_no_address(item))
			continue;
		result = decode_address(decoder, &here, item, &addresses[count]);
		if (result < 0)
			return result;
		count++;
	}
	if (single && !json_is_null(single) && !is_no_address(single)) {
		result = decode_address(decoder, &single_path, single, &address);
		if (result < 0)
			return result;
		if (count && !address_equal(&address, &addresses[0]))
			return refuse_field(decoder, &single_path, "must be the first of clusterIPs");
		addresses[0] = address;
		count = count ? count : 1;
	}
	/* The API server's rule as well (ValidateService): kube-proxy answers nowhere for such a Service. */
	if (service->external_name && count)
		return refuse_field(decoder, json_array_size(list) ? &list_path : &single_path,
		                    "must not be set: the Service is of type ExternalName");
	service->cluster_ips = addresses;
	service->cluster_ip_count = count;
	return 0;
}

struct address_list {
	struct postern_address *items;
	size_t count;
};

static int decode_external_ips(struct decoder *decoder, const struct path *where, const json_t *list,
                               struct address_list *addresses)
{
	const json_t *item;
	size_t index;

	json_array_foreach (list, index, item) {
		struct path here = path_index(where, index);
		int result = decode_address(decoder, &here, item, &addresses->items[addresses->count]);

		if (result < 0)
			return result;
		addresses->count++;
	}
	return 0;
}

/* Others write the status: what is no address there (a load balancer may be known by name only) is let be. */
static void take_ingress(const json_t *list, struct address_list *addresses)
{
	const json_t *item;
	size_t index;

	json_array_foreach (list, index, item) {
		const char *text = json_string_value(json_object_get(item, "ip"));
		struct postern_address *address = &addresses->items[addresses->count];

		addresses->count += text && address_parse(text, address) == 0 && is_unicast(address);
	}
}

/* The addresses outside of the cluster's own, at which kube-proxy answers, for pods as well. */
static int decode_external(struct decoder *decoder, const struct path *spec_path, const json_t *spec,
                           const json_t *document, struct service *service)
{
	struct path where = path_key(spec_path, "externalIPs");
	const json_t *status = json_object_get(document, "status"), *ips;
	const json_t *ingress = json_object_get(json_object_get(status, "loadBalancer"), "ingress");
	struct address_list addresses = {0};
	int result = field_list(decoder, spec_path, spec, "externalIPs", OPTIONAL, SERVICE_MAX_EXTERNAL, &ips);

	if (result < 0 || (!json_array_size(ips) && !json_array_size(ingress)))
		return result;
	addresses.items = arena_alloc(decoder->arena, json_array_size(ips) + json_array_size(ingress),
	                              sizeof(*addresses.items));
	if (!addresses.items)
		return -ENOMEM;
	result = decode_external_ips(decoder, &where, ips, &addresses);
	if (result < 0)
		return result;
	take_ingress(ingress, &addresses);
	service->external_ips = addresses.items;
	service->external_ip_count = addresses.count;
	return 0;
}

int decode_service(struct decoder *decoder, const json_t *document, struct object *object)
{
	static const char *const types[] = {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"};
	struct path root = {0}, spec_path = path_key(&root, "spec"), type_path = path_key(&spec_path, "type");
	const json_t *spec;
	const char *type;
	char shown[PRINTABLE_MAX];
	bool known = false;
	int result;

	if ((result = field_map(decoder, &root, document, "spec", REQUIRED, &spec)) < 0 ||
	    (result = field_borrow(decoder, &spec_path, spec, "type", OPTIONAL, &type)) < 0)
		return result;
	type = type ? type : types[0];
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		known |= !strcmp(type, types[i]);
	if (!known)
		return refuse_field(decoder, &type_path,
		                    "must be ClusterIP, NodePort, LoadBalancer or ExternalName, not \"%s\"",
		                    printable(type, shown));
	object->service.external_name = !strcmp(type, "ExternalName");
	if ((result = decode_cluster_ips(decoder, &spec_path, spec, &object->service)) < 0 ||
	    (result = decode_external(decoder, &spec_path, spec, document, &object->service)) < 0)
		return result;
	return decode_ports(decoder, &spec_path, spec, &object->service);
}
