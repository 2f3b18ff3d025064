/* SPDX-License-Identifier: GPL-2.0-only */
#include "node/pod_gateways.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/printable.h"
#include "node/pod_selector.h"
#include "policy/gateways.h"
#include "policy/names.h"
#include "policy/object.h"
#include "policy/snapshot.h"
#include "policy/store.h"
#include "policy/vector.h"

const char *finding_reason_name(enum finding_reason reason)
{
	static const char *const names[FINDING_REASONS] = {
	        [FINDING_UNPROTECTED_GATEWAY_POD] = "UnprotectedGatewayPod",
	        [FINDING_START_RACE] = "StartRace",
	        [FINDING_GATEWAY_DOES_TLS] = "GatewayDoesBackendTLS",
	        [FINDING_INVALID_ANNOTATION] = "InvalidAnnotation",
	        [FINDING_HOST_PORT_CONFLICT] = "HostPortConflict",
	};

	return reason < FINDING_REASONS ? names[reason] : "unknown";
}

__attribute__((format(printf, 4, 5))) static int add_finding(struct pod_gateways *found, enum finding_reason reason,
                                                             const struct object *object, const char *format, ...)
{
	struct finding *finding;
	va_list arguments;

	if (vector_reserve(&found->findings, found->finding_count, &found->finding_capacity, sizeof(*finding)) != 0)
		return -ENOMEM;
	finding = &found->findings[found->finding_count];
	*finding = (struct finding){.reason = reason};
	va_start(arguments, format);
	if (vasprintf(&finding->message, format, arguments) == -1)
		finding->message = NULL;
	va_end(arguments);
	if (asprintf(&finding->object, "%s %s/%s", object_kind_name(object->kind), object->namespace_, object->name) ==
	    -1)
		finding->object = NULL;
	if (!finding->message || !finding->object) {
		free(finding->message);
		free(finding->object);
		return -ENOMEM;
	}
	found->finding_count++;
	return 0;
}

/* ---- its Gateways ---- */

struct references {
	struct object_name *at;
	size_t count, capacity;
};

static void free_references(struct references *references)
{
	for (size_t i = 0; i < references->count; i++) {
		free(references->at[i].namespace_);
		free(references->at[i].name);
	}
	free(references->at);
}

static int compare_names(const struct object_name *left, const char *namespace_, const char *name)
{
	int order = strcmp(left->namespace_, namespace_);

	return order ? order : strcmp(left->name, name);
}

/* In order, each once. */
static int add_reference(struct references *references, const char *namespace_, const char *name)
{
	struct object_name reference;
	size_t place = 0;

	while (place < references->count && compare_names(&references->at[place], namespace_, name) < 0)
		place++;
	if (place < references->count && compare_names(&references->at[place], namespace_, name) == 0)
		return 0;
	if (references->count == POD_GATEWAY_REFS_MAX)
		return 0;
	if (vector_reserve(&references->at, references->count, &references->capacity, sizeof(reference)) != 0)
		return -ENOMEM;
	reference = (struct object_name){.namespace_ = strdup(namespace_), .name = strdup(name)};
	if (!reference.namespace_ || !reference.name) {
		free(reference.namespace_);
		free(reference.name);
		return -ENOMEM;
	}
	memmove(&references->at[place + 1], &references->at[place],
	        (references->count - place) * sizeof(references->at[0]));
	references->at[place] = reference;
	references->count++;
	return 0;
}

/* "namespace/name" with blanks around it; the text is cut. False: it is none. */
static bool split_name(char *text, char **namespace_, char **name)
{
	char *slash;

	text += strspn(text, " \t");
	for (size_t length = strlen(text); length && strchr(" \t", text[length - 1]); length--)
		text[length - 1] = '\0';
	slash = strchr(text, '/');
	if (!slash)
		return false;
	*slash = '\0';
	*namespace_ = text;
	*name = slash + 1;
	return is_dns_label(*namespace_) && is_dns_subdomain(*name);
}

static int add_annotated(const struct object *pod, struct references *references, struct pod_gateways *found)
{
	_cleanup_free_ char *copy = strdup(pod->pod.gateway_annotation);
	char *rest = copy, *namespace_, *name;
	char shown[PRINTABLE_MAX];
	int result = copy ? 0 : -ENOMEM;

	if (!pod->pod.gateway_annotation[0])
		return result;
	for (char *part = strsep(&rest, ","); part && result == 0; part = strsep(&rest, ",")) {
		if (split_name(part, &namespace_, &name))
			result = add_reference(references, namespace_, name);
		else
			result = add_finding(found, FINDING_INVALID_ANNOTATION, pod,
			                     "annotation postern.dev/gateway \"%s\" is no list of namespace/name",
			                     printable(pod->pod.gateway_annotation, shown));
	}
	return result;
}

static bool is_adopted(const struct object_store *store, const struct object *gateway)
{
	const struct object *class = object_store_find(store, OBJECT_GATEWAY_CLASS, "", gateway->gateway.class_name);

	return class && strcmp(class->gateway_class.controller_name, GATEWAY_CONTROLLER_ADOPTED) == 0;
}

static int add_adopting(const struct object_store *store, const struct object *pod, struct references *references)
{
	int result = 0;

	for (size_t i = 0; i < object_store_count(store, OBJECT_GATEWAY) && result == 0; i++) {
		const struct object *gateway = object_store_at(store, OBJECT_GATEWAY, i);

		if (gateway->gateway.pod_selector[0] && strcmp(gateway->namespace_, pod->namespace_) == 0 &&
		    is_adopted(store, gateway) && pod_selector_selects(gateway->gateway.pod_selector, &pod->pod))
			result = add_reference(references, gateway->namespace_, gateway->name);
	}
	return result;
}

/* ---- how ---- */

static bool mode_of(const char *word, enum postern_gateway_mode *mode)
{
	*mode = strcmp(word, "observe") == 0 ? POSTERN_MODE_OBSERVE : POSTERN_MODE_ENFORCE;
	return !word[0] || *mode == POSTERN_MODE_OBSERVE || strcmp(word, "enforce") == 0;
}

static int complain_of_mode(const struct object *object, const char *word, struct pod_gateways *found)
{
	char shown[PRINTABLE_MAX];

	return add_finding(found, FINDING_INVALID_ANNOTATION, object,
	                   "annotation postern.dev/mode \"%s\" is neither enforce nor observe: enforce is in force",
	                   printable(word, shown));
}

/* Observe only if all say so: what one of them wants enforced is. */
static enum postern_gateway_mode mode_of_gateways(const struct object_store *store, const struct references *references)
{
	for (size_t i = 0; i < references->count; i++) {
		const struct object *gateway = object_store_find(store, OBJECT_GATEWAY, references->at[i].namespace_,
		                                                 references->at[i].name);
		enum postern_gateway_mode mode;

		(void)mode_of(gateway ? gateway->gateway.mode : "", &mode);
		if (mode == POSTERN_MODE_ENFORCE)
			return POSTERN_MODE_ENFORCE;
	}
	return POSTERN_MODE_OBSERVE;
}

/* Every Gateway that is known is of an implementation that does it. One that is not known says nothing. */
static bool does_backend_tls(const struct object_store *store, const struct references *references)
{
	bool does = false;

	for (size_t i = 0; i < references->count; i++) {
		const struct object *gateway = object_store_find(store, OBJECT_GATEWAY, references->at[i].namespace_,
		                                                 references->at[i].name);

		if (gateway && !gateway_does_backend_tls(store, gateway))
			return false;
		does |= gateway != NULL;
	}
	return does;
}

/* ---- one pod ---- */

bool pod_has_ended(const struct pod *pod)
{
	return strcmp(pod->phase, "Succeeded") == 0 || strcmp(pod->phase, "Failed") == 0;
}

static bool is_of_node(const struct pod *pod, const char *node)
{
	if (pod_has_ended(pod))
		return false;
	return !node[0] || strcmp(pod->node_name, node) == 0;
}

/* Takes the references. */
static int add_gateway(const struct object *pod, enum postern_gateway_mode mode, struct references *references,
                       struct pod_gateways *found)
{
	struct pod_gateway gateway = {.mode = mode};

	if (vector_reserve(&found->at, found->count, &found->capacity, sizeof(gateway)) != 0)
		return -ENOMEM;
	if (asprintf(&gateway.name, "%s/%s", pod->namespace_, pod->name) == -1)
		return -ENOMEM;
	gateway.pod = object_ref((struct object *)pod);
	gateway.refs = references->at;
	gateway.ref_count = references->count;
	*references = (struct references){0};
	found->at[found->count++] = gateway;
	return 0;
}

static int look_at(const struct object_store *store, const struct object *pod, struct pod_gateways *found)
{
	_cleanup_(free_references) struct references references = {0};
	enum postern_gateway_mode mode;
	int result = 0;

	if (pod->pod.gateway_name[0])
		result = add_reference(&references, pod->namespace_, pod->pod.gateway_name);
	if (result == 0)
		result = add_annotated(pod, &references, found);
	if (result == 0)
		result = add_adopting(store, pod, &references);
	if (result < 0 || !references.count)
		return result;
	if (!pod->pod.force && does_backend_tls(store, &references))
		return add_finding(found, FINDING_GATEWAY_DOES_TLS, pod,
		                   "not enrolled: the GatewayClass of Gateway %s/%s claims BackendTLSPolicy, and two "
		                   "layers of TLS help nobody; annotation postern.dev/force: \"true\" overrides that",
		                   references.at[0].namespace_, references.at[0].name);
	if (!mode_of(pod->pod.mode, &mode) && (result = complain_of_mode(pod, pod->pod.mode, found)) < 0)
		return result;
	if (!pod->pod.mode[0])
		mode = mode_of_gateways(store, &references);
	return add_gateway(pod, mode, &references, found);
}

/* What cannot be read in a Gateway is said once, not with each Pod. */
static int check_gateway(const struct object_store *store, const struct object *gateway, struct pod_gateways *found)
{
	const struct gateway_spec *spec = &gateway->gateway;
	enum postern_gateway_mode mode;
	char problem[256];
	int result = 0;

	if (!mode_of(spec->mode, &mode))
		result = complain_of_mode(gateway, spec->mode, found);
	if (result == 0 && spec->pod_selector[0] && !pod_selector_valid(spec->pod_selector, problem, sizeof(problem)))
		result = add_finding(found, FINDING_INVALID_ANNOTATION, gateway,
		                     "annotation postern.dev/pod-selector %s: it selects no Pod", problem);
	else if (result == 0 && spec->pod_selector[0] && !is_adopted(store, gateway))
		result = add_finding(found, FINDING_INVALID_ANNOTATION, gateway,
		                     "annotation postern.dev/pod-selector has no effect: the controllerName of its "
		                     "GatewayClass is not " GATEWAY_CONTROLLER_ADOPTED);
	return result;
}

int pod_gateways_find(const struct object_store *store, const char *node, struct pod_gateways *found)
{
	int result = 0;

	*found = (struct pod_gateways){0};
	for (size_t i = 0; i < object_store_count(store, OBJECT_GATEWAY) && result == 0; i++)
		result = check_gateway(store, object_store_at(store, OBJECT_GATEWAY, i), found);
	for (size_t i = 0; i < object_store_count(store, OBJECT_POD) && result == 0; i++) {
		const struct object *pod = object_store_at(store, OBJECT_POD, i);

		if (is_of_node(&pod->pod, node))
			result = look_at(store, pod, found);
	}
	if (result < 0)
		pod_gateways_free(found);
	return result;
}

void pod_gateways_free(struct pod_gateways *found)
{
	for (size_t i = 0; i < found->count; i++) {
		struct references references = {.at = found->at[i].refs, .count = found->at[i].ref_count};

		free(found->at[i].name);
		object_unref(found->at[i].pod);
		free_references(&references);
	}
	for (size_t i = 0; i < found->finding_count; i++) {
		free(found->findings[i].object);
		free(found->findings[i].message);
	}
	free(found->at);
	free(found->findings);
	*found = (struct pod_gateways){0};
}

const struct object *pod_with_host_port(const struct object_store *store, const char *node, uint16_t port)
{
	for (size_t i = 0; i < object_store_count(store, OBJECT_POD); i++) {
		const struct object *object = object_store_at(store, OBJECT_POD, i);

		for (size_t j = 0; is_of_node(&object->pod, node) && j < object->pod.host_port_count; j++) {
			if (object->pod.host_ports[j] == port)
				return object;
		}
	}
	return NULL;
}
