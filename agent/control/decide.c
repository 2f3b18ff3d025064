/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Questions of the workers: what is this key, as of now? They come from connects that the kernel held (HOLD), and from
 * connects that it sent to the agent by a verdict that the snapshot has given up since.
 *
 * The source is read as of now, once for all who wait. A covered key is the worker's to look up. Any other is PLAIN,
 * which goes into the kernel's map before the worker is told, because the witness judges B by that map; but not while
 * the source has errors, nor if the map has no room: then it is refused. A key that is leaving the map is answered when
 * it has left, so that an object which is replaced never opens a gap.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "control/agent.h"
#include "policy/vector.h"

/* Without inotify's word the directory is read again if the last read is older. */
#define FILES_FRESH_NS 100000000ull

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
	const struct decision decision = {.worker = worker_index, .question = question, .key = *key};
	int error;

	pthread_mutex_lock(&agent->decisions_lock);
	error = add(&agent->asked, &decision);
	pthread_mutex_unlock(&agent->decisions_lock);
	if (!error)
		loop_wake(agent->loop);
	return error;
}

/* In the order in which they were asked: the deferred ones came first. */
static struct decisions take_questions(struct agent *agent)
{
	struct decisions questions = agent->deferred;
	struct decisions asked;

	agent->deferred = (struct decisions){0};
	pthread_mutex_lock(&agent->decisions_lock);
	asked = agent->asked;
	agent->asked = (struct decisions){0};
	pthread_mutex_unlock(&agent->decisions_lock);
	if (questions.count == 0) {
		free(questions.at);
		return asked;
	}
	for (size_t i = 0; i < asked.count; i++) {
		if (add(&questions, &asked.at[i]) != 0)
			break; /* the worker's limit answers those: refused */
	}
	free(asked.at);
	return questions;
}

static bool covers(const struct agent *agent, const struct postern_destination_key *key)
{
	const struct destination *destination = snapshot_find(agent->maps.applied, key);

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
	return error ? REASON_NO_MEMORY : REASON_NONE;
}

static enum postern_reason answer_to(struct agent *agent, const struct decision *decision, bool in_order)
{
	if (covers(agent, &decision->key))
		return REASON_NONE;
	return in_order ? let_pass(agent, &decision->key) : REASON_HOLD_TIMEOUT;
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

void decide_pending(struct agent *agent)
{
	struct decisions questions = take_questions(agent);
	uint64_t as_of_ns = monotonic_ns();
	bool in_order;

	if (questions.count) {
		in_order = sync_refresh(agent, as_of_ns - agent->files_read_ns > FILES_FRESH_NS);
		for (unsigned int i = 0; i < agent->worker_count; i++)
			answer_worker(agent, i, &questions, in_order, as_of_ns);
	}
	free(questions.at);
}

void decide_free(struct agent *agent)
{
	free(agent->asked.at);
	free(agent->deferred.at);
	agent->asked = agent->deferred = (struct decisions){0};
}
