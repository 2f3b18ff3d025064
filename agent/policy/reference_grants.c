// SPDX-License-Identifier: GPL-2.0-only
/* Which ReferenceGrant lets an object refer into another namespace? For Routes and Gateways (gateways.h). */
#include <string.h>

#include "policy/gateways.h"
#include "policy/object.h"
#include "policy/store.h"

static bool is_from(const struct reference_grant *grant, const char *group, const char *kind, const char *namespace_)
{
	for (size_t i = 0; i < grant->from_count; i++)
		if (!strcmp(grant->from[i].group, group) && !strcmp(grant->from[i].kind, kind) &&
		    !strcmp(grant->from[i].namespace_, namespace_))
			return true;
	return false;
}

static bool is_to(const struct reference_grant *grant, const char *group, const char *kind, const char *name)
{
	for (size_t i = 0; i < grant->to_count; i++)
		if (!strcmp(grant->to[i].group, group) && !strcmp(grant->to[i].kind, kind) &&
		    (!grant->to[i].name || !strcmp(grant->to[i].name, name)))
			return true;
	return false;
}

bool reference_granted(const struct object_store *store, const char *from_group, const char *from_kind,
                       const char *from_namespace, const char *to_group, const char *to_kind, const char *to_namespace,
                       const char *name)
{
	size_t count = object_store_count(store, OBJECT_REFERENCE_GRANT);

	if (!strcmp(from_namespace, to_namespace))
		return true;
	for (size_t i = object_store_first_of(store, OBJECT_REFERENCE_GRANT, to_namespace); i < count; i++) {
		const struct object *grant = object_store_at(store, OBJECT_REFERENCE_GRANT, i);

		if (strcmp(grant->namespace_, to_namespace))
			return false;
		if (is_from(&grant->reference_grant, from_group, from_kind, from_namespace) &&
		    is_to(&grant->reference_grant, to_group, to_kind, name))
			return true;
	}
	return false;
}
