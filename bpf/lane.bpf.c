/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * lane.bpf.c: the fast lane of the plaintext hop G -> A (design section 7). What the gateway sends goes straight into
 * A's receive queue, past the loopback TCP stack.
 *
 *   lane_join      sock_ops on the gateway's cgroup: G joins lane_gateway when its connection is established, before
 *                  it can send a byte, if the worker offered a slot.
 *   lane_redirect  sk_msg on lane_gateway: decides per message.
 *
 * A redirect has no back-pressure of its own, and what lies in A's redirect queue is read before what lies in its TCP
 * queue. So redirecting stops at a window, everything then goes by TCP (which has back-pressure), and it resumes only
 * when nothing at all is in flight; else bytes would overtake each other. A is in lane_agent only after accept(); until
 * then a redirect finds no target and the message goes by TCP.
 *
 * A stream of large messages leaves the lane for good, when the agent asks for it: see abi.h.
 *
 * B is never in a sockmap. Never apply, cork, push or pop here.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "vmlinux.h"
#include "count.h"
#include "maps.h"
#include "sockops.h"

static __always_inline bool lane_is_enabled(void)
{
	__u32 index = 0;
	const struct postern_runtime_config *config = bpf_map_lookup_elem(&runtime_config, &index);

	return config && config->lane_enabled;
}

/* A blocking reader would get EAGAIN now and then from a socket in a sockmap; a subflow of MPTCP has no user. */
static __always_inline bool may_join(const struct postern_gateway_socket *storage)
{
	return lane_is_enabled() && storage->flags & POSTERN_G_NONBLOCK && !(storage->flags & POSTERN_G_MPTCP);
}

SEC("sockops")
int lane_join(struct bpf_sock_ops *ctx)
{
	struct postern_gateway_socket *storage;
	struct bpf_sock *sk;
	const __u32 *offer;
	__u32 slot;
	__u64 cookie;
	long error;

	if (CTX_READ(ctx->op) != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		return 1;
	sk = ctx->sk;
	if (!sk)
		return 1;
	storage = redirected_socket(sk);
	if (!storage)
		return 1;
	cookie = bpf_get_socket_cookie(ctx);
	offer = bpf_map_lookup_elem(&lane_slot_map, &cookie);
	if (!offer)
		return 1;
	/* Who deletes the offer has the slot: the worker takes back what G did not take. */
	slot = *offer;
	if (bpf_map_delete_elem(&lane_slot_map, &cookie))
		return 1;
	/* From here on it is G's: hold_attempt gives it back with G's end, joined or not. */
	storage->lane_slot = slot;
	if (!may_join(storage))
		return 1;
	error = bpf_sock_hash_update(ctx, &lane_gateway, &cookie, BPF_ANY);
	if (error) {
		helper_failed(POSTERN_SITE_LANE_JOIN, error);
		return 1;
	}
	storage->flags |= POSTERN_G_LANE;
	count(POSTERN_COUNT_LANE_JOINED);
	return 1;
}

/*
 * All that G sent and the agent did not read yet, wherever it lies. What TCP took is counted by the kernel itself
 * (write_seq), so that a send which TCP took in part is counted right, one that was under way when G joined, too, and
 * the one after a partial send, for which the kernel uses the last verdict again and does not ask this program.
 */
static __always_inline __u32 bytes_in_flight(const struct tcp_sock *tcp, const struct postern_gateway_socket *storage,
                                             const struct postern_lane_slot *slot)
{
	__u64 agent_read = *(const volatile __u64 *)&slot->agent_read;

	return (__u32)slot->redirected_bytes + (tcp->write_seq - storage->lane_start) - (__u32)agent_read;
}

/*
 * Too large for the lane, or pages that sendfile() lent, of which a program sees no data: TCP sends these without a
 * copy. On 6.1 they come one by one, each as small as a message.
 */
static __always_inline bool is_bulk(const struct sk_msg_md *msg)
{
	return msg->size > POSTERN_LANE_MAX_MESSAGE || msg->data == msg->data_end;
}

static __always_inline bool may_redirect(const struct sk_msg_md *msg, const struct tcp_sock *tcp,
                                         const struct postern_gateway_socket *storage,
                                         const struct postern_lane_slot *slot)
{
	__u32 in_flight = bytes_in_flight(tcp, storage, slot), size = msg->size;

	if (is_bulk(msg))
		return false;
	if (storage->flags & POSTERN_G_REDIRECTS)
		return in_flight <= POSTERN_LANE_WINDOW - size;
	return in_flight == 0;
}

/* The stream's place after this message. */
static __always_inline __u32 place_after(const struct tcp_sock *tcp, const struct postern_gateway_socket *storage,
                                         const struct postern_lane_slot *slot)
{
	return (__u32)slot->redirected_bytes + (tcp->write_seq - storage->lane_start);
}

/* Every run of this program for one G holds G's lock: what an earlier run wrote is there before this is seen. */
static __always_inline bool leaves(struct postern_lane_slot *slot)
{
	if (!*(const volatile __u32 *)&slot->leave)
		return false;
	*(volatile __u32 *)&slot->left = 1;
	return true;
}

SEC("sk_msg")
int lane_redirect(struct sk_msg_md *msg)
{
	struct postern_gateway_socket *storage;
	struct bpf_sock *sk = msg->sk;
	struct postern_lane_slot *slot;
	struct tcp_sock *tcp;
	__u32 index;
	__u64 cookie;

	if (!sk)
		return SK_PASS;
	storage = bpf_sk_storage_get(&gateway_socket, sk, NULL, 0);
	if (!storage)
		return SK_PASS;
	index = storage->lane_slot;
	slot = bpf_map_lookup_elem(&lane_slots, &index);
	if (!slot)
		return SK_PASS;
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!tcp) {
		helper_failed(POSTERN_SITE_LANE_TCP_SOCK, -EINVAL);
		return SK_PASS;
	}
	cookie = storage->cookie;
	if (!leaves(slot) && may_redirect(msg, tcp, storage, slot) &&
	    bpf_msg_redirect_hash(msg, &lane_agent, &cookie, BPF_F_INGRESS) == SK_PASS) {
		storage->flags |= POSTERN_G_REDIRECTS;
		slot->redirected_bytes += msg->size;
		slot->redirected_until = place_after(tcp, storage, slot);
		slot->redirected++;
		count(POSTERN_COUNT_LANE_REDIRECTED);
	} else {
		storage->flags &= ~POSTERN_G_REDIRECTS;
		slot->passed++;
		if (is_bulk(msg))
			slot->bulk_bytes += msg->size;
		count(POSTERN_COUNT_LANE_PASSED);
	}
	return SK_PASS;
}
