/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * election.h: who of several controllers writes: the rules, without I/O or a clock of its own. lease.h carries them
 * out.
 *
 * As client-go's leaderelection has it (coordination.k8s.io/v1 Lease), in three fifths of its times: the leader renews
 * every 1.5 s, and stops writing when no renewal went through for 6 s; a candidate takes over when it has not seen the
 * record change for 9 s, so that the other writes again well within 15 s (docs/controller.md has the arithmetic). Each
 * counts by its own monotonic clock: the times in the record are for people, since clocks of machines differ. Only
 * their speeds must not: by a third, 6 s of one would be 9 s of another. Two candidates at once are told apart by the
 * API server: resourceVersion lets one of them through.
 *
 * A leader that has no answer to a renewal for 2 s tries again 0.5 s later: one lost connection costs no term, since
 * 1.5 + 2 + 0.5 + 2 s is the whole of it.
 *
 * A leader's term is counted from when its renewal was *sent*, so that a slow answer does not make it longer.
 */
#ifndef POSTERN_CONTROLLER_ELECTION_H
#define POSTERN_CONTROLLER_ELECTION_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define ELECTION_LEASE_NS   9000000000ull /* leaseDurationSeconds */
#define ELECTION_RENEW_NS   6000000000ull /* the leader's own deadline */
#define ELECTION_PERIOD_NS  1500000000ull /* between two tries */
#define ELECTION_RETRY_NS   500000000ull  /* the leader's, after one that did not go through */
#define ELECTION_REQUEST_NS 2000000000ull /* for an answer */

struct election {
	const char *namespace_, *name, *identity; /* borrowed */
	json_t *lease;                            /* as it was seen last; NULL: never, or there is none */
	bool seen;                                /* anything was heard of it, be it that there is none */
	uint64_t observed_ns;                     /* when the record was last another one than before */
	uint64_t renewed_ns;                      /* when our last renewal that went through was sent; 0: none did */
	uint64_t terms;                           /* how often we became leader */
};

enum election_step {
	ELECTION_LOOK, /* nothing is known: GET it */
	ELECTION_WAIT, /* somebody else leads */
	ELECTION_CREATE /* POST election_claim() */,
	ELECTION_CLAIM, /* PUT election_claim(): to take it over, or to renew it */
};

void election_init(struct election *election, const char *namespace_, const char *name, const char *identity);
void election_free(struct election *election);

/* What to do now; *wait_ns is when to ask again at the latest. */
enum election_step election_next(const struct election *election, uint64_t now_ns, uint64_t *wait_ns);

/* The record to write, a new reference; NULL: no memory. release: give it up instead. */
json_t *election_claim(const struct election *election, const struct timespec *now, bool release);

/* A lease as the server has it (NULL: there is none), by GET or a watch. One of an older state changes nothing. */
void election_observe(struct election *election, const json_t *lease, uint64_t now_ns);
/* Our claim went through; lease is the server's answer to it. */
void election_won(struct election *election, const json_t *lease, uint64_t sent_ns, uint64_t now_ns);
/* The release went through, or we stop for good: we lead no more. */
void election_resign(struct election *election);

/* May we write, now? */
bool election_leads(const struct election *election, uint64_t now_ns);
/* Who leads by the record; "" if nobody does. */
const char *election_holder(const struct election *election);

#endif
