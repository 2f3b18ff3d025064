/* SPDX-License-Identifier: GPL-2.0-only */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "scripted_wire.h"

static uint8_t *wire_reserve(struct scripted_wire *wire, size_t size)
{
	if (wire->size + size > wire->room) {
		wire->room = 2 * (wire->size + size);
		wire->bytes = realloc(wire->bytes, wire->room);
		assert_non_null(wire->bytes);
	}
	return wire->bytes + wire->size;
}

void wire_add_record(struct scripted_wire *wire, unsigned int type, const uint8_t *plain, size_t size, size_t padding)
{
	uint8_t *record = wire_reserve(wire, PEER_RECORD_ROOM);

	assert_true(wire->record_count < ARRAY_SIZE(wire->records));
	wire->last_record = wire->records[wire->record_count++] = wire->size;
	wire->last_length = scripted_peer_seal(wire->peer, type, plain, size, padding, record);
	wire->size += wire->last_length;
}

void wire_add_raw(struct scripted_wire *wire, const void *bytes, size_t size)
{
	memcpy(wire_reserve(wire, size), bytes, size);
	assert_true(wire->record_count < ARRAY_SIZE(wire->records));
	wire->records[wire->record_count++] = wire->size;
	wire->size += size;
}

void wire_add_data(struct scripted_wire *wire, size_t size, size_t padding)
{
	uint8_t plain[WIRE_RECORD_MAX];

	for (size_t i = 0; i < size; i++)
		plain[i] = scripted_byte(1, wire->data + i);
	wire_add_record(wire, 23, plain, size, padding);
	if (wire->closed)
		return;
	wire->data += size;
	if (!wire->withheld)
		wire->deliver = wire->data;
}

/* RFC 8446 4.6.1, with a nonce of 8 bytes and no extensions; 1.2 has no such thing here. */
void wire_add_ticket(struct scripted_wire *wire, size_t ticket, unsigned int records)
{
	size_t body = 4 + 4 + 1 + 8 + 2 + ticket + 2;
	size_t size = 4 + body;
	_cleanup_free_ uint8_t *message = calloc(1, size);
	size_t done = 0;

	assert_non_null(message);
	message[0] = 4;
	message[1] = (uint8_t)(body >> 16);
	message[2] = (uint8_t)(body >> 8);
	message[3] = (uint8_t)body;
	message[6] = 0x1c; /* 7200 s */
	message[7] = 0x20;
	message[12] = 8;
	message[20] = (uint8_t)wire->data; /* another nonce each time */
	message[21] = (uint8_t)(ticket >> 8);
	message[22] = (uint8_t)ticket;
	for (size_t i = 0; i < ticket; i++)
		message[23 + i] = (uint8_t)(200 + i % 50); /* a piece may not begin like KeyUpdate (24) */
	if (records == 0)
		records = (unsigned int)((size + WIRE_RECORD_MAX - 1) / WIRE_RECORD_MAX);
	for (unsigned int i = 0; i < records; i++) {
		size_t end = i + 1 == records ? size : size * (i + 1) / records;

		wire_add_record(wire, 22, message + done, end - done, 0);
		done = end;
	}
}

/* How much of the wire goes into the next segment. */
size_t wire_segment(const struct scripted_wire *wire, enum script_cut cut, size_t at, size_t *record)
{
	size_t left = wire->size - at;
	size_t begin, end;

	while (*record + 1 < wire->record_count && wire->records[*record + 1] <= at)
		(*record)++;
	begin = wire->records[*record];
	end = *record + 1 < wire->record_count ? wire->records[*record + 1] : wire->size;
	switch (cut) {
	case CUT_RECORDS:
		return end - at;
	case CUT_BYTES:
		if (at - begin < 16 || end - at <= 24)
			return 1;
		return end - at - 24 < 211 ? end - at - 24 : 211;
	case CUT_SEGMENTS:
		return left < 1448 ? left : 1448;
	case CUT_THREE:
		return wire->size > 4096 ? (left < 1021 ? left : 1021) : (left < 3 ? left : 3);
	default:
		return left;
	}
}

void wire_replay_last(struct scripted_wire *wire)
{
	uint8_t record[PEER_RECORD_ROOM];

	memcpy(record, wire->bytes + wire->last_record, wire->last_length);
	wire_add_raw(wire, record, wire->last_length);
}

void wire_clear(struct scripted_wire *wire)
{
	wire->size = 0;
	wire->record_count = 0;
}

void wire_free(struct scripted_wire *wire)
{
	free(wire->bytes);
	wire->bytes = NULL;
}
