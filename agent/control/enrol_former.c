/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What former gateways left: their ids, which stay what they are, and their hooks, which go with them. But not those of
 * a Pod that the API knows no more and whose processes still run, as after a deletion by force: without hooks they
 * would speak plainly. They stay on and refuse until the processes end, whatever has the Pod's name by then.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cgroup.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "control/agent.h"
#include "control/predecessor.h"
#include "datapath/gateway.h"
#include "datapath/hooks.h"
#include "node/pod_cgroup.h"
#include "policy/object.h"
#include "policy/store.h"
#include "source/source.h"

/* That of /readyz is no enrolment, and as much in use as they are. */
static const struct gateway *probes_own(const struct agent *agent)
{
	return agent->monitor.probe.gateway;
}

/* Of all that there are, whether their hooks are on or not; free() the array. NULL: no memory. */
static const char **names_of_all(const struct agent *agent, size_t *count)
{
	const char **names = calloc(agent->enrolment_count + 1, sizeof(*names));

	*count = 0;
	for (size_t i = 0; i < agent->enrolment_count && names; i++) {
		if (agent->enrolments[i].name)
			names[(*count)++] = agent->enrolments[i].name;
	}
	if (names && probes_own(agent))
		names[(*count)++] = probes_own(agent)->name;
	return names;
}

static bool has_id(void *context, uint32_t id)
{
	const struct agent *agent = context;

	for (size_t i = 0; i < agent->enrolment_count; i++) {
		if (agent->enrolments[i].name && agent->enrolments[i].options.id == id)
			return true;
	}
	return probes_own(agent) && probes_own(agent)->id == id;
}

static bool is_in_api(const struct agent *agent, const char *uid)
{
	const struct object_store *store = source_store(agent->source);

	for (size_t i = 0; i < object_store_count(store, OBJECT_POD); i++) {
		const struct object *pod = object_store_at(store, OBJECT_POD, i);
		const char *named = pod_cgroup_uid(&pod->pod, pod->uid);

		if (named && strcmp(named, uid) == 0)
			return true;
	}
	return false;
}

/* One that is observed only is refused nothing, so nothing is lost with its hooks. */
static bool is_observed(const struct agent *agent, uint64_t cgroup)
{
	struct postern_gateway entry;
	uint32_t id = hooks_gateway_id_of(agent->hooks, cgroup);

	return id && hooks_get_gateway(agent->hooks, id, &entry) == 0 && entry.mode == POSTERN_MODE_OBSERVE;
}

struct former {
	const struct agent *agent;
	bool any; /* that lives on */
};

/* Is it what is left of a gateway Pod: no object, and processes? What cannot be told now will be later. */
static bool lives_on(void *context, uint64_t cgroup)
{
	struct former *former = context;
	const char *mount = former->agent->source ? cgroup2_mount() : NULL;
	_cleanup_free_ char *path = NULL;
	char uid[POD_UID_MAX + 1];
	bool lives;

	if (!mount || is_observed(former->agent, cgroup))
		return false;
	path = cgroup_find(mount, cgroup);
	if (!path)
		lives = errno != ENOENT;
	else
		lives = pod_cgroup_names(path, uid) && !is_in_api(former->agent, uid) && cgroup_is_populated(path);
	former->any |= lives;
	return lives;
}

static void set_aside(struct agent *agent, const char *name)
{
	int error = hooks_set_aside(agent->hooks, name);

	if (error)
		log_error("hooks of a former gateway not set aside", "gateway=%s error=\"%s\"", name, strerror(-error));
	agent->others_forgotten = false;
}

void enrol_set_aside(struct enrolment *enrolment)
{
	if (enrolment->gateway && enrolment->gateway->mode == POSTERN_MODE_ENFORCE)
		set_aside(enrolment->agent, enrolment->name);
}

void enrol_set_former_aside(struct agent *agent, const char *name)
{
	struct former former = {.agent = agent};
	uint64_t cgroup;

	(void)hooks_pinned_gateway_id(agent->hooks, name, &cgroup);
	if (cgroup && lives_on(&former, cgroup))
		set_aside(agent, name);
}

/*
 * Gateways that an earlier agent served and that there are no more: their pinned hooks would refuse for ever. Not
 * before the source has said which Pods there are: without their hooks they would speak plainly. One that cannot be
 * taken away is no reason not to serve the others.
 */
void enrol_forget_others(struct agent *agent)
{
	_cleanup_free_ const char **names = NULL;
	struct former former = {.agent = agent};
	size_t count;
	int removed;

	if (!sync_is_seen(agent))
		return;
	names = names_of_all(agent, &count);
	removed = names ? hooks_keep_gateways(agent->hooks, names, count, lives_on, &former) : -ENOMEM;
	if (removed >= 0)
		removed = hooks_keep_gateway_ids(agent->hooks, has_id, agent);
	if (removed < 0)
		log_error("hooks of earlier gateways not taken away", "error=\"%s\"", strerror(-removed));
	agent->others_forgotten = removed >= 0 && !former.any;
}

void enrol_clear_other_versions(struct agent *agent)
{
	_cleanup_free_ const char **names = NULL;
	size_t count;
	int removed;

	if (!hooks_other_versions(agent->hooks) || !sync_is_seen(agent))
		return;
	names = names_of_all(agent, &count);
	removed = names ? hooks_clear_other_versions(agent->hooks, names, count,
	                                             worker_claim_others(&agent->claim) != 0)
	                : -ENOMEM;
	if (removed < 0)
		log_error("hooks of another version not taken away", "error=\"%s\"", strerror(-removed));
}

/* Of this agent's, of one that runs or drains, or of an earlier life whose hooks are still on somebody's cgroup. */
static bool id_is_used(struct agent *agent, uint32_t id)
{
	struct postern_gateway entry;

	return !predecessor_spares_id(agent, id) || has_id(agent, id) ||
	       hooks_get_gateway(agent->hooks, id, &entry) == 0;
}

/*
 * The same as that of the agent that is replaced, or of the earlier life: then the kernel's maps change from its ports
 * to ours in one step. A new one is one that nobody had for long: what still speaks of it belongs to another gateway.
 */
uint32_t enrol_id_for(struct agent *agent, const char *name)
{
	uint64_t cgroup;
	uint32_t id = predecessor_gateway_id(agent, name);

	if (!id)
		id = hooks_pinned_gateway_id(agent->hooks, name, &cgroup);
	if (id && !has_id(agent, id))
		return id;
	do
		id = ++agent->last_gateway_id;
	while (id == 0 || id_is_used(agent, id));
	return id;
}
