/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/packet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <string.h>

#include "base/address.h"

#define HOP_LIMIT 64

/* The Internet checksum (RFC 1071), kept as a running sum of 16-bit big-endian words. */
static uint32_t sum_bytes(uint32_t sum, const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i + 1 < length; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	if (length & 1)
		sum += (uint32_t)bytes[length - 1] << 8;
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

/* The pseudo-header of TCP and ICMPv6, for both families. */
static uint32_t sum_pseudo_header(int family, const struct postern_address *source,
                                  const struct postern_address *destination, uint8_t protocol, size_t length)
{
	size_t skip = family == AF_INET ? 12 : 0; /* v4-mapped: the last four bytes */
	uint32_t sum = protocol + (uint32_t)length;

	sum = sum_bytes(sum, source->byte + skip, 16 - skip);
	return sum_bytes(sum, destination->byte + skip, 16 - skip);
}

/* Writes the IP header; returns its length. */
static size_t put_ip(uint8_t *bytes, int family, const struct postern_address *source,
                     const struct postern_address *destination, uint8_t protocol, size_t payload)
{
	if (family == AF_INET) {
		struct iphdr header = {
		        .version = 4,
		        .ihl = 5,
		        .tot_len = htons((uint16_t)(sizeof(header) + payload)),
		        .frag_off = htons(0x4000), /* DF */
		        .ttl = HOP_LIMIT,
		        .protocol = protocol,
		};

		memcpy(&header.saddr, source->byte + 12, 4);
		memcpy(&header.daddr, destination->byte + 12, 4);
		memcpy(bytes, &header, sizeof(header));
		header.check = fold(sum_bytes(0, bytes, sizeof(header)));
		memcpy(bytes, &header, sizeof(header));
		return sizeof(header);
	} else {
		struct ip6_hdr header = {0};

		header.ip6_flow = htonl(6u << 28);
		header.ip6_plen = htons((uint16_t)payload);
		header.ip6_nxt = protocol;
		header.ip6_hops = HOP_LIMIT;
		memcpy(&header.ip6_src, source->byte, 16);
		memcpy(&header.ip6_dst, destination->byte, 16);
		memcpy(bytes, &header, sizeof(header));
		return sizeof(header);
	}
}

static int check(const struct postern_syn_record *syn)
{
	if (syn->tcp_header_length < sizeof(struct tcphdr) || syn->tcp_header_length > POSTERN_TCP_HEADER_MAX)
		return -EINVAL;
	if (syn->family != AF_INET && syn->family != AF_INET6)
		return -EINVAL;
	return 0;
}

static size_t put_tcp(struct packet *packet, const struct postern_address *source,
                      const struct postern_address *destination, const uint8_t *header, size_t length)
{
	size_t ip = put_ip(packet->bytes, packet->family, source, destination, IPPROTO_TCP, length);
	uint8_t *tcp = packet->bytes + ip;
	uint16_t checksum;

	memcpy(tcp, header, length);
	memset(tcp + offsetof(struct tcphdr, check), 0, 2);
	checksum = fold(
	        sum_bytes(sum_pseudo_header(packet->family, source, destination, IPPROTO_TCP, length), tcp, length));
	memcpy(tcp + offsetof(struct tcphdr, check), &checksum, 2);
	return ip + length;
}

int packet_syn(const struct postern_syn_record *syn, struct packet *packet)
{
	const struct postern_tuple *tuple = &syn->header.tuple;

	if (check(syn) != 0)
		return -EINVAL;
	packet->family = (int)syn->family;
	packet->destination = tuple->remote;
	packet->length = put_tcp(packet, &tuple->local, &tuple->remote, syn->tcp_header, syn->tcp_header_length);
	return 0;
}

/* RFC 9293 3.10.7.1: a RST that answers a SYN has sequence 0, ACK set, acknowledgment ISN + 1. */
int packet_reset(const struct postern_syn_record *syn, struct packet *packet)
{
	const struct postern_tuple *tuple = &syn->header.tuple;
	struct tcphdr header = {
	        .source = htons(tuple->remote_port),
	        .dest = htons(tuple->local_port),
	        .doff = sizeof(header) / 4,
	        .rst = 1,
	        .ack = 1,
	};
	uint8_t bytes[sizeof(header)];

	if (check(syn) != 0)
		return -EINVAL;
	header.ack_seq = htonl(syn->header.isn + 1);
	memcpy(bytes, &header, sizeof(header));
	packet->family = (int)syn->family;
	packet->destination = tuple->local;
	packet->length = put_tcp(packet, &tuple->remote, &tuple->local, bytes, sizeof(bytes));
	return 0;
}

/* Host unreachable (IPv4 3/1), address unreachable (IPv6 1/3), quoting the SYN's IP and TCP headers. */
int packet_unreachable(const struct postern_syn_record *syn, struct packet *packet)
{
	const struct postern_tuple *tuple = &syn->header.tuple;
	bool v4 = syn->family == AF_INET;
	uint8_t message[8 + sizeof(struct ip6_hdr) + sizeof(struct tcphdr)] = {0};
	size_t length = 8;
	size_t ip;
	uint16_t checksum;

	if (check(syn) != 0)
		return -EINVAL;
	packet->family = (int)syn->family;
	packet->destination = tuple->local;
	message[0] = v4 ? ICMP_DEST_UNREACH : ICMP6_DST_UNREACH;
	message[1] = v4 ? ICMP_HOST_UNREACH : ICMP6_DST_UNREACH_ADDR;
	length += put_ip(message + length, packet->family, &tuple->local, &tuple->remote, IPPROTO_TCP,
	                 syn->tcp_header_length);
	memcpy(message + length, syn->tcp_header, sizeof(struct tcphdr));
	length += sizeof(struct tcphdr);
	checksum = fold(sum_bytes(
	        v4 ? 0 : sum_pseudo_header(packet->family, &tuple->remote, &tuple->local, IPPROTO_ICMPV6, length),
	        message, length));
	memcpy(message + 2, &checksum, 2);
	ip = put_ip(packet->bytes, packet->family, &tuple->remote, &tuple->local, v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6,
	            length);
	memcpy(packet->bytes + ip, message, length);
	packet->length = ip + length;
	return 0;
}
