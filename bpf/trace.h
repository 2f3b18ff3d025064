/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * trace.h: what the programs tell of themselves while somebody looks: connects as intercept decided them, SYNs that
 * hold took away, packets that guard and witness dropped. While nobody looks it costs a load and a branch; what is
 * behind the branch is out of line. Who calls asks trace_is_on() first.
 *
 * The filter is the widest of all who look; the agent sorts out who gets what.
 */
#ifndef POSTERN_BPF_TRACE_H
#define POSTERN_BPF_TRACE_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "address.h"
#include "judge.h"
#include "maps.h"
#include "sockops.h"

/* What of a record is known, and can be compared with the filter. */
#define TRACE_OF_GATEWAY     POSTERN_TRACE_BY_GATEWAY
#define TRACE_OF_DESTINATION (TRACE_OF_GATEWAY | POSTERN_TRACE_BY_ADDRESS | POSTERN_TRACE_BY_PORT)
#define TRACE_OF_ALL         (TRACE_OF_DESTINATION | POSTERN_TRACE_BY_VERDICT)

/* Each program calls one of them. */
#define OUT_OF_LINE static __noinline __attribute__((unused))

/* An agent that died asks for nothing for long: its filter has an end. */
static __always_inline bool trace_is_on(void)
{
	return trace_filter.until_ns != 0;
}

static __always_inline bool trace_address_fits(const struct postern_address *address)
{
	const struct postern_address *wanted = (const struct postern_address *)&trace_filter.destination.address;

	return address_word(address, 0) == address_word(wanted, 0) &&
	       address_word(address, 1) == address_word(wanted, 1) &&
	       address_word(address, 2) == address_word(wanted, 2) &&
	       address_word(address, 3) == address_word(wanted, 3);
}

static __always_inline bool trace_fits(const struct postern_trace_record *record, __u32 known)
{
	__u32 match = trace_filter.match & known;

	if (match & POSTERN_TRACE_BY_GATEWAY && record->gateway_id != trace_filter.gateway_id)
		return false;
	if (match & POSTERN_TRACE_BY_PORT && record->destination.port != trace_filter.destination.port)
		return false;
	if (match & POSTERN_TRACE_BY_VERDICT && !(trace_filter.verdicts >> (record->verdict & 31) & 1))
		return false;
	return !(match & POSTERN_TRACE_BY_ADDRESS) || trace_address_fits(&record->destination.address);
}

/* What is not known is not compared here. */
static __noinline int trace_tell(struct postern_trace_record *record, __u32 known)
{
	record->time_ns = bpf_ktime_get_ns();
	if (record->time_ns > trace_filter.until_ns || !trace_fits(record, known))
		return 0;
	if (bpf_ringbuf_output(&trace_ring, record, sizeof(*record), 0))
		__sync_fetch_and_add(&trace_lost, 1);
	return 0;
}

OUT_OF_LINE int trace_connect(struct bpf_sock_addr *ctx, const struct postern_destination_key *destination,
                              __u32 gateway_id, __u32 verdict, enum postern_counter counter)
{
	struct postern_trace_record record = {
	        .cookie = bpf_get_socket_cookie(ctx),
	        .destination = *destination,
	        .place = POSTERN_TRACE_CONNECT,
	        .gateway_id = gateway_id,
	        .verdict = verdict,
	        .counter = counter,
	};

	if (counter == POSTERN_COUNT_CONNECT_DENY ||
	    (counter >= POSTERN_COUNT_REFUSED_NOT_READY && counter <= POSTERN_COUNT_REFUSED_STORAGE))
		record.error = -ECONNREFUSED;
	return trace_tell(&record, TRACE_OF_ALL);
}

/* `error`: the worker does not hear of it. */
OUT_OF_LINE int trace_announce(struct bpf_sock_ops *ctx, const struct postern_gateway_socket *storage, int error)
{
	struct postern_trace_record record = {
	        .cookie = bpf_get_socket_cookie(ctx),
	        .destination = storage->destination,
	        .place = POSTERN_TRACE_ANNOUNCE,
	        .gateway_id = storage->gateway_id,
	        .verdict = storage->verdict,
	        .error = error,
	};

	record.counter = error                                     ? POSTERN_COUNT_RING_FULL
	                 : storage->verdict == POSTERN_VERDICT_TLS ? POSTERN_COUNT_CONNECT_TLS
	                                                           : POSTERN_COUNT_CONNECT_HOLD;
	tuple_of_socket(ctx, &record.tuple);
	return trace_tell(&record, TRACE_OF_ALL);
}

/* A packet: its socket's own end, and where it would have gone to. */
static __always_inline void trace_packet_ends(struct __sk_buff *skb, const struct postern_destination_key *destination,
                                              struct postern_tuple *tuple)
{
	struct bpf_sock *sk = skb->sk;
	__u32 v4, v6[4];

	tuple->remote = destination->address;
	tuple->remote_port = bpf_ntohs(destination->port);
	if (!sk)
		return;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return;
	v4 = CTX_READ(sk->src_ip4);
#pragma unroll
	for (int i = 0; i < 4; i++)
		v6[i] = CTX_READ(sk->src_ip6[i]);
	tuple->local_port = CTX_READ(sk->src_port);
	if (CTX_READ(sk->family) == AF_INET)
		address_from_v4(&tuple->local, v4);
	else
		address_from_words(&tuple->local, v6[0], v6[1], v6[2], v6[3]);
}

/* What connect() knew of the socket, before netfilter changed the packet. */
static __always_inline void trace_original(struct __sk_buff *skb, struct postern_trace_record *record)
{
	const struct postern_passed_socket *passed;
	const struct postern_gateway_socket *sent;
	struct bpf_sock *sk = skb->sk;
	__u32 settings_id;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (sk) {
		sent = bpf_sk_storage_get(&gateway_socket, sk, NULL, 0);
		if (sent) {
			record->destination = sent->destination;
			record->verdict = sent->verdict;
			return;
		}
		passed = bpf_sk_storage_get(&passed_socket, sk, NULL, 0);
		if (passed)
			record->destination = passed->destination;
	}
	record->verdict = postern_judge(&record->destination, &settings_id);
}

OUT_OF_LINE int trace_guard(struct __sk_buff *skb, const struct postern_destination_key *destination, __u32 gateway_id,
                            enum postern_counter counter)
{
	struct postern_trace_record record = {
	        .cookie = bpf_get_socket_cookie(skb),
	        .destination = *destination,
	        .place = POSTERN_TRACE_GUARD,
	        .gateway_id = gateway_id,
	        .counter = counter,
	};

	trace_packet_ends(skb, destination, &record.tuple);
	trace_original(skb, &record);
	return trace_tell(&record, TRACE_OF_ALL);
}

OUT_OF_LINE int trace_witness(struct __sk_buff *skb, const struct postern_destination_key *destination,
                              __u32 gateway_id, enum postern_counter counter)
{
	struct postern_trace_record record = {
	        .cookie = bpf_get_socket_cookie(skb),
	        .destination = *destination,
	        .place = POSTERN_TRACE_WITNESS,
	        .gateway_id = gateway_id,
	        .counter = counter,
	};
	__u32 settings_id;

	record.verdict = postern_judge(destination, &settings_id);
	trace_packet_ends(skb, destination, &record.tuple);
	return trace_tell(&record, TRACE_OF_ALL);
}

#endif
