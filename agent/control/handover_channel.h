/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * handover_channel.h: frames between an agent and its successor, over <run-dir>/handover.sock (a UNIX stream socket,
 * mode 0600, both ends root's). A frame is a header, a body, and two descriptors or none. Any thread; one writer and
 * one reader at a time. What is received is wiped when it is released: it may hold plaintext.
 */
#ifndef POSTERN_CONTROL_HANDOVER_CHANNEL_H
#define POSTERN_CONTROL_HANDOVER_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HANDOVER_SOCKET_NAME "handover.sock"
/* A change of a frame, of the order of frames, or of connection_state.h's format. */
#define HANDOVER_PROTOCOL 1

enum handover_type {
	HANDOVER_HELLO = 1,      /* successor: {protocol, abi, version} */
	HANDOVER_WELCOME = 2,    /* the same of the former, and gateways: [{name, id, ready}] */
	HANDOVER_FREEZE = 3,     /* successor: I am proved and loaded; write no map any more */
	HANDOVER_FROZEN = 4,     /* former */
	HANDOVER_SWITCHED = 5,   /* successor: new connects come to me */
	HANDOVER_COMMITTED = 6,  /* former: I only drain now. There is no way back */
	HANDOVER_CONNECTION = 7, /* former: connection_state.h, A and B */
};

struct handover_frame {
	enum handover_type type;
	uint8_t *bytes; /* NULL if size is 0 */
	size_t size;
	int fds[2]; /* -1: none */
};

/* What came so far of the next frame. */
struct handover_reader { /* handover_reader_init() */
	uint8_t header[16];
	size_t header_used;
	size_t body_used;
	struct handover_frame frame;
};

void handover_reader_init(struct handover_reader *reader);
void handover_reader_release(struct handover_reader *reader);
/* Wipe, free and close what the frame holds. */
void handover_frame_release(struct handover_frame *frame);

/*
 * Waits for room, 5 s at most. fds: NULL, or two. 0; -EAGAIN: nothing was sent, and nothing can be; -EPIPE: a part was,
 * and the channel is of no use any more.
 */
int handover_send(int socket, enum handover_type type, const void *bytes, size_t size, const int *fds);
/*
 * Does not wait. 1: *frame is whole, and the caller's; 0: there is no more now; -ECONNRESET: the other end is gone;
 * -EBADMSG: it talks nonsense; -ENOMEM.
 */
int handover_read(struct handover_reader *reader, int socket, struct handover_frame *frame);
/* Waits for a frame of this type, and no other one. 0; the errors of handover_read(); -ETIMEDOUT. */
int handover_expect(struct handover_reader *reader, int socket, enum handover_type type, int timeout_ms,
                    struct handover_frame *frame);
/* The other end is of our own user, or root's. */
bool handover_peer_is_trusted(int socket);

#endif
