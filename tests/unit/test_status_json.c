// SPDX-License-Identifier: GPL-2.0-only
/* The documents' exact form: scripts and posternctl read them by these names. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/failures.h"
#include "base/log.h"
#include "base/loop.h"
#include "config/config.h"
#include "datapath/gateway.h"
#include "datapath/proof.h"
#include "datapath/worker.h"
#include "observe/json.h"
#include "observe/status.h"
#include "policy/client_certificate.h"
#include "policy/snapshot.h"

static struct postern_destination_key key_of(const char *address, uint16_t port)
{
	struct postern_address parsed;

	assert_int_equal(address_parse(address, &parsed), 0);
	return destination_key(&parsed, port);
}

/* Compares with a JSON text, member order apart; takes the document over. */
static void assert_json(json_t *seen, const char *expected_text)
{
	json_error_t error;
	json_t *expected = json_loads(expected_text, JSON_DECODE_ANY, &error);

	if (!expected)
		fail_msg("the test's own JSON: line %d: %s", error.line, error.text);
	if (!json_equal(seen, expected)) {
		_cleanup_free_ char *text = seen ? json_dumps(seen, JSON_ENCODE_ANY | JSON_SORT_KEYS) : NULL;
		_cleanup_free_ char *wanted = json_dumps(expected, JSON_ENCODE_ANY | JSON_SORT_KEYS);

		fail_msg("expected %s\nseen     %s", wanted, text ? text : "NULL");
	}
	json_decref(expected);
	json_decref(seen);
}

static void hostile_texts(void **state)
{
	static const struct {
		const char *bytes;
		const char *json;
	} rows[] = {
	        {NULL, "\"\""},
	        {"plain", "\"plain\""},
	        {"quote\" back\\ \n \x01", "\"quote\\\" back\\\\ \\n \\u0001\""},
	        {"caf\xc3\xa9", "\"caf\\u00e9\""},
	        {"\xff", "\"\\ufffd\""},
	        {"a\xc3", "\"a\\ufffd\""},                       /* cut in the middle of a character */
	        {"\xed\xa0\x80z", "\"\\ufffd\\ufffd\\ufffdz\""}, /* a lone surrogate */
	        {"\xc0\xaf", "\"\\ufffd\\ufffd\""},              /* overlong '/' */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_json(json_text(rows[i].bytes), rows[i].json);
}

static void small_values(void **state)
{
	const struct timespec time = {.tv_sec = 1700000000, .tv_nsec = 987654321};
	struct postern_destination_key key = key_of("fd00::1", 8443);

	(void)state;
	assert_json(json_time(&time), "\"2023-11-14T22:13:20.987Z\"");
	assert_json(json_destination(&key), "\"[fd00::1]:8443\"");
	key = key_of("10.0.0.1", 443);
	assert_json(json_destination(&key), "\"10.0.0.1:443\"");
	assert_json(json_seconds(1234567890), "1.234");
	assert_json(json_errno(ENOENT), "\"ENOENT\"");
	assert_json(json_errno(4000), "\"4000\"");
	assert_string_equal(verdict_name(POSTERN_VERDICT_TLS), "tls");
	assert_string_equal(verdict_name(POSTERN_VERDICT_HOLD), "hold");
	assert_string_equal(verdict_name(77), "unknown");
}

/* A NULL anywhere makes the whole NULL, and nothing leaks (ASan looks). */
static void out_of_memory_spreads(void **state)
{
	json_t *array = json_array();
	json_t *object = json_object();

	(void)state;
	json_append(&array, NULL);
	assert_null(array);
	json_append(&array, json_integer(1));
	assert_null(array);
	json_set(&object, "a", json_integer(1));
	assert_non_null(object);
	json_set(&object, "b", NULL);
	assert_null(object);
	json_set(&object, "c", json_integer(1));
	assert_null(object);
}

static void gateway_rows(void **state)
{
	struct gateway_listener listeners[] = {{.port = 28100, .worker = 0}, {.port = 28101, .worker = 1}};
	char name[] = "shop/edge";
	char cgroup[] = "/sys/fs/cgroup/edge";
	char netns[] = "/run/netns/edge";
	char namespace_[] = "shop";
	char object[] = "edge";
	struct object_name name_of_object = {namespace_, object};
	const struct gateway_refs refs = {.at = &name_of_object, .count = 1};
	struct gateway gateway = {
	        .id = 1,
	        .name = name,
	        .cgroup_path = cgroup,
	        .netns_path = netns,
	        .refs = &refs,
	        .mode = POSTERN_MODE_OBSERVE,
	        .state = GATEWAY_READY,
	        .listeners = listeners,
	        .listener_count = 2,
	};

	(void)state;
	assert_json(status_gateway(&gateway, NULL),
	            "{\"name\":\"shop/edge\",\"cgroup\":\"/sys/fs/cgroup/edge\",\"mode\":\"observe\","
	            "\"state\":\"ready\",\"reason\":\"\",\"netns\":\"/run/netns/edge\",\"listeners\":[28100,28101],"
	            "\"gatewayRefs\":[{\"namespace\":\"shop\",\"name\":\"edge\"}],"
	            "\"client_certificate\":{\"state\":\"none\",\"digest\":\"\",\"not_after\":0}}");
	gateway.netns_path = NULL;
	gateway.mode = POSTERN_MODE_ENFORCE;
	gateway.state = GATEWAY_ATTACHED;
	gateway.listener_count = 0;
	strcpy(gateway.reason, "no process in the cgroup yet");
	gateway.refs = NULL;
	assert_json(status_gateway(&gateway, NULL),
	            "{\"name\":\"shop/edge\",\"cgroup\":\"/sys/fs/cgroup/edge\",\"mode\":\"enforce\",\"state\":"
	            "\"attached\",\"reason\":\"no process in the cgroup yet\",\"netns\":\"\",\"listeners\":[],"
	            "\"gatewayRefs\":[],"
	            "\"client_certificate\":{\"state\":\"none\",\"digest\":\"\",\"not_after\":0}}");
}

static void gateway_object_rows(void **state)
{
	char namespace_[] = "shop";
	char name[] = "edge";
	char message[] = "no such Secret";
	struct client_certificate certificate = {.digest = {0xab, [31] = 0x0c}, .not_after = 1700000000};
	struct gateway_status gateway = {
	        .namespace_ = namespace_,
	        .name = name,
	        .generation = 3,
	        .served = true,
	        .has_reference = true,
	        .resolved_refs = {.status = false, .reason = "InvalidClientCertificateRef", .message = message},
	};

	(void)state;
	assert_json(status_gateway_object(&gateway),
	            "{\"namespace\":\"shop\",\"name\":\"edge\",\"generation\":3,\"served\":true,\"resolvedRefs\":"
	            "{\"status\":false,\"reason\":\"InvalidClientCertificateRef\",\"message\":\"no such Secret\"},"
	            "\"client_certificate\":{\"state\":\"unusable\",\"digest\":\"\",\"not_after\":0}}");
	message[0] = '\0';
	gateway.client_certificate = &certificate;
	gateway.resolved_refs = (struct policy_condition){true, "ResolvedRefs", message};
	assert_json(status_gateway_object(&gateway),
	            "{\"namespace\":\"shop\",\"name\":\"edge\",\"generation\":3,\"served\":true,\"resolvedRefs\":"
	            "{\"status\":true,\"reason\":\"ResolvedRefs\",\"message\":\"\"},"
	            "\"client_certificate\":{\"state\":\"usable\",\"digest\":\"ab000000000000000000000000000000"
	            "0000000000000000000000000000000c\",\"not_after\":1700000000}}");
}

static void system_ca_row(void **state)
{
	const struct status_system_ca none = {0};
	const struct status_system_ca missing = {.file = "/ca.pem", .left_out = 2, .problem = "No such file"};

	(void)state;
	assert_json(status_system_ca(&none), "{\"file\":\"\",\"in_force\":false,\"left_out\":0,\"problem\":\"\"}");
	assert_json(status_system_ca(&missing),
	            "{\"file\":\"/ca.pem\",\"in_force\":false,\"left_out\":2,\"problem\":\"No such file\"}");
}

static void policy_rows(void **state)
{
	char namespace_[] = "default";
	char name[] = "echo";
	char accepted[] = "spec.validation.hostname: \xff";
	char resolved[] = "";
	char warnings[] = "It is old.";
	struct object_name ancestor = {namespace_, name};
	const struct policy_status policy = {
	        .namespace_ = namespace_,
	        .name = name,
	        .generation = 7,
	        .accepted = {.status = false, .reason = "Invalid", .message = accepted},
	        .resolved_refs = {.status = true, .reason = "ResolvedRefs", .message = resolved},
	        .ancestors = &ancestor,
	        .ancestor_count = 1,
	        .ancestors_left_out = 4,
	        .warnings = warnings,
	        .destination_count = 3,
	};

	(void)state;
	assert_json(status_policy(&policy),
	            "{\"namespace\":\"default\",\"name\":\"echo\",\"generation\":7,\"accepted\":{\"status\":false,"
	            "\"reason\":\"Invalid\",\"message\":\"spec.validation.hostname: \\ufffd\"},\"resolvedRefs\":"
	            "{\"status\":true,\"reason\":\"ResolvedRefs\",\"message\":\"\"},\"destinations\":3,"
	            "\"ancestors\":[{\"namespace\":\"default\",\"name\":\"echo\"}],\"ancestors_left_out\":4,"
	            "\"warnings\":\"It is old.\"}");
}

static const json_t *find_crypto(const json_t *proof, const char *mode, const char *direction, const char *version,
                                 const char *cipher)
{
	size_t index;
	json_t *row;

	json_array_foreach (json_object_get(proof, "crypto"), index, row) {
		if (strcmp(json_string_value(json_object_get(row, "mode")), mode) == 0 &&
		    strcmp(json_string_value(json_object_get(row, "direction")), direction) == 0 &&
		    strcmp(json_string_value(json_object_get(row, "version")), version) == 0 &&
		    strcmp(json_string_value(json_object_get(row, "cipher")), cipher) == 0)
			return row;
	}
	fail_msg("no row %s %s %s %s", mode, direction, version, cipher);
	return NULL;
}

static const char *verdict_of(const json_t *row)
{
	return json_string_value(json_object_get(row, "verdict"));
}

static void proof_table(void **state)
{
	struct proof proof = {.kernel_tls = true, .milliseconds = 12};
	struct proof_result *bad =
	        &proof.crypto[PROOF_SPLICE][TLS_DIRECTION_RECEIVE][TLS_VERSION_1_3][TLS_CIPHER_CHACHA20];
	json_t *seen;

	(void)state;
	proof.crypto[PROOF_COPY][TLS_DIRECTION_TRANSMIT][TLS_VERSION_1_2][TLS_CIPHER_AES_128].verdict = PROOF_SAFE;
	bad->verdict = PROOF_UNSAFE;
	strcpy(bad->detail, "byte 17 changed");
	proof.rekey[TLS_DIRECTION_RECEIVE].verdict = PROOF_UNAVAILABLE;
	proof.hook[PROOF_LANE].verdict = PROOF_SAFE;

	seen = status_proof(&proof);
	assert_non_null(seen);
	assert_true(json_is_true(json_object_get(seen, "kernel_tls")));
	assert_int_equal(json_integer_value(json_object_get(seen, "milliseconds")), 12);
	assert_int_equal(json_array_size(json_object_get(seen, "crypto")), PROOF_MODES * 2 * 2 * TLS_KERNEL_CIPHERS);
	assert_string_equal(verdict_of(find_crypto(seen, proof_mode_name(PROOF_COPY), "transmit", "TLSv1.2",
	                                           tls_cipher_name(TLS_CIPHER_AES_128))),
	                    proof_verdict_name(PROOF_SAFE));
	assert_json(json_incref((json_t *)find_crypto(seen, proof_mode_name(PROOF_SPLICE), "receive", "TLSv1.3",
	                                              tls_cipher_name(TLS_CIPHER_CHACHA20))),
	            "{\"mode\":\"splice\",\"direction\":\"receive\",\"version\":\"TLSv1.3\","
	            "\"cipher\":\"CHACHA20-POLY1305\",\"verdict\":\"unsafe\",\"detail\":\"byte 17 changed\"}");
	assert_string_equal(verdict_of(json_object_get(json_object_get(seen, "rekey"), "receive")),
	                    proof_verdict_name(PROOF_UNAVAILABLE));
	assert_string_equal(verdict_of(json_object_get(json_object_get(seen, "rekey"), "transmit")),
	                    proof_verdict_name(PROOF_NOT_RUN));
	assert_int_equal(json_array_size(json_object_get(seen, "hooks")), PROOF_HOOKS);
	assert_json(json_incref(json_array_get(json_object_get(seen, "hooks"), PROOF_LANE)),
	            "{\"hook\":\"lane\",\"verdict\":\"safe\",\"detail\":\"\"}");
	json_decref(seen);

	seen = status_proof(NULL); /* the proof has not run yet */
	assert_true(json_is_false(json_object_get(seen, "kernel_tls")));
	assert_string_equal(verdict_of(json_array_get(json_object_get(seen, "crypto"), 0)),
	                    proof_verdict_name(PROOF_NOT_RUN));
	json_decref(seen);
}

static void connection_rows(void **state)
{
	struct connection_view view = {
	        .gateway = "shop/edge",
	        .gateway_port = 40000,
	        .policy = "default/echo",
	        .sni = "echo.example",
	        .peer_identity = "CN=\xff\"",
	        .tls_version = "TLSv1.3",
	        .cipher = "TLS_AES_128_GCM_SHA256",
	        .alpn = "http/1.1",
	        .resumed = true,
	        .shows_certificate = true,
	        .peer_valid_until = 1700000000,
	        .age_ns = 1500000000,
	        .stats =
	                {
	                        .bytes_to_backend = 10,
	                        .bytes_to_gateway = 1ull << 40,
	                        .to_backend = RELAY_KTLS_SPLICE,
	                        .to_gateway = RELAY_USER_TLS,
	                        .mode_reason = REASON_KTLS_UNPROVED,
	                        .lane = true,
	                },
	        .ulp = "tcp-ulp-tls version: 1.3 cipher: aes-gcm-128 rxconf: none txconf: sw",
	};
	char expected[1024];

	(void)state;
	view.destination = key_of("10.96.0.9", 80);
	(void)snprintf(
	        expected, sizeof(expected),
	        "{\"gateway\":\"shop/edge\",\"gateway_port\":40000,\"backend_port\":0,\"destination\":\"10.96.0.9:80\","
	        "\"policy\":\"default/echo\",\"sni\":\"echo.example\",\"peer\":\"CN=\\ufffd\\\"\","
	        "\"tls_version\":\"TLSv1.3\",\"cipher\":\"TLS_AES_128_GCM_SHA256\",\"alpn\":\"http/1.1\","
	        "\"resumed\":true,\"client_certificate\":true,\"draining\":false,\"peer_valid_until\":1700000000,"
	        "\"to_backend\":\"%s\",\"to_gateway\":\"%s\","
	        "\"mode_reason\":\"ktls_unproved\",\"lane\":true,\"ulp\":\"tcp-ulp-tls version: 1.3 cipher: "
	        "aes-gcm-128 rxconf: none txconf: sw\",\"bytes_to_backend\":10,"
	        "\"bytes_to_gateway\":1099511627776,\"age_seconds\":1.5}",
	        relay_mode_name(RELAY_KTLS_SPLICE), relay_mode_name(RELAY_USER_TLS));
	assert_json(connection_row(&view), expected);
}

static void failure_rows(void **state)
{
	struct failure failure = {
	        .time = {.tv_sec = 1700000000},
	        .gateway = "shop/edge",
	        .gateway_port = 40000,
	        .policy = "default/echo",
	        .reason = REASON_CERTIFICATE_EXPIRED,
	        .detail = "CN=old\nname",
	};
	struct failures *failures = failures_new();
	struct status_sources sources = {.failures = failures};
	json_t *document;

	(void)state;
	failure.destination = key_of("::1", 8443);
	assert_json(failure_row(&failure),
	            "{\"time\":\"2023-11-14T22:13:20.000Z\",\"gateway\":\"shop/edge\",\"gateway_port\":40000,"
	            "\"destination\":\"[::1]:8443\",\"policy\":\"default/echo\",\"reason\":\"certificate_expired\","
	            "\"detail\":\"CN=old\\nname\",\"remedy\":\"renew the backend's certificate\"}");

	/* The ring is full: the last 1,000 are there, newest first, and none of them is counted twice. */
	assert_non_null(failures);
	for (unsigned int i = 0; i < FAILURES_KEPT + 5; i++) {
		failure.gateway_port = (uint16_t)i;
		failures_add(failures, &failure);
	}
	document = failures_document(&sources);
	assert_int_equal(json_array_size(document), FAILURES_KEPT);
	assert_int_equal(json_integer_value(json_object_get(json_array_get(document, 0), "gateway_port")),
	                 FAILURES_KEPT + 4);
	assert_int_equal(
	        json_integer_value(json_object_get(json_array_get(document, FAILURES_KEPT - 1), "gateway_port")), 5);
	json_decref(document);
	failures_free(failures);
}

/* Before anything is loaded the document is whole: each member has its type. */
static void status_before_anything_is_there(void **state)
{
	static const struct {
		const char *member;
		json_type type;
	} members[] = {
	        {"version", JSON_STRING},       {"bpffs", JSON_STRING},        {"expected", JSON_OBJECT},
	        {"programs", JSON_ARRAY},       {"findings", JSON_ARRAY},      {"pid", JSON_INTEGER},
	        {"ready", JSON_FALSE},          {"reason", JSON_STRING},       {"uptime_seconds", JSON_INTEGER},
	        {"snapshot", JSON_OBJECT},      {"gateways", JSON_ARRAY},      {"proof", JSON_OBJECT},
	        {"switches", JSON_OBJECT},      {"policies", JSON_ARRAY},      {"gateway_objects", JSON_ARRAY},
	        {"system_ca", JSON_OBJECT},     {"source_errors", JSON_ARRAY}, {"source_notes", JSON_ARRAY},
	        {"source_watches", JSON_ARRAY}, {"counters", JSON_OBJECT},     {"helper_errors", JSON_ARRAY},
	        {"would", JSON_ARRAY},          {"failures", JSON_OBJECT},     {"workers", JSON_OBJECT},
	        {"limits", JSON_OBJECT},
	};
	const char *const argv[] = {"posternd", "--lane", "off"};
	struct failures *failures = failures_new();
	struct config config;
	char error[CONFIG_ERROR_MAX];
	struct status_sources sources = {
	        .config = &config,
	        .started_ns = monotonic_ns(),
	        .reason = "the proof runs",
	        .failures = failures,
	};
	json_t *document;

	(void)state;
	assert_non_null(failures);
	if (config_parse(3, argv, &config, error, sizeof(error)) != CONFIG_RUN)
		fail_msg("%s", error);
	failures_count(failures, REASON_BACKEND_REFUSED);
	document = status_document(&sources);
	assert_non_null(document);
	assert_int_equal(json_object_size(document), ARRAY_SIZE(members));
	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		const json_t *member = json_object_get(document, members[i].member);

		if (!member || json_typeof(member) != members[i].type)
			fail_msg("%s: expected type %d, seen %d", members[i].member, (int)members[i].type,
			         member ? (int)json_typeof(member) : -1);
	}
	assert_string_equal(json_string_value(json_object_get(document, "reason")), "the proof runs");
	assert_int_equal(json_integer_value(json_object_get(document, "pid")), getpid());
	assert_json(json_incref(json_object_get(document, "switches")),
	            "{\"ktls\":\"auto\",\"lane\":\"off\",\"splice\":\"auto\"}");
	assert_json(json_incref(json_object_get(document, "snapshot")),
	            "{\"generation\":0,\"age_seconds\":0.0,\"policies\":0,\"destinations\":0}");
	assert_int_equal(json_object_size(json_object_get(document, "counters")), POSTERN_COUNTERS);
	assert_int_equal(json_object_size(json_object_get(document, "failures")), REASON_COUNT - 1);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(document, "failures"), "backend_refused")),
	                 1);
	json_decref(document);

	document = connections_document(&sources);
	assert_json(document, "[]");
	config_free(&config);
	failures_free(failures);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(hostile_texts),
	        cmocka_unit_test(small_values),
	        cmocka_unit_test(out_of_memory_spreads),
	        cmocka_unit_test(gateway_rows),
	        cmocka_unit_test(gateway_object_rows),
	        cmocka_unit_test(system_ca_row),
	        cmocka_unit_test(policy_rows),
	        cmocka_unit_test(proof_table),
	        cmocka_unit_test(connection_rows),
	        cmocka_unit_test(failure_rows),
	        cmocka_unit_test(status_before_anything_is_there),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
