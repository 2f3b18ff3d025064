/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * relay.h: moves the bytes of one connection between A (plain, the accepted peer of G) and B (TLS), and ends it (design
 * section 7). Worker thread; a connection never changes worker.
 *
 *   G->A->B  "to backend":  KTLS_SPLICE | KTLS_COPY | USER_TLS | PLAIN
 *   B->A->G  "to gateway":  KTLS_COPY | KTLS_SPLICE | USER_TLS | PLAIN, and at first TICKETS: records through OpenSSL
 * until TLS_RX is armed (after the first application data, or one second, at a record boundary)
 *
 * Buffers and pipes belong to the worker (struct relay_worker): an idle connection holds none. B is never in a sockmap;
 * A is in lane_agent only while the connection is in the lane, and then is read with recv(), never spliced.
 */
#ifndef POSTERN_DATAPATH_RELAY_H
#define POSTERN_DATAPATH_RELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "base/reason.h"
#include "base/slab.h"
#include "datapath/kernel_io.h"
#include "postern/abi.h"
#include "tls/session.h"

enum relay_mode {
	RELAY_PLAIN,
	RELAY_USER_TLS,
	RELAY_KTLS_COPY,
	RELAY_KTLS_SPLICE,
	RELAY_TICKETS, /* to gateway only, passing */
};
const char *relay_mode_name(enum relay_mode mode);

/* With the 50 us by which the kernel may be late, 1 ms. */
#define RELAY_GATHER_MAX_NS UINT64_C(930000)

/* So long a KeyUpdate of the backend's behind a small message may be hidden by the kernel: relay_look.c. */
#define RELAY_LOOK_ALL_NS UINT64_C(100000000)

struct relay_timeouts {
	uint64_t ticket_window_ns; /* 1 s: TLS_RX is armed at the latest */
	uint64_t half_closed_ns;   /* 30 s: TLS 1.2 defers close_notify until B was silent so long after G's FIN */
	uint64_t idle_ns;          /* 0 = none */
	uint64_t stall_ns;         /* 0 = none: bytes are waiting and none moved */
	uint64_t gather_ns;        /* 0 = never: a running stream of G waits so long to be read (relay_gather.c) */
};

struct relay; /* one connection */

/* What the worker shares among its connections. */
struct relay_worker {
	struct loop *loop;
	const struct kernel_io *io;
	uint8_t *buffer; /* relay_worker_init() makes it: 256 KB, cleansed at the end */
	size_t buffer_size;
	int pipe[2]; /* 256 KB, empty between two events */
	size_t pipe_size;
	struct relay_timeouts timeouts;
	uint32_t sample;            /* which events have their CPU measured; see relay.c */
	uint64_t aead_limit_blocks; /* 0: the real limit, 2^34.5; tests lower it */
	/* Relays whose B is to be looked at, oldest first, and when that is: relay_look.c. */
	struct relay *looks;
	struct relay **looks_end;
	struct loop_timer look_timer;
	struct slab relays; /* where they live */
};
int relay_worker_init(struct relay_worker *worker, struct loop *loop, const struct kernel_io *io);
void relay_worker_destroy(struct relay_worker *worker);
/* No read is larger than this, so no blocked write leaves more in memory; 0 = the whole buffer. At least 32 KB. */
void relay_worker_limit(struct relay_worker *worker, uint32_t size);

struct traffic_connections;

struct relay_options {
	int a_fd; /* owned from now on; non-blocking, SO_LINGER{1,0}, TCP_NODELAY set by the caller */
	int b_fd;
	struct loop_source *b_source; /* B is in the loop by this one, which gives it up; NULL: it is not */
	struct tls_session *session;  /* owned from now on; NULL: both directions PLAIN */
	bool transmit_armed;          /* TLS_TX is in the kernel already */
	bool kernel_receive;          /* TLS_RX may be armed (the proof allows it) */
	bool splice_to_backend;       /* proved and switched on */
	bool splice_to_gateway;
	bool no_pad;                          /* TLS_RX_EXPECT_NO_PAD is proved */
	bool kernel_rekey;                    /* TLS_RX may be set again: the rekey probe passed; see relay_look.c */
	bool kernel_rekey_transmit;           /* and TLS_TX */
	enum postern_reason user_mode_reason; /* why not kernel TLS, REASON_NONE if it is */
	struct postern_lane_slot *lane_slot;  /* NULL: no lane */
	void (*leave_lane)(void *context);    /* take A and G out of the sockmaps: see relay_lane.c; NULL: never */
	struct traffic_connections *traffic;  /* what is relayed is counted there; NULL: nowhere */
	uint64_t idle_ns;                     /* of the settings; 0 = the worker's */
	/* Called once, when the connection has ended and A and B are closed; the relay frees itself afterwards. */
	void (*on_end)(void *context, enum postern_reason reason, const char *detail);
	void *context;
};

/* 0; negative errno: descriptors and session stay the caller's. */
int relay_start(struct relay_worker *worker, const struct relay_options *options, struct relay **relay);
/* End at once with resets both ways (gateway removed, policy invalid). on_end is called. */
void relay_abort(struct relay *relay, enum postern_reason reason, const char *detail);

/*
 * No byte has moved since, none waits to be written, and the last one came from the backend: as far as can be seen from
 * here, nothing is being asked or answered.
 */
bool relay_is_idle(const struct relay *relay, uint64_t since_ns);

struct relay_stats {
	uint64_t bytes_to_backend; /* plaintext */
	uint64_t bytes_to_gateway;
	enum relay_mode to_backend;
	enum relay_mode to_gateway;
	enum postern_reason mode_reason; /* why a direction is not in its best mode */
	bool lane;
	bool gateway_ended;       /* FIN of G seen */
	bool backend_ended;       /* close_notify of B seen */
	uint64_t tickets_dropped; /* type-22 records that came after TLS_RX */
	uint64_t key_updates;
};
/*
 * Each of the four socket buffers of A and B may hold about this many bytes (the kernel doubles them); 0 = as the
 * kernel sizes them. What they hold now: bytes.
 */
void relay_limit_buffers(struct relay *relay, uint32_t size);
uint64_t relay_socket_memory(const struct relay *relay);
void relay_stats(const struct relay *relay, struct relay_stats *stats);

#endif
