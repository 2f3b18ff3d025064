/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Gateways that are Pods of this node. After each compile the store is asked which Pods are gateways; what is new gets
 * a place, what is no more is taken away with its connections, hooks, pins and entries, and what serves other Gateways
 * now or is in another mode is told so, without a gap. A Pod that was replaced by one of the same name is another one:
 * its uid, and so its cgroup, differ.
 *
 * A Pod that is deleted by force is gone from the API before its processes are, and one that is "Failed" may run still:
 * what they dial is not plain in the meantime, so it is a gateway until its cgroup is empty. If another Pod takes its
 * name, or another agent its place, before that, it is served no more, and its hooks refuse (enrol_former.c).
 *
 * A Pod's cgroup is looked for until the kubelet has made it, which is before the first container; its namespace is the
 * sandbox's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cgroup.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "control/agent.h"
#include "datapath/hooks.h"
#include "datapath/shadow.h"
#include "node/pod_cgroup.h"
#include "node/pod_gateways.h"
#include "node/pod_namespace.h"
#include "policy/object.h"
#include "policy/store.h"
#include "source/source.h"

/* Each owns itself: what the source says next must not take it away from a gateway that lives. */
static void free_pod(struct pod_gateway *pod)
{
	struct pod_gateways one = {.at = pod, .count = 1};

	if (pod)
		pod_gateways_free(&one);
}

/* Takes it out of the list; the rest of its place is empty. NULL: no memory. */
static struct pod_gateway *take(struct pod_gateway *listed)
{
	struct pod_gateway *pod = calloc(1, sizeof(*pod));

	if (pod) {
		*pod = *listed;
		*listed = (struct pod_gateway){0};
	}
	return pod;
}

static const char *uid_of(const struct pod_gateway *pod)
{
	const char *uid = pod_cgroup_uid(&pod->pod->pod, pod->pod->uid);

	return uid ? uid : "";
}

static bool same_refs(const struct pod_gateway *left, const struct pod_gateway *right)
{
	if (left->ref_count != right->ref_count)
		return false;
	for (size_t i = 0; i < left->ref_count; i++) {
		if (strcmp(left->refs[i].namespace_, right->refs[i].namespace_) != 0 ||
		    strcmp(left->refs[i].name, right->refs[i].name) != 0)
			return false;
	}
	return true;
}

static struct pod_gateway *find_listed(const struct pod_gateways *pods, const char *name)
{
	for (size_t i = 0; i < pods->count; i++) {
		if (pods->at[i].name && strcmp(pods->at[i].name, name) == 0)
			return &pods->at[i];
	}
	return NULL;
}

/* ---- one that stays ---- */

/* The map first, so that nothing plain goes on; then what is plain already. */
static void change_mode(struct enrolment *enrolment)
{
	struct agent *agent = enrolment->agent;
	struct gateway *gateway = enrolment->gateway;
	int error = gateway_set_mode(gateway, agent->hooks, enrolment->pod->mode);

	if (error)
		log_error("gateway's mode not changed", "gateway=%s error=\"%s\"", gateway->name, strerror(-error));
	/* What it would have had is of no use to anybody any more, and would be wrong in its next time. */
	(void)hooks_forget_would(agent->hooks, gateway->id);
	shadow_forget_gateway(agent->shadow, gateway->id);
	sync_sweep(agent, gateway, false);
}

/* Other Gateways may show another client certificate. */
static void change_refs(struct enrolment *enrolment)
{
	struct agent *agent = enrolment->agent;

	if (gateway_set_refs(enrolment->gateway, enrolment->pod->refs, enrolment->pod->ref_count) != 0) {
		log_error("no memory", "what=\"the Gateways of a data plane\" gateway=%s", enrolment->name);
		return;
	}
	for (unsigned int i = 0; i < agent->worker_count; i++)
		worker_policy_changed(agent->workers[i]);
}

static void update(struct enrolment *enrolment, struct pod_gateway *listed)
{
	struct pod_gateway *pod = enrolment->pod;
	bool other_refs = !same_refs(pod, listed), other_mode = pod->mode != listed->mode;

	if (pod->pod != listed->pod) {
		enrolment->looked_ns = monotonic_ns();
		enrolment->out_of_reach = false;
	}
	enrolment->outlives_object = false;
	/* The two change places: the list's holds the old one until it is freed. */
	struct pod_gateway old = *pod;
	*pod = *listed;
	*listed = old;
	if (!enrolment->gateway)
		return;
	if (other_refs)
		change_refs(enrolment);
	if (other_mode)
		change_mode(enrolment);
}

/* ---- one that comes or goes ---- */

static void remove_pod(struct enrolment *enrolment)
{
	struct pod_gateway *pod = TAKE_PTR(enrolment->pod);

	log_info("gateway Pod is gone", "gateway=%s", enrolment->name);
	enrol_remove(enrolment);
	free_pod(pod);
}

/*
 * Not one whose object is there, and no gateway's any more. "Failed" is no end: the Pod garbage collector says it of
 * Pods of a node that it lost sight of, before it deletes them.
 */
static bool outlives_object(const struct enrolment *enrolment)
{
	const struct object *pod = enrolment->pod->pod, *now;

	if (!enrolment->gateway || !cgroup_is_populated(enrolment->gateway->cgroup_path))
		return false;
	now = object_store_find(source_store(enrolment->agent->source), OBJECT_POD, pod->namespace_, pod->name);
	return !now || strcmp(now->uid, pod->uid) != 0 || pod_has_ended(&now->pod);
}

static void remove_replaced(struct enrolment *enrolment)
{
	if (outlives_object(enrolment))
		enrol_set_aside(enrolment);
	remove_pod(enrolment);
}

static void remove_unless_it_runs(struct enrolment *enrolment)
{
	bool outlives = outlives_object(enrolment);

	if (outlives && !enrolment->outlives_object)
		log_warning("gateway Pod is deleted or has ended, and its processes still run",
		            "gateway=%s effect=\"it is served until they end\"", enrolment->name);
	enrolment->outlives_object = outlives;
	if (!outlives)
		remove_pod(enrolment);
}

static void add_pod(struct agent *agent, struct pod_gateway *listed)
{
	struct enrolment *enrolment;

	enrol_set_former_aside(agent, listed->name);
	enrolment = enrol_add(agent, listed->name);
	if (!enrolment)
		return; /* said with what is left in the list */
	enrolment->pod = take(listed);
	if (!enrolment->pod) {
		enrol_remove(enrolment);
		return;
	}
	enrolment->options.find_namespace = enrol_pod_namespace;
	log_info("gateway Pod", "gateway=%s uid=%s mode=%s", enrolment->name, uid_of(enrolment->pod),
	         enrolment->pod->mode == POSTERN_MODE_OBSERVE ? "observe" : "enforce");
}

/* First what goes: its place, its ports and its pins are free for what comes, which may have its name. */
static void remove_gone(struct agent *agent, struct pod_gateways *found)
{
	for (size_t i = 0; i < agent->enrolment_count; i++) {
		struct enrolment *enrolment = &agent->enrolments[i];
		const struct pod_gateway *listed;

		if (!enrolment->name || !enrolment->pod)
			continue;
		listed = find_listed(found, enrolment->name);
		if (!listed)
			remove_unless_it_runs(enrolment);
		else if (strcmp(uid_of(listed), uid_of(enrolment->pod)) != 0)
			remove_replaced(enrolment);
	}
}

static void say_left_out(const struct pod_gateways *before, const struct pod_gateway *pod)
{
	if (!before || !find_listed(before, pod->name))
		log_error("gateway Pod not enrolled",
		          "gateway=%s reason=\"%d gateways are enrolled, which is all that there is room for\" "
		          "effect=\"its connections are not protected\"",
		          pod->name, POSTERN_MAX_SERVED);
}

void enrol_pods(struct agent *agent)
{
	struct pod_gateways *found;

	if (!agent->enrolments || agent->enrolment_paused || !agent->source || !source_synced(agent->source)) {
		if (agent->enrolments && !agent->source && !agent->others_forgotten && !agent->predecessor)
			enrol_forget_others(agent);
		return;
	}
	found = calloc(1, sizeof(*found));
	if (!found || pod_gateways_find(source_store(agent->source), agent->config.node_name, found) != 0) {
		log_error("no memory", "what=\"the Pods that are gateways\"");
		free(found);
		return;
	}
	remove_gone(agent, found);
	for (size_t i = 0; i < found->count; i++) {
		struct enrolment *enrolment = enrol_find(agent, found->at[i].name);

		if (enrolment && enrolment->pod)
			update(enrolment, &found->at[i]);
		else if (!enrolment)
			add_pod(agent, &found->at[i]);
	}
	/* What is left has no place; or the configuration has a gateway of its name. */
	for (size_t i = 0; i < found->count; i++) {
		if (found->at[i].name && !enrol_find(agent, found->at[i].name))
			say_left_out(agent->pods, &found->at[i]);
	}
	if (agent->pods)
		pod_gateways_free(agent->pods);
	free(agent->pods);
	agent->pods = found;
	if (!agent->others_forgotten && !agent->predecessor)
		enrol_forget_others(agent);
	enrol_hurry(agent);
}

void enrol_pods_ended(struct agent *agent)
{
	for (size_t i = 0; i < agent->enrolment_count; i++) {
		struct enrolment *enrolment = &agent->enrolments[i];

		if (enrolment->name && enrolment->outlives_object)
			remove_unless_it_runs(enrolment);
	}
	/* Only once it is known which Pods there are. */
	if (agent->pods && !agent->others_forgotten && !agent->predecessor && !agent->enrolment_paused)
		enrol_forget_others(agent);
}

void enrol_pods_stop(struct agent *agent)
{
	for (size_t i = 0; i < agent->enrolment_count; i++) {
		free_pod(agent->enrolments[i].pod);
		agent->enrolments[i].pod = NULL;
	}
	if (agent->pods)
		pod_gateways_free(agent->pods);
	free(agent->pods);
	agent->pods = NULL;
}

/* ---- where it is ---- */

char *enrol_pod_cgroup(struct enrolment *enrolment)
{
	const struct config *config = &enrolment->agent->config;
	const struct object *pod = enrolment->pod->pod;
	const char *mount = cgroup2_mount();

	if (!mount)
		return NULL;
	return pod_cgroup_find(&pod->pod, pod->uid, mount, config->kubelet_cgroup_root, enrolment->reason,
	                       sizeof(enrolment->reason));
}

int enrol_pod_namespace(void *context, char *problem, size_t problem_size)
{
	struct enrolment *enrolment = context;
	int fd = pod_namespace_open(&enrolment->pod->pod->pod, enrolment->gateway->cgroup_path,
	                            enrolment->agent->config.host_proc, problem, problem_size);

	enrolment->out_of_reach = fd == -ENOTSUP;
	return fd;
}

bool enrol_port_is_taken(void *context, uint16_t port)
{
	const struct agent *agent = ((const struct enrolment *)context)->agent;

	return agent->source && pod_with_host_port(source_store(agent->source), agent->config.node_name, port);
}

void enrol_pod_attaching(struct enrolment *enrolment, const char *cgroup)
{
	struct agent *agent = enrolment->agent;
	const struct pod *pod = &enrolment->pod->pod->pod;
	uint64_t pinned;

	/* Hooks of an earlier life on the same cgroup were on all along. */
	if (hooks_pinned_gateway_id(agent->hooks, enrolment->name, &pinned) && pinned == cgroup_id(cgroup))
		return;
	if (!pod->gated && (pod->started || pod_has_begun(cgroup, agent->config.host_proc)))
		enrolment->raced = true;
}
