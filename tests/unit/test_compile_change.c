// SPDX-License-Identifier: GPL-2.0-only
/* What one compile leaves for the next: tombstones, settings ids; and quarantine, guarded ports, CIDRs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <openssl/ssl.h>

#include "base/cleanup.h"
#include "policy/snapshot_holder.h"
#include "policy_fixture.h"

#define SERVICE(name, ip, ports)                                                                                       \
	"---\napiVersion: v1\nkind: Service\nmetadata: {name: " name "}\nspec: {clusterIP: " ip ", ports: [" ports     \
	"]}\n"
#define SLICE_WITH(name, service, labels, endpoint, ports)                                                             \
	"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"                                                  \
	"metadata: {name: " name ", labels: {kubernetes.io/service-name: " service labels "}}\n"                       \
	"addressType: IPv4\nendpoints: [{" endpoint "}]\nports: [" ports "]\n"
#define SLICE(name, service, address, port)                                                                            \
	SLICE_WITH(name, service, "", "addresses: [" address "]", "{port: " port "}")
#define MANAGED_SLICE(name, service, address, port)                                                                    \
	SLICE_WITH(name, service, ", endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io",         \
	           "addresses: [" address "], targetRef: {kind: Pod, namespace: default, name: " service "}",          \
	           "{port: " port "}")
#define POLICY(name, service, hostname)                                                                                \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: " name "}\n"          \
	"spec: {targetRefs: [{group: '', kind: Service, name: " service "}], validation: {hostname: " hostname         \
	", caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}\n"
#define ECHO                                                                                                           \
	SERVICE("echo", "10.96.0.1", "{port: 443, targetPort: 8443, nodePort: 30443}")                                 \
	SLICE("e", "echo", "10.0.0.1", "8443")

#define SECOND 1000000000ull

static void expect(const struct policy_fixture *fixture, const char *address, uint16_t port, const char *verdict)
{
	const char *seen = fixture_verdict(fixture, address, port);

	if (strcmp(seen, verdict))
		fail_msg("%s:%u: expected \"%s\", saw \"%s\"", address, port, verdict, seen);
}

static void endpoint_gone_is_a_tombstone(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();
	const struct destination *destination;

	(void)state;
	fixture->options.tombstone_ns = 60 * SECOND;
	fixture_add(fixture, ECHO POLICY("p", "echo", "p.example"));
	fixture_compile(fixture);
	assert_int_equal(snapshot_next_expiry_ns(fixture->snapshot), 0);

	fixture_remove(fixture, OBJECT_ENDPOINT_SLICE, "e");
	fixture->options.now_ns = 5 * SECOND;
	fixture_compile(fixture);
	expect(fixture, "10.0.0.1", 8443, "TLS default/p p.example");
	destination = fixture_find(fixture, "10.0.0.1", 8443);
	assert_true(destination->tombstone);
	assert_int_equal(destination->tombstone_until_ns, 65 * SECOND);
	assert_int_equal(snapshot_next_expiry_ns(fixture->snapshot), 65 * SECOND);

	/* The end does not move with further compiles. */
	fixture->options.now_ns = 30 * SECOND;
	fixture_compile(fixture);
	assert_int_equal(fixture_find(fixture, "10.0.0.1", 8443)->tombstone_until_ns, 65 * SECOND);

	/* Neither the Service's nor the policy's end uncovers it, and its settings stay. */
	fixture_remove(fixture, OBJECT_SERVICE, "echo");
	fixture_remove(fixture, OBJECT_BACKEND_TLS_POLICY, "p");
	fixture_compile(fixture);
	expect(fixture, "10.0.0.1", 8443, "TLS p.example");
	assert_int_equal(snapshot_policy_count(fixture->snapshot), 0);
	assert_int_equal(snapshot_settings_count(fixture->snapshot), 1);
	expect(fixture, "10.96.0.1", 443, "TLS p.example"); /* kube-proxy may still know it */
	assert_true(fixture_find(fixture, "10.96.0.1", 443)->tombstone);

	fixture->options.now_ns = 65 * SECOND;
	fixture_compile(fixture);
	expect(fixture, "10.0.0.1", 8443, "none");
	expect(fixture, "10.96.0.1", 443, "TLS p.example"); /* it went later */
	fixture->options.now_ns = 90 * SECOND;
	fixture_compile(fixture);
	expect(fixture, "10.96.0.1", 443, "none");
	assert_int_equal(snapshot_settings_count(fixture->snapshot), 0);
	assert_int_equal(snapshot_next_expiry_ns(fixture->snapshot), 0);
	policy_fixture_free(fixture);
}

static void tombstones_last_ten_minutes(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();

	(void)state;
	fixture_add(fixture, ECHO POLICY("p", "echo", "BAD"));
	fixture_compile(fixture);
	fixture_remove(fixture, OBJECT_ENDPOINT_SLICE, "e");
	fixture_compile(fixture);
	expect(fixture, "10.0.0.1", 8443, "DENY policy_invalid default/p");
	assert_int_equal(snapshot_next_expiry_ns(fixture->snapshot), 1000 + 600 * SECOND);
	policy_fixture_free(fixture);
}

static void a_trusted_claim_takes_a_tombstone(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();

	(void)state;
	fixture_add(fixture, ECHO POLICY("p", "echo", "p.example"));
	fixture_compile(fixture);
	fixture_remove(fixture, OBJECT_ENDPOINT_SLICE, "e");
	fixture_compile(fixture);
	expect(fixture, "10.0.0.1", 8443, "TLS default/p p.example");
	fixture_add(fixture, SERVICE("other", "10.96.0.2", "{port: 80}") SLICE("o", "other", "10.0.0.1", "8443"));
	fixture_compile(fixture);
	expect(fixture, "10.0.0.1", 8443, "PLAIN");
	assert_false(fixture_find(fixture, "10.0.0.1", 8443)->tombstone);
	policy_fixture_free(fixture);
}

/* The Service's address outlives the Service in kube-proxy's rules, and in what gateways remember. */
static void a_cluster_ip_gone_is_a_tombstone(void **state)
{
	static const struct {
		const char *name, *then, *verdict;
	} rows[] = {
	        {"deleted", "", "TLS default/p p.example"},
	        {"made anew with another ClusterIP", SERVICE("echo", "10.96.0.9", "{port: 443, targetPort: 8443}"),
	         "TLS default/p p.example"},
	        {"ExternalName now",
	         "---\napiVersion: v1\nkind: Service\nmetadata: {name: echo}\nspec: {type: ExternalName, externalName: "
	         "x.example, ports: [{port: 443}]}\n",
	         "TLS default/p p.example"},
	        {"headless now", SERVICE("echo", "None", "{port: 443, targetPort: 8443}"), "TLS default/p p.example"},
	        {"given to another Service, which no policy covers", SERVICE("other", "10.96.0.1", "{port: 443}"),
	         "PLAIN"},
	        {"the same again", SERVICE("echo", "10.96.0.1", "{port: 443}"), "TLS default/p p.example"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct policy_fixture *fixture = policy_fixture_new();
		const char *seen;

		fixture->options.operators_own = false;
		fixture_add(fixture, ECHO POLICY("p", "echo", "p.example"));
		fixture_compile(fixture);
		fixture_remove(fixture, OBJECT_SERVICE, "echo");
		fixture_add(fixture, rows[i].then);
		fixture_compile(fixture);
		seen = fixture_verdict(fixture, "10.96.0.1", 443);
		if (strcmp(seen, rows[i].verdict))
			fail_msg("%s: expected \"%s\", saw \"%s\"", rows[i].name, rows[i].verdict, seen);
		policy_fixture_free(fixture);
	}
}

/* The Service's port has its new name, the slices still the old one. */
static void a_port_that_is_renamed_stays_covered(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();

	(void)state;
	fixture_add(fixture,
	            SERVICE("echo", "10.96.0.1", "{name: new, port: 443, targetPort: 8443}, {name: b, port: 80}")
	                    SLICE_WITH("e", "echo", "", "addresses: [10.0.0.1]",
	                               "{name: old, port: 8443}, {name: b, port: 80}, {name: z, port: 9}")
	                            POLICY("p", "echo, sectionName: new", "p.example"));
	fixture_compile(fixture);
	expect(fixture, "10.0.0.1", 8443, "TLS default/p p.example");
	expect(fixture, "10.0.0.1", 80, "PLAIN");
	expect(fixture, "10.0.0.1", 9, "none");
	policy_fixture_free(fixture);
}

static void a_deleted_policy_uncovers_at_once(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();

	(void)state;
	fixture_add(fixture, ECHO POLICY("p", "echo", "p.example"));
	fixture_compile(fixture);
	fixture_remove(fixture, OBJECT_BACKEND_TLS_POLICY, "p");
	fixture_compile(fixture);
	expect(fixture, "10.0.0.1", 8443, "PLAIN");
	expect(fixture, "10.96.0.1", 443, "PLAIN");
	assert_false(snapshot_port_guarded(fixture->snapshot, 8443));
	policy_fixture_free(fixture);
}

static void quarantine_only_denies(void **state)
{
	static const struct {
		const char *name, *in_force, *quarantined;
		const char *address;
		uint16_t port;
		const char *verdict;
	} rows[] = {
	        {"a broken policy refuses its Service", ECHO, POLICY("p", "echo", "p.example"), "10.0.0.1", 8443,
	         "DENY policy_invalid default/p"},
	        {"and its VIP", ECHO, POLICY("p", "echo", "p.example"), "10.96.0.1", 443,
	         "DENY policy_invalid default/p"},
	        {"a policy without a readable spec", ECHO,
	         "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: 3\n"
	         "spec: {targetRefs: [{name: echo}], validation: x}\n",
	         "10.0.0.1", 8443, "DENY policy_invalid default/(unnamed)"},
	        {"the old schema's targetRef", ECHO,
	         "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: BackendTLSPolicy\nmetadata: {name: p}\n"
	         "spec: {targetRef: {group: '', kind: Service, name: echo}, tls: {hostname: x}}\n",
	         "10.0.0.1", 8443, "DENY policy_invalid default/p"},
	        {"a misspelt kind", ECHO,
	         "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTlsPolicy\nmetadata: {name: p}\n"
	         "spec: {targetRefs: [{group: '', kind: Service, name: echo}]}\n",
	         "10.0.0.1", 8443, "DENY policy_invalid default/p"},
	        {"no kind at all", ECHO,
	         "apiVersion: gateway.networking.k8s.io/v1\nmetadata: {name: p}\n"
	         "spec: {targetRefs: [{group: '', kind: Service, name: echo}]}\n",
	         "10.0.0.1", 8443, "DENY policy_invalid default/p"},
	        {"targetRefs that are no list", ECHO,
	         "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: p}\n"
	         "spec: {targetRefs: {group: '', kind: Service, name: echo}}\n",
	         "10.0.0.1", 8443, "DENY policy_invalid default/p"},
	        {"a Service in quarantine, targeted by a policy in force", POLICY("p", "echo", "p.example"),
	         SERVICE("echo", "10.96.0.1", "{port: 443}"), "10.96.0.1", 443, "DENY policy_invalid default/p"},
	        {"a slice in quarantine", SERVICE("echo", "10.96.0.1", "{port: 443}") POLICY("p", "echo", "p.example"),
	         SLICE("e", "echo", "10.0.0.1", "8443"), "10.0.0.1", 8443, "DENY policy_invalid default/p"},
	        {"a Service that does not decode: its ClusterIP", POLICY("p", "echo", "p.example"),
	         SERVICE("echo", "10.96.0.1", "{port: 443, name: UPPER}"), "10.96.0.1", 443,
	         "DENY policy_invalid default/p"},
	        {"a Service that does not decode: an external address", POLICY("p", "echo", "p.example"),
	         SERVICE("echo", "7, externalIPs: [x, 192.0.2.1]", "{port: 443}, {port: 53, protocol: UDP}, 7"),
	         "192.0.2.1", 443, "DENY policy_invalid default/p"},
	        {"a Service that does not decode, and no policy", "", SERVICE("echo", "10.96.0.1", "{port: 443}, 7"),
	         "10.96.0.1", 443, "none"},
	        {"a Service that does not decode any more", ECHO POLICY("p", "echo", "p.example"),
	         SERVICE("echo", "10.96.0.1", "{port: 443}, 7"), "10.96.0.1", 443, "TLS default/p p.example"},
	        {"a slice that does not decode",
	         SERVICE("echo", "10.96.0.1", "{port: 443}") POLICY("p", "echo", "p.example"),
	         SLICE_WITH("e", "echo", "", "addresses: [nonsense, 10.0.0.1]", "{port: 8443}"), "10.0.0.1", 8443,
	         "DENY policy_invalid default/p"},
	        {"a slice whose port cannot be read: any",
	         SERVICE("echo", "10.96.0.1", "{port: 443}") POLICY("p", "echo", "p.example"),
	         SLICE_WITH("e", "echo", "", "addresses: [10.0.0.1]", "{port: x}"), "10.0.0.1", 0,
	         "DENY policy_invalid default/p"},
	        {"everything in quarantine", "", ECHO POLICY("p", "echo", "p.example"), "10.0.0.1", 8443,
	         "DENY policy_invalid default/p"},
	        {"a Service in quarantine without policy says nothing", "", ECHO, "10.0.0.1", 8443, "none"},
	        {"what is in force covers", ECHO POLICY("p", "echo", "p.example"), POLICY("a", "echo", "BAD"),
	         "10.0.0.1", 8443, "TLS default/p p.example"},
	        {"an older version in force covers", ECHO POLICY("p", "echo", "p.example"),
	         POLICY("p", "echo", "new.example"), "10.0.0.1", 8443, "TLS default/p p.example"},
	        {"a refusal of one Service does not break another's endpoint", ECHO POLICY("p", "echo", "p.example"),
	         SERVICE("x", "10.96.0.2", "{port: 80}") SLICE("x1", "x", "10.0.0.1", "8443")
	                 POLICY("q", "x", "q.example"),
	         "10.0.0.1", 8443, "TLS default/p p.example"},
	        {"but it does refuse what is plain", ECHO,
	         SERVICE("x", "10.96.0.2", "{port: 80}") SLICE("x1", "x", "10.0.0.1", "8443")
	                 POLICY("q", "x", "q.example"),
	         "10.0.0.1", 8443, "DENY policy_invalid default/q"},
	        {"nor does it give its VIP to whoever names that as an external address",
	         ECHO SERVICE("x", "10.96.0.2, externalIPs: [10.96.0.1]", "{port: 443}") POLICY("q", "x", "q.example"),
	         POLICY("p", "echo", "p.example"), "10.96.0.1", 443, "DENY policy_invalid default/p"},
	        {"nor its endpoint to another's slice",
	         SERVICE("echo", "10.96.0.1", "{port: 443}") MANAGED_SLICE("e", "echo", "10.0.0.1", "8443")
	                 SERVICE("x", "10.96.0.2", "{port: 443}") SLICE("x1", "x", "10.0.0.1", "8443")
	                         POLICY("q", "x", "q.example"),
	         POLICY("p", "echo", "p.example"), "10.0.0.1", 8443, "DENY policy_invalid default/p"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct policy_fixture *fixture = policy_fixture_new();
		const char *seen;

		fixture_add(fixture, rows[i].in_force);
		fixture_quarantine(fixture, rows[i].quarantined);
		fixture_compile(fixture);
		seen = fixture_verdict(fixture, rows[i].address, rows[i].port);
		if (strcmp(seen, rows[i].verdict))
			fail_msg("%s: expected \"%s\", saw \"%s\"", rows[i].name, rows[i].verdict, seen);
		/* The same again on top of itself: nothing moves, no tombstone appears. */
		fixture_compile(fixture);
		assert_string_equal(fixture_verdict(fixture, rows[i].address, rows[i].port), rows[i].verdict);
		assert_int_equal(snapshot_next_expiry_ns(fixture->snapshot), 0);
		policy_fixture_free(fixture);
	}
}

static void quarantine_is_told(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();
	const struct policy_status *status;

	(void)state;
	fixture_add(fixture, ECHO POLICY("p", "echo", "p.example"));
	fixture_quarantine(fixture, POLICY("p", "echo", "new.example") POLICY("q", "echo", "q.example"));
	fixture_compile(fixture);
	assert_int_equal(snapshot_policy_count(fixture->snapshot), 2);
	status = fixture_policy(fixture, "p");
	assert_true(status->accepted.status);
	assert_non_null(strstr(status->accepted.message, "another version of it is not applied: test.yaml: broken"));
	status = fixture_policy(fixture, "q");
	assert_false(status->accepted.status);
	assert_string_equal(status->accepted.reason, "Invalid");
	assert_non_null(strstr(status->accepted.message, "test.yaml: broken"));
	policy_fixture_free(fixture);
}

/* TLS with a verified peer stays in place while only a refusal is left; afterwards the refusal stands. */
static void a_refusal_waits_for_the_tombstone(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();

	(void)state;
	fixture_add(fixture, ECHO POLICY("p", "echo", "p.example"));
	fixture_compile(fixture);
	fixture_remove(fixture, OBJECT_ENDPOINT_SLICE, "e");
	fixture_quarantine(fixture, SLICE("e", "echo", "10.0.0.1", "8443"));
	fixture_compile(fixture);
	expect(fixture, "10.0.0.1", 8443, "TLS default/p p.example");
	fixture->options.now_ns += 601 * SECOND;
	fixture_compile(fixture);
	expect(fixture, "10.0.0.1", 8443, "DENY policy_invalid default/p");
	policy_fixture_free(fixture);
}

static uint32_t settings_of(const struct policy_fixture *fixture, const char *address, uint16_t port)
{
	const struct destination *destination = fixture_find(fixture, address, port);

	assert_non_null(destination);
	assert_int_equal(destination->verdict, POSTERN_VERDICT_TLS);
	return destination->settings_id;
}

static void ids_stand_for_one_digest(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();
	uint32_t first, second;

	(void)state;
	fixture_add(fixture, ECHO POLICY("p", "echo", "p.example"));
	fixture_compile(fixture);
	first = settings_of(fixture, "10.0.0.1", 8443);
	assert_int_not_equal(first, 0);
	assert_int_equal(fixture_policy(fixture, "p")->settings_id, first);
	fixture_compile(fixture);
	assert_int_equal(settings_of(fixture, "10.0.0.1", 8443), first);

	fixture_add(fixture, POLICY("p", "echo", "changed.example"));
	fixture_compile(fixture);
	second = settings_of(fixture, "10.0.0.1", 8443);
	assert_int_not_equal(second, first);
	assert_null(snapshot_settings(fixture->snapshot, first));

	fixture_add(fixture, POLICY("p", "echo", "p.example"));
	fixture_compile(fixture);
	assert_int_equal(settings_of(fixture, "10.0.0.1", 8443), first);

	/* Another policy with equal settings is the same id, named anew. */
	fixture_remove(fixture, OBJECT_BACKEND_TLS_POLICY, "p");
	fixture_add(fixture, POLICY("z", "echo", "p.example"));
	fixture_compile(fixture);
	assert_int_equal(settings_of(fixture, "10.0.0.1", 8443), first);
	assert_string_equal(snapshot_settings(fixture->snapshot, first)->policy_name, "z");
	policy_fixture_free(fixture);
}

#define ONE(validation, options)                                                                                       \
	ECHO "---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: p}\n"            \
	     "spec: {targetRefs: [{group: '', kind: Service, name: echo}], validation: {" validation                   \
	     "}, options: {" options "}}\n"
#define CA_REFS(names) "caCertificateRefs: [" names "]"
#define REF(name)      "{group: '', kind: ConfigMap, name: " name "}"
#define H              "hostname: p.example, "

/* Everything that reaches the wire is in the digest; what means the same is not. */
static void digests(void **state)
{
	static const struct {
		const char *left, *right;
		bool equal;
	} rows[] = {
	        {ONE(H CA_REFS(REF("ca")), ""), ONE(H CA_REFS(REF("ca")), "example.com/x: 'y'"), true},
	        {ONE(H CA_REFS(REF("ca")), ""), ONE(H CA_REFS(REF("ca") ", " REF("nil")), ""), true},
	        {ONE(H CA_REFS(REF("ca")), ""), ONE(H CA_REFS(REF("ca") ", " REF("ca")), ""), true},
	        {ONE(H CA_REFS(REF("ca") ", " REF("other-ca")), ""), ONE(H CA_REFS(REF("other-ca") ", " REF("ca")), ""),
	         true},
	        {ONE(H CA_REFS(
	                     REF("ca")) ", subjectAltNames: [{type: URI, uri: 'x://a'}, {type: Hostname, hostname: b}]",
	             ""),
	         ONE(H CA_REFS(REF("ca")) ", subjectAltNames: [{type: Hostname, hostname: b}, {type: URI, uri: "
	                                  "'x://a'}, {type: Hostname, hostname: b}]",
	             ""),
	         true},
	        {ONE(H CA_REFS(REF("ca")), ""),
	         ONE(H CA_REFS(REF("ca")), "postern.dev/min-tls-version: '1.2', postern.dev/alpn: http/1.1"), true},
	        {ONE(H CA_REFS(REF("ca")), ""), ONE("hostname: q.example, " CA_REFS(REF("ca")), ""), false},
	        {ONE(H CA_REFS(REF("ca")), ""), ONE(H CA_REFS(REF("other-ca")), ""), false},
	        {ONE(H CA_REFS(REF("ca")), ""), ONE(H CA_REFS(REF("ca") ", " REF("other-ca")), ""), false},
	        {ONE(H CA_REFS(REF("ca")), ""), ONE(H "wellKnownCACertificates: System", ""), false},
	        {ONE(H CA_REFS(REF("ca")), ""),
	         ONE(H CA_REFS(REF("ca")) ", subjectAltNames: [{type: Hostname, hostname: p.example}]", ""), false},
	        {ONE(H CA_REFS(REF("ca")), ""), ONE(H CA_REFS(REF("ca")), "postern.dev/min-tls-version: '1.3'"), false},
	        {ONE(H CA_REFS(REF("ca")), ""), ONE(H CA_REFS(REF("ca")), "postern.dev/max-tls-version: '1.2'"), false},
	        {ONE(H CA_REFS(REF("ca")), ""), ONE(H CA_REFS(REF("ca")), "postern.dev/alpn: h2"), false},
	        {ONE(H CA_REFS(REF("ca")), ""), ONE(H CA_REFS(REF("ca")), "postern.dev/ktls: require"), false},
	        {ONE(H CA_REFS(REF("ca")), ""), ONE(H CA_REFS(REF("ca")), "postern.dev/connect-timeout: 1s"), false},
	        {ONE(H CA_REFS(REF("ca")), ""), ONE(H CA_REFS(REF("ca")), "postern.dev/handshake-timeout: 1s"), false},
	        {ONE(H CA_REFS(REF("ca")), ""), ONE(H CA_REFS(REF("ca")), "postern.dev/idle-timeout: 1s"), false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct policy_fixture *fixture = policy_fixture_new();
		uint32_t left, right;

		fixture_add(fixture, rows[i].left);
		fixture_compile(fixture);
		left = settings_of(fixture, "10.0.0.1", 8443);
		fixture_add(fixture, rows[i].right);
		fixture_compile(fixture);
		right = settings_of(fixture, "10.0.0.1", 8443);
		if ((left == right) != rows[i].equal)
			fail_msg("row %zu: expected the digests to %s", i, rows[i].equal ? "be equal" : "differ");
		policy_fixture_free(fixture);
	}
}

static void settings_hold_everything(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();
	const struct tls_settings *settings;

	(void)state;
	fixture_add(fixture,
	            ONE(H CA_REFS(REF("ca") ", " REF("other-ca")) ", subjectAltNames: [{type: URI, uri: "
	                                                          "'spiffe://a/b'}, {type: Hostname, hostname: b}]",
	                "postern.dev/min-tls-version: '1.3', postern.dev/ktls: 'off', postern.dev/idle-timeout: 2s"));
	fixture_compile(fixture);
	settings = snapshot_settings(fixture->snapshot, settings_of(fixture, "10.0.0.1", 8443));
	assert_string_equal(settings->policy_namespace, "default");
	assert_string_equal(settings->policy_name, "p");
	assert_string_equal(settings->hostname, "p.example");
	assert_int_equal(settings->subject_alt_name_count, 2);
	assert_int_equal(settings->subject_alt_names[0].type, SUBJECT_ALT_NAME_HOSTNAME);
	assert_string_equal(settings->subject_alt_names[0].value, "b");
	assert_int_equal(settings->subject_alt_names[1].type, SUBJECT_ALT_NAME_URI);
	assert_string_equal(settings->subject_alt_names[1].value, "spiffe://a/b");
	assert_false(settings->system_ca);
	assert_non_null(settings->ca_pem);
	assert_non_null(strstr(settings->ca_pem, "-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----"));
	assert_int_equal(settings->min_version, TLS1_3_VERSION);
	assert_int_equal(settings->max_version, TLS1_3_VERSION);
	assert_int_equal(settings->alpn, ALPN_HTTP_1_1);
	assert_int_equal(settings->ktls, SWITCH_OFF);
	assert_int_equal(settings->idle_timeout_ms, 2000);
	assert_int_equal(settings->connect_timeout_ms, 0);
	policy_fixture_free(fixture);
}

static void guarded_ports_and_cidrs(void **state)
{
	static const struct {
		uint16_t port;
		bool guarded;
	} ports[] = {{443, true}, {8443, true},  {9443, true},   {30443, true},
	             {80, false}, {8080, false}, {30080, false}, {0, false}};
	struct policy_fixture *fixture = policy_fixture_new();
	struct cidr cidrs[2];

	(void)state;
	assert_int_equal(cidr_parse("10.0.0.0/16", &cidrs[0]), 0);
	assert_int_equal(cidr_parse("10.96.0.0/12", &cidrs[1]), 0);
	fixture->options.cluster_cidrs = cidrs;
	fixture->options.cluster_cidr_count = 2;
	fixture_add(
	        fixture,
	        ECHO SLICE("e2", "echo", "10.0.0.2", "9443") POLICY("p", "echo", "p.example") SERVICE(
	                "plain", "10.96.0.2",
	                "{port: 80, targetPort: 8080, nodePort: 30080}") "---\napiVersion: networking.k8s.io/v1\nkind: "
	                                                                 "ServiceCIDR\nmetadata: {name: kubernetes}\n"
	                                                                 "spec: {cidrs: [10.96.0.0/12, "
	                                                                 "'fd00:10:96::/112']}\n");
	fixture_compile(fixture);
	for (size_t i = 0; i < ARRAY_SIZE(ports); i++)
		if (snapshot_port_guarded(fixture->snapshot, ports[i].port) != ports[i].guarded)
			fail_msg("port %u: expected guarded %d", ports[i].port, ports[i].guarded);
	assert_int_equal(snapshot_cidr_count(fixture->snapshot), 3);
	for (size_t i = 0; i < 3; i++)
		assert_true(snapshot_cidr_at(fixture->snapshot, i)->prefix_length > 0);
	policy_fixture_free(fixture);
}

/* What Nodes say counts like what ServiceCIDRs say; neighbours become one, what lies inside of another goes. */
static void cidrs_are_merged(void **state)
{
	static const char *const expected[] = {"10.0.0.0/22", "10.0.5.0/24", "192.0.2.0/24", "fd00::/63"};
	struct policy_fixture *fixture = policy_fixture_new();
	struct cidr cidr;

	(void)state;
	assert_int_equal(cidr_parse("10.0.2.0/24", &cidr), 0);
	fixture->options.cluster_cidrs = &cidr;
	fixture->options.cluster_cidr_count = 1;
#define NODE(name, cidrs) "---\napiVersion: v1\nkind: Node\nmetadata: {name: " name "}\nspec: {podCIDRs: [" cidrs "]}\n"
	fixture_add(
	        fixture,
	        NODE("a", "10.0.0.0/24, 'fd00::/64'") NODE("b", "10.0.1.0/24, 'fd00:0:0:1::/64'") NODE(
	                "c", "10.0.3.0/24") NODE("d", "10.0.3.0/24") NODE("e", "10.0.5.0/24") NODE("f", "192.0.2.0/24")
	                NODE("g", "192.0.2.128/25") "---\napiVersion: v1\nkind: Node\nmetadata: {name: h}\n");
	fixture_compile(fixture);
	assert_int_equal(snapshot_cidr_count(fixture->snapshot), ARRAY_SIZE(expected));
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		assert_int_equal(cidr_parse(expected[i], &cidr), 0);
		assert_memory_equal(snapshot_cidr_at(fixture->snapshot, i), &cidr, sizeof(cidr));
	}
	policy_fixture_free(fixture);
}

static void lookups_and_order(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();
	struct postern_address address;
	struct postern_destination_key key;

	(void)state;
	fixture_add(fixture, ECHO SERVICE("any", "10.96.0.8", "{name: a, port: 80}")
	                             SLICE_WITH("n1", "any", "", "addresses: [10.0.0.8, 10.0.0.7]",
	                                        "{name: a, port: null}") POLICY("p", "any", "p.example"));
	fixture_compile(fixture);
	assert_int_equal(address_parse("10.0.0.8", &address), 0);
	key = destination_key(&address, 12345);
	assert_non_null(snapshot_find(fixture->snapshot, &key));
	assert_int_equal(snapshot_find(fixture->snapshot, &key)->verdict, POSTERN_VERDICT_TLS);
	assert_int_equal(snapshot_find(fixture->snapshot, &key)->key.port, 0);
	assert_int_equal(snapshot_destination_count(fixture->snapshot), 5);
	for (size_t i = 1; i < snapshot_destination_count(fixture->snapshot); i++)
		assert_true(memcmp(&snapshot_destination_at(fixture->snapshot, i - 1)->key,
		                   &snapshot_destination_at(fixture->snapshot, i)->key, 18) < 0);
	assert_int_equal(fixture_policy(fixture, "p")->destination_count, 3);
	policy_fixture_free(fixture);
}

static void holder_shares_snapshots(void **state)
{
	struct snapshot_holder *holder = snapshot_holder_new();
	struct policy_fixture *fixture = policy_fixture_new();
	struct snapshot *seen;

	(void)state;
	assert_null(snapshot_holder_get(holder));
	fixture->options.now_ns = 77;
	fixture_compile(fixture);
	snapshot_holder_publish(holder, snapshot_ref(fixture->snapshot));
	seen = snapshot_holder_get(holder);
	assert_ptr_equal(seen, fixture->snapshot);
	assert_int_equal(snapshot_generation(seen), 1);
	assert_int_equal(snapshot_compiled_ns(seen), 77);
	fixture_compile(fixture);
	snapshot_holder_publish(holder, snapshot_ref(fixture->snapshot));
	assert_int_equal(snapshot_generation(seen), 1); /* ours stays */
	snapshot_unref(seen);
	seen = snapshot_holder_get(holder);
	assert_int_equal(snapshot_generation(seen), 2);
	snapshot_unref(seen);
	snapshot_holder_free(holder);
	policy_fixture_free(fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(endpoint_gone_is_a_tombstone),
	        cmocka_unit_test(tombstones_last_ten_minutes),
	        cmocka_unit_test(a_trusted_claim_takes_a_tombstone),
	        cmocka_unit_test(a_cluster_ip_gone_is_a_tombstone),
	        cmocka_unit_test(a_port_that_is_renamed_stays_covered),
	        cmocka_unit_test(a_deleted_policy_uncovers_at_once),
	        cmocka_unit_test(quarantine_only_denies),
	        cmocka_unit_test(quarantine_is_told),
	        cmocka_unit_test(a_refusal_waits_for_the_tombstone),
	        cmocka_unit_test(ids_stand_for_one_digest),
	        cmocka_unit_test(digests),
	        cmocka_unit_test(settings_hold_everything),
	        cmocka_unit_test(guarded_ports_and_cidrs),
	        cmocka_unit_test(cidrs_are_merged),
	        cmocka_unit_test(lookups_and_order),
	        cmocka_unit_test(holder_shares_snapshots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
