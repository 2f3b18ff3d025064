/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * lease.h: the Lease of the controllers: watched, taken, renewed and given up (election.h has the rules). Control
 * thread.
 *
 * A candidate watches the record, so that its 9 s begin when the leader's renewal happens and not when it is asked
 * about, and so that a release is taken at once.
 */
#ifndef POSTERN_CONTROLLER_LEASE_H
#define POSTERN_CONTROLLER_LEASE_H

#include <stdbool.h>
#include <stdint.h>

struct kubernetes_client;
struct lease;
struct loop;

struct lease_options {
	struct loop *loop;
	struct kubernetes_client *client;
	const char *namespace_, *name, *identity; /* must live as long */
	void (*on_change)(void *context, bool leads);
	void *context;
};

int lease_new(const struct lease_options *options, struct lease **lease); /* 0 or -ENOMEM */
void lease_free(struct lease *lease);                                     /* NULL-safe; gives nothing up */

/* Asked before each write. */
bool lease_leads(const struct lease *lease);
const char *lease_holder(const struct lease *lease);
uint64_t lease_terms(const struct lease *lease);
uint64_t lease_failures(const struct lease *lease); /* renewals and claims that did not go through */

/*
 * What is wrong with it, and what to do, for an operator: "" while nothing is. That another replica leads is nothing
 * wrong, unless it took the Lease from this one.
 */
const char *lease_problem(const struct lease *lease);
const char *lease_remedy(const struct lease *lease);

/* Give it up, so that the other need not wait: on_released in a round of the loop, also if that failed. */
void lease_release(struct lease *lease, void (*on_released)(void *context));

#endif
