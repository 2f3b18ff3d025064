/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * lane_connection.h: one connection in the lane, as G and as the worker sees it, on the fixture of the hooks' tests.
 * What G sends is a pattern, by every call that sends; what A receives is compared with it, byte by byte, and accounted
 * in the slot as a worker does. A wrong byte ends the program.
 */
#ifndef POSTERN_TESTS_LANE_CONNECTION_H
#define POSTERN_TESTS_LANE_CONNECTION_H

#include <stddef.h>
#include <stdint.h>

#include "hooks_fixture.h"

#define LANE_TARGET       "198.51.100.130" /* port 443: TLS by the test's own maps */
#define LANE_PATTERN_SIZE 6000000u         /* lane_sendfile() has no more */

struct lane {
	int g;
	int a;
	uint16_t port;
	uint64_t cookie;
	struct postern_lane_slot *slot;
	uint64_t sent;
	uint64_t received;
};

/* Byte number `position`: no period that a lost or doubled message could hide in. */
uint8_t lane_pattern(uint64_t position);
/* The file that lane_sendfile() sends from, for whoever sends it himself. Once. */
int lane_make_pattern(void);

/* Established with an offered slot; A has not joined yet. g is owned from now on. */
struct lane lane_start(struct fixture *fixture, int g);
void lane_close(struct lane *lane);
/* The parts of it: a slot for G, whose CONNECT record has come; and A into the lane. */
void lane_offer(struct fixture *fixture, struct lane *lane);
void lane_join(struct fixture *fixture, struct lane *lane);

/* How many bytes G got rid of; 0: it must wait. */
size_t lane_send(struct lane *lane, size_t size);
size_t lane_sendfile(struct lane *lane, size_t size);
size_t lane_splice(struct lane *lane, size_t size);

/* What is there, up to `size` bytes, checked and accounted. -1: the end. */
long lane_receive(struct fixture *fixture, struct lane *lane, size_t size);
/* All that was sent, or what came before PATIENCE_MS without any. */
void lane_receive_all(struct fixture *fixture, struct lane *lane);

#endif
