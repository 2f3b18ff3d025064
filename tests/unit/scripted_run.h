/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * scripted_run.h: a relay between a gateway and a scripted peer (scripted_peer.h), all in one thread over loopback TCP.
 *
 *   G ====TCP==== A  relay  B ====TCP==== S  the script
 *
 * A row says what S sends, and what must come of it: which bytes G gets, how it ends, and by which reason. Every row is
 * run in several modes of the relay and cut into TCP segments in several ways; the outcome may not depend on the cut.
 */
#ifndef POSTERN_TESTS_SCRIPTED_RUN_H
#define POSTERN_TESTS_SCRIPTED_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/reason.h"
#include "datapath/proof.h"
#include "scripted_peer.h"

enum step_kind {
	STEP_END,
	STEP_DATA,       /* one record with the next `size` bytes; 1.3: `padding` zeros behind them */
	STEP_TICKET,     /* NewSessionTicket with a ticket of `size` bytes, in `pieces` records (0: one) */
	STEP_KEY_UPDATE, /* pieces: request_update; size: behind a ticket in its record; padding: in two records */
	STEP_RECORD,     /* `bytes` (`size` of them) as one record of content type `type` */
	STEP_RAW,        /* `bytes` as they are, outside of any record */
	STEP_BAD_MAC,    /* a record of `size` bytes with a bit flipped: of byte `pieces` from its end */
	STEP_REPLAY,     /* the record before once more */
	STEP_GAP,        /* a sequence number is left out */
	STEP_OVERSIZE,   /* application data of `size` bytes that is in nobody's stream */
	STEP_OLD_KEY,    /* the same, sealed as if there had been no KeyUpdate */
	STEP_OFFENCE,    /* what follows may not be passed on if the connection ends by a reset */
	STEP_SYNC,       /* wait until G has all that was sent */
	STEP_G_SENDS,    /* G sends `size` bytes, and S waits for them */
	STEP_G_ENDS,     /* G half-closes; in TLS 1.3 S waits for close_notify */
	STEP_HEARS_KEY_UPDATE, /* S waits for one more KeyUpdate of ours */
	STEP_FIN,
	STEP_RESET,
};

struct step {
	enum step_kind kind;
	unsigned int type;
	size_t size;
	size_t padding;
	unsigned int pieces;
	const char *bytes;
};

#define STEPS_MAX 48

#define DATA(n)                                                                                                        \
	{                                                                                                              \
		STEP_DATA, .size = (n)                                                                                 \
	}
#define PADDED(n, zeros)                                                                                               \
	{                                                                                                              \
		STEP_DATA, .size = (n), .padding = (zeros)                                                             \
	}
#define TICKET(n, records)                                                                                             \
	{                                                                                                              \
		STEP_TICKET, .size = (n), .pieces = (records)                                                          \
	}
#define KEY_UPDATE(asks)                                                                                               \
	{                                                                                                              \
		STEP_KEY_UPDATE, .pieces = (asks)                                                                      \
	}
#define RECORD(t, literal)                                                                                             \
	{                                                                                                              \
		STEP_RECORD, .type = (t), .bytes = (literal), .size = sizeof(literal) - 1                              \
	}
#define HANDSHAKE(literal) RECORD(22, literal)
#define ALERT(literal)     RECORD(21, literal)
#define CLOSE_NOTIFY       ALERT("\1\0")
#define RAW(literal)                                                                                                   \
	{                                                                                                              \
		STEP_RAW, .bytes = (literal), .size = sizeof(literal) - 1                                              \
	}
#define STEP(k)                                                                                                        \
	{                                                                                                              \
		.kind = STEP_##k                                                                                       \
	}
#define STEP_OF(k, n)                                                                                                  \
	{                                                                                                              \
		.kind = STEP_##k, .size = (n)                                                                          \
	}

enum script_versions {
	ON_1_2 = 1,
	ON_1_3 = 2,
	ON_BOTH = 3,
};

struct script_row {
	const char *name;
	enum script_versions versions;
	struct step steps[STEPS_MAX];
	enum postern_reason by_openssl; /* NONE: a clean end, with all data */
	enum postern_reason by_kernel;  /* where the kernel decrypts the offence */
	bool with_finished;             /* it starts in the segment of the server's Finished */
	bool prefix;          /* a reset by S overtakes data: what G has is the beginning, and may not be all */
	unsigned int updates; /* KeyUpdates of ours that S must have heard, where we can rekey */
};

enum script_mode {
	SCRIPT_USER_TLS,
	SCRIPT_TICKETS, /* TLS_TX; receive goes from OpenSSL to the kernel by itself */
	SCRIPT_COPY,    /* both in the kernel before the first byte of the script */
	SCRIPT_SPLICE,  /* and splicing */
	SCRIPT_MODES,
};

enum script_cut {
	CUT_AT_ONCE,
	CUT_RECORDS,  /* each in a segment of its own */
	CUT_BYTES,    /* into single bytes near every record's begin and end, pieces of 211 between */
	CUT_SEGMENTS, /* of 1448 bytes, whatever the records */
	CUT_THREE,    /* of 3 bytes if the script is small, of 1021 otherwise */
	SCRIPT_CUTS,
};

struct script_variant {
	int version; /* TLS1_2_VERSION, TLS1_3_VERSION */
	enum tls_cipher cipher;
	enum script_mode mode;
	enum script_cut cut;
};

const char *script_variant_name(const struct script_variant *variant); /* static buffer */

/* Certificates and contexts; before the first run and after the last. */
void script_runs_begin(void);
void script_runs_end(void);

/*
 * The proof says what this kernel is used for. False, with what was seen on standard error, if the outcome is not the
 * row's.
 */
bool script_run(const struct script_row *row, const struct script_variant *variant, const struct proof *proof);

/* For rows that lower it; 0: the real one. */
extern uint64_t script_aead_limit_blocks;

#endif
