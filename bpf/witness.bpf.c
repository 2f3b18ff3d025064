/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * witness.bpf.c: looks at B itself, on the agent's cgroup (design section 5): what leaves must be TLS records.
 * inet_diag can say that keys are installed on a socket that sends plaintext; this cannot.
 *
 * It follows the record headers by TCP sequence number, from B's first byte on: that one must begin a handshake record,
 * every other a record of type 20..23. When enough of them came after the handshake (POSTERN_B_ARMED) it looks no more,
 * so a long transfer costs one storage look-up per packet. A wrong header is dropped for good: its retransmissions are
 * the same bytes at the same place.
 *
 * A B whose destination was decided PLAIN is judged again at every packet.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "address.h"
#include "count.h"
#include "judge.h"
#include "maps.h"
#include "packet.h"
#include "trace.h"

#define PASS 1
#define DROP 0

#define RECORD_CHANGE_CIPHER_SPEC 20
#define RECORD_HANDSHAKE          22
#define RECORD_APPLICATION_DATA   23
#define RECORD_LENGTH_MAX         (16384 + 2048) /* RFC 5246 6.2.3; RFC 8446 5.2 allows less */
#define ARMED_HEADERS_ENOUGH      16
#define HEADERS_PER_PACKET        16

enum step {
	STEP_NEXT, /* a header was right; there may be another one in this packet */
	STEP_END,  /* the next header is not in this packet */
	STEP_WRONG,
};

static __always_inline int drop(enum postern_counter why)
{
	count(why);
	return DROP;
}

/* As much of the header as is there. */
static __always_inline bool header_looks_right(const struct postern_witness_socket *state, __u32 have)
{
	__u8 type = state->header[0];

	if (have >= 1 && (type < RECORD_CHANGE_CIPHER_SPEC || type > RECORD_APPLICATION_DATA))
		return false;
	if (have >= 1 && state->headers == 0 && type != RECORD_HANDSHAKE)
		return false;
	if (have >= 2 && state->header[1] != 3)
		return false;
	return have < 3 || state->header[2] <= 4;
}

static __noinline enum step check_header(struct __sk_buff *skb, const struct packet *packet, bool armed,
                                         struct postern_witness_socket *state)
{
	__u32 kept = state->header_length, have = kept, length;
	__u32 start = state->next_header - packet->sequence; /* in the payload; before it if a part is kept */

	if ((__s32)(start + kept) < 0) /* it went out unseen */
		return STEP_WRONG;
#pragma unroll
	for (__u32 i = 0; i < POSTERN_TLS_HEADER; i++) {
		if (i < kept)
			continue;
		if (start + i >= packet->payload_length)
			break;
		long error = bpf_skb_load_bytes(skb, packet->payload_offset + start + i, &state->header[i], 1);

		if (error) {
			helper_failed(POSTERN_SITE_WITNESS_LOAD, error);
			return STEP_WRONG;
		}
		have = i + 1;
	}
	if (have == kept)
		return STEP_END;
	if (!header_looks_right(state, have))
		return STEP_WRONG;
	if (have < POSTERN_TLS_HEADER) {
		state->header_length = have;
		return STEP_END;
	}
	length = (__u32)state->header[3] << 8 | state->header[4];
	if (length == 0 || length > RECORD_LENGTH_MAX)
		return STEP_WRONG;
	state->header_length = 0;
	state->next_header += POSTERN_TLS_HEADER + length;
	state->headers++;
	state->armed += armed;
	return STEP_NEXT;
}

static __always_inline int follow_records(struct __sk_buff *skb, const struct packet *packet, bool armed,
                                          struct postern_witness_socket *state)
{
	for (int i = 0; i < HEADERS_PER_PACKET; i++) {
		switch (check_header(skb, packet, armed, state)) {
		case STEP_WRONG:
			return drop(POSTERN_COUNT_WIRE_NOT_TLS);
		case STEP_END:
			return PASS;
		case STEP_NEXT:
			break;
		}
		if (state->armed >= ARMED_HEADERS_ENOUGH)
			break;
	}
	/* Enough; or so many tiny records in one packet that their trail is lost, which no handshake makes. */
	state->done = 1;
	return PASS;
}

static __always_inline int judge_tls(struct __sk_buff *skb, struct bpf_sock *sk, bool armed)
{
	struct postern_witness_socket *state = bpf_sk_storage_get(&witness_socket, sk, NULL, 0);
	struct postern_witness_socket first = {};
	struct packet packet = {};

	if (state && state->done)
		return PASS;
	if (parse_packet(skb, POSTERN_SITE_WITNESS_LOAD, &packet) != PACKET_TCP)
		return drop(POSTERN_COUNT_WIRE_NOT_TLS);
	if (packet.payload_length == 0)
		return PASS;
	if (!state) {
		first.next_header = packet.sequence;
		state = bpf_sk_storage_get(&witness_socket, sk, &first, BPF_SK_STORAGE_GET_F_CREATE);
		if (!state) {
			helper_failed(POSTERN_SITE_WITNESS_STORAGE, -ENOMEM);
			return DROP; /* TCP sends it again */
		}
	}
	return follow_records(skb, &packet, armed, state);
}

static __always_inline int judge_plain(struct __sk_buff *skb, const struct postern_destination_key *destination)
{
	struct packet packet = {};
	__u32 settings_id, verdict;

	if (parse_packet(skb, POSTERN_SITE_WITNESS_LOAD, &packet) == PACKET_TCP && packet.payload_length == 0)
		return PASS;
	verdict = postern_judge(destination, &settings_id);
	if (verdict == POSTERN_VERDICT_NONE || verdict == POSTERN_VERDICT_PLAIN)
		return PASS;
	return drop(POSTERN_COUNT_WITNESS_PLAIN_DROPPED);
}

SEC("cgroup_skb/egress")
int witness(struct __sk_buff *skb)
{
	const struct postern_backend_socket *backend;
	struct bpf_sock *sk = skb->sk;
	bool plain;
	int result;

	if (!sk)
		return PASS;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return PASS;
	backend = bpf_sk_storage_get(&backend_socket, sk, NULL, 0);
	if (!backend) /* not a B */
		return PASS;
	plain = backend->phase == POSTERN_B_PLAIN;
	if (plain)
		result = judge_plain(skb, &backend->destination);
	else
		result = judge_tls(skb, sk, backend->phase == POSTERN_B_ARMED);
	if (result == DROP && trace_is_on())
		trace_witness(skb, &backend->destination, backend->gateway_id,
		              plain ? POSTERN_COUNT_WITNESS_PLAIN_DROPPED : POSTERN_COUNT_WIRE_NOT_TLS);
	return result;
}
