// SPDX-License-Identifier: GPL-2.0-only
/*
 * Policy attachment. A Service's attachments are sorted by section (= port name, "" for the whole Service); within one
 * section by rank: what is in force before what is in quarantine, then Gateway API's precedence: the oldest
 * creationTimestamp, then namespace/name. The first of a section is its winner, valid or not: an invalid winner denies,
 * the next never steps in.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/sorted.h"
#include "policy/compilation.h"
#include "policy/vector.h"

static bool is_quarantined(const struct attachment *attachment)
{
	return attachment->policy->why_quarantined;
}

static int compare_rank(const struct compiled_policy *left, const struct compiled_policy *right)
{
	int order;

	if (!left->why_quarantined != !right->why_quarantined)
		return left->why_quarantined ? 1 : -1;
	order = compare_precedence(left->object, right->object);
	return order ? order : compare_policies(left, right);
}

static int compare_attachments(const void *left_pointer, const void *right_pointer)
{
	const struct attachment *left = left_pointer, *right = right_pointer;
	int order = strcmp(left->section, right->section);

	return order ? order : compare_rank(left->policy, right->policy);
}

/* The place of the first that is not less. */
static size_t find_place(const struct service_node *service, const struct attachment *attachment)
{
	return first_sorted(attachment, service->attachments, service->attachment_count, sizeof(*attachment),
	                    compare_attachments);
}

static int compare_to_section(const void *section, const void *attachment)
{
	return strcmp(section, ((const struct attachment *)attachment)->section);
}

static struct attachment make_attachment(struct compiled_policy *policy, const struct target_reference *target)
{
	return (struct attachment){
	        .section = target_section(target),
	        .policy = policy,
	};
}

static int attach_target(struct compiler *compiler, struct compiled_policy *policy,
                         const struct target_reference *target)
{
	struct attachment attachment = make_attachment(policy, target);
	struct service_node *service = get_service(compiler, policy->object->namespace_, target->name);
	size_t place;

	if (!service || touch_service(compiler, service) < 0 ||
	    vector_reserve(&service->attachments, service->attachment_count, &service->attachment_capacity,
	                   sizeof(*service->attachments)) < 0)
		return -ENOMEM;
	place = find_place(service, &attachment);
	memmove(service->attachments + place + 1, service->attachments + place,
	        (service->attachment_count - place) * sizeof(*service->attachments));
	service->attachments[place] = attachment;
	service->attachment_count++;
	return 0;
}

int attach_policy(struct compiler *compiler, struct compiled_policy *policy)
{
	const struct backend_tls_policy *spec = &policy->object->backend_tls_policy;

	for (size_t i = 0; i < spec->target_count; i++)
		if (is_service_target(&spec->targets[i]) && !is_repeated_target(spec, i, true) &&
		    attach_target(compiler, policy, &spec->targets[i]) < 0)
			return -ENOMEM;
	return 0;
}

int detach_policy(struct compiler *compiler, struct compiled_policy *policy)
{
	const struct backend_tls_policy *spec = &policy->object->backend_tls_policy;

	for (size_t i = 0; i < spec->target_count; i++) {
		struct attachment attachment = make_attachment(policy, &spec->targets[i]);
		struct service_node *service;
		size_t place;

		if (!is_service_target(&spec->targets[i]) || is_repeated_target(spec, i, true))
			continue;
		service = find_service(compiler, policy->object->namespace_, spec->targets[i].name);
		place = find_place(service, &attachment);
		service->attachment_count--;
		memmove(service->attachments + place, service->attachments + place + 1,
		        (service->attachment_count - place) * sizeof(*service->attachments));
		if (touch_service(compiler, service) < 0)
			return -ENOMEM;
	}
	return 0;
}

const struct attachment *find_winner(const struct service_node *service, const char *section)
{
	size_t place = first_sorted(section, service->attachments, service->attachment_count,
	                            sizeof(*service->attachments), compare_to_section);

	return place < service->attachment_count && !strcmp(service->attachments[place].section, section)
	               ? &service->attachments[place]
	               : NULL;
}

const struct service_port *find_service_port(const struct object *service, const char *name)
{
	for (size_t i = 0; service && i < service->service.port_count; i++)
		if (!strcmp(service->service.ports[i].name, name))
			return &service->service.ports[i];
	return NULL;
}

/* The first that names a port which does not exist, of those in force or in quarantine. */
static const struct attachment *find_missing(const struct service_node *service, const struct object *object,
                                             bool quarantined)
{
	for (size_t i = 0; object && i < service->attachment_count; i++) {
		const struct attachment *attachment = &service->attachments[i];

		if (*attachment->section && is_quarantined(attachment) == quarantined &&
		    !find_service_port(object, attachment->section))
			return attachment;
	}
	return NULL;
}

const struct attachment *deciding_attachment(const struct service_node *service, const struct object *object,
                                             const char *port_name, bool *missing)
{
	const struct attachment *candidates[] = {
	        *port_name ? find_winner(service, port_name) : NULL,
	        find_winner(service, ""),
	};

	for (int quarantined = 0; quarantined <= 1; quarantined++) {
		const struct attachment *attachment;

		*missing = false;
		for (size_t i = 0; i < ARRAY_SIZE(candidates); i++)
			if (candidates[i] && is_quarantined(candidates[i]) == quarantined)
				return candidates[i];
		attachment = find_missing(service, object, quarantined);
		*missing = attachment;
		if (attachment)
			return attachment;
	}
	return NULL;
}
