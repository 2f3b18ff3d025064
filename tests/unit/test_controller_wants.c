// SPDX-License-Identifier: GPL-2.0-only
/* From objects to what each status should say, and to what is wrong with pods. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "controller/conditions.h"
#include "controller/findings.h"
#include "controller/json_cleanup.h"
#include "controller/wants.h"
#include "policy_fixture.h"

#define CLASS(name, controller)                                                                                        \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: " name                    \
	"}\nspec: {controllerName: " controller "}\n"
#define GATEWAY(name, class, annotations)                                                                              \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: " name                         \
	", namespace: default, generation: 4, annotations: {" annotations                                              \
	"}}\nspec: {gatewayClassName: " class ", listeners: [{name: web, port: 80, protocol: HTTP}]}\n"
#define ROUTE(name, gateway)                                                                                           \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: " name                       \
	", namespace: default}\nspec: {parentRefs: [{name: " gateway                                                   \
	"}], rules: [{backendRefs: [{name: echo, port: 443}]}]}\n"
#define SERVICE                                                                                                        \
	"---\napiVersion: v1\nkind: Service\nmetadata: {name: echo, namespace: default}\n"                             \
	"spec: {clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7], ports: [{name: https, port: 443}]}\n"
#define POLICY                                                                                                         \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\n"                                      \
	"metadata: {name: p, namespace: default, generation: 7}\n"                                                     \
	"spec: {targetRefs: [{group: '', kind: Service, name: echo}], validation: {hostname: echo.example.com, "       \
	"caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}\n"
#define POD(name, node, labels, annotations, containers)                                                               \
	"---\napiVersion: v1\nkind: Pod\nmetadata: {name: " name ", namespace: default, uid: uid-" name                \
	", labels: {" labels "}, annotations: {" annotations "}}\nspec: {nodeName: " node                              \
	", initContainers: [" containers "]}\nstatus: {phase: Running, podIP: 10.244.0.9}\n"
#define OF(gateway) "gateway.networking.k8s.io/gateway-name: " gateway
#define GATE        "{name: postern-gate}"

struct made {
	struct policy_fixture *fixture;
	struct pod_gateways pods;
	struct wants_from from;
};

static struct made make(const char *yaml)
{
	struct made made = {.fixture = policy_fixture_new()};

	fixture_add(made.fixture, yaml);
	fixture_compile(made.fixture);
	assert_int_equal(pod_gateways_find(made.fixture->store, "", &made.pods), 0);
	return made;
}

static struct wants_from from(struct made *made)
{
	return (struct wants_from){made->fixture->snapshot, made->fixture->store, &made->pods};
}

static void unmake(struct made *made)
{
	pod_gateways_free(&made->pods);
	policy_fixture_free(made->fixture);
}

/* "g1 g2": the names of the ancestors that are wanted of the policy. */
static void check_ancestors(const char *name, const char *yaml, const char *expected)
{
	struct made made = make(yaml);
	struct wants_from wants = from(&made);
	_cleanup_json_ json_t *wanted = wanted_of_policy(&wants, fixture_policy(made.fixture, "p"));
	const json_t *ancestor;
	char seen[256] = "";
	size_t index;

	assert_non_null(wanted);
	json_array_foreach (json_object_get(wanted, "ancestors"), index, ancestor)
		snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%s%s", *seen ? " " : "",
		         json_string_value(json_object_get(ancestor, "name")));
	if (strcmp(seen, expected))
		fail_msg("%s: expected \"%s\", saw \"%s\"", name, expected, seen);
	assert_int_equal(json_integer_value(json_object_get(wanted, "generation")), 7);
	assert_non_null(condition_find(json_object_get(wanted, "conditions"), "Accepted"));
	assert_non_null(condition_find(json_object_get(wanted, "conditions"), "ResolvedRefs"));
	unmake(&made);
}

#define OBSERVE "postern.dev/mode: observe"

static void ancestors(void **state)
{
	static const struct {
		const char *name, *yaml, *expected;
	} rows[] = {
	        {"no Gateway at all", SERVICE POLICY, ""},
	        {"one", SERVICE POLICY GATEWAY("g", "c", "") ROUTE("r", "g"), "g"},
	        {"a Gateway without a Route", SERVICE POLICY GATEWAY("g", "c", ""), ""},
	        {"observed by its own word", SERVICE POLICY GATEWAY("g", "c", OBSERVE) ROUTE("r", "g"), ""},
	        {"one of two is observed",
	         SERVICE POLICY GATEWAY("a", "c", OBSERVE) ROUTE("ra", "a") GATEWAY("b", "c", "") ROUTE("rb", "b"),
	         "b"},
	        {"all of its pods are observed",
	         SERVICE POLICY GATEWAY("g", "c", "") ROUTE("r", "g") POD("a", "n1", OF("g"), OBSERVE, GATE)
	                 POD("b", "n1", OF("g"), OBSERVE, GATE),
	         ""},
	        {"one of its pods enforces",
	         SERVICE POLICY GATEWAY("g", "c", "") ROUTE("r", "g") POD("a", "n1", OF("g"), OBSERVE, GATE)
	                 POD("b", "n1", OF("g"), "", GATE),
	         "g"},
	        {"observed, and its pod says otherwise",
	         SERVICE POLICY GATEWAY("g", "c", OBSERVE) ROUTE("r", "g")
	                 POD("a", "n1", OF("g"), "postern.dev/mode: enforce", GATE),
	         "g"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check_ancestors(rows[i].name, rows[i].yaml, rows[i].expected);
}

/* The types of the conditions that are wanted of the Gateway g, in their order, and after a bar those that must go. */
static void check_gateway(const char *name, const char *yaml, const char *expected)
{
	struct made made = make(yaml);
	struct wants_from wants = from(&made);
	_cleanup_json_ json_t *full = wanted_full(made.fixture->snapshot);
	_cleanup_json_ json_t *wanted =
	        wanted_of_gateway(&wants, object_store_find(made.fixture->store, OBJECT_GATEWAY, "default", "g"), full);
	const json_t *each;
	char seen[512] = "";
	size_t index;

	assert_non_null(wanted);
	json_array_foreach (json_object_get(wanted, "conditions"), index, each)
		snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%s ",
		         json_string_value(json_object_get(each, "type")));
	snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "|");
	json_array_foreach (json_object_get(wanted, "absent"), index, each)
		snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), " %s", json_string_value(each));
	if (strcmp(seen, expected))
		fail_msg("%s: expected \"%s\", saw \"%s\"", name, expected, seen);
	assert_int_equal(json_integer_value(json_object_get(wanted, "generation")), 4);
	unmake(&made);
}

static void gateways(void **state)
{
	static const struct {
		const char *name, *yaml, *expected;
	} rows[] = {
	        {"of another controller", CLASS("c", "example.com/x") GATEWAY("g", "c", ""),
	         "| postern.dev/PolicyStatusFull"},
	        {"of no class that is there", GATEWAY("g", "c", ""), "| postern.dev/PolicyStatusFull"},
	        {"adopted", CLASS("c", "postern.dev/adopted") GATEWAY("g", "c", ""),
	         "Accepted Programmed ResolvedRefs | postern.dev/PolicyStatusFull"},
	        {"adopted, and observed", CLASS("c", "postern.dev/adopted") GATEWAY("g", "c", OBSERVE),
	         "| Accepted Programmed ResolvedRefs postern.dev/PolicyStatusFull"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check_gateway(rows[i].name, rows[i].yaml, rows[i].expected);
}

/* Seventeen Gateways, and the seventeenth by name is g: it is told there. */
static void full(void **state)
{
	char yaml[32768] = SERVICE POLICY GATEWAY("g", "c", "") ROUTE("r", "g");

	(void)state;
	for (int i = 0; i < 16; i++)
		snprintf(yaml + strlen(yaml), sizeof(yaml) - strlen(yaml),
		         GATEWAY("a%02d", "c", "") ROUTE("r%02d", "a%02d"), i, i, i);
	check_gateway("the seventeenth", yaml, "postern.dev/PolicyStatusFull |");
}

/* ---- pods ---- */

struct heard {
	char text[1024];
};

static bool node_is_ready(void *context, const char *node)
{
	(void)context;
	return !strcmp(node, "good");
}

static void hear(void *context, enum finding_reason reason, const char *kind, const char *namespace_, const char *name,
                 const char *uid, const char *message)
{
	struct heard *heard = context;

	(void)namespace_;
	assert_true(strlen(message) > 20);
	snprintf(heard->text + strlen(heard->text), sizeof(heard->text) - strlen(heard->text), "[%s %s %s %s]",
	         finding_reason_name(reason), kind, name, uid);
}

static void expect_heard(struct heard *heard, const char *what, const char *expected)
{
	if (strcmp(heard->text, expected))
		fail_msg("%s: expected \"%s\", saw \"%s\"", what, expected, heard->text);
	heard->text[0] = '\0';
}

#define SECOND 1000000000ull

static void findings(void **state)
{
	struct made made = make(GATEWAY("g", "c", "") POD("fine", "good", OF("g"), "", GATE)
	                                POD("alone", "bad", OF("g"), "", GATE) POD("ungated", "good", OF("g"), "", "")
	                                        POD("observed", "bad", OF("g"), OBSERVE, "")
	                                                POD("other", "bad", "", "", "")),
	            none = make(GATEWAY("g", "c", ""));
	struct heard heard = {""};
	struct pod_findings_options options = {
	        .grace_ns = 30 * SECOND, .node_is_ready = node_is_ready, .tell = hear, .context = &heard};
	struct pod_findings *kept = pod_findings_new(&options);
	_cleanup_json_ json_t *json = NULL;

	(void)state;
	/* Not known yet which nodes have agents: of those nothing is said. */
	assert_int_equal(pod_findings_update(kept, made.fixture->store, &made.pods, false, 100 * SECOND), 0);
	expect_heard(&heard, "nodes unknown", "[StartRace Pod ungated uid-ungated]");
	/* The grace begins, and the caller is told when it is over. */
	assert_int_equal(pod_findings_update(kept, made.fixture->store, &made.pods, true, 101 * SECOND), 30 * SECOND);
	assert_int_equal(pod_findings_update(kept, made.fixture->store, &made.pods, true, 111 * SECOND), 20 * SECOND);
	expect_heard(&heard, "in the grace", "");
	assert_int_equal(pod_findings_count(kept, FINDING_UNPROTECTED_GATEWAY_POD), 0);
	assert_int_equal(pod_findings_update(kept, made.fixture->store, &made.pods, true, 131 * SECOND), 0);
	expect_heard(&heard, "after the grace", "[UnprotectedGatewayPod Pod alone uid-alone]");
	/* Once. */
	assert_int_equal(pod_findings_update(kept, made.fixture->store, &made.pods, true, 200 * SECOND), 0);
	expect_heard(&heard, "again", "");
	json = pod_findings_json(kept);
	assert_int_equal(json_array_size(json), 2);
	pod_findings_tell_again(kept);
	expect_heard(&heard, "another leader",
	             "[StartRace Pod ungated uid-ungated][UnprotectedGatewayPod Pod alone uid-alone]");
	/* The pods are gone, and what was wrong with them. */
	assert_int_equal(pod_findings_update(kept, none.fixture->store, &none.pods, true, 201 * SECOND), 0);
	assert_int_equal(pod_findings_count(kept, FINDING_START_RACE), 0);
	pod_findings_free(kept);
	unmake(&made);
	unmake(&none);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(ancestors),
	        cmocka_unit_test(gateways),
	        cmocka_unit_test(full),
	        cmocka_unit_test(findings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
