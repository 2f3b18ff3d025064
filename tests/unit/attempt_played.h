/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * attempt_played.h: what is played of the world of attempts, each function as little as a test needs, and what
 * happened. For attempt_world.h alone.
 */
#ifndef POSTERN_TESTS_ATTEMPT_PLAYED_H
#define POSTERN_TESTS_ATTEMPT_PLAYED_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/failures.h"
#include "base/log.h"
#include "datapath/context_table.h"
#include "datapath/hooks.h"
#include "datapath/proof.h"
#include "datapath/worker_internal.h"
#include "policy/client_certificate.h"
#include "policy/gateway_identity.h"
#include "policy/settings.h"
#include "policy/snapshot_data.h"
#include "policy/snapshot_holder.h"
#include "tls/context.h"
#include "tls/peer.h"

#define GATEWAY_ID      7
#define NETNS_COOKIE    77
#define LISTENER_COOKIE 777
#define LISTENER_FD     100000 /* of no file */
#define RAW_FD          100001
#define AGENT_PORT      28100
#define MAX_ATTEMPTS    8
#define REPORTS_MAX     4096
#define PORT            40000 /* of the first G */
#define ISN             500

enum backend { BACKEND_ANSWERS, BACKEND_REFUSES, BACKEND_IS_SILENT, BACKEND_UNREACHABLE };

struct tls_session {
	bool freed;
};

struct tls_context {
	unsigned int references;
	uint32_t settings_id;
};

struct tls_peer {
	bool freed;
};

static struct world {
	struct worker worker;
	struct gateway gateway;
	struct gateway_listener listener;
	struct worker_gateway *worker_gateway;
	struct proof proof;
	struct postern_lane_slot *slots;

	/* What is to happen. */
	enum backend backend;
	enum tls_step handshake;
	bool no_turn;        /* handshakes have something to do, and the worker has no time for them */
	bool no_descriptors; /* accept4() has none, until the spare one is given up */
	bool no_memory;      /* accept4() has none at all */
	bool lost;           /* the SYN that is sent again reaches nobody */
	int send_error;
	int decision_error;
	bool accept_stranger; /* a child that nobody released */
	bool gateway_took_slot;
	struct snapshot *publish_at_context;    /* by the control thread, while the worker looks for a context */
	uint32_t missing_context;               /* the settings whose context is gone */
	struct client_certificate *certificate; /* that this gateway shows */
	const struct gateway_status *unusable;  /* whose certificate cannot be used */
	int64_t valid_until;                    /* of every peer that is verified from now on */
	int64_t judged_until;                   /* of every peer that is judged again; 0: the same */
	bool distrusted;                        /* no peer is accepted when it is judged again */
	bool idle;                              /* the relays */
	uint64_t review_budget_ns;              /* of each round */
	bool review_left;                       /* connections that were not looked at in the last round */

	/* What happened. */
	unsigned int dials, sessions, relays, aborted, syns, resets, unreachables, questions, offers, judged;
	uint64_t last_question;
	enum postern_reason reports[REPORTS_MAX];
	size_t report_count;
	bool ring_has_more;       /* records that the worker has not read */
	struct sockaddr_in child; /* in the accept queue */
	bool child_queued;
	struct connection *connection;
	enum postern_backend_phase phase;
	enum postern_reason abort_reason;
	char abort_detail[TLS_DETAIL_MAX];
	uint32_t last_context;
	const struct client_certificate *last_certificate; /* that a session was made to show */
	unsigned int peers_alive, certificate_references;
	uint64_t offered_to; /* cookie in the kernel's map of offers; 0: none */
	unsigned int contexts_alive;
	uint64_t lane_gateway; /* cookie of the G that is in the sockmap */
} world;

/* ---- the system calls ---- */

int connect(int fd, const struct sockaddr *address, socklen_t length)
{
	(void)address;
	(void)length;
	world.dials++;
	switch (world.backend) {
	case BACKEND_REFUSES:
		errno = ECONNREFUSED;
		return -1;
	case BACKEND_UNREACHABLE:
		errno = EHOSTUNREACH;
		return -1;
	case BACKEND_IS_SILENT: /* a listener's poll reports neither room nor hang-up */
		if (listen(fd, 1) == -1)
			abort();
		break;
	case BACKEND_ANSWERS: /* a socket without a peer is reported at once, without an error */
		break;
	}
	errno = EINPROGRESS;
	return -1;
}

ssize_t sendto(int fd, const void *bytes, size_t size, int flags, const struct sockaddr *to, socklen_t length)
{
	const uint8_t *packet = bytes;
	struct tcphdr tcp;

	(void)to;
	(void)length;
	(void)flags;
	if (fd != RAW_FD)
		abort();
	if (world.send_error) {
		errno = world.send_error;
		return -1;
	}
	if (packet[9] == IPPROTO_ICMP) {
		world.unreachables++;
		return (ssize_t)size;
	}
	memcpy(&tcp, packet + 20, sizeof(tcp));
	if (tcp.rst) {
		world.resets++;
		return (ssize_t)size;
	}
	world.syns++;
	if (!world.lost) {
		world.child = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = tcp.source};
		memcpy(&world.child.sin_addr, packet + 12, 4);
		world.child_queued = true;
		if (world.gateway_took_slot)
			world.offered_to = 0;
	}
	return (ssize_t)size;
}

int accept4(int fd, struct sockaddr *peer, socklen_t *length, int flags)
{
	(void)flags;
	if (fd != LISTENER_FD)
		abort();
	if (!world.child_queued) {
		errno = EAGAIN;
		return -1;
	}
	if (world.no_descriptors && world.worker.spare_fd != -1 && fcntl(world.worker.spare_fd, F_GETFD) != -1) {
		errno = EMFILE;
		return -1;
	}
	if (world.no_memory) {
		errno = ENOMEM;
		return -1;
	}
	world.child_queued = false;
	memcpy(peer, &world.child, sizeof(world.child));
	*length = sizeof(world.child);
	return socket(AF_INET, SOCK_STREAM, 0);
}

/* ---- hooks, gateway ---- */

int hooks_set_backend(struct hooks *hooks, int b_fd, const struct postern_backend_socket *state)
{
	(void)hooks;
	(void)b_fd;
	world.phase = state->phase;
	return 0;
}

struct postern_lane_slot *hooks_lane_slots(const struct hooks *hooks)
{
	(void)hooks;
	return world.slots;
}

int hooks_lane_offer(struct hooks *hooks, uint64_t gateway_cookie, uint32_t slot)
{
	(void)hooks;
	(void)slot;
	world.offers++;
	world.offered_to = gateway_cookie;
	return 0;
}

int hooks_lane_withdraw(struct hooks *hooks, uint64_t gateway_cookie)
{
	(void)hooks;
	if (world.offered_to != gateway_cookie)
		return -ENOENT;
	world.offered_to = 0;
	return 0;
}

int hooks_lane_join_agent(struct hooks *hooks, uint64_t gateway_cookie, int a_fd)
{
	(void)hooks;
	(void)gateway_cookie;
	(void)a_fd;
	return 0;
}

int hooks_lane_leave_agent(struct hooks *hooks, uint64_t gateway_cookie)
{
	(void)hooks;
	(void)gateway_cookie;
	return 0;
}

int hooks_lane_leave_gateway(struct hooks *hooks, uint64_t gateway_cookie)
{
	(void)hooks;
	(void)gateway_cookie;
	return 0;
}

bool hooks_lane_has_gateway(struct hooks *hooks, uint64_t gateway_cookie)
{
	(void)hooks;
	return world.lane_gateway == gateway_cookie;
}

int gateway_socket(const struct gateway *gateway, int family, int type, int protocol)
{
	(void)gateway;
	return socket(family, type, protocol);
}

/* ---- TLS ---- */

struct tls_context *tls_context_ref(struct tls_context *context)
{
	context->references++;
	return context;
}

void tls_context_unref(struct tls_context *context)
{
	if (!context || --context->references)
		return;
	world.contexts_alive--;
	free(context);
}

struct tls_context *context_table_get(struct context_table *table, uint32_t settings_id)
{
	struct tls_context *context;

	(void)table;
	if (world.publish_at_context)
		snapshot_holder_publish(world.worker.options.snapshots, TAKE_PTR(world.publish_at_context));
	if (settings_id == world.missing_context)
		return NULL;
	context = calloc(1, sizeof(*context));
	if (!context)
		abort();
	context->references = 1;
	context->settings_id = settings_id;
	world.contexts_alive++;
	return context;
}

int tls_session_new(struct tls_context *context, int b_fd, const struct tls_session_owner *owner,
                    struct tls_session **session)
{
	(void)b_fd;
	if (owner->gateway_id != GATEWAY_ID || owner->backend.port != htons(443))
		abort();
	world.last_certificate = owner->client_certificate;
	world.sessions++;
	world.last_context = context->settings_id;
	*session = calloc(1, sizeof(**session));
	return *session ? 0 : -ENOMEM;
}

void tls_session_free(struct tls_session *session)
{
	free(session);
}

enum tls_step tls_session_handshake(struct tls_session *session)
{
	(void)session;
	return world.handshake;
}

enum postern_reason tls_session_reason(const struct tls_session *session)
{
	(void)session;
	return REASON_CERTIFICATE_UNTRUSTED;
}

const char *tls_session_detail(const struct tls_session *session)
{
	(void)session;
	return "";
}

void tls_session_info(const struct tls_session *session, struct tls_session_info *info)
{
	(void)session;
	*info = (struct tls_session_info){
	        .version = TLS_VERSION_1_3, .cipher_name = "", .alpn = "", .peer_valid_until = world.valid_until};
}

struct tls_peer *tls_session_peer(const struct tls_session *session)
{
	struct tls_peer *peer = calloc(1, sizeof(*peer));

	(void)session;
	if (!peer)
		abort();
	world.peers_alive++;
	return peer;
}

void tls_peer_unref(struct tls_peer *peer)
{
	if (!peer)
		return;
	world.peers_alive--;
	free(peer);
}

bool tls_context_judge_peer(struct tls_context *context, struct tls_peer *peer, struct verify_result *result,
                            int64_t *valid_until)
{
	(void)peer;
	world.judged++;
	world.last_context = context->settings_id;
	*valid_until = world.judged_until ? world.judged_until : world.valid_until;
	*result = (struct verify_result){.reason = world.distrusted ? REASON_CERTIFICATE_UNTRUSTED : REASON_NONE,
	                                 .detail = "played"};
	return !world.distrusted;
}

int tls_session_arm_transmit(struct tls_session *session)
{
	(void)session;
	return -ENOENT;
}

const char *tls_version_name(enum tls_version version)
{
	(void)version;
	return "";
}

/* ---- identity ---- */

struct client_certificate *client_certificate_ref(struct client_certificate *certificate)
{
	world.certificate_references++;
	return certificate;
}

void client_certificate_unref(struct client_certificate *certificate)
{
	world.certificate_references -= certificate != NULL;
}

void gateway_identity_find(const struct snapshot *snapshot, const struct object_name *refs, size_t ref_count,
                           const struct tls_settings *settings, struct gateway_identity *identity)
{
	(void)snapshot;
	(void)refs;
	(void)ref_count;
	(void)settings;
	*identity = (struct gateway_identity){.certificate = world.certificate, .unusable = world.unusable};
}

bool client_certificates_equal(const struct client_certificate *left, const struct client_certificate *right)
{
	return left == right;
}

/* ---- the relay ---- */

struct relay {
	struct relay_options options;
};

int relay_start(struct relay_worker *worker, const struct relay_options *options, struct relay **relay)
{
	(void)worker;
	world.relays++;
	world.connection = options->context;
	*relay = calloc(1, sizeof(**relay));
	if (!*relay)
		return -ENOMEM;
	(*relay)->options = *options;
	return 0;
}

void relay_abort(struct relay *relay, enum postern_reason reason, const char *detail)
{
	struct relay_options options = relay->options;

	world.aborted++;
	world.abort_reason = reason;
	snprintf(world.abort_detail, sizeof(world.abort_detail), "%s", detail);
	tls_session_free(options.session);
	close(options.a_fd);
	close(options.b_fd);
	options.on_end(options.context, reason, detail);
	free(relay);
}

bool relay_is_idle(const struct relay *relay, uint64_t since_ns)
{
	(void)relay;
	return world.idle && since_ns < monotonic_ns();
}

const char *relay_mode_name(enum relay_mode mode)
{
	(void)mode;
	return "played";
}

/* relay_state.h has the real struct relay. */
int relay_b_fd(const struct relay *relay);
int relay_b_fd(const struct relay *relay)
{
	(void)relay;
	return -1;
}

void relay_stats(const struct relay *relay, struct relay_stats *stats)
{
	(void)relay;
	*stats = (struct relay_stats){0};
}

/* ---- the worker ---- */

bool worker_ring_has_more(const struct worker *worker)
{
	(void)worker;
	return world.ring_has_more;
}

void worker_report(struct worker *worker, struct trace_subject subject, const char *policy, enum postern_reason reason,
                   const char *detail)
{
	(void)worker;
	(void)subject;
	(void)policy;
	(void)detail;
	if (world.report_count < REPORTS_MAX)
		world.reports[world.report_count++] = reason;
}

struct worker_gateway *worker_find_gateway(struct worker *worker, uint32_t gateway_id)
{
	return gateway_id == GATEWAY_ID ? worker->gateways : NULL;
}

struct worker_listener *worker_find_listener(struct worker *worker, uint64_t listener_cookie)
{
	return listener_cookie == LISTENER_COOKIE ? &worker->gateways->listeners[0] : NULL;
}

static inline int request_decision(void *context, unsigned int worker_index, uint64_t question,
                                   const struct postern_destination_key *key)
{
	(void)context;
	(void)worker_index;
	(void)key;
	world.questions++;
	world.last_question = question;
	return world.decision_error;
}

#endif
