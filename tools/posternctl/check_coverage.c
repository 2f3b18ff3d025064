/* SPDX-License-Identifier: GPL-2.0-only */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/sorted.h"
#include "check.h"
#include "observe/json.h"
#include "policy/object.h"
#include "policy/snapshot.h"
#include "policy/store.h"
#include "policy/targets.h"
#include "policy/vector.h"

#define MAX_TARGETS 16 /* a policy with more is invalid */

/* One Service, or one port of it, that a policy in force names. */
struct target {
	const char *service;
	const char *section; /* "": the whole Service */
	const struct object *policy;
};

struct coverage_index {
	const struct object_store *store;
	const struct snapshot *snapshot;
	struct target *targets; /* by namespace, Service and section, then as Gateway API's precedence has it */
	size_t target_count, target_capacity;
	const struct object **slices; /* by namespace and Service */
	size_t slice_count;
};

struct key_list {
	struct postern_destination_key *keys;
	size_t count, capacity;
};

/* The policies of one name are equal here. */
static int compare_names(const void *left_pointer, const void *right_pointer)
{
	const struct target *left = left_pointer, *right = right_pointer;
	int order = strcmp(left->policy->namespace_, right->policy->namespace_);

	order = order ? order : strcmp(left->service, right->service);
	return order ? order : strcmp(left->section, right->section);
}

static int compare_targets(const void *left_pointer, const void *right_pointer)
{
	const struct target *left = left_pointer, *right = right_pointer;
	int order = compare_names(left, right);

	return order ? order : compare_precedence(left->policy, right->policy);
}

static int index_targets(struct coverage_index *index)
{
	for (size_t i = 0; i < object_store_count(index->store, OBJECT_BACKEND_TLS_POLICY); i++) {
		const struct object *policy = object_store_at(index->store, OBJECT_BACKEND_TLS_POLICY, i);
		const struct backend_tls_policy *spec = &policy->backend_tls_policy;

		for (size_t j = 0; j < spec->target_count; j++) {
			const struct target_reference *target = &spec->targets[j];

			if (!is_service_target(target))
				continue;
			if (vector_reserve(&index->targets, index->target_count, &index->target_capacity,
			                   sizeof(*index->targets)) < 0)
				return -ENOMEM;
			index->targets[index->target_count++] = (struct target){
			        .service = target->name,
			        .section = target_section(target),
			        .policy = policy,
			};
		}
	}
	sort_list(index->targets, index->target_count, sizeof(*index->targets), compare_targets);
	return 0;
}

static int compare_slice_to(const struct object *slice, const char *namespace_, const char *service)
{
	int order = strcmp(slice->namespace_, namespace_);

	return order ? order : strcmp(slice->endpoint_slice.service, service);
}

static int compare_slices(const void *left_pointer, const void *right_pointer)
{
	const struct object *const *left = left_pointer, *const *right = right_pointer;

	return compare_slice_to(*left, (*right)->namespace_, (*right)->endpoint_slice.service);
}

static int index_slices(struct coverage_index *index)
{
	size_t count = object_store_count(index->store, OBJECT_ENDPOINT_SLICE);

	index->slices = calloc(count + 1, sizeof(const struct object *));
	if (!index->slices)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		index->slices[index->slice_count++] = object_store_at(index->store, OBJECT_ENDPOINT_SLICE, i);
	sort_list(index->slices, count, sizeof(const struct object *), compare_slices);
	return 0;
}

struct coverage_index *coverage_index_new(const struct object_store *store, const struct snapshot *snapshot)
{
	struct coverage_index *index = calloc(1, sizeof(*index));

	if (!index)
		return NULL;
	index->store = store;
	index->snapshot = snapshot;
	if (index_targets(index) == 0 && index_slices(index) == 0)
		return index;
	coverage_index_free(index);
	return NULL;
}

void coverage_index_free(struct coverage_index *index)
{
	if (!index)
		return;
	free(index->targets);
	free(index->slices);
	free(index);
}

/* The policy that wins a Service (section "") or a port of it; NULL: none names it. */
static const struct object *find_winner(const struct coverage_index *index, const char *namespace_, const char *service,
                                        const char *section)
{
	const struct object policy = {.namespace_ = namespace_};
	const struct target wanted = {.policy = &policy, .service = service, .section = section};
	bool found;
	size_t place = place_sorted(&wanted, index->targets, index->target_count, sizeof(wanted), compare_names,
	                            &found);

	return found ? index->targets[place].policy : NULL;
}

static bool is_won_by(const struct coverage_index *index, const struct object *service, const char *port_name,
                      const struct object *policy)
{
	const struct object *winner = NULL;

	if (*port_name)
		winner = find_winner(index, service->namespace_, service->name, port_name);
	if (!winner)
		winner = find_winner(index, service->namespace_, service->name, "");
	return winner == policy;
}

static size_t first_slice(const struct coverage_index *index, const struct object *service)
{
	const struct object wanted = {.namespace_ = service->namespace_, .endpoint_slice.service = service->name};
	const struct object *key = &wanted;

	return first_sorted(&key, index->slices, index->slice_count, sizeof(key), compare_slices);
}

static int add_key(struct key_list *list, const struct postern_address *address, uint16_t port)
{
	if (vector_reserve(&list->keys, list->count, &list->capacity, sizeof(*list->keys)) < 0)
		return -ENOMEM;
	list->keys[list->count++] = destination_key(address, port);
	return 0;
}

static int add_endpoints(struct key_list *list, const struct endpoint_slice *slice, uint16_t port)
{
	for (size_t i = 0; i < slice->endpoint_count; i++)
		if (add_key(list, &slice->endpoints[i].address, port) < 0)
			return -ENOMEM;
	return 0;
}

/* A slice without ports stands for every port. */
static int add_slice(struct key_list *list, const struct endpoint_slice *slice, const struct service_port *port)
{
	if (!slice->port_count)
		return add_endpoints(list, slice, 0);
	for (size_t i = 0; i < slice->port_count; i++)
		if (slice->ports[i].protocol == TRANSPORT_TCP && !strcmp(slice->ports[i].name, port->name) &&
		    add_endpoints(list, slice, slice->ports[i].port) < 0)
			return -ENOMEM;
	return 0;
}

static int compare_keys(const void *left, const void *right)
{
	return memcmp(left, right, sizeof(struct postern_destination_key));
}

static void make_distinct(struct key_list *list)
{
	size_t distinct = 0;

	sort_list(list->keys, list->count, sizeof(*list->keys), compare_keys);
	for (size_t i = 0; i < list->count; i++)
		if (!i || compare_keys(&list->keys[i - 1], &list->keys[i]))
			list->keys[distinct++] = list->keys[i];
	list->count = distinct;
}

static bool is_slice_of(const struct coverage_index *index, size_t slice, const struct object *service)
{
	return slice < index->slice_count &&
	       !compare_slice_to(index->slices[slice], service->namespace_, service->name);
}

static int gather_endpoints(const struct coverage_index *index, const struct object *service,
                            const struct service_port *port, struct key_list *list)
{
	for (size_t i = first_slice(index, service); is_slice_of(index, i, service); i++)
		if (add_slice(list, &index->slices[i]->endpoint_slice, port) < 0)
			return -ENOMEM;
	return 0;
}

/* NULL: any TCP port. */
static bool has_tcp_port(const struct service *service, const char *name)
{
	for (size_t i = 0; i < service->port_count; i++)
		if (service->ports[i].protocol == TRANSPORT_TCP && (!name || !strcmp(service->ports[i].name, name)))
			return true;
	return false;
}

/* Ports that slices have and the Service has not: whoever dials them finds them covered, too. */
static int gather_other_endpoints(const struct coverage_index *index, const struct object *service,
                                  const struct object *policy, struct key_list *list)
{
	for (size_t i = first_slice(index, service); is_slice_of(index, i, service); i++) {
		const struct endpoint_slice *slice = &index->slices[i]->endpoint_slice;

		if (!slice->port_count && !has_tcp_port(&service->service, NULL) &&
		    is_won_by(index, service, "", policy) && add_endpoints(list, slice, 0) < 0)
			return -ENOMEM;
		for (size_t j = 0; j < slice->port_count; j++)
			if (slice->ports[j].protocol == TRANSPORT_TCP &&
			    !has_tcp_port(&service->service, slice->ports[j].name) &&
			    is_won_by(index, service, slice->ports[j].name, policy) &&
			    add_endpoints(list, slice, slice->ports[j].port) < 0)
				return -ENOMEM;
	}
	return 0;
}

struct port_document {
	json_t *addresses;
	const struct tls_settings *settings;
};

/* The class is what the address is to this Service: it may be another's ClusterIP, which then decides. */
static void add_address(const struct coverage_index *index, const struct postern_destination_key *key,
                        const char *class, struct port_document *document)
{
	const struct destination *destination = snapshot_find(index->snapshot, key);
	json_t *address;

	if (!destination)
		return;
	if (destination->verdict == POSTERN_VERDICT_TLS && !document->settings)
		document->settings = snapshot_settings(index->snapshot, destination->settings_id);
	address = destination_document(destination);
	json_set(&address, "class", json_string(class));
	json_append(&document->addresses, address);
}

static void add_addresses(const struct coverage_index *index, const struct postern_address *addresses, size_t count,
                          uint16_t port, const char *class, struct port_document *document)
{
	for (size_t i = 0; i < count; i++) {
		struct postern_destination_key key = destination_key(&addresses[i], port);

		add_address(index, &key, class, document);
	}
}

/* port is NULL for what is no port of the Service's. */
static json_t *describe_port(const struct coverage_index *index, const struct object *service,
                             const struct service_port *port, const struct key_list *endpoints)
{
	struct port_document document = {.addresses = json_array()};

	if (port) {
		add_addresses(index, service->service.cluster_ips, service->service.cluster_ip_count, port->port, "vip",
		              &document);
		add_addresses(index, service->service.external_ips, service->service.external_ip_count, port->port,
		              "external", &document);
	}
	for (size_t i = 0; i < endpoints->count; i++)
		add_address(index, &endpoints->keys[i], "endpoint", &document);
	return json_pack("{s:o, s:i, s:s, s:o}", "name", json_text(port ? port->name : ""), "port",
	                 port ? port->port : 0, "alpn", document.settings ? alpn_text(document.settings->alpn) : "",
	                 "addresses", document.addresses);
}

static json_t *cover_port(const struct coverage_index *index, const struct object *service,
                          const struct service_port *port, size_t *endpoint_count)
{
	struct key_list endpoints = {0};
	json_t *document = NULL;

	if (gather_endpoints(index, service, port, &endpoints) == 0) {
		make_distinct(&endpoints);
		*endpoint_count += endpoints.count;
		document = describe_port(index, service, port, &endpoints);
	}
	free(endpoints.keys);
	return document;
}

static void cover_other_ports(const struct coverage_index *index, const struct object *service,
                              const struct object *policy, size_t *endpoint_count, json_t **ports)
{
	struct key_list endpoints = {0};

	if (gather_other_endpoints(index, service, policy, &endpoints) < 0)
		json_append(ports, NULL);
	make_distinct(&endpoints);
	*endpoint_count += endpoints.count;
	if (endpoints.count)
		json_append(ports, describe_port(index, service, NULL, &endpoints));
	free(endpoints.keys);
}

static json_t *cover_service(const struct coverage_index *index, const struct object *service,
                             const struct object *policy, size_t *endpoint_count)
{
	json_t *ports = json_array();

	for (size_t i = 0; i < service->service.port_count; i++) {
		const struct service_port *port = &service->service.ports[i];

		if (port->protocol == TRANSPORT_TCP && is_won_by(index, service, port->name, policy))
			json_append(&ports, cover_port(index, service, port, endpoint_count));
	}
	cover_other_ports(index, service, policy, endpoint_count, &ports);
	return json_pack("{s:o, s:o, s:o}", "namespace", json_text(service->namespace_), "name",
	                 json_text(service->name), "ports", ports);
}

json_t *covered_services(const struct coverage_index *index, const struct object *policy, size_t *endpoints)
{
	const struct backend_tls_policy *spec = &policy->backend_tls_policy;
	json_t *services = json_array();

	*endpoints = 0;
	for (size_t i = 0; i < spec->target_count && i < MAX_TARGETS; i++) {
		const struct object *service;

		if (!is_service_target(&spec->targets[i]) || is_repeated_target(spec, i, false))
			continue;
		service = object_store_find(index->store, OBJECT_SERVICE, policy->namespace_, spec->targets[i].name);
		if (service)
			json_append(&services, cover_service(index, service, policy, endpoints));
	}
	return services;
}
