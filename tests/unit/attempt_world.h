/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * attempt_world.h: what attempts live in, played: the kernel's hooks, the gateway's namespace and identity, TLS, the
 * relay, and the three system calls connect(), sendto() and accept4(). attempt*.c, dial.c, release.c, connection*.c,
 * lane_slots.c, the loop and the snapshots are the real ones. It defines the functions of those it plays, so the
 * library's are not linked: one program includes it once.
 *
 * As in the worker, everything runs inside a round of the loop, so that what is freed is freed at its end.
 */
#ifndef POSTERN_TESTS_ATTEMPT_WORLD_H
#define POSTERN_TESTS_ATTEMPT_WORLD_H

#include "attempt_played.h"
#include "descriptors.h"

/* ---- snapshots ---- */

static inline struct postern_destination_key backend_key(unsigned int number)
{
	struct postern_address address = {.byte = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = (uint8_t)number}};

	return destination_key(&address, 443);
}

/* What backend 1 is: NONE for not named. Settings have this id. */
static inline struct snapshot *make_snapshot(enum postern_verdict verdict, uint32_t settings_id)
{
	static const struct destination_list nothing;
	static uint64_t generation;
	struct destination_edit edit = {0};
	struct snapshot *snapshot = snapshot_new();
	struct settings_entry *entry = calloc(1, sizeof(*entry));

	if (!snapshot || !entry)
		abort();
	snapshot->generation = ++generation;
	entry->references = 1;
	entry->settings.id = settings_id;
	entry->settings.hostname = strdup("echo.example");
	snapshot->settings = settings_list_new(1);
	snapshot->policies = status_list_new(0);
	snapshot->gateways = gateway_list_new(NULL, 0);
	if (!entry->settings.hostname || !snapshot->settings || !snapshot->policies || !snapshot->gateways)
		abort();
	snapshot->settings->entries[0] = entry;
	edit.destination = (struct destination){
	        .key = backend_key(1),
	        .verdict = verdict,
	        .settings_id = verdict == POSTERN_VERDICT_TLS ? settings_id : 0,
	        .reason = verdict == POSTERN_VERDICT_DENY ? REASON_NO_VALID_CA : REASON_NONE,
	        .policy = SNAPSHOT_NO_POLICY,
	};
	if (destination_list_edit(&nothing, &edit, verdict != POSTERN_VERDICT_NONE, NULL, &snapshot->destinations) != 0)
		abort();
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
	if (!world.no_turn)
		(void)dial_run_handshakes(context, 1000000000);
	world.review_left = connection_review_run(context, world.review_budget_ns);
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

static inline void run_policy_changed(const void *argument)
{
	(void)argument;
	attempt_policy_changed(&world.worker);
	connection_policy_changed(&world.worker);
}

static inline void change_to(enum postern_verdict verdict, uint32_t settings_id)
{
	publish(verdict, settings_id);
	in_round(run_policy_changed, NULL);
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

static size_t descriptors_before;

static inline int world_begin(void **state)
{
	struct worker *worker = &world.worker;

	(void)state;
	descriptors_before = count_descriptors();
	memset(&world, 0, sizeof(world));
	world.handshake = TLS_STEP_DONE;
	world.review_budget_ns = 1000000000;
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
	slab_init(&worker->connection_slab, sizeof(struct connection));
	connection_limits_start(worker);
	if (loop_new(&worker->loop) != 0 || !world.slots || !world.worker_gateway || !worker->options.snapshots ||
	    !worker->options.failures || connection_review_start(worker) != 0 ||
	    lane_slots_start(worker, worker->options.worker_count) != 0)
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
	        world.contexts_alive == 0 && world.peers_alive == 0 && world.certificate_references == 0 &&
	        !worker->connections && worker->review.draining == 0 &&
	        atomic_load(&worker->statistics.attempts_live) == 0 &&
	        atomic_load(&worker->statistics.connections_live) == 0;
	if (!clean)
		fprintf(stderr, "left: attempts %zu orphans %zu in flight %zu (%zu destinations) contexts %u\n",
		        worker->attempt_count, worker->orphan_count, worker->in_flight, worker->in_flight_to.count,
		        world.contexts_alive);
	connection_review_stop(worker);
	key_table_free(&worker->in_flight_to);
	snapshot_holder_free(worker->options.snapshots);
	failures_free(worker->options.failures);
	loop_free(worker->loop);
	slab_destroy(&worker->connection_slab);
	if (worker->spare_fd != -1)
		close(worker->spare_fd);
	free(worker->free_slots);
	free(worker->slot_states);
	free(world.worker_gateway);
	free(world.slots);
	if (count_descriptors() != descriptors_before) {
		fprintf(stderr, "descriptors: %zu before, %zu after\n", descriptors_before, count_descriptors());
		return -1;
	}
	return clean ? 0 : -1;
}

#endif
