/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * guard.bpf.c: nothing plain leaves the gateway for a covered destination (design section 5). Independent of intercept:
 * it looks at the packet, whatever made it: a pooled connection from before the policy, a raw socket, a socket that
 * connect() never saw.
 *
 *   guard          cgroup_skb/egress on the gateway's cgroup.
 *   guard_inbound  sock_ops on the gateway's cgroup: marks the connections that the gateway accepted, so that the
 *                  answers to its clients are not taken for requests to backends.
 *
 * It runs behind netfilter's NAT: a VIP of an uncovered Service may end on a covered endpoint. So a socket is judged by
 * what was dialed, if that is known to the policy, else by the packet. Both by the very function that connect() uses. A
 * socket that was sent to the agent speaks to loopback alone: a rule that leads its packets elsewhere (a hostPort on
 * the agent's port) would give a covered connection to a stranger.
 *
 * Each packet is judged, but what was found is noted for long connections: by which generation of the policy, for which
 * destination. While neither is another one, the next packet costs one look at the note.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "vmlinux.h"
#include "address.h"
#include "await_peer.h"
#include "count.h"
#include "gateway_id.h"
#include "judge.h"
#include "maps.h"
#include "packet.h"
#include "sockops.h"
#include "trace.h"

#define PASS 1
#define DROP 0

#define LOOPBACK_INTERFACE 1 /* in every network namespace: the kernel's LOOPBACK_IFINDEX */

static __always_inline struct bpf_sock *socket_of(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	return sk ? bpf_sk_fullsock(sk) : NULL;
}

static __always_inline bool observed(void)
{
	const struct postern_gateway *gateway = gateway_of(current_gateway_id());

	return gateway && gateway->mode == POSTERN_MODE_OBSERVE;
}

static __always_inline int drop_always(struct __sk_buff *skb, const struct packet *packet, enum postern_counter why)
{
	count(why);
	if (trace_is_on())
		trace_guard(skb, &packet->destination, current_gateway_id(), why);
	return DROP;
}

static __always_inline int drop(struct __sk_buff *skb, const struct packet *packet, enum postern_counter why)
{
	return observed() ? PASS : drop_always(skb, packet, why);
}

static __always_inline bool address_is_covered(const struct postern_address *address)
{
	return in_cluster(address) || bpf_map_lookup_elem(&covered_addresses, address);
}

static __always_inline bool may_be_plain(const struct postern_destination_key *key)
{
	__u32 settings_id;
	__u32 verdict = postern_judge(key, &settings_id);

	return verdict == POSTERN_VERDICT_NONE || verdict == POSTERN_VERDICT_PLAIN;
}

/* A connection that has sent as much is worth a note: to make one costs more than to judge some packets. */
#define LONG_SEGMENTS 32

static __always_inline bool same_destination(const struct postern_destination_key *one,
                                             const struct postern_destination_key *other)
{
	return one->port == other->port && address_equal(&one->address, &other->address);
}

static __always_inline bool is_stream(const struct bpf_sock *sk)
{
	return sk->type == SOCK_STREAM && sk->protocol == IPPROTO_TCP;
}

/* What a note is made for, and only there: TCP sends under the socket's lock, so that one packet at a time is here. */
static __always_inline bool is_long(struct bpf_sock *sk)
{
	const struct bpf_tcp_sock *tcp;

	if (!is_stream(sk))
		return false;
	tcp = bpf_tcp_sock(sk);
	return tcp && tcp->segs_out >= LONG_SEGMENTS;
}

static __always_inline void destination_of(const struct bpf_sock *socket, struct postern_destination_key *key)
{
	const volatile struct bpf_sock *sk = socket; /* each field as it stands, and no pointer to one: see sockops.h */
	__u32 v4 = sk->dst_ip4, first = sk->dst_ip6[0], second = sk->dst_ip6[1], third = sk->dst_ip6[2],
	      fourth = sk->dst_ip6[3];

	if (sk->family == AF_INET)
		address_from_v4(&key->address, v4);
	else
		address_from_words(&key->address, first, second, third, fourth);
	key->port = sk->dst_port;
	key->padding = 0;
}

/*
 * A stream that no program but netfilter sent elsewhere: it knows itself what was dialed. POSTERN_VERDICT_NONE: no
 * other than the packet says, or not known to the policy.
 */
static __always_inline __u32 verdict_of_dialed(const struct bpf_sock *sk, const struct packet *packet)
{
	struct postern_destination_key dialed;
	__u32 settings_id;

	if (!is_stream(sk))
		return POSTERN_VERDICT_NONE;
	destination_of(sk, &dialed);
	if (same_destination(&dialed, &packet->destination))
		return POSTERN_VERDICT_NONE;
	return postern_judge(&dialed, &settings_id);
}

static __always_inline bool may_send(const struct bpf_sock *sk, const struct postern_passed_socket *passed,
                                     enum packet_kind kind, const struct packet *packet)
{
	__u32 verdict, settings_id;

	if (passed && passed->flags & POSTERN_PASSED_INBOUND)
		return true;
	if (passed)
		verdict = postern_judge(&passed->destination, &settings_id);
	else
		verdict = sk ? verdict_of_dialed(sk, packet) : POSTERN_VERDICT_NONE;
	if (verdict != POSTERN_VERDICT_NONE)
		return verdict == POSTERN_VERDICT_PLAIN;
	if (kind == PACKET_UNPARSED)
		return !address_is_covered(&packet->destination.address);
	return may_be_plain(&packet->destination);
}

/* Loopback, and by its device: SO_BINDTODEVICE after connect(), or a rule before the local table, leads it out. */
static __always_inline bool stays_here(const struct __sk_buff *skb, const struct packet *packet)
{
	return address_is_loopback(&packet->destination.address) && skb->ifindex == LOOPBACK_INTERFACE;
}

static __always_inline __u64 generation_now(void)
{
	__u32 index = 0;
	const volatile __u64 *generation = bpf_map_lookup_elem(&policy_generation, &index);

	return generation ? *generation : 0;
}

/*
 * Judging anew. The agent writes a map first and raises the generation then; here it is read first, and the maps after
 * that. So a verdict by what the maps held before the write goes with the generation before it, and the next packet is
 * judged again. The exchange, which no read may pass, keeps this order on every machine. What the write covers is thus
 * dropped from the moment in which it is whole, the same as without a note; the sweep comes after it.
 */
static __always_inline __u64 begin_note(struct postern_judged_socket *note)
{
	__u64 generation = generation_now();

	if (note)
		__sync_lock_test_and_set(&note->generation, 0);
	return generation;
}

static __always_inline void end_note(struct postern_judged_socket *note, __u64 generation, const struct packet *packet)
{
	note->destination = packet->destination;
	note->generation = generation;
}

SEC("cgroup_skb/egress")
int guard(struct __sk_buff *skb)
{
	const struct postern_passed_socket *passed = NULL;
	struct postern_judged_socket *note = NULL;
	struct packet packet = {};
	enum packet_kind kind;
	struct bpf_sock *sk;
	__u64 generation;

	/* What only acknowledges or resets a connection carries nothing, wherever it goes: no look at the socket. */
	if (only_acknowledges(skb))
		return PASS;
	sk = socket_of(skb);
	if (sk) {
		note = bpf_sk_storage_get(&judged_socket, sk, NULL, 0);
		if (note && note->generation && note->generation == generation_now() &&
		    goes_to(skb, &note->destination))
			return PASS;
	}
	kind = parse_packet(skb, POSTERN_SITE_GUARD_LOAD, &packet);
	if (kind == PACKET_OTHER)
		return PASS;
	if (stays_here(skb, &packet))
		return sk && kind == PACKET_TCP && (packet.payload_length || packet.ends) && !peer_is_there(skb, sk)
		               ? DROP
		               : PASS;
	/* FIN and RST of a pooled connection must get out, whatever its headers look like. */
	if (kind == PACKET_TCP && !packet.opens && packet.payload_length == 0)
		return PASS;
	if (sk && !note && kind == PACKET_TCP && is_long(sk))
		note = bpf_sk_storage_get(&judged_socket, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	generation = begin_note(note);
	if (sk)
		passed = bpf_sk_storage_get(&passed_socket, sk, NULL, 0);
	if (sk && !passed && redirected_socket(sk)) {
		/* On its way to the agent no more; nor may it be where the gateway is only observed. */
		return drop_always(skb, &packet,
		                   packet.opens ? POSTERN_COUNT_GUARD_SYN_DROPPED
		                                : POSTERN_COUNT_GUARD_PAYLOAD_DROPPED);
	}
	if (may_send(sk, passed, kind, &packet)) {
		if (note && kind == PACKET_TCP)
			end_note(note, generation, &packet);
		return PASS;
	}
	if (kind == PACKET_UNPARSED)
		return drop(skb, &packet, POSTERN_COUNT_GUARD_UNPARSED_DROPPED);
	return drop(skb, &packet, packet.opens ? POSTERN_COUNT_GUARD_SYN_DROPPED : POSTERN_COUNT_GUARD_PAYLOAD_DROPPED);
}

/*
 * connect() is under way: the other end has sent a SYN of its own instead of an answer. Such a connection is the
 * gateway's as any other that it opens, though the kernel calls it passive. A child of a listener has no socket yet,
 * or, if it joins an MPTCP connection, that one's.
 */
static __always_inline bool opened_by_both(struct bpf_sock *sk)
{
	const struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	const struct socket *socket;

	if (!tcp)
		return true;
	socket = tcp->inet_conn.icsk_inet.sk.sk_socket;
	return socket && socket->state == SS_CONNECTING;
}

/* A client that can never be taken for a backend needs no mark. */
SEC("sockops")
int guard_inbound(struct bpf_sock_ops *ctx)
{
	const struct postern_passed_socket inbound = {.flags = POSTERN_PASSED_INBOUND};
	struct postern_tuple tuple;
	struct bpf_sock *sk;

	if (CTX_READ(ctx->op) != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	sk = ctx->sk;
	if (!sk)
		return 1;
	tuple_of_socket(ctx, &tuple);
	if (!address_is_covered(&tuple.remote) || opened_by_both(sk))
		return 1;
	if (!bpf_sk_storage_get(&passed_socket, sk, (void *)&inbound, BPF_SK_STORAGE_GET_F_CREATE))
		helper_failed(POSTERN_SITE_INBOUND_STORAGE, -ENOMEM);
	return 1;
}
