/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * packet.h: the three packets that the agent sends by raw socket in a gateway's namespace, all on loopback: the held
 * SYN again, a RST that answers it, an ICMP unreachable that quotes it. Loopback computes no checksums, so these do
 * (RFC 9293 3.1, RFC 792, RFC 4443). Pure.
 */
#ifndef POSTERN_DATAPATH_PACKET_H
#define POSTERN_DATAPATH_PACKET_H

#include <stddef.h>
#include <stdint.h>

#include "postern/abi.h"

#define PACKET_MAX 160 /* IPv6 + ICMPv6 + quoted IPv6 and 60 bytes of TCP */

struct packet {
	uint8_t bytes[PACKET_MAX];
	size_t length;
	int family; /* AF_INET or AF_INET6 */
	struct postern_address destination;
};

/* 0, or -EINVAL: the record does not hold a SYN's header. */
int packet_syn(const struct postern_syn_record *syn, struct packet *packet);
int packet_reset(const struct postern_syn_record *syn, struct packet *packet);
int packet_unreachable(const struct postern_syn_record *syn, struct packet *packet);

#endif
