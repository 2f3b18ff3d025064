// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <string.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "policy/decode_kinds.h"

#define POD_MAX_ADDRESSES  16 /* Kubernetes gives one per IP family */
#define POD_MAX_LABELS     1024
#define POD_MAX_CONTAINERS 256
#define POD_MAX_PORTS      1024 /* of a container */

/* How the gate's init container is called in deploy/: so whoever sees the pod knows whether it waits for its hooks. */
#define GATE_CONTAINER "postern-gate"
/* The condition that postern-controller may be asked for. */
#define READINESS_GATE "postern.dev/enrolled"

static int decode_addresses(struct decoder *decoder, const struct path *status_path, const json_t *status,
                            struct pod *pod)
{
	struct path list_path = path_key(status_path, "podIPs"), single_path = path_key(status_path, "podIP");
	const json_t *single = json_object_get(status, "podIP"), *list, *item;
	struct postern_address *addresses;
	size_t index;
	int result = field_list(decoder, status_path, status, "podIPs", OPTIONAL, POD_MAX_ADDRESSES, &list);

	if (result < 0)
		return result;
	addresses = arena_alloc(decoder->arena, json_array_size(list) + 1, sizeof(*addresses));
	if (!addresses)
		return -ENOMEM;
	json_array_foreach (list, index, item) {
		struct path here = path_index(&list_path, index), address_path = path_key(&here, "ip");

		if ((result = value_map(decoder, &here, item)) < 0 ||
		    (result = decode_address(decoder, &address_path, json_object_get(item, "ip"), &addresses[index])) <
		            0)
			return result;
	}
	pod->addresses = addresses;
	pod->address_count = json_array_size(list);
	if (pod->address_count || !single || json_is_null(single) ||
	    (json_is_string(single) && !json_string_length(single)))
		return 0;
	pod->address_count = 1;
	return decode_address(decoder, &single_path, single, &addresses[0]);
}

/* ---- metadata ---- */

static int decode_labels(struct decoder *decoder, const json_t *document, struct pod *pod)
{
	struct path root = {0}, metadata_path = path_key(&root, "metadata"),
	            labels_path = path_key(&metadata_path, "labels");
	json_t *labels = json_object_get(json_object_get(document, "metadata"), "labels"), *value;
	struct pod_label *made;
	const char *key;

	/* That it is a map was seen with the gateway's own label. */
	if (json_object_size(labels) > POD_MAX_LABELS)
		return refuse_field(decoder, &labels_path, "has more than %d labels", POD_MAX_LABELS);
	made = arena_alloc(decoder->arena, json_object_size(labels), sizeof(*made));
	if (!made)
		return -ENOMEM;
	json_object_foreach (labels, key, value) {
		struct path here = path_key(&labels_path, key);
		struct pod_label *label = &made[pod->label_count];
		int result;

		if (json_is_null(value))
			continue;
		result = value_string(decoder, &here, value, &label->value);
		if (result < 0)
			return result;
		label->key = arena_strdup(decoder->arena, key);
		if (!label->key)
			return -ENOMEM;
		pod->label_count++;
	}
	pod->labels = made;
	return 0;
}

static int decode_annotations(struct decoder *decoder, const json_t *document, struct pod *pod)
{
	const char *force;
	const struct {
		const char *key;
		const char **value;
	} known[] = {
	        {"postern.dev/gateway", &pod->gateway_annotation},
	        {"postern.dev/mode", &pod->mode},
	        {"postern.dev/force", &force},
	        {"kubernetes.io/config.hash", &pod->config_hash},
	};
	int result = 0;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && result == 0; i++)
		result = decode_metadata_string(decoder, document, "annotations", known[i].key, known[i].value);
	if (result == 0)
		pod->force = strcmp(force, "true") == 0;
	return result;
}

/* ---- spec ---- */

static int optional_text(struct decoder *decoder, const struct path *where, const json_t *map, const char *key,
                         const char **text)
{
	int result = field_string(decoder, where, map, key, OPTIONAL, text);

	*text = *text ? *text : "";
	return result;
}

static int count_of(struct decoder *decoder, const struct path *where, const json_t *map, const char *key,
                    const json_t **list, size_t *count)
{
	int result = field_list(decoder, where, map, key, OPTIONAL, POD_MAX_CONTAINERS, list);

	*count = json_array_size(*list);
	return result;
}

/* Does an item of the list have this text at the key? */
static int decode_named(struct decoder *decoder, const struct path *spec_path, const json_t *spec, const char *list_key,
                        const char *key, const char *wanted, bool *is_there)
{
	const json_t *list, *item;
	size_t count, index;
	int result = count_of(decoder, spec_path, spec, list_key, &list, &count);

	if (result < 0)
		return result;
	json_array_foreach (list, index, item) {
		const char *text = json_string_value(json_object_get(item, key));

		*is_there |= text && strcmp(text, wanted) == 0;
	}
	return 0;
}

/*
 * On an address that is not loopback it meets no listener of the agent's: those are on loopback alone. What is no
 * address may be any.
 */
static bool leaves_loopback_alone(const char *host_ip)
{
	static const struct postern_address any_v6, any_v4 = {.byte = {[10] = 0xff, [11] = 0xff}};
	struct postern_address address;

	return host_ip && host_ip[0] && address_parse(host_ip, &address) == 0 && !address_is_loopback(&address) &&
	       !address_equal(&address, &any_v4) && !address_equal(&address, &any_v6);
}

static int decode_host_port(struct decoder *decoder, const struct path *where, const json_t *item, uint16_t *ports,
                            size_t *count)
{
	enum transport_protocol protocol = TRANSPORT_TCP;
	const char *host_ip = NULL;
	json_int_t port = 0;
	int result;

	if ((result = value_map(decoder, where, item)) < 0 ||
	    (result = decode_protocol(decoder, where, item, &protocol)) < 0 ||
	    (result = field_integer(decoder, where, item, "hostPort", OPTIONAL, 0, UINT16_MAX, &port)) < 0 ||
	    (result = field_string(decoder, where, item, "hostIP", OPTIONAL, &host_ip)) < 0)
		return result;
	if (protocol == TRANSPORT_TCP && port && !leaves_loopback_alone(host_ip))
		ports[(*count)++] = (uint16_t)port;
	return 0;
}

static bool runs_on(const json_t *container)
{
	const char *policy = json_string_value(json_object_get(container, "restartPolicy"));

	return policy && strcmp(policy, "Always") == 0;
}

/* Room for all of them is there. Of init containers those alone that run on (sidecars), as the scheduler counts. */
static int decode_ports_of(struct decoder *decoder, const struct path *spec_path, const json_t *spec, const char *key,
                           bool init, uint16_t *ports, size_t *used)
{
	struct path list_path = path_key(spec_path, key);
	const json_t *containers, *container, *item;
	size_t count, index, place;
	int result = count_of(decoder, spec_path, spec, key, &containers, &count);

	if (result < 0)
		return result;
	json_array_foreach (containers, index, container) {
		struct path here = path_index(&list_path, index), ports_path = path_key(&here, "ports");
		const json_t *list;

		if ((result = value_map(decoder, &here, container)) < 0 ||
		    (result = field_list(decoder, &here, container, "ports", OPTIONAL, POD_MAX_PORTS, &list)) < 0)
			return result;
		if (init && !runs_on(container))
			continue;
		json_array_foreach (list, place, item) {
			struct path port_path = path_index(&ports_path, place);

			result = decode_host_port(decoder, &port_path, item, ports, used);
			if (result < 0)
				return result;
		}
	}
	return 0;
}

static int decode_host_ports(struct decoder *decoder, const struct path *spec_path, const json_t *spec, struct pod *pod)
{
	static const struct {
		const char *key;
		bool init;
	} lists[] = {{"containers", false}, {"initContainers", true}};
	const json_t *container;
	size_t index, room = 0;
	uint16_t *ports;
	int result = 0;

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		json_array_foreach (json_object_get(spec, lists[i].key), index, container)
			room += json_array_size(json_object_get(container, "ports"));
	}
	ports = arena_alloc(decoder->arena, room, sizeof(*ports));
	if (!ports)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(lists) && result == 0; i++)
		result = decode_ports_of(decoder, spec_path, spec, lists[i].key, lists[i].init, ports,
		                         &pod->host_port_count);
	pod->host_ports = ports;
	return result;
}

static int decode_pod_spec(struct decoder *decoder, const json_t *document, struct pod *pod)
{
	struct path root = {0}, spec_path = path_key(&root, "spec");
	const json_t *spec;
	int result = field_map(decoder, &root, document, "spec", OPTIONAL, &spec);

	pod->node_name = pod->runtime_class = "";
	if (result < 0 || !spec)
		return result;
	if ((result = field_boolean(decoder, &spec_path, spec, "hostNetwork", &pod->host_network)) < 0 ||
	    (result = optional_text(decoder, &spec_path, spec, "nodeName", &pod->node_name)) < 0 ||
	    (result = optional_text(decoder, &spec_path, spec, "runtimeClassName", &pod->runtime_class)) < 0 ||
	    (result = decode_named(decoder, &spec_path, spec, "initContainers", "name", GATE_CONTAINER, &pod->gated)) <
	            0 ||
	    (result = decode_named(decoder, &spec_path, spec, "readinessGates", "conditionType", READINESS_GATE,
	                           &pod->readiness_gated)) < 0)
		return result;
	return decode_host_ports(decoder, &spec_path, spec, pod);
}

/* ---- status ---- */

/* {running: ...}, {terminated: ...} or {waiting: ...}, now and before. */
static bool has_run(const json_t *status)
{
	const json_t *state = json_object_get(status, "state"), *last = json_object_get(status, "lastState");

	return json_object_get(state, "running") || json_object_get(state, "terminated") ||
	       json_object_get(last, "terminated");
}

static int decode_statuses(struct decoder *decoder, const struct path *status_path, const json_t *status,
                           const char *key, const char **ids, struct pod *pod)
{
	struct path list_path = path_key(status_path, key);
	const json_t *list, *item;
	size_t count, index;
	int result = count_of(decoder, status_path, status, key, &list, &count);

	if (result < 0)
		return result;
	json_array_foreach (list, index, item) {
		struct path here = path_index(&list_path, index);
		const char *id;

		if ((result = value_map(decoder, &here, item)) < 0 ||
		    (result = optional_text(decoder, &here, item, "containerID", &id)) < 0)
			return result;
		if (id[0])
			ids[pod->container_id_count++] = id;
		pod->started |= strcmp(key, "containerStatuses") == 0 && has_run(item);
	}
	return 0;
}

static int decode_containers(struct decoder *decoder, const struct path *status_path, const json_t *status,
                             struct pod *pod)
{
	static const char *const keys[] = {"initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"};
	const char **ids;
	size_t room = 0;

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		room += json_array_size(json_object_get(status, keys[i]));
	ids = arena_alloc(decoder->arena, room, sizeof(*ids));
	if (!ids)
		return -ENOMEM;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		int result = decode_statuses(decoder, status_path, status, keys[i], ids, pod);

		if (result < 0)
			return result;
	}
	pod->container_ids = ids;
	return 0;
}

int decode_pod(struct decoder *decoder, const json_t *document, struct object *object)
{
	struct path root = {0}, status_path = path_key(&root, "status");
	struct pod *pod = &object->pod;
	const json_t *status;
	int result;

	pod->qos_class = pod->phase = "";
	if ((result = decode_metadata_string(decoder, document, "labels", "gateway.networking.k8s.io/gateway-name",
	                                     &pod->gateway_name)) < 0 ||
	    (result = decode_labels(decoder, document, pod)) < 0 ||
	    (result = decode_annotations(decoder, document, pod)) < 0 ||
	    (result = decode_pod_spec(decoder, document, pod)) < 0 ||
	    (result = field_map(decoder, &root, document, "status", OPTIONAL, &status)) < 0 || !status)
		return result;
	if ((result = optional_text(decoder, &status_path, status, "qosClass", &pod->qos_class)) < 0 ||
	    (result = optional_text(decoder, &status_path, status, "phase", &pod->phase)) < 0 ||
	    (result = decode_containers(decoder, &status_path, status, pod)) < 0)
		return result;
	return decode_addresses(decoder, &status_path, status, pod);
}
