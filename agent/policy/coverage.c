// SPDX-License-Identifier: GPL-2.0-only
/*
 * A Service and its EndpointSlices -> what each port means (coverages), and who says so of which address (claims).
 *
 * A Service in quarantine, and slices whose Service does not exist, speak up only where a policy targets them, and then
 * only to refuse. An uncovered port that is in force claims its addresses, too: that is how they are known as PLAIN.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "policy/compilation.h"
#include "policy/vector.h"

/* The Service as one of its objects describes it. */
struct view {
	struct compiler *compiler;
	struct service_node *service;
	const struct object *object; /* NULL: slices without a Service */
	bool quarantined;
};

static void deny(struct coverage *coverage, enum postern_reason reason)
{
	coverage->verdict = POSTERN_VERDICT_DENY;
	coverage->reason = reason;
}

static int give_tls(const struct view *view, const struct service_port *port, struct coverage *coverage)
{
	choose_alpn(view->compiler, view->service, port, coverage);
	if (use_settings(view->compiler, coverage->policy, coverage->alpn, &coverage->settings_id) < 0)
		return -ENOMEM;
	coverage->verdict = POSTERN_VERDICT_TLS;
	return 0;
}

/* port may be NULL: a slice's port that the Service does not have. */
static int cover_port(const struct view *view, const char *port_name, const struct service_port *port,
                      struct coverage *coverage)
{
	const struct attachment *attachment;
	bool missing;

	*coverage = (struct coverage){
	        .verdict = POSTERN_VERDICT_PLAIN,
	        .refusal = view->quarantined,
	        .port = port ? port->port : 0,
	};
	attachment = deciding_attachment(view->service, view->object, port_name, &missing);
	if (!attachment)
		return 0;
	coverage->policy = attachment->policy;
	coverage->refusal |= attachment->policy->why_quarantined != NULL;
	if (!view->object)
		deny(coverage, REASON_TARGET_NOT_FOUND);
	else if (coverage->refusal)
		deny(coverage, REASON_POLICY_INVALID);
	else if (missing)
		deny(coverage, REASON_TARGET_NOT_FOUND);
	else if (view->object->service.external_name)
		deny(coverage, REASON_EXTERNAL_NAME);
	else if (attachment->policy->deny_reason != REASON_NONE)
		deny(coverage, attachment->policy->deny_reason);
	else
		return give_tls(view, port, coverage);
	return 0;
}

/* Covers a port and remembers it. */
static int add_coverage(const struct view *view, const char *port_name, const struct service_port *port,
                        uint32_t *index)
{
	struct service_node *service = view->service;

	if (vector_reserve(&service->coverages, service->coverage_count, &service->coverage_capacity,
	                   sizeof(*service->coverages)) < 0 ||
	    cover_port(view, port_name, port, &service->coverages[service->coverage_count]) < 0)
		return -ENOMEM;
	*index = (uint32_t)service->coverage_count++;
	return 0;
}

static int guard_port(const struct view *view, uint16_t port)
{
	struct service_node *service = view->service;

	if (!port)
		return 0;
	if (vector_reserve(&service->guards, service->guard_count, &service->guard_capacity, sizeof(*service->guards)) <
	    0)
		return -ENOMEM;
	service->guards[service->guard_count++] = port;
	view->compiler->guards[port]++;
	return 0;
}

/* Linked to its key once all are there: until then they move. Of an uncovered port a refusal says nothing. */
static int add_claim(const struct view *view, const struct postern_address *address, uint16_t port,
                     const struct claim *template)
{
	struct service_node *service = view->service;
	const struct coverage *coverage = &service->coverages[template->coverage];
	struct postern_destination_key key = destination_key(address, port);
	struct claim claim = *template;

	if (coverage->refusal)
		claim.flags |= CLAIM_REFUSAL;
	if (view->quarantined)
		claim.flags &= ~CLAIM_KNOWN;
	if ((claim.flags & CLAIM_REFUSAL) && !coverage->policy)
		return 0;
	if (view->compiler->claim_count >= MAX_CLAIMS ||
	    vector_reserve(&service->claims, service->claim_count, &service->claim_capacity, sizeof(claim)) < 0)
		return -ENOMEM;
	claim.service = service;
	claim.key = get_key(view->compiler, &key);
	if (!claim.key)
		return -ENOMEM;
	service->claims[service->claim_count++] = claim;
	view->compiler->claim_count++;
	return 0;
}

/* known: CLAIM_KNOWN where an uncovered port claims its endpoints, too. */
static int claim_endpoints(const struct view *view, const struct slice_use *use, uint16_t port, uint32_t index,
                           uint32_t known)
{
	const struct endpoint_slice *slice = &use->slice->endpoint_slice;

	if (view->service->coverages[index].policy && guard_port(view, port) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < slice->endpoint_count; i++) {
		const struct endpoint *endpoint = &slice->endpoints[i];
		const struct claim claim = {
		        .endpoint = endpoint,
		        .coverage = index,
		        .flags = (slice->managed && endpoint->own_pod ? CLAIM_TRUSTED : 0) |
		                 (use->quarantined ? CLAIM_REFUSAL : known),
		};

		if (add_claim(view, &endpoint->address, port, &claim) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int claim_addresses(const struct view *view, const struct postern_address *addresses, size_t count,
                           uint16_t port, const struct claim *claim)
{
	for (size_t i = 0; i < count; i++)
		if (add_claim(view, &addresses[i], port, claim) < 0)
			return -ENOMEM;
	return 0;
}

static int cover_vips(const struct view *view, const struct service_port *port, uint32_t index)
{
	const struct service *spec = &view->object->service;
	const uint16_t guarded[] = {port->port, port->target_port, port->node_port};
	const struct claim cluster = {.coverage = index, .flags = CLAIM_VIP | CLAIM_TRUSTED | CLAIM_KNOWN};
	const struct claim external = {.coverage = index, .flags = CLAIM_EXTERNAL | CLAIM_KNOWN};

	for (size_t i = 0; view->service->coverages[index].policy && i < ARRAY_SIZE(guarded); i++)
		if (guard_port(view, guarded[i]) < 0)
			return -ENOMEM;
	if (claim_addresses(view, spec->cluster_ips, spec->cluster_ip_count, port->port, &cluster) < 0)
		return -ENOMEM;
	if (spec->external_name) /* kube-proxy has nothing for it */
		return 0;
	return claim_addresses(view, spec->external_ips, spec->external_ip_count, port->port, &external);
}

/*
 * While a port is given another name the slices lag behind: they still have the old one, with the number of its
 * target. A covered port of that number is it.
 */
static bool find_renamed(const struct view *view, uint16_t number, uint32_t *index)
{
	for (size_t i = 0; number && view->object && i < view->object->service.port_count; i++) {
		const struct service_port *port = &view->object->service.ports[i];

		if (port->protocol != TRANSPORT_TCP)
			continue;
		if (port->target_port == number && view->service->coverages[*index].policy)
			return true;
		++*index;
	}
	return false;
}

/* A slice's port that is no port of the Service's: kube-proxy does not use it; whoever dials it must find it covered.
 */
static int cover_stray_port(const struct view *view, const struct slice_use *slice, const char *name, uint16_t port)
{
	uint32_t index;

	if (add_coverage(view, name, NULL, &index) < 0)
		return -ENOMEM;
	return view->service->coverages[index].policy ? claim_endpoints(view, slice, port, index, 0) : 0;
}

/* A slice without ports: each of its addresses stands for every TCP port of the Service, or for whatever is targeted.
 */
static int cover_portless_slice(const struct view *view, const struct slice_use *slice, uint32_t first_coverage)
{
	size_t tcp_ports = 0;

	for (size_t i = 0; view->object && i < view->object->service.port_count; i++) {
		if (view->object->service.ports[i].protocol != TRANSPORT_TCP)
			continue;
		if (claim_endpoints(view, slice, 0, first_coverage + (uint32_t)tcp_ports++, CLAIM_KNOWN) < 0)
			return -ENOMEM;
	}
	if (tcp_ports || !view->service->attachment_count)
		return 0;
	return cover_stray_port(view, slice, view->object ? "" : view->service->attachments[0].section, 0);
}

/* The coverage of the Service's port of this name; they stand in the order of its TCP ports. */
static bool find_coverage(const struct view *view, const char *name, uint32_t *index)
{
	for (size_t i = 0; view->object && i < view->object->service.port_count; i++) {
		const struct service_port *port = &view->object->service.ports[i];

		if (port->protocol != TRANSPORT_TCP)
			continue;
		if (!strcmp(port->name, name))
			return true;
		++*index;
	}
	return false;
}

static int cover_slice(const struct view *view, const struct slice_use *use, uint32_t first_coverage)
{
	const struct endpoint_slice *slice = &use->slice->endpoint_slice;
	int result = 0;

	if (!slice->endpoint_count)
		return 0;
	if (!slice->port_count)
		return cover_portless_slice(view, use, first_coverage);
	for (size_t i = 0; result == 0 && i < slice->port_count; i++) {
		const struct slice_port *port = &slice->ports[i];
		uint32_t named = first_coverage, numbered = first_coverage;

		if (port->protocol != TRANSPORT_TCP)
			continue;
		if (find_coverage(view, port->name, &named))
			result = claim_endpoints(view, use, port->port, named, CLAIM_KNOWN);
		else if (find_renamed(view, port->port, &numbered))
			result = claim_endpoints(view, use, port->port, numbered, 0);
		else
			result = cover_stray_port(view, use, view->object ? "" : port->name, port->port);
	}
	return result;
}

static int cover_view(const struct view *view)
{
	struct service_node *service = view->service;
	uint32_t first_coverage = (uint32_t)service->coverage_count, index;

	/* In quarantine and not targeted: nothing to refuse. */
	if (view->quarantined && !service->attachment_count)
		return 0;
	for (size_t i = 0; view->object && i < view->object->service.port_count; i++) {
		const struct service_port *port = &view->object->service.ports[i];

		if (port->protocol == TRANSPORT_TCP &&
		    (add_coverage(view, port->name, port, &index) < 0 || cover_vips(view, port, index) < 0))
			return -ENOMEM;
	}
	for (size_t i = 0; i < service->slice_count; i++)
		if (cover_slice(view, &service->slices[i], first_coverage) < 0)
			return -ENOMEM;
	return 0;
}

static int cover_service(struct compiler *compiler, struct service_node *service)
{
	struct view view = {.compiler = compiler, .service = service, .object = service->service};

	if (view.object && cover_view(&view) < 0)
		return -ENOMEM;
	view.quarantined = true;
	for (size_t i = 0; i < service->quarantined_count; i++) {
		view.object = service->quarantined[i];
		if (cover_view(&view) < 0)
			return -ENOMEM;
	}
	view.object = NULL;
	return service->service ? 0 : cover_view(&view);
}

static int link_claims(struct compiler *compiler, struct service_node *service)
{
	for (size_t i = 0; i < service->claim_count; i++) {
		struct claim *claim = &service->claims[i];

		claim->next = claim->key->claims;
		claim->place = &claim->key->claims;
		if (claim->next)
			claim->next->place = &claim->next;
		claim->key->claims = claim;
		if (touch_key(compiler, claim->key) < 0)
			return -ENOMEM;
	}
	return 0;
}

static void unlink_claim(struct claim *claim)
{
	*claim->place = claim->next;
	if (claim->next)
		claim->next->place = claim->place;
}

static int uncover(struct compiler *compiler, struct service_node *service)
{
	for (size_t i = 0; i < service->claim_count; i++) {
		unlink_claim(&service->claims[i]);
		if (touch_key(compiler, service->claims[i].key) < 0)
			return -ENOMEM;
	}
	for (size_t i = 0; i < service->coverage_count; i++) {
		const struct coverage *coverage = &service->coverages[i];

		if (coverage->verdict == POSTERN_VERDICT_TLS)
			release_settings(compiler, coverage->policy, coverage->alpn);
	}
	for (size_t i = 0; i < service->guard_count; i++)
		compiler->guards[service->guards[i]]--;
	compiler->claim_count -= service->claim_count;
	service->claim_count = service->coverage_count = service->guard_count = 0;
	return 0;
}

int cover_dirty_services(struct compiler *compiler)
{
	for (size_t i = 0; i < compiler->dirty_service_count; i++)
		if (uncover(compiler, compiler->dirty_services[i]) < 0)
			return -ENOMEM;
	/* Nothing points at them any more, and whoever takes their place may claim their settings' names. */
	free_dead_policies(compiler);
	for (size_t i = 0; i < compiler->dirty_service_count; i++) {
		struct service_node *service = compiler->dirty_services[i];

		if (cover_service(compiler, service) < 0 || link_claims(compiler, service) < 0)
			return -ENOMEM;
	}
	return 0;
}
