/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vmlinux.h: the few kernel types that the BPF programs look into, kept by hand. Only the fields in use are named, in
 * no particular order: CO-RE takes each one's place from the running kernel's BTF when the programs are loaded, and a
 * field that a kernel does not have fails the load by name. So this file is the same for every architecture and
 * kernel, and does not clash with the UAPI headers, which stay the source of everything that is an ABI.
 */
#ifndef POSTERN_VMLINUX_H
#define POSTERN_VMLINUX_H

#include <stdbool.h>
#include <linux/types.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct file { /* include/linux/fs.h */
	unsigned int f_flags;
};

typedef enum { /* include/uapi/linux/net.h */
	SS_FREE,
	SS_UNCONNECTED,
	SS_CONNECTING,
	SS_CONNECTED,
	SS_DISCONNECTING
} socket_state;

struct socket { /* include/linux/net.h */
	socket_state state;
	struct file *file;
};

struct sock { /* include/net/sock.h */
	struct socket *sk_socket;
};

struct ipv6_pinfo { /* include/linux/ipv6.h */
	__u8 tclass;
};

struct inet_sock { /* include/net/inet_sock.h */
	struct sock sk;
	struct ipv6_pinfo *pinet6;
	__u8 tos;
};

struct inet_connection_sock { /* include/net/inet_connection_sock.h */
	struct inet_sock icsk_inet;
};

struct tcp_sock { /* include/linux/tcp.h */
	struct inet_connection_sock inet_conn;
	__u32 write_seq; /* the sequence number of the next byte that is queued */
	__u32 snd_una;
	bool is_mptcp; /* CONFIG_MPTCP */
};

#pragma clang attribute pop

#endif
