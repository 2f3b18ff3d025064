/* SPDX-License-Identifier: GPL-2.0-only */
/* The packets that end or release a held SYN: lengths, fields, and checksums that add up to zero. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "datapath/packet.h"

#define ISN 0x01020304u

/* A SYN of 40000 -> 28100 with an MSS option. */
static struct postern_syn_record syn_of(const char *local, const char *remote, uint32_t header_length)
{
	struct postern_syn_record syn = {
	        .header = {.type = POSTERN_RECORD_SYN, .isn = ISN},
	        .tcp_header_length = header_length,
	};
	struct tcphdr tcp = {
	        .source = htons(40000),
	        .dest = htons(28100),
	        .seq = htonl(ISN),
	        .doff = (header_length / 4) & 15,
	        .syn = 1,
	        .check = 0x1234, /* rubbish: loopback computes none */
	};
	static const uint8_t mss[] = {2, 4, 0xff, 0xd7};

	assert_int_equal(address_parse(local, &syn.header.tuple.local), 0);
	assert_int_equal(address_parse(remote, &syn.header.tuple.remote), 0);
	syn.family = address_is_v4(&syn.header.tuple.local) ? AF_INET : AF_INET6;
	syn.header.tuple.local_port = 40000;
	syn.header.tuple.remote_port = 28100;
	memcpy(syn.tcp_header, &tcp, sizeof(tcp));
	if (header_length >= 24)
		memcpy(syn.tcp_header + 20, mss, sizeof(mss));
	return syn;
}

static uint32_t sum(uint32_t total, const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		total += i & 1 ? bytes[i] : (uint32_t)bytes[i] << 8;
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return total;
}

/* RFC 1071: the sum over everything that the checksum covers, the checksum included, is 0xffff. */
static void check_sums(const struct packet *packet, uint8_t protocol)
{
	const uint8_t *bytes = packet->bytes;
	size_t ip = packet->family == AF_INET ? 20 : 40;
	size_t payload = packet->length - ip;
	uint32_t pseudo = protocol + (uint32_t)payload;

	if (packet->family == AF_INET) {
		assert_int_equal(sum(0, bytes, 20), 0xffff);
		assert_int_equal(bytes[9], protocol);
		assert_int_equal(bytes[2] << 8 | bytes[3], packet->length);
		pseudo = sum(pseudo, bytes + 12, 8);
	} else {
		assert_int_equal(bytes[6], protocol);
		assert_int_equal(bytes[4] << 8 | bytes[5], payload);
		pseudo = sum(pseudo, bytes + 8, 32);
	}
	if (protocol == IPPROTO_ICMP)
		pseudo = 0; /* ICMP has no pseudo-header, ICMPv6 has */
	assert_int_equal(sum(pseudo, bytes + ip, payload), 0xffff);
}

static const struct {
	const char *local;
	const char *remote;
	uint32_t header_length;
} rows[] = {
        {"127.0.0.1", "127.0.0.1", 20}, {"127.0.0.1", "127.0.0.1", 40},
        {"10.1.2.3", "127.0.0.1", 60},  {"::1", "::1", 24},
        {"fd00::7", "::1", 60},
};

static void test_syn(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct postern_syn_record syn = syn_of(rows[i].local, rows[i].remote, rows[i].header_length);
		struct packet packet;
		size_t ip = syn.family == AF_INET ? 20 : 40;

		assert_int_equal(packet_syn(&syn, &packet), 0);
		assert_int_equal(packet.length, ip + rows[i].header_length);
		check_sums(&packet, IPPROTO_TCP);
		/* All but the checksum is what G sent. */
		assert_memory_equal(packet.bytes + ip, syn.tcp_header, 16);
		assert_memory_equal(packet.bytes + ip + 18, syn.tcp_header + 18, rows[i].header_length - 18);
		assert_true(address_equal(&packet.destination, &syn.header.tuple.remote));
	}
}

static void test_reset(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct postern_syn_record syn = syn_of(rows[i].local, rows[i].remote, rows[i].header_length);
		struct packet packet;
		struct tcphdr tcp;

		assert_int_equal(packet_reset(&syn, &packet), 0);
		check_sums(&packet, IPPROTO_TCP);
		memcpy(&tcp, packet.bytes + (syn.family == AF_INET ? 20 : 40), sizeof(tcp));
		assert_int_equal(ntohs(tcp.source), 28100);
		assert_int_equal(ntohs(tcp.dest), 40000);
		assert_int_equal(ntohl(tcp.ack_seq), ISN + 1);
		assert_int_equal(tcp.seq, 0);
		assert_true(tcp.rst && tcp.ack && !tcp.syn && !tcp.fin);
		assert_true(address_equal(&packet.destination, &syn.header.tuple.local));
	}
}

static void test_unreachable(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct postern_syn_record syn = syn_of(rows[i].local, rows[i].remote, rows[i].header_length);
		struct packet packet;
		bool v4 = syn.family == AF_INET;
		size_t ip = v4 ? 20 : 40;
		const uint8_t *icmp;

		assert_int_equal(packet_unreachable(&syn, &packet), 0);
		check_sums(&packet, v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
		icmp = packet.bytes + ip;
		assert_int_equal(icmp[0], v4 ? 3 : 1);
		assert_int_equal(icmp[1], v4 ? 1 : 3);
		/* The quoted TCP header begins after the quoted IP header; its sequence number is what the kernel looks
		 * at. */
		assert_memory_equal(icmp + 8 + ip, syn.tcp_header, 20);
		assert_true(packet.length <= PACKET_MAX);
	}
}

static void test_refuses_nonsense(void **state)
{
	static const struct {
		uint32_t family;
		uint32_t header_length;
	} bad[] = {{AF_INET, 0}, {AF_INET, 19}, {AF_INET, 61}, {AF_INET6, UINT32_MAX}, {AF_UNIX, 20}, {0, 20}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct postern_syn_record syn = syn_of("127.0.0.1", "127.0.0.1", 20);
		struct packet packet;

		syn.family = bad[i].family;
		syn.tcp_header_length = bad[i].header_length;
		assert_int_equal(packet_syn(&syn, &packet), -EINVAL);
		assert_int_equal(packet_reset(&syn, &packet), -EINVAL);
		assert_int_equal(packet_unreachable(&syn, &packet), -EINVAL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_syn),
	        cmocka_unit_test(test_reset),
	        cmocka_unit_test(test_unreachable),
	        cmocka_unit_test(test_refuses_nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
