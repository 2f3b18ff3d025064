/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * await_peer.h: G's first bytes wait until A is there.
 *
 * The worker sends the SYN again in a call of its own: on its CPU G's ACK turns the request into A, while on another
 * one G may send already. A kernel (6.18: seen) that takes the request out of the hash table before it puts A in
 * (inet_ehash_insert()) gives a segment that is looked up in between to the listener, which answers it with a reset;
 * and connect() has told G that the backend is there. A direct connect hardly knows this: its whole handshake runs
 * inside of connect(). Seen 1 to 15 times in 12,000 connections, with two busy CPUs (docs/kernels.md).
 *
 * So G's packet is looked up here as the receiver will, until A is found: a few microseconds, and only until the first
 * bytes are acknowledged. If something keeps the other CPU from its work for longer, the packet is dropped and counted,
 * and TCP sends it again some 200 ms later: late, but not lost.
 */
#ifndef POSTERN_BPF_AWAIT_PEER_H
#define POSTERN_BPF_AWAIT_PEER_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "count.h"
#include "sockops.h"

#define AWAIT_PEER_LOOKUPS 1024 /* some 80 us, if the other CPU is kept from its work */
#define SYN_ACKNOWLEDGED   1    /* bytes_acked counts the SYN */
#define TRIES              4    /* an A that never comes is the receiver's to answer */

struct peer_search {
	struct __sk_buff *skb;
	struct bpf_sock_tuple tuple;
	bool v6;
	__u8 found; /* 0 or 1: the verifier is told so by a mask, which clang takes away from a bool */
};

/* For bpf_loop(): 1 ends it. */
static long look_for_peer(__u32 index, struct peer_search *search)
{
	__u32 state;
	struct bpf_sock *peer; /* the sizes are constants, for the verifier */

	(void)index;
	if (search->v6)
		peer = bpf_skc_lookup_tcp(search->skb, &search->tuple, sizeof(search->tuple.ipv6), BPF_F_CURRENT_NETNS,
		                          0);
	else
		peer = bpf_skc_lookup_tcp(search->skb, &search->tuple, sizeof(search->tuple.ipv4), BPF_F_CURRENT_NETNS,
		                          0);
	search->found = true; /* if nobody is there: whom the kernel answers by itself */
	if (!peer)
		return 1;
	state = peer->state;
	bpf_sk_release(peer);
	if (state != BPF_TCP_LISTEN && state != BPF_TCP_NEW_SYN_RECV)
		return 1;
	search->found = false;
	return 0;
}

static __always_inline void tuple_of_stream(const struct bpf_sock *socket, struct peer_search *search)
{
	const volatile struct bpf_sock *sk = socket; /* see sockops.h */

	if (sk->family == AF_INET || words_are_mapped(sk->dst_ip6[0], sk->dst_ip6[1], sk->dst_ip6[2])) {
		search->tuple.ipv4.saddr = sk->src_ip4;
		search->tuple.ipv4.daddr = sk->dst_ip4;
		search->tuple.ipv4.sport = bpf_htons(sk->src_port);
		search->tuple.ipv4.dport = sk->dst_port;
		return;
	}
	for (int i = 0; i < 4; i++) {
		search->tuple.ipv6.saddr[i] = sk->src_ip6[i];
		search->tuple.ipv6.daddr[i] = sk->dst_ip6[i];
	}
	search->tuple.ipv6.sport = bpf_htons(sk->src_port);
	search->tuple.ipv6.dport = sk->dst_port;
	search->v6 = true;
}

/* Of a packet of G's to loopback that carries something: may it go? */
static __always_inline bool peer_is_there(struct __sk_buff *skb, struct bpf_sock *sk)
{
	struct peer_search search = {.skb = skb};
	const struct bpf_tcp_sock *tcp;

	if (sk->type != SOCK_STREAM || sk->protocol != IPPROTO_TCP)
		return true;
	tcp = bpf_tcp_sock(sk);
	if (!tcp || tcp->bytes_acked > SYN_ACKNOWLEDGED || tcp->data_segs_out > TRIES || !redirected_socket(sk))
		return true;
	tuple_of_stream(sk, &search);
	bpf_loop(AWAIT_PEER_LOOKUPS, look_for_peer, &search, 0);
	if (!search.found)
		count(POSTERN_COUNT_GUARD_PEER_LATE);
	return search.found & 1;
}

#endif
