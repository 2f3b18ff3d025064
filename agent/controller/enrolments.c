/* SPDX-License-Identifier: GPL-2.0-only */
#include "controller/enrolments.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "node/pod_gateways.h"
#include "observe/json.h"
#include "policy/object.h"
#include "policy/store.h"

struct agent_seen {
	struct agent_seen *next;
	char *name, *node;
	uint64_t asked_ns, round;
	json_t *answer; /* the last one; NULL: none yet */
	char error[160];
};

struct node_seen {
	struct node_seen *next;
	char *name;
	uint64_t round;
	uint64_t without_ns; /* it has had no Ready agent since; 0: it has one, or nobody knows */
	bool over;           /* for longer than the grace */
	bool unsettled;      /* a Pod of it is not enrolled */
};

struct enrolments {
	struct enrolments_options options;
	struct agent_seen *agents;
	struct node_seen *nodes;
	uint64_t round;
};

static bool is_asked_for(const struct object *pod)
{
	return pod->pod.readiness_gated && *pod->pod.node_name && strcmp(pod->pod.phase, "Succeeded") != 0 &&
	       strcmp(pod->pod.phase, "Failed") != 0;
}

/* ---- what is kept ---- */

static struct node_seen *find_node(const struct enrolments *enrolments, const char *name)
{
	struct node_seen *node = enrolments->nodes;

	while (node && strcmp(node->name, name) != 0)
		node = node->next;
	return node;
}

static struct node_seen *add_node(struct enrolments *enrolments, const char *name)
{
	struct node_seen *node = find_node(enrolments, name);

	if (node)
		return node;
	node = calloc(1, sizeof(*node));
	if (!node || !(node->name = strdup(name))) {
		free(node);
		return NULL;
	}
	node->next = enrolments->nodes;
	enrolments->nodes = node;
	return node;
}

static struct agent_seen *find_agent(const struct enrolments *enrolments, const char *name)
{
	struct agent_seen *agent = enrolments->agents;

	while (agent && strcmp(agent->name, name) != 0)
		agent = agent->next;
	return agent;
}

static void free_agent(struct agent_seen *agent)
{
	json_decref(agent->answer);
	free(agent->name);
	free(agent->node);
	free(agent);
}

static struct agent_seen *add_agent(struct enrolments *enrolments, const char *name, const char *node)
{
	struct agent_seen *agent = find_agent(enrolments, name);

	if (agent)
		return agent;
	agent = calloc(1, sizeof(*agent));
	if (!agent)
		return NULL;
	agent->name = strdup(name);
	agent->node = strdup(node);
	if (!agent->name || !agent->node) {
		free_agent(agent);
		return NULL;
	}
	agent->next = enrolments->agents;
	enrolments->agents = agent;
	return agent;
}

/* Of nodes without such a Pod, and of agents that are gone or not Ready: nothing. */
static void forget_old(struct enrolments *enrolments)
{
	struct agent_seen **agent = &enrolments->agents;
	struct node_seen **node = &enrolments->nodes;

	while (*agent) {
		struct agent_seen *old = *agent;

		if (old->round == enrolments->round) {
			agent = &old->next;
			continue;
		}
		*agent = old->next;
		free_agent(old);
	}
	while (*node) {
		struct node_seen *old = *node;

		if (old->round == enrolments->round) {
			node = &old->next;
			continue;
		}
		*node = old->next;
		free(old->name);
		free(old);
	}
}

/* ---- judging ---- */

static bool is_gateway(const struct pod_gateways *pods, const struct object *pod)
{
	for (size_t i = 0; i < pods->count; i++)
		if (pods->at[i].pod && !strcmp(pods->at[i].pod->uid, pod->uid))
			return true;
	return false;
}

static const char *string_of(const json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(object, key));

	return value ? value : "";
}

/* What an agent says of it; NULL: nothing. By uid: a Pod of the same name is another one. */
static const json_t *entry_of(const json_t *answer, const struct object *pod)
{
	const json_t *each;
	size_t index;

	json_array_foreach (json_object_get(answer, "pods"), index, each)
		if (*pod->uid && !strcmp(string_of(each, "uid"), pod->uid))
			return each;
	return NULL;
}

__attribute__((format(printf, 4, 5))) static void say(struct enrolment_verdict *verdict, enum enrolment_word word,
                                                      const char *reason, const char *format, ...)
{
	va_list arguments;

	verdict->word = word;
	verdict->reason = reason;
	va_start(arguments, format);
	(void)vsnprintf(verdict->message, sizeof(verdict->message), format, arguments);
	va_end(arguments);
}

static void ask_agents(const struct enrolments *enrolments, const struct object *pod, struct enrolment_verdict *verdict)
{
	for (const struct agent_seen *agent = enrolments->agents; agent; agent = agent->next) {
		const json_t *entry;

		if (strcmp(agent->node, pod->pod.node_name) != 0 || !agent->answer ||
		    !json_is_true(json_object_get(agent->answer, "serving")))
			continue;
		entry = entry_of(agent->answer, pod);
		if (json_is_true(json_object_get(entry, "enrolled"))) {
			say(verdict, ENROLMENT_YES, "Enrolled",
			    "the hooks of postern are on: connections that a policy covers are TLS, or are refused");
			return;
		}
		if (entry)
			say(verdict, ENROLMENT_NO, "NotEnrolled", "%.64s says: %.300s", agent->name,
			    string_of(entry, "reason"));
		else if (verdict->word == ENROLMENT_UNKNOWN)
			say(verdict, ENROLMENT_NO, "NotSeen",
			    "%.64s, the agent of this node, does not know this pod (yet)", agent->name);
	}
}

void enrolments_judge(const struct enrolments *enrolments, const struct object *pod, const struct pod_gateways *pods,
                      struct enrolment_verdict *verdict)
{
	const struct node_seen *node = find_node(enrolments, pod->pod.node_name);

	*verdict = (struct enrolment_verdict){.reason = ""};
	if (!is_asked_for(pod))
		return;
	if (!is_gateway(pods, pod)) {
		say(verdict, ENROLMENT_NO, "NotAGateway",
		    "this pod has the readiness gate and is no gateway that postern enrols: give it the label "
		    "gateway.networking.k8s.io/gateway-name or the annotation postern.dev/gateway, or take the gate "
		    "away (docs/gateways.md)");
		return;
	}
	if (node && node->over) {
		say(verdict, ENROLMENT_NO, "NoReadyAgent",
		    "node %.253s has no ready agent of postern: connections that a policy covers are refused; see the "
		    "DaemonSet posternd",
		    node->name);
		return;
	}
	ask_agents(enrolments, pod, verdict);
}

/* ---- asking ---- */

static void earlier(uint64_t *wait_ns, uint64_t other_ns)
{
	if (!*wait_ns || other_ns < *wait_ns)
		*wait_ns = other_ns ? other_ns : 1;
}

static void ask_one(struct enrolments *enrolments, const struct node_seen *node, const struct fleet_agent *listed,
                    uint64_t now_ns, uint64_t *wait_ns)
{
	const uint64_t interval_ns = node->unsettled ? ENROLMENTS_SOON_NS : ENROLMENTS_LATER_NS;
	struct agent_seen *agent = add_agent(enrolments, listed->name, node->name);

	if (!agent)
		return; /* the next round tries again */
	agent->round = enrolments->round;
	if (!agent->asked_ns || now_ns - agent->asked_ns >= interval_ns) {
		(void)enrolments->options.ask(enrolments->options.context, listed->name, listed->address);
		agent->asked_ns = now_ns;
	}
	earlier(wait_ns, agent->asked_ns + interval_ns - now_ns);
}

static void ask_node(struct enrolments *enrolments, struct node_seen *node, bool agents_known, uint64_t now_ns,
                     uint64_t *wait_ns)
{
	struct fleet_agent at[ENROLMENTS_AGENTS];
	size_t count = enrolments->options.agents_of(enrolments->options.context, node->name, at, ENROLMENTS_AGENTS);
	bool over;

	for (size_t i = 0; i < count; i++)
		ask_one(enrolments, node, &at[i], now_ns, wait_ns);
	if (count || !agents_known)
		node->without_ns = 0;
	else if (!node->without_ns)
		node->without_ns = now_ns;
	over = node->without_ns && now_ns - node->without_ns >= enrolments->options.grace_ns;
	if (node->without_ns && !over)
		earlier(wait_ns, node->without_ns + enrolments->options.grace_ns - now_ns);
	if (over == node->over)
		return;
	node->over = over;
	enrolments->options.on_change(enrolments->options.context);
}

uint64_t enrolments_update(struct enrolments *enrolments, const struct object_store *store,
                           const struct pod_gateways *pods, bool agents_known, uint64_t now_ns)
{
	uint64_t wait_ns = 0;

	enrolments->round++;
	for (size_t i = 0; i < object_store_count(store, OBJECT_POD); i++) {
		const struct object *pod = object_store_at(store, OBJECT_POD, i);
		struct enrolment_verdict verdict;
		struct node_seen *node;

		if (!is_asked_for(pod) || !(node = add_node(enrolments, pod->pod.node_name)))
			continue;
		if (node->round != enrolments->round)
			node->unsettled = false;
		node->round = enrolments->round;
		enrolments_judge(enrolments, pod, pods, &verdict);
		node->unsettled |= verdict.word != ENROLMENT_YES;
	}
	for (struct node_seen *node = enrolments->nodes; node; node = node->next)
		if (node->round == enrolments->round)
			ask_node(enrolments, node, agents_known, now_ns, &wait_ns);
	forget_old(enrolments);
	return wait_ns;
}

void enrolments_answer(struct enrolments *enrolments, const char *name, const json_t *answer, const char *error)
{
	struct agent_seen *agent = find_agent(enrolments, name);
	char quoted[256];

	if (!agent)
		return; /* gone meanwhile */
	if (!answer) {
		if (!*agent->error)
			log_warning("agent does not answer", "agent=%s node=%s error=%s", agent->name, agent->node,
			            log_quote(error, quoted, sizeof(quoted)));
		(void)snprintf(agent->error, sizeof(agent->error), "%s", error);
		return;
	}
	agent->error[0] = '\0';
	if (json_equal(agent->answer, answer))
		return;
	json_decref(agent->answer);
	agent->answer = json_deep_copy(answer);
	enrolments->options.on_change(enrolments->options.context);
}

json_t *enrolments_silent(const struct enrolments *enrolments)
{
	json_t *list = json_array();

	for (const struct agent_seen *agent = enrolments->agents; agent; agent = agent->next)
		if (*agent->error)
			json_append(&list, json_pack("{s:o, s:o, s:o}", "agent", json_text(agent->name), "node",
			                             json_text(agent->node), "error", json_text(agent->error)));
	return list;
}

struct enrolments *enrolments_new(const struct enrolments_options *options)
{
	struct enrolments *enrolments = calloc(1, sizeof(*enrolments));

	if (enrolments)
		enrolments->options = *options;
	return enrolments;
}

void enrolments_forget(struct enrolments *enrolments)
{
	enrolments->round++;
	forget_old(enrolments);
}

void enrolments_free(struct enrolments *enrolments)
{
	if (!enrolments)
		return;
	enrolments_forget(enrolments);
	free(enrolments);
}
