/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * mock_kernel_io.h: a kernel with two sockets and one pipe, in memory, behind the relay's seam (datapath/kernel_io.h).
 * It makes what a real one does seldom or only with CONFIG_TLS: short writes, EAGAIN in any state, KeyUpdate, EBADMSG,
 * EKEYEXPIRED, ENOMEM, resets at any moment.
 *
 *      the test feeds                the relay reads and writes                 the test looks
 *
 *        mock_feed*(&kernel->a)                                           kernel->b.out, ->b.controls
 *              |                                                                  ^
 *              v                                                                  |
 *       +--------------------------+    recv, splice      send, sendmsg    +-------------+   room: what it still takes
 *   A   | "GET /" | "abc" | FIN    | ---------->  relay  ----------------> | "GET /abc"  |   withheld: the tail that
 *       +--------------------------+      [ pipe, 1 buffer ]               +-------------+   kTLS holds back, see below
 *       +--------------------------+      recv, recvmsg   send, splice     +-------------+
 *   B   | 23 "HTTP" | 22 NST | 21  | ---------->  relay  ----------------> | "HTTP"      |   A
 *       +--------------------------+                                       +-------------+
 *
 *   - A, and B without TLS_RX: a stream. recv() and splice() take across the pieces that were fed.
 *   - B with TLS_RX (kernel->b.kernel_tls): records. recvmsg() joins records of type 23, brings one of another type
 *     alone, and puts the type into a cmsg; recv() is a misuse. splice() takes one record: EINVAL for another type, 0
 *     for an empty one.
 *   - A FIN or an error is an item of the queue, too. A reset (mock_reset) takes effect at once: what is queued can
 *     still be read, then recv gives the errno; every write gives it.
 *   - Writes take `room` bytes and then say EAGAIN; poll says writable when room >= low_water. With TLS_TX
 * (kernel_transmit) a write takes a whole record as soon as there is any room: what does not fit is `withheld` and goes
 * before the next write that finds room. A shutdown for writing while something is withheld loses it: `lost`.
 *
 * The sockets are descriptors that epoll never finds ready (idle pipes), so the mock is the one that calls on_event:
 * mock_run() drives the loop and, inside each round, delivers to each source what it asked for (and EPOLLERR, EPOLLHUP
 * unasked) until nothing is ready. A relay that spins never comes to that end: mock_run() says so.
 *
 * The seam's functions have no context argument: there is one mock kernel at a time, in this file's static pointer.
 */
#ifndef POSTERN_TESTS_MOCK_KERNEL_IO_H
#define POSTERN_TESTS_MOCK_KERNEL_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "datapath/kernel_io.h"
#include "datapath/relay.h"

enum mock_item_kind {
	MOCK_BYTES,
	MOCK_FIN,
	MOCK_ERROR,
};

struct mock_item {
	enum mock_item_kind kind;
	unsigned int type; /* of the record; of no meaning to a stream */
	int error;
	uint8_t *bytes;
	size_t size;
	size_t taken;
};

struct mock_control { /* a record that the relay sent with TLS_SET_RECORD_TYPE */
	unsigned int type;
	uint8_t bytes[8];
	size_t size;
	size_t at; /* after so many bytes of out */
};

#define MOCK_ITEMS_MAX    4096
#define MOCK_CONTROLS_MAX 8

struct mock_socket {
	int fd;
	int other_end;
	struct loop_source *source; /* set by the test once the relay runs */
	bool kernel_tls;            /* TLS_RX is armed: reads bring records */
	bool kernel_transmit;       /* TLS_TX is armed: sendmsg() may name a record type, records are taken whole */

	struct mock_item items[MOCK_ITEMS_MAX];
	size_t first;
	size_t count;
	bool hides_key_update;      /* as kernels that can rekey: no EPOLLIN once a KeyUpdate was decrypted... */
	bool key_update_pending;    /* ...which recvmsg() does ahead, when it joins the data before it */
	int rekey_error;            /* errno of TLS_TX and TLS_RX set again; 0: the kernel can */
	unsigned int rekeys[2];     /* how often: TLS_TX, TLS_RX */
	size_t transmit_rekeyed_at; /* after so many bytes of out, the last time */
	int receive_low_water;      /* SO_RCVLOWAT: with less than this poll says nothing, unless it ends */
	size_t partial;             /* bytes of a record whose rest is to come; the kernel is one that reports it */
	bool no_record_types;       /* recvmsg() brings no cmsg, as if TLS_RX were not there */
	int splice_in_error;        /* every splice from this socket fails so */
	int splice_out_error;       /* every splice to it */

	uint8_t *out;
	size_t out_size;
	size_t out_capacity;
	struct mock_control controls[MOCK_CONTROLS_MAX];
	size_t control_count;
	size_t room;
	int send_buffer;       /* SO_SNDBUF; raising it by SO_SNDBUFFORCE gives more room */
	int send_buffer_error; /* errno of SO_SNDBUFFORCE, EPERM without CAP_NET_ADMIN */
	size_t low_water;
	size_t withheld;
	size_t lost;
	bool holds_back;   /* a splice said MSG_MORE: not writable until TCP_NODELAY is set, as with a tiny SO_SNDBUF */
	size_t call_limit; /* one write takes no more: short writes; 0 = no limit */
	int write_error;   /* the next write fails so, once */

	int reset; /* errno; sticky for writes, reported once by reads and SO_ERROR */
	bool reset_read;
	bool lingers_reset; /* SO_LINGER{1,0} is set */
	bool shut_for_writing;
	bool no_pad;
	bool closed;

	unsigned int recv_calls, recvmsg_calls, send_calls, splice_in_calls, splice_out_calls;
};

struct mock_kernel {
	struct mock_socket a;
	struct mock_socket b;
	struct relay_worker *worker; /* whose pipe[] are the pipe's two ends */
	uint8_t pipe[1u << 18];
	size_t pipe_size;    /* bytes in it */
	int pipe_read_error; /* the next read of the pipe fails so, once */
	int no_pad_error;
	int low_water_error; /* errno of SO_RCVLOWAT */
	unsigned int low_water_calls;
	char misuse[128]; /* the first call that no relay may make; "" if none */
	struct loop *loop;
	struct loop_source driver;
	unsigned int rounds;
};

extern const struct kernel_io mock_kernel_io;

/* The worker need not be initialised yet. Sockets have all room and SO_LINGER{1,0}. */
void mock_kernel_init(struct mock_kernel *kernel, struct loop *loop, struct relay_worker *worker);
void mock_kernel_destroy(struct mock_kernel *kernel);

void mock_feed(struct mock_socket *socket, const void *bytes, size_t size); /* type 23 */
void mock_feed_record(struct mock_socket *socket, unsigned int type, const void *bytes, size_t size);
void mock_feed_fin(struct mock_socket *socket);
void mock_feed_error(struct mock_socket *socket, int error);
void mock_reset(struct mock_socket *socket, int error);

/* Rounds of the loop until nothing is ready. True: it came to rest; false: it spins. */
bool mock_run(struct mock_kernel *kernel);

/* Take one fed item away, as a reader that is none of ours (OpenSSL, played by fake_session.h) would. */
void mock_take_one(struct mock_socket *socket);
/* And write as OpenSSL would: -1 and EAGAIN without room. */
ssize_t mock_write_through(struct mock_socket *socket, const void *bytes, size_t size);

/* Bytes fed and not read yet. */
size_t mock_unread(const struct mock_socket *socket);

#endif
