// SPDX-License-Identifier: GPL-2.0-only
/*
 * 5,000 Services with 50,000 endpoints and 2,500 policies: right at that size, and how long each step takes (printed;
 * tools/bench/compile.c measures).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/yaml.h"
#include "policy/decode.h"
#include "policy_fixture.h"

#define SERVICES         5000
#define ENDPOINTS_EACH   10
#define SERVICES_A_CHUNK 500

static double seconds(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

struct times {
	double yaml, decode, store;
	size_t bytes;
};

static char *write_chunk(int first, size_t *size)
{
	char *text = NULL;
	FILE *stream = open_memstream(&text, size);

	for (int i = first; i < first + SERVICES_A_CHUNK; i++) {
		fprintf(stream,
		        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: s%d\nspec:\n  clusterIP: 10.96.%d.%d\n"
		        "  ports:\n  - port: 443\n    targetPort: 8443\n"
		        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: s%d-1\n  "
		        "labels:\n"
		        "    kubernetes.io/service-name: s%d\naddressType: IPv4\nports:\n- port: 8443\nendpoints:\n",
		        i, i / 256, i % 256, i, i);
		for (int j = 0; j < ENDPOINTS_EACH; j++) {
			int number = i * ENDPOINTS_EACH + j;

			fprintf(stream,
			        "- addresses: [10.%d.%d.%d]\n  conditions: {ready: true, serving: true, terminating: "
			        "false}\n  nodeName: node-%d\n  targetRef: {kind: Pod, namespace: default, name: "
			        "p%d}\n",
			        number / 65536, number / 256 % 256, number % 256, number % 100, number);
		}
		if (i % 2 == 0)
			fprintf(stream,
			        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata:\n"
			        "  name: p%d\nspec:\n  targetRefs:\n  - {group: '', kind: Service, name: s%d}\n"
			        "  validation:\n    hostname: s%d.example\n    caCertificateRefs:\n"
			        "    - {group: '', kind: ConfigMap, name: ca}\n",
			        i, i, i);
	}
	fclose(stream);
	return text;
}

static void load_chunk(struct policy_fixture *fixture, int first, struct times *times)
{
	struct decoded decoded = {0};
	json_t *documents;
	char error[256];
	double start;
	size_t size;
	_cleanup_free_ char *text = write_chunk(first, &size);

	times->bytes += size;
	start = seconds();
	assert_int_equal(yaml_load(text, size, &documents, error, sizeof(error)), 0);
	times->yaml += seconds() - start;
	start = seconds();
	assert_int_equal(decode_documents(documents, "chunk", &decoded), 0);
	times->decode += seconds() - start;
	assert_int_equal(decoded.problem_count, 0);
	start = seconds();
	for (size_t i = 0; i < decoded.object_count; i++)
		assert_int_equal(object_store_put(fixture->store, decoded.objects[i]), 0);
	times->store += seconds() - start;
	json_decref(documents);
	decoded_free(&decoded);
}

static double timed_compile(struct policy_fixture *fixture)
{
	double start = seconds();

	fixture_compile(fixture);
	return seconds() - start;
}

static void thousands(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();
	struct times times = {0};
	double first, again, gone;

	(void)state;
	for (int i = 0; i < SERVICES; i += SERVICES_A_CHUNK)
		load_chunk(fixture, i, &times);
	first = timed_compile(fixture);
	assert_int_equal(snapshot_destination_count(fixture->snapshot), SERVICES * (ENDPOINTS_EACH + 1));
	assert_int_equal(snapshot_policy_count(fixture->snapshot), SERVICES / 2);
	assert_int_equal(snapshot_settings_count(fixture->snapshot), SERVICES / 2);
	assert_string_equal(fixture_verdict(fixture, "10.0.0.19", 8443), "PLAIN");
	assert_string_equal(fixture_verdict(fixture, "10.0.0.20", 8443), "TLS default/p2 s2.example");
	assert_string_equal(fixture_verdict(fixture, "10.96.19.134", 443), "TLS default/p4998 s4998.example");
	again = timed_compile(fixture);
	for (int i = 0; i < SERVICES; i++) {
		char name[32];

		snprintf(name, sizeof(name), "s%d-1", i);
		fixture_remove(fixture, OBJECT_ENDPOINT_SLICE, name);
	}
	gone = timed_compile(fixture);
	assert_int_equal(snapshot_destination_count(fixture->snapshot), SERVICES + SERVICES / 2 * ENDPOINTS_EACH);
	print_message("%d Services, %d endpoints, %d policies, %zu KB of YAML; CPU: YAML %.0f ms, decode %.0f ms, "
	              "store %.0f ms, first compile %.0f ms, the same again %.0f ms, all endpoints gone %.0f ms\n",
	              SERVICES, SERVICES * ENDPOINTS_EACH, SERVICES / 2, times.bytes / 1024, times.yaml * 1e3,
	              times.decode * 1e3, times.store * 1e3, first * 1e3, again * 1e3, gone * 1e3);
	policy_fixture_free(fixture);
}

static double timed_run(struct compiler *compiler, struct policy_fixture *fixture, uint64_t now_ns)
{
	struct snapshot *snapshot;
	double start = seconds();

	assert_int_equal(compiler_run(compiler, fixture->store, now_ns, &snapshot), 0);
	start = seconds() - start;
	snapshot_unref(fixture->snapshot);
	fixture->snapshot = snapshot;
	return start;
}

struct differences {
	size_t old, new;
};

static void count_difference(void *context, const struct destination *old, const struct destination *new)
{
	struct differences *differences = context;

	differences->old += old != NULL;
	differences->new += new != NULL;
}

/* One endpoint of one covered Service gets another address, in the same store. */
static void one_endpoint(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();
	struct compiler *compiler = compiler_new(&fixture->options);
	struct differences differences = {0};
	struct times times = {0};
	struct snapshot *before;
	double whole, nothing, change;

	(void)state;
	assert_non_null(compiler);
	for (int i = 0; i < SERVICES; i += SERVICES_A_CHUNK)
		load_chunk(fixture, i, &times);
	whole = timed_run(compiler, fixture, 1000);
	nothing = timed_run(compiler, fixture, 1001);
	before = snapshot_ref(fixture->snapshot);
	fixture_add(fixture,
	            "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s2000-1, labels: "
	            "{kubernetes.io/service-name: s2000}}, addressType: IPv4, ports: [{port: 8443}], endpoints: "
	            "[{addresses: [10.99.0.1]}]}");
	change = timed_run(compiler, fixture, 1002);
	assert_string_equal(fixture_verdict(fixture, "10.99.0.1", 8443), "TLS default/p2000 s2000.example");
	assert_int_equal(snapshot_destination_count(fixture->snapshot), SERVICES * (ENDPOINTS_EACH + 1) + 1);
	snapshot_diff(before, fixture->snapshot, count_difference, &differences);
	assert_int_equal(differences.old, ENDPOINTS_EACH); /* tombstones now */
	assert_int_equal(differences.new, ENDPOINTS_EACH + 1);
	print_message("%d endpoints: the whole %.1f ms, nothing changed %.2f ms, one slice of %d endpoints %.2f ms\n",
	              SERVICES * ENDPOINTS_EACH, whole * 1e3, nothing * 1e3, ENDPOINTS_EACH, change * 1e3);
	snapshot_unref(before);
	compiler_free(compiler);
	policy_fixture_free(fixture);
}

/* 2,000 policies that all claim one endpoint, and 2,000 that all target one Service: long, and still told shortly. */
static void crowds(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);
	double time;

	(void)state;
	for (int i = 0; i < 2000; i++)
		fprintf(stream,
		        "---\n{apiVersion: v1, kind: Service, metadata: {name: s%d}, spec: {ports: [{port: 80}]}}\n"
		        "---\n{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e%d, labels: "
		        "{kubernetes.io/service-name: s%d}}, addressType: IPv4, endpoints: [{addresses: [10.0.0.1]}], "
		        "ports: "
		        "[{port: 8080}]}\n"
		        "---\n{apiVersion: gateway.networking.k8s.io/v1, kind: BackendTLSPolicy, metadata: {name: "
		        "p%d}, spec: "
		        "{targetRefs: [{group: '', kind: Service, name: s%d}, {group: '', kind: Service, name: all}], "
		        "validation: {hostname: h%d.example, wellKnownCACertificates: System}}}\n",
		        i, i, i, i, i, i);
	fclose(stream);
	fixture_add(fixture, text);
	free(text);
	fixture_add(fixture,
	            "{apiVersion: v1, kind: Service, metadata: {name: all}, spec: {clusterIP: 10.96.0.1, ports: "
	            "[{port: 80}]}}");
	time = timed_compile(fixture);
	assert_string_equal(fixture_verdict(fixture, "10.0.0.1", 8080), "DENY ambiguous_endpoint default/p0");
	assert_string_equal(fixture_verdict(fixture, "10.96.0.1", 80), "TLS default/p0 h0.example");
	for (size_t i = 0; i < snapshot_policy_count(fixture->snapshot); i++) {
		const struct policy_status *policy = snapshot_policy_at(fixture->snapshot, i);

		assert_true(strlen(policy->accepted.message) < 4200);
		assert_non_null(strstr(policy->accepted.message, "and 1996 more"));
	}
	print_message("2000 policies on one endpoint and on one Service: %.0f ms\n", time * 1e3);
	policy_fixture_free(fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(thousands),
	        cmocka_unit_test(one_endpoint),
	        cmocka_unit_test(crowds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
