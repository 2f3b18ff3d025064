/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * HOLD's answers: of what the source is asked (each scope), and what an answer to one scope settles. The kernel's maps,
 * the source and the workers are played; the maps' rule, that no covered key passes, is looked at after each write.
 */
#include "maps_played.h"

#include "base/loop.h"
#include "control/agent.h"
#include "datapath/worker.h"
#include "source/source.h"

#define NOTHING (-1) /* the source is not asked */
#define OPEN    (-1) /* the worker is not answered */

/* ---- the source and the workers, played ---- */

static struct {
	int scope; /* of what the source was asked since the last look; NOTHING */
	unsigned int questions;
	uint64_t as_of_ns;
} asked;

static void make_current(struct source *source, uint64_t as_of_ns, enum source_scope scope)
{
	(void)source;
	asked.scope = (int)scope;
	asked.questions++;
	asked.as_of_ns = as_of_ns;
}

static const struct source_operations operations = {.make_current = make_current};
static struct source source = {.operations = &operations};

static struct {
	int refusal; /* of each question; OPEN */
	unsigned int worker;
} answered[8];

void worker_hold_answered(struct worker *worker, uint64_t as_of_ns, const struct hold_answer *answers, size_t count)
{
	(void)as_of_ns;
	assert_true(count > 0);
	for (size_t i = 0; i < count; i++) {
		assert_true(answers[i].question < ARRAY_SIZE(answered));
		assert_int_equal(answered[answers[i].question].refusal, OPEN); /* one answer each */
		answered[answers[i].question].refusal = (int)answers[i].refusal;
		answered[answers[i].question].worker = (unsigned int)((uintptr_t)worker - 1);
	}
}

/* ---- the agent ---- */

static struct agent agent;
static struct worker *workers[] = {(struct worker *)1, (struct worker *)2};

static int begin_agent(void **state)
{
	begin(state);
	agent = (struct agent){.source = &source, .workers = workers, .worker_count = ARRAY_SIZE(workers)};
	assert_int_equal(pthread_mutex_init(&agent.decisions_lock, NULL), 0);
	assert_int_equal(loop_new(&agent.loop), 0);
	asked.scope = NOTHING;
	asked.questions = 0;
	for (size_t i = 0; i < ARRAY_SIZE(answered); i++)
		answered[i].refusal = OPEN;
	assert_int_equal(kernel_maps_start(&agent.maps, NULL, &(struct postern_runtime_config){0}, 600000 * MS), 0);
	return 0;
}

static int end_agent(void **state)
{
	(void)state;
	decide_free(&agent);
	kernel_maps_stop(&agent.maps);
	loop_free(agent.loop);
	pthread_mutex_destroy(&agent.decisions_lock);
	return 0;
}

/* What a snapshot says of 10.0.0.1:443, beside a covered 10.0.0.2:443 that makes the port a guarded one. */
enum named { NO_SNAPSHOT, BY_NOTHING, AS_PLAIN, AS_TLS, AS_DENY };

static void show(enum named named)
{
	const struct row rows[] = {{2, 443, TLS, 1},
	                           {1, 443,
	                            named == AS_TLS    ? TLS
	                            : named == AS_DENY ? DENY
	                                               : PLAIN,
	                            named == AS_TLS}};
	struct snapshot *snapshot;

	if (named == NO_SNAPSHOT)
		return;
	snapshot = make(rows, named == BY_NOTHING ? 1 : 2);
	kernel_maps_apply(&agent.maps, snapshot, T0, &change);
	snapshot_unref(snapshot);
}

static void ask_for(unsigned int worker, uint64_t question, unsigned int host)
{
	const struct postern_destination_key key = key_of(host, 443);

	assert_int_equal(decide_request(&agent, worker, question, &key), 0);
}

static int asked_since(void)
{
	int scope = asked.scope;

	asked.scope = NOTHING;
	return scope;
}

/* ---- one question ---- */

/* The question is asked while `before` is shown; then `after` is, and the source says that it is so, of a scope. */
static const struct scope_row {
	const char *title;
	enum named before;
	int scope; /* asked of the source */
	enum named after;
	enum source_scope answer;
	bool in_order;
	int refusal;                  /* or OPEN */
	int next;                     /* asked of the source then; NOTHING */
	enum postern_verdict verdict; /* in the kernel's maps at the end */
} scope_rows[] = {
        /* Nothing names it: whether anything does is the cheaper question. */
        {"nobody's", BY_NOTHING, SOURCE_ADDRESSES, BY_NOTHING, SOURCE_ADDRESSES, true, REASON_NONE, NOTHING, PLAIN},
        {"nobody's, and more was read than asked", BY_NOTHING, SOURCE_ADDRESSES, BY_NOTHING, SOURCE_ALL, true,
         REASON_NONE, NOTHING, PLAIN},
        {"nobody's, but something is missing", BY_NOTHING, SOURCE_ADDRESSES, BY_NOTHING, SOURCE_ADDRESSES, false,
         REASON_HOLD_TIMEOUT, NOTHING, HOLD},
        {"named since, uncovered: is it still?", BY_NOTHING, SOURCE_ADDRESSES, AS_PLAIN, SOURCE_ADDRESSES, true, OPEN,
         SOURCE_ALL, PLAIN},
        {"named since, uncovered, all was read", BY_NOTHING, SOURCE_ADDRESSES, AS_PLAIN, SOURCE_ALL, true, REASON_NONE,
         NOTHING, PLAIN},
        {"named since, uncovered, but something is missing", BY_NOTHING, SOURCE_ADDRESSES, AS_PLAIN, SOURCE_ALL, false,
         REASON_HOLD_TIMEOUT, NOTHING, PLAIN},
        {"covered since: the worker's to look up", BY_NOTHING, SOURCE_ADDRESSES, AS_TLS, SOURCE_ADDRESSES, true,
         REASON_NONE, NOTHING, TLS},
        {"covered since, though something is missing", BY_NOTHING, SOURCE_ADDRESSES, AS_TLS, SOURCE_ADDRESSES, false,
         REASON_NONE, NOTHING, TLS},
        {"refused since", BY_NOTHING, SOURCE_ADDRESSES, AS_DENY, SOURCE_ADDRESSES, true, REASON_NONE, NOTHING, DENY},
        /* An object names it: whether a policy covers it is what counts. */
        {"uncovered", AS_PLAIN, SOURCE_ALL, AS_PLAIN, SOURCE_ALL, true, REASON_NONE, NOTHING, PLAIN},
        {"uncovered, and less was read than asked", AS_PLAIN, SOURCE_ALL, AS_PLAIN, SOURCE_ADDRESSES, true, OPEN,
         SOURCE_ALL, PLAIN},
        {"uncovered, but something is missing", AS_PLAIN, SOURCE_ALL, AS_PLAIN, SOURCE_ALL, false, REASON_HOLD_TIMEOUT,
         NOTHING, PLAIN},
        {"uncovered, and covered since", AS_PLAIN, SOURCE_ALL, AS_TLS, SOURCE_ALL, true, REASON_NONE, NOTHING, TLS},
        {"uncovered, and covered by less than all", AS_PLAIN, SOURCE_ALL, AS_TLS, SOURCE_ADDRESSES, true, REASON_NONE,
         NOTHING, TLS},
        {"covered", AS_TLS, SOURCE_ALL, AS_TLS, SOURCE_ALL, true, REASON_NONE, NOTHING, TLS},
        {"covered, though something is missing", AS_TLS, SOURCE_ALL, AS_TLS, SOURCE_ALL, false, REASON_NONE, NOTHING,
         TLS},
        {"refused", AS_DENY, SOURCE_ALL, AS_DENY, SOURCE_ALL, true, REASON_NONE, NOTHING, DENY},
        /* It leaves the maps: answered when it has left, so that an object which is replaced opens no gap. */
        {"covered no more", AS_TLS, SOURCE_ALL, AS_PLAIN, SOURCE_ALL, true, OPEN, NOTHING, TLS},
        {"covered no more, by less than all", AS_TLS, SOURCE_ALL, AS_PLAIN, SOURCE_ADDRESSES, true, OPEN, SOURCE_ALL,
         TLS},
        {"named no more", AS_TLS, SOURCE_ALL, BY_NOTHING, SOURCE_ALL, true, OPEN, NOTHING, TLS},
        /* The first snapshot came after the question. */
        {"no snapshot, then nobody's", NO_SNAPSHOT, SOURCE_ADDRESSES, BY_NOTHING, SOURCE_ADDRESSES, true, REASON_NONE,
         NOTHING, PLAIN},
        {"no snapshot, then uncovered", NO_SNAPSHOT, SOURCE_ADDRESSES, AS_PLAIN, SOURCE_ADDRESSES, true, OPEN,
         SOURCE_ALL, PLAIN},
        {"no snapshot, then covered", NO_SNAPSHOT, SOURCE_ADDRESSES, AS_TLS, SOURCE_ADDRESSES, true, REASON_NONE,
         NOTHING, TLS},
        {"no snapshot, none yet: nothing is let pass", NO_SNAPSHOT, SOURCE_ADDRESSES, NO_SNAPSHOT, SOURCE_ALL, true,
         REASON_HOLD_TIMEOUT, NOTHING, NONE},
};

static void expect_row(const struct scope_row *row)
{
	const struct postern_destination_key key = key_of(1, 443);
	int scope, next;

	show(row->before);
	ask_for(0, 0, 1);
	decide_pending(&agent);
	scope = asked_since();
	show(row->after);
	decide_answer(&agent, asked.as_of_ns, row->answer, row->in_order);
	next = asked_since();
	if (scope != row->scope || next != row->next)
		fail_msg("%s: expected scope %d and then %d, saw %d and %d", row->title, row->scope, row->next, scope,
		         next);
	if (answered[0].refusal != row->refusal)
		fail_msg("%s: expected answer %d, saw %d", row->title, row->refusal, answered[0].refusal);
	if (judge(&key) != row->verdict)
		fail_msg("%s: expected verdict %u in the maps, saw %u", row->title, row->verdict, judge(&key));
}

static void every_scope(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(scope_rows); i++) {
		if (i) {
			end_agent(state);
			begin_agent(state);
		}
		expect_row(&scope_rows[i]);
	}
}

/* ---- several questions ---- */

static void one_question_of_the_source_for_all(void **state)
{
	(void)state;
	show(AS_PLAIN);
	ask_for(0, 0, 7);
	ask_for(1, 1, 8);
	decide_pending(&agent);
	assert_int_equal(asked_since(), SOURCE_ADDRESSES);
	/* One that an object names makes it the larger one, for all who wait. */
	ask_for(1, 2, 1);
	decide_pending(&agent);
	assert_int_equal(asked_since(), SOURCE_ALL);
	assert_int_equal(asked.questions, 2);
	decide_answer(&agent, asked.as_of_ns, SOURCE_ALL, true);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(answered[i].refusal, REASON_NONE);
	assert_int_equal(answered[0].worker, 0);
	assert_int_equal(answered[1].worker, 1);
	assert_int_equal(answered[2].worker, 1);
	assert_int_equal(asked_since(), NOTHING);
}

static void an_older_state_answers_nobody(void **state)
{
	uint64_t before = monotonic_ns() - 1;

	(void)state;
	show(AS_TLS);
	ask_for(0, 0, 7);
	ask_for(0, 1, 1);
	decide_pending(&agent);
	decide_answer(&agent, before, SOURCE_ALL, true);
	assert_int_equal(answered[0].refusal, OPEN);
	assert_int_equal(answered[1].refusal, OPEN);
	decide_answer(&agent, asked.as_of_ns, SOURCE_ALL, true);
	assert_int_equal(answered[0].refusal, REASON_NONE);
	assert_int_equal(answered[1].refusal, REASON_NONE);
}

/* The smaller scope settles one of two, and the other goes on. */
static void part_of_an_answer(void **state)
{
	(void)state;
	show(AS_PLAIN);
	ask_for(0, 0, 7);
	ask_for(0, 1, 1);
	decide_pending(&agent);
	assert_int_equal(asked_since(), SOURCE_ALL);
	decide_answer(&agent, asked.as_of_ns, SOURCE_ADDRESSES, true);
	assert_int_equal(answered[0].refusal, REASON_NONE);
	assert_int_equal(answered[1].refusal, OPEN);
	assert_int_equal(asked_since(), SOURCE_ALL);
	decide_answer(&agent, asked.as_of_ns, SOURCE_ALL, true);
	assert_int_equal(answered[1].refusal, REASON_NONE);
}

static void what_left_the_maps_is_asked_once_more(void **state)
{
	(void)state;
	show(AS_TLS);
	ask_for(0, 0, 1);
	decide_pending(&agent);
	show(BY_NOTHING);
	decide_answer(&agent, asked.as_of_ns, SOURCE_ALL, true);
	assert_int_equal(answered[0].refusal, OPEN);
	(void)asked_since();
	kernel_maps_settle(&agent.maps, T0 + 1000 * MS, true);
	decide_deferred(&agent);
	assert_int_equal(asked_since(), SOURCE_ADDRESSES);
	decide_answer(&agent, asked.as_of_ns, SOURCE_ADDRESSES, true);
	assert_int_equal(answered[0].refusal, REASON_NONE);
	expect(1, 443, PLAIN);
}

static void no_room_is_a_refusal(void **state)
{
	(void)state;
	show(BY_NOTHING);
	kernel.room = kernel.count;
	ask_for(0, 0, 1);
	decide_pending(&agent);
	decide_answer(&agent, asked.as_of_ns, SOURCE_ADDRESSES, true);
	assert_int_equal(answered[0].refusal, REASON_NO_MEMORY);
	expect(1, 443, HOLD);
}

static void without_a_source_the_snapshot_answers(void **state)
{
	(void)state;
	agent.source = NULL;
	show(AS_DENY);
	ask_for(0, 0, 1);
	ask_for(0, 1, 7);
	decide_pending(&agent);
	assert_int_equal(answered[0].refusal, REASON_NONE);
	assert_int_equal(answered[1].refusal, REASON_NONE);
	expect(1, 443, DENY);
	expect(7, 443, PLAIN);
	assert_int_equal(asked_since(), NOTHING);
}

#define OF_AGENT(test) cmocka_unit_test_setup_teardown(test, begin_agent, end_agent)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        OF_AGENT(every_scope),
	        OF_AGENT(one_question_of_the_source_for_all),
	        OF_AGENT(an_older_state_answers_nobody),
	        OF_AGENT(part_of_an_answer),
	        OF_AGENT(what_left_the_maps_is_asked_once_more),
	        OF_AGENT(no_room_is_a_refusal),
	        OF_AGENT(without_a_source_the_snapshot_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
