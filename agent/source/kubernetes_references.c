// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is watched only because something refers to it: ConfigMaps of the namespaces whose policies name one, Secrets
 * one by one, Pods that contested endpoints name. What the API server denies is in the store's quarantine with its
 * words, so that the ResolvedRefs condition of whoever refers to it says them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sorted.h"
#include "policy/gateways.h"
#include "policy/snapshot.h"
#include "policy/store.h"
#include "policy/vector.h"
#include "source/kubernetes_internal.h"

#define GATEWAY_GROUP      "gateway.networking.k8s.io"
#define OPTION_CRL         "postern.dev/crl"
#define OPTION_CERTIFICATE "postern.dev/client-certificate"
#define MAX_REFERENCE_STREAMS                                                                                          \
	1000 /* watches that others can make us open; what is beyond is as if it were not there                        \
	      */

struct references {
	struct reference *items;
	size_t count, capacity;
};

static int add(struct references *references, enum object_kind kind, const char *namespace_, const char *name)
{
	if (!name || !*name)
		return 0;
	if (vector_reserve(&references->items, references->count, &references->capacity, sizeof(*references->items)) <
	    0)
		return -ENOMEM;
	references->items[references->count++] = (struct reference){kind, namespace_, name};
	return 0;
}

/* ---- who refers to what ---- */

static int add_option(struct references *references, const struct object *policy, const struct option_value *option)
{
	static const struct {
		const char *prefix;
		enum object_kind kind;
	} kinds[] = {{"configmap/", OBJECT_CONFIG_MAP}, {"secret/", OBJECT_SECRET}};

	if (strcmp(option->key, OPTION_CERTIFICATE) == 0)
		return add(references, OBJECT_SECRET, policy->namespace_, option->value);
	if (strcmp(option->key, OPTION_CRL) != 0)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		size_t length = strlen(kinds[i].prefix);

		if (strncasecmp(option->value, kinds[i].prefix, length) == 0)
			return add(references, kinds[i].kind, policy->namespace_, option->value + length);
	}
	return 0;
}

static int add_policy(struct references *references, const struct object *policy)
{
	const struct backend_tls_policy *spec = &policy->backend_tls_policy;
	int result = 0;

	for (size_t i = 0; i < spec->ca_count && result == 0; i++) {
		const struct object_reference *ca = &spec->cas[i];

		if ((ca->group && *ca->group) || !ca->kind)
			continue;
		if (strcmp(ca->kind, "ConfigMap") == 0)
			result = add(references, OBJECT_CONFIG_MAP, policy->namespace_, ca->name);
		else if (strcmp(ca->kind, "Secret") == 0)
			result = add(references, OBJECT_SECRET, policy->namespace_, ca->name);
	}
	for (size_t i = 0; i < spec->option_count && result == 0; i++)
		result = add_option(references, policy, &spec->options[i]);
	return result;
}

/* Nothing is asked of another namespace that no grant allows: it would tell what is there. */
static int add_gateway(const struct object_store *store, struct references *references, const struct object *gateway)
{
	const struct secret_reference *secret = &gateway->gateway.client_certificate;

	if (!gateway->gateway.has_client_certificate || *secret->group || strcmp(secret->kind, "Secret") != 0 ||
	    !reference_granted(store, GATEWAY_GROUP, "Gateway", gateway->namespace_, secret->group, secret->kind,
	                       secret->namespace_, secret->name))
		return 0;
	return add(references, OBJECT_SECRET, secret->namespace_, secret->name);
}

static int compare(const void *left_pointer, const void *right_pointer)
{
	const struct reference *left = left_pointer, *right = right_pointer;
	int order;

	if (left->kind != right->kind)
		return left->kind < right->kind ? -1 : 1;
	order = strcmp(left->namespace_, right->namespace_);
	return order ? order : strcmp(left->name, right->name);
}

static void drop_doubles(struct references *references)
{
	size_t kept = 0;

	sort_list(references->items, references->count, sizeof(*references->items), compare);
	for (size_t i = 0; i < references->count; i++)
		if (!kept || compare(&references->items[kept - 1], &references->items[i]) != 0)
			references->items[kept++] = references->items[i];
	references->count = kept;
}

static int collect(const struct kubernetes_source *source, struct references *references)
{
	const struct object_store *store = source->store;
	int result = 0;

	for (size_t i = 0; i < object_store_count(store, OBJECT_BACKEND_TLS_POLICY) && result == 0; i++)
		result = add_policy(references, object_store_at(store, OBJECT_BACKEND_TLS_POLICY, i));
	for (size_t i = 0; i < object_store_count(store, OBJECT_GATEWAY) && result == 0; i++)
		result = add_gateway(store, references, object_store_at(store, OBJECT_GATEWAY, i));
	for (size_t i = 0; i < source->pod_count && result == 0; i++)
		result = add(references, OBJECT_POD, source->pods[i].namespace_, source->pods[i].name);
	drop_doubles(references);
	return result;
}

/* ---- streams ---- */

/* ConfigMaps are watched by namespace: policies of one namespace most often share one. */
static const char *stream_name(const struct reference *reference)
{
	return reference->kind == OBJECT_CONFIG_MAP ? "" : reference->name;
}

static bool is_dynamic(const struct stream *stream)
{
	return stream->resource->kind == OBJECT_CONFIG_MAP || *stream->name;
}

static bool serves(const struct stream *stream, const struct reference *reference)
{
	return is_dynamic(stream) && stream->resource->kind == reference->kind &&
	       strcmp(stream->namespace_, reference->namespace_) == 0 &&
	       strcmp(stream->name, stream_name(reference)) == 0;
}

static struct stream *find_stream(const struct kubernetes_source *source, const struct reference *reference)
{
	struct stream *stream = source->streams;

	while (stream && !serves(stream, reference))
		stream = stream->next;
	return stream;
}

static size_t count_dynamic(const struct kubernetes_source *source)
{
	size_t count = 0;

	for (const struct stream *stream = source->streams; stream; stream = stream->next)
		count += is_dynamic(stream);
	return count;
}

static void want(struct kubernetes_source *source, const struct reference *reference, size_t *count)
{
	struct stream *stream = find_stream(source, reference);

	if (!stream && *count < MAX_REFERENCE_STREAMS) {
		stream = stream_new(source, resource_of(reference->kind), reference->namespace_, stream_name(reference),
		                    "");
		if (!stream) {
			source->out_of_memory = true;
			return;
		}
		stream->next = source->streams;
		source->streams = stream;
		++*count;
	}
	if (stream)
		stream->wanted = true;
}

static void drop_unwanted(struct kubernetes_source *source)
{
	struct stream **place = &source->streams;

	while (*place) {
		struct stream *stream = *place;

		if (stream->wanted || !is_dynamic(stream)) {
			place = &stream->next;
			continue;
		}
		*place = stream->next;
		source->findings_due = true;
		stream_free(stream);
	}
}

static void set_streams(struct kubernetes_source *source, const struct references *references)
{
	size_t count = count_dynamic(source);

	for (struct stream *stream = source->streams; stream; stream = stream->next)
		stream->wanted = false;
	for (size_t i = 0; i < references->count; i++)
		want(source, &references->items[i], &count);
	drop_unwanted(source);
	if (count >= MAX_REFERENCE_STREAMS)
		log_warning("too many references", "watches=%zu", count);
}

/* ---- what is denied ---- */

static void denial_free(struct denial *denial)
{
	free(denial->namespace_);
	free(denial->name);
	free(denial->why);
}

static void free_denials(struct kubernetes_source *source)
{
	for (size_t i = 0; i < source->denial_count; i++)
		denial_free(&source->denials[i]);
	free(source->denials);
	source->denials = NULL;
	source->denial_count = source->denial_capacity = 0;
}

/* Why it cannot be had, although it may exist; NULL: nothing keeps us from it. */
static char *describe_denial(const struct kubernetes_source *source, const struct reference *reference)
{
	const struct stream *stream = find_stream(source, reference);
	char *why = NULL;

	if (reference->kind == OBJECT_POD)
		return NULL;
	if (!stream)
		return strdup("more than 1000 objects are referred to: this one is not looked at");
	if (stream_state(stream) != WATCH_DENIED)
		return NULL;
	if (asprintf(&why,
	             "postern may not read it: allow get, list and watch of it to postern's ServiceAccount, in a Role "
	             "of its namespace (the API server says: %s)",
	             stream_error(stream)) == -1)
		return NULL;
	return why;
}

static int deny(struct kubernetes_source *source, const struct reference *reference, const char *why)
{
	struct denial *denial;

	if (vector_reserve(&source->denials, source->denial_count, &source->denial_capacity, sizeof(*source->denials)) <
	    0)
		return -ENOMEM;
	denial = &source->denials[source->denial_count];
	*denial = (struct denial){.kind = reference->kind,
	                          .namespace_ = strdup(reference->namespace_),
	                          .name = strdup(reference->name),
	                          .why = strdup(why)};
	if (!denial->namespace_ || !denial->name || !denial->why) {
		denial_free(denial);
		return -ENOMEM;
	}
	source->denial_count++;
	return 0;
}

static int quarantine(struct object_store *store, const struct denial *denial)
{
	struct object *object = object_new(denial->kind);
	int result = -ENOMEM;

	if (!object)
		return result;
	object->namespace_ = arena_strdup(&object->arena, denial->namespace_);
	object->name = arena_strdup(&object->arena, denial->name);
	if (object->namespace_ && object->name)
		result = object_store_quarantine(store, object, denial->why);
	object_unref(object);
	return result;
}

static bool same_denials(const struct denial *left, size_t left_count, const struct denial *right, size_t right_count)
{
	for (size_t i = 0; i < left_count && left_count == right_count; i++)
		if (left[i].kind != right[i].kind || strcmp(left[i].namespace_, right[i].namespace_) != 0 ||
		    strcmp(left[i].name, right[i].name) != 0 || strcmp(left[i].why, right[i].why) != 0)
			return false;
	return left_count == right_count;
}

static int collect_denials(struct kubernetes_source *source, const struct references *references)
{
	for (size_t i = 0; i < references->count; i++) {
		_cleanup_free_ char *why = describe_denial(source, &references->items[i]);

		if (why && deny(source, &references->items[i], why) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* 1: the quarantine changed, 0: not, -ENOMEM. */
static int set_denials(struct kubernetes_source *source, const struct references *references)
{
	struct denial *old = source->denials;
	size_t old_count = source->denial_count, old_capacity = source->denial_capacity;
	int result;

	source->denials = NULL;
	source->denial_count = source->denial_capacity = 0;
	result = collect_denials(source, references);
	if (result < 0 || same_denials(old, old_count, source->denials, source->denial_count)) {
		free_denials(source);
		source->denials = old;
		source->denial_count = old_count;
		source->denial_capacity = old_capacity;
		return result;
	}
	for (size_t i = 0; i < old_count; i++) {
		(void)object_store_release(source->store, old[i].kind, old[i].namespace_, old[i].name);
		denial_free(&old[i]);
	}
	free(old);
	for (size_t i = 0; i < source->denial_count; i++)
		if (quarantine(source->store, &source->denials[i]) < 0)
			source->out_of_memory = true;
	return 1;
}

/* ---- both ---- */

bool references_update(struct kubernetes_source *source)
{
	struct references references = {0};
	int result = collect(source, &references);

	if (result == 0)
		set_streams(source, &references);
	if (result == 0)
		result = set_denials(source, &references);
	source->out_of_memory |= result < 0;
	source->references_due = result < 0;
	free(references.items);
	return result > 0;
}

void references_free(struct kubernetes_source *source)
{
	free_denials(source);
}
