/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * handshake_line.h: the order in which a worker's handshakes were begun, and which of them their backends have answered
 * lately. A backend serves a crowd one after the other: while it answers those that were there before, it is at work,
 * and not silent to the ones behind them. An answer to one that came later says nothing: that one was preferred.
 */
#ifndef POSTERN_DATAPATH_HANDSHAKE_LINE_H
#define POSTERN_DATAPATH_HANDSHAKE_LINE_H

#include <stddef.h>
#include <stdint.h>

#include "postern/abi.h"

#define HANDSHAKE_LINE_MEMORY 512 /* answers, of all destinations */

struct handshake_answer {
	uint64_t number;
	uint64_t answered_ns; /* 0: none yet */
	struct postern_destination_key destination;
};

struct handshake_line {
	uint64_t last_number;
	size_t next;
	struct handshake_answer answers[HANDSHAKE_LINE_MEMORY];
};

/* The number of a handshake that begins now. */
uint64_t handshake_line_join(struct handshake_line *line);
/* It has come to its end by the backend's own words, whatever they were. */
void handshake_line_answered(struct handshake_line *line, uint64_t number,
                             const struct postern_destination_key *destination, uint64_t now_ns);
/* When one that began before this number was last answered there; 0: none that is remembered. */
uint64_t handshake_line_moved_ns(const struct handshake_line *line, uint64_t number,
                                 const struct postern_destination_key *destination);

#endif
