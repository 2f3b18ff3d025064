// SPDX-License-Identifier: GPL-2.0-only
/*
 * The claims on a key -> what it is (design section 1). Claims on "any port" of an address are claims on each of its
 * ports. If one is a ClusterIP's, the ClusterIPs' alone count; else, if they disagree, those of the highest level of
 * trust:
 *
 *   2  the slice is Kubernetes' own, and the Pod that it names has this address
 *   1  the slice is Kubernetes' own, the store does not know the Pod that it names, and all is its operator's own
 *   0  anything else: another's slice, no Pod of the Service's namespace, a Pod that has not this address or that
 *      nobody knows; an external address of an uncovered Service
 *
 * In a cluster a Pod that the store does not know yet (compiler_contested_pods() asks for it; one that is not there
 * comes as a Pod without addresses) leaves it undecided: then nobody loses, so that the claims together are TLS, or
 * refused, and never plain by the word of who was looked up first.
 *
 * Policies in quarantine deny what would be PLAIN without them, and change nothing else. Services and slices in
 * quarantine take no part in who decides.
 *
 * Labels and names can be forged; a Pod's addresses are written by its kubelet. The Pods are asked only where claims
 * disagree: without them, trusted claims go before others.
 *
 * An external address of a covered Service always counts, beside whatever endpoint has it: kube-proxy takes packets to
 * it to the Service's own endpoints. So it can add TLS, or an ambiguity; it can never take TLS away, since an uncovered
 * one stands behind everybody.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/sorted.h"
#include "policy/compilation.h"

#define MAX_NAMED    4  /* policies that a message names */
#define SMALL_CLAIMS 16 /* on a key; more of them are put on the heap */

/* The claims on one key, in the order of Services and ports. */
struct claim_group {
	struct key_node *key;
	const struct claim *small[SMALL_CLAIMS];
	const struct claim **claims;
	size_t count;
};

static int compare_claims(const void *left_pointer, const void *right_pointer)
{
	const struct claim *left = *(const struct claim *const *)left_pointer;
	const struct claim *right = *(const struct claim *const *)right_pointer;
	int order;

	if (left->service != right->service) {
		order = strcmp(left->service->namespace_, right->service->namespace_);
		return order ? order : strcmp(left->service->name, right->service->name);
	}
	if (left->coverage != right->coverage)
		return left->coverage < right->coverage ? -1 : 1;
	return left < right ? -1 : left > right; /* in the order of slices and endpoints: one array holds both */
}

static size_t count_claims(const struct key_node *key)
{
	size_t count = 0;

	for (const struct claim *claim = key ? key->claims : NULL; claim; claim = claim->next)
		count++;
	return count;
}

static void take_claims(struct claim_group *group, const struct key_node *key)
{
	for (const struct claim *claim = key ? key->claims : NULL; claim; claim = claim->next)
		group->claims[group->count++] = claim;
}

static int gather(const struct compiler *compiler, struct claim_group *group)
{
	const struct key_node *any = find_any_port(compiler, group->key);
	size_t own = count_claims(group->key), total = own ? own + count_claims(any) : 0;

	group->claims = group->small;
	if (total > SMALL_CLAIMS) {
		group->claims = malloc(total * sizeof(struct claim *));
		if (!group->claims)
			return -ENOMEM;
	}
	if (!own) /* what is claimed of any port names no key by itself */
		return 0;
	take_claims(group, group->key);
	take_claims(group, any);
	sort_list(group->claims, group->count, sizeof(struct claim *), compare_claims);
	return 0;
}

static bool in_force(const struct claim *claim)
{
	return !(claim->flags & CLAIM_REFUSAL);
}

/*
 * Has it a part in who decides? A policy in quarantine refuses what would be PLAIN without it, and must not make that
 * another's: its Service's claim weighs what it would weigh uncovered.
 */
static bool takes_part(const struct claim *claim)
{
	return in_force(claim) || (claim->flags & CLAIM_KNOWN);
}

static bool pod_has(const struct pod *pod, const struct postern_address *address)
{
	for (size_t i = 0; i < pod->address_count; i++)
		if (address_equal(&pod->addresses[i], address))
			return true;
	return false;
}

static int trust_level(const struct compiler *compiler, const struct claim *claim)
{
	const struct object *pod;

	if (!(claim->flags & CLAIM_TRUSTED))
		return 0;
	if (!claim->endpoint)
		return 2;
	pod = object_store_find(compiler->store, OBJECT_POD, claim->service->namespace_, claim->endpoint->pod);
	if (!pod)
		return compiler->options.operators_own;
	return pod_has(&pod->pod, &claim->endpoint->address) ? 2 : 0;
}

/* Is there a claim whose Pod is still to be looked up? */
static bool is_undecided(const struct compiler *compiler, const struct claim_group *group)
{
	for (size_t i = 0; i < group->count && !compiler->options.operators_own; i++) {
		const struct claim *claim = group->claims[i];

		if (takes_part(claim) && (claim->flags & CLAIM_TRUSTED) && claim->endpoint &&
		    !object_store_find(compiler->store, OBJECT_POD, claim->service->namespace_, claim->endpoint->pod))
			return true;
	}
	return false;
}

static enum postern_verdict verdict_of(const struct claim *claim)
{
	return in_force(claim) ? claim_coverage(claim)->verdict : POSTERN_VERDICT_PLAIN;
}

/* Do both ask for the same? An invalid policy's "settings" are to be refused. */
static bool agree(const struct claim *left, const struct claim *right)
{
	return verdict_of(left) == verdict_of(right) &&
	       (verdict_of(left) != POSTERN_VERDICT_TLS ||
	        claim_coverage(left)->settings_id == claim_coverage(right)->settings_id);
}

/* Which claims decide? Refusals do not make a claim worth more or less: they are looked at last of all. */
static void choose_claims(const struct compiler *compiler, struct claim_group *group)
{
	struct key_node *key = group->key;
	const struct claim *first = NULL;
	bool trusted = false;

	key->vip = key->contested = false;
	key->level = 0;
	for (size_t i = 0; i < group->count; i++) {
		const struct claim *claim = group->claims[i];

		if (!takes_part(claim))
			continue;
		key->vip |= claim->flags & CLAIM_VIP;
		trusted |= claim->flags & CLAIM_TRUSTED;
		key->contested |= first && !agree(first, claim);
		if (!first)
			first = claim;
	}
	key->contested &= !key->vip && trusted;
	for (size_t i = 0; key->contested && i < group->count; i++) {
		int level = takes_part(group->claims[i]) ? trust_level(compiler, group->claims[i]) : 0;

		if (level > key->level)
			key->level = level;
	}
	if (key->contested && is_undecided(compiler, group))
		key->level = 0;
	if (!key->contested)
		key->level = trusted;
}

static int level_of(const struct compiler *compiler, const struct key_node *key, const struct claim *claim)
{
	return key->contested ? trust_level(compiler, claim) : (claim->flags & CLAIM_TRUSTED) != 0;
}

bool claim_counts(const struct compiler *compiler, const struct key_node *key, const struct claim *claim)
{
	if (key->vip)
		return claim->flags & CLAIM_VIP;
	if ((claim->flags & CLAIM_EXTERNAL) && in_force(claim) && claim_coverage(claim)->policy)
		return true;
	/* What its operator wrote and broke may refuse, whatever its slices look like. */
	if (!in_force(claim) && compiler->options.operators_own)
		return true;
	return level_of(compiler, key, claim) >= key->level;
}

struct judgement {
	const struct claim *covered; /* of the first policy, NULL: none */
	const struct claim *uncovered;
	const struct claim *refusal;
	bool several;  /* outcomes */
	bool endpoint; /* one of those in force is an endpoint's */
	bool trusted;
};

static bool is_earlier(const struct claim *claim, const struct claim *than)
{
	return !than || compare_policies(claim_coverage(claim)->policy, claim_coverage(than)->policy) < 0;
}

static void weigh(const struct key_node *key, const struct claim *claim, struct judgement *judgement)
{
	const struct coverage *coverage = claim_coverage(claim);

	if (!in_force(claim)) {
		if (is_earlier(claim, judgement->refusal))
			judgement->refusal = claim;
		return;
	}
	judgement->endpoint |= claim->endpoint != NULL;
	judgement->trusted |= (claim->flags & CLAIM_TRUSTED) && (!key->contested || key->level);
	if (!coverage->policy) {
		if (!judgement->uncovered)
			judgement->uncovered = claim;
		return;
	}
	if (judgement->covered && !agree(judgement->covered, claim))
		judgement->several = true;
	if (is_earlier(claim, judgement->covered))
		judgement->covered = claim;
}

static void name_policy(struct text *names, const struct claim *claim)
{
	const struct coverage *coverage = claim_coverage(claim);
	const struct object *policy = coverage->policy->object;

	text_append(names, "%s%s/%s (Service %s", text_is_empty(names) ? "" : ", ", policy->namespace_, policy->name,
	            claim->service->name);
	if (coverage->port)
		text_append(names, " port %u", coverage->port);
	text_append(names, ")");
}

/* One for all policies that claim the key; claims of one coverage stand side by side. */
static void tell_ambiguous(const struct compiler *compiler, const struct claim_group *group, struct text *note)
{
	const struct coverage *last = NULL;
	char address[DESTINATION_TEXT_MAX];
	struct text names = {0};
	size_t named = 0;

	for (size_t i = 0; i < group->count; i++) {
		const struct claim *claim = group->claims[i];
		const struct coverage *coverage = claim_coverage(claim);

		if (!in_force(claim) || coverage == last || !coverage->policy ||
		    !claim_counts(compiler, group->key, claim))
			continue;
		last = coverage;
		if (named++ < MAX_NAMED)
			name_policy(&names, claim);
	}
	if (named > MAX_NAMED)
		text_append(&names, " and %zu more", named - MAX_NAMED);
	text_append(note, "AmbiguousEndpoint: %s is refused, because policies with different TLS settings claim it: %s",
	            destination_format(&group->key->key, address), names.data ? names.data : "");
	note->failed |= names.failed;
	text_free(&names);
}

static int write_note(const struct compiler *compiler, const struct claim_group *group,
                      const struct judgement *judgement)
{
	struct key_node *key = group->key;
	char address[DESTINATION_TEXT_MAX];
	struct text note = {0};

	free(key->note);
	key->note = NULL;
	key->ambiguous = judgement->several;
	if (judgement->several)
		tell_ambiguous(compiler, group, &note);
	else if (judgement->covered && judgement->uncovered &&
	         claim_coverage(judgement->covered)->verdict == POSTERN_VERDICT_TLS)
		text_append(&note, "%s is %s of Service %s/%s, too, which no policy covers: TLS is used for both",
		            destination_format(&key->key, address),
		            judgement->uncovered->endpoint ? "an endpoint" : "an external address",
		            judgement->uncovered->service->namespace_, judgement->uncovered->service->name);
	else
		return 0;
	key->note = text_take(&note);
	return key->note ? 0 : -ENOMEM;
}

static void set_deny(struct destination *destination, enum postern_reason reason, const struct claim *claim)
{
	destination->verdict = POSTERN_VERDICT_DENY;
	destination->reason = reason;
	destination->policy = claim_coverage(claim)->policy->slot->index;
}

static bool has_vip(const struct claim_group *group)
{
	for (size_t i = 0; i < group->count; i++)
		if (!group->claims[i]->endpoint)
			return true;
	return false;
}

static void set_destination(const struct claim_group *group, const struct judgement *judgement,
                            struct destination *destination)
{
	const struct coverage *covered = judgement->covered ? claim_coverage(judgement->covered) : NULL;
	const struct coverage *refusal = judgement->refusal ? claim_coverage(judgement->refusal) : NULL;
	bool vip = covered || judgement->uncovered ? !judgement->endpoint : has_vip(group);

	*destination = (struct destination){
	        .key = group->key->key,
	        .class = vip ? DESTINATION_VIP : DESTINATION_ENDPOINT,
	        .verdict = POSTERN_VERDICT_PLAIN,
	        .policy = SNAPSHOT_NO_POLICY,
	        .trusted = judgement->trusted,
	};
	if (judgement->several) {
		set_deny(destination, REASON_AMBIGUOUS_ENDPOINT, judgement->covered);
	} else if (covered && covered->verdict == POSTERN_VERDICT_TLS) {
		destination->verdict = POSTERN_VERDICT_TLS;
		destination->settings_id = covered->settings_id;
		destination->policy = covered->policy->slot->index;
	} else if (covered) {
		set_deny(destination, covered->reason, judgement->covered);
	} else if (refusal) {
		/* The port itself may be sound, and its endpoint in quarantine. */
		set_deny(destination,
		         refusal->verdict == POSTERN_VERDICT_DENY ? refusal->reason : REASON_POLICY_INVALID,
		         judgement->refusal);
	}
}

int judge_key(struct compiler *compiler, struct key_node *key, struct destination *destination, bool *is_in_force,
              bool *claimed)
{
	struct claim_group group = {.key = key};
	struct judgement judgement = {0};
	int result = gather(compiler, &group);

	if (result < 0)
		return result;
	choose_claims(compiler, &group);
	for (size_t i = 0; i < group.count; i++)
		if (claim_counts(compiler, key, group.claims[i]))
			weigh(key, group.claims[i], &judgement);
	*claimed = group.count;
	*is_in_force = judgement.covered || judgement.uncovered;
	set_destination(&group, &judgement, destination);
	result = write_note(compiler, &group, &judgement);
	if (group.claims != group.small)
		free(group.claims);
	return result;
}
