/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * soak.h: many relays at a time on real sockets, for hours: `make soak` (SOAK_GB=100 by default).
 *
 *   a lane:   ends thread (G and S of all its connections)  <==TCP==>  relay thread (one loop and worker, as the
 * agent's)
 *
 * As many lanes as CPUs. Every connection's life follows from its number and the seed: TLS in user space or plain,
 * sizes, steps, pauses, who ends first and how. Every byte is compared with what it has to be. The first wrong one, an
 * end by a reason that is not the plan's, or a minute without a byte stops everything, with the plan, both sides'
 * counts and what was seen; `soak --seed S --only N` runs that connection alone.
 */
#ifndef POSTERN_TESTS_SOAK_H
#define POSTERN_TESTS_SOAK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/reason.h"
#include "tls/keys.h"

#define SOAK_CHUNK (64u << 10)

enum soak_end {
	SOAK_END_WHEN_SENT,  /* half-close, and read on */
	SOAK_END_WHEN_DONE,  /* when all is sent and all received */
	SOAK_END_AFTER_PEER, /* when the other has ended */
	SOAK_END_BY_RESET,   /* SO_LINGER{1,0} and close() when all is sent */
};

struct soak_side {
	size_t send;
	size_t write_step;
	size_t read_step;
	unsigned int pause_us; /* so long now and then, about once in pause_every bytes; 0: never */
	size_t pause_every;
	enum soak_end end;
};

struct soak_plan {
	uint64_t number;
	bool tls;
	enum tls_version version;
	int suite;                /* 0..2, in the order of enum tls_cipher */
	struct soak_side side[2]; /* [0] the gateway, [1] the backend */
	size_t phase[2];          /* where in the noise each one's stream begins */
};

/* soak_plan.c */
void soak_plan_make(struct soak_plan *plan, uint64_t seed, uint64_t number);
void soak_plan_print(const struct soak_plan *plan);
void soak_noise_make(void);
/* SOAK_CHUNK bytes at least, of what `sender` says at offset `at`. */
const uint8_t *soak_noise(const struct soak_plan *plan, unsigned int sender, size_t at);
/* What is wrong with the bytes that came at `at`: where, what instead, and of which place it is. */
void soak_print_wrong(const struct soak_plan *plan, unsigned int sender, size_t at, const uint8_t *seen, size_t size);

/* soak_end.c: one end of one connection. */
struct soak_connection;
struct soak_end_state {
	const struct soak_plan *plan;
	unsigned int side;
	int fd;             /* -1: closed */
	struct ssl_st *ssl; /* NULL: plain */
	size_t sent;
	size_t received;
	bool ended;      /* it has said its end */
	bool peer_ended; /* in order */
	int error;       /* errno of the read or write that ended it */
	bool wrong;      /* a byte was */
	uint64_t paused_until_ns;
	size_t next_pause;
};
/* What can be done now. Returns bytes moved, and *wants (poll's events) for when there is no progress. */
size_t soak_end_step(struct soak_end_state *end, uint64_t now_ns, uint8_t *buffer, short *wants);
bool soak_end_is_over(const struct soak_end_state *end);

#endif
