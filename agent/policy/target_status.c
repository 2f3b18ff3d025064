// SPDX-License-Identifier: GPL-2.0-only
/* What each target of a policy gives to tell: that it is missing, lost, of the wrong kind, or shared. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/printable.h"
#include "base/sorted.h"
#include "policy/compilation.h"
#include "policy/vector.h"

#define EXAMPLES 3 /* endpoints that a status message names */

static const char *protocol_name(enum transport_protocol protocol)
{
	return protocol == TRANSPORT_UDP ? "UDP" : protocol == TRANSPORT_SCTP ? "SCTP" : "TCP";
}

static void judge_whole_service(const struct object *object, struct target_report *report)
{
	const struct service *service = &object->service;
	size_t tcp_ports = 0;

	for (size_t i = 0; i < service->port_count; i++)
		tcp_ports += service->ports[i].protocol == TRANSPORT_TCP;
	if (service->port_count && !tcp_ports)
		text_add_sentence(&report->unusable,
		                  "Service %s has no TCP port: TLS runs over TCP only; target a Service with one",
		                  object->name);
	else if (tcp_ports < service->port_count)
		text_add_sentence(&report->warnings, "the UDP or SCTP ports of Service %s are not covered",
		                  object->name);
}

static void judge_section(const struct object *object, const char *section, struct target_report *report)
{
	const struct service_port *port = find_service_port(object, section);
	char shown[PRINTABLE_MAX];

	if (!port)
		text_add_sentence(&report->not_found,
		                  "Service %s has no port named \"%s\": its TCP ports that no other policy covers are "
		                  "refused; sectionName must be the name of a port",
		                  object->name, printable(section, shown));
	else if (port->protocol != TRANSPORT_TCP)
		text_add_sentence(&report->unusable,
		                  "port \"%s\" of Service %s is %s: TLS runs over TCP only; name a TCP port", section,
		                  object->name, protocol_name(port->protocol));
}

static void judge_winner(const struct object *service, const char *section, struct target_report *report)
{
	if (service->service.external_name)
		text_add_sentence(&report->unusable,
		                  "Service %s is of type ExternalName, which has no endpoints that could be covered: "
		                  "target a Service with a ClusterIP or a headless one",
		                  service->name);
	else if (*section)
		judge_section(service, section, report);
	else
		judge_whole_service(service, report);
}

static void judge_loser(const struct compiled_policy *policy, const struct attachment *winner, const char *service,
                        struct target_report *report)
{
	const struct object *other = winner->policy->object;
	bool older = other->created < policy->object->created;
	char shown[PRINTABLE_MAX];

	text_add_sentence(&report->conflicts, "Service %s", printable(service, shown));
	if (*winner->section)
		text_append(&report->conflicts, " port \"%s\"", printable(winner->section, shown));
	text_append(&report->conflicts, " is targeted by policy %s/%s, too, which %s", other->namespace_, other->name,
	            older ? "is older" : "comes first by name");
}

static void judge_target(const struct compiled_policy *policy, const struct target_reference *target,
                         const struct service_node *service, struct target_report *report)
{
	const char *section = target_section(target);
	const struct attachment *winner = find_winner(service, section);
	char shown[PRINTABLE_MAX];

	if (winner->policy != policy) {
		judge_loser(policy, winner, target->name, report);
	} else {
		report->wins = true;
		if (service->service)
			judge_winner(service->service, section, report);
	}
	if (!service->service)
		text_add_sentence(&report->not_found, "Service %s/%s does not exist: create it, or remove the target",
		                  policy->object->namespace_, printable(target->name, shown));
}

/* ---- ports ---- */

static void tell_routes(const struct compiled_policy *policy, const struct service_node *service,
                        struct target_report *report)
{
	for (size_t i = 0; i < service->coverage_count; i++) {
		const struct coverage *coverage = &service->coverages[i];

		if (coverage->policy != policy || coverage->verdict != POSTERN_VERDICT_TLS)
			continue;
		if (coverage->mixed_routes)
			text_add_sentence(&report->warnings,
			                  "GRPCRoutes and other Routes refer to port %u of Service %s: http/1.1 is "
			                  "offered, which "
			                  "gRPC cannot use; option postern.dev/alpn decides otherwise",
			                  coverage->port, service->name);
		if (coverage->passthrough)
			text_add_sentence(
			        &report->warnings,
			        "a TLSRoute that does not terminate refers to port %u of Service %s: what it carries "
			        "is TLS already, and such connections are reset (gateway_already_tls); let it refer to "
			        "a port that no policy covers",
			        coverage->port, service->name);
	}
}

/* ---- endpoints ---- */

struct notes {
	const struct compiler *compiler;
	const struct compiled_policy *policy;
	const struct key_node **keys; /* that have one */
	size_t count, capacity;
};

static int add_note(struct notes *notes, const struct key_node *key)
{
	if (vector_reserve(&notes->keys, notes->count, &notes->capacity, sizeof(*notes->keys)) < 0)
		return -ENOMEM;
	notes->keys[notes->count++] = key;
	return 0;
}

/* A claim on any port: does it count on this one? */
static int add_note_of_port(const struct key_node *key, void *context)
{
	struct notes *notes = context;
	const struct key_node *any = key->note ? find_any_port(notes->compiler, key) : NULL;

	for (const struct claim *claim = any ? any->claims : NULL; claim; claim = claim->next)
		if (claim_coverage(claim)->policy == notes->policy && !(claim->flags & CLAIM_REFUSAL) &&
		    claim_counts(notes->compiler, key, claim))
			return add_note(notes, key);
	return 0;
}

static int collect_notes(struct notes *notes, const struct service_node *service, struct target_report *report)
{
	for (size_t i = 0; i < service->claim_count; i++) {
		const struct claim *claim = &service->claims[i];

		if (claim_coverage(claim)->policy != notes->policy || (claim->flags & CLAIM_REFUSAL))
			continue;
		report->covers_endpoint |= claim->endpoint != NULL;
		if (claim->key->note && claim_counts(notes->compiler, claim->key, claim) &&
		    add_note(notes, claim->key) < 0)
			return -ENOMEM;
		if (!claim->key->key.port && for_each_port(notes->compiler, &notes->compiler->destinations,
		                                           &claim->key->key.address, add_note_of_port, notes) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int compare_keys(const void *left_pointer, const void *right_pointer)
{
	const struct key_node *const *left = left_pointer, *const *right = right_pointer;

	return destination_key_compare(&(*left)->key, &(*right)->key);
}

static void tell_notes(const struct notes *notes, struct target_report *report)
{
	size_t told[2] = {0};

	sort_list(notes->keys, notes->count, sizeof(*notes->keys), compare_keys);
	for (size_t i = 0; i < notes->count; i++) {
		const struct key_node *key = notes->keys[i];

		if ((!i || notes->keys[i - 1] != key) && told[key->ambiguous]++ < EXAMPLES)
			text_add(&report->warnings, key->note);
	}
	if (told[true] > EXAMPLES)
		text_add_sentence(&report->warnings, "%zu more endpoints are refused as ambiguous",
		                  told[true] - EXAMPLES);
	if (told[true])
		text_add_sentence(
		        &report->warnings,
		        "remedy for AmbiguousEndpoint: let the gateway dial the ClusterIP, give each Service its "
		        "own targetPort, or make the TLS settings equal (one hostname with subjectAltNames for "
		        "all, one postern.dev/alpn)");
	if (told[false] > EXAMPLES)
		text_add_sentence(&report->warnings, "%zu more endpoints are shared with uncovered Services",
		                  told[false] - EXAMPLES);
}

int report_targets(const struct compiler *compiler, const struct compiled_policy *policy, struct target_report *report)
{
	const struct backend_tls_policy *spec = &policy->object->backend_tls_policy;
	struct notes notes = {.compiler = compiler, .policy = policy};
	int result = 0;

	*report = (struct target_report){0};
	for (size_t i = 0; result == 0 && i < spec->target_count; i++) {
		const struct target_reference *target = &spec->targets[i];
		const struct service_node *service;

		if (!is_service_target(target) || is_repeated_target(spec, i, true))
			continue;
		service = find_service(compiler, policy->object->namespace_, target->name);
		judge_target(policy, target, service, report);
		if (is_repeated_target(spec, i, false))
			continue;
		tell_routes(policy, service, report);
		result = collect_notes(&notes, service, report);
	}
	if (result == 0)
		tell_notes(&notes, report);
	free(notes.keys);
	return result;
}

void free_target_report(struct target_report *report)
{
	text_free(&report->unusable);
	text_free(&report->conflicts);
	text_free(&report->not_found);
	text_free(&report->warnings);
}
