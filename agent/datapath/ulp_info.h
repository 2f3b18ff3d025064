/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ulp_info.h: the kernel's own word about B: which upper layer protocol a TCP socket carries and with which keys, by
 * sock_diag (INET_DIAG_ULP_INFO, net/ipv4/tcp_diag.c tcp_diag_put_ulp(), net/tls/tls_main.c tls_get_info()), printed as
 * ss -e prints it. It shows that keys are installed, not that the send path uses them: the proof and the witness answer
 * for that. Control thread.
 */
#ifndef POSTERN_DATAPATH_ULP_INFO_H
#define POSTERN_DATAPATH_ULP_INFO_H

#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "postern/abi.h"

#define ULP_INFO_TEXT_MAX 128

struct connection_view;
struct gateway;

struct ulp_info {
	uint16_t local_port;                   /* host order */
	struct postern_destination_key remote; /* port in network order, as everywhere */
	bool is_tls;                           /* the ULP is "tls"; the rest as net/tls has it, 0 = not said */
	uint16_t version;                      /* TLS_1_2_VERSION, TLS_1_3_VERSION */
	uint16_t cipher;                       /* TLS_CIPHER_AES_GCM_128, ... */
	uint16_t transmit;                     /* TLS_CONF_BASE, TLS_CONF_SW, ... */
	uint16_t receive;
	char text[ULP_INFO_TEXT_MAX]; /* "tcp-ulp-tls version: 1.3 cipher: aes-gcm-128 rxconf: sw txconf: sw" */
};

/*
 * Every TCP socket of the gateway's network namespace that carries a ULP, sorted by local port. free() *list. 0, or
 * negative errno (-EPERM: CAP_NET_ADMIN is missing there). Waits for the kernel's dump, at most a second.
 */
int ulp_info_list(const struct gateway *gateway, struct ulp_info **list, size_t *count);

/*
 * A source port may serve several destinations: the entry whose remote is the wanted one; else, if only one has the
 * port (the remote was rewritten on its way, by a socket load balancer), that one; else NULL.
 */
const struct ulp_info *ulp_info_find(const struct ulp_info *list, size_t count, uint16_t local_port,
                                     const struct postern_destination_key *remote);

/* One answer of the dump. 1 = info filled, 0 = no ULP there, -EBADMSG = not a well-formed answer. Pure. */
int ulp_info_parse(const struct nlmsghdr *message, struct ulp_info *info);

/* Fill views[].ulp for every connection of these gateways; what is not found stays "". 0, or the last error. */
int ulp_info_fill(const struct gateway *const *gateways, size_t gateway_count, struct connection_view *views,
                  size_t view_count);

#endif
