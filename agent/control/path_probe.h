/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * path_probe.h: a real connection on the whole path, for /readyz: a child plays the gateway in a cgroup
 * ("postern-proof.NAME") and a network namespace of its own, enrolled in the hooks and workers that serve everybody; it
 * connects to a destination that is covered for it alone, and the built-in TLS peer (probe_peer.h) answers.
 *
 *   child: connect() -> intercept -> hold -> worker: dial, handshake, verify, (kernel) TLS -> release -> a nonce there
 *   and back -> close
 *
 * One at a time; a result is good for PATH_PROBE_GOOD_NS, a bad one for PATH_PROBE_BAD_NS, and who asks in the meantime
 * gets it. Who asks while one runs waits for it. It is set up when somebody first asks. Control thread; nothing here
 * waits.
 *
 * The destination is PATH_PROBE_ADDRESS (192.0.2.2, TEST-NET-1 of RFC 5737), port 8443: not one below 1024, which takes
 * CAP_NET_BIND_SERVICE, and deploy/ does not grant that. Its key stays in the kernel's map; no snapshot names it, and a
 * gateway that connects there is refused.
 */
#ifndef POSTERN_CONTROL_PATH_PROBE_H
#define POSTERN_CONTROL_PATH_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "control/path_probe_key.h"
#include "control/probe_peer.h"
#include "datapath/gateway.h"
#include "datapath/proof_child.h"
#include "policy/snapshot.h"

struct agent;
struct path_probe;

#define PATH_PROBE_ADDRESS  PROOF_CHILD_ADDRESS
#define PATH_PROBE_GOOD_NS  5000000000ull
#define PATH_PROBE_BAD_NS   1000000000ull
#define PATH_PROBE_LIMIT_MS 3000 /* of each of the child's waits */
#define PATH_PROBE_REASON   192
#define PATH_PROBE_WAITING  32 /* as many as the HTTP server has connections */

/* Called once for each path_probe_ask() that did not answer at once. */
typedef void (*path_probe_answer)(void *context, void *asker, bool passed, const char *reason);

struct path_probe {
	struct agent *agent;
	path_probe_answer answer;
	void *context;

	char name[32]; /* "postern-probe.1a2b3c4d" */
	char *cgroup;
	int cgroup_fd;
	struct proof_child child;
	struct loop_source child_event;
	struct probe_peer peer;
	struct tls_settings settings;
	struct destination destination;
	struct gateway_probe gateway_probe;
	struct gateway_options options;
	struct gateway *gateway;
	bool served;
	bool set_up;

	bool runs;
	struct loop_timer limit;
	void *waiting[PATH_PROBE_WAITING];
	size_t waiting_count;

	bool passed;       /* the last result */
	uint64_t known_ns; /* when that was; 0: never */
	char reason[PATH_PROBE_REASON];
	uint64_t passes;
	uint64_t failures;
};

void path_probe_init(struct path_probe *probe, struct agent *agent, path_probe_answer answer, void *context);
/* True: *passed and reason are the answer. False: answer() will be called with this asker. */
bool path_probe_ask(struct path_probe *probe, void *asker, bool *passed, const char **reason);
/* The asker does not want an answer any more. */
void path_probe_forget(struct path_probe *probe, const void *asker);
/* Whoever waits gets "the agent stops". Idempotent. */
void path_probe_stop(struct path_probe *probe);

#endif
