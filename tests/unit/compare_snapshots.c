// SPDX-License-Identifier: GPL-2.0-only
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/reason.h"
#include "compare_snapshots.h"

#define check(condition, ...)                                                                                          \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			print_error("step %u: ", step);                                                                \
			fail_msg(__VA_ARGS__);                                                                         \
		}                                                                                                      \
	} while (0)

static bool same_condition(const struct policy_condition *left, const struct policy_condition *right)
{
	return left->status == right->status && !strcmp(left->reason, right->reason) &&
	       !strcmp(left->message, right->message);
}

static bool same_ancestors(const struct policy_status *left, const struct policy_status *right)
{
	if (left->ancestor_count != right->ancestor_count || left->ancestors_left_out != right->ancestors_left_out)
		return false;
	for (size_t i = 0; i < left->ancestor_count; i++)
		if (strcmp(left->ancestors[i].namespace_, right->ancestors[i].namespace_) ||
		    strcmp(left->ancestors[i].name, right->ancestors[i].name))
			return false;
	return true;
}

static void compare_policies(unsigned int step, const struct snapshot *left_snapshot,
                             const struct snapshot *right_snapshot)
{
	check(snapshot_policy_count(left_snapshot) == snapshot_policy_count(right_snapshot), "%zu policies, new %zu",
	      snapshot_policy_count(left_snapshot), snapshot_policy_count(right_snapshot));
	for (size_t i = 0; i < snapshot_policy_count(left_snapshot); i++) {
		const struct policy_status *left = snapshot_policy_at(left_snapshot, i);
		const struct policy_status *right = snapshot_policy_at(right_snapshot, i);

		check(!strcmp(left->namespace_, right->namespace_) && !strcmp(left->name, right->name) &&
		              left->generation == right->generation,
		      "policy %zu: %s/%s, new %s/%s", i, left->namespace_, left->name, right->namespace_, right->name);
		check(same_condition(&left->accepted, &right->accepted), "%s: Accepted %s: %s\nnew %s: %s", left->name,
		      left->accepted.reason, left->accepted.message, right->accepted.reason, right->accepted.message);
		check(same_condition(&left->resolved_refs, &right->resolved_refs),
		      "%s: ResolvedRefs %s: %s\nnew %s: %s", left->name, left->resolved_refs.reason,
		      left->resolved_refs.message, right->resolved_refs.reason, right->resolved_refs.message);
		check(same_ancestors(left, right), "%s: %zu ancestors, new %zu", left->name, left->ancestor_count,
		      right->ancestor_count);
		check(!strcmp(left->warnings, right->warnings), "%s: warnings %s\nnew %s", left->name, left->warnings,
		      right->warnings);
		check(left->destination_count == right->destination_count && left->settings_id == right->settings_id,
		      "%s: %u destinations, settings %u; new %u, %u", left->name, left->destination_count,
		      left->settings_id, right->destination_count, right->settings_id);
	}
}

static void compare_settings(unsigned int step, const struct snapshot *left_snapshot,
                             const struct snapshot *right_snapshot)
{
	check(snapshot_settings_count(left_snapshot) == snapshot_settings_count(right_snapshot),
	      "%zu settings, new %zu", snapshot_settings_count(left_snapshot), snapshot_settings_count(right_snapshot));
	for (size_t i = 0; i < snapshot_settings_count(left_snapshot); i++) {
		const struct tls_settings *left = snapshot_settings_at(left_snapshot, i);
		const struct tls_settings *right = snapshot_settings_at(right_snapshot, i);

		check(left->id == right->id && !memcmp(left->digest, right->digest, sizeof(left->digest)) &&
		              !strcmp(left->policy_namespace, right->policy_namespace) &&
		              !strcmp(left->policy_name, right->policy_name),
		      "settings %u of %s/%s, new %u of %s/%s", left->id, left->policy_namespace, left->policy_name,
		      right->id, right->policy_namespace, right->policy_name);
	}
}

static void compare_gateways(unsigned int step, const struct snapshot *left_snapshot,
                             const struct snapshot *right_snapshot)
{
	check(snapshot_gateway_count(left_snapshot) == snapshot_gateway_count(right_snapshot), "number of Gateways");
	for (size_t i = 0; i < snapshot_gateway_count(left_snapshot); i++) {
		const struct gateway_status *left = snapshot_gateway_at(left_snapshot, i);
		const struct gateway_status *right = snapshot_gateway_at(right_snapshot, i);

		check(!strcmp(left->name, right->name) && left->generation == right->generation &&
		              left->served == right->served && left->client_certificate == right->client_certificate &&
		              same_condition(&left->resolved_refs, &right->resolved_refs),
		      "Gateway %s", left->name);
		check(snapshot_find_gateway(left_snapshot, left->namespace_, left->name) == left, "find Gateway");
	}
}

/* Whatever a reader can see of a destination, in words. Static buffers, used in turn. */
const char *describe_destination(const struct snapshot *snapshot, const struct destination *destination)
{
	static char texts[2][256];
	static unsigned int turn;
	char *text = texts[turn++ % 2], key[DESTINATION_TEXT_MAX];
	const struct policy_status *policy = NULL;

	if (!destination)
		return "none";
	if (destination->policy != SNAPSHOT_NO_POLICY)
		policy = snapshot_policy_at(snapshot, destination->policy);
	snprintf(text, sizeof(texts[0]), "%s class %d verdict %d settings %u reason %s policy %s/%s%s%s until %llu",
	         destination_format(&destination->key, key), destination->class, (int)destination->verdict,
	         destination->settings_id, reason_name(destination->reason), policy ? policy->namespace_ : "",
	         policy ? policy->name : "", destination->trusted ? " trusted" : "",
	         destination->tombstone ? " tombstone" : "", (unsigned long long)destination->tombstone_until_ns);
	return text;
}

static void compare_destinations(unsigned int step, const struct snapshot *left, const struct snapshot *right)
{
	size_t count = snapshot_destination_count(left);

	for (size_t i = 0; i < count && i < snapshot_destination_count(right); i++) {
		const char *seen = describe_destination(left, snapshot_destination_at(left, i));
		const char *expected = describe_destination(right, snapshot_destination_at(right, i));

		check(!strcmp(seen, expected), "destination %zu: %s\nnew %s", i, seen, expected);
	}
	check(count == snapshot_destination_count(right), "%zu destinations, new %zu", count,
	      snapshot_destination_count(right));
}

void compare_snapshots(unsigned int step, const struct snapshot *left, const struct snapshot *right)
{
	static const uint16_t ports[] = {53, 80, 443, 8080, 8443, 9090, 30443, 1}; /* of the universe, and one more */

	compare_destinations(step, left, right);
	compare_settings(step, left, right);
	compare_policies(step, left, right);
	compare_gateways(step, left, right);
	check(snapshot_generation(left) == snapshot_generation(right), "generation");
	check(snapshot_next_expiry_ns(left) == snapshot_next_expiry_ns(right), "next expiry %llu, new %llu",
	      (unsigned long long)snapshot_next_expiry_ns(left), (unsigned long long)snapshot_next_expiry_ns(right));
	for (size_t i = 0; i < ARRAY_SIZE(ports); i++)
		check(snapshot_port_guarded(left, ports[i]) == snapshot_port_guarded(right, ports[i]),
		      "port %u guarded: %d", ports[i], snapshot_port_guarded(left, ports[i]));
	check(snapshot_cidr_count(left) == snapshot_cidr_count(right), "CIDRs");
}
