/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * HOLD: a worker holds a SYN to a destination that the kernel's map does not know but that could be covered. The source
 * is read as of now, once for all who wait; then the key is covered, denied, or PLAIN, and PLAIN goes into the kernel's
 * map before the worker is told, because the witness judges B by that map. A source in error gives no answer: the
 * workers' limit refuses.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "control/agent.h"
#include "datapath/hooks.h"
#include "policy/snapshot.h"

/* Without inotify's word the directory is read again if the last read is older. */
#define FILES_FRESH_NS 100000000ull
#define MAX_PLAIN_KEYS 65536

void decide_request(void *context, unsigned int worker_index, const struct postern_destination_key *key)
{
	struct agent *agent = context;

	pthread_mutex_lock(&agent->decisions_lock);
	if (agent->decision_count == agent->decision_size) {
		size_t size = agent->decision_size ? 2 * agent->decision_size : 64;
		struct decision *decisions = realloc(agent->decisions, size * sizeof(*decisions));

		if (decisions) {
			agent->decisions = decisions;
			agent->decision_size = size;
		}
	}
	/* Without memory for the question the worker's limit answers it: refused. */
	if (agent->decision_count < agent->decision_size)
		agent->decisions[agent->decision_count++] = (struct decision){.worker = worker_index, .key = *key};
	pthread_mutex_unlock(&agent->decisions_lock);
	loop_wake(agent->loop);
}

bool decide_is_plain(const struct agent *agent, const struct postern_destination_key *key)
{
	for (size_t i = 0; i < agent->plain_keys.count; i++) {
		if (memcmp(&agent->plain_keys.keys[i], key, sizeof(*key)) == 0)
			return true;
	}
	return false;
}

void decide_forget_known(struct agent *agent, const struct snapshot *snapshot)
{
	struct plain_keys *plain = &agent->plain_keys;
	size_t kept = 0;

	for (size_t i = 0; i < plain->count; i++) {
		if (!snapshot_find(snapshot, &plain->keys[i]))
			plain->keys[kept++] = plain->keys[i];
	}
	plain->count = kept;
}

static int remember_plain(struct agent *agent, const struct postern_destination_key *key)
{
	struct plain_keys *plain = &agent->plain_keys;

	if (decide_is_plain(agent, key))
		return 0;
	if (plain->count >= MAX_PLAIN_KEYS)
		return -E2BIG;
	if (plain->count == plain->size) {
		size_t size = plain->size ? 2 * plain->size : 64;
		struct postern_destination_key *keys = realloc(plain->keys, size * sizeof(*keys));

		if (!keys)
			return -ENOMEM;
		plain->keys = keys;
		plain->size = size;
	}
	plain->keys[plain->count++] = *key;
	return 0;
}

/* No object names the key as of now: PLAIN, in the kernel's map first. */
static void let_pass(struct agent *agent, const struct postern_destination_key *key)
{
	const struct postern_destination plain = {.verdict = POSTERN_VERDICT_PLAIN};
	char text[DESTINATION_TEXT_MAX];
	int error = remember_plain(agent, key);

	if (!error)
		error = hooks_set_destination(agent->hooks, key, &plain);
	if (error)
		log_error("held destination not let pass", "destination=%s error=\"%s\"", destination_format(key, text),
		          strerror(-error));
	else
		log_info("held destination is plain", "destination=%s", destination_format(key, text));
}

void decide_pending(struct agent *agent)
{
	struct decision *decisions;
	size_t count;
	uint64_t as_of_ns;
	bool asked[POSTERN_MAX_WORKERS] = {false};

	pthread_mutex_lock(&agent->decisions_lock);
	decisions = agent->decisions;
	count = agent->decision_count;
	agent->decisions = NULL;
	agent->decision_count = 0;
	agent->decision_size = 0;
	pthread_mutex_unlock(&agent->decisions_lock);
	if (count == 0)
		return;

	as_of_ns = monotonic_ns();
	if (!sync_refresh(agent, as_of_ns - agent->files_read_ns > FILES_FRESH_NS)) {
		log_warning("hold not answered", "waiting=%zu cause=\"the source has errors\"", count);
	} else {
		for (size_t i = 0; i < count; i++) {
			asked[decisions[i].worker] = true;
			if (agent->applied && !snapshot_find(agent->applied, &decisions[i].key))
				let_pass(agent, &decisions[i].key);
		}
		for (unsigned int i = 0; i < agent->worker_count; i++) {
			if (asked[i])
				worker_hold_answered(agent->workers[i], as_of_ns);
		}
	}
	free(decisions);
}
