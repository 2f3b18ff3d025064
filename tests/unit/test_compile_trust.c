// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whom an endpoint belongs to when Services disagree. victim/echo is what it says; evil/own is made by somebody who may
 * write Services, slices, policies and Pods in a namespace of his own, and nothing anywhere else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "policy_fixture.h"

#define MANAGED ", endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io"
#define SERVICE(namespace, name)                                                                                       \
	"---\napiVersion: v1\nkind: Service\nmetadata: {name: " name                                                   \
	", namespace: " namespace "}\nspec: {clusterIP: None, ports: [{port: 443}]}\n"
#define SLICE(namespace, service, labels, target, port)                                                                \
	"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: " service                         \
	", namespace: " namespace ", labels: {kubernetes.io/service-name: " service labels "}}\naddressType: IPv4\n"   \
	                          "endpoints: [{addresses: [10.0.0.1]" target "}]\nports: [{port: " port "}]\n"
#define POD_REF(namespace, name) ", targetRef: {kind: Pod, namespace: " namespace ", name: " name "}"
#define POLICY(namespace, service, hostname)                                                                           \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: p, "                  \
	"namespace: " namespace "}\nspec: {targetRefs: [{group: '', kind: Service, name: " service                     \
	                        "}], validation: {hostname: " hostname ", wellKnownCACertificates: System}}\n"
#define POD(namespace, name, address)                                                                                  \
	"---\napiVersion: v1\nkind: Pod\nmetadata: {name: " name                                                       \
	", namespace: " namespace "}\nstatus: {podIPs: [{ip: " address "}]}\n"

/* What a source says of a Pod that it looked up and that is not there. */
#define ABSENT_POD(namespace, name)                                                                                    \
	"---\napiVersion: v1\nkind: Pod\nmetadata: {name: " name ", namespace: " namespace "}\n"

#define VICTIM        SERVICE("victim", "echo") SLICE("victim", "echo", MANAGED, POD_REF("victim", "x"), "8443")
#define VICTIM_POLICY POLICY("victim", "echo", "victim.example")
#define EVIL          SERVICE("evil", "own")
#define EVIL_POLICY   POLICY("evil", "own", "evil.example")
#define FORGED        SLICE("evil", "own", MANAGED, POD_REF("evil", "z"), "8443")
#define PLAIN_FORGERY SLICE("evil", "own", "", POD_REF("evil", "z"), "8443")
#define TRUE_POD      POD("victim", "x", "10.0.0.1")
#define BOTH          VICTIM VICTIM_POLICY EVIL EVIL_POLICY
/* A Service whose endpoints somebody wrote down: a machine outside of the cluster, say. */
#define BY_HAND SERVICE("victim", "echo") SLICE("victim", "echo", "", "", "8443")

/* p targets victim/two there by then. */
#define SECOND_POLICY                                                                                                  \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: q, namespace: "       \
	"victim}\nspec: {targetRefs: [{group: '', kind: Service, name: echo}], validation: {hostname: q.example, "     \
	"wellKnownCACertificates: System}}\n"

#define VICTIM_TLS "TLS victim/p victim.example"
#define AMBIGUOUS  "DENY ambiguous_endpoint evil/p"

static const struct row {
	const char *name, *yaml, *verdict;
	bool trusted;
	bool operators_own;
} rows[] = {
        {"no label", BOTH TRUE_POD PLAIN_FORGERY, VICTIM_TLS, true, false},
        {"no targetRef", BOTH TRUE_POD SLICE("evil", "own", MANAGED, "", "8443"), VICTIM_TLS, true, false},
        {"another namespace's Pod", BOTH TRUE_POD SLICE("evil", "own", MANAGED, POD_REF("victim", "x"), "8443"),
         VICTIM_TLS, true, false},
        {"no label, any port", BOTH TRUE_POD SLICE("evil", "own", "", POD_REF("evil", "z"), "null"), VICTIM_TLS, true,
         false},
        {"no label, and the Pod is not known: nobody can be believed", BOTH PLAIN_FORGERY, AMBIGUOUS, false, false},
        {"a label, and nothing to check it against", BOTH FORGED, AMBIGUOUS, false, false},
        {"a label in an operator's own directory", BOTH FORGED, AMBIGUOUS, true, true},
        {"a label and a Pod that nobody knows cannot uncover what has no label", BY_HAND VICTIM_POLICY EVIL FORGED,
         VICTIM_TLS, false, false},
        {"nor take it over", BY_HAND VICTIM_POLICY EVIL EVIL_POLICY FORGED, AMBIGUOUS, false, false},
        {"nor with a Pod of another address", BY_HAND VICTIM_POLICY EVIL FORGED POD("evil", "z", "10.0.0.9"),
         VICTIM_TLS, false, false},
        {"a Pod that has the address can", BY_HAND VICTIM_POLICY EVIL FORGED POD("evil", "z", "10.0.0.1"), "PLAIN",
         true, false},
        {"an operator's own label can", BY_HAND VICTIM_POLICY EVIL FORGED, "PLAIN", true, true},
        {"the Pods say whose it is", BOTH FORGED POD("victim", "x", "10.0.0.1") POD("evil", "z", "10.0.0.9"),
         VICTIM_TLS, true, false},
        {"a Pod that nobody has looked up yet", BOTH FORGED POD("victim", "x", "10.0.0.1"), AMBIGUOUS, false, false},
        {"a Pod that does not exist", BOTH FORGED POD("victim", "x", "10.0.0.1") ABSENT_POD("evil", "z"), VICTIM_TLS,
         true, false},
        {"a Pod of another address, where the true one is not known", BOTH FORGED POD("evil", "z", "10.0.0.9"),
         AMBIGUOUS, false, false},
        {"the same in an operator's own directory", BOTH FORGED POD("evil", "z", "10.0.0.9"), VICTIM_TLS, true, true},
        {"any port, and a Pod of another address",
         BOTH SLICE("evil", "own", MANAGED, POD_REF("evil", "z"), "null") POD("victim", "x", "10.0.0.1")
                 POD("evil", "z", "10.0.0.9"),
         VICTIM_TLS, true, false},
        {"both Pods have it (hostNetwork)", BOTH FORGED POD("victim", "x", "10.0.0.1") POD("evil", "z", "10.0.0.1"),
         AMBIGUOUS, true, false},
        {"no Pod has it", BOTH FORGED POD("victim", "x", "10.0.0.8") POD("evil", "z", "10.0.0.9"), AMBIGUOUS, false,
         false},
        {"the Pod has it not, and the other slice has no label", BOTH PLAIN_FORGERY POD("victim", "x", "10.0.0.8"),
         AMBIGUOUS, false, false},
        {"an uncovered Service takes no TLS away", VICTIM VICTIM_POLICY EVIL FORGED, VICTIM_TLS, false, false},
        {"nor gives a policy to what has none, where the Pod is known", VICTIM TRUE_POD EVIL EVIL_POLICY PLAIN_FORGERY,
         "PLAIN", true, false},
        {"whose Pod nobody knows may be a forger, too: TLS is the safe side", VICTIM EVIL EVIL_POLICY PLAIN_FORGERY,
         "TLS evil/p evil.example", false, false},
        {"nor with a label, where the Pods are known",
         VICTIM EVIL EVIL_POLICY FORGED POD("victim", "x", "10.0.0.1") POD("evil", "z", "10.0.0.9"), "PLAIN", true,
         false},
        {"nobody asks Pods where all agree",
         VICTIM VICTIM_POLICY EVIL POLICY("evil", "own", "victim.example") FORGED POD("victim", "x", "10.0.0.8"),
         "TLS evil/p victim.example", true, false},
        {"alone it counts, and is marked", EVIL EVIL_POLICY PLAIN_FORGERY, "TLS evil/p evil.example", false, false},
        {"in an operator's own directory as well", BOTH PLAIN_FORGERY, VICTIM_TLS, true, true},
        {"where slices have no labels they are equal",
         SERVICE("victim", "echo") SLICE("victim", "echo", "", "", "8443") VICTIM_POLICY EVIL EVIL_POLICY PLAIN_FORGERY,
         AMBIGUOUS, false, true},
};

static void table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct policy_fixture *fixture = policy_fixture_new();
		const char *seen;

		fixture->options.operators_own = rows[i].operators_own;
		fixture_add(fixture, rows[i].yaml);
		fixture_compile(fixture);
		seen = fixture_verdict(fixture, "10.0.0.1", 8443);
		if (strcmp(seen, rows[i].verdict))
			fail_msg("%s: expected \"%s\", saw \"%s\"", rows[i].name, rows[i].verdict, seen);
		if (fixture_find(fixture, "10.0.0.1", 8443)->trusted != rows[i].trusted)
			fail_msg("%s: expected trusted %d", rows[i].name, rows[i].trusted);
		policy_fixture_free(fixture);
	}
}

/* A policy whose claim does not count is told nothing of the quarrel. */
static void the_forger_is_told_nothing(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();

	(void)state;
	fixture->options.operators_own = false;
	fixture_add(fixture, BOTH TRUE_POD PLAIN_FORGERY SERVICE("victim", "two")
	                             SLICE("victim", "two", MANAGED, POD_REF("victim", "x"), "8443")
	                                     POLICY("victim", "two", "two.example"));
	fixture_compile(fixture);
	assert_string_equal(fixture_verdict(fixture, "10.0.0.1", 8443), "TLS victim/p two.example");
	fixture_add(fixture, SECOND_POLICY);
	fixture_compile(fixture);
	assert_string_equal(fixture_verdict(fixture, "10.0.0.1", 8443), "DENY ambiguous_endpoint victim/p");
	for (size_t i = 0; i < snapshot_policy_count(fixture->snapshot); i++) {
		const struct policy_status *policy = snapshot_policy_at(fixture->snapshot, i);
		bool forger = !strcmp(policy->namespace_, "evil");

		assert_int_equal(strstr(policy->warnings, "AmbiguousEndpoint") != NULL, !forger);
		assert_null(strstr(policy->warnings, "evil"));
	}
	policy_fixture_free(fixture);
}

/* Once covered by a trusted claim: who may have it afterwards? */
static void successors(void **state)
{
	static const struct {
		const char *name, *slice;
		bool operators_own;
		const char *verdict;
	} cases[] = {
	        {"untrusted and uncovered", EVIL PLAIN_FORGERY, false, VICTIM_TLS},
	        {"untrusted and covered", EVIL EVIL_POLICY PLAIN_FORGERY, false, VICTIM_TLS},
	        {"trusted and uncovered", EVIL FORGED, false, "PLAIN"},
	        {"trusted and covered", EVIL EVIL_POLICY FORGED, false, "TLS evil/p evil.example"},
	        {"the operator's own", EVIL PLAIN_FORGERY, true, "PLAIN"},
	        {"the operator's own, covered", EVIL EVIL_POLICY PLAIN_FORGERY, true, "TLS evil/p evil.example"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct policy_fixture *fixture = policy_fixture_new();
		const char *seen;

		fixture->options.operators_own = cases[i].operators_own;
		fixture_add(fixture, VICTIM VICTIM_POLICY);
		fixture_compile(fixture);
		assert_true(object_store_remove(fixture->store, OBJECT_ENDPOINT_SLICE, "victim", "echo"));
		fixture_add(fixture, cases[i].slice);
		fixture_compile(fixture);
		seen = fixture_verdict(fixture, "10.0.0.1", 8443);
		if (strcmp(seen, cases[i].verdict))
			fail_msg("%s: expected \"%s\", saw \"%s\"", cases[i].name, cases[i].verdict, seen);
		policy_fixture_free(fixture);
	}
}

/* What was never trusted may change its own mind. */
static void an_untrusted_endpoint_follows_its_policy(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();

	(void)state;
	fixture->options.operators_own = false;
	fixture_add(fixture, EVIL EVIL_POLICY PLAIN_FORGERY);
	fixture_compile(fixture);
	fixture_add(fixture, POLICY("evil", "own", "changed.example"));
	fixture_compile(fixture);
	assert_string_equal(fixture_verdict(fixture, "10.0.0.1", 8443), "TLS evil/p changed.example");
	policy_fixture_free(fixture);
}

/* Pods of the node's own network: one address, many ports, each its own Service's. */
static void host_network(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();

	(void)state;
	fixture->options.operators_own = false;
	fixture_add(fixture, BOTH SLICE("evil", "own", MANAGED, POD_REF("evil", "z"), "9443")
	                             POD("victim", "x", "10.0.0.1") POD("evil", "z", "10.0.0.1"));
	fixture_compile(fixture);
	assert_string_equal(fixture_verdict(fixture, "10.0.0.1", 8443), VICTIM_TLS);
	assert_string_equal(fixture_verdict(fixture, "10.0.0.1", 9443), "TLS evil/p evil.example");
	policy_fixture_free(fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(table),        cmocka_unit_test(the_forger_is_told_nothing),
	        cmocka_unit_test(successors),   cmocka_unit_test(an_untrusted_endpoint_follows_its_policy),
	        cmocka_unit_test(host_network),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
