// SPDX-License-Identifier: GPL-2.0-only
#include "compile_oracle.h"

#include <arpa/inet.h>
#include <string.h>

#include "fuzz.h"
#include "policy/compile.h"
#include "policy/object.h"
#include "policy/snapshot.h"
#include "policy/store.h"
#include "policy/text.h"

static const char *show(const struct postern_destination_key *key)
{
	static char text[DESTINATION_TEXT_MAX];

	return destination_format(key, text);
}

/* NULL: not there. Nothing but the exact key counts. */
static const struct destination *find_exactly(const struct snapshot *snapshot,
                                              const struct postern_destination_key *key)
{
	const struct destination *found = snapshot_find(snapshot, key);

	return found && !memcmp(&found->key, key, sizeof(*key)) ? found : NULL;
}

static bool is_service(const struct target_reference *target, const char *name)
{
	return (!target->group || !*target->group) && (!target->kind || !strcmp(target->kind, "Service")) &&
	       target->name && !strcmp(target->name, name);
}

static bool has_port_named(const struct service *service, const char *name)
{
	for (size_t i = 0; i < service->port_count; i++)
		if (!strcmp(service->ports[i].name, name))
			return true;
	return false;
}

/* Does a policy in force cover the port? One that names a port which does not exist closes the others. */
static bool is_covered(const struct object_store *store, const struct object *service, const char *port)
{
	for (size_t i = 0; i < object_store_count(store, OBJECT_BACKEND_TLS_POLICY); i++) {
		const struct object *object = object_store_at(store, OBJECT_BACKEND_TLS_POLICY, i);
		const struct backend_tls_policy *policy = &object->backend_tls_policy;

		if (strcmp(object->namespace_, service->namespace_))
			continue;
		for (size_t j = 0; j < policy->target_count; j++) {
			const char *section = policy->targets[j].section_name;

			if (is_service(&policy->targets[j], service->name) &&
			    (!section || !*section || !strcmp(section, port) ||
			     !has_port_named(&service->service, section)))
				return true;
		}
	}
	return false;
}

static bool is_cluster_ip(const struct object_store *store, const struct postern_address *address)
{
	for (size_t i = 0; i < object_store_count(store, OBJECT_SERVICE); i++) {
		const struct service *service = &object_store_at(store, OBJECT_SERVICE, i)->service;

		for (size_t j = 0; j < service->cluster_ip_count; j++)
			if (address_equal(&service->cluster_ips[j], address))
				return true;
	}
	return false;
}

static void check_closed(const struct snapshot *snapshot, const struct postern_address *address, uint16_t port,
                         const struct object *service)
{
	struct postern_destination_key key = destination_key(address, port);
	const struct destination *found = find_exactly(snapshot, &key);

	FUZZ_CHECK(found, "%s of the covered Service %s/%s is missing", show(&key), service->namespace_, service->name);
	FUZZ_CHECK(found->verdict != POSTERN_VERDICT_PLAIN, "%s of the covered Service %s/%s is PLAIN", show(&key),
	           service->namespace_, service->name);
}

static void check_guarded(const struct snapshot *snapshot, uint16_t port)
{
	FUZZ_CHECK(!port || snapshot_port_guarded(snapshot, port), "port %u is not guarded", port);
}

/* One service's ClusterIP that another claims, too, is no Kubernetes; the covered one is still closed. */
static void check_vips(const struct object_store *store, const struct snapshot *snapshot, const struct object *object)
{
	const struct service *service = &object->service;

	for (size_t i = 0; i < service->port_count; i++) {
		const struct service_port *port = &service->ports[i];

		if (port->protocol != TRANSPORT_TCP || !is_covered(store, object, port->name))
			continue;
		check_guarded(snapshot, port->port);
		check_guarded(snapshot, port->target_port);
		check_guarded(snapshot, port->node_port);
		for (size_t j = 0; j < service->cluster_ip_count; j++)
			check_closed(snapshot, &service->cluster_ips[j], port->port, object);
		for (size_t j = 0; !service->external_name && j < service->external_ip_count; j++)
			if (!is_cluster_ip(store, &service->external_ips[j]))
				check_closed(snapshot, &service->external_ips[j], port->port, object);
	}
}

/* Might another claim on this address be worth more? Then the key is not this slice's to decide, trusted or not. */
static bool is_contested(const struct object_store *store, const struct object *slice,
                         const struct postern_address *address)
{
	if (is_cluster_ip(store, address))
		return true;
	for (size_t i = 0; i < object_store_count(store, OBJECT_ENDPOINT_SLICE); i++) {
		const struct object *other = object_store_at(store, OBJECT_ENDPOINT_SLICE, i);

		for (size_t j = 0; other != slice && j < other->endpoint_slice.endpoint_count; j++)
			if (address_equal(&other->endpoint_slice.endpoints[j].address, address))
				return true;
	}
	return false;
}

static void check_slice(const struct object_store *store, const struct snapshot *snapshot, const struct object *object)
{
	const struct endpoint_slice *slice = &object->endpoint_slice;
	const struct object *service =
	        *slice->service ? object_store_find(store, OBJECT_SERVICE, object->namespace_, slice->service) : NULL;

	for (size_t i = 0; service && i < slice->port_count; i++) {
		const struct slice_port *port = &slice->ports[i];

		if (port->protocol != TRANSPORT_TCP || !is_covered(store, service, port->name))
			continue;
		check_guarded(snapshot, port->port);
		for (size_t j = 0; j < slice->endpoint_count; j++)
			if (!is_contested(store, object, &slice->endpoints[j].address))
				check_closed(snapshot, &slice->endpoints[j].address, port->port, service);
	}
}

static void check_condition(const struct policy_condition *condition, const char *good)
{
	FUZZ_CHECK(fuzz_is_message(condition->message, TEXT_MAX + 1), "message \"%s\"", condition->message);
	FUZZ_CHECK(condition->reason[0] >= 'A' && condition->reason[0] <= 'Z', "reason \"%s\"", condition->reason);
	FUZZ_CHECK(condition->status == !strcmp(condition->reason, good), "status %d with reason %s", condition->status,
	           condition->reason);
}

static bool is_known(const struct object_store *store, const struct policy_status *status)
{
	if (object_store_find(store, OBJECT_BACKEND_TLS_POLICY, status->namespace_, status->name))
		return true;
	for (size_t i = 0; i < object_store_quarantined_count(store, OBJECT_BACKEND_TLS_POLICY); i++) {
		const struct object *object = object_store_quarantined_at(store, OBJECT_BACKEND_TLS_POLICY, i)->object;

		if (!strcmp(object->namespace_, status->namespace_) && !strcmp(object->name, status->name))
			return true;
	}
	return false;
}

static void check_status(const struct object_store *store, const struct policy_status *status)
{
	FUZZ_CHECK(is_known(store, status), "a status for nobody: %s/%s", status->namespace_, status->name);
	check_condition(&status->accepted, "Accepted");
	check_condition(&status->resolved_refs, "ResolvedRefs");
	FUZZ_CHECK(status->ancestor_count <= POLICY_MAX_ANCESTORS, "%zu ancestors", status->ancestor_count);
	for (size_t i = 1; i < status->ancestor_count; i++) {
		const struct object_name *last = &status->ancestors[i - 1], *here = &status->ancestors[i];
		int order = strcmp(last->namespace_, here->namespace_);

		FUZZ_CHECK((order ? order : strcmp(last->name, here->name)) < 0, "ancestors not in order");
	}
}

static void check_statuses(const struct object_store *store, const struct snapshot *snapshot)
{
	size_t in_force = 0;

	for (size_t i = 0; i < snapshot_policy_count(snapshot); i++) {
		const struct policy_status *status = snapshot_policy_at(snapshot, i), *last;

		check_status(store, status);
		in_force += object_store_find(store, OBJECT_BACKEND_TLS_POLICY, status->namespace_, status->name) !=
		            NULL;
		if (i == 0)
			continue;
		last = snapshot_policy_at(snapshot, i - 1);
		FUZZ_CHECK(
		        strcmp(last->namespace_, status->namespace_) < 0 ||
		                (!strcmp(last->namespace_, status->namespace_) && strcmp(last->name, status->name) < 0),
		        "statuses not in order, or two of one name");
	}
	FUZZ_CHECK(in_force == object_store_count(store, OBJECT_BACKEND_TLS_POLICY), "a policy without status");
}

static void check_settings(const struct tls_settings *settings)
{
	FUZZ_CHECK(settings, "TLS without settings");
	FUZZ_CHECK(settings->id && settings->hostname && *settings->hostname, "settings without id or hostname");
	FUZZ_CHECK(settings->ca_pem && strstr(settings->ca_pem, "CERTIFICATE"), "settings without CA");
	FUZZ_CHECK(settings->min_version && settings->min_version <= settings->max_version, "versions");
	for (size_t i = 0; i < settings->subject_alt_name_count; i++)
		FUZZ_CHECK(settings->subject_alt_names[i].value && *settings->subject_alt_names[i].value, "empty name");
}

static void check_destination(const struct snapshot *snapshot, const struct destination *destination,
                              const struct compile_options *options)
{
	FUZZ_CHECK(destination->policy == SNAPSHOT_NO_POLICY || destination->policy < snapshot_policy_count(snapshot),
	           "policy %u", destination->policy);
	switch (destination->verdict) {
	case POSTERN_VERDICT_TLS:
		check_settings(snapshot_settings(snapshot, destination->settings_id));
		FUZZ_CHECK(destination->tombstone || destination->policy != SNAPSHOT_NO_POLICY, "TLS by nobody");
		break;
	case POSTERN_VERDICT_DENY:
		FUZZ_CHECK(destination->reason != REASON_NONE && !destination->settings_id, "DENY without reason");
		break;
	default:
		FUZZ_CHECK(destination->verdict == POSTERN_VERDICT_PLAIN && !destination->settings_id &&
		                   !destination->tombstone,
		           "verdict %d", destination->verdict);
	}
	if (destination->tombstone)
		FUZZ_CHECK(destination->tombstone_until_ns > options->now_ns &&
		                   destination->tombstone_until_ns >= snapshot_next_expiry_ns(snapshot) &&
		                   snapshot_next_expiry_ns(snapshot),
		           "a tombstone beyond its time");
}

void oracle_check(const struct object_store *store, const struct snapshot *snapshot,
                  const struct compile_options *options)
{
	for (size_t i = 0; i < snapshot_destination_count(snapshot); i++) {
		const struct destination *destination = snapshot_destination_at(snapshot, i);

		check_destination(snapshot, destination, options);
		FUZZ_CHECK(find_exactly(snapshot, &destination->key) == destination, "%s is not found",
		           show(&destination->key));
	}
	for (size_t i = 0; i < object_store_count(store, OBJECT_SERVICE); i++)
		check_vips(store, snapshot, object_store_at(store, OBJECT_SERVICE, i));
	for (size_t i = 0; i < object_store_count(store, OBJECT_ENDPOINT_SLICE); i++)
		check_slice(store, snapshot, object_store_at(store, OBJECT_ENDPOINT_SLICE, i));
	check_statuses(store, snapshot);
}

static bool same_verdict(const struct destination *left, const struct destination *right)
{
	return left->class == right->class && left->verdict == right->verdict &&
	       left->settings_id == right->settings_id && left->reason == right->reason &&
	       left->trusted == right->trusted && left->tombstone == right->tombstone;
}

static void check_same_condition(const struct policy_condition *left, const struct policy_condition *right)
{
	FUZZ_CHECK(left->status == right->status && !strcmp(left->reason, right->reason) &&
	                   !strcmp(left->message, right->message),
	           "%s: %s, then %s: %s", left->reason, left->message, right->reason, right->message);
}

void oracle_check_same(const struct snapshot *left, const struct snapshot *right)
{
	FUZZ_CHECK(snapshot_destination_count(left) == snapshot_destination_count(right) &&
	                   snapshot_policy_count(left) == snapshot_policy_count(right) &&
	                   snapshot_settings_count(left) == snapshot_settings_count(right) &&
	                   snapshot_cidr_count(left) == snapshot_cidr_count(right),
	           "counts differ");
	for (size_t i = 0; i < snapshot_destination_count(left); i++) {
		const struct destination *a = snapshot_destination_at(left, i), *b = snapshot_destination_at(right, i);

		uint16_t port = ntohs(a->key.port);

		FUZZ_CHECK(!memcmp(&a->key, &b->key, sizeof(a->key)) && same_verdict(a, b) && a->policy == b->policy,
		           "%s differs", show(&a->key));
		FUZZ_CHECK(snapshot_port_guarded(left, port) == snapshot_port_guarded(right, port), "port %u differs",
		           port);
	}
	for (size_t i = 0; i < snapshot_policy_count(left); i++) {
		const struct policy_status *a = snapshot_policy_at(left, i), *b = snapshot_policy_at(right, i);

		check_same_condition(&a->accepted, &b->accepted);
		check_same_condition(&a->resolved_refs, &b->resolved_refs);
		FUZZ_CHECK(a->destination_count == b->destination_count && a->ancestor_count == b->ancestor_count,
		           "status of %s/%s differs", a->namespace_, a->name);
	}
}

void oracle_check_nothing_forgotten(const struct snapshot *old, const struct snapshot *new,
                                    const struct compile_options *options)
{
	for (size_t i = 0; i < snapshot_destination_count(old); i++) {
		const struct destination *before = snapshot_destination_at(old, i), *after;

		if (before->verdict != POSTERN_VERDICT_TLS ||
		    (before->tombstone && before->tombstone_until_ns <= options->now_ns))
			continue;
		after = find_exactly(new, &before->key);
		FUZZ_CHECK(after, "%s was TLS and is forgotten", show(&before->key));
		FUZZ_CHECK(after->verdict != POSTERN_VERDICT_PLAIN || after->trusted || options->operators_own,
		           "%s was TLS, and a claim that nobody vouches for made it PLAIN", show(&before->key));
	}
}

void oracle_check_quarantine(const struct snapshot *without, const struct snapshot *with)
{
	for (size_t i = 0; i < snapshot_destination_count(without); i++) {
		const struct destination *before = snapshot_destination_at(without, i);
		const struct destination *after = find_exactly(with, &before->key);

		FUZZ_CHECK(after, "the quarantine took %s away", show(&before->key));
		FUZZ_CHECK((after->verdict == before->verdict && after->settings_id == before->settings_id) ||
		                   (before->verdict == POSTERN_VERDICT_PLAIN && after->verdict == POSTERN_VERDICT_DENY),
		           "the quarantine turned %s from %d to %d", show(&before->key), before->verdict,
		           after->verdict);
	}
	for (size_t i = 0; i < snapshot_destination_count(with); i++) {
		const struct destination *after = snapshot_destination_at(with, i);

		FUZZ_CHECK(find_exactly(without, &after->key) || after->verdict == POSTERN_VERDICT_DENY,
		           "the quarantine added %s with verdict %d", show(&after->key), after->verdict);
	}
}
