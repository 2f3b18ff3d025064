/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * relay_internal.h: what the files of the relay share; nobody else but their tests includes it.
 *
 *   relay.c           life cycle: start, events, timers, status
 *   relay_worker.c    the buffer and the pipe that a worker's connections share
 *   relay_write.c     writing to a sink, and what a short write leaves
 *   relay_transmit.c  G->A->B
 *   relay_lane.c      the lane's credit, and a stream's way out of it
 *   relay_gather.c    how many bytes of A make a wake-up
 *   relay_receive.c   B->A->G
 *   relay_stream.c    how many bytes of B make a wake-up
 *   relay_look.c      what epoll does not tell of B
 *   relay_rekey.c     KeyUpdate: the backend's, and our own
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

/* relay_gather.c */
struct relay_gathering {
	enum {
		GATHER_EACH, /* whatever G sends wakes the worker */
		GATHER_GATHERING,
	} state;
	bool in_lane;      /* A's EPOLLIN is not asked for; otherwise its SO_RCVLOWAT is raised */
	uint64_t since_ns; /* EACH: the first read of those counted; GATHERING: the last one */
	uint64_t delay_ns; /* the pace: how long a wake-up's worth of bytes takes */
	size_t size;       /* EACH: bytes that were read after the first one */
	uint64_t passed;   /* slot->passed as it was last seen */
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
	bool hides_key_update;               /* of this kernel, which can set TLS_RX again: see relay_look.c */
	bool rekeys_transmit;                /* it can set TLS_TX again */
	bool key_update_due;                 /* ours waits for room on B; no data goes before it */
	bool wants_update;                   /* it asks the backend for one: the read key nears its limit */
	bool update_wanted;                  /* that was asked for, and none has come yet */
	struct tls_rekey_secrets secrets;    /* once the session is gone; length 0: nothing can be rekeyed */
	struct postern_lane_slot *lane_slot; /* NULL: not in the lane, or not any more */
	void (*leave_lane)(void *context);
	uint64_t lane_redirected; /* slot->redirected_bytes when the lane last had its share, */
	uint64_t lane_bulk;       /* slot->bulk_bytes then, */
	uint64_t lane_passed;     /* and what had passed it at all */
	bool splices_without_lane;
	uint64_t idle_ns;
	enum postern_reason mode_reason;
	struct traffic_connections *traffic; /* NULL: none */
	void (*on_end)(void *context, enum postern_reason reason, const char *detail);
	void *context;

	struct relay_gathering gathering;
	struct relay_direction to_backend;
	struct relay_direction to_gateway;
	enum transmit_state transmit;
	enum receive_state receive;
	bool first_read;    /* nothing of G was read so far */
	bool arm_due;       /* the ticket window is over: TLS_RX at the next record boundary */
	ssize_t joined;     /* bytes of data that the last read by recvmsg() joined; -1: it was something else */
	size_t read_size;   /* bytes of data that the last read of B brought */
	int low_water;      /* SO_RCVLOWAT of B */
	uint32_t streamed;  /* bytes in full reads of B since a shorter one, as far as they matter (relay_stream.c) */
	bool gateway_ended; /* G's FIN was read */
	uint64_t answered;  /* bytes that were written to A by then */
	bool awaits_answer; /* the last byte that moved went to the backend */
	bool room_made;     /* B's send buffer was raised for close_notify */
	bool last_words;    /* a write to B has failed: what can still be read is passed on, and no end of it */
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
	struct relay **look_link; /* what points to it in worker->looks; NULL: it is not there */
	struct relay *look_next;
	struct loop_timer tail_timer;
	struct loop_timer gather_timer;
};

/* relay.c */

/* After every event: ask epoll for what each direction's state needs now. May end the connection. */
void relay_ask_for_events(struct relay *relay);

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

/* relay_lane.c */

/* size bytes were taken from A. */
void relay_lane_read(struct relay *relay, size_t size);

/* relay_gather.c */

/* A was read: size bytes, which B has, or which wait for B. May end the connection. */
void relay_gather_read(struct relay *relay, size_t size);
/* There was nothing to read, or nothing will be read. */
void relay_gather_stop(struct relay *relay);
/* EPOLLIN of A is to be asked for; otherwise gather_timer reads. */
bool relay_gather_awaits_event(const struct relay *relay);
/* SO_RCVLOWAT of A. */
int relay_gather_low_water(const struct relay *relay);

/* relay_receive.c */
bool relay_receive_reads(const struct relay *relay);
bool relay_receive_read(struct relay *relay);
void relay_receive_writable(struct relay *relay);
/* The same, and nothing of what must follow an event. */
bool relay_receive_step(struct relay *relay);
/* tail_timer: see relay_stream.c. */
void relay_receive_tail(struct relay *relay);
/* Arm TLS_RX if it is due and the session stands at a record boundary. */
void relay_receive_arm(struct relay *relay);
/* B is broken for writing: pass on what it had said before. */
void relay_receive_last_words(struct relay *relay);

/* relay_look.c */

/* B was read: look behind what was read, if that is needed, when its time has come. May end the connection. */
void relay_look_later(struct relay *relay);
/* Now. May end the connection. */
void relay_look(struct relay *relay);
/* No look is owed any more. */
void relay_look_forget(struct relay *relay);

/* relay_rekey.c */

/* The kernel has the keys of both directions: keep what follows them, before the session goes. */
void relay_keep_secrets(struct relay *relay);
/* A KeyUpdate of the backend was read: TLS_RX goes on with the next key. False: the connection has ended. */
bool relay_follow_key_update(struct relay *relay, bool answer_wanted);
/* Send ours as soon as there is room, and go on with the next key. False: the connection has ended. */
bool relay_begin_key_update(struct relay *relay, bool wants_update);
/* Try again. True: none is due, data may be written; false: there is no room, or the connection has ended. */
bool relay_finish_key_update(struct relay *relay);
/* The kernel can go on with a new key in this direction: for keys that near their limit. */
bool relay_can_rekey(const struct relay *relay, const struct relay_direction *direction);

/* relay_stream.c */

/* B was read: size bytes of data; 0: a control record. May end the connection. */
void relay_stream_read(struct relay *relay, size_t size);
/* There was nothing to read. */
void relay_stream_starved(struct relay *relay);
/* B is read again. */
void relay_stream_watch(struct relay *relay);

/* relay_ending.c */

/* End now, with resets both ways, for a reason. */
void relay_fail(struct relay *relay, enum postern_reason reason, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* The same for a failed call on A or B; error is a positive errno. */
void relay_fail_call(struct relay *relay, const char *call, bool on_backend, int error);
void relay_fail_session(struct relay *relay);
/* B's TCP ended without close_notify. detail says so; NULL: the relay's own words. */
void relay_fail_truncated(struct relay *relay, const char *detail);
/* G's FIN was read. */
void relay_gateway_ended(struct relay *relay);
/* B's close_notify was read (PLAIN: its FIN). */
void relay_backend_ended(struct relay *relay);
/* In TRANSMIT_CLOSING: close_notify and FIN, if it can be done now; writable: EPOLLOUT of B was seen. */
void relay_close_backend(struct relay *relay, bool writable);
/* TRANSMIT_DEFERRED has lasted for half_closed_ns: close_notify now, unless the response still flows. */
void relay_half_closed_expired(struct relay *relay);

#endif
