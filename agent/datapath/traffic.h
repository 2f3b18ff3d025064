/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * traffic.h: what the metrics count for each gateway: connections and bytes by policy and mode, the time that
 * handshakes take, CPU. One table for all workers; each worker has cells of its own in it, which it alone writes.
 *
 * The table is bounded. A gateway, or a gateway with a policy and a mode, that finds no room is counted as "other", and
 * that is counted, too; rows of a gateway that is gone are used again once none of their connections lives.
 */
#ifndef POSTERN_DATAPATH_TRAFFIC_H
#define POSTERN_DATAPATH_TRAFFIC_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define TRAFFIC_ROWS     128 /* gateway, policy and mode */
#define TRAFFIC_GATEWAYS 32
#define TRAFFIC_OTHER    "other"
#define TRAFFIC_NAME_MAX 256

/*
 * The CPU of the relay is sampled: one event in so many is measured, and counts for all of them. To measure each would
 * cost two system calls an event.
 */
#define TRAFFIC_CPU_SAMPLE 64

enum traffic_mode { /* of a connection's TLS; that of each direction changes as it lives */
	            TRAFFIC_KERNEL_TLS,
	            TRAFFIC_USER_TLS,
	            TRAFFIC_PLAIN,
	            TRAFFIC_MODES,
};
const char *traffic_mode_name(enum traffic_mode mode);

/* Upper bounds of the histogram of handshakes, in microseconds; above the last one is the bucket +Inf. */
#define TRAFFIC_BUCKETS 12
extern const uint32_t traffic_bucket_us[TRAFFIC_BUCKETS];

struct traffic;

/* Cells of one worker. Only it writes them. */
struct traffic_connections {
	_Atomic uint64_t begun;
	_Atomic uint64_t live;
	_Atomic uint64_t bytes_to_backend; /* plaintext, as it is relayed */
	_Atomic uint64_t bytes_to_gateway;
	_Atomic uint64_t cpu_ns;            /* of relaying, sampled */
	_Atomic uint64_t stalls_to_backend; /* the sink took less than it was given */
	_Atomic uint64_t stalls_to_gateway;
	uint64_t padding; /* a cache line */
};

struct traffic_handshakes {
	_Atomic uint64_t bucket[TRAFFIC_BUCKETS + 1]; /* each by itself, not cumulative */
	_Atomic uint64_t sum_ns;
	_Atomic uint64_t cpu_ns; /* of handshake steps, each of them measured */
	uint64_t padding;
};

/* NULL: no memory. */
struct traffic *traffic_new(unsigned int worker_count);
void traffic_free(struct traffic *traffic); /* NULL-safe; no worker runs any more */

/*
 * The worker's cells. Any thread; a short lock, at the beginning of a gateway's or connection's life. Never NULL,
 * unless traffic is (a test without metrics): the functions below take NULL then. The cells of a connection are its own
 * from traffic_begin() to traffic_end(); those of a gateway until traffic_forget_gateway().
 */
struct traffic_connections *traffic_begin(struct traffic *traffic, unsigned int worker, const char *gateway,
                                          const char *policy, enum traffic_mode mode);
void traffic_end(struct traffic_connections *connections);
struct traffic_handshakes *traffic_of_gateway(struct traffic *traffic, unsigned int worker, const char *gateway);
void traffic_handshake(struct traffic_handshakes *handshakes, uint64_t duration_ns);

/* Every worker has let go of the gateway. */
void traffic_forget_gateway(struct traffic *traffic, const char *gateway);

/* CPU time of the calling thread. */
uint64_t traffic_cpu_ns(void);

static inline void traffic_add(_Atomic uint64_t *cell, uint64_t value)
{
	atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + value, memory_order_relaxed);
}

/* Sums over workers. */
struct traffic_row {
	char gateway[TRAFFIC_NAME_MAX];
	char policy[TRAFFIC_NAME_MAX]; /* "" for PLAIN */
	enum traffic_mode mode;
	uint64_t begun;
	uint64_t live;
	uint64_t bytes_to_backend;
	uint64_t bytes_to_gateway;
	uint64_t stalls_to_backend;
	uint64_t stalls_to_gateway;
};

struct traffic_gateway_row {
	char gateway[TRAFFIC_NAME_MAX];
	uint64_t bucket[TRAFFIC_BUCKETS + 1];
	uint64_t sum_ns;
	uint64_t handshake_cpu_ns;
	uint64_t relay_cpu_ns;
};

/* Fill up to the number of rows there can be, "other" last. Return how many are filled. Control thread. */
#define TRAFFIC_ROWS_SHOWN     (TRAFFIC_ROWS + TRAFFIC_MODES)
#define TRAFFIC_GATEWAYS_SHOWN (TRAFFIC_GATEWAYS + 1)
size_t traffic_rows(struct traffic *traffic, struct traffic_row rows[static TRAFFIC_ROWS_SHOWN]);
size_t traffic_gateway_rows(struct traffic *traffic, struct traffic_gateway_row rows[static TRAFFIC_GATEWAYS_SHOWN]);
/* How often something was counted as "other" for want of room: beginnings of connections and of gateways. */
uint64_t traffic_folded(struct traffic *traffic);

#endif
