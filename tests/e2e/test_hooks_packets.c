// SPDX-License-Identifier: GPL-2.0-only
/*
 * test_hooks_packets.c: the guard and packets that no TCP socket makes: raw sockets of the gateway, IP options,
 * extension headers, fragments, headers that lie. Each case is one packet; whether it left is seen on the device.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "hooks_fixture.h"

#define COVERED_V4   "198.51.100.100"
#define COVERED_V6   "fd00:99::100"
#define OTHER_V4     "198.51.100.101"
#define OTHER_V6     "fd00:99::101"
#define CLUSTER_V4   "203.0.113.100" /* in the cluster's CIDR, in no map */
#define COVERED_PORT 443

#define FIN 0x01
#define SYN 0x02
#define RST 0x04
#define ACK 0x10

#define UDP   17
#define ICMP6 58

#define HOP_BY_HOP 255 /* its number is 0, which ends a list here */
#define OPTIONS    60
#define FRAGMENT   44

enum fate {
	LEAVES,
	SYN_DROPPED,
	PAYLOAD_DROPPED,
	UNPARSED_DROPPED,
};

struct packet_case {
	const char *what;
	const char *destination;
	enum fate fate;
	uint8_t flags;
	uint8_t payload;       /* bytes behind the TCP header */
	uint8_t options;       /* IPv4: bytes of IP options, a multiple of 4 */
	uint16_t fragment;     /* IPv4: flags and offset as in the header */
	uint8_t extensions[8]; /* IPv6: extension headers, in order: HOP_BY_HOP, OPTIONS, FRAGMENT */
	uint8_t protocol;      /* 0 = TCP */
	uint8_t data_offset;   /* TCP's own length of its header, in words; 0 = right */
	uint8_t cut;           /* only so many bytes behind the IP headers; 0 = all */
};

static const struct packet_case cases[] = {
        {.what = "IPv4 SYN", .destination = COVERED_V4, .flags = SYN, .fate = SYN_DROPPED},
        {.what = "IPv4 SYN, options", .destination = COVERED_V4, .flags = SYN, .options = 40, .fate = SYN_DROPPED},
        {.what = "IPv4 SYN and ACK", .destination = COVERED_V4, .flags = SYN | ACK, .fate = LEAVES},
        {.what = "IPv4 ACK", .destination = COVERED_V4, .flags = ACK, .fate = LEAVES},
        {.what = "IPv4 ACK, options", .destination = COVERED_V4, .flags = ACK, .options = 40, .fate = LEAVES},
        {.what = "IPv4 FIN", .destination = COVERED_V4, .flags = FIN | ACK, .fate = LEAVES},
        {.what = "IPv4 RST", .destination = COVERED_V4, .flags = RST, .fate = LEAVES},
        {.what = "IPv4 data", .destination = COVERED_V4, .flags = ACK, .payload = 1, .fate = PAYLOAD_DROPPED},
        {.what = "IPv4 data with FIN",
         .destination = COVERED_V4,
         .flags = ACK | FIN,
         .payload = 9,
         .fate = PAYLOAD_DROPPED},
        {.what = "IPv4 data, options",
         .destination = COVERED_V4,
         .flags = ACK,
         .payload = 1,
         .options = 40,
         .fate = PAYLOAD_DROPPED},
        {.what = "IPv4 data with RST", .destination = COVERED_V4, .flags = RST, .payload = 4, .fate = PAYLOAD_DROPPED},
        {.what = "IPv4 SYN elsewhere", .destination = OTHER_V4, .flags = SYN, .fate = LEAVES},
        {.what = "IPv4 data elsewhere", .destination = OTHER_V4, .flags = ACK, .payload = 1, .fate = LEAVES},
        {.what = "IPv4 first fragment",
         .destination = COVERED_V4,
         .flags = ACK,
         .payload = 4,
         .fragment = 0x2000,
         .fate = UNPARSED_DROPPED},
        {.what = "IPv4 later fragment",
         .destination = COVERED_V4,
         .flags = ACK,
         .payload = 4,
         .fragment = 0x0003,
         .fate = UNPARSED_DROPPED},
        {.what = "IPv4 fragment in the cluster",
         .destination = CLUSTER_V4,
         .flags = ACK,
         .payload = 4,
         .fragment = 0x0003,
         .fate = UNPARSED_DROPPED},
        {.what = "IPv4 fragment elsewhere",
         .destination = OTHER_V4,
         .flags = ACK,
         .payload = 4,
         .fragment = 0x0003,
         .fate = LEAVES},
        {.what = "IPv4 fragment of UDP",
         .destination = COVERED_V4,
         .payload = 4,
         .fragment = 0x0003,
         .protocol = UDP,
         .fate = LEAVES},
        {.what = "IPv4 half a TCP header",
         .destination = COVERED_V4,
         .flags = ACK,
         .cut = 10,
         .fate = UNPARSED_DROPPED},
        {.what = "IPv4 TCP header that is too short",
         .destination = COVERED_V4,
         .flags = ACK,
         .payload = 8,
         .data_offset = 4,
         .fate = UNPARSED_DROPPED},
        {.what = "IPv4 TCP header that is longer than the packet",
         .destination = COVERED_V4,
         .flags = ACK,
         .payload = 8,
         .data_offset = 15,
         .fate = UNPARSED_DROPPED},
        {.what = "IPv6 SYN", .destination = COVERED_V6, .flags = SYN, .fate = SYN_DROPPED},
        {.what = "IPv6 ACK", .destination = COVERED_V6, .flags = ACK, .fate = LEAVES},
        {.what = "IPv6 data", .destination = COVERED_V6, .flags = ACK, .payload = 1, .fate = PAYLOAD_DROPPED},
        {.what = "IPv6 data elsewhere", .destination = OTHER_V6, .flags = ACK, .payload = 1, .fate = LEAVES},
        {.what = "IPv6 destination options",
         .destination = COVERED_V6,
         .flags = ACK,
         .payload = 1,
         .extensions = {OPTIONS},
         .fate = UNPARSED_DROPPED},
        {.what = "IPv6 hop-by-hop and destination options",
         .destination = COVERED_V6,
         .flags = ACK,
         .extensions = {HOP_BY_HOP, OPTIONS},
         .fate = UNPARSED_DROPPED},
        {.what = "IPv6 fragment",
         .destination = COVERED_V6,
         .flags = ACK,
         .payload = 1,
         .extensions = {FRAGMENT},
         .fate = UNPARSED_DROPPED},
        {.what = "IPv6 options and fragment",
         .destination = COVERED_V6,
         .flags = ACK,
         .payload = 1,
         .extensions = {OPTIONS, FRAGMENT},
         .fate = UNPARSED_DROPPED},
        {.what = "IPv6 eight extension headers",
         .destination = COVERED_V6,
         .flags = ACK,
         .payload = 1,
         .extensions = {OPTIONS, OPTIONS, OPTIONS, OPTIONS, OPTIONS, OPTIONS, OPTIONS, OPTIONS},
         .fate = UNPARSED_DROPPED},
        {.what = "IPv6 destination options elsewhere",
         .destination = OTHER_V6,
         .flags = ACK,
         .payload = 1,
         .extensions = {OPTIONS},
         .fate = LEAVES},
        {.what = "IPv6 fragment of UDP",
         .destination = COVERED_V6,
         .payload = 1,
         .extensions = {FRAGMENT},
         .protocol = UDP,
         .fate = LEAVES},
        {.what = "IPv6 options and ICMPv6",
         .destination = COVERED_V6,
         .payload = 8,
         .extensions = {HOP_BY_HOP},
         .protocol = ICMP6,
         .fate = LEAVES},
};

static int capture_fd;

/* ---- the packet ---- */

static size_t put_tcp(uint8_t *at, const struct packet_case *packet)
{
	uint16_t port = htons(COVERED_PORT);

	memcpy(at + 2, &port, sizeof(port));
	at[12] = (uint8_t)((packet->data_offset ? packet->data_offset : 5) << 4);
	at[13] = packet->flags;
	return packet->cut ? packet->cut : 20u + packet->payload;
}

static size_t build_v4(uint8_t *bytes, const struct packet_case *packet, const struct postern_address *destination)
{
	size_t header = 20u + packet->options;
	uint16_t fragment = htons(packet->fragment);

	bytes[0] = (uint8_t)(0x40 | header / 4);
	memcpy(bytes + 6, &fragment, sizeof(fragment));
	bytes[8] = 64;
	bytes[9] = packet->protocol ? packet->protocol : IPPROTO_TCP;
	memcpy(bytes + 16, destination->byte + 12, 4);
	memset(bytes + 20, 1, packet->options); /* no-operation */
	return header + put_tcp(bytes + header, packet);
}

/* Each extension header is eight bytes: next header, length 0, and six of padding (or a fragment's fields). */
static size_t build_v6(uint8_t *bytes, const struct packet_case *packet, const struct postern_address *destination)
{
	uint8_t *next = bytes + 6;
	size_t length = 40;

	bytes[0] = 0x60;
	bytes[7] = 64;
	bytes[8 + 15] = 1; /* from ::1 */
	memcpy(bytes + 24, destination->byte, 16);
	for (size_t i = 0; i < sizeof(packet->extensions) && packet->extensions[i]; i++) {
		*next = packet->extensions[i] == HOP_BY_HOP ? 0 : packet->extensions[i];
		next = bytes + length;
		if (packet->extensions[i] != FRAGMENT) {
			next[2] = 1; /* PadN of four bytes */
			next[3] = 4;
		}
		length += 8;
	}
	*next = packet->protocol ? packet->protocol : IPPROTO_TCP;
	length += put_tcp(bytes + length, packet);
	bytes[4] = (uint8_t)((length - 40) >> 8);
	bytes[5] = (uint8_t)(length - 40);
	return length;
}

/* ---- the device ---- */

static int open_capture(void)
{
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_ALL));
	struct sockaddr_ll lo = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};

	lo.sll_ifindex = (int)if_nametoindex("lo");
	if (fd == -1 || bind(fd, (struct sockaddr *)&lo, sizeof(lo)) == -1) {
		perror("capture on lo");
		_exit(1);
	}
	return fd;
}

/* Everything on lo is sent in the caller's own call, so what left is there when sendto() returns. */
static bool was_sent_to(const struct postern_address *destination)
{
	bool v4 = address_is_v4(destination), seen = false;
	uint8_t bytes[256];

	while (recv(capture_fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0) {
		if (v4 && bytes[0] >> 4 == 4 && memcmp(bytes + 16, destination->byte + 12, 4) == 0)
			seen = true;
		if (!v4 && bytes[0] >> 4 == 6 && memcmp(bytes + 24, destination->byte, 16) == 0)
			seen = true;
	}
	return seen;
}

static void prepare(struct fixture *fixture)
{
	fixture_start(fixture, NULL);
	capture_fd = open_capture();
	set_destination(fixture, COVERED_V4, COVERED_PORT, POSTERN_VERDICT_TLS, 1);
	set_destination(fixture, COVERED_V6, COVERED_PORT, POSTERN_VERDICT_DENY, 0);
	set_destination(fixture, OTHER_V4, COVERED_PORT, POSTERN_VERDICT_PLAIN, 0);
	set_cidr(fixture, "203.0.113.0/24", true);
}

static void check(struct fixture *fixture, int g, const struct packet_case *packet)
{
	static const enum postern_counter counters[] = {
	        [SYN_DROPPED] = POSTERN_COUNT_GUARD_SYN_DROPPED,
	        [PAYLOAD_DROPPED] = POSTERN_COUNT_GUARD_PAYLOAD_DROPPED,
	        [UNPARSED_DROPPED] = POSTERN_COUNT_GUARD_UNPARSED_DROPPED,
	};
	const struct postern_destination_key key = key_of(packet->destination, COVERED_PORT);
	bool v4 = address_is_v4(&key.address);
	long long before[ARRAY_SIZE(counters)];
	uint8_t bytes[256] = {0};
	struct sockaddr_storage address;
	socklen_t length = socket_address(packet->destination, 0, &address);
	size_t size = v4 ? build_v4(bytes, packet, &key.address) : build_v6(bytes, packet, &key.address);

	for (size_t i = 1; i < ARRAY_SIZE(counters); i++)
		before[i] = counter(fixture, counters[i]);
	was_sent_to(&key.address);
	ssize_t sent = sendto(g, bytes, size, 0, (struct sockaddr *)&address, length);
	if (packet->fate == LEAVES)
		expect_number(fixture, packet->what, (long long)size, sent);
	expect_number(fixture, packet->what, packet->fate == LEAVES, was_sent_to(&key.address));
	for (size_t i = 1; i < ARRAY_SIZE(counters); i++)
		expect_number(fixture, packet->what, before[i] + (packet->fate == i), counter(fixture, counters[i]));
}

static void check_all(struct fixture *fixture, int family)
{
	_cleanup_close_ int g = g_socket_of(fixture, family, SOCK_RAW, IPPROTO_RAW);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if ((strchr(cases[i].destination, ':') != NULL) == (family == AF_INET6))
			check(fixture, g, &cases[i]);
	}
}

static void packets_v4(struct fixture *fixture)
{
	check_all(fixture, AF_INET);
}

static void packets_v6(struct fixture *fixture)
{
	check_all(fixture, AF_INET6);
}

/* The address of a key stays covered until the last of its keys is gone. */
static void address_count(struct fixture *fixture)
{
	struct packet_case fragment = {
	        .what = "two keys", .destination = COVERED_V4, .flags = ACK, .fragment = 3, .fate = UNPARSED_DROPPED};
	_cleanup_close_ int g = g_socket_of(fixture, AF_INET, SOCK_RAW, IPPROTO_RAW);

	set_destination(fixture, COVERED_V4, 8443, POSTERN_VERDICT_TLS, 2);
	set_destination(fixture, COVERED_V4, 8443, POSTERN_VERDICT_DENY, 0);
	check(fixture, g, &fragment);
	fragment.what = "one key";
	delete_destination(fixture, COVERED_V4, 8443);
	check(fixture, g, &fragment);
	fragment.what = "its key is PLAIN now";
	fragment.fate = LEAVES;
	set_destination(fixture, COVERED_V4, COVERED_PORT, POSTERN_VERDICT_PLAIN, 0);
	check(fixture, g, &fragment);
	fragment.what = "and TLS again";
	fragment.fate = UNPARSED_DROPPED;
	set_destination(fixture, COVERED_V4, COVERED_PORT, POSTERN_VERDICT_TLS, 1);
	check(fixture, g, &fragment);
	fragment.what = "no key";
	fragment.fate = LEAVES;
	delete_destination(fixture, COVERED_V4, COVERED_PORT);
	check(fixture, g, &fragment);
}

int main(int argc, char **argv)
{
	static const struct row rows[] = {
	        {"packets: IPv4", packets_v4},
	        {"packets: IPv6", packets_v6},
	        {"packets: covered addresses are counted", address_count},
	};

	return fixture_main(argc, argv, rows, ARRAY_SIZE(rows), prepare);
}
