// SPDX-License-Identifier: GPL-2.0-only
/*
 * Services and their EndpointSlices -> what each port means (coverages), and who says so of which address (claims).
 *
 * A Service in quarantine, and slices whose Service does not exist, speak up only where a policy targets them, and then
 * only to refuse. An uncovered port that is in force claims its addresses, too: that is how they are known as PLAIN.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "policy/compilation.h"
#include "policy/vector.h"

struct slice_use {
	const struct object *slice;
	bool quarantined;
};

struct service_use {
	const char *namespace_, *name;
	const struct object *service; /* NULL: slices without a Service */
	bool quarantined;
	size_t first_slice, end_slice;
};

struct services {
	struct slice_use *slices; /* sorted by namespace and Service */
	size_t slice_count, slice_capacity;
	struct service_use *services;
	size_t service_count, service_capacity;
};

static int compare_slice_to(const struct slice_use *use, const char *namespace_, const char *service)
{
	int order = strcmp(use->slice->namespace_, namespace_);

	return order ? order : strcmp(use->slice->endpoint_slice.service, service);
}

static int compare_slices(const void *left_pointer, const void *right_pointer)
{
	const struct slice_use *left = left_pointer, *right = right_pointer;
	int order = compare_slice_to(left, right->slice->namespace_, right->slice->endpoint_slice.service);

	return order ? order : strcmp(left->slice->name, right->slice->name);
}

static int add_slice(struct services *services, const struct object *slice, bool quarantined)
{
	if (!*slice->endpoint_slice.service)
		return 0;
	if (vector_reserve(&services->slices, services->slice_count, &services->slice_capacity,
	                   sizeof(*services->slices)) < 0)
		return -ENOMEM;
	services->slices[services->slice_count++] = (struct slice_use){slice, quarantined};
	return 0;
}

static int gather_slices(const struct object_store *store, struct services *services)
{
	for (size_t i = 0; i < object_store_count(store, OBJECT_ENDPOINT_SLICE); i++)
		if (add_slice(services, object_store_at(store, OBJECT_ENDPOINT_SLICE, i), false) < 0)
			return -ENOMEM;
	for (size_t i = 0; i < object_store_quarantined_count(store, OBJECT_ENDPOINT_SLICE); i++)
		if (add_slice(services, object_store_quarantined_at(store, OBJECT_ENDPOINT_SLICE, i)->object, true) < 0)
			return -ENOMEM;
	if (services->slice_count)
		qsort(services->slices, services->slice_count, sizeof(*services->slices), compare_slices);
	return 0;
}

static void find_slices(const struct services *services, struct service_use *use)
{
	size_t low = 0, high = services->slice_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare_slice_to(&services->slices[middle], use->namespace_, use->name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	use->first_slice = low;
	while (low < services->slice_count && !compare_slice_to(&services->slices[low], use->namespace_, use->name))
		low++;
	use->end_slice = low;
}

static int add_service(struct services *services, const char *namespace_, const char *name,
                       const struct object *service, bool quarantined)
{
	struct service_use use = {
	        .namespace_ = namespace_, .name = name, .service = service, .quarantined = quarantined};

	find_slices(services, &use);
	if (vector_reserve(&services->services, services->service_count, &services->service_capacity,
	                   sizeof(*services->services)) < 0)
		return -ENOMEM;
	services->services[services->service_count++] = use;
	return 0;
}

/* Names that attachments know and the store does not: their slices, if there are any, are refused. */
static int gather_missing_services(struct compilation *compilation, struct services *services)
{
	struct service_attachments attached;

	for (size_t i = 0; i < compilation->attachment_count; i = attached.end) {
		const struct attachment *attachment = &compilation->attachments[i];
		const struct object *service = object_store_find(compilation->store, OBJECT_SERVICE,
		                                                 attachment->namespace_, attachment->service);

		find_attachments(compilation, attachment->namespace_, attachment->service, service, &attached);
		judge_attachments(compilation, &attached, service);
		if (!service && add_service(services, attachment->namespace_, attachment->service, NULL, true) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int gather_services(struct compilation *compilation, struct services *services)
{
	const struct object_store *store = compilation->store;

	if (gather_slices(store, services) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < object_store_count(store, OBJECT_SERVICE); i++) {
		const struct object *service = object_store_at(store, OBJECT_SERVICE, i);

		if (add_service(services, service->namespace_, service->name, service, false) < 0)
			return -ENOMEM;
	}
	for (size_t i = 0; i < object_store_quarantined_count(store, OBJECT_SERVICE); i++) {
		const struct object *service = object_store_quarantined_at(store, OBJECT_SERVICE, i)->object;

		if (add_service(services, service->namespace_, service->name, service, true) < 0)
			return -ENOMEM;
	}
	return gather_missing_services(compilation, services);
}

static void deny(struct coverage *coverage, enum postern_reason reason, uint32_t policy)
{
	coverage->verdict = POSTERN_VERDICT_DENY;
	coverage->reason = reason;
	coverage->policy = policy;
}

static int give_tls(struct compilation *compilation, const struct service_use *use, const struct service_port *port,
                    struct coverage *coverage)
{
	struct compiled_policy *policy = &compilation->policies[coverage->policy];
	const struct settings_entry *entry;
	bool mixed;

	entry = policy_settings(compilation, coverage->policy,
	                        choose_alpn(compilation, &policy->options, use->service, port, &mixed));
	if (!entry)
		return -ENOMEM;
	if (mixed)
		text_add_sentence(
		        &policy->warnings,
		        "GRPCRoutes and other Routes refer to port %u of Service %s: http/1.1 is offered, which "
		        "gRPC cannot use; option postern.dev/alpn decides otherwise",
		        port ? port->port : 0, use->name);
	coverage->verdict = POSTERN_VERDICT_TLS;
	coverage->settings_id = entry->settings.id;
	return 0;
}

/* port may be NULL: a slice's port that the Service does not have. */
static int cover_port(struct compilation *compilation, const struct service_use *use,
                      const struct service_attachments *attached, const char *port_name,
                      const struct service_port *port, struct coverage *coverage)
{
	const struct attachment *attachment = NULL;
	const struct compiled_policy *policy;
	bool missing = false;

	*coverage = (struct coverage){
	        .namespace_ = use->namespace_,
	        .service = use->name,
	        .verdict = POSTERN_VERDICT_PLAIN,
	        .policy = NO_POLICY,
	        .refusal = use->quarantined,
	};
	if (attached->start < attached->end)
		attachment = deciding_attachment(compilation, attached, port_name, &missing);
	if (!attachment)
		return 0;
	coverage->policy = attachment->policy;
	coverage->refusal |= is_quarantined(compilation, attachment);
	policy = &compilation->policies[attachment->policy];
	if (!use->service)
		deny(coverage, REASON_TARGET_NOT_FOUND, attachment->policy);
	else if (coverage->refusal)
		deny(coverage, REASON_POLICY_INVALID, attachment->policy);
	else if (missing)
		deny(coverage, REASON_TARGET_NOT_FOUND, attachment->policy);
	else if (use->service->service.external_name)
		deny(coverage, REASON_EXTERNAL_NAME, attachment->policy);
	else if (policy->deny_reason != REASON_NONE)
		deny(coverage, policy->deny_reason, attachment->policy);
	else
		return give_tls(compilation, use, port, coverage);
	return 0;
}

static int add_coverage(struct compilation *compilation, const struct coverage *coverage, uint32_t *index)
{
	if (vector_reserve(&compilation->coverages, compilation->coverage_count, &compilation->coverage_capacity,
	                   sizeof(*compilation->coverages)) < 0)
		return -ENOMEM;
	*index = (uint32_t)compilation->coverage_count;
	compilation->coverages[compilation->coverage_count++] = *coverage;
	return 0;
}

/* refusal: said by something in quarantine. It can only deny, so of an uncovered port it says nothing. */
static int add_claim(struct compilation *compilation, const struct postern_address *address, uint16_t port,
                     uint32_t index, uint32_t flags, bool refusal)
{
	const struct coverage *coverage = &compilation->coverages[index];

	if (refusal || coverage->refusal)
		flags |= CLAIM_REFUSAL;
	if ((flags & CLAIM_REFUSAL) && coverage->policy == NO_POLICY)
		return 0;
	if (compilation->claim_count >= MAX_CLAIMS)
		return -ENOMEM;
	if (vector_reserve(&compilation->claims, compilation->claim_count, &compilation->claim_capacity,
	                   sizeof(*compilation->claims)) < 0)
		return -ENOMEM;
	compilation->claims[compilation->claim_count++] = (struct claim){
	        .key = destination_key(address, port),
	        .coverage = index,
	        .flags = flags,
	};
	return 0;
}

static int claim_endpoints(struct compilation *compilation, const struct slice_use *use, uint16_t port, uint32_t index)
{
	const struct endpoint_slice *slice = &use->slice->endpoint_slice;

	if (port && compilation->coverages[index].policy != NO_POLICY)
		snapshot_guard_port(compilation->snapshot, port);
	for (size_t i = 0; i < slice->endpoint_count; i++) {
		bool trusted = compilation->options->trust_every_slice ||
		               (slice->managed && slice->endpoints[i].own_pod);

		if (add_claim(compilation, &slice->endpoints[i].address, port, index, trusted ? CLAIM_TRUSTED : 0,
		              use->quarantined) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int cover_vip(struct compilation *compilation, const struct object *service, const struct service_port *port,
                     uint32_t index)
{
	if (compilation->coverages[index].policy != NO_POLICY) {
		const uint16_t guarded[] = {port->port, port->target_port, port->node_port};

		for (size_t i = 0; i < ARRAY_SIZE(guarded); i++)
			if (guarded[i])
				snapshot_guard_port(compilation->snapshot, guarded[i]);
	}
	for (size_t i = 0; i < service->service.cluster_ip_count; i++)
		if (add_claim(compilation, &service->service.cluster_ips[i], port->port, index,
		              CLAIM_VIP | CLAIM_TRUSTED, false) < 0)
			return -ENOMEM;
	return 0;
}

/* A slice's port that is no port of the Service's: kube-proxy does not use it; whoever dials it must find it covered.
 */
static int cover_stray_port(struct compilation *compilation, const struct service_use *use,
                            const struct service_attachments *attached, const struct slice_use *slice, const char *name,
                            uint16_t port)
{
	struct coverage coverage;
	uint32_t index;
	int result = cover_port(compilation, use, attached, name, NULL, &coverage);

	if (result < 0 || coverage.policy == NO_POLICY)
		return result;
	if (add_coverage(compilation, &coverage, &index) < 0)
		return -ENOMEM;
	return claim_endpoints(compilation, slice, port, index);
}

/* A slice without ports: each of its addresses stands for every TCP port of the Service, or for whatever is targeted.
 */
static int cover_portless_slice(struct compilation *compilation, const struct service_use *use,
                                const struct service_attachments *attached, const struct slice_use *slice,
                                uint32_t first_coverage)
{
	size_t tcp_ports = 0;

	for (size_t i = 0; use->service && i < use->service->service.port_count; i++) {
		if (use->service->service.ports[i].protocol != TRANSPORT_TCP)
			continue;
		if (claim_endpoints(compilation, slice, 0, first_coverage + (uint32_t)tcp_ports++) < 0)
			return -ENOMEM;
	}
	if (tcp_ports || attached->start == attached->end)
		return 0;
	return cover_stray_port(compilation, use, attached, slice,
	                        use->service ? "" : compilation->attachments[attached->start].section, 0);
}

static int cover_slice(struct compilation *compilation, const struct service_use *use,
                       const struct service_attachments *attached, const struct slice_use *slice,
                       uint32_t first_coverage)
{
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): find_slices() gives places in the list only */
	const struct endpoint_slice *endpoint_slice = &slice->slice->endpoint_slice;
	int result = 0;

	if (!endpoint_slice->endpoint_count)
		return 0;
	if (!endpoint_slice->port_count)
		return cover_portless_slice(compilation, use, attached, slice, first_coverage);
	for (size_t i = 0; result == 0 && i < endpoint_slice->port_count; i++) {
		const struct slice_port *slice_port = &endpoint_slice->ports[i];
		uint32_t index = first_coverage;
		bool found = false;

		if (slice_port->protocol != TRANSPORT_TCP)
			continue;
		for (size_t j = 0; use->service && !found && j < use->service->service.port_count; j++) {
			const struct service_port *port = &use->service->service.ports[j];

			if (port->protocol != TRANSPORT_TCP)
				continue;
			found = !strcmp(port->name, slice_port->name);
			index += !found;
		}
		result = found ? claim_endpoints(compilation, slice, slice_port->port, index)
		               : cover_stray_port(compilation, use, attached, slice,
		                                  use->service ? "" : slice_port->name, slice_port->port);
	}
	return result;
}

static int cover_service(struct compilation *compilation, const struct services *services,
                         const struct service_use *use)
{
	uint32_t first_coverage = (uint32_t)compilation->coverage_count, index;
	struct service_attachments attached;

	/* In quarantine and not targeted: nothing to refuse. */
	if (!find_attachments(compilation, use->namespace_, use->name, use->service, &attached) && use->quarantined)
		return 0;
	for (size_t i = 0; use->service && i < use->service->service.port_count; i++) {
		const struct service_port *port = &use->service->service.ports[i];
		struct coverage coverage;

		if (port->protocol != TRANSPORT_TCP)
			continue;
		if (cover_port(compilation, use, &attached, port->name, port, &coverage) < 0 ||
		    add_coverage(compilation, &coverage, &index) < 0 ||
		    cover_vip(compilation, use->service, port, index) < 0)
			return -ENOMEM;
	}
	for (size_t i = use->first_slice; i < use->end_slice; i++)
		if (cover_slice(compilation, use, &attached, &services->slices[i], first_coverage) < 0)
			return -ENOMEM;
	return 0;
}

int cover_services(struct compilation *compilation)
{
	struct services services = {0};
	int result = gather_services(compilation, &services);

	for (size_t i = 0; result == 0 && i < services.service_count; i++)
		result = cover_service(compilation, &services, &services.services[i]);
	free(services.slices);
	free(services.services);
	return result;
}
