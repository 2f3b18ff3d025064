// SPDX-License-Identifier: GPL-2.0-only
/* Which Pods are gateways, of which Gateways, in which mode; and the selector of an adopting Gateway. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "node/pod_gateways.h"
#include "node/pod_selector.h"
#include "policy/object.h"
#include "policy/snapshot.h"
#include "policy_fixture.h"

#define GROUP "apiVersion: gateway.networking.k8s.io/v1\n"
#define CLASSES                                                                                                        \
	GROUP "kind: GatewayClass\nmetadata: {name: adopted}\nspec: {controllerName: "                                 \
	      "postern.dev/adopted}\n---\n" GROUP                                                                      \
	      "kind: GatewayClass\nmetadata: {name: nginx}\nspec: {controllerName: example.com/nginx}\n---\n" GROUP    \
	      "kind: GatewayClass\nmetadata: {name: istio}\nspec: {controllerName: istio.io/gateway-controller}\n"     \
	      "status: {supportedFeatures: [{name: BackendTLSPolicy}]}\n---\n"
#define GATEWAY(name, class, annotations)                                                                              \
	GROUP "kind: Gateway\nmetadata: {name: " name ", namespace: shop, annotations: {" annotations "}}\n"           \
	      "spec: {gatewayClassName: " class "}\n---\n"
#define POD(name, labels, annotations, spec, status)                                                                   \
	"apiVersion: v1\nkind: Pod\nmetadata: {name: " name ", namespace: shop, uid: 0-1, labels: {" labels "}, "      \
	"annotations: {" annotations "}}\nspec: {nodeName: here" spec "}\nstatus: {phase: Running" status "}\n---\n"
#define LABEL "gateway.networking.k8s.io/gateway-name: web"

/* "pod=ns/name+ns/name:mode ...; Finding Object" */
static void describe(const struct pod_gateways *found, char *text, size_t size)
{
	size_t used = 0;

#define SAY(...) used += (size_t)snprintf(text + used, used < size ? size - used : 0, __VA_ARGS__)
	text[0] = '\0';
	for (size_t i = 0; i < found->count; i++) {
		const struct pod_gateway *gateway = &found->at[i];

		SAY("%s%s=", i ? " " : "", gateway->name);
		for (size_t j = 0; j < gateway->ref_count; j++)
			SAY("%s%s/%s", j ? "+" : "", gateway->refs[j].namespace_, gateway->refs[j].name);
		SAY(":%s", gateway->mode == POSTERN_MODE_OBSERVE ? "observe" : "enforce");
	}
	for (size_t i = 0; i < found->finding_count; i++)
		SAY("; %s %s", finding_reason_name(found->findings[i].reason), found->findings[i].object);
#undef SAY
}

static const struct {
	const char *title, *yaml, *expected;
} rows[] = {
        {"no Pod is one by itself", POD("p", "app: web", "", "", ""), ""},
        {"the label", POD("p", LABEL, "", "", ""), "shop/p=shop/web:enforce"},
        {"a Pod of another node",
         "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop, labels: {" LABEL
         "}}\nspec: {nodeName: there}\n",
         ""},
        {"a Pod that waits for a node",
         "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop, labels: {" LABEL "}}\n", ""},
        {"a Pod that has ended",
         "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop, labels: {" LABEL
         "}}\nspec: {nodeName: here}\nstatus: {phase: Failed}\n",
         ""},
        {"the annotation, of two Gateways, in their order",
         POD("p", "", "postern.dev/gateway: 'shop/web , infra/edge,shop/web'", "", ""),
         "shop/p=infra/edge+shop/web:enforce"},
        {"label and annotation", POD("p", LABEL, "postern.dev/gateway: infra/edge", "", ""),
         "shop/p=infra/edge+shop/web:enforce"},
        {"an annotation that is none", POD("p", "", "postern.dev/gateway: ../../etc", "", ""),
         "; InvalidAnnotation Pod shop/p"},
        {"one part of an annotation that is none", POD("p", "", "postern.dev/gateway: 'shop/web,web'", "", ""),
         "shop/p=shop/web:enforce; InvalidAnnotation Pod shop/p"},
        {"adopted",
         CLASSES GATEWAY("edge", "adopted", "postern.dev/pod-selector: app=ingress")
                 POD("p", "app: ingress", "", "", "") POD("q", "app: other", "", "", ""),
         "shop/p=shop/edge:enforce"},
        {"a selector of a Gateway that is not of the adopted class",
         CLASSES GATEWAY("edge", "nginx", "postern.dev/pod-selector: app=ingress") POD("p", "app: ingress", "", "", ""),
         "; InvalidAnnotation Gateway shop/edge"},
        {"a selector that cannot be read",
         CLASSES GATEWAY("edge", "adopted", "postern.dev/pod-selector: 'app in (a'") POD("p", "app: a", "", "", ""),
         "; InvalidAnnotation Gateway shop/edge"},
        {"a class that does backend TLS itself", CLASSES GATEWAY("web", "istio", "") POD("p", LABEL, "", "", ""),
         "; GatewayDoesBackendTLS Pod shop/p"},
        {"the same, forced by the Gateway",
         CLASSES GATEWAY("web", "istio", "postern.dev/force: 'true'") POD("p", LABEL, "", "", ""),
         "shop/p=shop/web:enforce"},
        {"the same, forced by the Pod",
         CLASSES GATEWAY("web", "istio", "") POD("p", LABEL, "postern.dev/force: 'true'", "", ""),
         "shop/p=shop/web:enforce"},
        {"one of two Gateways does not",
         CLASSES GATEWAY("web", "istio", "") GATEWAY("edge", "nginx", "")
                 POD("p", LABEL, "postern.dev/gateway: shop/edge", "", ""),
         "shop/p=shop/edge+shop/web:enforce"},
        {"observe, by the Pod", POD("p", LABEL, "postern.dev/mode: observe", "", ""), "shop/p=shop/web:observe"},
        {"observe, by the Gateway",
         CLASSES GATEWAY("web", "nginx", "postern.dev/mode: observe") POD("p", LABEL, "", "", ""),
         "shop/p=shop/web:observe"},
        {"the Pod overrides its Gateway",
         CLASSES GATEWAY("web", "nginx", "postern.dev/mode: observe")
                 POD("p", LABEL, "postern.dev/mode: enforce", "", ""),
         "shop/p=shop/web:enforce"},
        {"two Gateways that disagree: enforce",
         CLASSES GATEWAY("web", "nginx", "postern.dev/mode: observe") GATEWAY("edge", "nginx", "")
                 POD("p", LABEL, "postern.dev/gateway: shop/edge", "", ""),
         "shop/p=shop/edge+shop/web:enforce"},
        {"an unknown mode is enforce, and said",
         CLASSES GATEWAY("web", "nginx", "postern.dev/mode: Observe")
                 POD("p", LABEL, "postern.dev/mode: 'off'", "", ""),
         "shop/p=shop/web:enforce; InvalidAnnotation Gateway shop/web; InvalidAnnotation Pod shop/p"},
};

static void the_gateways_of_a_node(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct policy_fixture *fixture = policy_fixture_new();
		struct pod_gateways found;
		char seen[1024];

		fixture_add(fixture, rows[i].yaml);
		assert_int_equal(pod_gateways_find(fixture->store, "here", &found), 0);
		describe(&found, seen, sizeof(seen));
		if (strcmp(seen, rows[i].expected) != 0)
			fail_msg("%s: expected \"%s\", saw \"%s\"", rows[i].title, rows[i].expected, seen);
		pod_gateways_free(&found);
		policy_fixture_free(fixture);
	}
}

static void every_node_without_a_name(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();
	struct pod_gateways found;

	(void)state;
	fixture_add(fixture,
	            POD("p", LABEL, "", "",
	                "") "apiVersion: v1\nkind: Pod\nmetadata: {name: q, namespace: shop, labels: {" LABEL "}}\n");
	assert_int_equal(pod_gateways_find(fixture->store, "", &found), 0);
	assert_int_equal(found.count, 2);
	pod_gateways_free(&found);
	policy_fixture_free(fixture);
}

static void what_is_kept_of_a_pod(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();
	const struct pod *pod;

	(void)state;
	fixture_add(
	        fixture,
	        "apiVersion: v1\nkind: Pod\n"
	        "metadata: {name: p, namespace: shop, annotations: {kubernetes.io/config.hash: abc}}\n"
	        "spec:\n  hostNetwork: true\n  runtimeClassName: gvisor\n  nodeName: here\n"
	        "  initContainers: [{name: postern-gate}, {name: other}]\n"
	        "  containers:\n  - name: a\n    ports: [{containerPort: 80, hostPort: 28101}, {containerPort: 81}, "
	        "{containerPort: 53, hostPort: 53, protocol: UDP}]\n  - name: b\n"
	        "status:\n  phase: Running\n  qosClass: Burstable\n"
	        "  initContainerStatuses: [{containerID: 'containerd://0011223344556677', state: {terminated: {}}}]\n"
	        "  containerStatuses: [{state: {waiting: {}}}, {containerID: 'containerd://8899aabbccddeeff', state: "
	        "{running: {}}}]\n");
	pod = &object_store_find(fixture->store, OBJECT_POD, "shop", "p")->pod;
	assert_string_equal(pod->config_hash, "abc");
	assert_string_equal(pod->runtime_class, "gvisor");
	assert_string_equal(pod->qos_class, "Burstable");
	assert_string_equal(pod->phase, "Running");
	assert_true(pod->gated);
	assert_true(pod->started);
	assert_int_equal(pod->container_id_count, 2);
	assert_string_equal(pod->container_ids[1], "containerd://8899aabbccddeeff");
	assert_int_equal(pod->host_port_count, 1);
	assert_int_equal(pod->host_ports[0], 28101);

	fixture_add(fixture, POD("p", "", "", "",
	                         ", initContainerStatuses: [{state: {running: {}}}], "
	                         "containerStatuses: [{state: {waiting: {}}}]"));
	pod = &object_store_find(fixture->store, OBJECT_POD, "shop", "p")->pod;
	assert_false(pod->gated);
	assert_false(pod->started); /* an init container is no gateway yet */
	policy_fixture_free(fixture);
}

static const struct {
	const char *selector;
	bool valid, selects;
} selectors[] = {
        {"app=web", true, true},
        {"app==web", true, true},
        {" app = web , tier=front ", true, true},
        {"app=other", true, false},
        {"app", true, true},
        {"!app", true, false},
        {"!none", true, true},
        {"none", true, false},
        {"app!=other", true, true},
        {"app!=web", true, false},
        {"none!=x", true, true},
        {"app in (other,web)", true, true},
        {"app in (other)", true, false},
        {"app notin (other)", true, true},
        {"none notin (x)", true, true},
        {"app notin (web, x)", true, false},
        {"app=web,tier=back", true, false},
        {"app.kubernetes.io/name=n", true, true},
        {"empty=", true, true},
        {"app=", true, false},
        {"in=word", true, true},
        {"", false, false},
        {"  ", false, false},
        {"app=web,", false, false},
        {",app=web", false, false},
        {"app in (web", false, false},
        {"app in web", false, false},
        {"!app=web", false, false},
        {"app=web tier=front", false, false},
        {"app=we\"b", false, false},
        {"app=web\n", false, false},
};

static void who_has_a_host_port(void **state)
{
	static const struct {
		const char *title, *node;
		uint16_t port;
		const char *expected; /* "": nobody */
	} questions[] = {
	        {"a Pod of the node", "here", 28101, "web"},
	        {"its second port", "here", 28102, "web"},
	        {"a port of a container without a hostPort", "here", 81, ""},
	        {"UDP", "here", 53, ""},
	        {"a Pod of another node", "here", 28103, ""},
	        {"any node", "", 28103, "elsewhere"},
	        {"one that has ended", "here", 28104, ""},
	        {"nobody's", "here", 28105, ""},
	        {"a sidecar's, which runs on", "here", 28106, "sidecar"},
	        {"an init container's, which ends", "here", 28107, ""},
	        {"of init containers without a policy, none", "here", 28108, ""},
	        {"hostIP loopback", "here", 28109, "at"},
	        {"hostIP loopback, IPv6", "here", 28110, "at"},
	        {"hostIP 0.0.0.0", "here", 28111, "at"},
	        {"hostIP ::", "here", 28112, "at"},
	        {"hostIP empty", "here", 28113, "at"},
	        {"hostIP of another interface", "here", 28114, ""},
	        {"hostIP of another interface, IPv6", "here", 28115, ""},
	        {"a hostIP that is no address may be any", "here", 28116, "at"},
	};
	struct policy_fixture *fixture = policy_fixture_new();

	(void)state;
	fixture_add(
	        fixture,
	        POD("web", "", "",
	            ", containers: [{name: a, ports: [{containerPort: 80, hostPort: 28101}, "
	            "{containerPort: 81}, {containerPort: 53, hostPort: 53, protocol: UDP}]}, "
	            "{name: b, ports: [{containerPort: 82, hostPort: 28102}]}]",
	            "") "apiVersion: v1\nkind: Pod\nmetadata: {name: elsewhere, namespace: shop}\nspec: {nodeName: "
	                "there, "
	                "containers: [{name: a, ports: [{containerPort: 80, hostPort: 28103}]}]}\n---\n"
	                "apiVersion: v1\nkind: Pod\nmetadata: {name: ended, namespace: shop}\nspec: {nodeName: here, "
	                "containers: [{name: a, ports: [{containerPort: 80, hostPort: 28104}]}]}\n"
	                "status: {phase: Succeeded}\n");
	fixture_add(fixture, POD("sidecar", "", "",
	                         ", containers: [{name: a}], initContainers: ["
	                         "{name: b, restartPolicy: Always, ports: [{containerPort: 1, hostPort: 28106}]}, "
	                         "{name: c, restartPolicy: Never, ports: [{containerPort: 1, hostPort: 28107}]}, "
	                         "{name: d, ports: [{containerPort: 1, hostPort: 28108}]}]",
	                         ""));
	fixture_add(fixture, POD("at", "", "",
	                         ", containers: [{name: a, ports: ["
	                         "{containerPort: 1, hostPort: 28109, hostIP: 127.0.0.1}, "
	                         "{containerPort: 1, hostPort: 28110, hostIP: '::1'}, "
	                         "{containerPort: 1, hostPort: 28111, hostIP: 0.0.0.0}, "
	                         "{containerPort: 1, hostPort: 28112, hostIP: '::'}, "
	                         "{containerPort: 1, hostPort: 28113, hostIP: ''}, "
	                         "{containerPort: 1, hostPort: 28114, hostIP: 192.0.2.7}, "
	                         "{containerPort: 1, hostPort: 28115, hostIP: '2001:db8::7'}, "
	                         "{containerPort: 1, hostPort: 28116, hostIP: everywhere}]}]",
	                         ""));
	for (size_t i = 0; i < ARRAY_SIZE(questions); i++) {
		const struct object *pod = pod_with_host_port(fixture->store, questions[i].node, questions[i].port);

		if (strcmp(pod ? pod->name : "", questions[i].expected) != 0)
			fail_msg("%s: expected \"%s\", saw \"%s\"", questions[i].title, questions[i].expected,
			         pod ? pod->name : "");
	}
	policy_fixture_free(fixture);
}

static void a_selector(void **state)
{
	static const struct pod_label labels[] = {
	        {"app", "web"}, {"tier", "front"}, {"app.kubernetes.io/name", "n"}, {"empty", ""}, {"in", "word"}};
	const struct pod pod = {.labels = labels, .label_count = ARRAY_SIZE(labels)};
	char problem[256], *long_one = malloc(POD_SELECTOR_MAX + 2);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(selectors); i++) {
		bool valid = pod_selector_valid(selectors[i].selector, problem, sizeof(problem));
		bool selects = pod_selector_selects(selectors[i].selector, &pod);

		if (valid != selectors[i].valid || selects != selectors[i].selects)
			fail_msg("\"%s\": expected valid %d and selects %d, saw %d and %d", selectors[i].selector,
			         selectors[i].valid, selectors[i].selects, valid, selects);
	}
	assert_non_null(long_one);
	memset(long_one, 'a', POD_SELECTOR_MAX + 1);
	long_one[POD_SELECTOR_MAX + 1] = '\0';
	assert_false(pod_selector_valid(long_one, problem, sizeof(problem)));
	long_one[400] = '\0';
	assert_false(pod_selector_valid(long_one, problem, sizeof(problem)));
	free(long_one);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(the_gateways_of_a_node),
	        cmocka_unit_test(every_node_without_a_name),
	        cmocka_unit_test(what_is_kept_of_a_pod),
	        cmocka_unit_test(who_has_a_host_port),
	        cmocka_unit_test(a_selector),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
