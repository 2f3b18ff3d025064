/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * address.h: addresses in the one form of the maps, IPv4 as ::ffff:a.b.c.d, all in network byte order.
 */
#ifndef POSTERN_BPF_ADDRESS_H
#define POSTERN_BPF_ADDRESS_H

#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "postern/abi.h"

/* Of <sys/socket.h>, which is the C library's and not for BPF programs. */
#define AF_INET     2
#define AF_INET6    10
#define SOCK_STREAM 1

#define LOOPBACK_V4 0x7f000001u /* host byte order */
#define MAPPED_WORD 0x0000ffffu /* the third word of ::ffff:0:0/96, host byte order */

static __always_inline void address_from_words(struct postern_address *address, __u32 first, __u32 second, __u32 third,
                                               __u32 fourth)
{
	const __u32 words[4] = {first, second, third, fourth};

	__builtin_memcpy(address, words, sizeof(*address));
}

static __always_inline void address_from_v4(struct postern_address *address, __u32 v4)
{
	address_from_words(address, 0, 0, bpf_htonl(MAPPED_WORD), v4);
}

static __always_inline __u32 address_word(const struct postern_address *address, unsigned int index)
{
	__u32 word;

	__builtin_memcpy(&word, address->byte + 4 * index, sizeof(word));
	return word;
}

static __always_inline bool address_equal(const struct postern_address *one, const struct postern_address *other)
{
	return address_word(one, 3) == address_word(other, 3) && address_word(one, 2) == address_word(other, 2) &&
	       address_word(one, 1) == address_word(other, 1) && address_word(one, 0) == address_word(other, 0);
}

static __always_inline bool words_are_mapped(__u32 first, __u32 second, __u32 third)
{
	return first == 0 && second == 0 && third == bpf_htonl(MAPPED_WORD);
}

static __always_inline bool address_is_loopback(const struct postern_address *address)
{
	__u32 first = address_word(address, 0), second = address_word(address, 1), third = address_word(address, 2);

	if (words_are_mapped(first, second, third))
		return address->byte[12] == 127;
	return first == 0 && second == 0 && third == 0 && address_word(address, 3) == bpf_htonl(1);
}

#endif
