// SPDX-License-Identifier: GPL-2.0-only
#include "source/kubernetes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "policy/snapshot.h"
#include "policy/store.h"
#include "source/kubernetes_internal.h"

#define GATEWAY_GROUP "gateway.networking.k8s.io"

#define COALESCE_NS 100000000ull   /* at most: changes that come one behind the other are told together */
#define IDLE_SHARE  8              /* of the time, to one part of telling */
#define PATIENCE_NS 15000000000ull /* for what is not required, once all that is required is known */
#define RETRY_NS    1000000000ull  /* after want of memory */

static const struct resource base_resources[] = {
        {OBJECT_SERVICE, "", {"v1"}, "services", true},
        {OBJECT_ENDPOINT_SLICE, "discovery.k8s.io", {"v1"}, "endpointslices", true},
        {OBJECT_BACKEND_TLS_POLICY, GATEWAY_GROUP, {"v1", "v1alpha3"}, "backendtlspolicies", true},
        {OBJECT_GATEWAY, GATEWAY_GROUP, {"v1", "v1beta1"}, "gateways", false},
        {OBJECT_GATEWAY_CLASS, GATEWAY_GROUP, {"v1", "v1beta1"}, "gatewayclasses", false},
        {OBJECT_HTTP_ROUTE, GATEWAY_GROUP, {"v1", "v1beta1"}, "httproutes", false},
        {OBJECT_GRPC_ROUTE, GATEWAY_GROUP, {"v1", "v1alpha2"}, "grpcroutes", false},
        {OBJECT_TLS_ROUTE, GATEWAY_GROUP, {"v1", "v1alpha3", "v1alpha2"}, "tlsroutes", false},
        {OBJECT_TCP_ROUTE, GATEWAY_GROUP, {"v1", "v1alpha2"}, "tcproutes", false},
        {OBJECT_REFERENCE_GRANT, GATEWAY_GROUP, {"v1", "v1beta1"}, "referencegrants", false},
        {OBJECT_SERVICE_CIDR, "networking.k8s.io", {"v1", "v1beta1"}, "servicecidrs", false},
        {OBJECT_NODE, "", {"v1"}, "nodes", false},
        {OBJECT_CLUSTER_TRUST_BUNDLE, "certificates.k8s.io", {"v1beta1", "v1alpha1"}, "clustertrustbundles", false},
        {OBJECT_POD, "", {"v1"}, "pods", false},
};

/* Only where something refers to them. */
static const struct resource referred_resources[] = {
        {OBJECT_CONFIG_MAP, "", {"v1"}, "configmaps", false},
        {OBJECT_SECRET, "", {"v1"}, "secrets", false},
};

const struct resource *resource_of(enum object_kind kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(base_resources); i++)
		if (base_resources[i].kind == kind)
			return &base_resources[i];
	return &referred_resources[kind == OBJECT_SECRET];
}

struct kubernetes_source *kubernetes_source_of(const struct source *source)
{
	return container_of(source, struct kubernetes_source, source);
}

/* ---- what is kept of a stream that shows more ---- */

static bool is_adopting(const struct kubernetes_source *source, const char *namespace_)
{
	for (size_t i = 0; i < object_store_count(source->store, OBJECT_GATEWAY); i++) {
		const struct object *gateway = object_store_at(source->store, OBJECT_GATEWAY, i);

		if (*gateway->gateway.pod_selector && strcmp(gateway->namespace_, namespace_) == 0)
			return true;
	}
	return false;
}

static bool is_asked_for(const struct kubernetes_source *source, const struct object *pod)
{
	for (size_t i = 0; i < source->pod_count; i++)
		if (strcmp(source->pods[i].name, pod->name) == 0 &&
		    strcmp(source->pods[i].namespace_, pod->namespace_) == 0)
			return true;
	return false;
}

/* Of all Pods of the cluster those that may be gateways: no selector finds an annotation. */
bool is_kept(const struct kubernetes_source *source, const struct object *object)
{
	if (object->kind != OBJECT_POD || *source->node_name)
		return true;
	return *object->pod.gateway_name || *object->pod.gateway_annotation || object->pod.readiness_gated ||
	       is_adopting(source, object->namespace_) || is_asked_for(source, object);
}

/* A sum over the namespaces whose Pods may be adopted. */
static uint64_t adopting_signature(const struct kubernetes_source *source)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < object_store_count(source->store, OBJECT_GATEWAY); i++) {
		const struct object *gateway = object_store_at(source->store, OBJECT_GATEWAY, i);

		if (*gateway->gateway.pod_selector)
			sum = sum * 31 + table_hash_names(gateway->namespace_, "", 1);
	}
	return sum;
}

/* Pods that were passed over may be of use now. True: they are listed anew. */
static bool review_pods(struct kubernetes_source *source)
{
	uint64_t signature = adopting_signature(source);

	if (*source->node_name || signature == source->adopting)
		return false;
	source->adopting = signature;
	for (struct stream *stream = source->streams; stream; stream = stream->next) {
		if (stream->resource->kind != OBJECT_POD || *stream->name)
			continue;
		stream->known = source->synced;
		stream_restart(stream, 0);
	}
	return true;
}

/* ---- synced ---- */

static bool are_known(const struct kubernetes_source *source, bool required_only)
{
	for (const struct stream *stream = source->streams; stream; stream = stream->next)
		if (!stream->known && (stream->resource->required || !required_only))
			return false;
	return true;
}

/* The store is filled before it counts, because what is in there decides what else is asked for. */
static void try_sync(struct kubernetes_source *source)
{
	if (!are_known(source, true))
		return;
	if (!source->patience_timer.due_ns && !source->patience_over)
		(void)loop_timer_set(source->loop, &source->patience_timer, PATIENCE_NS);
	if (!are_known(source, false) && !source->patience_over)
		return;
	do {
		source->store_changed |= apply_records(source);
		if (review_pods(source) && !source->patience_over)
			return;
		source->references_due = true;
		source->store_changed |= references_update(source);
	} while (source->dirty && !source->out_of_memory);
	if (!are_known(source, false) && !source->patience_over)
		return;
	loop_timer_cancel(source->loop, &source->patience_timer);
	source->synced = true;
	log_info("cluster read", "services=%zu endpointslices=%zu policies=%zu complete=%s",
	         object_store_count(source->store, OBJECT_SERVICE),
	         object_store_count(source->store, OBJECT_ENDPOINT_SLICE),
	         object_store_count(source->store, OBJECT_BACKEND_TLS_POLICY), are_known(source, false) ? "yes" : "no");
	kubernetes_source_changed(source);
}

static void on_progress(struct loop_timer *timer)
{
	struct kubernetes_source *source = container_of(timer, struct kubernetes_source, progress_timer);

	if (!source->synced)
		try_sync(source);
	else if (source->references_due || source->findings_due)
		kubernetes_source_changed(source);
}

static void on_patience(struct loop_timer *timer)
{
	struct kubernetes_source *source = container_of(timer, struct kubernetes_source, patience_timer);

	source->patience_over = true;
	if (!source->synced)
		try_sync(source);
}

void kubernetes_source_progress(struct kubernetes_source *source)
{
	(void)loop_timer_set(source->loop, &source->progress_timer, 0);
}

/* ---- changes ---- */

static void on_changed(struct loop_timer *timer)
{
	struct kubernetes_source *source = container_of(timer, struct kubernetes_source, changed_timer);

	uint64_t began_ns = monotonic_ns(), wait_ns;

	source->source.events.changed(source->source.events.context);
	source->changed_ns = monotonic_ns();
	wait_ns = (source->changed_ns - began_ns) * IDLE_SHARE;
	source->coalesce_ns = wait_ns < COALESCE_NS ? wait_ns : COALESCE_NS;
}

/*
 * At once, unless the last was a moment ago, by what it cost: until a new covered port is known, standard coverage lets
 * a connect to it pass (docs/policy.md).
 */
void kubernetes_source_changed(struct kubernetes_source *source)
{
	uint64_t since = monotonic_ns() - source->changed_ns;

	if (!source->synced || source->changed_timer.due_ns)
		return;
	(void)loop_timer_set(source->loop, &source->changed_timer,
	                     since < source->coalesce_ns ? source->coalesce_ns - since : 0);
}

static bool refresh(struct source *base, bool force)
{
	struct kubernetes_source *source = kubernetes_source_of(base);
	bool changed;

	(void)force;
	if (!source->synced)
		return false;
	changed = source->store_changed;
	source->store_changed = false;
	changed |= apply_records(source);
	if (source->references_due) {
		review_pods(source);
		changed |= references_update(source);
	}
	if (source->dirty && !source->out_of_memory)
		changed |= apply_records(source);
	if (source->out_of_memory)
		(void)loop_timer_set(source->loop, &source->changed_timer, RETRY_NS);
	return changed;
}

/* ---- Pods by name ---- */

static void free_pods(struct kubernetes_source *source)
{
	for (size_t i = 0; i < source->pod_count; i++) {
		free(source->pods[i].namespace_);
		free(source->pods[i].name);
	}
	free(source->pods);
	source->pods = NULL;
	source->pod_count = 0;
}

static bool same_pods(const struct kubernetes_source *source, const struct object_name *pods, size_t count)
{
	for (size_t i = 0; i < count && count == source->pod_count; i++)
		if (strcmp(pods[i].name, source->pods[i].name) != 0 ||
		    strcmp(pods[i].namespace_, source->pods[i].namespace_) != 0)
			return false;
	return count == source->pod_count;
}

static int copy_pods(struct kubernetes_source *source, const struct object_name *pods, size_t count)
{
	source->pods = calloc(count + 1, sizeof(*source->pods));
	if (!source->pods)
		return -ENOMEM;
	for (; source->pod_count < count; source->pod_count++) {
		struct object_name *copy = &source->pods[source->pod_count];

		copy->namespace_ = strdup(pods[source->pod_count].namespace_);
		copy->name = strdup(pods[source->pod_count].name);
		if (!copy->namespace_ || !copy->name) {
			source->pod_count++;
			return -ENOMEM;
		}
	}
	return 0;
}

static void want_pods(struct source *base, const struct object_name *pods, size_t count)
{
	struct kubernetes_source *source = kubernetes_source_of(base);

	if (same_pods(source, pods, count))
		return;
	free_pods(source);
	if (copy_pods(source, pods, count) < 0) {
		free_pods(source); /* unknown Pods decide nothing: see verdicts.c */
		log_error("no memory", "what=\"Pods of contested endpoints\"");
	}
	source->references_due = true;
	kubernetes_source_progress(source);
}

/* ---- the interface ---- */

static void close_source(struct source *base)
{
	struct kubernetes_source *source = kubernetes_source_of(base);

	current_free(source);
	while (source->streams) {
		struct stream *stream = source->streams;

		source->streams = stream->next;
		stream_free(stream);
	}
	while (source->dirty) {
		struct record *record = source->dirty;

		source->dirty = record->next_dirty;
		table_remove(&source->records, &record->node);
		record_free(record);
	}
	table_free(&source->records, NULL);
	references_free(source);
	free_pods(source);
	findings_free(&source->findings);
	object_store_free(source->store);
	loop_timer_cancel(source->loop, &source->progress_timer);
	loop_timer_cancel(source->loop, &source->changed_timer);
	loop_timer_cancel(source->loop, &source->patience_timer);
	free(source->node_name);
	loop_defer_free(source->loop, source);
}

static void make_current(struct source *source, uint64_t as_of_ns, enum source_scope scope)
{
	current_ask(kubernetes_source_of(source), as_of_ns, scope);
}

static const struct object_store *store(const struct source *source)
{
	return kubernetes_source_of(source)->store;
}

static bool synced(const struct source *source)
{
	return kubernetes_source_of(source)->synced;
}

/*
 * A watch that fails takes nothing away, and who needs the state as of now is told only once it is known. Objects that
 * do not decode are in quarantine, where they can only deny: any tenant may write one, and must not be able to keep
 * others' connections from being decided.
 */
static bool in_order(const struct source *source)
{
	return kubernetes_source_of(source)->synced && !kubernetes_source_of(source)->out_of_memory;
}

static const struct source_operations operations = {
        .close = close_source,
        .refresh = refresh,
        .make_current = make_current,
        .want_pods = want_pods,
        .store = store,
        .synced = synced,
        .in_order = in_order,
        .error_count = report_error_count,
        .error_at = report_error_at,
        .note_count = report_note_count,
        .note_at = report_note_at,
        .watch_count = report_watch_count,
        .watch_at = report_watch_at,
};

static int add_stream(struct kubernetes_source *source, const struct resource *resource)
{
	_cleanup_free_ char *selector = NULL;
	struct stream *stream, **place = &source->streams;

	if (resource->kind == OBJECT_POD && *source->node_name &&
	    asprintf(&selector, "spec.nodeName=%s", source->node_name) == -1) {
		selector = NULL;
		return -ENOMEM;
	}
	stream = stream_new(source, resource, "", "", selector ? selector : "");
	if (!stream)
		return -ENOMEM;
	while (*place) /* in the order of the table */
		place = &(*place)->next;
	*place = stream;
	return 0;
}

int kubernetes_source_open(const struct kubernetes_source_options *options, struct source **result)
{
	struct kubernetes_source *source = calloc(1, sizeof(*source));
	int error = 0;

	if (!source)
		return -ENOMEM;
	source->source = (struct source){.operations = &operations, .events = options->events};
	source->loop = options->loop;
	source->client = options->client;
	source->dirty_end = &source->dirty;
	source->references_due = source->findings_due = true;
	source->progress_timer.on_expire = on_progress;
	source->changed_timer.on_expire = on_changed;
	source->patience_timer.on_expire = on_patience;
	source->node_name = strdup(options->node_name);
	source->store = object_store_new();
	if (!source->node_name || !source->store)
		error = -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(base_resources) && !error; i++)
		error = add_stream(source, &base_resources[i]);
	if (error)
		source_close(&source->source);
	else
		*result = &source->source;
	return error;
}
