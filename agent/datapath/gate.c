/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The gate's connect (include/postern/gate.h): nobody is dialed for it. It is completed when the policy is known, gets
 * one line, and is closed: that it came here at all is what the gateway wants to know.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "base/failures.h"
#include "datapath/worker_internal.h"
#include "policy/snapshot.h"
#include "policy/snapshot_holder.h"
#include "postern/gate.h"

bool gate_is_dialed(const struct attempt *attempt)
{
	const struct postern_destination_key *key = &attempt->connect.socket.destination;
	struct postern_address gate = {.byte = {[10] = 0xff, [11] = 0xff}};
	const uint32_t v4 = htonl(POSTERN_GATE_V4);

	memcpy(gate.byte + 12, &v4, sizeof(v4));
	return key->port == htons(POSTERN_GATE_PORT) && address_equal(&key->address, &gate);
}

void gate_decide(struct attempt *attempt)
{
	struct snapshot *snapshot = snapshot_holder_get(attempt->worker->options.snapshots);

	if (snapshot) {
		attempt->verdict = POSTERN_VERDICT_PLAIN;
		attempt_ready(attempt);
	} else {
		attempt_refuse(attempt, REASON_HOLD_TIMEOUT, "the policy is not known yet");
	}
	snapshot_unref(snapshot);
}

void gate_answer(struct attempt *attempt, int a_fd)
{
	const struct gateway *gateway = attempt->gateway->gateway;
	const struct linger in_order = {0};
	char line[512];
	int length = snprintf(line, sizeof(line), POSTERN_GATE_ANSWER "%.300s id=%u mode=%s\n", gateway->name,
	                      gateway->id, gateway->mode == POSTERN_MODE_OBSERVE ? "observe" : "enforce");

	/* A new socket's buffer has room for a line. The listener's linger would take it back with a reset. */
	if (setsockopt(a_fd, SOL_SOCKET, SO_LINGER, &in_order, sizeof(in_order)) == -1 ||
	    send(a_fd, line, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT) != length)
		failures_count(attempt->worker->options.failures, REASON_RELAY_ERROR);
	close(a_fd);
	attempt_accepted(attempt);
}
