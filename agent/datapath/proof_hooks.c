/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Proof of hold, guard, witness and lane on the running kernel. The real programs, loaded a second time without pins,
 * the real gateway code, and a child that plays the gateway in a cgroup and network namespace of its own: nothing that
 * serves traffic is touched. Each waits for an event (a record, a counter, a byte), never for time alone.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/loop.h"
#include "datapath/gateway.h"
#include "datapath/hooks.h"
#include "datapath/packet.h"
#include "datapath/proof.h"
#include "datapath/proof_stage.h"

#define LANE_BYTES 200000u
#define LANE_EARLY 100u /* sent before A joins the lane */
#define LANE_SLOT  0

__attribute__((format(printf, 3, 4))) static void conclude(struct proof_result *result, enum proof_verdict verdict,
                                                           const char *format, ...)
{
	va_list arguments;

	result->verdict = verdict;
	va_start(arguments, format);
	vsnprintf(result->detail, sizeof(result->detail), format, arguments);
	va_end(arguments);
}

static int release(struct proof_stage *stage, int raw)
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
static const char *hold_one(struct proof_stage *stage)
{
	unsigned int connects = stage->connects;

	if (proof_child_connect(&stage->child, PROOF_BACKEND, PROOF_COVERED_PORT) != 0)
		return "connect() to a covered destination was not redirected";
	if (!proof_await_syn(stage, stage->syns))
		return "the listener's filter saw no SYN";
	if (stage->connects == connects)
		return "no CONNECT record came before the SYN";
	if (stage->connect.header.isn != stage->syn.header.isn ||
	    stage->connect.header.tuple.local_port != stage->syn.header.tuple.local_port)
		return "CONNECT and SYN record do not join";
	if (stage->connect.socket.destination.port != htons(PROOF_COVERED_PORT))
		return "the original destination is wrong";
	return NULL;
}

/* Sends the SYN again and accepts A. */
static int release_and_accept(struct proof_stage *stage)
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

static void prove_hold(struct proof_stage *stage, struct proof_result *result)
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
	if (stranger < 0 || release(stage, stranger) != 0 || !proof_await_syn(stage, syns)) {
		conclude(result, PROOF_UNSAFE, "a SYN without the secret was not held");
		return;
	}
	if (proof_child_connected(&stage->child, 0) != -EINPROGRESS) {
		conclude(result, PROOF_UNSAFE, "connect() ended before the release");
		return;
	}
	a = release_and_accept(stage);
	if (a < 0 || proof_child_connected(&stage->child, PROOF_PATIENCE_MS) != 0) {
		conclude(result, PROOF_UNSAFE, "the released SYN did not complete connect()");
		return;
	}
	wrong = hold_one(stage);
	if (!wrong && packet_reset(&stage->syn, &packet) == 0) {
		length = address_to_sockaddr(&packet.destination, 0, &to);
		if (sendto(stage->gateway->raw_v4, packet.bytes, packet.length, 0, (struct sockaddr *)&to, length) ==
		            -1 ||
		    proof_child_connected(&stage->child, PROOF_PATIENCE_MS) != -ECONNREFUSED)
			wrong = "a refusal did not reach connect()";
	}
	if (wrong)
		conclude(result, PROOF_UNSAFE, "%s", wrong);
	else
		conclude(result, PROOF_SAFE, "%s", "");
}

static bool readable(int fd, int wait_ms)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};

	return poll(&wait, 1, wait_ms) == 1;
}

static void prove_guard(struct proof_stage *stage, struct proof_result *result)
{
	const struct postern_destination_key key = proof_key(PROOF_CHILD_ADDRESS, PROOF_PLAIN_PORT);
	const struct postern_destination covered = {.verdict = POSTERN_VERDICT_TLS, .settings_id = 1};
	_cleanup_close_ int peer = -1;
	uint64_t before = proof_counter(stage, POSTERN_COUNT_GUARD_PAYLOAD_DROPPED);
	char bytes[16];

	/* A plain connection from before the key was covered, as a gateway's pool has it. */
	if (proof_child_connect(&stage->child, PROOF_CHILD_ADDRESS, PROOF_PLAIN_PORT) != 0 ||
	    proof_child_connected(&stage->child, PROOF_PATIENCE_MS) != 0 ||
	    proof_child_send(&stage->child, 0, 8) != 8 || !readable(stage->listener, PROOF_PATIENCE_MS)) {
		conclude(result, PROOF_UNSAFE, "an uncovered connection does not work");
		return;
	}
	peer = accept4(stage->listener, NULL, NULL, SOCK_CLOEXEC);
	if (peer == -1 || !readable(peer, PROOF_PATIENCE_MS) || recv(peer, bytes, sizeof(bytes), MSG_DONTWAIT) != 8) {
		conclude(result, PROOF_UNSAFE, "an uncovered connection carries nothing");
		return;
	}
	if (hooks_set_destination(stage->hooks, &key, &covered) != 0 || proof_child_send(&stage->child, 8, 8) != 8) {
		conclude(result, PROOF_UNAVAILABLE, "the key could not be covered");
		return;
	}
	if (!proof_await_count(stage, POSTERN_COUNT_GUARD_PAYLOAD_DROPPED, before))
		conclude(result, PROOF_UNSAFE, "payload to a covered key was not dropped");
	else if (readable(peer, 0))
		conclude(result, PROOF_UNSAFE, "payload to a covered key reached the peer");
	else
		conclude(result, PROOF_SAFE, "%s", "");
	(void)hooks_delete_destination(stage->hooks, &key);
	(void)proof_child_close(&stage->child);
}

/* A socket of the agent's own, marked as a B, connected to the plain server. fd or negative errno. */
static int dial_marked(struct proof_stage *stage)
{
	_cleanup_close_ int b = gateway_socket(stage->gateway, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct postern_backend_socket state = {
	        .destination = proof_key(PROOF_CHILD_ADDRESS, PROOF_PLAIN_PORT),
	        .phase = POSTERN_B_HANDSHAKE,
	};
	struct sockaddr_in to = {
	        .sin_family = AF_INET,
	        .sin_port = htons(PROOF_PLAIN_PORT),
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

static void prove_witness(struct proof_stage *stage, struct proof_result *result)
{
	static const char plaintext[] = "GET / HTTP/1.1\r\n";
	static const uint8_t record[] = {22, 3, 1, 0, 4, 1, 0, 0, 0}; /* a handshake record's header and a body */
	uint64_t before = proof_counter(stage, POSTERN_COUNT_WIRE_NOT_TLS);
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
	if (send(good, record, sizeof(record), MSG_NOSIGNAL) != sizeof(record) ||
	    !readable(good_peer, PROOF_PATIENCE_MS)) {
		conclude(result, PROOF_UNSAFE, "a TLS record was dropped");
		return;
	}
	if (send(bad, plaintext, sizeof(plaintext) - 1, MSG_NOSIGNAL) == -1 ||
	    !proof_await_count(stage, POSTERN_COUNT_WIRE_NOT_TLS, before))
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

		if (!readable(a, PROOF_PATIENCE_MS))
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
static bool gateway_sees_its_queue(struct proof_stage *stage, int a)
{
	static const char answer[] = "an answer of the backend";

	return send(a, answer, sizeof(answer), MSG_NOSIGNAL) == sizeof(answer) &&
	       proof_child_queued(&stage->child, PROOF_PATIENCE_MS) == sizeof(answer);
}

static void prove_lane(struct proof_stage *stage, struct proof_result *result)
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
		error = a < 0 ? a : proof_child_connected(&stage->child, PROOF_PATIENCE_MS);
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

void proof_run_hooks(struct proof *proof, const char *agent_cgroup)
{
	static void (*const proofs[PROOF_HOOKS])(struct proof_stage * stage, struct proof_result * result) = {
	        [PROOF_HOLD] = prove_hold,
	        [PROOF_GUARD] = prove_guard,
	        [PROOF_WITNESS] = prove_witness,
	        [PROOF_LANE] = prove_lane,
	};
	struct proof_stage stage = {
	        .cgroup_fd = -1,
	        .listener = -1,
	        .child = {.pid = -1, .commands = -1},
	};
	uint64_t began = monotonic_ns();
	char error[192] = "";
	int result = proof_stage_set(&stage, agent_cgroup, error, sizeof(error));

	for (size_t i = 0; i < PROOF_HOOKS; i++) {
		uint64_t start = monotonic_ns();

		if (result)
			conclude(&proof->hook[i], PROOF_UNAVAILABLE, "no stage for the proof: %s", error);
		else
			proofs[i](&stage, &proof->hook[i]);
		proof->hook[i].microseconds = (unsigned int)((monotonic_ns() - start) / 1000);
	}
	proof_stage_strike(&stage);
	proof->milliseconds += (unsigned int)((monotonic_ns() - began) / 1000000);
}
