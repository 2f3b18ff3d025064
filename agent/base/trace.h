/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * trace.h: live events for `posternctl trace`: a ring of the last TRACE_KEPT, each with a number. Workers, and who
 * reads the programs' ring (control/trace_watch.h), write while somebody looks, the status socket reads; one short
 * lock. Until somebody looks for the first time an event costs one load.
 *
 * A reader asks again and again with the number that it has; what was overwritten between two looks is counted, and
 * what the kernel had no room for, and what happened while a reader stayed away for longer than it is waited for, so
 * that a gap is never silent. The filter is applied by who writes: an event that nobody wants is not kept.
 */
#ifndef POSTERN_BASE_TRACE_H
#define POSTERN_BASE_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/reason.h"
#include "postern/abi.h"

#define TRACE_KEPT     4096
#define TRACE_LOOK_NS  10000000000ull /* a reader that does not come back in this time is gone */
#define TRACE_READERS  8
#define TRACE_NAME_MAX 128

enum trace_kind {
	TRACE_CONNECT,   /* G's connect(): the CONNECT record was read */
	TRACE_DIAL,      /* B is dialed */
	TRACE_HANDSHAKE, /* B is verified; reason: why a direction is not in kernel TLS */
	TRACE_OPEN,      /* A and B are relayed */
	TRACE_CLOSE,     /* both ended in order */
	TRACE_FAIL,      /* refused or reset: reason */
	/* From the programs: enum postern_trace_place */
	TRACE_INTERCEPT,
	TRACE_SYN,
	TRACE_GUARD,
	TRACE_WITNESS,
	TRACE_KINDS,
};
const char *trace_kind_name(enum trace_kind kind);

#define TRACE_NO_COUNTER UINT32_MAX
#define TRACE_NO_VERDICT UINT32_MAX

struct trace_event {
	uint64_t number;      /* from 1; by trace_add() */
	struct timespec time; /* CLOCK_REALTIME; by trace_add() if it is zero */
	enum trace_kind kind;
	char gateway[TRACE_NAME_MAX];
	uint16_t gateway_port;
	struct postern_destination_key destination;
	enum postern_reason reason;
	uint32_t counter; /* enum postern_counter: what a program counted, and the reason then; TRACE_NO_COUNTER */
	uint32_t verdict; /* enum postern_verdict, or TRACE_NO_VERDICT */
	uint64_t cookie;  /* of G (of B: TRACE_WITNESS); 0: not known */
	struct postern_tuple tuple; /* of the socket that the cookie names, as far as known; zeros else */
	int error;                  /* errno, positive: what connect() or a helper failed with */
	char detail[192];
};

/* Empty strings, no verdicts and a zero port or address: any. */
struct trace_filter {
	char gateway[TRACE_NAME_MAX]; /* its name, or what stands behind the slash of it */
	struct postern_address address;
	uint16_t port;     /* network byte order */
	uint32_t verdicts; /* bit n: enum postern_verdict n; an event without a verdict fits */
};

bool trace_gateway_fits(const struct trace_filter *filter, const char *name);

/* Why a reader did not get an event. */
enum trace_loss {
	TRACE_LOST_RING,        /* the kernel had no room */
	TRACE_LOST_OVERWRITTEN, /* the reader looked, and not soon enough */
	TRACE_LOST_AWAY,        /* it did not look for longer than it is waited for: nothing was kept */
	TRACE_LOSSES,
};
const char *trace_loss_name(enum trace_loss loss);

struct trace;
/* look_ns: how long a reader is waited for; TRACE_LOOK_NS but in tests. */
struct trace *trace_new(uint64_t look_ns);
void trace_free(struct trace *trace); /* NULL-safe */

/* Does anybody look? NULL: no. Asked once for each event: one that nobody sees is counted. Any thread. */
bool trace_active(struct trace *trace);
/* Keeps it if one of the readers wants it. */
void trace_add(struct trace *trace, const struct trace_event *event);

struct trace_answer {
	size_t count;
	uint64_t last; /* what to ask with next */
	/* How many were overwritten unread or lost before; after an absence at most so many: nobody filtered then. */
	uint64_t lost;
	uint64_t away_ns; /* for so long nothing was kept for it; 0: it came in time */
	bool known;       /* false: its first look, or its place was given to another one meanwhile */
};

/*
 * What the BPF programs tell: read() brings it by trace_add(), and says how many they have counted until now, told or
 * not; it never falls. What other threads add waits meanwhile, so that no answer has an event of the agent's without
 * those of the programs that were before it.
 */
struct trace_programs {
	uint64_t (*read)(void *context);
	void *context;
};

/*
 * A look of a reader (its number is chosen by itself, and keeps its filter apart from others'): events after `after`
 * that fit, by their time. -ENOSPC: there are TRACE_READERS already.
 */
int trace_look(struct trace *trace, uint64_t reader, const struct trace_filter *filter, uint64_t after,
               const struct trace_programs *programs, struct trace_event *events, size_t size,
               struct trace_answer *answer);

/* What all who look want, taken together. *until_ns: who looks stops then, unless asked again. False: nobody looks. */
bool trace_wanted(struct trace *trace, struct trace_filter *filter, uint64_t *until_ns);
/* So many were lost on the way to trace_add(): every reader is told. */
void trace_lost(struct trace *trace, uint64_t count);
/* What readers were told of, of all of them. */
void trace_losses(struct trace *trace, uint64_t losses[static TRACE_LOSSES]);

#endif
