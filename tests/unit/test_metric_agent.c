/* SPDX-License-Identifier: GPL-2.0-only */
/* What the metrics say of a snapshot, when certificates expire, and of an agent that has next to nothing yet. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/failures.h"
#include "certificates.h"
#include "datapath/traffic.h"
#include "observe/metric.h"
#include "observe/metric_agent.h"
#include "observe/metric_snapshot.h"
#include "policy/snapshot_holder.h"
#include "policy_fixture.h"
#include "source/source.h"

#define DAY 86400L

#define SERVICE(name)                                                                                                  \
	"---\napiVersion: v1\nkind: Service\nmetadata: {name: " name                                                   \
	"}\nspec: {clusterIP: None, ports: [{port: 443}]}\n"
#define SLICE(name, service, address)                                                                                  \
	"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"                                                  \
	"metadata: {name: " name ", labels: {kubernetes.io/service-name: " service "}}\n"                              \
	"addressType: IPv4\nendpoints: [{addresses: [" address "]}]\nports: [{port: 8443}]\n"
#define POLICY(name, service, ca)                                                                                      \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: " name "}\n"          \
	"spec: {targetRefs: [{group: '', kind: Service, name: " service "}], validation: {hostname: " name             \
	".example, "                                                                                                   \
	"caCertificateRefs: [{group: '', kind: ConfigMap, name: " ca "}]}}\n"

static void the_next_end_counts(void **state)
{
	static const struct certificate_options options[] = {
	        {.common_name = "gone", .authority = true, .valid_from = -9 * DAY, .valid_until = -1 * DAY},
	        {.common_name = "late", .authority = true, .valid_from = -DAY, .valid_until = 90 * DAY},
	        {.common_name = "soon", .authority = true, .valid_from = -DAY, .valid_until = 20 * DAY},
	};
	struct certificate *made[ARRAY_SIZE(options)];
	_cleanup_free_ char *all = NULL;
	_cleanup_free_ char *gone = NULL;
	int64_t now = time(NULL);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		made[i] = certificate_new(&options[i]);
	all = certificate_pem((const struct certificate *const[]){made[0], made[1], made[2], NULL});
	gone = certificate_pem((const struct certificate *const[]){made[0], NULL});
	assert_in_range(ca_bundle_expiry(all, now), now + 20 * DAY - 60, now + 20 * DAY + 60);
	assert_in_range(ca_bundle_expiry(all, now + 30 * DAY), now + 90 * DAY - 60, now + 90 * DAY + 60);
	assert_true(ca_bundle_expiry(gone, now) == INT64_MAX);
	assert_true(ca_bundle_expiry("", now) == INT64_MAX);
	assert_true(ca_bundle_expiry("-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n", now) ==
	            INT64_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(made); i++)
		certificate_free(made[i]);
}

static void a_snapshot_is_counted(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();
	struct metric_snapshot figures = {0};
	int64_t now = time(NULL);

	(void)state;
	fixture_add(fixture, SERVICE("one") SLICE("s", "one", "10.0.0.1") POLICY("p", "one", "ca"));
	fixture_add(fixture, SERVICE("two") SLICE("t", "two", "10.0.0.2") POLICY("q", "two", "other-ca"));
	/* Both on one endpoint, with settings of their own. */
	fixture_add(fixture, SLICE("u", "one", "10.0.0.3") SLICE("v", "two", "10.0.0.3"));
	fixture_add(fixture, SERVICE("three") SLICE("w", "three", "10.0.0.4"));
	fixture_add(fixture, POLICY("r", "three", "missing"));
	fixture_compile(fixture);
	metric_snapshot_update(&figures, fixture->snapshot, now);
	assert_int_equal(figures.policies_accepted, 2);
	assert_int_equal(figures.policies_refused, 1);
	assert_int_equal(figures.destinations[0], 2);
	assert_int_equal(figures.destinations[2], 2); /* the ambiguous one, and that of the policy without a CA */
	assert_int_equal(figures.ambiguous, 1);
	assert_int_equal(figures.expiry_count, 2);
	assert_int_equal(figures.expiries_missing, 0);
	assert_non_null(metric_snapshot_expiry(&figures, fixture_policy(fixture, "p")->settings_id));
	assert_null(metric_snapshot_expiry(&figures, 4711));

	fixture_remove(fixture, OBJECT_BACKEND_TLS_POLICY, "q");
	fixture_compile(fixture);
	metric_snapshot_update(&figures, fixture->snapshot, now);
	assert_int_equal(figures.policies_accepted, 1);
	assert_int_equal(figures.ambiguous, 0);
	metric_snapshot_free(&figures);
	policy_fixture_free(fixture);
}

#define SHARING(name, service)                                                                                         \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: " name "}\n"          \
	"spec: {targetRefs: [{group: '', kind: Service, name: " service "}], validation: {hostname: same.example, "    \
	"caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}, "                                               \
	"options: {postern.dev/client-certificate: mine}}\n"

/* Policies that are equal share their settings; each of them is told, by its own name. */
static void sharing_policies_are_all_told(void **state)
{
	struct policy_fixture *fixture = policy_fixture_new();
	struct metric_snapshot figures = {0};
	struct metric_sources sources = {.figures = &figures, .snapshots = snapshot_holder_new()};
	struct certificate *client = certificate_new(&(struct certificate_options){.common_name = "gateway"});
	_cleanup_free_ char *leaf = certificate_pem((const struct certificate *const[]){client, NULL});
	_cleanup_free_ char *key = certificate_key_pem(client);
	_cleanup_free_ char *leaf_quoted = fixture_quoted(leaf), *key_quoted = fixture_quoted(key);
	_cleanup_free_ char *secret = NULL, *bytes = NULL;
	struct metric_text *text = metric_start(false);
	size_t length;

	(void)state;
	assert_true(asprintf(&secret,
	                     "apiVersion: v1\nkind: Secret\nmetadata: {name: mine}\ntype: kubernetes.io/tls\n"
	                     "stringData: {tls.crt: %s, tls.key: %s}\n",
	                     leaf_quoted, key_quoted) > 0);
	fixture_add(fixture, secret);
	fixture_add(fixture, SERVICE("one") SLICE("s", "one", "10.0.0.1") SHARING("p", "one"));
	fixture_add(fixture, SERVICE("two") SLICE("t", "two", "10.0.0.2") SHARING("q", "two"));
	fixture_compile(fixture);
	assert_int_equal(snapshot_settings_count(fixture->snapshot), 1);
	metric_snapshot_update(&figures, fixture->snapshot, time(NULL));
	snapshot_holder_publish(sources.snapshots, snapshot_ref(fixture->snapshot));
	metrics_of_agent(text, &sources);
	bytes = metric_finish(text, &length);
	assert_non_null(bytes);
	assert_non_null(strstr(bytes, "postern_ca_expiry_timestamp_seconds{policy=\"default/p\"}"));
	assert_non_null(strstr(bytes, "postern_ca_expiry_timestamp_seconds{policy=\"default/q\"}"));
	assert_non_null(strstr(bytes, "postern_client_certificate_expiry_timestamp_seconds{"
	                              "owner=\"BackendTLSPolicy default/p\"}"));
	assert_non_null(strstr(bytes, "postern_client_certificate_expiry_timestamp_seconds{"
	                              "owner=\"BackendTLSPolicy default/q\"}"));
	snapshot_holder_free(sources.snapshots);
	metric_snapshot_free(&figures);
	certificate_free(client);
	policy_fixture_free(fixture);
}

static void an_agent_with_nothing(void **state)
{
	struct metric_snapshot figures = {0};
	const struct metric_sources sources = {.figures = &figures};
	struct metric_text *text = metric_start(true);
	_cleanup_free_ char *bytes = NULL;
	size_t length;

	(void)state;
	metrics_of_agent(text, &sources);
	bytes = metric_finish(text, &length);
	assert_non_null(bytes);
	assert_non_null(strstr(bytes, "\npostern_ready 0\n"));
	assert_non_null(strstr(bytes, "\npostern_wire_not_tls_total 0\n"));
	assert_null(strstr(bytes, "postern_failures_total{"));
}

static void reasons_are_told_apart(void **state)
{
	struct metric_snapshot figures = {0};
	struct metric_sources sources = {.figures = &figures, .failures = failures_new(), .traffic = traffic_new(1)};
	const struct source_watch watches[] = {
	        {.resource = "secrets", .namespace_ = "a", .state = "watching", .events = 3, .lists = 1},
	        {.resource = "services", .namespace_ = "", .state = "denied", .failures = 2, .failing_since_ns = 1},
	};
	struct metric_text *text = metric_start(false);
	_cleanup_free_ char *bytes = NULL;
	size_t length;

	(void)state;
	sources.watches = watches;
	sources.watch_count = ARRAY_SIZE(watches);
	failures_count(sources.failures, REASON_KTLS_CIPHER);
	failures_count(sources.failures, REASON_ESCAPED);
	failures_count(sources.failures, REASON_NOT_TLS);
	(void)traffic_begin(sources.traffic, 0, "a/g", "p/q", TRAFFIC_USER_TLS);
	metrics_of_agent(text, &sources);
	bytes = metric_finish(text, &length);
	assert_non_null(bytes);
	assert_non_null(strstr(bytes, "postern_ktls_off_total{reason=\"ktls_cipher\"} 1\n"));
	assert_null(strstr(bytes, "postern_failures_total{reason=\"ktls_cipher\""));
	assert_non_null(strstr(bytes, "postern_escaped_total 1\n"));
	assert_non_null(strstr(bytes, "postern_failures_total{reason=\"not_tls\",class=\"peer\"} 1\n"));
	assert_non_null(
	        strstr(bytes, "postern_live_connections{gateway=\"a/g\",policy=\"p/q\",mode=\"user_tls\"} 1\n"));
	assert_non_null(strstr(bytes, "postern_watch_up{resource=\"secrets\",namespace=\"a\"} 1\n"));
	assert_non_null(strstr(bytes, "postern_watch_up{resource=\"services\",namespace=\"\"} 0\n"));
	assert_null(strstr(bytes, "postern_source_stale_seconds 0\n"));
	failures_free(sources.failures);
	traffic_free(sources.traffic);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(the_next_end_counts),           cmocka_unit_test(a_snapshot_is_counted),
	        cmocka_unit_test(sharing_policies_are_all_told), cmocka_unit_test(an_agent_with_nothing),
	        cmocka_unit_test(reasons_are_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
