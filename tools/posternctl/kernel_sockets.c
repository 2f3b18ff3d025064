/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel_sockets.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent_client.h"
#include "base/address.h"
#include "base/cleanup.h"
#include "datapath/gateway_internal.h"
#include "datapath/ulp_info.h"
#include "status.h"

#define STATES                                                                                                         \
	(1u << TCP_ESTABLISHED | 1u << TCP_SYN_SENT | 1u << TCP_FIN_WAIT1 | 1u << TCP_FIN_WAIT2 |                      \
	 1u << TCP_CLOSE_WAIT | 1u << TCP_LAST_ACK | 1u << TCP_CLOSING)

#define DUMP_SECONDS   2
#define NAMESPACES_MAX POSTERN_MAX_GATEWAYS

struct dump {
	struct kernel_sockets *sockets;
	size_t capacity;
	uint64_t netns;
	uint32_t gateway_map_id;
	uint32_t backend_map_id;
	int gateway_map;
	int backend_map;
};

static void note(struct kernel_sockets *sockets, const char *what, int error)
{
	if (!sockets->error[0])
		(void)snprintf(sockets->error, sizeof(sockets->error), "%.200s: %s", what, strerror(-error));
}

static int open_storage(const struct kernel_view *view, const char *name, uint32_t *id)
{
	struct bpf_map_info info = {0};
	uint32_t size = sizeof(info);
	char path[PATH_MAX];
	int fd;

	(void)snprintf(path, sizeof(path), "%.3990s/%s", view->directory, name);
	fd = bpf_obj_get(path);
	if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &size) == 0) {
		*id = info.id;
		return fd;
	}
	if (fd >= 0)
		close(fd);
	return -1;
}

/* ---- one socket ---- */

static bool read_storage(struct nlattr *storages, uint32_t map_id, void *value, size_t size)
{
	struct nlattr *entry;
	int rest;

	nla_for_each_nested(entry, storages, rest)
	{
		struct nlattr *id = nla_find(nla_data(entry), nla_len(entry), SK_DIAG_BPF_STORAGE_MAP_ID);
		struct nlattr *bytes = nla_find(nla_data(entry), nla_len(entry), SK_DIAG_BPF_STORAGE_MAP_VALUE);

		if (!id || !bytes || nla_len(id) < 4 || nla_get_u32(id) != map_id || nla_len(bytes) < (int)size)
			continue;
		memcpy(value, nla_data(bytes), size);
		return true;
	}
	return false;
}

static int add(struct dump *dump, const struct kernel_socket *socket)
{
	struct kernel_sockets *sockets = dump->sockets;

	if (sockets->count == dump->capacity) {
		size_t wanted = dump->capacity ? 2 * dump->capacity : 64;
		struct kernel_socket *grown = reallocarray(sockets->at, wanted, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		sockets->at = grown;
		dump->capacity = wanted;
	}
	sockets->at[sockets->count++] = *socket;
	return 0;
}

static int on_socket(struct nl_msg *message, void *context)
{
	struct dump *dump = context;
	struct nlmsghdr *header = nlmsg_hdr(message);
	struct nlattr *attributes[INET_DIAG_MAX + 1];
	struct kernel_socket socket = {.netns = dump->netns};
	struct postern_gateway_socket g;
	struct postern_backend_socket b;
	struct ulp_info ulp;

	if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
	    nlmsg_parse(header, sizeof(struct inet_diag_msg), attributes, INET_DIAG_MAX, NULL) < 0 ||
	    !attributes[INET_DIAG_SK_BPF_STORAGES])
		return NL_OK;
	socket.local_port = ntohs(((struct inet_diag_msg *)nlmsg_data(header))->id.idiag_sport);
	if (read_storage(attributes[INET_DIAG_SK_BPF_STORAGES], dump->backend_map_id, &b, sizeof(b))) {
		socket.is_backend = true;
		socket.destination = b.destination;
		socket.phase = b.phase;
	} else if (read_storage(attributes[INET_DIAG_SK_BPF_STORAGES], dump->gateway_map_id, &g, sizeof(g))) {
		socket.destination = g.destination;
		socket.verdict = g.verdict;
		socket.gateway_id = g.gateway_id;
	} else {
		return NL_OK;
	}
	if (ulp_info_parse(header, &ulp) == 1)
		(void)snprintf(socket.ulp, sizeof(socket.ulp), "%s", ulp.text);
	if (add(dump, &socket) != 0)
		note(dump->sockets, "sockets", -ENOMEM);
	return NL_OK;
}

/* ---- one namespace ---- */

static int ask_for_storages(struct nl_msg *message, const struct dump *dump)
{
	struct nlattr *nest = nla_nest_start(message, INET_DIAG_REQ_SK_BPF_STORAGES | NLA_F_NESTED);

	if (!nest || nla_put_u32(message, SK_DIAG_BPF_STORAGE_REQ_MAP_FD, (uint32_t)dump->gateway_map) < 0 ||
	    nla_put_u32(message, SK_DIAG_BPF_STORAGE_REQ_MAP_FD, (uint32_t)dump->backend_map) < 0)
		return -ENOMEM;
	nla_nest_end(message, nest);
	return 0;
}

static int dump_family(struct nl_sock *socket, uint8_t family, struct dump *dump)
{
	const struct inet_diag_req_v2 request = {
	        .sdiag_family = family,
	        .sdiag_protocol = IPPROTO_TCP,
	        .idiag_ext = 1u << (INET_DIAG_INFO - 1), /* else the kernel leaves the ULP out (ulp_info.c) */
	        .idiag_states = STATES,
	};
	struct nl_msg *message = nlmsg_alloc_simple(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP);
	int result = -ENOMEM;

	if (message && nlmsg_append(message, (void *)&request, sizeof(request), NLMSG_ALIGNTO) >= 0 &&
	    ask_for_storages(message, dump) == 0) {
		result = nl_send_auto(socket, message);
		if (result >= 0)
			result = nl_recvmsgs_default(socket);
		result = result < 0 && result != -NLE_DUMP_INTR ? -EIO : 0;
	}
	nlmsg_free(message);
	return result;
}

/* A socket that was made in another namespace; this process is back in its own afterwards. */
static int netlink_there(int namespace)
{
	_cleanup_close_ int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int fd;

	if (home == -1 || setns(namespace, CLONE_NEWNET) == -1)
		return -errno;
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (setns(home, CLONE_NEWNET) == -1)
		abort(); /* everything that follows would be asked of the wrong namespace */
	return fd == -1 ? -EIO : fd;
}

static int dump_namespace(int namespace, struct dump *dump)
{
	const struct timeval limit = {.tv_sec = DUMP_SECONDS};
	const struct sockaddr_nl address = {.nl_family = AF_NETLINK};
	int fd = netlink_there(namespace);
	struct nl_sock *socket;
	int result = -ENOMEM;

	if (fd < 0)
		return fd;
	socket = nl_socket_alloc();
	if (!socket || bind(fd, (const struct sockaddr *)&address, sizeof(address)) == -1 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == -1 ||
	    nl_socket_set_fd(socket, NETLINK_SOCK_DIAG, fd) < 0) {
		close(fd);
		nl_socket_free(socket);
		return result;
	}
	(void)nl_socket_modify_cb(socket, NL_CB_VALID, NL_CB_CUSTOM, on_socket, dump);
	result = dump_family(socket, AF_INET, dump);
	if (!result)
		result = dump_family(socket, AF_INET6, dump);
	nl_socket_free(socket);
	return result;
}

/* ---- all of them ---- */

static bool take_process(void *context, pid_t process)
{
	*(pid_t *)context = process;
	return false;
}

/* The path that the agent was given, or the namespace of a process below the cgroup that the hooks are on. */
static int open_namespace(const json_t *gateway, const json_t *status)
{
	const json_t *served = NULL;
	size_t index;
	json_t *row;
	char path[64];
	pid_t process = 0;

	json_array_foreach (json_object_get(status, "gateways"), index, row)
		if (strcmp(text_of(row, "name"), text_of(gateway, "name")) == 0)
			served = row;
	if (text_of(served, "netns")[0])
		return open(text_of(served, "netns"), O_RDONLY | O_CLOEXEC);
	if (!text_of(gateway, "cgroup")[0])
		return -1;
	(void)cgroup_walk_processes(text_of(gateway, "cgroup"), take_process, &process);
	(void)snprintf(path, sizeof(path), "/proc/%ld/ns/net", (long)process);
	return process > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
}

static bool seen_before(uint64_t *seen, size_t *count, uint64_t namespace)
{
	for (size_t i = 0; i < *count; i++)
		if (seen[i] == namespace)
			return true;
	if (*count < NAMESPACES_MAX)
		seen[(*count)++] = namespace;
	return false;
}

void kernel_sockets_read(struct kernel_view *view, const json_t *gateways, const json_t *status,
                         struct kernel_sockets *sockets)
{
	struct dump dump = {.sockets = sockets};
	_cleanup_close_ int gateway_map = open_storage(view, "gateway_socket", &dump.gateway_map_id);
	_cleanup_close_ int backend_map = open_storage(view, "backend_socket", &dump.backend_map_id);
	uint64_t seen[NAMESPACES_MAX];
	size_t seen_count = 0;
	size_t index;
	json_t *gateway;

	*sockets = (struct kernel_sockets){0};
	if (gateway_map < 0 || backend_map < 0) {
		note(sockets, "the hooks' socket storages", -errno);
		return;
	}
	dump.gateway_map = gateway_map;
	dump.backend_map = backend_map;
	json_array_foreach (gateways, index, gateway) {
		_cleanup_close_ int namespace = open_namespace(gateway, status);
		struct stat identity;
		int result;

		if (namespace == -1 || fstat(namespace, &identity) == -1 ||
		    seen_before(seen, &seen_count, identity.st_ino))
			continue;
		dump.netns = identity.st_ino;
		result = dump_namespace(namespace, &dump);
		if (result)
			note(sockets, "sock_diag", result);
	}
}

void kernel_sockets_free(struct kernel_sockets *sockets)
{
	free(sockets->at);
	sockets->at = NULL;
	sockets->count = 0;
}

const struct kernel_socket *kernel_socket_find(const struct kernel_sockets *sockets, bool is_backend,
                                               uint16_t local_port, const char *destination)
{
	for (size_t i = 0; i < sockets->count; i++) {
		const struct kernel_socket *socket = &sockets->at[i];
		char text[DESTINATION_TEXT_MAX];

		if (socket->is_backend == is_backend && socket->local_port == local_port &&
		    strcmp(destination_format(&socket->destination, text), destination) == 0)
			return socket;
	}
	return NULL;
}
