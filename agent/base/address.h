/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * address.h: addresses, ports and CIDRs as postern keeps them: 16 bytes, IPv4 as ::ffff:a.b.c.d. Pure; any thread.
 */
#ifndef POSTERN_BASE_ADDRESS_H
#define POSTERN_BASE_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "postern/abi.h"

#define ADDRESS_TEXT_MAX     48 /* an IPv6 address and its NUL */
#define DESTINATION_TEXT_MAX 64 /* "[address]:port" and its NUL */

struct cidr {
	struct postern_address address; /* host bits are zero */
	unsigned int prefix_length;     /* of the v4-mapped form: an IPv4 /n is 96 + n */
};

/* Parse "10.0.0.1" or "fd00::1". 0, or -EINVAL. */
int address_parse(const char *text, struct postern_address *address);
/* Parse "10.0.0.0/8" or "fd00::/16". 0, or -EINVAL (also when host bits are set). */
int cidr_parse(const char *text, struct cidr *cidr);
bool cidr_contains(const struct cidr *cidr, const struct postern_address *address);

bool address_is_v4(const struct postern_address *address);
bool address_is_loopback(const struct postern_address *address);
bool address_equal(const struct postern_address *left, const struct postern_address *right);

/* Both write a NUL-terminated text and return it. IPv4 prints as IPv4. */
const char *address_format(const struct postern_address *address, char text[static ADDRESS_TEXT_MAX]);
const char *destination_format(const struct postern_destination_key *key, char text[static DESTINATION_TEXT_MAX]);

/* A key from an address and a port in host byte order. */
struct postern_destination_key destination_key(const struct postern_address *address, uint16_t port);
uint64_t destination_hash(const struct postern_destination_key *key);

/* AF_INET for v4-mapped addresses, AF_INET6 otherwise; returns the length. Port in host byte order. */
socklen_t address_to_sockaddr(const struct postern_address *address, uint16_t port, struct sockaddr_storage *storage);
/* 0, or -EAFNOSUPPORT. */
int address_from_sockaddr(const struct sockaddr_storage *storage, struct postern_address *address, uint16_t *port);

#endif
