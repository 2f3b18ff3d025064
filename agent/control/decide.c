/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Questions of the workers: what is this key, as of now? They come from connects that the kernel held (HOLD), and from
 * connects that it sent to the agent by a verdict that the snapshot has given up since.
 *
 * The source is asked for the state as of now, once for all who wait (source_make_current()): whether anything names a
 * key that nobody knows, and no policy can cover what nothing names; only if something does, whether it is covered.
 * That is what most questions cost less by: policies may be many. A covered key is the worker's to look up. Any other
 * is PLAIN, which goes into the kernel's map before the worker is told, because the witness judges B by that map; but
 * not while the source has errors, nor if the map has no room: then it is refused. A key that is leaving the map is
 * answered when it has left, so that an object which is replaced never opens a gap.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "control/agent.h"
#include "policy/vector.h"
#include "source/source.h"

static int add(struct decisions *decisions, const struct decision *decision)
{
	int error = vector_reserve(&decisions->at, decisions->count, &decisions->capacity, sizeof(*decisions->at));

	if (!error)
		decisions->at[decisions->count++] = *decision;
	return error;
}

int decide_request(void *context, unsigned int worker_index, uint64_t question,
                   const struct postern_destination_key *key)
{
	struct agent *agent = context;
	const struct decision decision = {
	        .worker = worker_index, .question = question, .key = *key, .asked_ns = monotonic_ns()};
	int error;

	pthread_mutex_lock(&agent->decisions_lock);
	error = add(&agent->asked, &decision);
	pthread_mutex_unlock(&agent->decisions_lock);
	if (!error)
		loop_wake(agent->loop);
	return error;
}

static bool covers(const struct agent *agent, const struct postern_destination_key *key)
{
	const struct snapshot *applied = agent->maps.applied; /* NULL: the first compile failed */
	const struct destination *destination = applied ? snapshot_find(applied, key) : NULL;

	return destination && destination->verdict != POSTERN_VERDICT_PLAIN;
}

/* No object covers the key as of now: PLAIN, in the kernel's map first. The reason if it cannot be. */
static enum postern_reason let_pass(struct agent *agent, const struct postern_destination_key *key)
{
	char text[DESTINATION_TEXT_MAX];
	bool known = snapshot_find(agent->maps.applied, key) || key_table_find(&agent->maps.plain, key);
	int error = kernel_maps_let_pass(&agent->maps, key);

	if (!error && !known)
		log_info("held destination is plain", "destination=%s", destination_format(key, text));
	if (error == -EPERM)
		return REASON_POLICY_CHANGED;
	return error ? REASON_NO_MEMORY : REASON_NONE;
}

static enum postern_reason answer_to(struct agent *agent, const struct decision *decision, bool in_order)
{
	if (covers(agent, &decision->key))
		return REASON_NONE;
	return in_order && agent->maps.applied ? let_pass(agent, &decision->key) : REASON_HOLD_TIMEOUT;
}

static void answer_worker(struct agent *agent, unsigned int worker, const struct decisions *questions, bool in_order,
                          uint64_t as_of_ns)
{
	_cleanup_free_ struct hold_answer *answers = calloc(questions->count, sizeof(*answers));
	size_t count = 0;

	if (!answers)
		return; /* the worker's limit answers: refused */
	for (size_t i = 0; i < questions->count; i++) {
		const struct decision *decision = &questions->at[i];

		if (decision->worker != worker)
			continue;
		if (!covers(agent, &decision->key) && kernel_maps_is_leaving(&agent->maps, &decision->key)) {
			(void)add(&agent->deferred, decision); /* without memory: the worker's limit */
			continue;
		}
		answers[count++] = (struct hold_answer){
		        .question = decision->question,
		        .refusal = answer_to(agent, decision, in_order),
		};
	}
	if (count)
		worker_hold_answered(agent->workers[worker], as_of_ns, answers, count);
}

static void answer(struct agent *agent, const struct decisions *questions, uint64_t as_of_ns, bool in_order)
{
	for (unsigned int i = 0; questions->count && i < agent->worker_count; i++)
		answer_worker(agent, i, questions, in_order, as_of_ns);
}

/* What the workers asked since, behind what waits already. */
static void take_asked(struct agent *agent)
{
	struct decisions asked;

	pthread_mutex_lock(&agent->decisions_lock);
	asked = agent->asked;
	agent->asked = (struct decisions){0};
	pthread_mutex_unlock(&agent->decisions_lock);
	for (size_t i = 0; i < asked.count; i++) {
		if (add(&agent->waiting, &asked.at[i]) != 0)
			break; /* the worker's limit answers those: refused */
	}
	free(asked.at);
}

/* What has to be known as of now before it can be answered? */
static enum source_scope scope_of(const struct agent *agent, const struct decision *decision)
{
	const struct snapshot *applied = agent->maps.applied;

	return applied && snapshot_find(applied, &decision->key) ? SOURCE_ALL : SOURCE_ADDRESSES;
}

static void ask(struct agent *agent, uint64_t now)
{
	enum source_scope scope = SOURCE_ADDRESSES;

	for (size_t i = 0; i < agent->waiting.count; i++)
		if (scope_of(agent, &agent->waiting.at[i]) == SOURCE_ALL)
			scope = SOURCE_ALL;
	if (agent->waiting.count)
		source_make_current(agent->source, now, scope);
}

void decide_pending(struct agent *agent)
{
	uint64_t now = monotonic_ns();

	take_asked(agent);
	if (agent->source)
		ask(agent, now);
	else
		decide_answer(agent, now, SOURCE_ALL, true);
}

/* Something names a key that nothing did when it was asked: now its coverage is the question. */
static bool goes_on(const struct agent *agent, const struct decision *decision, enum source_scope scope)
{
	return scope_of(agent, decision) > scope && !covers(agent, &decision->key);
}

void decide_answer(struct agent *agent, uint64_t as_of_ns, enum source_scope scope, bool in_order)
{
	struct decisions waiting = agent->waiting, answered = {0};
	bool asks = false;

	agent->waiting = (struct decisions){0};
	for (size_t i = 0; i < waiting.count; i++) { /* without memory: the worker's limit */
		const struct decision *decision = &waiting.at[i];
		bool is_due = decision->asked_ns <= as_of_ns, is_open = is_due && goes_on(agent, decision, scope);

		asks |= is_open;
		(void)add(is_due && !is_open ? &answered : &agent->waiting, decision);
	}
	free(waiting.at);
	answer(agent, &answered, as_of_ns, in_order);
	free(answered.at);
	if (asks)
		ask(agent, monotonic_ns());
}

void decide_deferred(struct agent *agent)
{
	struct decisions deferred = agent->deferred;
	uint64_t now = monotonic_ns();

	if (!deferred.count)
		return;
	agent->deferred = (struct decisions){0};
	take_asked(agent);
	/* Asked once more, of the state as of now. */
	for (size_t i = 0; i < deferred.count; i++) {
		deferred.at[i].asked_ns = now;
		(void)add(&agent->waiting, &deferred.at[i]); /* without memory: the worker's limit */
	}
	free(deferred.at);
	decide_pending(agent);
}

void decide_free(struct agent *agent)
{
	free(agent->asked.at);
	free(agent->waiting.at);
	free(agent->deferred.at);
	agent->asked = agent->waiting = agent->deferred = (struct decisions){0};
}
