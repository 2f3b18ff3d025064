/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * proof_child.h: the child that plays the gateway in the proof of the hooks: it lives in the cgroup "postern-proof" and
 * in a network namespace of its own, and does with its one socket G what it is told over a socket pair. It makes
 * system calls only, so a fork of a process with threads is safe, and it keeps none of the parent's descriptors.
 */
#ifndef POSTERN_DATAPATH_PROOF_CHILD_H
#define POSTERN_DATAPATH_PROOF_CHILD_H

#include <stdint.h>
#include <sys/types.h>

struct proof_child {
	pid_t pid;
	int commands; /* SOCK_SEQPACKET to the child */
};

/* cgroup_fd is an open cgroup directory. 0 or negative errno; the namespace is up, with 192.0.2.2 on its loopback. */
int proof_child_start(int cgroup_fd, struct proof_child *child);
/* Ends it and waits for it. Idempotent. */
void proof_child_stop(struct proof_child *child);

#define PROOF_CHILD_ADDRESS 0xc0000202u /* 192.0.2.2 (RFC 5737), host byte order */

/* Each returns 0 or more, or the child's negative errno; -EPIPE if the child is gone. */
int proof_child_connect(struct proof_child *child, uint32_t address, uint16_t port); /* G anew, non-blocking */
int proof_child_connected(struct proof_child *child, unsigned int wait_ms);          /* -EINPROGRESS: not yet */
int proof_child_send(struct proof_child *child, uint32_t first, uint32_t size);      /* bytes of the pattern */
int proof_child_queued(struct proof_child *child, unsigned int wait_ms); /* bytes to read, as FIONREAD has it */
int proof_child_close(struct proof_child *child);

/*
 * A whole round trip, for which nobody waits: connect, send the nonce, get it back, close. The answer comes at
 * child->commands, which is to be polled. 0 or negative errno.
 */
int proof_child_begin_round_trip(struct proof_child *child, uint32_t address, uint16_t port, uint64_t nonce,
                                 unsigned int limit_ms);
enum proof_trip {
	PROOF_TRIP_SOCKET,
	PROOF_TRIP_CONNECT,
	PROOF_TRIP_SEND,
	PROOF_TRIP_ANSWER,
};
/* What connect(), send() or recv() of the child said. 0: it got its nonce back; negative errno and where it failed. */
int proof_child_end_round_trip(struct proof_child *child, enum proof_trip *stage);

/* Byte number `position` of the pattern that proof_child_send() sends: no period that a lost message could hide in. */
uint8_t proof_pattern(uint32_t position);

#endif
