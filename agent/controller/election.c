/* SPDX-License-Identifier: GPL-2.0-only */
#include "controller/election.h"

#include <stdlib.h>
#include <string.h>

#include "controller/conditions.h"
#include "controller/json_cleanup.h"

#define LEASE_SECONDS ((json_int_t)(ELECTION_LEASE_NS / 1000000000))

void election_init(struct election *election, const char *namespace_, const char *name, const char *identity)
{
	*election = (struct election){.namespace_ = namespace_, .name = name, .identity = identity};
}

void election_free(struct election *election)
{
	json_decref(election->lease);
	election->lease = NULL;
}

static const char *string_of(const json_t *lease, const char *part, const char *key)
{
	const char *value = json_string_value(json_object_get(json_object_get(lease, part), key));

	return value ? value : "";
}

const char *election_holder(const struct election *election)
{
	return string_of(election->lease, "spec", "holderIdentity");
}

static bool is_ours(const struct election *election)
{
	return !strcmp(election_holder(election), election->identity);
}

bool election_leads(const struct election *election, uint64_t now_ns)
{
	return election->renewed_ns && is_ours(election) && now_ns - election->renewed_ns < ELECTION_RENEW_NS;
}

/* How long the record counts: as its holder says, within reason. */
static uint64_t duration_ns(const json_t *lease)
{
	json_int_t seconds =
	        json_integer_value(json_object_get(json_object_get(lease, "spec"), "leaseDurationSeconds"));

	return seconds > 0 && seconds <= 4 * LEASE_SECONDS ? (uint64_t)seconds * 1000000000 : ELECTION_LEASE_NS;
}

enum election_step election_next(const struct election *election, uint64_t now_ns, uint64_t *wait_ns)
{
	uint64_t expires_ns;

	*wait_ns = ELECTION_PERIOD_NS;
	if (!election->seen)
		return ELECTION_LOOK;
	if (!election->lease)
		return ELECTION_CREATE;
	if (is_ours(election) || !*election_holder(election))
		return ELECTION_CLAIM;
	expires_ns = election->observed_ns + duration_ns(election->lease);
	if (now_ns >= expires_ns)
		return ELECTION_CLAIM;
	if (expires_ns - now_ns < *wait_ns)
		*wait_ns = expires_ns - now_ns;
	return ELECTION_WAIT;
}

static json_int_t transitions(const json_t *lease)
{
	return json_integer_value(json_object_get(json_object_get(lease, "spec"), "leaseTransitions"));
}

static int fill_spec(const struct election *election, json_t *spec, const char *now, bool release)
{
	bool stays = is_ours(election) && !release;

	return json_object_set_new(spec, "holderIdentity", json_string(release ? "" : election->identity)) |
	       json_object_set_new(spec, "leaseDurationSeconds", json_integer(release ? 1 : LEASE_SECONDS)) |
	       json_object_set_new(spec, "renewTime", json_string(now)) |
	       (stays && json_object_get(spec, "acquireTime")
	                ? 0
	                : json_object_set_new(spec, "acquireTime", json_string(now))) |
	       json_object_set_new(
	               spec, "leaseTransitions",
	               json_integer(transitions(election->lease) + (election->lease && !is_ours(election) ? 1 : 0)));
}

json_t *election_claim(const struct election *election, const struct timespec *now, bool release)
{
	_cleanup_json_ json_t *lease = NULL;
	char text[TIME_TEXT_MAX];
	json_t *spec;

	lease = election->lease ? json_deep_copy(election->lease)
	                        : json_pack("{s:s, s:s, s:{s:s, s:s}, s:{}}", "apiVersion", "coordination.k8s.io/v1",
	                                    "kind", "Lease", "metadata", "namespace", election->namespace_, "name",
	                                    election->name, "spec");
	if (!lease)
		return NULL;
	spec = json_object_get(lease, "spec");
	if (!json_is_object(spec) && json_object_set_new(lease, "spec", spec = json_object()) < 0)
		return NULL;
	if (fill_spec(election, spec, condition_time(now, true, text), release) < 0)
		return NULL;
	return TAKE_PTR(lease);
}

/*
 * Is left older than right? resourceVersions of one object may be compared as numbers (KEP-5504). A watch may bring
 * what we wrote ourselves after we have written once more.
 */
static bool is_older(const json_t *left, const json_t *right)
{
	return strtoull(string_of(left, "metadata", "resourceVersion"), NULL, 10) <
	       strtoull(string_of(right, "metadata", "resourceVersion"), NULL, 10);
}

static void replace(struct election *election, const json_t *lease, uint64_t now_ns)
{
	const json_t *old = json_object_get(election->lease, "spec"), *new = json_object_get(lease, "spec");
	json_t *copy = json_deep_copy(lease);

	if (!copy)
		return;
	if (!election->lease || !json_equal(old, new))
		election->observed_ns = now_ns;
	json_decref(election->lease);
	election->lease = copy;
}

void election_observe(struct election *election, const json_t *lease, uint64_t now_ns)
{
	election->seen = true;
	if (!lease) {
		json_decref(election->lease);
		election->lease = NULL;
		election->renewed_ns = 0;
		return;
	}
	if (election->lease && is_older(lease, election->lease))
		return;
	replace(election, lease, now_ns);
	if (!is_ours(election))
		election->renewed_ns = 0;
}

void election_won(struct election *election, const json_t *lease, uint64_t sent_ns, uint64_t now_ns)
{
	if (!election_leads(election, now_ns))
		election->terms++;
	election->seen = true;
	replace(election, lease, now_ns);
	election->renewed_ns = is_ours(election) ? sent_ns : 0;
}

void election_resign(struct election *election)
{
	election->renewed_ns = 0;
}
