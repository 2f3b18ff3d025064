/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * shadow.h: handshakes for gateways that are only observed. What such a gateway dials goes out as it is; beside it,
 * from its network namespace and with the settings that the policy has, one handshake says whether enforcing would
 * work: verified, or why not. Nothing but the handshake is sent, and it is ended in order.
 *
 * A thread of its own does one at a time, at most ten a second, so that a backend sees no storm and no worker waits.
 * The functions are the control thread's, but for shadow_find() and what it is used for, which may be any thread's.
 */
#ifndef POSTERN_DATAPATH_SHADOW_H
#define POSTERN_DATAPATH_SHADOW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/reason.h"
#include "postern/abi.h"
#include "tls/session.h"

struct context_table;
struct gateway;
struct hooks;
struct shadow;
struct snapshot;

struct shadow_options {
	struct hooks *hooks;
	struct context_table *contexts;
	uint64_t dial_limit_ns;
	uint64_t handshake_limit_ns;
};

struct shadow_result {
	enum postern_reason reason;  /* REASON_NONE: verified */
	char detail[TLS_DETAIL_MAX]; /* why not; or the name that matched */
	uint32_t settings_id;        /* by which it was judged */
	uint64_t at_ns;              /* CLOCK_MONOTONIC */
};

/* One try that was asked for by name (shadow_try()). */
struct shadow_report {
	struct shadow_result result;
	bool client_certificate; /* there is one, which is shown to a backend that asks */
	bool handshake_done;
	enum tls_version version; /* of a handshake that was done, as are those below */
	char cipher[64];
	char alpn[16];
};

/* 0 or negative errno. */
int shadow_start(const struct shadow_options *options, struct shadow **shadow);
void shadow_stop(struct shadow *shadow); /* NULL-safe; waits for the handshake that is under way */

/*
 * Try this destination, which the snapshot has TLS for, as the gateway (READY) would. What is known of it stays until
 * there is another result. False: it is not TLS, cannot be tried, or enough others wait; ask again later.
 */
bool shadow_ask(struct shadow *shadow, const struct gateway *gateway, struct snapshot *snapshot,
                const struct postern_destination_key *key);
/*
 * The same at once, for whoever wants to know it now, of a gateway in any mode. After the handshake it waits a second
 * for what the backend has to say: with TLS 1.3 a client certificate is refused only then. Returns a ticket for
 * shadow_report(), 0: see above. The last 16 reports are kept.
 */
uint64_t shadow_try(struct shadow *shadow, const struct gateway *gateway, struct snapshot *snapshot,
                    const struct postern_destination_key *key);
/* 0; -EAGAIN: not yet; -ENOENT: there is no such ticket (any more). */
int shadow_report(struct shadow *shadow, uint64_t ticket, struct shadow_report *report);
/* What is known. False: nothing. */
bool shadow_find(struct shadow *shadow, uint32_t gateway_id, const struct postern_destination_key *key,
                 struct shadow_result *result);
/* It is gone, or is not observed any more. */
void shadow_forget_gateway(struct shadow *shadow, uint32_t gateway_id);

#endif
