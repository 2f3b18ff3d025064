// SPDX-License-Identifier: GPL-2.0-only
/*
 * sweep.c: finds a gateway's TCP sockets by sock_diag and destroys those that may not be plain.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <netinet/in.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <string.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/sorted.h"
#include "datapath/gateway.h"
#include "datapath/gateway_internal.h"
#include "datapath/hooks.h"
#include "datapath/sweep.h"

#define STATE_BIT(state) (1u << (state))
/* Whoever can still send. A socket in TIME_WAIT has no owner any more. */
#define LIVE_STATES                                                                                                    \
	(STATE_BIT(TCP_ESTABLISHED) | STATE_BIT(TCP_SYN_SENT) | STATE_BIT(TCP_SYN_RECV) | STATE_BIT(TCP_FIN_WAIT1) |   \
	 STATE_BIT(TCP_FIN_WAIT2) | STATE_BIT(TCP_CLOSE_WAIT) | STATE_BIT(TCP_LAST_ACK) | STATE_BIT(TCP_CLOSING))

/* Cgroup ids of the gateway: its own and those below it, sorted. */
struct cgroup_ids {
	uint64_t *ids;
	size_t count;
	size_t capacity;
	int error;
};

struct victim {
	uint8_t family;
	struct inet_diag_sockid id;
};

/* The kernel names a socket storage by the id of its map. */
struct storage_map {
	int fd;
	uint32_t id;
};

struct sweep {
	struct nl_sock *socket;
	struct storage_map gateway_socket;
	struct storage_map passed_socket;
	struct cgroup_ids cgroups;
	sweep_is_covered is_covered;
	void *context;
	struct sweep_result *result;
	struct victim *victims;
	size_t victim_count;
	size_t victim_capacity;
	int error;
};

static void cleanup_nl_socket(struct nl_sock **socket)
{
	nl_socket_free(*socket);
}

static void cleanup_nl_message(struct nl_msg **message)
{
	nlmsg_free(*message);
}

/* Room for one more in a growing array. */
static void *grow(void *array, size_t count, size_t *capacity, size_t size)
{
	size_t wanted = *capacity ? 2 * *capacity : 16;
	void *grown;

	if (count < *capacity)
		return array;
	grown = realloc(array, wanted * size);
	if (grown)
		*capacity = wanted;
	return grown;
}

static bool collect_cgroup(void *context, const char *path, uint64_t id)
{
	struct cgroup_ids *cgroups = context;
	uint64_t *ids = grow(cgroups->ids, cgroups->count, &cgroups->capacity, sizeof(*ids));

	(void)path;
	if (!ids) {
		cgroups->error = -ENOMEM;
		return false;
	}
	cgroups->ids = ids;
	cgroups->ids[cgroups->count++] = id;
	return true;
}

static int compare_ids(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

static int collect_cgroups(struct cgroup_ids *cgroups, const char *path)
{
	int error = cgroup_walk(path, collect_cgroup, cgroups);

	if (error || cgroups->error)
		return error ? error : cgroups->error;
	sort_list(cgroups->ids, cgroups->count, sizeof(*cgroups->ids), compare_ids);
	return 0;
}

static int find_storage_map(struct storage_map *map, int fd)
{
	struct bpf_map_info info = {0};
	uint32_t size = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &size) != 0)
		return -errno;
	*map = (struct storage_map){.fd = fd, .id = info.id};
	return 0;
}

/* In the gateway's namespace, where its sockets are. */
static int open_diag(const struct gateway *gateway, struct nl_sock **socket_out)
{
	_cleanup_close_ int fd = gateway_socket(gateway, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
	_cleanup_(cleanup_nl_socket) struct nl_sock *socket = nl_socket_alloc();
	int error;

	if (fd < 0)
		return fd;
	if (!socket)
		return -ENOMEM;
	error = nl_socket_set_fd(socket, NETLINK_SOCK_DIAG, fd);
	if (error < 0)
		return -EIO;
	TAKE_FD(fd);
	nl_socket_disable_seq_check(socket);
	*socket_out = TAKE_PTR(socket);
	return 0;
}

/* ---- one socket of the dump ---- */

/* Of this map, in INET_DIAG_SK_BPF_STORAGES { SK_DIAG_BPF_STORAGE { MAP_ID, MAP_VALUE } ... }; false: none. */
static bool read_storage(const struct storage_map *map, struct nlattr *storages, void *storage, size_t size)
{
	struct nlattr *entry;
	int rest;

	if (!storages)
		return false;
	nla_for_each_nested(entry, storages, rest)
	{
		struct nlattr *id = nla_find(nla_data(entry), nla_len(entry), SK_DIAG_BPF_STORAGE_MAP_ID);
		struct nlattr *value = nla_find(nla_data(entry), nla_len(entry), SK_DIAG_BPF_STORAGE_MAP_VALUE);

		if (!id || !value || nla_get_u32(id) != map->id || nla_len(value) < (int)size)
			continue;
		memcpy(storage, nla_data(value), size);
		return true;
	}
	return false;
}

static struct postern_destination_key remote_of(const struct inet_diag_msg *message)
{
	struct postern_destination_key key = {.port = message->id.idiag_dport};

	if (message->idiag_family == AF_INET) {
		key.address.byte[10] = key.address.byte[11] = 0xff;
		memcpy(key.address.byte + 12, message->id.idiag_dst, 4);
	} else {
		memcpy(key.address.byte, message->id.idiag_dst, 16);
	}
	return key;
}

/* The guard's own order of judgement. */
static bool may_live(const struct sweep *sweep, const struct inet_diag_msg *message, struct nlattr *storages)
{
	struct postern_destination_key remote = remote_of(message);
	struct postern_gateway_socket sent_to_agent;
	struct postern_passed_socket passed;

	if (read_storage(&sweep->gateway_socket, storages, &sent_to_agent, sizeof(sent_to_agent)))
		return true;
	if (read_storage(&sweep->passed_socket, storages, &passed, sizeof(passed))) {
		if (passed.flags & POSTERN_PASSED_INBOUND)
			return true;
		remote = passed.destination;
	}
	return address_is_loopback(&remote.address) || !sweep->is_covered(sweep->context, &remote);
}

static int add_victim(struct sweep *sweep, const struct inet_diag_msg *message)
{
	struct victim *victims = grow(sweep->victims, sweep->victim_count, &sweep->victim_capacity, sizeof(*victims));

	if (!victims)
		return -ENOMEM;
	sweep->victims = victims;
	sweep->victims[sweep->victim_count++] = (struct victim){message->idiag_family, message->id};
	return 0;
}

/*
 * The kernel keeps a request (not accepted yet) and what is left of a closed socket (TIME_WAIT, shown as FIN_WAIT2
 * while the peer's FIN is awaited) without an owner, a cgroup or anything that could send.
 */
static bool may_be_half_a_socket(const struct inet_diag_msg *message)
{
	return message->idiag_state == TCP_SYN_RECV || message->idiag_state == TCP_FIN_WAIT2;
}

static int on_socket(struct nl_msg *netlink, void *context)
{
	struct sweep *sweep = context;
	struct nlmsghdr *header = nlmsg_hdr(netlink);
	struct nlattr *attributes[INET_DIAG_MAX + 1];
	const struct inet_diag_msg *message;
	uint64_t cgroup;

	if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
	    nlmsg_parse(header, sizeof(*message), attributes, INET_DIAG_MAX, NULL) < 0)
		return NL_SKIP;
	message = nlmsg_data(header);
	if (!attributes[INET_DIAG_CGROUP_ID]) {
		/* A kernel without the attribute cannot tell whose the socket is: then none is touched. */
		if (!may_be_half_a_socket(message))
			sweep->error = -EOPNOTSUPP;
		return NL_SKIP;
	}
	cgroup = nla_get_u64(attributes[INET_DIAG_CGROUP_ID]);
	if (!find_sorted(&cgroup, sweep->cgroups.ids, sweep->cgroups.count, sizeof(cgroup), compare_ids))
		return NL_SKIP;
	sweep->result->seen++;
	if (!may_live(sweep, message, attributes[INET_DIAG_SK_BPF_STORAGES]) && add_victim(sweep, message) != 0)
		sweep->error = -ENOMEM;
	return NL_SKIP;
}

/* ---- messages ---- */

static int put_request(struct nl_msg *netlink, int type, int flags, const struct inet_diag_req_v2 *request)
{
	struct nlmsghdr *header = nlmsg_put(netlink, NL_AUTO_PORT, NL_AUTO_SEQ, type, 0, NLM_F_REQUEST | flags);

	if (!header)
		return -ENOMEM;
	return nlmsg_append(netlink, (void *)request, sizeof(*request), NLMSG_ALIGNTO) < 0 ? -ENOMEM : 0;
}

static int ask_for_storages(struct nl_msg *netlink, const struct sweep *sweep)
{
	struct nlattr *nest = nla_nest_start(netlink, INET_DIAG_REQ_SK_BPF_STORAGES | NLA_F_NESTED);

	if (!nest || nla_put_u32(netlink, SK_DIAG_BPF_STORAGE_REQ_MAP_FD, (uint32_t)sweep->gateway_socket.fd) < 0 ||
	    nla_put_u32(netlink, SK_DIAG_BPF_STORAGE_REQ_MAP_FD, (uint32_t)sweep->passed_socket.fd) < 0)
		return -ENOMEM;
	nla_nest_end(netlink, nest);
	return 0;
}

static int note_error(struct sockaddr_nl *from, struct nlmsgerr *error, void *context)
{
	(void)from;
	*(int *)context = error->error;
	return NL_STOP;
}

/* Send and read until the answer is whole. 0, or the kernel's negative errno. */
static int converse(struct sweep *sweep, struct nl_msg *netlink)
{
	int error = 0, result = nl_send_auto(sweep->socket, netlink);

	if (result < 0)
		return -EIO;
	nl_socket_modify_cb(sweep->socket, NL_CB_VALID, NL_CB_CUSTOM, on_socket, sweep);
	nl_socket_modify_err_cb(sweep->socket, NL_CB_CUSTOM, note_error, &error);
	result = nl_recvmsgs_default(sweep->socket);
	if (error)
		return error;
	return result < 0 ? -EIO : 0;
}

static int dump(struct sweep *sweep, int family)
{
	const struct inet_diag_req_v2 request = {
	        .sdiag_family = (uint8_t)family,
	        .sdiag_protocol = IPPROTO_TCP,
	        .idiag_states = LIVE_STATES,
	};
	_cleanup_(cleanup_nl_message) struct nl_msg *netlink = nlmsg_alloc();
	int error;

	if (!netlink)
		return -ENOMEM;
	error = put_request(netlink, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &request);
	if (!error)
		error = ask_for_storages(netlink, sweep);
	if (!error)
		error = converse(sweep, netlink);
	return error ? error : sweep->error;
}

/* The socket's cookie is in the id: another one on the same addresses is not hit. */
static int destroy(struct sweep *sweep, const struct victim *victim)
{
	const struct inet_diag_req_v2 request = {
	        .sdiag_family = victim->family,
	        .sdiag_protocol = IPPROTO_TCP,
	        .idiag_states = ~0u,
	        .id = victim->id,
	};
	_cleanup_(cleanup_nl_message) struct nl_msg *netlink = nlmsg_alloc();
	int error;

	if (!netlink)
		return -ENOMEM;
	error = put_request(netlink, SOCK_DESTROY, NLM_F_ACK, &request);
	return error ? error : converse(sweep, netlink);
}

static int destroy_victims(struct sweep *sweep)
{
	for (size_t i = 0; i < sweep->victim_count; i++) {
		int error = destroy(sweep, &sweep->victims[i]);

		if (error == -EOPNOTSUPP)
			return error;
		if (!error) {
			sweep->result->destroyed++;
		} else if (error != -ENOENT) { /* ENOENT: it has ended since */
			sweep->result->failed++;
			sweep->result->error = -error;
		}
	}
	return 0;
}

static int run(struct sweep *sweep, const struct gateway *gateway, const struct hooks *hooks)
{
	int error = collect_cgroups(&sweep->cgroups, gateway->cgroup_path);

	if (!error)
		error = find_storage_map(&sweep->gateway_socket, hooks_gateway_socket_fd(hooks));
	if (!error)
		error = find_storage_map(&sweep->passed_socket, hooks_passed_socket_fd(hooks));
	if (!error)
		error = open_diag(gateway, &sweep->socket);
	if (!error)
		error = dump(sweep, AF_INET);
	if (!error)
		error = dump(sweep, AF_INET6);
	return error ? error : destroy_victims(sweep);
}

int sweep_gateway(const struct gateway *gateway, struct hooks *hooks, sweep_is_covered is_covered, void *context,
                  struct sweep_result *result)
{
	struct sweep sweep = {.is_covered = is_covered, .context = context, .result = result};
	int error;

	memset(result, 0, sizeof(*result));
	if (gateway->state != GATEWAY_READY)
		return -ENOTCONN;
	error = run(&sweep, gateway, hooks);
	nl_socket_free(sweep.socket);
	free(sweep.cgroups.ids);
	free(sweep.victims);
	return error;
}
