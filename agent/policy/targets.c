// SPDX-License-Identifier: GPL-2.0-only
#include "policy/targets.h"

#include <string.h>

bool is_of_service_kind(const struct target_reference *target)
{
	return (!target->group || !*target->group) && (!target->kind || !strcmp(target->kind, "Service"));
}

bool is_service_target(const struct target_reference *target)
{
	return is_of_service_kind(target) && target->name;
}

const char *target_section(const struct target_reference *target)
{
	return target->section_name ? target->section_name : "";
}

bool is_repeated_target(const struct backend_tls_policy *policy, size_t index, bool same_section)
{
	const struct target_reference *target = &policy->targets[index];

	for (size_t i = 0; i < index; i++) {
		const struct target_reference *other = &policy->targets[i];

		if (is_service_target(other) && !strcmp(other->name, target->name) &&
		    (!same_section || !strcmp(target_section(other), target_section(target))))
			return true;
	}
	return false;
}

int compare_precedence(const struct object *left, const struct object *right)
{
	if (left->created != right->created)
		return left->created < right->created ? -1 : 1;
	return object_compare(left, right);
}
