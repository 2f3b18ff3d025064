/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * sockops.h: what the sock_ops programs on the gateway's cgroup share.
 */
#ifndef POSTERN_BPF_SOCKOPS_H
#define POSTERN_BPF_SOCKOPS_H

#include "address.h"
#include "maps.h"

/*
 * clang merges neighbouring loads from the context into wide ones, or takes the address ctx + offset, and the verifier
 * takes neither: each field is read as it stands.
 */
#define CTX_READ(field) (*(volatile __typeof__(field) *)&(field))

/* As G sees it: local = G. */
static __always_inline void tuple_of_socket(struct bpf_sock_ops *ctx, struct postern_tuple *tuple)
{
	__u32 remote[4] = {CTX_READ(ctx->remote_ip6[0]), CTX_READ(ctx->remote_ip6[1]), CTX_READ(ctx->remote_ip6[2]),
	                   CTX_READ(ctx->remote_ip6[3])};

	if (CTX_READ(ctx->family) == AF_INET || words_are_mapped(remote[0], remote[1], remote[2])) {
		address_from_v4(&tuple->local, CTX_READ(ctx->local_ip4));
		address_from_v4(&tuple->remote, CTX_READ(ctx->remote_ip4));
	} else {
		address_from_words(&tuple->local, CTX_READ(ctx->local_ip6[0]), CTX_READ(ctx->local_ip6[1]),
		                   CTX_READ(ctx->local_ip6[2]), CTX_READ(ctx->local_ip6[3]));
		address_from_words(&tuple->remote, remote[0], remote[1], remote[2], remote[3]);
	}
	tuple->local_port = CTX_READ(ctx->local_port);
	tuple->remote_port = bpf_ntohl(CTX_READ(ctx->remote_port));
	tuple->padding = 0;
}

/* NULL: connect() did not send this socket to the agent. */
static __always_inline struct postern_gateway_socket *redirected_socket(struct bpf_sock *sk)
{
	struct postern_gateway_socket *storage = bpf_sk_storage_get(&gateway_socket, sk, NULL, 0);

	if (!storage || (storage->verdict != POSTERN_VERDICT_TLS && storage->verdict != POSTERN_VERDICT_HOLD))
		return NULL;
	return storage;
}

#endif
