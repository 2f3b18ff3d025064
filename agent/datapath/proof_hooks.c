/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Proof of hold, guard, witness and lane on the running kernel. The real programs, loaded a second time without pins,
 * the real gateway code, and a child that plays the gateway in a cgroup and network namespace of its own: nothing that
 * serves traffic is touched. Each waits for an event (a record, a counter, a byte), never for time alone.
 */
#include <arpa/inet.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/loop.h"
#include "datapath/gateway.h"
#include "datapath/hooks.h"
#include "datapath/packet.h"
#include "datapath/proof.h"
#include "datapath/proof_child.h"

#define PATIENCE_MS  2000
#define BACKEND      0xc0000201u /* 192.0.2.1, never dialed: connect() is rewritten before it is routed */
#define COVERED_PORT 443
#define PLAIN_PORT   8080
#define LANE_BYTES   200000u
#define LANE_EARLY   100u /* sent before A joins the lane */
#define LANE_SLOT    0

struct stage {
	struct hooks *hooks;
	struct gateway *gateway;
	struct gateway_options options;
	struct proof_child child;
	char *cgroup;
	int cgroup_fd;
	int listener; /* a plain server inside the child's namespace */
	struct ring_buffer *ring;
	/* The newest records. */
	struct postern_connect_record connect;
	struct postern_syn_record syn;
	unsigned int connects;
	unsigned int syns;
};

__attribute__((format(printf, 3, 4))) static void conclude(struct proof_result *result, enum proof_verdict verdict,
                                                           const char *format, ...)
{
	va_list arguments;

	result->verdict = verdict;
	va_start(arguments, format);
	vsnprintf(result->detail, sizeof(result->detail), format, arguments);
	va_end(arguments);
}

static struct postern_destination_key key_of(uint32_t address, uint16_t port)
{
	struct sockaddr_storage storage = {0};
	struct sockaddr_in *v4 = (struct sockaddr_in *)&storage;
	struct postern_address parsed = {0};
	uint16_t ignored;

	v4->sin_family = AF_INET;
	v4->sin_addr.s_addr = htonl(address);
	(void)address_from_sockaddr(&storage, &parsed, &ignored);
	return destination_key(&parsed, port);
}

static int on_record(void *context, void *data, size_t size)
{
	struct stage *stage = context;
	const struct postern_record_header *header = data;

	if (header->type == POSTERN_RECORD_CONNECT && size >= sizeof(stage->connect)) {
		memcpy(&stage->connect, data, sizeof(stage->connect));
		stage->connects++;
	} else if (header->type == POSTERN_RECORD_SYN && size >= sizeof(stage->syn)) {
		memcpy(&stage->syn, data, sizeof(stage->syn));
		stage->syns++;
	}
	return 0;
}

/* Until the ring has brought one more SYN than before. */
static bool await_syn(struct stage *stage, unsigned int before)
{
	uint64_t end = monotonic_ns() + PATIENCE_MS * 1000000ull;

	while (stage->syns <= before && monotonic_ns() < end)
		(void)ring_buffer__poll(stage->ring, 100);
	return stage->syns > before;
}

static uint64_t counter(struct stage *stage, enum postern_counter which)
{
	uint64_t counters[POSTERN_COUNTERS];

	return hooks_counters(stage->hooks, counters) == 0 ? counters[which] : 0;
}

static int release(struct stage *stage, int raw)
{
	struct packet packet;
	struct sockaddr_storage to;
	socklen_t length;
	int error = packet_syn(&stage->syn, &packet);

	if (error)
		return error;
	length = address_to_sockaddr(&packet.destination, 0, &to);
	return sendto(raw, packet.bytes, packet.length, 0, (struct sockaddr *)&to, length) == -1 ? -errno : 0;
}

/* A connect of the child to the covered destination, held: both records are there and belong together. */
static const char *hold_one(struct stage *stage)
{
	unsigned int connects = stage->connects;

	if (proof_child_connect(&stage->child, BACKEND, COVERED_PORT) != 0)
		return "connect() to a covered destination was not redirected";
	if (!await_syn(stage, stage->syns))
		return "the listener's filter saw no SYN";
	if (stage->connects == connects)
		return "no CONNECT record came before the SYN";
	if (stage->connect.header.isn != stage->syn.header.isn ||
	    stage->connect.header.tuple.local_port != stage->syn.header.tuple.local_port)
		return "CONNECT and SYN record do not join";
	if (stage->connect.socket.destination.port != htons(COVERED_PORT))
		return "the original destination is wrong";
	return NULL;
}

/* Sends the SYN again and accepts A. */
static int release_and_accept(struct stage *stage)
{
	const struct gateway_listener *listener = NULL;
	int error = release(stage, stage->gateway->raw_v4);
	int a;

	for (size_t i = 0; i < stage->gateway->listener_count; i++) {
		if (stage->gateway->listeners[i].cookie_v4 == stage->syn.listener_cookie)
			listener = &stage->gateway->listeners[i];
	}
	if (error || !listener)
		return error ? error : -ENOENT;
	a = accept4(listener->fd_v4, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	return a == -1 ? -errno : a;
}

static void prove_hold(struct stage *stage, struct proof_result *result)
{
	_cleanup_close_ int stranger = gateway_socket(stage->gateway, AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	_cleanup_close_ int a = -1;
	const char *wrong = hold_one(stage);
	struct packet packet;
	struct sockaddr_storage to;
	socklen_t length;
	unsigned int syns = stage->syns;

	if (wrong) {
		conclude(result, PROOF_UNSAFE, "%s", wrong);
		return;
	}
	/* Somebody without the secret priority sends the same SYN: it must be held again. */
	if (stranger < 0 || release(stage, stranger) != 0 || !await_syn(stage, syns)) {
		conclude(result, PROOF_UNSAFE, "a SYN without the secret was not held");
		return;
	}
	if (proof_child_connected(&stage->child, 0) != -EINPROGRESS) {
		conclude(result, PROOF_UNSAFE, "connect() ended before the release");
		return;
	}
	a = release_and_accept(stage);
	if (a < 0 || proof_child_connected(&stage->child, PATIENCE_MS) != 0) {
		conclude(result, PROOF_UNSAFE, "the released SYN did not complete connect()");
		return;
	}
	wrong = hold_one(stage);
	if (!wrong && packet_reset(&stage->syn, &packet) == 0) {
		length = address_to_sockaddr(&packet.destination, 0, &to);
		if (sendto(stage->gateway->raw_v4, packet.bytes, packet.length, 0, (struct sockaddr *)&to, length) ==
		            -1 ||
		    proof_child_connected(&stage->child, PATIENCE_MS) != -ECONNREFUSED)
			wrong = "a refusal did not reach connect()";
	}
	if (wrong)
		conclude(result, PROOF_UNSAFE, "%s", wrong);
	else
		conclude(result, PROOF_SAFE, "%s", "");
}

/* Waits for the counter to move; true if it did. */
static bool await_count(struct stage *stage, enum postern_counter which, uint64_t before)
{
	uint64_t end = monotonic_ns() + PATIENCE_MS * 1000000ull;

	while (counter(stage, which) == before && monotonic_ns() < end)
		(void)poll(NULL, 0, 1);
	return counter(stage, which) > before;
}

static bool readable(int fd, int wait_ms)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};

	return poll(&wait, 1, wait_ms) == 1;
}

static void prove_guard(struct stage *stage, struct proof_result *result)
{
	const struct postern_destination_key key = key_of(PROOF_CHILD_ADDRESS, PLAIN_PORT);
	const struct postern_destination covered = {.verdict = POSTERN_VERDICT_TLS, .settings_id = 1};
	_cleanup_close_ int peer = -1;
	uint64_t before = counter(stage, POSTERN_COUNT_GUARD_PAYLOAD_DROPPED);
	char bytes[16];

	/* A plain connection from before the key was covered, as a gateway's pool has it. */
	if (proof_child_connect(&stage->child, PROOF_CHILD_ADDRESS, PLAIN_PORT) != 0 ||
	    proof_child_connected(&stage->child, PATIENCE_MS) != 0 || proof_child_send(&stage->child, 0, 8) != 8 ||
	    !readable(stage->listener, PATIENCE_MS)) {
		conclude(result, PROOF_UNSAFE, "an uncovered connection does not work");
		return;
	}
	peer = accept4(stage->listener, NULL, NULL, SOCK_CLOEXEC);
	if (peer == -1 || !readable(peer, PATIENCE_MS) || recv(peer, bytes, sizeof(bytes), MSG_DONTWAIT) != 8) {
		conclude(result, PROOF_UNSAFE, "an uncovered connection carries nothing");
		return;
	}
	if (hooks_set_destination(stage->hooks, &key, &covered) != 0 || proof_child_send(&stage->child, 8, 8) != 8) {
		conclude(result, PROOF_UNAVAILABLE, "the key could not be covered");
		return;
	}
	if (!await_count(stage, POSTERN_COUNT_GUARD_PAYLOAD_DROPPED, before))
		conclude(result, PROOF_UNSAFE, "payload to a covered key was not dropped");
	else if (readable(peer, 0))
		conclude(result, PROOF_UNSAFE, "payload to a covered key reached the peer");
	else
		conclude(result, PROOF_SAFE, "%s", "");
	(void)hooks_delete_destination(stage->hooks, &key);
	(void)proof_child_close(&stage->child);
}

/* A socket of the agent's own, marked as a B, connected to the plain server. fd or negative errno. */
static int dial_marked(struct stage *stage)
{
	_cleanup_close_ int b = gateway_socket(stage->gateway, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct postern_backend_socket state = {
	        .destination = key_of(PROOF_CHILD_ADDRESS, PLAIN_PORT),
	        .phase = POSTERN_B_HANDSHAKE,
	};
	struct sockaddr_in to = {
	        .sin_family = AF_INET,
	        .sin_port = htons(PLAIN_PORT),
	        .sin_addr.s_addr = htonl(PROOF_CHILD_ADDRESS),
	};
	int error;

	if (b < 0)
		return b;
	error = hooks_set_backend(stage->hooks, b, &state);
	if (error)
		return error;
	if (connect(b, (struct sockaddr *)&to, sizeof(to)) == -1)
		return -errno;
	return TAKE_FD(b);
}

static void prove_witness(struct stage *stage, struct proof_result *result)
{
	static const char plaintext[] = "GET / HTTP/1.1\r\n";
	static const uint8_t record[] = {22, 3, 1, 0, 4, 1, 0, 0, 0}; /* a handshake record's header and a body */
	uint64_t before = counter(stage, POSTERN_COUNT_WIRE_NOT_TLS);
	_cleanup_close_ int good = dial_marked(stage);
	_cleanup_close_ int bad = -1;
	_cleanup_close_ int good_peer = -1;
	_cleanup_close_ int bad_peer = -1;

	if (good >= 0)
		good_peer = accept4(stage->listener, NULL, NULL, SOCK_CLOEXEC);
	bad = good_peer >= 0 ? dial_marked(stage) : -1;
	if (bad >= 0)
		bad_peer = accept4(stage->listener, NULL, NULL, SOCK_CLOEXEC);
	if (bad_peer < 0) {
		conclude(result, PROOF_UNAVAILABLE, "no marked socket: %s", strerror(errno));
		return;
	}
	if (send(good, record, sizeof(record), MSG_NOSIGNAL) != sizeof(record) || !readable(good_peer, PATIENCE_MS)) {
		conclude(result, PROOF_UNSAFE, "a TLS record was dropped");
		return;
	}
	if (send(bad, plaintext, sizeof(plaintext) - 1, MSG_NOSIGNAL) == -1 ||
	    !await_count(stage, POSTERN_COUNT_WIRE_NOT_TLS, before))
		conclude(result, PROOF_UNSAFE, "plaintext of a marked socket was not dropped");
	else if (readable(bad_peer, 0))
		conclude(result, PROOF_UNSAFE, "plaintext of a marked socket reached the peer");
	else
		conclude(result, PROOF_SAFE, "%s", "");
}

/* What A brings must be the pattern, from the position on. Returns the new position, or -1 at a difference. */
static int64_t read_pattern(int a, uint32_t position, uint32_t until, struct postern_lane_slot *slot)
{
	uint8_t bytes[4096];

	while (position < until) {
		ssize_t size;

		if (!readable(a, PATIENCE_MS))
			return position;
		size = recv(a, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (size <= 0)
			return position;
		for (ssize_t i = 0; i < size; i++) {
			if (bytes[i] != proof_pattern(position + (uint32_t)i))
				return -1;
		}
		position += (uint32_t)size;
		__atomic_add_fetch(&slot->agent_read, (uint64_t)size, __ATOMIC_RELEASE);
	}
	return position;
}

/*
 * What the gateway reads is untouched by the lane, but G is in a sockmap, and there some kernels answer FIONREAD with
 * what lies in the sockmap's own queue alone: nginx, which believes it, would wait for ever for bytes that are there.
 */
static bool gateway_sees_its_queue(struct stage *stage, int a)
{
	static const char answer[] = "an answer of the backend";

	return send(a, answer, sizeof(answer), MSG_NOSIGNAL) == sizeof(answer) &&
	       proof_child_queued(&stage->child, PATIENCE_MS) == sizeof(answer);
}

static void prove_lane(struct stage *stage, struct proof_result *result)
{
	struct postern_lane_slot *slot = &hooks_lane_slots(stage->hooks)[LANE_SLOT];
	_cleanup_close_ int a = -1;
	const char *wrong = hold_one(stage);
	uint64_t cookie = stage->connect.socket.cookie;
	int64_t position;
	bool sees_queue = false;
	int error;

	if (wrong) {
		conclude(result, PROOF_UNSAFE, "%s", wrong);
		return;
	}
	memset(slot, 0, sizeof(*slot));
	error = hooks_lane_offer(stage->hooks, cookie, LANE_SLOT);
	if (!error) {
		a = release_and_accept(stage);
		error = a < 0 ? a : proof_child_connected(&stage->child, PATIENCE_MS);
	}
	if (!error && proof_child_send(&stage->child, 0, LANE_EARLY) != (int)LANE_EARLY)
		error = -EIO;
	if (!error)
		error = hooks_lane_join_agent(stage->hooks, cookie, a);
	if (error) {
		conclude(result, PROOF_UNAVAILABLE, "the lane was not joined: %s", strerror(-error));
		return;
	}
	/* Twice: the first reading empties both queues, so that redirecting may begin. */
	position = read_pattern(a, 0, LANE_EARLY, slot);
	if (position == LANE_EARLY &&
	    proof_child_send(&stage->child, LANE_EARLY, LANE_BYTES - LANE_EARLY) == (int)(LANE_BYTES - LANE_EARLY))
		position = read_pattern(a, LANE_EARLY, LANE_BYTES, slot);
	if (position == LANE_BYTES)
		sees_queue = gateway_sees_its_queue(stage, a);
	(void)hooks_lane_leave_agent(stage->hooks, cookie);
	(void)proof_child_close(&stage->child);
	if (position < 0)
		conclude(result, PROOF_UNSAFE, "bytes changed or came in another order");
	else if (position != LANE_BYTES)
		conclude(result, PROOF_UNSAFE, "%lld of %u bytes came", (long long)position, LANE_BYTES);
	else if (!sees_queue)
		conclude(result, PROOF_UNSAFE,
		         "FIONREAD on G is wrong: a gateway that believes it (nginx) would stall");
	else if (slot->redirected == 0)
		conclude(result, PROOF_UNAVAILABLE, "nothing was redirected");
	else
		conclude(result, PROOF_SAFE, "%llu messages redirected", (unsigned long long)slot->redirected);
}

/* ---- the stage ---- */

static int make_cgroup(struct stage *stage, const char *agent_cgroup)
{
	const char *slash = strrchr(agent_cgroup, '/');

	/* Beside the agent's: neither above nor below it. */
	if (!slash || asprintf(&stage->cgroup, "%.*s/postern-proof.%d", (int)(slash - agent_cgroup), agent_cgroup,
	                       (int)getpid()) == -1) {
		stage->cgroup = NULL;
		return slash ? -ENOMEM : -EINVAL;
	}
	if (mkdir(stage->cgroup, 0755) == -1)
		return -errno;
	stage->cgroup_fd = open(stage->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return stage->cgroup_fd == -1 ? -errno : 0;
}

static int listen_plain(struct stage *stage)
{
	_cleanup_close_ int fd = gateway_socket(stage->gateway, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in address = {
	        .sin_family = AF_INET,
	        .sin_port = htons(PLAIN_PORT),
	        .sin_addr.s_addr = htonl(PROOF_CHILD_ADDRESS),
	};

	if (fd < 0)
		return fd;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == -1 || listen(fd, 8) == -1)
		return -errno;
	stage->listener = TAKE_FD(fd);
	return 0;
}

static int set_stage(struct stage *stage, const char *agent_cgroup, char *error, size_t error_size)
{
	const struct hooks_options hooks_options = {.worker_count = 1};
	const struct postern_runtime_config runtime = {.lane_enabled = 1};
	const struct postern_destination covered = {.verdict = POSTERN_VERDICT_TLS, .settings_id = 1};
	const struct postern_destination_key key = key_of(BACKEND, COVERED_PORT);
	char netns[64];
	int result = make_cgroup(stage, agent_cgroup);

	if (!result)
		result = proof_child_start(stage->cgroup_fd, &stage->child);
	if (!result)
		result = hooks_load(&hooks_options, &stage->hooks);
	if (!result)
		result = hooks_attach_witness(stage->hooks, agent_cgroup);
	if (!result)
		result = hooks_set_runtime_config(stage->hooks, &runtime);
	if (!result)
		result = hooks_set_destination(stage->hooks, &key, &covered);
	if (result) {
		snprintf(error, error_size, "%s", strerror(-result));
		return result;
	}
	snprintf(netns, sizeof(netns), "/proc/%d/ns/net", (int)stage->child.pid);
	stage->options = (struct gateway_options){
	        .name = "postern-proof",
	        .cgroup = stage->cgroup,
	        .netns = netns,
	        .id = 1,
	        .worker_count = 1,
	        .ports_per_worker = 2,
	        .first_port = 28000,
	        .last_port = 28099,
	        .agent_cgroup = agent_cgroup,
	};
	result = gateway_new(&stage->options, NULL, 0, &stage->gateway, error, error_size);
	if (result)
		return result;
	if (!gateway_advance(stage->gateway, stage->hooks, &stage->options)) {
		snprintf(error, error_size, "%s", stage->gateway->reason);
		return -EAGAIN;
	}
	result = listen_plain(stage);
	if (!result) {
		stage->ring = ring_buffer__new(hooks_ring_fd(stage->hooks, 0), on_record, stage, NULL);
		result = stage->ring ? 0 : -errno;
	}
	if (result)
		snprintf(error, error_size, "%s", strerror(-result));
	return result;
}

static void strike_stage(struct stage *stage)
{
	ring_buffer__free(stage->ring);
	if (stage->listener >= 0)
		close(stage->listener);
	proof_child_stop(&stage->child);
	if (stage->gateway)
		gateway_free(stage->gateway);
	if (stage->hooks)
		hooks_free(stage->hooks);
	if (stage->cgroup_fd >= 0)
		close(stage->cgroup_fd);
	if (stage->cgroup && rmdir(stage->cgroup) == -1 && errno != ENOENT)
		log_warning("proof cgroup not removed", "cgroup=%s error=\"%s\"", stage->cgroup, strerror(errno));
	free(stage->cgroup);
}

void proof_run_hooks(struct proof *proof, const char *agent_cgroup)
{
	static void (*const proofs[PROOF_HOOKS])(struct stage * stage, struct proof_result * result) = {
	        [PROOF_HOLD] = prove_hold,
	        [PROOF_GUARD] = prove_guard,
	        [PROOF_WITNESS] = prove_witness,
	        [PROOF_LANE] = prove_lane,
	};
	struct stage stage = {
	        .cgroup_fd = -1,
	        .listener = -1,
	        .child = {.pid = -1, .commands = -1},
	};
	uint64_t began = monotonic_ns();
	char error[192] = "";
	int result = set_stage(&stage, agent_cgroup, error, sizeof(error));

	for (size_t i = 0; i < PROOF_HOOKS; i++) {
		uint64_t start = monotonic_ns();

		if (result)
			conclude(&proof->hook[i], PROOF_UNAVAILABLE, "no stage for the proof: %s", error);
		else
			proofs[i](&stage, &proof->hook[i]);
		proof->hook[i].microseconds = (unsigned int)((monotonic_ns() - start) / 1000);
	}
	strike_stage(&stage);
	proof->milliseconds += (unsigned int)((monotonic_ns() - began) / 1000000);
}
