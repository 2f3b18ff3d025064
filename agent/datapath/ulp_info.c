/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/ulp_info.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <linux/tls.h>
#include <netinet/tcp.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/sorted.h"
#include "datapath/gateway.h"
#include "datapath/worker.h"

/* B carries keys from ESTABLISHED until it is closed; TIME_WAIT and LISTEN have no ULP. */
#define STATES                                                                                                         \
	(1u << TCP_ESTABLISHED | 1u << TCP_FIN_WAIT1 | 1u << TCP_FIN_WAIT2 | 1u << TCP_CLOSE_WAIT |                    \
	 1u << TCP_LAST_ACK | 1u << TCP_CLOSING)

#define DUMP_TIMEOUT_SECONDS 1
#define LIST_MAX             (1u << 20) /* more sockets than a namespace can hold ports and gateways for */

static const struct {
	uint16_t cipher;
	const char *name;
} ciphers[] = {
        {TLS_CIPHER_AES_GCM_128, "aes-gcm-128"},
        {TLS_CIPHER_AES_GCM_256, "aes-gcm-256"},
        {TLS_CIPHER_CHACHA20_POLY1305, "chacha20-poly1305"},
};

static const char *configuration_name(uint16_t configuration)
{
	switch (configuration) {
	case TLS_CONF_BASE:
		return "none";
	case TLS_CONF_SW:
		return "sw";
	case TLS_CONF_HW:
		return "hw";
	case TLS_CONF_HW_RECORD:
		return "hw-record";
	}
	return "unknown";
}

__attribute__((format(printf, 2, 3))) static void append(char text[static ULP_INFO_TEXT_MAX], const char *format, ...)
{
	size_t used = strlen(text);
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text + used, ULP_INFO_TEXT_MAX - used, format, args);
	va_end(args);
}

static void append_cipher(char text[static ULP_INFO_TEXT_MAX], uint16_t cipher)
{
	for (size_t i = 0; i < ARRAY_SIZE(ciphers); i++) {
		if (ciphers[i].cipher == cipher) {
			append(text, " cipher: %s", ciphers[i].name);
			return;
		}
	}
	append(text, " cipher: unknown(%u)", cipher);
}

static void append_version(char text[static ULP_INFO_TEXT_MAX], uint16_t version)
{
	if (version == TLS_1_2_VERSION)
		append(text, " version: 1.2");
	else if (version == TLS_1_3_VERSION)
		append(text, " version: 1.3");
	else
		append(text, " version: unknown(0x%x)", version);
}

static int append_tls(struct ulp_info *info, struct nlattr *nest)
{
	static struct nla_policy policy[TLS_INFO_MAX + 1] = {
	        [TLS_INFO_VERSION] = {.type = NLA_U16},   [TLS_INFO_CIPHER] = {.type = NLA_U16},
	        [TLS_INFO_TXCONF] = {.type = NLA_U16},    [TLS_INFO_RXCONF] = {.type = NLA_U16},
	        [TLS_INFO_ZC_RO_TX] = {.type = NLA_FLAG}, [TLS_INFO_RX_NO_PAD] = {.type = NLA_FLAG},
	};
	struct nlattr *attributes[TLS_INFO_MAX + 1];
	char *text = info->text;

	if (nla_parse_nested(attributes, TLS_INFO_MAX, nest, policy) < 0)
		return -EBADMSG;
	info->is_tls = true;
	if (attributes[TLS_INFO_VERSION]) {
		info->version = nla_get_u16(attributes[TLS_INFO_VERSION]);
		append_version(text, info->version);
	}
	if (attributes[TLS_INFO_CIPHER]) {
		info->cipher = nla_get_u16(attributes[TLS_INFO_CIPHER]);
		append_cipher(text, info->cipher);
	}
	if (attributes[TLS_INFO_RXCONF]) {
		info->receive = nla_get_u16(attributes[TLS_INFO_RXCONF]);
		append(text, " rxconf: %s", configuration_name(info->receive));
	}
	if (attributes[TLS_INFO_TXCONF]) {
		info->transmit = nla_get_u16(attributes[TLS_INFO_TXCONF]);
		append(text, " txconf: %s", configuration_name(info->transmit));
	}
	if (attributes[TLS_INFO_ZC_RO_TX])
		append(text, " zc_ro_tx");
	if (attributes[TLS_INFO_RX_NO_PAD])
		append(text, " no_pad_rx");
	return 0;
}

static int parse_identity(const struct inet_diag_msg *diag, struct ulp_info *info)
{
	struct postern_address remote = {{0}};

	if (diag->idiag_family == AF_INET6) {
		memcpy(remote.byte, diag->id.idiag_dst, 16);
	} else if (diag->idiag_family == AF_INET) {
		remote.byte[10] = 0xff;
		remote.byte[11] = 0xff;
		memcpy(remote.byte + 12, diag->id.idiag_dst, 4);
	} else {
		return -EBADMSG;
	}
	info->local_port = ntohs(diag->id.idiag_sport);
	info->remote = (struct postern_destination_key){.address = remote, .port = diag->id.idiag_dport};
	return 0;
}

int ulp_info_parse(const struct nlmsghdr *message, struct ulp_info *info)
{
	static struct nla_policy ulp_policy[INET_ULP_INFO_MAX + 1] = {
	        [INET_ULP_INFO_NAME] = {.type = NLA_STRING, .minlen = 1, .maxlen = 32},
	        [INET_ULP_INFO_TLS] = {.type = NLA_NESTED},
	};
	struct nlmsghdr *header = (struct nlmsghdr *)message; /* libnl's readers are not const-correct */
	struct nlattr *attributes[INET_DIAG_MAX + 1];
	struct nlattr *ulp[INET_ULP_INFO_MAX + 1];

	*info = (struct ulp_info){0};
	if (message->nlmsg_type != SOCK_DIAG_BY_FAMILY || !nlmsg_valid_hdr(header, sizeof(struct inet_diag_msg)))
		return -EBADMSG;
	if (parse_identity(nlmsg_data(header), info) ||
	    nlmsg_parse(header, sizeof(struct inet_diag_msg), attributes, INET_DIAG_MAX, NULL) < 0)
		return -EBADMSG;
	if (!attributes[INET_DIAG_ULP_INFO])
		return 0;
	if (nla_parse_nested(ulp, INET_ULP_INFO_MAX, attributes[INET_DIAG_ULP_INFO], ulp_policy) < 0)
		return -EBADMSG;
	if (!ulp[INET_ULP_INFO_NAME])
		return 0;
	append(info->text, "tcp-ulp-%.*s", nla_len(ulp[INET_ULP_INFO_NAME]),
	       (const char *)nla_data(ulp[INET_ULP_INFO_NAME]));
	if (ulp[INET_ULP_INFO_TLS] && append_tls(info, ulp[INET_ULP_INFO_TLS]))
		return -EBADMSG;
	return 1;
}

struct dump {
	struct ulp_info *list;
	size_t count;
	size_t size;
	int error;
};

static int add_answer(struct nl_msg *message, void *context)
{
	struct dump *dump = context;
	struct ulp_info info;
	int result = ulp_info_parse(nlmsg_hdr(message), &info);

	if (result < 0)
		dump->error = result;
	if (result <= 0)
		return NL_OK;
	if (dump->count == dump->size) {
		size_t size = dump->size ? 2 * dump->size : 64;
		struct ulp_info *grown = size > LIST_MAX ? NULL : reallocarray(dump->list, size, sizeof(*grown));

		if (!grown) {
			dump->error = -ENOMEM;
			return NL_STOP;
		}
		dump->list = grown;
		dump->size = size;
	}
	dump->list[dump->count++] = info;
	return NL_OK;
}

static void cleanup_nl_socket(struct nl_sock **socket)
{
	nl_socket_free(*socket);
}

static void cleanup_nl_message(struct nl_msg **message)
{
	nlmsg_free(*message);
}

/* A libnl socket whose namespace is the gateway's. */
static int open_diag_socket(const struct gateway *gateway, struct nl_sock **result)
{
	_cleanup_(cleanup_nl_socket) struct nl_sock *socket = NULL;
	const struct timeval timeout = {.tv_sec = DUMP_TIMEOUT_SECONDS};
	const struct sockaddr_nl address = {.nl_family = AF_NETLINK};
	_cleanup_close_ int fd = gateway_socket(gateway, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

	if (fd < 0)
		return fd;
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) == -1 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) == -1)
		return -errno;
	socket = nl_socket_alloc();
	if (!socket)
		return -ENOMEM;
	if (nl_socket_set_fd(socket, NETLINK_SOCK_DIAG, fd) < 0)
		return -EBADF;
	(void)TAKE_FD(fd); /* nl_socket_free() closes it */
	*result = TAKE_PTR(socket);
	return 0;
}

static int dump_family(struct nl_sock *socket, uint8_t family, struct dump *dump)
{
	const struct inet_diag_req_v2 request = {
	        .sdiag_family = family,
	        .sdiag_protocol = IPPROTO_TCP,
	        /* Without this bit the kernel leaves the ULP out, too (measured on 6.18). */
	        .idiag_ext = 1u << (INET_DIAG_INFO - 1),
	        .idiag_states = STATES,
	};
	_cleanup_(cleanup_nl_message) struct nl_msg *message = nlmsg_alloc_simple(SOCK_DIAG_BY_FAMILY,
	                                                                          NLM_F_REQUEST | NLM_F_DUMP);
	int result;

	if (!message || nlmsg_append(message, (void *)&request, sizeof(request), 0) < 0)
		return -ENOMEM;
	result = nl_send_auto(socket, message);
	if (result >= 0)
		result = nl_recvmsgs_default(socket);
	if (dump->error)
		return dump->error;
	/* Sockets came or went during the dump: each answer is still right for its socket. */
	if (result == -NLE_DUMP_INTR)
		return 0;
	if (result == -NLE_PERM || result == -NLE_NOACCESS)
		return -EPERM;
	return result < 0 ? -EIO : 0;
}

static int by_local_port(const void *left, const void *right)
{
	const struct ulp_info *one = left;
	const struct ulp_info *other = right;

	return (int)one->local_port - (int)other->local_port;
}

int ulp_info_list(const struct gateway *gateway, struct ulp_info **list, size_t *count)
{
	_cleanup_(cleanup_nl_socket) struct nl_sock *socket = NULL;
	struct dump dump = {0};
	int result = open_diag_socket(gateway, &socket);

	if (result)
		return result;
	result = nl_socket_modify_cb(socket, NL_CB_VALID, NL_CB_CUSTOM, add_answer, &dump) < 0 ? -EIO : 0;
	if (!result)
		result = dump_family(socket, AF_INET, &dump);
	if (!result)
		result = dump_family(socket, AF_INET6, &dump);
	if (result) {
		free(dump.list);
		return result;
	}
	sort_list(dump.list, dump.count, sizeof(*dump.list), by_local_port);
	*list = dump.list;
	*count = dump.count;
	return 0;
}

const struct ulp_info *ulp_info_find(const struct ulp_info *list, size_t count, uint16_t local_port,
                                     const struct postern_destination_key *remote)
{
	const struct ulp_info key = {.local_port = local_port};
	size_t first = first_sorted(&key, list, count, sizeof(*list), by_local_port), i = first;

	for (; i < count && list[i].local_port == local_port; i++) {
		if (list[i].remote.port == remote->port &&
		    memcmp(&list[i].remote.address, &remote->address, sizeof(remote->address)) == 0)
			return &list[i];
	}
	return i == first + 1 ? &list[first] : NULL;
}

_Static_assert(sizeof(((struct connection_view *)0)->ulp) == ULP_INFO_TEXT_MAX, "ulp_info_fill() copies it whole");

/* Gateways may share a namespace (host network): one dump serves all of them. */
static bool dumped_before(const struct gateway *const *gateways, size_t index)
{
	for (size_t i = 0; i < index; i++) {
		if (gateways[i]->state == GATEWAY_READY && gateways[i]->netns_cookie == gateways[index]->netns_cookie)
			return true;
	}
	return false;
}

int ulp_info_fill(const struct gateway *const *gateways, size_t gateway_count, struct connection_view *views,
                  size_t view_count)
{
	int error = 0;

	for (size_t i = 0; i < gateway_count; i++) {
		_cleanup_free_ struct ulp_info *list = NULL;
		size_t count = 0;
		int result;

		if (gateways[i]->state != GATEWAY_READY || dumped_before(gateways, i))
			continue;
		result = ulp_info_list(gateways[i], &list, &count);
		if (result) {
			error = result;
			continue;
		}
		for (size_t j = 0; j < view_count; j++) {
			const struct ulp_info *info;

			if (views[j].netns_cookie != gateways[i]->netns_cookie)
				continue;
			info = ulp_info_find(list, count, views[j].b_port, &views[j].destination);
			if (info)
				memcpy(views[j].ulp, info->text, sizeof(views[j].ulp));
		}
	}
	return error;
}
