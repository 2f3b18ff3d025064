/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * hold.bpf.c: connect-hold (design section 4). The gateway's connect() completes only when B is dialed and verified.
 *
 *   hold_attempt   sock_ops on the gateway's cgroup: tells the worker that owns the agent's port of G's connect(), of
 *                  each SYN that G sends again (so a lost record or a restarted agent heals), and of G's end.
 *   hold_listener  socket filter on the agent's listener, attached before listen(): takes the SYN away and tells the
 *                  worker. The worker sends the same SYN again when B is verified, with a secret SO_PRIORITY, which
 *                  this filter lets pass. SO_MARK is not used: kube-proxy, Cilium and Calico own its bits.
 *
 * The worker joins the two records by tuple and initial sequence number; there is no table of tuples in the kernel that
 * could be forged or run full.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/tcp.h>
#include <asm/fcntl.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "vmlinux.h"
#include "address.h"
#include "count.h"
#include "maps.h"
#include "sockops.h"
#include "trace.h"

/* Set before loading; random, never 0 (every ordinary packet has 0). */
const volatile __u32 release_priority = 0;

/* NULL: no such worker now; the record is lost, and counted. */
static __always_inline void *reserve(__u32 worker, __u64 size, enum postern_helper_site site)
{
	void *ring = bpf_map_lookup_elem(&worker_rings, &worker);
	void *record;

	if (!ring) {
		helper_failed(site, -ENXIO);
		return NULL;
	}
	record = bpf_ringbuf_reserve(ring, size, 0);
	if (!record) {
		count(POSTERN_COUNT_RING_FULL);
		helper_failed(site, -ENOSPC);
	}
	return record;
}

/* ---- sock_ops: G ---- */

static __always_inline void fill_header(struct bpf_sock_ops *ctx, struct postern_record_header *header,
                                        enum postern_record_type type)
{
	header->type = type;
	header->isn = 0;
	header->time_ns = bpf_ktime_get_ns();
	tuple_of_socket(ctx, &header->tuple);
}

/* What only the kernel's own structures tell. */
static __always_inline void describe_socket(struct bpf_sock_ops *ctx, const struct tcp_sock *tcp, bool retransmitted,
                                            struct postern_gateway_socket *storage,
                                            struct postern_connect_record *record)
{
	const struct inet_sock *inet = &tcp->inet_conn.icsk_inet;

	/* At CONNECT_CB the SYN takes write_seq; later write_seq is past it and snd_una still is the SYN. */
	record->header.isn = retransmitted ? tcp->snd_una : tcp->write_seq;
	storage->lane_start = record->header.isn + 1;
	storage->flags &= ~(POSTERN_G_NONBLOCK | POSTERN_G_MPTCP | POSTERN_G_BOUND);
	if (inet->sk.sk_socket->file->f_flags & O_NONBLOCK)
		storage->flags |= POSTERN_G_NONBLOCK;
	if (bpf_core_field_exists(tcp->is_mptcp) && tcp->is_mptcp)
		storage->flags |= POSTERN_G_MPTCP;
	if (!address_is_loopback(&record->header.tuple.local))
		storage->flags |= POSTERN_G_BOUND;
	/* On the wire B is IPv4 where G dialed IPv4, and there IP_TOS counts. */
	if (CTX_READ(ctx->family) == AF_INET || storage->flags & POSTERN_G_V4MAPPED)
		record->tos = inet->tos;
	else
		record->tos = inet->pinet6->tclass;
}

static __always_inline void announce_connect(struct bpf_sock_ops *ctx, struct bpf_sock *sk, bool retransmitted,
                                             struct postern_gateway_socket *storage)
{
	const struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct postern_connect_record *record;

	if (!tcp) {
		helper_failed(POSTERN_SITE_ATTEMPT_TCP_SOCK, -EINVAL);
		return;
	}
	record = reserve(storage->worker, sizeof(*record), POSTERN_SITE_ATTEMPT_RING);
	if (!record) {
		if (trace_is_on())
			trace_announce(ctx, storage, -ENOSPC);
		return;
	}
	fill_header(ctx, &record->header, POSTERN_RECORD_CONNECT);
	storage->cookie = bpf_get_socket_cookie(ctx);
	describe_socket(ctx, tcp, retransmitted, storage, record);
	record->netns_cookie = bpf_get_netns_cookie(ctx);
	record->socket_mark = sk->mark;
	record->socket = *storage;
	bpf_ringbuf_submit(record, 0);
	if (trace_is_on())
		trace_announce(ctx, storage, 0);
}

static __always_inline void announce_end(struct bpf_sock_ops *ctx, const struct postern_gateway_socket *storage,
                                         enum postern_record_type type)
{
	struct postern_connect_record *record = reserve(storage->worker, sizeof(*record), POSTERN_SITE_ATTEMPT_RING);

	if (!record)
		return;
	fill_header(ctx, &record->header, type);
	record->netns_cookie = bpf_get_netns_cookie(ctx);
	record->socket_mark = 0;
	record->tos = 0;
	record->socket = *storage;
	bpf_ringbuf_submit(record, 0);
}

/* Other programs on this socket may have asked for callbacks of their own: these are kept. */
static __always_inline void ask_for_callbacks(struct bpf_sock_ops *ctx)
{
	long error = bpf_sock_ops_cb_flags_set(ctx, CTX_READ(ctx->bpf_sock_ops_cb_flags) | BPF_SOCK_OPS_STATE_CB_FLAG |
	                                                    BPF_SOCK_OPS_RTO_CB_FLAG);

	if (error < 0)
		helper_failed(POSTERN_SITE_ATTEMPT_FLAGS, error);
	else if (error > 0) /* the flags that this kernel does not know */
		helper_failed(POSTERN_SITE_ATTEMPT_FLAGS, -EOPNOTSUPP);
}

static __always_inline void on_state_change(struct bpf_sock_ops *ctx, struct postern_gateway_socket *storage)
{
	__u32 before = CTX_READ(ctx->args[0]), now = CTX_READ(ctx->args[1]);

	if (now != BPF_TCP_CLOSE)
		return;
	if (before == BPF_TCP_SYN_SENT) {
		announce_end(ctx, storage, POSTERN_RECORD_GONE);
	} else if (storage->lane_slot != POSTERN_NO_LANE_SLOT) {
		announce_end(ctx, storage, POSTERN_RECORD_CLOSED);
		storage->lane_slot = POSTERN_NO_LANE_SLOT;
	}
}

/*
 * connect() found it PLAIN: is that where it goes? A program behind ours may have sent it elsewhere, and then what was
 * dialed is known only here. The record is another's if this thread was moved, or waited for a CPU, since: then nothing
 * is done, and the guard judges by the packet.
 */
static __always_inline void check_dialed(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct postern_passed_socket passed = {};
	struct postern_just_dialed *dialed;
	struct postern_tuple tuple;
	__u32 index = 0, *seen;

	dialed = bpf_map_lookup_elem(&just_dialed, &index);
	if (!dialed || dialed->cookie == 0 || dialed->cookie != bpf_get_socket_cookie(ctx))
		return;
	dialed->cookie = 0;
	tuple_of_socket(ctx, &tuple);
	if (bpf_ntohs(dialed->destination.port) == tuple.remote_port &&
	    address_equal(&dialed->destination.address, &tuple.remote))
		return;
	passed.destination = dialed->destination;
	if (!bpf_sk_storage_get(&passed_socket, sk, &passed, BPF_SK_STORAGE_GET_F_CREATE))
		helper_failed(POSTERN_SITE_CONNECT_STORAGE, -ENOMEM);
	seen = bpf_map_lookup_elem(&dialed_elsewhere, &index);
	if (seen)
		*seen = 1;
}

SEC("sockops")
int hold_attempt(struct bpf_sock_ops *ctx)
{
	__u32 event = CTX_READ(ctx->op);
	struct postern_gateway_socket *storage;
	struct bpf_sock *sk;

	if (event != BPF_SOCK_OPS_TCP_CONNECT_CB && event != BPF_SOCK_OPS_RTO_CB && event != BPF_SOCK_OPS_STATE_CB)
		return 1;
	sk = ctx->sk;
	if (!sk)
		return 1;
	storage = redirected_socket(sk);
	if (!storage) {
		if (event == BPF_SOCK_OPS_TCP_CONNECT_CB)
			check_dialed(ctx, sk);
		return 1;
	}
	if (event == BPF_SOCK_OPS_STATE_CB) {
		on_state_change(ctx, storage);
	} else if (event == BPF_SOCK_OPS_TCP_CONNECT_CB) {
		ask_for_callbacks(ctx);
		announce_connect(ctx, sk, false, storage);
	} else if (CTX_READ(ctx->state) == BPF_TCP_SYN_SENT) {
		announce_connect(ctx, sk, true, storage);
	}
	return 1;
}

/* ---- socket filter: the agent's listener ---- */

#define KEEP (-1) /* the whole packet */
#define DROP 0    /* in silence: no RST */

/* The filter's packet begins at the TCP header; the addresses are before it. */
static __always_inline long load_addresses(struct __sk_buff *skb, __u32 *family, struct postern_tuple *tuple)
{
	__u8 version = 0;
	__u32 word[8];
	long error = bpf_skb_load_bytes_relative(skb, 0, &version, sizeof(version), BPF_HDR_START_NET);

	if (error)
		return error;
	if (version >> 4 == 4) {
		error = bpf_skb_load_bytes_relative(skb, 12, word, 8, BPF_HDR_START_NET);
		if (error)
			return error;
		*family = AF_INET;
		address_from_v4(&tuple->local, word[0]);
		address_from_v4(&tuple->remote, word[1]);
		return 0;
	}
	if (version >> 4 != 6)
		return -EPROTONOSUPPORT;
	error = bpf_skb_load_bytes_relative(skb, 8, word, 32, BPF_HDR_START_NET);
	if (error)
		return error;
	*family = AF_INET6;
	address_from_words(&tuple->local, word[0], word[1], word[2], word[3]);
	address_from_words(&tuple->remote, word[4], word[5], word[6], word[7]);
	return 0;
}

/* G's end and the listener are known, what G dialed is not: the agent joins it to what was announced. */
static __noinline int trace_syn(struct __sk_buff *skb, enum postern_counter counter)
{
	struct postern_trace_record record = {};
	const struct postern_listener_mark *listener;
	__u64 cookie = bpf_get_socket_cookie(skb);
	struct tcphdr tcp = {};
	__u32 family;

	listener = bpf_map_lookup_elem(&listener_map, &cookie);
	record.place = POSTERN_TRACE_SYN;
	record.counter = counter;
	record.gateway_id = listener ? listener->gateway_id : 0;
	if (bpf_skb_load_bytes(skb, 0, &tcp, sizeof(tcp)) == 0 && load_addresses(skb, &family, &record.tuple) == 0) {
		record.tuple.local_port = bpf_ntohs(tcp.source);
		record.tuple.remote_port = bpf_ntohs(tcp.dest);
	}
	trace_tell(&record, TRACE_OF_GATEWAY);
	return 0;
}

static __always_inline int taken(struct __sk_buff *skb, enum postern_counter why, int result)
{
	count(why);
	if (trace_is_on())
		trace_syn(skb, why);
	return result;
}

static __always_inline int drop_unparsed(struct __sk_buff *skb)
{
	return taken(skb, POSTERN_COUNT_SYN_UNPARSED, DROP);
}

/* 0, or a negative errno: nothing of the record may be used then. */
static __always_inline long fill_syn(struct __sk_buff *skb, const struct tcphdr *tcp, struct postern_syn_record *record)
{
	__u32 length = tcp->doff * 4;
	long error;

	record->header.type = POSTERN_RECORD_SYN;
	record->header.isn = bpf_ntohl(tcp->seq);
	record->header.time_ns = bpf_ktime_get_ns();
	record->header.tuple.local_port = bpf_ntohs(tcp->source);
	record->header.tuple.remote_port = bpf_ntohs(tcp->dest);
	record->header.tuple.padding = 0;
	record->padding = 0;
	__builtin_memset(record->tcp_header, 0, sizeof(record->tcp_header));
	error = load_addresses(skb, &record->family, &record->header.tuple);
	if (error)
		return error;
	if (length < sizeof(*tcp) || length > POSTERN_TCP_HEADER_MAX)
		return -EBADMSG;
	record->tcp_header_length = length;
	return bpf_skb_load_bytes(skb, 0, record->tcp_header, length);
}

static __always_inline int hold_syn(struct __sk_buff *skb, const struct tcphdr *tcp)
{
	__u64 cookie = bpf_get_socket_cookie(skb);
	const struct postern_listener_mark *listener = bpf_map_lookup_elem(&listener_map, &cookie);
	struct postern_syn_record *record;
	long error;

	if (!listener) {
		helper_failed(POSTERN_SITE_HOLD_LISTENER, -ENOENT);
		return drop_unparsed(skb);
	}
	record = reserve(listener->worker, sizeof(*record), POSTERN_SITE_HOLD_RING);
	if (!record) {
		if (trace_is_on())
			trace_syn(skb, POSTERN_COUNT_RING_FULL);
		return DROP; /* G sends it again in a second */
	}
	record->listener_cookie = cookie;
	error = fill_syn(skb, tcp, record);
	if (error) {
		bpf_ringbuf_discard(record, 0);
		helper_failed(POSTERN_SITE_HOLD_LOAD, error);
		return drop_unparsed(skb);
	}
	bpf_ringbuf_submit(record, 0);
	return taken(skb, POSTERN_COUNT_SYN_HELD, DROP);
}

/* Children of the listener inherit the filter until the worker detaches it; what is no SYN is theirs. */
SEC("socket")
int hold_listener(struct __sk_buff *skb)
{
	struct tcphdr tcp;
	long error = bpf_skb_load_bytes(skb, 0, &tcp, sizeof(tcp));

	if (error) {
		helper_failed(POSTERN_SITE_HOLD_LOAD, error);
		return drop_unparsed(skb);
	}
	if (!tcp.syn || tcp.ack || tcp.rst)
		return KEEP;
	if (tcp.fin)
		return drop_unparsed(skb);
	if (release_priority && skb->priority == release_priority)
		return taken(skb, POSTERN_COUNT_SYN_RELEASED, KEEP);
	return hold_syn(skb, &tcp);
}
