/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * relay_internal.h: what the files of the relay share; nobody else but their tests includes it.
 *
 *   relay.c           life cycle: start, events, timers, status
 *   relay_worker.c    the buffer and the pipe that a worker's connections share
 *   relay_write.c     writing to a sink, and what a short write leaves
 *   relay_transmit.c  G->A->B
 *   relay_receive.c   B->A->G
 *   relay_record.c    the control records that the peer may send once the handshake is over
 *   relay_ending.c    close_notify, the graceful end, the reset
 *
 * Each direction is a state machine of its own (diagrams in relay_transmit.c and relay_receive.c). A step may end the
 * connection: functions that can do so return false then, and the caller touches the relay no more, but for
 * relay->ended (its memory lives until the loop's round is over).
 */
#ifndef POSTERN_DATAPATH_RELAY_INTERNAL_H
#define POSTERN_DATAPATH_RELAY_INTERNAL_H

#include "datapath/relay.h"
#include "datapath/relay_record.h"

#define RELAY_BUFFER_SIZE (256u << 10)

/*
 * A read as full as this means that a stream runs: splice. A shorter move than one full TLS record means small messages
 * (or a stream's end): back to copying, which is 2-3 k instructions cheaper for each of them (measured).
 */
#define RELAY_SPLICE_FROM  (64u << 10)
#define RELAY_SPLICE_UNTIL (16u << 10)

/* RFC 8446 5.5: 2^24.5 records of 2^10 AES blocks, i.e. 2^34.5. */
#define RELAY_AEAD_LIMIT_BLOCKS UINT64_C(24296003999)

enum transmit_state {
	TRANSMIT_FLOWING,
	TRANSMIT_BLOCKED,  /* B took less than it was given: A is not read until B has it all */
	TRANSMIT_DEFERRED, /* TLS 1.2: G's FIN is read, close_notify waits until B ends or has been silent */
	TRANSMIT_CLOSING,  /* G's FIN is read, close_notify waits for room on B */
	TRANSMIT_ENDED,    /* close_notify and FIN are on their way */
};

enum receive_state {
	RECEIVE_FLOWING,
	RECEIVE_BLOCKED, /* A took less than it was given: B is not read until A has it all */
	RECEIVE_ENDED,   /* B's close_notify (PLAIN: FIN) was read and A's side shut down */
};

/* What a short write left; allocated only then, so that an idle connection holds no buffer. */
struct relay_rest {
	uint8_t *bytes;
	size_t size;
	size_t offset; /* written already */
};

struct relay_direction {
	enum relay_mode mode; /* PLAIN, USER_TLS, KTLS_COPY, TICKETS; whether it splices now is a field of its own */
	bool may_splice;
	bool splicing;
	bool to_backend;
	struct relay_rest rest;
	uint64_t bytes;      /* written to the sink */
	uint64_t key_blocks; /* AES blocks under the current key */
	uint64_t moved_ns;   /* when a byte was last written to the sink */
};

struct relay {
	struct relay_worker *worker;
	struct loop_source a;
	struct loop_source b;
	int a_fd;
	int b_fd;
	struct tls_session *session; /* NULL when PLAIN, and once both directions are in the kernel */
	enum tls_version version;
	bool limits_key; /* ChaCha20-Poly1305 has no limit that a connection could reach */
	bool no_pad;
	bool hides_key_update; /* of this kernel: see relay_receive.c */
	struct postern_lane_slot *lane_slot;
	uint64_t idle_ns;
	enum postern_reason mode_reason;
	void (*on_end)(void *context, enum postern_reason reason, const char *detail);
	void *context;

	struct relay_direction to_backend;
	struct relay_direction to_gateway;
	enum transmit_state transmit;
	enum receive_state receive;
	bool first_read;    /* nothing of G was read so far */
	bool arm_due;       /* the ticket window is over: TLS_RX at the next record boundary */
	ssize_t joined;     /* bytes of data that the last read by recvmsg() joined; -1: it was something else */
	bool gateway_ended; /* G's FIN was read */
	bool room_made;     /* B's send buffer was raised for close_notify */
	bool ended;
	struct relay_handshake_reader handshake;
	unsigned int warnings; /* alerts of TLS 1.2 that end nothing */
	uint64_t tickets_dropped;
	uint64_t key_updates;

	struct loop_timer ticket_timer;
	struct loop_timer half_closed_timer;
	struct loop_timer idle_timer;
	struct loop_timer stall_timer;
	struct loop_timer look_timer;
};

/* relay_worker.c */

/*
 * Take the size bytes that the pipe still holds out of it, into worker->buffer. False: they are lost (the connection
 * must be reset), and the pipe was replaced. Either way it is empty afterwards: the next connection's bytes go there.
 */
bool relay_worker_empty_pipe(struct relay_worker *worker, size_t size);

/* relay_write.c */

/* Write to the direction's sink; the rest is kept and the direction blocked. False: the connection has ended. */
bool relay_write(struct relay *relay, struct relay_direction *direction, const uint8_t *bytes, size_t size);
/* The same for size bytes that are in the worker's pipe. */
bool relay_write_pipe(struct relay *relay, struct relay_direction *direction, size_t size);
/* Write the rest. True: all of it is written; false: still blocked, or the connection has ended. */
bool relay_flush(struct relay *relay, struct relay_direction *direction);
/* Count size bytes of plaintext under the direction's key. False: its limit is reached, and the connection ended. */
bool relay_count_blocks(struct relay *relay, struct relay_direction *direction, size_t size);
/* To splice or to copy, judged by what the last read brought. */
void relay_choose_splice(struct relay_direction *direction, size_t size);
void relay_rest_free(struct relay_rest *rest);

/* relay_transmit.c */
bool relay_transmit_reads(const struct relay *relay);
/* One read. False: there was nothing. */
bool relay_transmit_read(struct relay *relay);
void relay_transmit_writable(struct relay *relay);

/* relay_receive.c */
bool relay_receive_reads(const struct relay *relay);
bool relay_receive_read(struct relay *relay);
void relay_receive_writable(struct relay *relay);
/* look_timer: see relay_receive.c. */
void relay_receive_look(struct relay *relay);
/* Arm TLS_RX if it is due and the session stands at a record boundary. */
void relay_receive_arm(struct relay *relay);
/* B is broken for writing: pass on what it had said before. */
void relay_receive_last_words(struct relay *relay);

/* relay_ending.c */

/* End now, with resets both ways, for a reason. */
void relay_fail(struct relay *relay, enum postern_reason reason, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* The same for a failed call on A or B; error is a positive errno. */
void relay_fail_call(struct relay *relay, const char *call, bool on_backend, int error);
void relay_fail_session(struct relay *relay);
/* G's FIN was read. */
void relay_gateway_ended(struct relay *relay);
/* B's close_notify was read (PLAIN: its FIN). */
void relay_backend_ended(struct relay *relay);
/* In TRANSMIT_CLOSING: close_notify and FIN, if it can be done now; writable: EPOLLOUT of B was seen. */
void relay_close_backend(struct relay *relay, bool writable);
/* TRANSMIT_DEFERRED has lasted for half_closed_ns: close_notify now, unless the response still flows. */
void relay_half_closed_expired(struct relay *relay);

#endif
