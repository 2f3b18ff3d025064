// SPDX-License-Identifier: GPL-2.0-only
/* To whom a policy's status is told (ancestors), and its warnings. */
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

#define SERVICE(name, ports)                                                                                           \
	"---\napiVersion: v1\nkind: Service\nmetadata: {name: " name "}\nspec: {clusterIP: None, ports: [" ports "]}"  \
	"\n"
#define SLICE(name, service, address)                                                                                  \
	"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"                                                  \
	"metadata: {name: " name ", labels: {kubernetes.io/service-name: " service "}}\n"                              \
	"addressType: IPv4\nendpoints: [{addresses: [" address "]}]\nports: [{port: 8443}]\n"
#define ECHO SERVICE("echo", "{port: 443}") SLICE("e", "echo", "10.0.0.1")
#define POLICY_WITH(name, targets, options, rest)                                                                      \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: " name                \
	", generation: 7}\nspec: {targetRefs: [" targets "], validation: {hostname: " name ".example, "                \
	"wellKnownCACertificates: System}, options: {" options "}}\n" rest
#define POLICY(name, targets) POLICY_WITH(name, targets, "", "")
#define TARGET(name)          "{group: '', kind: Service, name: " name "}"
#define SECTION(name, port)   "{group: '', kind: Service, name: " name ", sectionName: " port "}"
#define GATEWAY(name, class)                                                                                           \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: " name "}\n"                   \
	"spec: {gatewayClassName: " class ", listeners: [{name: http, port: 80, protocol: HTTP}, "                     \
	                                  "{name: tls, port: 443, protocol: TLS, tls: {mode: Passthrough}}]}\n"
#define FORCED(name, class)                                                                                            \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: " name                         \
	", annotations: {postern.dev/force: 'true'}}\n"                                                                \
	"spec: {gatewayClassName: " class ", listeners: [{name: http, port: 80, protocol: HTTP}]}\n"
#define CLASS(name, features)                                                                                          \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: " name "}\n"              \
	"spec: {controllerName: example.com/x}\nstatus: {supportedFeatures: [" features "]}\n"
#define ROUTE(kind, name, parents, backends)                                                                           \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: " kind "\nmetadata: {name: " name "}\n"                  \
	"spec: {parentRefs: [" parents "], rules: [{backendRefs: [" backends "]}]}\n"
#define BACKEND "{name: echo, port: 443}"

static const struct row {
	const char *name, *yaml;
	const char *ancestors; /* names with a space after each */
	const char *warning;   /* a part of it; "": there is none */
} rows[] = {
        {"no Gateway at all: one without a name", ECHO POLICY("p", TARGET("echo")), " ", ""},
        {"a Gateway without a Route", ECHO POLICY("p", TARGET("echo")) GATEWAY("a", "c"), "", ""},
        {"a Gateway with a Route",
         ECHO POLICY("p", TARGET("echo")) GATEWAY("a", "c") ROUTE("HTTPRoute", "r", "{name: a}", BACKEND), "a ", ""},
        {"a Route to another Service",
         ECHO POLICY("p", TARGET("echo")) GATEWAY("a", "c")
                 ROUTE("HTTPRoute", "r", "{name: a}", "{name: other, port: 443}"),
         "", ""},
        {"by name, each once",
         ECHO POLICY("p", TARGET("echo")) GATEWAY("b", "c") GATEWAY("a", "c")
                 ROUTE("HTTPRoute", "r", "{name: b}, {name: a}", BACKEND) ROUTE("HTTPRoute", "s", "{name: a}", BACKEND),
         "a b ", ""},
        {"of all targets",
         ECHO SERVICE("two", "{port: 80}") SLICE("t", "two", "10.0.0.2") POLICY("p", TARGET("echo") ", " TARGET("two"))
                 GATEWAY("a", "c") GATEWAY("b", "c") ROUTE("HTTPRoute", "r", "{name: b}", BACKEND)
                         ROUTE("HTTPRoute", "s", "{name: a}, {name: b}", "{name: two, port: 80}"),
         "a b ", ""},
        {"a policy that loses is told, too",
         ECHO POLICY("a", TARGET("echo")) POLICY("p", TARGET("echo")) GATEWAY("a", "c")
                 ROUTE("HTTPRoute", "r", "{name: a}", BACKEND),
         "a ", ""},
        {"a GatewayClass that does backend TLS itself",
         ECHO POLICY("p", TARGET("echo")) GATEWAY("a", "c") GATEWAY("b", "d") CLASS("c", "{name: BackendTLSPolicy}")
                 CLASS("d", "{name: HTTPRoute}") ROUTE("HTTPRoute", "r", "{name: a}, {name: b}", BACKEND),
         "b ", ""},
        {"unless it is forced",
         ECHO POLICY("p", TARGET("echo")) FORCED("a", "c") CLASS("c", "{name: BackendTLSPolicy}")
                 ROUTE("HTTPRoute", "r", "{name: a}", BACKEND),
         "a ", ""},

        {"covers no endpoint", SERVICE("echo", "{port: 443}") POLICY("p", TARGET("echo")), " ",
         "it covers no endpoint yet"},
        {"one of two Services has endpoints",
         ECHO SERVICE("two", "{port: 80}") POLICY("p", TARGET("echo") ", " TARGET("two")), " ", ""},
        {"a port without endpoints",
         SERVICE("echo", "{name: a, port: 443}, {name: b, port: 80}") SLICE("e", "echo", "10.0.0.1")
                 POLICY("p", SECTION("echo", "b")),
         " ", "it covers no endpoint yet"},
        {"UDP beside TCP",
         SERVICE("echo", "{name: '', port: 443}, {name: u, port: 443, protocol: UDP}") SLICE("e", "echo", "10.0.0.1")
                 POLICY("p", TARGET("echo")),
         " ", "the UDP or SCTP ports of Service echo are not covered"},
        {"shared with an uncovered Service",
         ECHO SERVICE("plain", "{port: 80}") SLICE("x", "plain", "10.0.0.1") POLICY("p", TARGET("echo")), " ",
         "10.0.0.1:8443 is an endpoint of Service default/plain, too, which no policy covers"},
        {"ambiguous",
         ECHO SERVICE("two", "{port: 80}") SLICE("x", "two", "10.0.0.1") POLICY("p", TARGET("echo"))
                 POLICY("q", TARGET("two")),
         " ",
         "AmbiguousEndpoint: 10.0.0.1:8443 is refused, because policies with different TLS settings claim it: "
         "default/p (Service echo port 443), default/q (Service two port 80); remedy for AmbiguousEndpoint: let the "
         "gateway dial the ClusterIP"},
        {"ambiguous by a claim on any port",
         ECHO SERVICE("two", "{port: 80}") "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
                                           "metadata: {name: x, labels: {kubernetes.io/service-name: two}}\n"
                                           "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]\n" POLICY(
                                                   "q", TARGET("echo")) POLICY("p", TARGET("two")),
         " ", "AmbiguousEndpoint: 10.0.0.1:8443"},
        {"GRPCRoute and HTTPRoute",
         ECHO POLICY("p", TARGET("echo")) GATEWAY("a", "c") ROUTE("HTTPRoute", "r", "{name: a}", BACKEND)
                 ROUTE("GRPCRoute", "g", "{name: a}", BACKEND),
         "a ", "http/1.1 is offered"},
        {"passthrough",
         ECHO POLICY("p", TARGET("echo")) GATEWAY("a", "c")
                 ROUTE("TLSRoute", "r", "{name: a, sectionName: tls}", BACKEND),
         "a ", "gateway_already_tls"},
        {"another kind of target beside a Service",
         ECHO POLICY("p", TARGET("echo") ", {group: x.io, kind: Pool, name: 'y'}"), " ", "kind \"Pool\""},
};

static void check_ancestors(const struct row *row, const struct policy_status *status)
{
	char seen[512] = "";
	size_t length = 0;

	for (size_t i = 0; i < status->ancestor_count; i++)
		length += (size_t)snprintf(seen + length, sizeof(seen) - length, "%s ", status->ancestors[i].name);
	if (strcmp(seen, row->ancestors))
		fail_msg("%s: expected ancestors \"%s\", saw \"%s\"", row->name, row->ancestors, seen);
	for (size_t i = 0; i < status->ancestor_count; i++)
		assert_string_equal(status->ancestors[i].namespace_, *status->ancestors[i].name ? "default" : "");
}

static void table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];
		struct policy_fixture *fixture = policy_fixture_new();
		const struct policy_status *status;

		fixture_add(fixture, row->yaml);
		fixture_compile(fixture);
		status = fixture_policy(fixture, "p");
		check_ancestors(row, status);
		assert_int_equal(status->generation, 7);
		if (*row->warning ? !strstr(status->warnings, row->warning) : *status->warnings != '\0')
			fail_msg("%s: expected warning \"%s\", saw \"%s\"", row->name, row->warning, status->warnings);
		if (!strstr(status->accepted.message, status->warnings))
			fail_msg("%s: \"%s\" is not in \"%s\"", row->name, status->warnings, status->accepted.message);
		policy_fixture_free(fixture);
	}
}

static void fill_gateways(struct policy_fixture *fixture, int count)
{
	char text[1024];

	for (int i = 0; i < count; i++) {
		snprintf(text, sizeof(text),
		         GATEWAY("g%02d", "c") ROUTE("HTTPRoute", "r%02d", "{name: g%02d}", BACKEND), i, i, i);
		fixture_add(fixture, text);
	}
}

/* Sixteen in all, and those of others stay. */
static void room_for_ancestors(void **state)
{
	static const struct {
		int gateways, foreign;
		size_t expected, left_out;
	} cases[] = {{16, 0, 16, 0}, {20, 0, 16, 4}, {20, 14, 2, 18}, {3, 14, 2, 1}, {2, 14, 2, 0}, {1, 16, 0, 1}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct policy_fixture *fixture = policy_fixture_new();
		const struct policy_status *status;
		char others[2048] = "";

		for (int j = 0; j < cases[i].foreign; j++)
			snprintf(others + strlen(others), sizeof(others) - strlen(others),
			         "%s{ancestorRef: {name: x%d}, controllerName: example.com/other, conditions: []}",
			         j ? ", " : "", j);
		fixture_add(fixture, ECHO);
		fill_gateways(fixture, cases[i].gateways);
		{
			_cleanup_free_ char *text = NULL;

			assert_true(asprintf(&text, POLICY_WITH("p", TARGET("echo"), "", "status: {ancestors: [%s]}\n"),
			                     others) > 0);
			fixture_add(fixture, text);
		}
		fixture_compile(fixture);
		status = fixture_policy(fixture, "p");
		if (status->ancestor_count != cases[i].expected || status->ancestors_left_out != cases[i].left_out)
			fail_msg("%d Gateways, %d others: %zu and %zu left out", cases[i].gateways, cases[i].foreign,
			         status->ancestor_count, status->ancestors_left_out);
		/* Those that were left out are named after the others, in the one order. */
		for (size_t j = 0; j < status->ancestor_count + status->ancestors_left_out; j++)
			assert_int_equal(strtoul(status->ancestors[j].name + 1, NULL, 10), j);
		assert_int_equal(strstr(status->accepted.message, "more Gateways have a Route") != NULL,
		                 cases[i].left_out != 0);
		policy_fixture_free(fixture);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(table),
	        cmocka_unit_test(room_for_ancestors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
