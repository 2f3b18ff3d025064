// SPDX-License-Identifier: GPL-2.0-only
#include "policy/decode.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/printable.h"
#include "policy/decode_kinds.h"
#include "policy/names.h"
#include "policy/times.h"
#include "policy/vector.h"

/* Of one manifest; enough to mend it by, and no more for a hostile one. */
#define MAX_PROBLEMS      100
#define MAX_UNKNOWN_KINDS 100
#define SUBJECT_MAX       (DNS_LABEL_MAX + DNS_SUBDOMAIN_MAX + 32) /* kind, namespace, name */

static const struct known_kind {
	enum object_kind kind;
	const char *group;
	const char *versions; /* separated and ended by one space; all of one schema as far as postern reads it */
	int (*decode)(struct decoder *decoder, const json_t *document, struct object *object);
	bool service_name; /* a DNS label; other names are DNS subdomains */
} known_kinds[] = {
        {OBJECT_SERVICE, "", "v1 ", decode_service, true},
        {OBJECT_ENDPOINT_SLICE, "discovery.k8s.io", "v1 ", decode_endpoint_slice, false},
        {OBJECT_CONFIG_MAP, "", "v1 ", decode_config_map, false},
        {OBJECT_BACKEND_TLS_POLICY, GATEWAY_GROUP, "v1 v1alpha3 ", decode_backend_tls_policy, false},
        {OBJECT_GATEWAY, GATEWAY_GROUP, "v1 v1beta1 v1alpha2 ", decode_gateway, false},
        {OBJECT_GATEWAY_CLASS, GATEWAY_GROUP, "v1 v1beta1 v1alpha2 ", decode_gateway_class, false},
        {OBJECT_HTTP_ROUTE, GATEWAY_GROUP, "v1 v1beta1 v1alpha2 ", decode_route, false},
        {OBJECT_GRPC_ROUTE, GATEWAY_GROUP, "v1 v1alpha2 ", decode_route, false},
        {OBJECT_TLS_ROUTE, GATEWAY_GROUP, "v1 v1alpha3 v1alpha2 ", decode_route, false},
        {OBJECT_TCP_ROUTE, GATEWAY_GROUP, "v1 v1alpha2 ", decode_route, false},
        {OBJECT_REFERENCE_GRANT, GATEWAY_GROUP, "v1 v1beta1 v1alpha2 ", decode_reference_grant, false},
        {OBJECT_SECRET, "", "v1 ", decode_secret, false},
        {OBJECT_POD, "", "v1 ", decode_pod, false},
        {OBJECT_NODE, "", "v1 ", decode_node, false},
        {OBJECT_CLUSTER_TRUST_BUNDLE, "certificates.k8s.io", "v1beta1 v1alpha1 ", decode_cluster_trust_bundle, false},
        {OBJECT_SERVICE_CIDR, "networking.k8s.io", "v1 v1beta1 v1alpha1 ", decode_service_cidr, false},
};

struct reading {
	struct decoded *decoded;
	const char *origin;
	size_t number; /* of the document, from 1 */
};

/* Where one document stands and what it says it is. */
struct subject {
	const json_t *document;
	const char *api_version; /* NULL: none that is a string */
	const char *kind;
	const char *group; /* not terminated: group_length bytes of api_version, or "" */
	size_t group_length;
	const char *version;
};

/* Takes over object, on failure too. */
static int add_object(struct object ***objects, size_t *count, size_t *capacity, struct object *object)
{
	if (vector_reserve(objects, *count, capacity, sizeof(**objects)) < 0) {
		object_unref(object);
		return -ENOMEM;
	}
	(*objects)[(*count)++] = object;
	return 0;
}

static const char *string_at(const json_t *map, const char *key)
{
	return json_string_value(json_object_get(map, key));
}

static bool is_cluster_scoped(const char *kind)
{
	for (enum object_kind known = 0; known < OBJECT_KINDS; known++)
		if (!strcmp(object_kind_name(known), kind))
			return !object_kind_is_namespaced(known);
	return false;
}

/* "Service default/echo" or "GatewayClass public", as far as it can be told. */
static char *describe(const struct reading *reading, const json_t *document)
{
	const json_t *metadata = json_object_get(document, "metadata");
	const char *kind = string_at(document, "kind"), *namespace_ = string_at(metadata, "namespace"),
	           *name = string_at(metadata, "name");
	char kind_shown[PRINTABLE_MAX], namespace_shown[PRINTABLE_MAX], name_shown[PRINTABLE_MAX];
	char *text = NULL;
	int length;

	if (kind && name && is_cluster_scoped(kind))
		length = asprintf(&text, "%s %s", kind, printable(name, name_shown));
	else if (kind && name)
		length = asprintf(&text, "%s %s/%s", printable(kind, kind_shown),
		                  namespace_ ? printable(namespace_, namespace_shown) : "default",
		                  printable(name, name_shown));
	else if (kind)
		length = asprintf(&text, "document %zu (%s)", reading->number, printable(kind, kind_shown));
	else
		length = asprintf(&text, "document %zu", reading->number);
	return length < 0 ? NULL : text;
}

static int add_problem(struct reading *reading, const json_t *document, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

static int add_problem(struct reading *reading, const json_t *document, const char *format, ...)
{
	struct decoded *decoded = reading->decoded;
	struct problem problem = {0};
	va_list arguments;
	int length;

	if (decoded->problem_count >= MAX_PROBLEMS)
		return 0;
	problem.object = describe(reading, document);
	va_start(arguments, format);
	length = vasprintf(&problem.message, format, arguments);
	va_end(arguments);
	if (length < 0)
		problem.message = NULL;
	if (!problem.object || !problem.message ||
	    vector_reserve(&decoded->problems, decoded->problem_count, &decoded->problem_capacity, sizeof(problem)) <
	            0) {
		free(problem.object);
		free(problem.message);
		return -ENOMEM;
	}
	decoded->problems[decoded->problem_count++] = problem;
	return 0;
}

static int note_unknown_kind(struct decoded *decoded, const struct subject *subject)
{
	char kind[PRINTABLE_MAX], group[PRINTABLE_MAX], shown[PRINTABLE_MAX];
	char *name = NULL;

	snprintf(group, sizeof(group), "%.*s", (int)subject->group_length, subject->group);
	if (asprintf(&name, "%s%s%s", printable(subject->kind, kind), *group ? "." : "", printable(group, shown)) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < decoded->unknown_kind_count; i++) {
		if (!strcmp(decoded->unknown_kinds[i].name, name)) {
			decoded->unknown_kinds[i].count++;
			free(name);
			return 0;
		}
	}
	if (decoded->unknown_kind_count >= MAX_UNKNOWN_KINDS) {
		free(name);
		return 0;
	}
	if (vector_reserve(&decoded->unknown_kinds, decoded->unknown_kind_count, &decoded->unknown_kind_capacity,
	                   sizeof(*decoded->unknown_kinds)) < 0) {
		free(name);
		return -ENOMEM;
	}
	decoded->unknown_kinds[decoded->unknown_kind_count++] = (struct unknown_kind){.name = name, .count = 1};
	return 0;
}

static bool group_is(const struct subject *subject, const char *group)
{
	return strlen(group) == subject->group_length && !memcmp(subject->group, group, subject->group_length);
}

static bool serves_version(const struct known_kind *known, const char *version)
{
	size_t length = strlen(version);

	for (const char *item = known->versions; *item; item = strchr(item, ' ') + 1)
		if (!strncmp(item, version, length) && item[length] == ' ')
			return true;
	return false;
}

static const struct known_kind *find_kind(const struct subject *subject)
{
	for (size_t i = 0; i < ARRAY_SIZE(known_kinds); i++)
		if (group_is(subject, known_kinds[i].group) &&
		    !strcasecmp(object_kind_name(known_kinds[i].kind), subject->kind))
			return &known_kinds[i];
	return NULL;
}

static int decode_created(struct decoder *decoder, const struct path *where, const json_t *metadata, int64_t *created)
{
	struct path here = path_key(where, "creationTimestamp");
	const char *text;
	char shown[PRINTABLE_MAX];
	int result = field_string(decoder, where, metadata, "creationTimestamp", OPTIONAL, &text);

	if (result < 0 || !text)
		return result;
	if (!timestamp_parse(text, created))
		return refuse_field(decoder, &here, "must be an RFC 3339 time, not \"%s\"", printable(text, shown));
	return 0;
}

static int check_names(struct decoder *decoder, const struct path *where, const struct known_kind *known,
                       const struct object *object)
{
	struct path name_path = path_key(where, "name"), namespace_path = path_key(where, "namespace");
	char shown[PRINTABLE_MAX];

	if (known->kind == OBJECT_CLUSTER_TRUST_BUNDLE) {
		if (!is_trust_bundle_name(object->name))
			return refuse_field(decoder, &name_path,
			                    "must be DNS subdomains of lower case (RFC 1123) joined by colons, "
			                    "not \"%s\"",
			                    printable(object->name, shown));
		return 0;
	}
	if (known->service_name ? !is_dns_label(object->name) : !is_dns_subdomain(object->name))
		return refuse_field(decoder, &name_path, "must be a DNS %s of lower case (RFC 1123), not \"%s\"",
		                    known->service_name ? "label" : "subdomain", printable(object->name, shown));
	if (object_kind_is_namespaced(known->kind) && !is_dns_label(object->namespace_))
		return refuse_field(decoder, &namespace_path,
		                    "must be a DNS label of lower case (RFC 1123), not \"%s\"",
		                    printable(object->namespace_, shown));
	return 0;
}

static int decode_metadata(struct decoder *decoder, const json_t *document, const struct known_kind *known,
                           struct object *object)
{
	struct path root = {0}, where = path_key(&root, "metadata");
	const char *namespace_, *uid;
	const json_t *metadata;
	json_int_t generation = 1;
	int result;

	if ((result = field_map(decoder, &root, document, "metadata", REQUIRED, &metadata)) < 0 ||
	    (result = field_string(decoder, &where, metadata, "name", REQUIRED, &object->name)) < 0 ||
	    (result = field_string(decoder, &where, metadata, "namespace", OPTIONAL, &namespace_)) < 0 ||
	    (result = field_string(decoder, &where, metadata, "uid", OPTIONAL, &uid)) < 0 ||
	    (result = field_integer(decoder, &where, metadata, "generation", OPTIONAL, 0, INT64_MAX, &generation)) <
	            0 ||
	    (result = decode_created(decoder, &where, metadata, &object->created)) < 0)
		return result;
	if (object_kind_is_namespaced(known->kind))
		object->namespace_ = namespace_ ? namespace_ : "default";
	object->uid = uid ? uid : "";
	object->generation = (uint64_t)generation;
	return check_names(decoder, &where, known, object);
}

/* What cannot be decoded is still seen: what a policy targets must not be served in plaintext. */
static int add_visible(struct reading *reading, const json_t *document, enum object_kind kind)
{
	struct object *object = object_new(kind);

	if (!object)
		return -ENOMEM;
	object->origin = arena_strdup(&object->arena, reading->origin);
	if (!object->origin || decode_visible(&object->arena, document, object) < 0) {
		object_unref(object);
		return -ENOMEM;
	}
	return add_object(&reading->decoded->visible, &reading->decoded->visible_count,
	                  &reading->decoded->visible_capacity, object);
}

static int refuse_document(struct reading *reading, const json_t *document, const struct known_kind *known,
                           const char *message)
{
	if (known && is_worth_seeing(known->kind) && add_visible(reading, document, known->kind) < 0)
		return -ENOMEM;
	return add_problem(reading, document, "%s", message);
}

static int decode_known(struct reading *reading, const json_t *document, const struct known_kind *known)
{
	struct object *object = object_new(known->kind);
	struct decoder decoder = {.unknown = &reading->decoded->unknown_fields};
	char subject[SUBJECT_MAX];
	int result;

	if (!object)
		return -ENOMEM;
	decoder.arena = &object->arena;
	object->origin = arena_strdup(&object->arena, reading->origin);
	result = object->origin ? decode_metadata(&decoder, document, known, object) : -ENOMEM;
	if (result == 0) {
		snprintf(subject, sizeof(subject), "%s %s%s%s", object_kind_name(known->kind), object->namespace_,
		         *object->namespace_ ? "/" : "", object->name);
		decoder.subject = subject;
		result = known->decode(&decoder, document, object);
	}
	if (result == 0)
		return add_object(&reading->decoded->objects, &reading->decoded->object_count,
		                  &reading->decoded->object_capacity, object);
	object_unref(object);
	return result == -EINVAL ? refuse_document(reading, document, known, decoder.error) : result;
}

static void parse_api_version(struct subject *subject)
{
	const char *slash = strchr(subject->api_version, '/');

	subject->group = subject->api_version;
	subject->group_length = slash ? (size_t)(slash - subject->api_version) : 0;
	subject->version = slash ? slash + 1 : subject->api_version;
}

/* Kinds of Gateway API that say nothing about backend TLS. */
static bool is_other_gateway_kind(const char *kind)
{
	static const char *const others[] = {"ListenerSet", "UDPRoute"};

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (!strcmp(others[i], kind))
			return true;
	return false;
}

/*
 * A kind of another group is somebody else's. One of Gateway API's own group that does not exist is most likely a
 * policy with a slip in its kind: it must not be passed over, and what it visibly targets must not be served in
 * plaintext.
 */
static int decode_unknown(struct reading *reading, const struct subject *subject)
{
	char kind[PRINTABLE_MAX];

	if (!group_is(subject, GATEWAY_GROUP) || is_other_gateway_kind(subject->kind))
		return note_unknown_kind(reading->decoded, subject);
	if (add_visible(reading, subject->document, OBJECT_BACKEND_TLS_POLICY) < 0)
		return -ENOMEM;
	return add_problem(reading, subject->document, "kind: \"%s\" is no kind of %s", printable(subject->kind, kind),
	                   GATEWAY_GROUP);
}

static int decode_subject(struct reading *reading, struct subject *subject)
{
	const struct known_kind *known;
	char message[256], version[PRINTABLE_MAX], kind[PRINTABLE_MAX];

	parse_api_version(subject);
	known = find_kind(subject);
	if (!known)
		return decode_unknown(reading, subject);
	if (strcmp(object_kind_name(known->kind), subject->kind)) {
		snprintf(message, sizeof(message), "kind: must be %s, not \"%s\"", object_kind_name(known->kind),
		         printable(subject->kind, kind));
		return refuse_document(reading, subject->document, known, message);
	}
	if (!serves_version(known, subject->version)) {
		snprintf(message, sizeof(message), "apiVersion: version \"%s\" is not known; known: %s",
		         printable(subject->version, version), known->versions);
		message[strlen(message) - 1] = '\0'; /* the last space */
		return refuse_document(reading, subject->document, known, message);
	}
	return decode_known(reading, subject->document, known);
}

static int decode_document(struct reading *reading, const json_t *document, const char *list_kind,
                           const char *list_api_version);

/* `kind: List`, or a typed list ("ServiceList") as the API server answers, whose items need not repeat their kind. */
static int decode_list(struct reading *reading, const struct subject *list)
{
	const json_t *items = json_object_get(list->document, "items"), *item;
	size_t stem = strlen(list->kind) - strlen("List");
	char kind[DNS_LABEL_MAX + 1];
	size_t index;
	int result = 0;

	if (items && !json_is_null(items) && !json_is_array(items))
		return add_problem(reading, list->document, "items: must be a list");
	snprintf(kind, sizeof(kind), "%.*s", (int)(stem < sizeof(kind) ? stem : 0), list->kind);
	json_array_foreach (items, index, item) {
		result = decode_document(reading, item, kind, list->api_version);
		if (result < 0)
			break;
	}
	return result;
}

static bool ends_in_list(const char *kind)
{
	size_t length = strlen(kind);

	return length >= 4 && !strcmp(kind + length - 4, "List");
}

/* What a document without kind or apiVersion was meant to be: only a policy matters, it must be seen. */
static const struct known_kind *guess_kind(const json_t *document, const char *kind)
{
	struct subject policy = {
	        .kind = "BackendTLSPolicy", .group = GATEWAY_GROUP, .group_length = strlen(GATEWAY_GROUP)};

	if (kind ? !strcasecmp(kind, policy.kind)
	         : json_object_get(json_object_get(document, "spec"), "targetRefs") != NULL)
		return find_kind(&policy);
	return NULL;
}

/* list_kind is "" for the items of a plain List, NULL outside of one. */
static int decode_document(struct reading *reading, const json_t *document, const char *list_kind,
                           const char *list_api_version)
{
	struct subject subject = {.document = document};

	if (!json_is_object(document))
		return add_problem(reading, document, "must be a map with apiVersion, kind and metadata");
	subject.kind = string_at(document, "kind");
	subject.api_version = string_at(document, "apiVersion");
	if (list_kind && *list_kind && !json_object_get(document, "kind") && !json_object_get(document, "apiVersion")) {
		subject.kind = list_kind;
		subject.api_version = list_api_version;
	}
	if (!subject.kind || !*subject.kind)
		return refuse_document(reading, document, guess_kind(document, NULL), "kind: is required, as a string");
	if (!subject.api_version || !*subject.api_version)
		return refuse_document(reading, document, guess_kind(document, subject.kind),
		                       "apiVersion: is required, as a string");
	if (ends_in_list(subject.kind)) {
		if (list_kind)
			return add_problem(reading, document, "kind: a List in a List is not accepted");
		return decode_list(reading, &subject);
	}
	return decode_subject(reading, &subject);
}

int decode_documents(const json_t *documents, const char *origin, struct decoded *decoded)
{
	struct reading reading = {.decoded = decoded, .origin = origin};
	const json_t *document;
	size_t index;
	int result;

	json_array_foreach (documents, index, document) {
		reading.number = index + 1;
		if (json_is_null(document))
			continue;
		result = decode_document(&reading, document, NULL, NULL);
		if (result < 0)
			return result;
	}
	return 0;
}

static void free_objects(struct object **objects, size_t count)
{
	for (size_t i = 0; i < count; i++)
		object_unref(objects[i]);
	free(objects);
}

void decoded_free(struct decoded *decoded)
{
	free_objects(decoded->objects, decoded->object_count);
	free_objects(decoded->visible, decoded->visible_count);
	for (size_t i = 0; i < decoded->problem_count; i++) {
		free(decoded->problems[i].object);
		free(decoded->problems[i].message);
	}
	free(decoded->problems);
	for (size_t i = 0; i < decoded->unknown_kind_count; i++)
		free(decoded->unknown_kinds[i].name);
	free(decoded->unknown_kinds);
	unknown_fields_free(&decoded->unknown_fields);
	*decoded = (struct decoded){0};
}
