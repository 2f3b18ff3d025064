// SPDX-License-Identifier: GPL-2.0-only
/* The readiness gate: who is asked when, what follows from what agents say, and what is written into a Pod or a Node.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "controller/enrolments.h"
#include "controller/json_cleanup.h"
#include "controller/pod_readiness.h"
#include "controller/startup_taint.h"
#include "node/pod_gateways.h"
#include "policy/object.h"
#include "policy_fixture.h"

#define SECOND 1000000000ull
#define GRACE  (30 * SECOND)
#define GATED  "readinessGates: [{conditionType: other}, {conditionType: postern.dev/enrolled}]"
#define POD(name, node, labels, spec)                                                                                  \
	"---\napiVersion: v1\nkind: Pod\nmetadata: {name: " name ", namespace: default, uid: uid-" name                \
	", labels: {" labels "}}\nspec: {nodeName: " node ", " spec "}\nstatus: {phase: Running}\n"
#define OF_EDGE "gateway.networking.k8s.io/gateway-name: edge"

/* The fleet of the test: what agents_of() says of every node but "empty". */
struct played {
	struct policy_fixture *fixture;
	struct pod_gateways pods;
	struct enrolments *enrolments;
	struct fleet_agent agents[2];
	size_t agent_count;
	unsigned int asked, changes;
};

static size_t agents_of(void *context, const char *node, struct fleet_agent *at, size_t max)
{
	const struct played *played = context;

	assert_true(max >= played->agent_count);
	if (!strcmp(node, "empty"))
		return 0;
	memcpy(at, played->agents, sizeof(played->agents));
	return played->agent_count;
}

static int ask(void *context, const char *agent, const char *address)
{
	assert_string_equal(address, "10.0.0.1");
	assert_memory_equal(agent, "posternd-", 9);
	((struct played *)context)->asked++;
	return 0;
}

static void on_change(void *context)
{
	((struct played *)context)->changes++;
}

static void begin(struct played *played, const char *yaml)
{
	const struct enrolments_options options = {
	        .grace_ns = GRACE, .agents_of = agents_of, .ask = ask, .on_change = on_change, .context = played};

	*played = (struct played){.agents = {{"posternd-a", "10.0.0.1"}, {"posternd-b", "10.0.0.1"}}, .agent_count = 1};
	played->fixture = policy_fixture_new();
	fixture_add(played->fixture, yaml);
	assert_int_equal(pod_gateways_find(played->fixture->store, "", &played->pods), 0);
	played->enrolments = enrolments_new(&options);
	assert_non_null(played->enrolments);
}

static void end(struct played *played)
{
	enrolments_free(played->enrolments);
	pod_gateways_free(&played->pods);
	policy_fixture_free(played->fixture);
}

static uint64_t update(struct played *played, uint64_t now_ns)
{
	return enrolments_update(played->enrolments, played->fixture->store, &played->pods, true, now_ns);
}

static void says(struct played *played, const char *agent, const char *text)
{
	_cleanup_json_ json_t *answer = json_loads(text, 0, NULL);

	assert_non_null(answer);
	enrolments_answer(played->enrolments, agent, answer, "");
}

static const struct object *pod_of(const struct played *played, const char *name)
{
	const struct object *pod = object_store_find(played->fixture->store, OBJECT_POD, "default", name);

	assert_non_null(pod);
	return pod;
}

static struct enrolment_verdict judge(const struct played *played, const char *name)
{
	struct enrolment_verdict verdict;

	enrolments_judge(played->enrolments, pod_of(played, name), &played->pods, &verdict);
	return verdict;
}

#define ANSWER(serving, pods) "{\"serving\": " serving ", \"pods\": [" pods "]}"
#define ENTRY(uid, enrolled)                                                                                           \
	"{\"namespace\": \"default\", \"name\": \"x\", \"uid\": \"" uid "\", \"enrolled\": " enrolled                  \
	", \"reason\": \"no cgroup\"}"

/* What agents say, one after the other, and what follows. */
static void verdicts(void **state)
{
	static const struct {
		const char *first, *second; /* NULL: it has not answered */
		enum enrolment_word word;
		const char *reason, *in_message;
	} rows[] = {
	        {NULL, NULL, ENROLMENT_UNKNOWN, "", ""},
	        {ANSWER("true", ENTRY("uid-web", "true")), NULL, ENROLMENT_YES, "Enrolled", "hooks"},
	        {ANSWER("true", ENTRY("uid-web", "false")), NULL, ENROLMENT_NO, "NotEnrolled",
	         "posternd-a says: no cgroup"},
	        {ANSWER("true", ""), NULL, ENROLMENT_NO, "NotSeen", "posternd-a"},
	        {ANSWER("true", ENTRY("uid-other", "true")), NULL, ENROLMENT_NO, "NotSeen", ""},
	        {ANSWER("false", ENTRY("uid-web", "true")), NULL, ENROLMENT_UNKNOWN, "", ""},
	        /* A rollout: the one that was replaced counts no more, in either order. */
	        {ANSWER("false", ENTRY("uid-web", "false")), ANSWER("true", ENTRY("uid-web", "true")), ENROLMENT_YES,
	         "Enrolled", ""},
	        {ANSWER("true", ENTRY("uid-web", "true")), ANSWER("true", ""), ENROLMENT_YES, "Enrolled", ""},
	        {ANSWER("true", ""), ANSWER("true", ENTRY("uid-web", "true")), ENROLMENT_YES, "Enrolled", ""},
	        {ANSWER("true", ""), ANSWER("true", ENTRY("uid-web", "false")), ENROLMENT_NO, "NotEnrolled", ""},
	        /* Nonsense is no yes. */
	        {"{}", NULL, ENROLMENT_UNKNOWN, "", ""},
	        {"{\"serving\": 1, \"pods\": 7}", NULL, ENROLMENT_UNKNOWN, "", ""},
	        {"{\"serving\": true, \"pods\": [7, null, {\"uid\": [\"uid-web\"], \"enrolled\": true}]}", NULL,
	         ENROLMENT_NO, "NotSeen", ""},
	        {"{\"serving\": true, \"pods\": [{\"uid\": \"uid-web\", \"enrolled\": \"true\", \"reason\": 3}]}", NULL,
	         ENROLMENT_NO, "NotEnrolled", ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct enrolment_verdict verdict;
		struct played played;

		begin(&played, POD("web", "node-1", OF_EDGE, GATED));
		played.agent_count = 2;
		(void)update(&played, SECOND);
		if (rows[i].first)
			says(&played, "posternd-a", rows[i].first);
		if (rows[i].second)
			says(&played, "posternd-b", rows[i].second);
		verdict = judge(&played, "web");
		if (verdict.word != rows[i].word || strcmp(verdict.reason, rows[i].reason) != 0 ||
		    !strstr(verdict.message, rows[i].in_message))
			fail_msg("row %zu: expected %d %s \"%s\", saw %d %s \"%s\"", i, rows[i].word, rows[i].reason,
			         rows[i].in_message, verdict.word, verdict.reason, verdict.message);
		end(&played);
	}
}

/* Soon while somebody is not enrolled, later when all are; an answer counts as long as its agent is Ready. */
static void asking(void **state)
{
	struct played played;

	(void)state;
	begin(&played, POD("web", "node-1", OF_EDGE, GATED) POD("plain", "node-2", OF_EDGE, "restartPolicy: Always"));
	assert_int_equal(update(&played, 10 * SECOND), ENROLMENTS_SOON_NS);
	assert_int_equal(played.asked, 1); /* node-2 has no Pod with the gate */
	assert_int_equal(update(&played, 11 * SECOND), ENROLMENTS_SOON_NS - SECOND);
	assert_int_equal(played.asked, 1);
	(void)update(&played, 12 * SECOND);
	assert_int_equal(played.asked, 2);
	says(&played, "posternd-a", ANSWER("true", ENTRY("uid-web", "true")));
	says(&played, "posternd-a", ANSWER("true", ENTRY("uid-web", "true")));
	assert_int_equal(played.changes, 1);
	assert_int_equal(update(&played, 14 * SECOND), ENROLMENTS_LATER_NS - 2 * SECOND);
	assert_int_equal(played.asked, 2);
	(void)update(&played, 17 * SECOND);
	assert_int_equal(played.asked, 3);
	/* It is silent: what it said stays, and /status names it. */
	enrolments_answer(played.enrolments, "posternd-a", NULL, "connection refused");
	assert_int_equal(judge(&played, "web").word, ENROLMENT_YES);
	{
		_cleanup_json_ json_t *silent = enrolments_silent(played.enrolments);

		assert_int_equal(json_array_size(silent), 1);
	}
	/* Not Ready any more: nothing is known, until the grace is over. An answer that comes late is nobody's. */
	played.agent_count = 0;
	assert_int_equal(update(&played, 20 * SECOND), GRACE);
	assert_int_equal(judge(&played, "web").word, ENROLMENT_UNKNOWN);
	says(&played, "posternd-a", ANSWER("true", ENTRY("uid-web", "true")));
	assert_int_equal(judge(&played, "web").word, ENROLMENT_UNKNOWN);
	assert_int_equal(played.changes, 1);
	assert_int_equal(update(&played, 20 * SECOND + GRACE), 0);
	assert_int_equal(played.changes, 2);
	assert_string_equal(judge(&played, "web").reason, "NoReadyAgent");
	played.agent_count = 1;
	(void)update(&played, 21 * SECOND + GRACE);
	assert_int_equal(judge(&played, "web").word, ENROLMENT_UNKNOWN);
	enrolments_forget(played.enrolments);
	end(&played);
}

static void not_asked(void **state)
{
	struct played played;

	(void)state;
	begin(&played, POD("stranger", "node-1", "app: x", GATED) POD("unbound", "''", OF_EDGE, GATED)
	                       POD("ungated", "node-1", OF_EDGE, "readinessGates: [{conditionType: other}]"));
	(void)update(&played, SECOND);
	assert_string_equal(judge(&played, "stranger").reason, "NotAGateway");
	assert_int_equal(judge(&played, "unbound").word, ENROLMENT_UNKNOWN);
	assert_int_equal(judge(&played, "ungated").word, ENROLMENT_UNKNOWN);
	end(&played);
}

static json_t *read_json(const char *text)
{
	json_t *value = json_loads(text, 0, NULL);

	assert_non_null(value);
	return value;
}

static void pod_patches(void **state)
{
	static const struct {
		const char *pod;
		int result;
		const char *patch; /* NULL: none */
	} rows[] = {
	        {"{'metadata':{'uid':'other','resourceVersion':'5'}}", -ESTALE, NULL},
	        {"{'metadata':{'uid':'u','resourceVersion':'5'},'spec':{}}", -ESTALE, NULL},
	        {"{'metadata':{'uid':'u','resourceVersion':'5'},'spec':{'readinessGates':[{'conditionType':"
	         "'postern.dev/enrolled'}]}}",
	         1,
	         "{'metadata':{'uid':'u','resourceVersion':'5'},'status':{'conditions':[{'type':'postern.dev/enrolled',"
	         "'status':'False','reason':'R','message':'M','lastTransitionTime':'NOW'}]}}"},
	        /* The others' are not in the patch; the time stays while the status does. */
	        {"{'metadata':{'uid':'u','resourceVersion':'5'},'spec':{'readinessGates':[{'conditionType':"
	         "'postern.dev/enrolled'}]},'status':{'conditions':[{'type':'Ready','status':'True'},{'type':"
	         "'postern.dev/enrolled','status':'False','reason':'Q','message':'M','lastTransitionTime':'BEFORE'}]}}",
	         1,
	         "{'metadata':{'uid':'u','resourceVersion':'5'},'status':{'conditions':[{'type':'postern.dev/enrolled',"
	         "'status':'False','reason':'R','message':'M','lastTransitionTime':'BEFORE'}]}}"},
	        {"{'metadata':{'uid':'u','resourceVersion':'5'},'spec':{'readinessGates':[{'conditionType':"
	         "'postern.dev/enrolled'}]},'status':{'conditions':[{'type':'postern.dev/enrolled','status':'False',"
	         "'reason':'R','message':'M','lastTransitionTime':'BEFORE'}]}}",
	         0, NULL},
	};
	_cleanup_json_ json_t *wanted = json_pack("{s:s, s:b, s:s, s:s}", "uid", "u", "status", 0, "reason", "R",
	                                          "message", "M");

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[1024], patch_text[1024] = "null";
		_cleanup_json_ json_t *pod = NULL, *patch = NULL, *expected = NULL;

		snprintf(text, sizeof(text), "%s", rows[i].pod);
		if (rows[i].patch)
			snprintf(patch_text, sizeof(patch_text), "%s", rows[i].patch);
		for (char *byte = text; *byte; byte++)
			*byte = *byte == '\'' ? '"' : *byte;
		for (char *byte = patch_text; *byte; byte++)
			*byte = *byte == '\'' ? '"' : *byte;
		pod = read_json(text);
		assert_int_equal(pod_readiness_merge(pod, wanted, "NOW"), rows[i].result);
		if (!rows[i].patch)
			continue;
		expected = read_json(patch_text);
		patch = pod_readiness_patch(pod);
		if (!json_equal(patch, expected)) {
			char *seen = json_dumps(patch, 0);

			fail_msg("row %zu: expected %s, saw %s", i, patch_text, seen);
		}
	}
}

static void taints(void **state)
{
	_cleanup_json_ json_t *wanted = json_pack("{s:s}", "uid", "u");
	_cleanup_json_ json_t *node = read_json(
	        "{\"metadata\": {\"uid\": \"u\", \"resourceVersion\": \"9\"}, \"spec\": {\"taints\": ["
	        "{\"key\": \"postern.dev/not-ready\", \"effect\": \"NoSchedule\"}, {\"key\": \"theirs\", \"effect\": "
	        "\"NoExecute\", \"timeAdded\": \"t\"}, {\"key\": \"postern.dev/not-ready\", \"effect\": "
	        "\"NoExecute\"}]}}");
	_cleanup_json_ json_t *expected = read_json(
	        "{\"metadata\": {\"uid\": \"u\", \"resourceVersion\": \"9\"}, \"spec\": {\"taints\": ["
	        "{\"key\": \"theirs\", \"effect\": \"NoExecute\", \"timeAdded\": \"t\"}]}}");
	_cleanup_json_ json_t *other = read_json("{\"metadata\": {\"uid\": \"v\"}}");
	_cleanup_json_ json_t *patch = NULL;

	(void)state;
	assert_int_equal(startup_taint_merge(other, wanted), -ESTALE);
	assert_int_equal(startup_taint_merge(node, wanted), 1);
	patch = startup_taint_patch(node);
	assert_true(json_equal(patch, expected));
	assert_int_equal(startup_taint_merge(node, wanted), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(verdicts),    cmocka_unit_test(asking), cmocka_unit_test(not_asked),
	        cmocka_unit_test(pod_patches), cmocka_unit_test(taints),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
