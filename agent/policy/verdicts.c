// SPDX-License-Identifier: GPL-2.0-only
/*
 * Claims -> destinations (design section 1). All claims on a key are judged together: if one is a VIP's, the VIPs'
 * alone; else, if one is trusted, the trusted alone. Claims on "any port" of an address are claims on each of its
 * ports.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compilation.h"
#include "policy/vector.h"

#define DEFAULT_TOMBSTONE_NS (10ull * 60 * 1000000000)
#define EXAMPLES             3 /* endpoints that a status message names */
#define MAX_NAMED            4 /* policies that it names of each */

/* The claims on one key: its own, and those on any port of its address. */
struct claim_group {
	const struct claim *own, *any;
	size_t own_count, any_count;
	uint32_t required_flags; /* of the claims that count */
};

static size_t group_size(const struct claim_group *group)
{
	return group->own_count + group->any_count;
}

/* NULL if the claim does not count. */
static const struct claim *group_at(const struct claim_group *group, size_t index)
{
	const struct claim *claim = index < group->own_count ? &group->own[index]
	                                                     : &group->any[index - group->own_count];

	return (claim->flags & group->required_flags) == group->required_flags ? claim : NULL;
}

/* Which claims decide? Refusals do not make a claim worth more or less: they are looked at last of all. */
static void choose_claims(struct claim_group *group)
{
	uint32_t seen = 0;

	for (size_t i = 0; i < group_size(group); i++) {
		const struct claim *claim = group_at(group, i);

		if (claim && !(claim->flags & CLAIM_REFUSAL))
			seen |= claim->flags;
	}
	if (seen & CLAIM_VIP)
		group->required_flags = CLAIM_VIP;
	else if (seen & CLAIM_TRUSTED)
		group->required_flags = CLAIM_TRUSTED;
}

/* What a covered claim asks for: settings, or 0 for DENY. An invalid policy's "settings" are to be refused. */
static uint32_t outcome(const struct coverage *coverage)
{
	return coverage->verdict == POSTERN_VERDICT_TLS ? coverage->settings_id : 0;
}

struct judgement {
	const struct coverage *covered; /* of the first policy, NULL: none */
	const struct coverage *uncovered;
	const struct coverage *refusal;
	bool several; /* outcomes */
	bool trusted;
};

static void weigh(const struct compilation *compilation, const struct claim *claim, struct judgement *judgement)
{
	const struct coverage *coverage = &compilation->coverages[claim->coverage];

	if (claim->flags & CLAIM_REFUSAL) {
		if (!judgement->refusal || coverage->policy < judgement->refusal->policy)
			judgement->refusal = coverage;
		return;
	}
	judgement->trusted |= (claim->flags & CLAIM_TRUSTED) != 0;
	if (coverage->policy == NO_POLICY) {
		judgement->uncovered = coverage;
		return;
	}
	if (judgement->covered && outcome(judgement->covered) != outcome(coverage))
		judgement->several = true;
	if (!judgement->covered || coverage->policy < judgement->covered->policy)
		judgement->covered = coverage;
}

static void append_policy(const struct compilation *compilation, struct text *text, const struct coverage *coverage)
{
	const struct object *policy = compilation->policies[coverage->policy].object;

	text_append(text, "%s%s/%s (Service %s)", text_is_empty(text) ? "" : ", ", policy->namespace_, policy->name,
	            coverage->service);
}

/* Every policy of the group is told, with the others' names; claims of one coverage stand side by side. */
static void tell_ambiguous(struct compilation *compilation, const struct claim_group *group)
{
	char address[DESTINATION_TEXT_MAX];
	struct text names = {0};
	size_t named = 0, more = 0;
	uint32_t last = UINT32_MAX;
	size_t mark = (size_t)(group->own - compilation->claims);

	destination_format(&group->own->key, address);
	for (size_t i = 0; i < group_size(group); i++) {
		const struct claim *claim = group_at(group, i);

		if (!claim || (claim->flags & CLAIM_REFUSAL) || claim->coverage == last ||
		    compilation->coverages[claim->coverage].policy == NO_POLICY)
			continue;
		last = claim->coverage;
		if (named++ < MAX_NAMED)
			append_policy(compilation, &names, &compilation->coverages[last]);
		else
			more++;
	}
	if (more)
		text_append(&names, " and %zu more", more);
	for (size_t i = 0; i < group_size(group); i++) {
		const struct claim *claim = group_at(group, i);
		struct compiled_policy *policy;

		if (!claim || (claim->flags & CLAIM_REFUSAL) ||
		    compilation->coverages[claim->coverage].policy == NO_POLICY)
			continue;
		policy = &compilation->policies[compilation->coverages[claim->coverage].policy];
		if (policy->last_ambiguous == mark)
			continue;
		policy->last_ambiguous = mark;
		if (policy->ambiguous_endpoints++ < EXAMPLES)
			text_add_sentence(
			        &policy->warnings,
			        "AmbiguousEndpoint: %s is refused, because policies with different TLS settings "
			        "claim it: %s",
			        address, names.data ? names.data : "");
	}
	text_free(&names);
}

static void tell_shared(struct compilation *compilation, const struct judgement *judgement,
                        const struct postern_destination_key *key)
{
	struct compiled_policy *policy = &compilation->policies[judgement->covered->policy];
	char address[DESTINATION_TEXT_MAX];

	if (policy->shared_endpoints++ >= EXAMPLES)
		return;
	text_add_sentence(&policy->warnings,
	                  "%s is an endpoint of Service %s/%s, too, which no policy covers: TLS is used for both",
	                  destination_format(key, address), judgement->uncovered->namespace_,
	                  judgement->uncovered->service);
}

static void set_deny(struct destination *destination, enum postern_reason reason, uint32_t policy)
{
	destination->verdict = POSTERN_VERDICT_DENY;
	destination->reason = reason;
	destination->policy = policy;
}

static bool is_vip(const struct claim_group *group, bool in_force)
{
	for (size_t i = 0; !in_force && i < group->own_count; i++)
		if (group->own[i].flags & CLAIM_VIP)
			return true;
	return in_force && group->required_flags == CLAIM_VIP;
}

/* False if nothing that is in force says anything of this key. */
static bool judge(struct compilation *compilation, struct claim_group *group, struct destination *destination)
{
	struct judgement judgement = {0};
	bool in_force;

	choose_claims(group);
	for (size_t i = 0; i < group_size(group); i++) {
		const struct claim *claim = group_at(group, i);

		if (claim)
			weigh(compilation, claim, &judgement);
	}
	in_force = judgement.covered || judgement.uncovered;
	*destination = (struct destination){
	        .key = group->own->key,
	        .class = is_vip(group, in_force) ? DESTINATION_VIP : DESTINATION_ENDPOINT,
	        .verdict = POSTERN_VERDICT_PLAIN,
	        .policy = NO_POLICY,
	        .trusted = judgement.trusted,
	};
	if (judgement.several) {
		set_deny(destination, REASON_AMBIGUOUS_ENDPOINT, judgement.covered->policy);
		tell_ambiguous(compilation, group);
	} else if (judgement.covered && judgement.covered->verdict == POSTERN_VERDICT_TLS) {
		destination->verdict = POSTERN_VERDICT_TLS;
		destination->settings_id = judgement.covered->settings_id;
		destination->policy = judgement.covered->policy;
		if (judgement.uncovered)
			tell_shared(compilation, &judgement, &destination->key);
	} else if (judgement.covered) {
		set_deny(destination, judgement.covered->reason, judgement.covered->policy);
	} else if (judgement.refusal) {
		/* The port itself may be sound, and its endpoint in quarantine. */
		set_deny(destination,
		         judgement.refusal->verdict == POSTERN_VERDICT_DENY ? judgement.refusal->reason
		                                                            : REASON_POLICY_INVALID,
		         judgement.refusal->policy);
	}
	return in_force;
}

static int add_destination(struct compilation *compilation, const struct destination *destination)
{
	struct snapshot *snapshot = compilation->snapshot;

	if (vector_reserve(&snapshot->destinations, snapshot->destination_count, &compilation->destination_capacity,
	                   sizeof(*snapshot->destinations)) < 0)
		return -ENOMEM;
	snapshot->destinations[snapshot->destination_count++] = *destination;
	return 0;
}

static bool is_covered_endpoint(const struct destination *destination)
{
	return destination->class == DESTINATION_ENDPOINT && destination->verdict != POSTERN_VERDICT_PLAIN;
}

/* A policy's place in the statuses of the last snapshot -> its index here. */
static uint32_t find_policy(const struct compilation *compilation, uint32_t previous_index)
{
	const struct policy_status *status;
	size_t low = 0, high = object_store_count(compilation->store, OBJECT_BACKEND_TLS_POLICY);

	if (previous_index == SNAPSHOT_NO_POLICY)
		return NO_POLICY;
	status = &compilation->previous->policies[previous_index];
	while (low < high) { /* those in force come first, sorted */
		const struct object *object = compilation->policies[low + (high - low) / 2].object;
		int order = strcmp(object->namespace_, status->namespace_);

		order = order ? order : strcmp(object->name, status->name);
		if (!order)
			return (uint32_t)(low + (high - low) / 2);
		if (order < 0)
			low = low + (high - low) / 2 + 1;
		else
			high = low + (high - low) / 2;
	}
	return NO_POLICY;
}

/*
 * An endpoint that was covered and is claimed no more, or only by what cannot be trusted: its verdict stays for a
 * while, since gateways learn of the change at their own pace. Returns 1 if a tombstone was added.
 */
static int add_tombstone(struct compilation *compilation, const struct destination *old)
{
	const struct compile_options *options = compilation->options;
	struct destination tombstone = *old;

	if (!is_covered_endpoint(old))
		return 0;
	if (!old->tombstone)
		tombstone.tombstone_until_ns = options->now_ns +
		                               (options->tombstone_ns ? options->tombstone_ns : DEFAULT_TOMBSTONE_NS);
	if (tombstone.tombstone_until_ns <= options->now_ns)
		return 0;
	tombstone.tombstone = true;
	tombstone.policy = find_policy(compilation, old->policy);
	if (add_destination(compilation, &tombstone) < 0)
		return -ENOMEM;
	if (!compilation->snapshot->next_expiry_ns ||
	    tombstone.tombstone_until_ns < compilation->snapshot->next_expiry_ns)
		compilation->snapshot->next_expiry_ns = tombstone.tombstone_until_ns;
	return 1;
}

/*
 * May the new verdict replace what the last snapshot said? A claim in force that is trusted may. One that is not may
 * unless it would uncover the endpoint, or take it from a trusted claim. A refusal only fills a void.
 */
static bool may_replace(const struct destination *new, bool in_force, const struct destination *old)
{
	if (!is_covered_endpoint(old) || new->class == DESTINATION_VIP)
		return true;
	if (!in_force)
		return old->verdict != POSTERN_VERDICT_TLS;
	return new->trusted || (new->verdict != POSTERN_VERDICT_PLAIN && !old->trusted);
}

static int merge_destination(struct compilation *compilation, const struct destination *new, bool in_force,
                             const struct destination *old)
{
	int result = 0;

	if (old && !may_replace(new, in_force, old))
		result = add_tombstone(compilation, old);
	return result ? (result < 0 ? result : 0) : add_destination(compilation, new);
}

/* Both the claims' keys and the last snapshot's destinations come in order: one walk over both. */
struct old_destinations {
	const struct snapshot *snapshot;
	size_t next;
};

/* Those before key (NULL: all that are left) were not claimed. */
static int bury_until(struct compilation *compilation, struct old_destinations *old,
                      const struct postern_destination_key *key)
{
	for (; old->snapshot && old->next < old->snapshot->destination_count; old->next++) {
		const struct destination *destination = &old->snapshot->destinations[old->next];

		if (key && destination_key_compare(&destination->key, key) >= 0)
			break;
		if (add_tombstone(compilation, destination) < 0)
			return -ENOMEM;
	}
	return 0;
}

static const struct destination *take_old(struct old_destinations *old, const struct postern_destination_key *key)
{
	const struct destination *destination;

	if (!old->snapshot || old->next == old->snapshot->destination_count)
		return NULL;
	destination = &old->snapshot->destinations[old->next];
	if (destination_key_compare(&destination->key, key))
		return NULL;
	old->next++;
	return destination;
}

static int compare_claims(const void *left_pointer, const void *right_pointer)
{
	const struct claim *left = left_pointer, *right = right_pointer;
	int order = destination_key_compare(&left->key, &right->key);

	if (order)
		return order;
	return left->coverage < right->coverage ? -1 : left->coverage > right->coverage;
}

static size_t end_of_group(const struct compilation *compilation, size_t start)
{
	size_t end = start + 1;

	while (end < compilation->claim_count &&
	       !destination_key_compare(&compilation->claims[start].key, &compilation->claims[end].key))
		end++;
	return end;
}

int decide_destinations(struct compilation *compilation)
{
	struct old_destinations old = {.snapshot = compilation->previous};
	const struct claim *any = NULL;
	size_t any_count = 0;

	if (compilation->claim_count)
		qsort(compilation->claims, compilation->claim_count, sizeof(*compilation->claims), compare_claims);
	for (size_t start = 0, end; start < compilation->claim_count; start = end) {
		struct claim_group group = {.own = &compilation->claims[start]};
		struct destination destination;
		bool in_force;

		end = end_of_group(compilation, start);
		group.own_count = end - start;
		if (!group.own->key.port) {
			any = group.own;
			any_count = group.own_count;
		} else if (any && address_equal(&any->key.address, &group.own->key.address)) {
			group.any = any;
			group.any_count = any_count;
		}
		in_force = judge(compilation, &group, &destination);
		if (bury_until(compilation, &old, &destination.key) < 0 ||
		    merge_destination(compilation, &destination, in_force, take_old(&old, &destination.key)) < 0)
			return -ENOMEM;
	}
	return bury_until(compilation, &old, NULL);
}
