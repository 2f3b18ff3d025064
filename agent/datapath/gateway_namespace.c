// SPDX-License-Identifier: GPL-2.0-only
/*
 * gateway_namespace.c: the gateway's network namespace: where it is found, and what the agent has in it: per port a
 * listener at 127.0.0.1 and one at [::1], and one raw socket per family. They are made in one visit; after that the
 * agent works through the descriptors, from its own namespace.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "datapath/gateway_internal.h"
#include "datapath/hooks.h"

#define LISTEN_BACKLOG      4096
#define RAW_SEND_BUFFER     (4 << 20) /* SYNs and refusals of a burst that loopback has not taken yet */
#define NODE_PORT_FIRST     30000     /* kube-proxy's default range */
#define NODE_PORT_LAST      32767
#define EPHEMERAL_FIRST     32768 /* the kernel's default ip_local_port_range */
#define EPHEMERAL_LAST      60999
#define PROCESSES_COMPARED  64
#define PORT_STRIDE_GATEWAY 257 /* gateways of one namespace begin their search apart */

/* Returns the error. */
static int say(char *problem, size_t problem_size, int error, const char *what)
{
	snprintf(problem, problem_size, "%s: %s", what, strerror(-error));
	return error;
}

/* ---- where it is ---- */

static ino_t namespace_of_fd(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

static ino_t namespace_of_process(pid_t process)
{
	struct stat status;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", process);
	return stat(path, &status) == 0 ? status.st_ino : 0;
}

struct search {
	int fd; /* of the first process's namespace; -1: none yet */
	ino_t inode;
	pid_t process;
	unsigned int seen;
	bool several;
	bool found; /* looking for `process` again */
};

static bool look_at_process(void *context, pid_t process)
{
	struct search *search = context;
	char path[64];

	if (search->fd < 0) {
		snprintf(path, sizeof(path), "/proc/%d/ns/net", process);
		search->fd = open(path, O_RDONLY | O_CLOEXEC);
		if (search->fd == -1)
			return true; /* it ended just now, or is a zombie */
		search->inode = namespace_of_fd(search->fd);
		search->process = process;
	} else {
		ino_t inode = namespace_of_process(process);

		search->several |= inode != 0 && inode != search->inode;
	}
	return ++search->seen < PROCESSES_COMPARED && !search->several;
}

static bool look_for_process(void *context, pid_t process)
{
	struct search *search = context;

	search->found |= process == search->process;
	return !search->found;
}

static int find_by_processes(const struct gateway *gateway, char *problem, size_t problem_size)
{
	struct search search = {.fd = -1};
	int error = cgroup_walk_processes(gateway->cgroup_path, look_at_process, &search);
	_cleanup_close_ int fd = search.fd;

	if (error) {
		snprintf(problem, problem_size, "cannot read the processes of %s: %s", gateway->cgroup_path,
		         strerror(-error));
		return -1;
	}
	if (fd < 0) {
		snprintf(problem, problem_size, "no process in %s yet", gateway->cgroup_path);
		return -1;
	}
	if (search.several) {
		snprintf(
		        problem, problem_size,
		        "the processes of the cgroup are in several network namespaces: name one in the configuration");
		return -1;
	}
	/* The number may have been given to another process between the two looks. */
	if (cgroup_walk_processes(gateway->cgroup_path, look_for_process, &search) != 0 || !search.found) {
		snprintf(problem, problem_size, "process %d of %s ended", search.process, gateway->cgroup_path);
		return -1;
	}
	return TAKE_FD(fd);
}

int gateway_find_namespace(const struct gateway *gateway, char *problem, size_t problem_size)
{
	if (!gateway->netns_path)
		return find_by_processes(gateway, problem, problem_size);
	int fd = open(gateway->netns_path, O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		snprintf(problem, problem_size, "network namespace %s: %s", gateway->netns_path, strerror(errno));
	return fd;
}

struct presence {
	ino_t inode;
	bool here;
	bool elsewhere;
};

static bool note_presence(void *context, pid_t process)
{
	struct presence *presence = context;
	ino_t inode = namespace_of_process(process);

	presence->here |= inode == presence->inode;
	presence->elsewhere |= inode != 0 && inode != presence->inode;
	return !presence->here;
}

bool gateway_namespace_is_gone(const struct gateway *gateway)
{
	struct presence presence = {.inode = namespace_of_fd(gateway->netns_fd)};
	struct stat status;

	if (gateway->netns_path)
		return stat(gateway->netns_path, &status) == -1 || status.st_ino != presence.inode;
	if (cgroup_walk_processes(gateway->cgroup_path, note_presence, &presence) != 0)
		return false;
	return presence.elsewhere && !presence.here;
}

/* ---- the visit ---- */

/* fd -1: the same namespace, nothing to do. */
static int visit(int netns_fd)
{
	return netns_fd >= 0 && setns(netns_fd, CLONE_NEWNET) == -1 ? -errno : 0;
}

/* In a wrong namespace every later dial of this thread would go astray: better none at all. */
static void come_back(int agent_netns_fd)
{
	if (agent_netns_fd < 0 || setns(agent_netns_fd, CLONE_NEWNET) == 0)
		return;
	log_error("cannot return to the agent's network namespace", "error=\"%s\"", strerror(errno));
	abort();
}

int gateway_socket(const struct gateway *gateway, int family, int type, int protocol)
{
	bool same = gateway->agent_netns_fd < 0;
	int error = visit(same ? -1 : gateway->netns_fd);
	int fd;

	if (error)
		return error;
	fd = socket(family, type | SOCK_CLOEXEC, protocol);
	if (fd == -1)
		fd = -errno;
	come_back(gateway->agent_netns_fd);
	return fd;
}

int gateway_open(const struct gateway *gateway, const char *path)
{
	int error = visit(gateway->agent_netns_fd < 0 ? -1 : gateway->netns_fd);
	int fd;

	if (error)
		return error;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		fd = -errno;
	come_back(gateway->agent_netns_fd);
	return fd;
}

/* ---- ports ---- */

struct port_rules {
	uint16_t first, last; /* where the agent's ports may lie */
	unsigned int ephemeral_first, ephemeral_last;
	bool has_v6;
};

/* /proc/sys/net shows the namespace of the thread that opens the file. */
static void read_ephemeral_range(struct port_rules *rules)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");

	if (file && fscanf(file, "%u %u", &rules->ephemeral_first, &rules->ephemeral_last) == 2)
		return;
	rules->ephemeral_first = EPHEMERAL_FIRST;
	rules->ephemeral_last = EPHEMERAL_LAST;
}

static bool port_is_usable(const struct port_rules *rules, unsigned int port)
{
	if (port < rules->first || port > rules->last)
		return false;
	if (port >= rules->ephemeral_first && port <= rules->ephemeral_last)
		return false;
	return port < NODE_PORT_FIRST || port > NODE_PORT_LAST;
}

static socklen_t loopback(int family, uint16_t port, struct sockaddr_storage *address)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;

	memset(address, 0, sizeof(*address));
	if (family == AF_INET) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return sizeof(*v4);
	}
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	v6->sin6_addr = in6addr_loopback;
	return sizeof(*v6);
}

static int set_listener_options(int fd, int family)
{
	/* Inherited by A, as TCP_NODELAY is: an agent that is killed is a reset for G, never a clean end in mid-body.
	 */
	const struct linger reset = {.l_onoff = 1, .l_linger = 0};
	const int on = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1 ||
	    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) == -1 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1)
		return -errno;
	if (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) == -1)
		return -errno;
	return 0;
}

/* Bound, not listening yet. A descriptor or negative errno. */
static int bind_loopback(int family, uint16_t port)
{
	_cleanup_close_ int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_storage address;
	socklen_t length = loopback(family, port, &address);
	int error;

	if (fd == -1)
		return -errno;
	error = set_listener_options(fd, family);
	if (error)
		return error;
	if (bind(fd, (const struct sockaddr *)&address, length) == -1)
		return -errno;
	return TAKE_FD(fd);
}

/* The filter is on before the first SYN can be answered. */
static int start_listening(struct hooks *hooks, int fd, const struct postern_listener_mark *mark, uint64_t *cookie)
{
	socklen_t length = sizeof(*cookie);
	int error = hooks_attach_listener(hooks, fd, mark);

	if (error)
		return error;
	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, cookie, &length) == -1 || listen(fd, LISTEN_BACKLOG) == -1)
		return -errno;
	return 0;
}

/* 0; -EADDRINUSE: try another port; any other errno: the namespace does not let us. */
static int open_listener(struct gateway *gateway, struct hooks *hooks, const struct port_rules *rules, uint16_t port,
                         unsigned int worker)
{
	const struct postern_listener_mark mark = {
	        .magic = POSTERN_LISTENER_MAGIC,
	        .worker = worker,
	        .gateway_id = gateway->id,
	};
	struct gateway_listener *listener = &gateway->listeners[gateway->listener_count];
	_cleanup_close_ int v4 = bind_loopback(AF_INET, port);
	_cleanup_close_ int v6 = v4 >= 0 && rules->has_v6 ? bind_loopback(AF_INET6, port) : -1;
	int error;

	if (v4 < 0)
		return v4;
	if (rules->has_v6 && v6 < 0)
		return v6;
	error = start_listening(hooks, v4, &mark, &listener->cookie_v4);
	if (!error && v6 >= 0)
		error = start_listening(hooks, v6, &mark, &listener->cookie_v6);
	if (error)
		return error;
	listener->port = port;
	listener->worker = worker;
	listener->fd_v4 = TAKE_FD(v4);
	listener->fd_v6 = TAKE_FD(v6);
	gateway->listener_count++;
	return 0;
}

static int try_port(struct gateway *gateway, struct hooks *hooks, const struct gateway_options *options,
                    const struct port_rules *rules, unsigned int port)
{
	if (!port_is_usable(rules, port) ||
	    (options->avoid_port && options->avoid_port(options->context, (uint16_t)port)))
		return -EADDRINUSE;
	return open_listener(gateway, hooks, rules, (uint16_t)port,
	                     (unsigned int)gateway->listener_count % options->worker_count);
}

/* Those of an earlier life first: then what G's own tools and logs show stays the same over a restart. */
static int open_listeners(struct gateway *gateway, struct hooks *hooks, const struct gateway_options *options,
                          const struct port_rules *rules, const uint16_t wanted[static POSTERN_MAX_PORTS])
{
	size_t needed = (size_t)options->worker_count * options->ports_per_worker;
	unsigned int span = (unsigned int)options->last_port - options->first_port + 1;
	unsigned int offset = gateway->id * PORT_STRIDE_GATEWAY % span;
	int error = 0;

	gateway->listeners = calloc(needed, sizeof(*gateway->listeners));
	if (!gateway->listeners)
		return -ENOMEM;
	for (size_t i = 0; i < POSTERN_MAX_PORTS && gateway->listener_count < needed; i++) {
		error = wanted[i] ? try_port(gateway, hooks, options, rules, ntohs(wanted[i])) : 0;
		if (error && error != -EADDRINUSE)
			return error;
	}
	for (unsigned int i = 0; i < span && gateway->listener_count < needed; i++) {
		error = try_port(gateway, hooks, options, rules, options->first_port + (offset + i) % span);
		if (error && error != -EADDRINUSE)
			return error;
	}
	return gateway->listener_count == needed ? 0 : -EADDRINUSE;
}

static int open_raw(struct hooks *hooks, int family)
{
	_cleanup_close_ int fd = socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_RAW);
	uint32_t priority = hooks_release_priority(hooks);
	const int send_buffer = RAW_SEND_BUFFER;

	/* Where it cannot be had, less must do: what finds no room is sent at the SYN's retransmit. */
	if (fd != -1)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &send_buffer, sizeof(send_buffer));
	if (fd == -1 || setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &priority, sizeof(priority)) == -1)
		return -errno;
	return TAKE_FD(fd);
}

static int open_raw_sockets(struct gateway *gateway, struct hooks *hooks, const struct port_rules *rules)
{
	socklen_t length = sizeof(gateway->netns_cookie);

	gateway->raw_v4 = open_raw(hooks, AF_INET);
	if (gateway->raw_v4 < 0)
		return gateway->raw_v4;
	if (getsockopt(gateway->raw_v4, SOL_SOCKET, SO_NETNS_COOKIE, &gateway->netns_cookie, &length) == -1)
		return -errno;
	gateway->raw_v6 = rules->has_v6 ? open_raw(hooks, AF_INET6) : -1;
	return rules->has_v6 && gateway->raw_v6 < 0 ? gateway->raw_v6 : 0;
}

static bool has_loopback_v6(void)
{
	_cleanup_close_ int fd = bind_loopback(AF_INET6, 0);

	return fd >= 0;
}

static int open_sockets(struct gateway *gateway, struct hooks *hooks, const struct gateway_options *options,
                        const uint16_t wanted[static POSTERN_MAX_PORTS], char *problem, size_t problem_size)
{
	struct port_rules rules = {.first = options->first_port, .last = options->last_port};
	int error;

	rules.has_v6 = has_loopback_v6();
	read_ephemeral_range(&rules);
	error = open_raw_sockets(gateway, hooks, &rules);
	if (error)
		return say(problem, problem_size, error, "raw sockets in its network namespace");
	error = open_listeners(gateway, hooks, options, &rules, wanted);
	if (error)
		snprintf(problem, problem_size,
		         "%zu of %u listeners in its network namespace, ports %u-%u but %u-%u: %s",
		         gateway->listener_count, options->worker_count * options->ports_per_worker,
		         options->first_port, options->last_port, rules.ephemeral_first, rules.ephemeral_last,
		         strerror(-error));
	return error;
}

int gateway_enter_namespace(struct gateway *gateway, struct hooks *hooks, const struct gateway_options *options,
                            const uint16_t wanted[static POSTERN_MAX_PORTS], char *problem, size_t problem_size)
{
	_cleanup_close_ int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int error;

	if (own == -1)
		return say(problem, problem_size, -errno, "the agent's own network namespace");
	if (!gateway->beside)
		hooks_detach_listeners(hooks, gateway->id); /* of an earlier life */
	if (namespace_of_fd(own) != namespace_of_fd(gateway->netns_fd))
		gateway->agent_netns_fd = TAKE_FD(own);
	error = visit(gateway->agent_netns_fd < 0 ? -1 : gateway->netns_fd);
	if (error)
		return say(problem, problem_size, error, "cannot enter its network namespace");
	error = open_sockets(gateway, hooks, options, wanted, problem, problem_size);
	come_back(gateway->agent_netns_fd);
	return error;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void gateway_leave_namespace(struct gateway *gateway, struct hooks *hooks)
{
	if (hooks && gateway->beside)
		gateway_forget_listeners(gateway, hooks);
	for (size_t i = 0; i < gateway->listener_count; i++) {
		close_fd(&gateway->listeners[i].fd_v4);
		close_fd(&gateway->listeners[i].fd_v6);
	}
	if (hooks && !gateway->beside)
		hooks_detach_listeners(hooks, gateway->id);
	free(gateway->listeners);
	gateway->listeners = NULL;
	gateway->listener_count = 0;
	close_fd(&gateway->raw_v4);
	close_fd(&gateway->raw_v6);
	close_fd(&gateway->netns_fd);
	close_fd(&gateway->agent_netns_fd);
	gateway->netns_cookie = 0;
}
