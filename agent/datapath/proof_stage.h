/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * proof_stage.h: where the hooks are proved: the real programs, loaded a second time without pins, the real gateway
 * code, and a child that plays the gateway in a cgroup and network namespace of its own. Main thread.
 */
#ifndef POSTERN_DATAPATH_PROOF_STAGE_H
#define POSTERN_DATAPATH_PROOF_STAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "datapath/gateway.h"
#include "datapath/proof_child.h"
#include "postern/abi.h"

#define PROOF_PATIENCE_MS  2000
#define PROOF_BACKEND      0xc0000201u /* 192.0.2.1, never dialed: connect() is rewritten before it is routed */
#define PROOF_COVERED_PORT 443
#define PROOF_PLAIN_PORT   8080 /* of the plain server at the child's address */

struct hooks;
struct ring_buffer;

struct proof_stage {
	struct hooks *hooks;
	struct gateway *gateway;
	struct gateway_options options;
	struct proof_child child;
	char *cgroup;
	int cgroup_fd;
	int listener; /* a plain server inside the child's namespace */
	struct ring_buffer *ring;
	/* The newest records. */
	struct postern_connect_record connect;
	struct postern_syn_record syn;
	unsigned int connects;
	unsigned int syns;
};

/* 0, or negative errno and the error for the operator. What was set up is taken away by proof_stage_strike(). */
int proof_stage_set(struct proof_stage *stage, const char *agent_cgroup, char *error, size_t error_size);
void proof_stage_strike(struct proof_stage *stage);

/* Address in host byte order. */
struct postern_destination_key proof_key(uint32_t address, uint16_t port);
uint64_t proof_counter(struct proof_stage *stage, enum postern_counter which);
/* Until the ring has brought one more SYN than before. */
bool proof_await_syn(struct proof_stage *stage, unsigned int before);
/* Until the counter has moved; true if it did. */
bool proof_await_count(struct proof_stage *stage, enum postern_counter which, uint64_t before);

#endif
