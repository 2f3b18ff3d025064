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
 * A is in lane_agent only while the connection has a lane slot, and then is read with recv(), never spliced.
 */
#ifndef POSTERN_DATAPATH_RELAY_H
#define POSTERN_DATAPATH_RELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "base/reason.h"
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

struct relay_timeouts {
	uint64_t ticket_window_ns; /* 1 s: TLS_RX is armed at the latest */
	uint64_t half_closed_ns;   /* 30 s: TLS 1.2 defers close_notify until B was silent so long after G's FIN */
	uint64_t idle_ns;          /* 0 = none */
	uint64_t stall_ns;         /* 0 = none: bytes are waiting and none moved */
};

/* What the worker shares among its connections. */
struct relay_worker {
	struct loop *loop;
	const struct kernel_io *io;
	uint8_t *buffer; /* relay_worker_init() makes it: 256 KB, cleansed at the end */
	size_t buffer_size;
	int pipe[2]; /* 256 KB, empty between two events */
	size_t pipe_size;
	struct relay_timeouts timeouts;
	uint64_t aead_limit_blocks; /* 0: the real limit, 2^34.5; tests lower it */
};
int relay_worker_init(struct relay_worker *worker, struct loop *loop, const struct kernel_io *io);
void relay_worker_destroy(struct relay_worker *worker);

struct relay; /* one connection */

struct relay_options {
	int a_fd; /* owned from now on; non-blocking, SO_LINGER{1,0}, TCP_NODELAY set by the caller */
	int b_fd;
	struct tls_session *session; /* owned from now on; NULL: both directions PLAIN */
	bool transmit_armed;         /* TLS_TX is in the kernel already */
	bool kernel_receive;         /* TLS_RX may be armed (the proof allows it) */
	bool splice_to_backend;      /* proved and switched on */
	bool splice_to_gateway;
	bool no_pad;                          /* TLS_RX_EXPECT_NO_PAD is proved */
	bool kernel_rekey;                    /* TLS_RX may be set again: the rekey probe passed; see relay_receive.c */
	enum postern_reason user_mode_reason; /* why not kernel TLS, REASON_NONE if it is */
	struct postern_lane_slot *lane_slot;  /* NULL: no lane */
	uint64_t idle_ns;                     /* of the settings; 0 = the worker's */
	/* Called once, when the connection has ended and A and B are closed; the relay frees itself afterwards. */
	void (*on_end)(void *context, enum postern_reason reason, const char *detail);
	void *context;
};

/* 0; negative errno: descriptors and session stay the caller's. */
int relay_start(struct relay_worker *worker, const struct relay_options *options, struct relay **relay);
/* End at once with resets both ways (gateway removed, policy invalid). on_end is called. */
void relay_abort(struct relay *relay, enum postern_reason reason, const char *detail);

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
void relay_stats(const struct relay *relay, struct relay_stats *stats);

#endif
