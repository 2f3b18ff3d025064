/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * fleet.h: on which nodes is there an agent, and is it ready? From the agents' Pods: those of one namespace with one
 * label selector, watched. Nothing is asked of an agent itself (agent_reader.h does). One thread: the loop's.
 */
#ifndef POSTERN_CONTROLLER_FLEET_H
#define POSTERN_CONTROLLER_FLEET_H

#include <stdbool.h>
#include <stddef.h>

struct fleet;
struct fleet_agent;
struct kubernetes_client;
struct loop;

struct fleet_options {
	struct loop *loop;
	struct kubernetes_client *client;
	const char *namespace_, *selector;
	void (*on_change)(void *context); /* a node has a ready agent that had none, or the other way round */
	void *context;
};

int fleet_new(const struct fleet_options *options, struct fleet **fleet); /* 0 or -ENOMEM */
void fleet_free(struct fleet *fleet);                                     /* NULL-safe */

/* Before, nothing can be said of a node. */
bool fleet_synced(const struct fleet *fleet);
/* Has the node a Pod of the agent that is Ready and not on its way out? */
bool fleet_node_is_ready(const struct fleet *fleet, const char *node);
/* The Ready agents of a node that have an address, as enrolments.h has it. */
size_t fleet_agents_of(const struct fleet *fleet, const char *node, struct fleet_agent *at, size_t max);
size_t fleet_agents(const struct fleet *fleet);
size_t fleet_ready_agents(const struct fleet *fleet);

#endif
