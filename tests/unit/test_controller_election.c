// SPDX-License-Identifier: GPL-2.0-only
/* The election's rules, played with clocks that the test sets: who may write when, and what each does next. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "controller/election.h"
#include "controller/json_cleanup.h"

#define SECOND 1000000000ull

/* The API server's part: one lease, with a resourceVersion. */
struct server {
	json_t *lease;
	int version;
};

static json_t *spec_of(const json_t *lease)
{
	return json_object_get(lease, "spec");
}

/* False: a conflict. */
static bool server_put(struct server *server, json_t *lease)
{
	const char *theirs = json_string_value(json_object_get(json_object_get(lease, "metadata"), "resourceVersion"));
	char version[16];

	snprintf(version, sizeof(version), "%d", server->version);
	if (server->lease && (!theirs || strcmp(theirs, version))) {
		json_decref(lease);
		return false;
	}
	snprintf(version, sizeof(version), "%d", ++server->version);
	json_object_set_new(json_object_get(lease, "metadata"), "resourceVersion", json_string(version));
	json_decref(server->lease);
	server->lease = lease;
	return true;
}

static bool try_claim(struct election *election, struct server *server, uint64_t sent_ns, uint64_t now_ns, bool release)
{
	const struct timespec wall = {(time_t)(now_ns / SECOND), 0};
	json_t *claim = election_claim(election, &wall, release);

	assert_non_null(claim);
	if (!server_put(server, claim))
		return false;
	election_won(election, server->lease, sent_ns, now_ns);
	return true;
}

static enum election_step next(const struct election *election, uint64_t now_ns)
{
	uint64_t wait_ns;

	return election_next(election, now_ns, &wait_ns);
}

static void first_come(void **state)
{
	struct server server = {0};
	struct election a, b;

	(void)state;
	election_init(&a, "postern-system", "postern-controller", "a");
	election_init(&b, "postern-system", "postern-controller", "b");
	assert_int_equal(next(&a, SECOND), ELECTION_LOOK);
	assert_false(election_leads(&a, SECOND));
	election_observe(&a, NULL, SECOND);
	election_observe(&b, NULL, SECOND);
	assert_int_equal(next(&a, SECOND), ELECTION_CREATE);
	assert_true(try_claim(&a, &server, SECOND, SECOND, false));
	assert_true(election_leads(&a, SECOND));
	/* The other one has not heard of it, and is refused by the server. */
	assert_false(try_claim(&b, &server, SECOND, SECOND, false));
	assert_false(election_leads(&b, SECOND));
	election_observe(&b, server.lease, SECOND);
	assert_int_equal(next(&b, SECOND), ELECTION_WAIT);
	assert_string_equal(election_holder(&b), "a");
	assert_int_equal(json_integer_value(json_object_get(spec_of(server.lease), "leaseTransitions")), 0);
	election_free(&a);
	election_free(&b);
	json_decref(server.lease);
}

/* At each second after the leader's last renewal: does it still write, may the other take over? Never both. */
static void takeover(void **state)
{
	const uint64_t begin = 100 * SECOND;
	struct server server = {0};
	struct election a, b;
	uint64_t wait_ns;

	(void)state;
	election_init(&a, "n", "l", "a");
	election_init(&b, "n", "l", "b");
	election_observe(&a, NULL, begin);
	assert_true(try_claim(&a, &server, begin, begin, false));
	election_observe(&b, server.lease, begin);
	for (uint64_t passed = 0; passed <= 20 * SECOND; passed += SECOND / 4) {
		bool leads = election_leads(&a, begin + passed);
		bool may = next(&b, begin + passed) == ELECTION_CLAIM;

		if (leads != (passed < 6 * SECOND) || may != (passed >= 9 * SECOND))
			fail_msg("%.2f s after the renewal: the leader %s, the other %s", (double)passed / 1e9,
			         leads ? "writes" : "does not write", may ? "takes over" : "waits");
	}
	/* It waits until then and no longer. */
	assert_int_equal(election_next(&b, begin + 8 * SECOND, &wait_ns), ELECTION_WAIT);
	assert_int_equal(wait_ns, SECOND);
	assert_true(try_claim(&b, &server, begin + 9 * SECOND, begin + 9 * SECOND, false));
	assert_int_equal(json_integer_value(json_object_get(spec_of(server.lease), "leaseTransitions")), 1);
	/* The former leader was away, and tries with what it knew. */
	assert_false(try_claim(&a, &server, begin + 10 * SECOND, begin + 10 * SECOND, false));
	election_observe(&a, server.lease, begin + 10 * SECOND);
	assert_false(election_leads(&a, begin + 10 * SECOND));
	assert_int_equal(next(&a, begin + 10 * SECOND), ELECTION_WAIT);
	election_free(&a);
	election_free(&b);
	json_decref(server.lease);
}

/* The term is counted from when the renewal was sent; a renewal that the other saw starts its wait anew. */
static void renewals(void **state)
{
	const uint64_t begin = 100 * SECOND;
	_cleanup_json_ json_t *old = NULL;
	struct server server = {0};
	struct election a, b;

	(void)state;
	election_init(&a, "n", "l", "a");
	election_init(&b, "n", "l", "b");
	election_observe(&a, NULL, begin);
	assert_true(try_claim(&a, &server, begin, begin + 4 * SECOND, false));
	assert_true(election_leads(&a, begin + 5 * SECOND));
	assert_false(election_leads(&a, begin + 6 * SECOND));
	election_observe(&b, server.lease, begin + 4 * SECOND);
	old = json_deep_copy(server.lease);
	assert_true(try_claim(&a, &server, begin + 5 * SECOND, begin + 5 * SECOND, false));
	election_observe(&b, server.lease, begin + 5 * SECOND);
	/* The same once more is no renewal, and what is older is nothing. */
	election_observe(&b, server.lease, begin + 9 * SECOND);
	election_observe(&b, old, begin + 10 * SECOND);
	assert_int_equal(next(&b, begin + 13 * SECOND), ELECTION_WAIT);
	assert_int_equal(next(&b, begin + 14 * SECOND), ELECTION_CLAIM);
	/* Its own renewal, as the watch brings it late, takes nothing from the leader. */
	election_observe(&a, old, begin + 7 * SECOND);
	assert_true(election_leads(&a, begin + 7 * SECOND));
	assert_int_equal(a.terms, 1);
	assert_string_equal(json_string_value(json_object_get(spec_of(server.lease), "acquireTime")),
	                    "1970-01-01T00:01:44.000000Z");
	assert_string_equal(json_string_value(json_object_get(spec_of(server.lease), "renewTime")),
	                    "1970-01-01T00:01:45.000000Z");
	election_free(&a);
	election_free(&b);
	json_decref(server.lease);
}

static void release(void **state)
{
	struct server server = {0};
	struct election a, b;

	(void)state;
	election_init(&a, "n", "l", "a");
	election_init(&b, "n", "l", "b");
	election_observe(&a, NULL, SECOND);
	assert_true(try_claim(&a, &server, SECOND, SECOND, false));
	assert_true(try_claim(&a, &server, 2 * SECOND, 2 * SECOND, true));
	assert_false(election_leads(&a, 2 * SECOND));
	election_observe(&b, server.lease, 2 * SECOND);
	assert_int_equal(next(&b, 2 * SECOND), ELECTION_CLAIM);
	assert_true(try_claim(&b, &server, 2 * SECOND, 2 * SECOND, false));
	assert_true(election_leads(&b, 2 * SECOND));
	/* Somebody deletes it: nobody leads, and whoever comes first makes it anew. */
	election_observe(&b, NULL, 3 * SECOND);
	assert_false(election_leads(&b, 3 * SECOND));
	assert_int_equal(next(&b, 3 * SECOND), ELECTION_CREATE);
	election_free(&a);
	election_free(&b);
	json_decref(server.lease);
}

/* A record that anybody may have written. */
static void hostile(void **state)
{
	static const struct {
		const char *spec;
		enum election_step at_8, at_9;
	} rows[] = {
	        {"null", ELECTION_CLAIM, ELECTION_CLAIM},
	        {"{}", ELECTION_CLAIM, ELECTION_CLAIM},
	        {"{\"holderIdentity\": 7}", ELECTION_CLAIM, ELECTION_CLAIM},
	        {"{\"holderIdentity\": \"x\"}", ELECTION_WAIT, ELECTION_CLAIM},
	        {"{\"holderIdentity\": \"x\", \"leaseDurationSeconds\": -5}", ELECTION_WAIT, ELECTION_CLAIM},
	        {"{\"holderIdentity\": \"x\", \"leaseDurationSeconds\": 2000000000}", ELECTION_WAIT, ELECTION_CLAIM},
	        {"{\"holderIdentity\": \"x\", \"leaseDurationSeconds\": 5}", ELECTION_CLAIM, ELECTION_CLAIM},
	        {"{\"holderIdentity\": \"x\", \"leaseDurationSeconds\": 30}", ELECTION_WAIT, ELECTION_WAIT},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		_cleanup_json_ json_t *lease = json_pack("{s:{s:s}, s:o}", "metadata", "resourceVersion", "1", "spec",
		                                         json_loads(rows[i].spec, JSON_DECODE_ANY, NULL));
		const struct timespec wall = {0};
		_cleanup_json_ json_t *claim = NULL;
		struct election election;

		election_init(&election, "n", "l", "a");
		election_observe(&election, lease, 1);
		if (next(&election, 8 * SECOND) != rows[i].at_8 || next(&election, 9 * SECOND + 1) != rows[i].at_9)
			fail_msg("%s: expected %d and %d, saw %d and %d", rows[i].spec, rows[i].at_8, rows[i].at_9,
			         next(&election, 8 * SECOND), next(&election, 9 * SECOND + 1));
		claim = election_claim(&election, &wall, false);
		assert_string_equal(json_string_value(json_object_get(spec_of(claim), "holderIdentity")), "a");
		election_free(&election);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(first_come), cmocka_unit_test(takeover), cmocka_unit_test(renewals),
	        cmocka_unit_test(release),    cmocka_unit_test(hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
