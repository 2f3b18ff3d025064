/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * attempt_world.h: what attempts live in, played: the kernel's hooks, the gateway's namespace, TLS, the relay, and the
 * three system calls connect(), sendto() and accept4(). attempt*.c, dial.c, release.c, connection.c, lane_slots.c, the
 * loop and the snapshots are the real ones. It defines the functions of those it plays, so the library's are not
 * linked: one program includes it once.
 *
 * As in the worker, everything runs inside a round of the loop, so that what is freed is freed at its end.
 */
#ifndef POSTERN_TESTS_ATTEMPT_WORLD_H
#define POSTERN_TESTS_ATTEMPT_WORLD_H

#include <arpa/inet.h>
#include <dirent.h>
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
#include "policy/settings.h"
#include "policy/snapshot_data.h"
#include "policy/snapshot_holder.h"
#include "tls/context.h"

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
	bool no_descriptors; /* accept4() has none, until the spare one is given up */
	bool lost;           /* the SYN that is sent again reaches nobody */
	int send_error;
	int decision_error;
	bool accept_stranger; /* a child that nobody released */
	bool gateway_took_slot;
	struct snapshot *publish_at_context; /* by the control thread, while the worker looks for a context */
	uint32_t missing_context;            /* the settings whose context is gone */

	/* What happened. */
	unsigned int dials, sessions, relays, aborted, syns, resets, unreachables, questions, offers;
	uint64_t last_question;
	enum postern_reason reports[REPORTS_MAX];
	size_t report_count;
	struct sockaddr_in child; /* in the accept queue */
	bool child_queued;
	struct connection *connection;
	enum postern_backend_phase phase;
	enum postern_reason abort_reason;
	uint32_t last_context;
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

int tls_session_new(struct tls_context *context, int b_fd, struct tls_session **session)
{
	(void)b_fd;
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
	*info = (struct tls_session_info){.version = TLS_VERSION_1_3, .cipher_name = "", .alpn = ""};
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
	tls_session_free(options.session);
	close(options.a_fd);
	close(options.b_fd);
	options.on_end(options.context, reason, detail);
	free(relay);
}

void relay_stats(const struct relay *relay, struct relay_stats *stats)
{
	(void)relay;
	*stats = (struct relay_stats){0};
}

/* ---- the worker ---- */

void worker_report(struct worker *worker, const struct worker_gateway *gateway, uint16_t gateway_port,
                   const struct postern_destination_key *destination, const char *policy, enum postern_reason reason,
                   const char *detail)
{
	(void)worker;
	(void)gateway;
	(void)gateway_port;
	(void)destination;
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

/* ---- snapshots ---- */

static inline struct postern_destination_key backend_key(unsigned int number)
{
	struct postern_address address = {.byte = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = (uint8_t)number}};

	return destination_key(&address, 443);
}

/* What backend 1 is: NONE for not named. Settings have this id. */
static inline struct snapshot *make_snapshot(enum postern_verdict verdict, uint32_t settings_id)
{
	static uint64_t generation;
	struct snapshot *snapshot = snapshot_new();
	struct settings_entry *entry = calloc(1, sizeof(*entry));

	if (!snapshot || !entry)
		abort();
	snapshot->generation = ++generation;
	entry->references = 1;
	entry->settings.id = settings_id;
	entry->settings.hostname = strdup("echo.example");
	snapshot->settings = calloc(1, sizeof(struct settings_entry *));
	snapshot->destinations = calloc(1, sizeof(*snapshot->destinations));
	if (!entry->settings.hostname || !snapshot->settings || !snapshot->destinations)
		abort();
	snapshot->settings[0] = entry;
	snapshot->settings_count = 1;
	if (verdict != POSTERN_VERDICT_NONE) {
		snapshot->destinations[0] = (struct destination){
		        .key = backend_key(1),
		        .verdict = verdict,
		        .settings_id = verdict == POSTERN_VERDICT_TLS ? settings_id : 0,
		        .reason = verdict == POSTERN_VERDICT_DENY ? REASON_NO_VALID_CA : REASON_NONE,
		        .policy = SNAPSHOT_NO_POLICY,
		};
		snapshot->destination_count = 1;
	}
	return snapshot;
}

static inline void publish(enum postern_verdict verdict, uint32_t settings_id)
{
	snapshot_holder_publish(world.worker.options.snapshots, make_snapshot(verdict, settings_id));
}

/* ---- rounds ---- */

static struct {
	void (*run)(const void *argument);
	const void *argument;
} next;

static inline void on_wake(void *context)
{
	(void)context;
	if (next.run)
		next.run(next.argument);
	next.run = NULL;
}

static inline void on_idle(void *context)
{
	(void)dial_run_handshakes(context, 1000000000);
}

/* One round: this, what is ready, and the handshakes. */
static inline void in_round(void (*run)(const void *argument), const void *argument)
{
	next.run = run;
	next.argument = argument;
	loop_wake(world.worker.loop);
	if (loop_step(world.worker.loop, 1000) != 0)
		abort();
}

static inline void do_nothing(const void *argument)
{
	(void)argument;
}

static inline void step(void)
{
	in_round(do_nothing, NULL);
}

/* ---- records ---- */

static inline struct postern_record_header header_of(enum postern_record_type type, uint16_t port, uint32_t isn)
{
	const struct postern_address loopback = {.byte = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};

	return (struct postern_record_header){
	        .type = type,
	        .isn = isn,
	        .time_ns = monotonic_ns(),
	        .tuple = {.local = loopback, .remote = loopback, .local_port = port, .remote_port = AGENT_PORT},
	};
}

static inline struct postern_connect_record connect_record(enum postern_record_type type, uint16_t port, uint32_t isn,
                                                           enum postern_verdict verdict)
{
	return (struct postern_connect_record){
	        .header = header_of(type, port, isn),
	        .socket = {.destination = backend_key(1),
	                   .verdict = verdict,
	                   .gateway_id = GATEWAY_ID,
	                   .flags = POSTERN_G_NONBLOCK,
	                   .cookie = 1000 + isn,
	                   .lane_slot = POSTERN_NO_LANE_SLOT},
	        .netns_cookie = NETNS_COOKIE,
	};
}

static inline void run_connect(const void *record)
{
	attempt_on_connect(&world.worker, record);
}

static inline void run_syn(const void *record)
{
	attempt_on_syn(&world.worker, record);
}

static inline void run_gone(const void *record)
{
	attempt_on_gone(&world.worker, record);
}

static inline void run_closed(const void *record)
{
	lane_slot_closed(&world.worker, record);
}

static inline void send_record(void (*run)(const void *record), const struct postern_connect_record *record)
{
	in_round(run, record);
}

static inline void g_connects(uint16_t port, uint32_t isn, enum postern_verdict verdict)
{
	const struct postern_connect_record record = connect_record(POSTERN_RECORD_CONNECT, port, isn, verdict);

	send_record(run_connect, &record);
}

static inline struct postern_syn_record syn_record(uint16_t port, uint32_t isn)
{
	struct postern_syn_record record = {
	        .header = header_of(POSTERN_RECORD_SYN, port, isn),
	        .listener_cookie = LISTENER_COOKIE,
	        .family = AF_INET,
	        .tcp_header_length = sizeof(struct tcphdr),
	};
	const struct tcphdr tcp = {
	        .source = htons(port),
	        .dest = htons(AGENT_PORT),
	        .seq = htonl(isn),
	        .doff = sizeof(tcp) / 4,
	        .syn = 1,
	};

	memcpy(record.tcp_header, &tcp, sizeof(tcp));
	return record;
}

static inline void g_sends_syn(uint16_t port, uint32_t isn)
{
	const struct postern_syn_record record = syn_record(port, isn);

	in_round(run_syn, &record);
}

/* G's socket is closed: as the kernel writes it, without the ISN. */
static inline void g_is_gone(uint16_t port, uint32_t isn)
{
	struct postern_connect_record record = connect_record(POSTERN_RECORD_GONE, port, isn, POSTERN_VERDICT_TLS);

	record.header.isn = 0;
	send_record(run_gone, &record);
}

static inline struct attempt *attempt_of(uint16_t port)
{
	struct postern_record_header header = header_of(POSTERN_RECORD_CONNECT, port, 0);

	return attempt_find(&world.worker, world.worker_gateway, &header.tuple);
}

static inline int state_of(uint16_t port)
{
	const struct attempt *attempt = attempt_of(port);

	return attempt ? (int)attempt->state : -1;
}

static inline enum postern_reason last_report(void)
{
	return world.report_count ? world.reports[world.report_count - 1] : REASON_NONE;
}

/* ---- states ---- */

/* A fresh attempt in this state. The SYN is known in all but WAITING, DIALING and READY of a SYN that did not come. */
static inline void bring_to(enum attempt_state state, uint16_t port, uint32_t isn)
{
	switch (state) {
	case ATTEMPT_ORPHAN:
		g_sends_syn(port, isn);
		break;
	case ATTEMPT_WAITING:
		publish(POSTERN_VERDICT_NONE, 1);
		g_connects(port, isn, POSTERN_VERDICT_HOLD);
		break;
	case ATTEMPT_DIALING:
		world.backend = BACKEND_IS_SILENT;
		g_connects(port, isn, POSTERN_VERDICT_TLS);
		break;
	case ATTEMPT_HANDSHAKE:
		world.handshake = TLS_STEP_WANT_READ;
		world.backend = BACKEND_ANSWERS;
		g_connects(port, isn, POSTERN_VERDICT_TLS);
		step();
		break;
	case ATTEMPT_READY:
		g_connects(port, isn, POSTERN_VERDICT_TLS);
		step();
		break;
	case ATTEMPT_RELEASED:
		world.lost = true;
		g_connects(port, isn, POSTERN_VERDICT_TLS);
		step();
		g_sends_syn(port, isn);
		break;
	case ATTEMPT_REFUSED:
		world.backend = BACKEND_REFUSES;
		g_connects(port, isn, POSTERN_VERDICT_TLS);
		break;
	case ATTEMPT_ACCEPTED:
		g_connects(port, isn, POSTERN_VERDICT_TLS);
		step();
		g_sends_syn(port, isn);
		break;
	}
	assert_int_equal(state_of(port), state);
}

/* ---- answers ---- */

static struct {
	uint64_t as_of_ns;
	struct hold_answer answers[8];
	size_t count;
} answers;

static inline void run_answers(const void *argument)
{
	(void)argument;
	attempt_hold_answered(&world.worker, answers.as_of_ns, answers.answers, answers.count);
}

static inline void answer(uint64_t question, enum postern_reason refusal)
{
	answers.as_of_ns = monotonic_ns();
	answers.answers[0] = (struct hold_answer){.question = question, .refusal = refusal};
	answers.count = 1;
	in_round(run_answers, NULL);
}

static inline void run_accept(const void *argument)
{
	(void)argument;
	release_accept(&world.worker_gateway->listeners[0], LISTENER_FD);
}

/* ---- a world of each test's own ---- */

static inline size_t open_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	size_t count = 0;

	if (!directory)
		abort();
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

static size_t descriptors_before;

static inline int world_begin(void **state)
{
	struct worker *worker = &world.worker;

	(void)state;
	descriptors_before = open_descriptors();
	memset(&world, 0, sizeof(world));
	world.handshake = TLS_STEP_DONE;
	world.slots = calloc(POSTERN_MAX_LANE_SLOTS, sizeof(*world.slots));
	world.worker_gateway = calloc(1, sizeof(*world.worker_gateway) + sizeof(struct worker_listener));
	worker->options = (struct worker_options){
	        .worker_count = POSTERN_MAX_LANE_SLOTS / 2, /* two slots */
	        .proof = &world.proof,
	        .snapshots = snapshot_holder_new(),
	        .failures = failures_new(),
	        .request_decision = request_decision,
	        .dial_limit_ns = 5000000000,
	        .handshake_limit_ns = 5000000000,
	        .hold_limit_ns = 5000000000,
	        .max_attempts = MAX_ATTEMPTS,
	        .max_connections = 1000,
	};
	if (loop_new(&worker->loop) != 0 || !world.slots || !world.worker_gateway || !worker->options.snapshots ||
	    !worker->options.failures || lane_slots_start(worker, worker->options.worker_count) != 0)
		return -1;
	worker->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	world.gateway =
	        (struct gateway){.id = GATEWAY_ID, .netns_cookie = NETNS_COOKIE, .raw_v4 = RAW_FD, .raw_v6 = -1};
	world.listener = (struct gateway_listener){
	        .fd_v4 = LISTENER_FD, .fd_v6 = -1, .cookie_v4 = LISTENER_COOKIE, .port = AGENT_PORT};
	world.worker_gateway->gateway = &world.gateway;
	world.worker_gateway->listener_count = 1;
	world.worker_gateway->listeners[0] = (struct worker_listener){
	        .worker = worker, .gateway = world.worker_gateway, .listener = &world.listener};
	worker->gateways = world.worker_gateway;
	loop_set_wake(worker->loop, on_wake, NULL);
	loop_set_idle(worker->loop, on_idle, worker);
	publish(POSTERN_VERDICT_TLS, 1);
	return 0;
}

static inline void run_abort_all(const void *argument)
{
	(void)argument;
	connection_abort_all(&world.worker, NULL, REASON_GATEWAY_REMOVED);
}

static inline void run_drop_all(const void *argument)
{
	struct attempt *attempt;

	(void)argument;
	for (size_t i = 0; i < ATTEMPT_BUCKETS; i++) {
		while ((attempt = world.worker.attempts[i]) != NULL)
			attempt_free(attempt);
	}
	run_abort_all(NULL);
}

/* Whatever a test did: nothing is counted, listed, open or held any more. */
static inline int world_end(void **state)
{
	struct worker *worker = &world.worker;
	bool clean;

	(void)state;
	in_round(run_drop_all, NULL);
	clean = worker->attempt_count == 0 && worker->accepted_count == 0 && !worker->accepted.head &&
	        worker->orphan_count == 0 && worker->in_flight == 0 && worker->in_flight_to.count == 0 &&
	        !worker->steps.head && !worker->waiting.head && world.worker_gateway->in_flight == 0 &&
	        world.contexts_alive == 0 && !worker->connections &&
	        atomic_load(&worker->statistics.attempts_live) == 0 &&
	        atomic_load(&worker->statistics.connections_live) == 0;
	if (!clean)
		fprintf(stderr, "left: attempts %zu orphans %zu in flight %zu (%zu destinations) contexts %u\n",
		        worker->attempt_count, worker->orphan_count, worker->in_flight, worker->in_flight_to.count,
		        world.contexts_alive);
	key_table_free(&worker->in_flight_to);
	snapshot_holder_free(worker->options.snapshots);
	failures_free(worker->options.failures);
	loop_free(worker->loop);
	if (worker->spare_fd != -1)
		close(worker->spare_fd);
	free(worker->free_slots);
	free(worker->slot_states);
	free(world.worker_gateway);
	free(world.slots);
	if (open_descriptors() != descriptors_before) {
		fprintf(stderr, "descriptors: %zu before, %zu after\n", descriptors_before, open_descriptors());
		return -1;
	}
	return clean ? 0 : -1;
}

#endif
