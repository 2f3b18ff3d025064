// SPDX-License-Identifier: GPL-2.0-only
#include "base/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define V4_MAPPED_PREFIX_BYTES 12
#define V4_MAPPED_PREFIX_BITS  96
#define ADDRESS_BITS           128

static const unsigned char v4_mapped_prefix[V4_MAPPED_PREFIX_BYTES] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static struct postern_address from_v4(const struct in_addr *v4)
{
	struct postern_address address;

	memcpy(address.byte, v4_mapped_prefix, V4_MAPPED_PREFIX_BYTES);
	memcpy(address.byte + V4_MAPPED_PREFIX_BYTES, v4, sizeof(*v4));
	return address;
}

int address_parse(const char *text, struct postern_address *address)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (inet_pton(AF_INET, text, &v4) == 1) {
		*address = from_v4(&v4);
		return 0;
	}
	if (inet_pton(AF_INET6, text, &v6) == 1) {
		memcpy(address->byte, &v6, sizeof(v6));
		return 0;
	}
	return -EINVAL;
}

/* Decimal digits only, no sign, no leading zero: "010" may mean 8 to someone. */
static int prefix_length_parse(const char *text, unsigned int limit, unsigned int *length)
{
	unsigned int value = 0;

	if (!*text || (text[0] == '0' && text[1]))
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		value = value * 10 + (unsigned int)(*text - '0');
		if (value > limit)
			return -EINVAL;
	}
	*length = value;
	return 0;
}

static bool host_bits_are_zero(const struct cidr *cidr)
{
	for (unsigned int bit = cidr->prefix_length; bit < ADDRESS_BITS; bit++)
		if (cidr->address.byte[bit / 8] & (0x80u >> (bit % 8)))
			return false;
	return true;
}

int cidr_parse(const char *text, struct cidr *cidr)
{
	char address[ADDRESS_TEXT_MAX];
	const char *slash = strchr(text, '/');
	struct cidr parsed;
	bool v4;

	if (!slash || (size_t)(slash - text) >= sizeof(address))
		return -EINVAL;
	memcpy(address, text, (size_t)(slash - text));
	address[slash - text] = '\0';
	if (address_parse(address, &parsed.address) < 0)
		return -EINVAL;
	v4 = !strchr(address, ':');
	if (prefix_length_parse(slash + 1, v4 ? ADDRESS_BITS - V4_MAPPED_PREFIX_BITS : ADDRESS_BITS,
	                        &parsed.prefix_length) < 0)
		return -EINVAL;
	if (v4)
		parsed.prefix_length += V4_MAPPED_PREFIX_BITS;
	if (!host_bits_are_zero(&parsed))
		return -EINVAL;
	*cidr = parsed;
	return 0;
}

bool cidr_contains(const struct cidr *cidr, const struct postern_address *address)
{
	unsigned int whole = cidr->prefix_length / 8;
	unsigned int rest = cidr->prefix_length % 8;
	unsigned int mask = 0xffu & (0xff00u >> rest);

	if (memcmp(cidr->address.byte, address->byte, whole))
		return false;
	return !rest || !((cidr->address.byte[whole] ^ address->byte[whole]) & mask);
}

bool address_is_v4(const struct postern_address *address)
{
	return !memcmp(address->byte, v4_mapped_prefix, V4_MAPPED_PREFIX_BYTES);
}

bool address_is_loopback(const struct postern_address *address)
{
	if (address_is_v4(address))
		return address->byte[V4_MAPPED_PREFIX_BYTES] == 127;
	return !memcmp(address->byte, &in6addr_loopback, sizeof(in6addr_loopback));
}

bool address_equal(const struct postern_address *left, const struct postern_address *right)
{
	return !memcmp(left->byte, right->byte, sizeof(left->byte));
}

const char *address_format(const struct postern_address *address, char text[static ADDRESS_TEXT_MAX])
{
	if (address_is_v4(address))
		inet_ntop(AF_INET, address->byte + V4_MAPPED_PREFIX_BYTES, text, ADDRESS_TEXT_MAX);
	else
		inet_ntop(AF_INET6, address->byte, text, ADDRESS_TEXT_MAX);
	return text;
}

const char *destination_format(const struct postern_destination_key *key, char text[static DESTINATION_TEXT_MAX])
{
	char address[ADDRESS_TEXT_MAX];
	char port[8] = "*"; /* port 0 stands for any port */

	address_format(&key->address, address);
	if (key->port)
		snprintf(port, sizeof(port), "%u", ntohs(key->port));
	snprintf(text, DESTINATION_TEXT_MAX, address_is_v4(&key->address) ? "%s:%s" : "[%s]:%s", address, port);
	return text;
}

struct postern_destination_key destination_key(const struct postern_address *address, uint16_t port)
{
	return (struct postern_destination_key){.address = *address, .port = htons(port)};
}

/* The finaliser of MurmurHash3: every input bit reaches every output bit. */
static uint64_t mix(uint64_t value)
{
	value ^= value >> 33;
	value *= 0xff51afd7ed558ccdULL;
	value ^= value >> 33;
	value *= 0xc4ceb9fe1a85ec53ULL;
	value ^= value >> 33;
	return value;
}

uint64_t destination_hash(const struct postern_destination_key *key)
{
	uint64_t high, low;

	memcpy(&high, key->address.byte, sizeof(high));
	memcpy(&low, key->address.byte + sizeof(high), sizeof(low));
	return mix(mix(mix(high) + low) + key->port);
}

socklen_t address_to_sockaddr(const struct postern_address *address, uint16_t port, struct sockaddr_storage *storage)
{
	memset(storage, 0, sizeof(*storage));
	if (address_is_v4(address)) {
		struct sockaddr_in *v4 = (struct sockaddr_in *)storage;

		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		memcpy(&v4->sin_addr, address->byte + V4_MAPPED_PREFIX_BYTES, sizeof(v4->sin_addr));
		return sizeof(*v4);
	}

	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)storage;

	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	memcpy(&v6->sin6_addr, address->byte, sizeof(v6->sin6_addr));
	return sizeof(*v6);
}

int address_from_sockaddr(const struct sockaddr_storage *storage, struct postern_address *address, uint16_t *port)
{
	if (storage->ss_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)storage;

		*address = from_v4(&v4->sin_addr);
		*port = ntohs(v4->sin_port);
		return 0;
	}
	if (storage->ss_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)storage;

		memcpy(address->byte, &v6->sin6_addr, sizeof(address->byte));
		*port = ntohs(v6->sin6_port);
		return 0;
	}
	return -EAFNOSUPPORT;
}
