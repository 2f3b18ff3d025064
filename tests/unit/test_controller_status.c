// SPDX-License-Identifier: GPL-2.0-only
/* What postern-controller makes of a status that is there: entries and conditions of others stay, its own are right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "controller/conditions.h"
#include "controller/json_cleanup.h"
#include "controller/policy_status.h"

#define NOW "2026-11-27T10:00:00Z"
#define OLD "2026-11-27T09:00:00Z"

/* JSON with ' for ", so that a table can be read. */
static json_t *parse(const char *text)
{
	_cleanup_free_ char *copy = strdup(text);
	json_error_t error;
	json_t *value;

	assert_non_null(copy);
	for (char *at = copy; *at; at++)
		if (*at == '\'')
			*at = '"';
	value = json_loads(copy, JSON_DECODE_ANY, &error);
	if (!value)
		fail_msg("%s: %s", copy, error.text);
	return value;
}

#define WANTED(ancestors)                                                                                              \
	"{'generation': 3, 'conditions': [{'type': 'Accepted', 'status': true, 'reason': 'Accepted', 'message': 'm'}]" \
	", 'ancestors': [" ancestors "]}"
#define G(name) "{'namespace': 'n', 'name': '" name "'}"

#define CONDITION(type, status, generation, reason, message, time)                                                     \
	"{'type': '" type "', 'status': '" status "', 'observedGeneration': " generation ", 'reason': '" reason        \
	"', 'message': '" message "', 'lastTransitionTime': '" time "'}"
#define GOOD(time) CONDITION("Accepted", "True", "3", "Accepted", "m", time)
#define REFERENCE(name)                                                                                                \
	"{'group': 'gateway.networking.k8s.io', 'kind': 'Gateway', 'namespace': 'n', 'name': '" name "'}"
#define OURS(name, conditions)                                                                                         \
	"{'ancestorRef': " REFERENCE(name) ", 'controllerName': 'postern.dev/backend-tls', 'conditions': [" conditions \
	                                   "]}"
/* Unknown fields, a reference like ours, conditions like ours: it is another's all the same. */
#define THEIRS(name)                                                                                                   \
	"{'ancestorRef': {'name': '" name "', 'future': [1, {'a': 1.5}]}, 'controllerName': 'example.com/x', 'more': " \
	"{'z': null, 'b': true}, 'conditions': [{'type': 'Accepted', 'status': 'Unknown', 'odd': 9007199254740993}]}"

struct row {
	const char *name;
	const char *status; /* NULL: none */
	const char *wanted;
	int result;
	const char *ancestors; /* afterwards, if result is 1 */
};

static const struct row rows[] = {
        {"no status at all", NULL, WANTED(G("g")), 1, OURS("g", GOOD(NOW))},
        {"nothing wanted, nothing there", NULL, WANTED(""), 0, NULL},
        {"nothing wanted of an empty list", "'ancestors': []", WANTED(""), 0, NULL},
        {"as it should be", "'ancestors': [" OURS("g", GOOD(OLD)) "]", WANTED(G("g")), 0, NULL},
        {"another message, the same status: the time stays",
         "'ancestors': [" OURS("g", CONDITION("Accepted", "True", "3", "Accepted", "old", OLD)) "]", WANTED(G("g")), 1,
         OURS("g", GOOD(OLD))},
        {"another status: the time is now",
         "'ancestors': [" OURS("g", CONDITION("Accepted", "False", "3", "Accepted", "m", OLD)) "]", WANTED(G("g")), 1,
         OURS("g", GOOD(NOW))},
        {"another generation: the time stays",
         "'ancestors': [" OURS("g", CONDITION("Accepted", "True", "2", "Accepted", "m", OLD)) "]", WANTED(G("g")), 1,
         OURS("g", GOOD(OLD))},
        {"a greater generation is not written over",
         "'ancestors': [" OURS("g", CONDITION("Accepted", "False", "4", "Invalid", "x", OLD)) "]", WANTED(G("g")),
         -ESTALE, NULL},
        {"nor is another entry, if one of ours is newer",
         "'ancestors': [" OURS("f", "") ", " OURS("g", CONDITION("Accepted", "False", "4", "Invalid", "x", OLD)) "]",
         WANTED(G("f") ", " G("g")), -ESTALE, NULL},
        {"a greater generation of somebody else is none of our business",
         "'ancestors': [{'ancestorRef': " REFERENCE(
                 "g") ", 'controllerName': 'example.com/x', 'conditions': [" CONDITION("Accepted", "False", "9", "I",
                                                                                       "x", OLD) "]}]",
         WANTED(G("g")), 1,
         "{'ancestorRef': " REFERENCE("g") ", 'controllerName': 'example.com/x', 'conditions': [" CONDITION(
                 "Accepted", "False", "9", "I", "x", OLD) "]}, " OURS("g", GOOD(NOW))},
        {"others stay as they are, where they are",
         "'ancestors': [" THEIRS("a") ", " OURS("gone", "") ", " THEIRS("b") "]", WANTED(G("g")), 1,
         THEIRS("a") ", " THEIRS("b") ", " OURS("g", GOOD(NOW))},
        {"no longer an ancestor", "'ancestors': [" OURS("g", GOOD(OLD)) ", " THEIRS("a") "]", WANTED(""), 1,
         THEIRS("a")},
        {"types of others within our entry stay",
         "'ancestors': [" OURS("g", "{'type': 'Other', 'status': 'Unknown', 'x': 1}, " CONDITION(
                                            "Accepted", "False", "1", "Invalid", "x", OLD)) "]",
         WANTED(G("g")), 1, OURS("g", "{'type': 'Other', 'status': 'Unknown', 'x': 1}, " GOOD(NOW))},
        {"twice: one is enough", "'ancestors': [" OURS("g", GOOD(OLD)) ", " OURS("g", GOOD(OLD)) "]", WANTED(G("g")), 1,
         OURS("g", GOOD(OLD))},
        {"a section of the Gateway is not the Gateway",
         "'ancestors': [{'ancestorRef': {'name': 'g', 'sectionName': 's'}, 'controllerName': "
         "'postern.dev/backend-tls', "
         "'conditions': []}]",
         WANTED(G("g")), 1, OURS("g", GOOD(NOW))},
        {"defaults of the reference: group, kind, and the policy's own namespace",
         "'ancestors': [{'ancestorRef': {'name': 'g'}, 'controllerName': 'postern.dev/backend-tls', 'conditions': "
         "[" GOOD(OLD) "]}]",
         WANTED(G("g")), 0, NULL},
        {"new entries come in the order of names, after what is there", "'ancestors': [" OURS("c", GOOD(OLD)) "]",
         WANTED(G("a") ", " G("b") ", " G("c")), 1,
         OURS("c", GOOD(OLD)) ", " OURS("a", GOOD(NOW)) ", " OURS("b", GOOD(NOW))},
        {"conditions that are no list",
         "'ancestors': [{'ancestorRef': " REFERENCE(
                 "g") ", 'controllerName': 'postern.dev/backend-tls', 'conditions': 7}]",
         WANTED(G("g")), 1,
         "{'ancestorRef': " REFERENCE("g") ", 'controllerName': 'postern.dev/backend-tls', 'conditions': [" GOOD(
                 NOW) "]}"},
        {"entries that are no maps are somebody's", "'ancestors': [7, null]", WANTED(G("g")), 1,
         "7, null, " OURS("g", GOOD(NOW))},
        {"a list that is none", "'ancestors': 'x'", WANTED(G("g")), 1, OURS("g", GOOD(NOW))},
};

static json_t *policy_with(const char *status)
{
	_cleanup_free_ char *text = NULL;

	assert_true(asprintf(&text,
	                     "{'metadata': {'namespace': 'n', 'name': 'p', 'generation': 3, 'resourceVersion': '7'}, "
	                     "'spec': {'x': 1}%s%s%s}",
	                     status ? ", 'status': {" : "", status ? status : "", status ? "}" : "") > 0);
	return parse(text);
}

static void check(const struct row *row)
{
	_cleanup_json_ json_t *policy = policy_with(row->status), *before = json_deep_copy(policy),
	                      *wanted = parse(row->wanted), *expected = NULL;
	_cleanup_free_ char *text = NULL, *seen = NULL;
	int result = policy_status_merge(policy, wanted, NOW);

	if (result != row->result)
		fail_msg("%s: expected %d, saw %d", row->name, row->result, result);
	if (result != 1) {
		if (!json_equal(policy, before))
			fail_msg("%s: changed without a word", row->name);
		return;
	}
	assert_true(asprintf(&text, "[%s]", row->ancestors) > 0);
	expected = parse(text);
	seen = json_dumps(json_object_get(json_object_get(policy, "status"), "ancestors"), 0);
	if (!json_equal(json_object_get(json_object_get(policy, "status"), "ancestors"), expected))
		fail_msg("%s:\nexpected %s\nsaw %s", row->name, text, seen);
	json_object_del(policy, "status");
	json_object_del(before, "status");
	if (!json_equal(policy, before))
		fail_msg("%s: more than the status changed", row->name);
	/* Once written, it is as it should be. */
	json_object_set_new(policy, "status", json_pack("{s:O}", "ancestors", expected));
	assert_int_equal(policy_status_merge(policy, wanted, "2027-01-01T00:00:00Z"), 0);
}

static void table(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check(&rows[i]);
}

/* What was made of another generation is not written, whichever is greater. */
static void other_generation(void **state)
{
	_cleanup_json_ json_t *wanted = parse(WANTED(G("g")));

	(void)state;
	for (json_int_t generation = 2; generation <= 4; generation++) {
		_cleanup_json_ json_t *policy = policy_with(NULL);

		json_object_set_new(json_object_get(policy, "metadata"), "generation", json_integer(generation));
		assert_int_equal(policy_status_merge(policy, wanted, NOW), generation == 3 ? 1 : -ESTALE);
	}
}

/* n Gateways wanted, o entries of others: how many are ours afterwards? */
static void sixteen(void **state)
{
	static const struct {
		int wanted, others, ours;
	} cases[] = {{16, 0, 16}, {17, 0, 16}, {20, 10, 6}, {3, 16, 0}, {3, 15, 1}, {3, 13, 3}, {1, 20, 0}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		_cleanup_json_ json_t *policy = policy_with(NULL), *wanted = parse(WANTED("")), *others = json_array();
		json_t *entry;
		int ours = 0, result;
		size_t index;

		for (int j = 0; j < cases[i].others; j++)
			json_array_append_new(others, parse(THEIRS("a")));
		for (int j = 0; j < cases[i].wanted; j++) {
			char name[16];

			snprintf(name, sizeof(name), "g%02d", j);
			json_array_append_new(json_object_get(wanted, "ancestors"),
			                      json_pack("{s:s, s:s}", "namespace", "n", "name", name));
		}
		json_object_set_new(policy, "status", json_pack("{s:O}", "ancestors", others));
		result = policy_status_merge(policy, wanted, NOW);
		assert_int_equal(result, cases[i].ours != 0);
		json_array_foreach (json_object_get(json_object_get(policy, "status"), "ancestors"), index, entry) {
			const char *controller = json_string_value(json_object_get(entry, "controllerName"));
			char name[16];

			if (strcmp(controller, POSTERN_CONTROLLER_NAME))
				continue;
			snprintf(name, sizeof(name), "g%02d", ours++);
			assert_string_equal(name, json_string_value(json_object_get(
			                                  json_object_get(entry, "ancestorRef"), "name")));
		}
		if (ours != cases[i].ours)
			fail_msg("%d wanted, %d of others: expected %d of ours, saw %d", cases[i].wanted,
			         cases[i].others, cases[i].ours, ours);
	}
}

struct object_row {
	const char *name, *status, *wanted;
	int result;
	const char *conditions;
};

#define PENDING                                                                                                        \
	"{'type': 'Accepted', 'status': 'Unknown', 'reason': 'Pending', 'lastTransitionTime': '1970-01-01T00:00:00Z'}"
#define FULL(generation, time) CONDITION("postern.dev/Full", "True", generation, "Full", "m", time)

static const struct object_row objects[] = {
        {"none", "{}", "{'generation': 3, 'conditions': []}", 0, NULL},
        {"what is not there need not go", "{'conditions': [" PENDING "]}",
         "{'generation': 3, 'absent': ['postern.dev/Full']}", 0, NULL},
        {"what is there goes, the rest stays",
         "{'conditions': [" PENDING ", " FULL("1", OLD) "], 'listeners': [{'a': 1}]}",
         "{'generation': 3, 'absent': ['postern.dev/Full']}", 1, PENDING},
        {"defaults are written over", "{'conditions': [" PENDING "]}", WANTED(""), 1, GOOD(NOW)},
        {"no status", NULL, WANTED(""), 1, GOOD(NOW)},
        {"another spec", "{}", "{'generation': 2, 'conditions': []}", -ESTALE, NULL},
        {"a greater generation", "{'conditions': [" FULL("4", OLD) ", " PENDING "]}",
         "{'generation': 3, 'conditions': [{'type': 'postern.dev/Full', 'status': false, 'reason': 'r', 'message': "
         "''}, "
         "{'type': 'Accepted', 'status': true, 'reason': 'Accepted', 'message': 'm'}]}",
         0, NULL},
};

static void conditions_of_objects(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++) {
		const struct object_row *row = &objects[i];
		_cleanup_json_ json_t *object = parse("{'metadata': {'generation': 3}}"), *wanted = parse(row->wanted),
		                      *expected = NULL;
		_cleanup_free_ char *text = NULL, *seen = NULL;
		int result;

		if (row->status)
			json_object_set_new(object, "status", parse(row->status));
		result = object_conditions_merge(object, wanted, NOW);
		if (result != row->result)
			fail_msg("%s: expected %d, saw %d", row->name, row->result, result);
		if (result != 1)
			continue;
		assert_true(asprintf(&text, "[%s]", row->conditions) > 0);
		expected = parse(text);
		seen = json_dumps(json_object_get(json_object_get(object, "status"), "conditions"), 0);
		if (!json_equal(json_object_get(json_object_get(object, "status"), "conditions"), expected))
			fail_msg("%s:\nexpected %s\nsaw %s", row->name, text, seen);
		assert_int_equal(object_conditions_merge(object, wanted, NOW), 0);
	}
}

static void times(void **state)
{
	const struct timespec time = {1700000000, 120034999};
	char text[TIME_TEXT_MAX];

	(void)state;
	assert_string_equal(condition_time(&time, false, text), "2023-11-14T22:13:20Z");
	assert_string_equal(condition_time(&time, true, text), "2023-11-14T22:13:20.120034Z");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(table),   cmocka_unit_test(other_generation),
	        cmocka_unit_test(sixteen), cmocka_unit_test(conditions_of_objects),
	        cmocka_unit_test(times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
