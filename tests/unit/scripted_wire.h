/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * scripted_wire.h: what the peer of a scripted run (scripted_run.h) has made and not sent yet: records, and where they
 * begin, so that they can be cut into segments; and how much of the backend's stream is in them.
 */
#ifndef POSTERN_TESTS_SCRIPTED_WIRE_H
#define POSTERN_TESTS_SCRIPTED_WIRE_H

#include "scripted_run.h"

#define WIRE_RECORD_MAX 16384

struct scripted_wire {
	struct scripted_peer *peer;
	uint8_t *bytes;
	size_t size;
	size_t room;
	size_t records[4096]; /* where in it records begin */
	size_t record_count;
	size_t last_record; /* the last one's offset and length */
	size_t last_length;

	size_t data;    /* bytes of application data in the script so far */
	size_t deliver; /* of them that G gets if it ends by a reset */
	bool withheld;  /* from here on it gets none in that case */
	bool closed;    /* close_notify is in the script: data behind it is nobody's */
};

void wire_free(struct scripted_wire *wire);
void wire_add_record(struct scripted_wire *wire, unsigned int type, const uint8_t *plain, size_t size, size_t padding);
void wire_add_raw(struct scripted_wire *wire, const void *bytes, size_t size);
/* The stream's next bytes. */
void wire_add_data(struct scripted_wire *wire, size_t size, size_t padding);
/* NewSessionTicket with so large a ticket, split over records; 0: as few as can be. */
void wire_add_ticket(struct scripted_wire *wire, size_t ticket, unsigned int records);
void wire_replay_last(struct scripted_wire *wire);

/* How much goes into the next segment that begins at `at`; *record, 0 at first, goes along. */
size_t wire_segment(const struct scripted_wire *wire, enum script_cut cut, size_t at, size_t *record);
/* All of it is sent. */
void wire_clear(struct scripted_wire *wire);

#endif
