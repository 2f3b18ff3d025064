/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * packet.h: a packet at cgroup egress, as the guard and the witness look at it. It begins at the network header and is
 * not segmented yet. TCP sockets of a gateway send plain IPv4 and IPv6 headers; fragments and extension headers come
 * from raw sockets and odd options, and are not followed down to the ports: who cannot be judged is told apart.
 */
#ifndef POSTERN_BPF_PACKET_H
#define POSTERN_BPF_PACKET_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "address.h"
#include "count.h"

#define IP_FRAGMENT_BITS bpf_htons(0x3fff) /* more fragments, and the offset: RFC 791 */
#define NEXT_HOP_BY_HOP  0
#define NEXT_ROUTING     43
#define NEXT_FRAGMENT    44
#define NEXT_AUTH        51
#define NEXT_OPTIONS     60
#define EXTENSIONS_MAX   6

enum packet_kind {
	PACKET_OTHER, /* not TCP */
	PACKET_TCP,
	PACKET_UNPARSED, /* TCP, or what may be TCP: only destination.address is known */
};

struct packet {
	struct postern_destination_key destination;
	bool opens; /* SYN without ACK */
	bool ends;  /* FIN */
	__u32 sequence;
	__u32 payload_offset;
	__u32 payload_length;
};

/* The headers that TCP makes lie in the packet's linear part: no helper is called for them. NULL: elsewhere. */
static __always_inline const void *linear(const struct __sk_buff *skb, __u32 offset, __u32 size)
{
	const void *start = (const void *)(long)skb->data + offset;

	return start + size <= (const void *)(long)skb->data_end ? start : NULL;
}

static __always_inline enum packet_kind parse_tcp(struct __sk_buff *skb, __u32 offset, enum postern_helper_site site,
                                                  struct packet *packet)
{
	const struct tcphdr *tcp = linear(skb, offset, sizeof(*tcp));
	struct tcphdr copy;

	if (!tcp) {
		long error = bpf_skb_load_bytes(skb, offset, &copy, sizeof(copy));

		if (error) {
			helper_failed(site, error);
			return PACKET_UNPARSED;
		}
		tcp = &copy;
	}
	packet->payload_offset = offset + tcp->doff * 4;
	if (tcp->doff * 4 < sizeof(*tcp) || packet->payload_offset > skb->len)
		return PACKET_UNPARSED;
	packet->payload_length = skb->len - packet->payload_offset;
	packet->destination.port = tcp->dest;
	packet->opens = tcp->syn && !tcp->ack;
	packet->ends = tcp->fin;
	packet->sequence = bpf_ntohl(tcp->seq);
	return PACKET_TCP;
}

static __always_inline enum packet_kind parse_v4(struct __sk_buff *skb, enum postern_helper_site site,
                                                 struct packet *packet)
{
	const struct iphdr *ip = linear(skb, 0, sizeof(*ip));
	struct iphdr copy;

	if (!ip) {
		long error = bpf_skb_load_bytes(skb, 0, &copy, sizeof(copy));

		if (error) {
			helper_failed(site, error);
			return PACKET_OTHER; /* less than an IPv4 header is no packet to anywhere */
		}
		ip = &copy;
	}
	if (ip->protocol != IPPROTO_TCP)
		return PACKET_OTHER;
	address_from_v4(&packet->destination.address, ip->daddr);
	if (ip->frag_off & IP_FRAGMENT_BITS)
		return PACKET_UNPARSED;
	return parse_tcp(skb, ip->ihl * 4, site, packet);
}

static __always_inline bool is_extension(__u8 next)
{
	return next == NEXT_HOP_BY_HOP || next == NEXT_ROUTING || next == NEXT_OPTIONS || next == NEXT_AUTH;
}

/* Behind extension headers: only whether TCP may be there. */
static __always_inline enum packet_kind parse_extensions(struct __sk_buff *skb, __u8 next,
                                                         enum postern_helper_site site)
{
	__u32 offset = sizeof(struct ipv6hdr);

	for (int i = 0; i < EXTENSIONS_MAX && is_extension(next); i++) {
		__u8 header[2]; /* next header, length */
		long error = bpf_skb_load_bytes(skb, offset, header, sizeof(header));

		if (error) {
			helper_failed(site, error);
			return PACKET_UNPARSED;
		}
		offset += next == NEXT_AUTH ? (header[1] + 2) * 4 : (header[1] + 1) * 8;
		next = header[0];
	}
	if (next == NEXT_FRAGMENT) {
		long error = bpf_skb_load_bytes(skb, offset, &next, sizeof(next));

		if (error) {
			helper_failed(site, error);
			return PACKET_UNPARSED;
		}
	}
	return next == IPPROTO_TCP || next == NEXT_FRAGMENT || is_extension(next) ? PACKET_UNPARSED : PACKET_OTHER;
}

static __always_inline enum packet_kind parse_v6(struct __sk_buff *skb, enum postern_helper_site site,
                                                 struct packet *packet)
{
	const struct ipv6hdr *ip = linear(skb, 0, sizeof(*ip));
	struct ipv6hdr copy;

	if (!ip) {
		long error = bpf_skb_load_bytes(skb, 0, &copy, sizeof(copy));

		if (error) {
			helper_failed(site, error);
			return PACKET_OTHER;
		}
		ip = &copy;
	}
	address_from_words(&packet->destination.address, ip->daddr.in6_u.u6_addr32[0], ip->daddr.in6_u.u6_addr32[1],
	                   ip->daddr.in6_u.u6_addr32[2], ip->daddr.in6_u.u6_addr32[3]);
	if (ip->nexthdr == IPPROTO_TCP)
		return parse_tcp(skb, sizeof(*ip), site, packet);
	return parse_extensions(skb, ip->nexthdr, site);
}

/* Plain headers, and this destination. False where it takes more than a look to know. */
static __always_inline bool goes_to(const struct __sk_buff *skb, const struct postern_destination_key *key)
{
	__u32 first = address_word(&key->address, 0), second = address_word(&key->address, 1),
	      third = address_word(&key->address, 2), fourth = address_word(&key->address, 3);

	if (skb->protocol == bpf_htons(0x0800)) {
		const struct {
			struct iphdr ip;
			__be16 source, destination;
		} *headers = linear(skb, 0, sizeof(*headers));

		return headers && headers->ip.ihl == 5 && headers->ip.protocol == IPPROTO_TCP &&
		       !(headers->ip.frag_off & IP_FRAGMENT_BITS) && headers->destination == key->port &&
		       headers->ip.daddr == fourth && words_are_mapped(first, second, third);
	}
	if (skb->protocol == bpf_htons(0x86dd)) {
		const struct {
			struct ipv6hdr ip;
			__be16 source, destination;
		} *headers = linear(skb, 0, sizeof(*headers));

		return headers && headers->ip.nexthdr == IPPROTO_TCP && headers->destination == key->port &&
		       headers->ip.daddr.in6_u.u6_addr32[0] == first &&
		       headers->ip.daddr.in6_u.u6_addr32[1] == second &&
		       headers->ip.daddr.in6_u.u6_addr32[2] == third && headers->ip.daddr.in6_u.u6_addr32[3] == fourth;
	}
	return false;
}

/* A bare acknowledgement, or a RST: parse_packet() would say PACKET_TCP, not opens, not ends, payload_length 0. */
static __always_inline bool says_nothing(const struct __sk_buff *skb, const struct tcphdr *tcp, __u32 offset)
{
	return tcp->doff * 4 >= sizeof(*tcp) && !tcp->syn && !tcp->fin && skb->len == offset + tcp->doff * 4;
}

/* Half of a stream's packets, told without a call of a helper. False where it takes more than a look to know. */
static __always_inline bool only_acknowledges(const struct __sk_buff *skb)
{
	if (skb->protocol == bpf_htons(0x0800)) {
		const struct {
			struct iphdr ip;
			struct tcphdr tcp;
		} *headers = linear(skb, 0, sizeof(*headers));

		return headers && headers->ip.ihl == 5 && headers->ip.protocol == IPPROTO_TCP &&
		       !(headers->ip.frag_off & IP_FRAGMENT_BITS) &&
		       says_nothing(skb, &headers->tcp, sizeof(headers->ip));
	}
	if (skb->protocol == bpf_htons(0x86dd)) {
		const struct {
			struct ipv6hdr ip;
			struct tcphdr tcp;
		} *headers = linear(skb, 0, sizeof(*headers));

		return headers && headers->ip.nexthdr == IPPROTO_TCP &&
		       says_nothing(skb, &headers->tcp, sizeof(headers->ip));
	}
	return false;
}

static __always_inline enum packet_kind parse_packet(struct __sk_buff *skb, enum postern_helper_site site,
                                                     struct packet *packet)
{
	if (skb->protocol == bpf_htons(0x0800))
		return parse_v4(skb, site, packet);
	if (skb->protocol == bpf_htons(0x86dd))
		return parse_v6(skb, site, packet);
	return PACKET_OTHER;
}

#endif
