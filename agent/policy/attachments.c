// SPDX-License-Identifier: GPL-2.0-only
/*
 * Policy attachment. Sorted by Service and section (= port name, "" for the whole Service); within one section by rank:
 * what is in force before what is in quarantine, then Gateway API's precedence: the oldest creationTimestamp, then
 * namespace/name. The first of a section is its winner, valid or not: an invalid winner denies, the next never steps
 * in.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "policy/compilation.h"
#include "policy/vector.h"

static int compare_service(const struct attachment *attachment, const char *namespace_, const char *service)
{
	int order = strcmp(attachment->namespace_, namespace_);

	return order ? order : strcmp(attachment->service, service);
}

static int compare_rank(const struct compilation *compilation, const struct attachment *left,
                        const struct attachment *right)
{
	const struct object *left_object = compilation->policies[left->policy].object;
	const struct object *right_object = compilation->policies[right->policy].object;
	bool left_quarantined = is_quarantined(compilation, left);
	int order;

	if (left_quarantined != is_quarantined(compilation, right))
		return left_quarantined ? 1 : -1;
	if (left_object->created != right_object->created)
		return left_object->created < right_object->created ? -1 : 1;
	order = object_compare(left_object, right_object);
	if (order)
		return order;
	return left->policy < right->policy ? -1 : left->policy > right->policy;
}

static int compare_attachments(const void *left_pointer, const void *right_pointer, void *context)
{
	const struct attachment *left = left_pointer, *right = right_pointer;
	int order = compare_service(left, right->namespace_, right->service);

	if (!order)
		order = strcmp(left->section, right->section);
	return order ? order : compare_rank(context, left, right);
}

static int add_targets(struct compilation *compilation, uint32_t index)
{
	const struct object *object = compilation->policies[index].object;
	const struct backend_tls_policy *policy = &object->backend_tls_policy;

	for (size_t i = 0; i < policy->target_count; i++) {
		const struct target_reference *target = &policy->targets[i];

		/* A target without kind is broken, and visibly meant a Service. */
		if ((target->group && *target->group) || (target->kind && strcmp(target->kind, "Service")) ||
		    !target->name)
			continue;
		if (vector_reserve(&compilation->attachments, compilation->attachment_count,
		                   &compilation->attachment_capacity, sizeof(*compilation->attachments)) < 0)
			return -ENOMEM;
		compilation->attachments[compilation->attachment_count++] = (struct attachment){
		        .namespace_ = object->namespace_,
		        .service = target->name,
		        .section = target->section_name ? target->section_name : "",
		        .policy = index,
		};
	}
	return 0;
}

int attach_policies(struct compilation *compilation)
{
	for (size_t i = 0; i < compilation->policy_count; i++)
		if (add_targets(compilation, (uint32_t)i) < 0)
			return -ENOMEM;
	if (compilation->attachment_count)
		qsort_r(compilation->attachments, compilation->attachment_count, sizeof(*compilation->attachments),
		        compare_attachments, compilation);
	return 0;
}

/* The winner of one section, NULL if no policy names it. */
static const struct attachment *find_winner(const struct compilation *compilation,
                                            const struct service_attachments *attached, const char *section)
{
	size_t low = attached->start, high = attached->end;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(compilation->attachments[middle].section, section) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < attached->end && !strcmp(compilation->attachments[low].section, section)
	               ? &compilation->attachments[low]
	               : NULL;
}

static const struct service_port *find_port(const struct object *service, const char *name)
{
	for (size_t i = 0; service && i < service->service.port_count; i++)
		if (!strcmp(service->service.ports[i].name, name))
			return &service->service.ports[i];
	return NULL;
}

bool find_attachments(const struct compilation *compilation, const char *namespace_, const char *name,
                      const struct object *service, struct service_attachments *attached)
{
	const struct attachment *attachments = compilation->attachments;
	size_t low = 0, high = compilation->attachment_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare_service(&attachments[middle], namespace_, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*attached = (struct service_attachments){.start = low};
	for (; low < compilation->attachment_count; low++) {
		const struct attachment *attachment = &attachments[low];
		bool quarantined = is_quarantined(compilation, attachment);

		if (compare_service(attachment, namespace_, name))
			break;
		if (service && *attachment->section && !attached->missing[quarantined] &&
		    !find_port(service, attachment->section))
			attached->missing[quarantined] = attachment;
	}
	attached->end = low;
	return attached->start < attached->end;
}

const struct attachment *deciding_attachment(const struct compilation *compilation,
                                             const struct service_attachments *attached, const char *port_name,
                                             bool *missing)
{
	const struct attachment *candidates[] = {
	        *port_name ? find_winner(compilation, attached, port_name) : NULL,
	        find_winner(compilation, attached, ""),
	};

	for (int quarantined = 0; quarantined <= 1; quarantined++) {
		*missing = false;
		for (size_t i = 0; i < ARRAY_SIZE(candidates); i++)
			if (candidates[i] && is_quarantined(compilation, candidates[i]) == quarantined)
				return candidates[i];
		*missing = attached->missing[quarantined] != NULL;
		if (*missing)
			return attached->missing[quarantined];
	}
	return NULL;
}

static const char *protocol_name(enum transport_protocol protocol)
{
	return protocol == TRANSPORT_UDP ? "UDP" : protocol == TRANSPORT_SCTP ? "SCTP" : "TCP";
}

static size_t count_tcp_ports(const struct service *service)
{
	size_t count = 0;

	for (size_t i = 0; i < service->port_count; i++)
		count += service->ports[i].protocol == TRANSPORT_TCP;
	return count;
}

static void judge_whole_service(struct compiled_policy *policy, const struct object *object)
{
	const struct service *service = &object->service;
	size_t tcp_ports = count_tcp_ports(service);

	if (service->port_count && !tcp_ports)
		text_add_sentence(&policy->unusable, "Service %s has no TCP port: TLS runs over TCP only",
		                  object->name);
	else if (tcp_ports < service->port_count)
		text_add_sentence(&policy->warnings, "the UDP or SCTP ports of Service %s are not covered",
		                  object->name);
}

static void judge_section(struct compiled_policy *policy, const struct object *object, const char *section)
{
	const struct service_port *port = find_port(object, section);
	char shown[PRINTABLE_MAX];

	if (!port)
		text_add_sentence(&policy->not_found,
		                  "Service %s has no port named \"%s\": its TCP ports that no other policy covers are "
		                  "refused",
		                  object->name, printable(section, shown));
	else if (port->protocol != TRANSPORT_TCP)
		text_add_sentence(&policy->unusable, "port \"%s\" of Service %s is %s: TLS runs over TCP only", section,
		                  object->name, protocol_name(port->protocol));
}

static void judge_winner(struct compiled_policy *policy, const struct attachment *attachment,
                         const struct object *service)
{
	if (service->service.external_name)
		text_add_sentence(&policy->unusable,
		                  "Service %s is of type ExternalName, which has no endpoints that could be covered",
		                  service->name);
	else if (*attachment->section)
		judge_section(policy, service, attachment->section);
	else
		judge_whole_service(policy, service);
}

static void judge_loser(struct compilation *compilation, struct compiled_policy *policy,
                        const struct attachment *attachment, const struct attachment *winner)
{
	const struct object *other = compilation->policies[winner->policy].object;
	bool older = other->created < policy->object->created;
	char shown[PRINTABLE_MAX];

	text_add_sentence(&policy->conflicts, "Service %s", printable(attachment->service, shown));
	if (*attachment->section)
		text_append(&policy->conflicts, " port \"%s\"", printable(attachment->section, shown));
	text_append(&policy->conflicts, " is targeted by policy %s/%s, too, which %s", other->namespace_, other->name,
	            older ? "is older" : "comes first by name");
}

void judge_attachments(struct compilation *compilation, const struct service_attachments *attached,
                       const struct object *service)
{
	const struct attachment *winner = NULL;
	char shown[PRINTABLE_MAX];

	for (size_t i = attached->start; i < attached->end; i++) {
		const struct attachment *attachment = &compilation->attachments[i];
		struct compiled_policy *policy = &compilation->policies[attachment->policy];

		if (is_quarantined(compilation, attachment))
			continue;
		if (!winner || strcmp(winner->section, attachment->section)) {
			winner = attachment;
			if (service)
				judge_winner(policy, attachment, service);
		} else if (winner->policy != attachment->policy) {
			judge_loser(compilation, policy, attachment, winner);
		}
		if (!service)
			text_add_sentence(&policy->not_found, "Service %s/%s does not exist", attachment->namespace_,
			                  printable(attachment->service, shown));
	}
}
