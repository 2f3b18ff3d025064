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
 * It runs behind netfilter's NAT: a VIP of an uncovered Service may end on a covered endpoint. So a socket that
 * connect() found PLAIN is judged by its original destination, any other by the packet. Both by the very function
 * that connect() uses.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "address.h"
#include "count.h"
#include "gateway_id.h"
#include "judge.h"
#include "maps.h"
#include "packet.h"
#include "sockops.h"

#define PASS 1
#define DROP 0

static __always_inline const struct postern_gateway_socket *storage_of(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return NULL;
	sk = bpf_sk_fullsock(sk);
	return sk ? bpf_sk_storage_get(&gateway_socket, sk, NULL, 0) : NULL;
}

static __always_inline bool observed(void)
{
	const struct postern_gateway *gateway = gateway_of(current_gateway_id());

	return gateway && gateway->mode == POSTERN_MODE_OBSERVE;
}

static __always_inline int drop(enum postern_counter why)
{
	if (observed())
		return PASS;
	count(why);
	return DROP;
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

SEC("cgroup_skb/egress")
int guard(struct __sk_buff *skb)
{
	struct packet packet = {};
	enum packet_kind kind = parse_packet(skb, POSTERN_SITE_GUARD_LOAD, &packet);
	const struct postern_gateway_socket *storage;

	if (kind == PACKET_OTHER || address_is_loopback(&packet.destination.address))
		return PASS;
	/* What only acknowledges or ends a connection carries nothing; FIN and RST of a pooled one must get out. */
	if (kind == PACKET_TCP && !packet.opens && packet.payload_length == 0)
		return PASS;
	storage = storage_of(skb);
	if (storage && storage->flags & POSTERN_G_INBOUND)
		return PASS;
	if (storage && storage->verdict == POSTERN_VERDICT_PLAIN) {
		if (may_be_plain(&storage->destination))
			return PASS;
	} else if (kind == PACKET_UNPARSED) {
		if (!address_is_covered(&packet.destination.address))
			return PASS;
	} else if (may_be_plain(&packet.destination)) {
		return PASS;
	}
	if (kind == PACKET_UNPARSED)
		return drop(POSTERN_COUNT_GUARD_UNPARSED_DROPPED);
	return drop(packet.opens ? POSTERN_COUNT_GUARD_SYN_DROPPED : POSTERN_COUNT_GUARD_PAYLOAD_DROPPED);
}

/* A client that can never be taken for a backend needs no mark. */
SEC("sockops")
int guard_inbound(struct bpf_sock_ops *ctx)
{
	const struct postern_gateway_socket inbound = {
	        .flags = POSTERN_G_INBOUND,
	        .lane_slot = POSTERN_NO_LANE_SLOT,
	};
	struct postern_tuple tuple;
	struct bpf_sock *sk;

	if (CTX_READ(ctx->op) != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	sk = ctx->sk;
	if (!sk)
		return 1;
	tuple_of_socket(ctx, &tuple);
	if (!address_is_covered(&tuple.remote))
		return 1;
	if (!bpf_sk_storage_get(&gateway_socket, sk, (void *)&inbound, BPF_SK_STORAGE_GET_F_CREATE))
		helper_failed(POSTERN_SITE_INBOUND_STORAGE, -ENOMEM);
	return 1;
}
