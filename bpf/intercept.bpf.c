/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * intercept.bpf.c: the gateway's connect() (design section 3). It decides what the destination is, remembers that in
 * G's socket storage, and sends covered connects to the agent's listener in the same network namespace. What it cannot
 * send there it refuses: no covered connect ever goes out as it is. hold.bpf.c takes over at the SYN, guard.bpf.c
 * checks all of this again at the packet.
 *
 * getpeername() goes on telling the gateway where it dialed to.
 *
 * The gate's address (include/postern/gate.h) is always the agent's, in observe mode too: whoever gets an answer there
 * knows that this hook is on.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "address.h"
#include "count.h"
#include "gateway_id.h"
#include "judge.h"
#include "maps.h"
#include "postern/gate.h"
#include "trace.h"

#define PORT_TRIES 4 /* the agent's ports live and die together: one that is dead tells about the others */

enum outcome {
	PASS,
	REFUSE,
	REDIRECT,
};

/* One connect(), of whatever family. */
struct connect {
	struct postern_destination_key destination;
	__u32 verdict;
	__u32 settings_id;
	__u32 gateway_id;
	bool v6_loopback; /* the agent is dialed at ::1, not at 127.0.0.1 */
	bool v4_mapped;
	__u16 agent_port; /* network byte order */
	__u32 worker;
	__u32 refused; /* enum postern_counter: why it cannot be sent to the agent; 0: it can */
};

static __always_inline bool is_tcp(const struct bpf_sock_addr *ctx)
{
	return ctx->type == SOCK_STREAM && ctx->protocol == IPPROTO_TCP;
}

static __always_inline enum outcome refuse(struct connect *connect, enum postern_counter why)
{
	connect->refused = why;
	count(why);
	return REFUSE;
}

/* To ask first is cheaper: to delete what is not there takes a reference of the socket, and a new one has nothing. */
#define FORGET(map, ctx)                                                                                               \
	do {                                                                                                           \
		if (bpf_sk_storage_get(&(map), (ctx)->sk, NULL, 0))                                                    \
			bpf_sk_storage_delete(&(map), (ctx)->sk);                                                      \
	} while (0)

/* A socket that failed to connect may be used again: what it was must not outlive this connect(). */
static __always_inline void forget(struct bpf_sock_addr *ctx)
{
	FORGET(gateway_socket, ctx);
	FORGET(passed_socket, ctx);
	FORGET(judged_socket, ctx);
}

static __always_inline struct postern_gateway_socket *remember(struct bpf_sock_addr *ctx, const struct connect *connect)
{
	struct postern_gateway_socket *storage = bpf_sk_storage_get(&gateway_socket, ctx->sk, NULL,
	                                                            BPF_SK_STORAGE_GET_F_CREATE);

	if (!storage) {
		helper_failed(POSTERN_SITE_CONNECT_STORAGE, -ENOMEM);
		return NULL;
	}
	FORGET(passed_socket, ctx);
	FORGET(judged_socket, ctx);
	storage->destination = connect->destination;
	storage->verdict = connect->verdict;
	storage->settings_id = connect->settings_id;
	storage->gateway_id = connect->gateway_id;
	storage->worker = connect->worker;
	storage->flags = connect->v4_mapped ? POSTERN_G_V4MAPPED : 0;
	storage->cookie = 0;
	storage->lane_slot = POSTERN_NO_LANE_SLOT;
	storage->lane_start = 0;
	return storage;
}

/* Another program changes destinations behind this one. */
static __always_inline bool dialed_elsewhere_before(void)
{
	__u32 index = 0;
	const __u32 *seen = bpf_map_lookup_elem(&dialed_elsewhere, &index);

	return seen && *seen;
}

/* hold_attempt looks whether the socket really goes there. */
static __always_inline void announce(struct bpf_sock_addr *ctx, const struct connect *connect)
{
	__u32 index = 0;
	struct postern_just_dialed *dialed = bpf_map_lookup_elem(&just_dialed, &index);

	if (!dialed)
		return;
	dialed->destination = connect->destination;
	dialed->cookie = bpf_get_socket_cookie(ctx);
}

/*
 * PLAIN. The guard judges by what was dialed, and that the socket knows itself, unless another program changes it: a
 * storage for each would cost more than all the rest of this. Without one where it is needed the guard judges by the
 * packet, which is the stricter way: so the connect may go on.
 */
static __always_inline void let_pass(struct bpf_sock_addr *ctx, const struct connect *connect)
{
	struct postern_passed_socket *storage;

	if (!dialed_elsewhere_before()) {
		forget(ctx);
		announce(ctx, connect);
		return;
	}
	storage = bpf_sk_storage_get(&passed_socket, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	FORGET(gateway_socket, ctx);
	FORGET(judged_socket, ctx);
	if (!storage) {
		helper_failed(POSTERN_SITE_CONNECT_STORAGE, -ENOMEM);
		return;
	}
	storage->destination = connect->destination;
	storage->flags = 0;
}

static __always_inline struct bpf_sock *listener_at(struct bpf_sock_addr *ctx, bool v6, __u16 port)
{
	struct bpf_sock_tuple tuple = {};

	if (v6) {
		tuple.ipv6.saddr[3] = tuple.ipv6.daddr[3] = bpf_htonl(1);
		tuple.ipv6.dport = port;
		return bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	tuple.ipv4.saddr = tuple.ipv4.daddr = bpf_htonl(LOOPBACK_V4);
	tuple.ipv4.dport = port;
	return bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
}

/* Whoever else has the port now has no mark in its storage: only the agent can write one, through the descriptor. */
static __always_inline bool agent_listens(struct bpf_sock_addr *ctx, struct connect *connect, __u16 port)
{
	struct bpf_sock *listener = listener_at(ctx, connect->v6_loopback, port);
	const struct postern_listener_mark *mark;
	bool ours = false;

	if (!listener) {
		helper_failed(POSTERN_SITE_CONNECT_LOOKUP, -ENOENT);
		return false;
	}
	mark = bpf_sk_storage_get(&listener_mark, listener, NULL, 0);
	if (mark && mark->magic == POSTERN_LISTENER_MAGIC && mark->gateway_id == connect->gateway_id) {
		ours = true;
		connect->worker = mark->worker;
		connect->agent_port = port;
	}
	bpf_sk_release(listener);
	return ours;
}

/* The choice among the ports is what balances the workers. */
static __always_inline bool choose_listener(struct bpf_sock_addr *ctx, struct connect *connect,
                                            const struct postern_gateway *gateway)
{
	__u32 start = bpf_get_prandom_u32();

	for (int try = 0; try < PORT_TRIES; try++) {
		__u32 index = (start + try) % gateway->port_count;

		if (index >= POSTERN_MAX_PORTS)
			return false;
		if (agent_listens(ctx, connect, gateway->port[index]))
			return true;
	}
	return false;
}

/* TLS or HOLD: to the agent, or nowhere. */
static __always_inline enum outcome to_agent(struct bpf_sock_addr *ctx, struct connect *connect,
                                             const struct postern_gateway *gateway)
{
	if (ctx->sk->bound_dev_if) /* SO_BINDTODEVICE: loopback is out of its reach */
		return refuse(connect, POSTERN_COUNT_REFUSED_BOUND_DEVICE);
	if (!gateway || gateway->port_count == 0)
		return refuse(connect, POSTERN_COUNT_REFUSED_NOT_READY);
	if (!choose_listener(ctx, connect, gateway))
		return refuse(connect, POSTERN_COUNT_REFUSED_NO_AGENT);
	if (!remember(ctx, connect))
		return refuse(connect, POSTERN_COUNT_REFUSED_STORAGE);
	return REDIRECT;
}

static __always_inline void would(enum postern_counter counter, const struct connect *connect)
{
	struct postern_would_key key = {
	        .gateway_id = connect->gateway_id,
	        .verdict = connect->verdict,
	        .destination = connect->destination,
	};
	__u64 *times = bpf_map_lookup_elem(&would_map, &key);
	__u64 once = 1;
	long error;

	count(counter);
	if (times) {
		__sync_fetch_and_add(times, 1);
		return;
	}
	error = bpf_map_update_elem(&would_map, &key, &once, BPF_ANY);
	if (error)
		helper_failed(POSTERN_SITE_WOULD_UPDATE, error);
}

/* Observe mode: count what enforcing would do, and do nothing. */
static __always_inline enum outcome observe(struct bpf_sock_addr *ctx, const struct connect *connect)
{
	forget(ctx);
	if (connect->verdict == POSTERN_VERDICT_TLS)
		would(POSTERN_COUNT_WOULD_TLS, connect);
	else if (connect->verdict == POSTERN_VERDICT_DENY)
		would(POSTERN_COUNT_WOULD_DENY, connect);
	else if (connect->verdict == POSTERN_VERDICT_HOLD)
		would(POSTERN_COUNT_WOULD_HOLD, connect);
	return PASS;
}

static __always_inline enum outcome enforce(struct bpf_sock_addr *ctx, struct connect *connect,
                                            const struct postern_gateway *gateway)
{
	enum outcome outcome;

	switch (connect->verdict) {
	case POSTERN_VERDICT_NONE:
		forget(ctx);
		count(POSTERN_COUNT_CONNECT_MISS);
		return PASS;
	case POSTERN_VERDICT_PLAIN:
		let_pass(ctx, connect);
		count(POSTERN_COUNT_CONNECT_PLAIN);
		return PASS;
	case POSTERN_VERDICT_TLS:
		count(POSTERN_COUNT_CONNECT_TLS);
		outcome = to_agent(ctx, connect, gateway);
		break;
	case POSTERN_VERDICT_HOLD:
		count(POSTERN_COUNT_CONNECT_HOLD);
		outcome = to_agent(ctx, connect, gateway);
		break;
	default:
		count(POSTERN_COUNT_CONNECT_DENY);
		outcome = REFUSE;
	}
	if (outcome == REFUSE)
		forget(ctx);
	return outcome;
}

static __always_inline bool is_gate(const struct postern_destination_key *key)
{
	return key->port == bpf_htons(POSTERN_GATE_PORT) &&
	       address_word(&key->address, 3) == bpf_htonl(POSTERN_GATE_V4) &&
	       words_are_mapped(address_word(&key->address, 0), address_word(&key->address, 1),
	                        address_word(&key->address, 2));
}

/* HOLD: the worker answers, if the agent knows the policy. */
static __always_inline enum outcome to_gate(struct bpf_sock_addr *ctx, struct connect *connect,
                                            const struct postern_gateway *gateway)
{
	enum outcome outcome;

	connect->verdict = POSTERN_VERDICT_HOLD;
	outcome = to_agent(ctx, connect, gateway);
	if (outcome == REFUSE)
		forget(ctx);
	return outcome;
}

static __noinline enum outcome intercept(struct bpf_sock_addr *ctx, struct connect *connect)
{
	const struct postern_gateway *gateway;

	connect->gateway_id = current_gateway_id();
	gateway = gateway_of(connect->gateway_id);
	if (is_gate(&connect->destination))
		return to_gate(ctx, connect, gateway);
	connect->verdict = postern_judge(&connect->destination, &connect->settings_id);
	if (gateway && gateway->mode == POSTERN_MODE_OBSERVE)
		return observe(ctx, connect);
	return enforce(ctx, connect, gateway);
}

/* For the trace. */
static __always_inline enum postern_counter counted(const struct connect *connect, enum outcome outcome)
{
	switch (connect->verdict) {
	case POSTERN_VERDICT_NONE:
		return POSTERN_COUNT_CONNECT_MISS;
	case POSTERN_VERDICT_PLAIN:
		return POSTERN_COUNT_CONNECT_PLAIN;
	case POSTERN_VERDICT_TLS:
		return outcome == PASS       ? POSTERN_COUNT_WOULD_TLS
		       : outcome == REDIRECT ? POSTERN_COUNT_CONNECT_TLS
		                             : connect->refused;
	case POSTERN_VERDICT_HOLD:
		return outcome == PASS       ? POSTERN_COUNT_WOULD_HOLD
		       : outcome == REDIRECT ? POSTERN_COUNT_CONNECT_HOLD
		                             : connect->refused;
	default:
		return outcome == PASS ? POSTERN_COUNT_WOULD_DENY : POSTERN_COUNT_CONNECT_DENY;
	}
}

/* What a cgroup/connect program returns: 1 = go on, 0 = connect() fails. Without an errno of ours it fails with EPERM.
 */
static __always_inline int refused(void)
{
	long error = bpf_set_retval(-ECONNREFUSED);

	if (error)
		helper_failed(POSTERN_SITE_CONNECT_RETVAL, error);
	return 0;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	struct connect connect = {};
	enum outcome outcome;

	if (!is_tcp(ctx))
		return 1;
	address_from_v4(&connect.destination.address, ctx->user_ip4);
	connect.destination.port = ctx->user_port;
	outcome = intercept(ctx, &connect);
	if (trace_is_on())
		trace_connect(ctx, &connect.destination, connect.gateway_id, connect.verdict,
		              counted(&connect, outcome));
	if (outcome == REFUSE)
		return refused();
	if (outcome == REDIRECT) {
		ctx->user_ip4 = bpf_htonl(LOOPBACK_V4);
		ctx->user_port = connect.agent_port;
	}
	return 1;
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	__u32 first, second, third, fourth;
	struct connect connect = {};
	enum outcome outcome;

	if (!is_tcp(ctx))
		return 1;
	first = ctx->user_ip6[0];
	second = ctx->user_ip6[1];
	third = ctx->user_ip6[2];
	fourth = ctx->user_ip6[3];
	address_from_words(&connect.destination.address, first, second, third, fourth);
	connect.destination.port = ctx->user_port;
	connect.v4_mapped = words_are_mapped(first, second, third);
	connect.v6_loopback = !connect.v4_mapped;
	outcome = intercept(ctx, &connect);
	if (trace_is_on())
		trace_connect(ctx, &connect.destination, connect.gateway_id, connect.verdict,
		              counted(&connect, outcome));
	if (outcome == REFUSE)
		return refused();
	if (outcome == REDIRECT) {
		ctx->user_ip6[0] = 0;
		ctx->user_ip6[1] = 0;
		ctx->user_ip6[2] = connect.v4_mapped ? bpf_htonl(MAPPED_WORD) : 0;
		ctx->user_ip6[3] = connect.v4_mapped ? bpf_htonl(LOOPBACK_V4) : bpf_htonl(1);
		ctx->user_port = connect.agent_port;
	}
	return 1;
}

/* NULL: this socket was not sent to the agent. */
static __always_inline const struct postern_gateway_socket *redirected(struct bpf_sock_addr *ctx)
{
	const struct postern_gateway_socket *storage = bpf_sk_storage_get(&gateway_socket, ctx->sk, NULL, 0);

	if (!storage || (storage->verdict != POSTERN_VERDICT_TLS && storage->verdict != POSTERN_VERDICT_HOLD))
		return NULL;
	return storage;
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	const struct postern_gateway_socket *storage = redirected(ctx);

	if (storage) {
		ctx->user_ip4 = address_word(&storage->destination.address, 3);
		ctx->user_port = storage->destination.port;
	}
	return 1;
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	const struct postern_gateway_socket *storage = redirected(ctx);

	if (storage) {
		ctx->user_ip6[0] = address_word(&storage->destination.address, 0);
		ctx->user_ip6[1] = address_word(&storage->destination.address, 1);
		ctx->user_ip6[2] = address_word(&storage->destination.address, 2);
		ctx->user_ip6[3] = address_word(&storage->destination.address, 3);
		ctx->user_port = storage->destination.port;
	}
	return 1;
}
