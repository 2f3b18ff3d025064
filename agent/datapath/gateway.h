/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * gateway.h: one enrolled gateway: its cgroup, its network namespace, the agent's listeners and raw sockets in there.
 *
 *   CONFIGURED -> ATTACHED (hooks on, id written, port_count 0: covered connects are refused)
 *              -> READY (namespace known, listeners up, ports in gateway_map)
 *              -> LOST (cgroup gone): listeners closed, id taken back
 *
 * Hooks go on before anything else, so that a gateway that starts later finds them. The network namespace is the
 * configured path, or that of a process of the cgroup; it is entered with setns() on a helper call only, never for
 * long. Control thread; a worker reads id, name, the descriptors of its own listeners and the raw sockets, which do not
 * change while the gateway is READY.
 */
#ifndef POSTERN_DATAPATH_GATEWAY_H
#define POSTERN_DATAPATH_GATEWAY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "postern/abi.h"

struct hooks;
struct destination;
struct object_name;
struct tls_context;
struct tls_settings;

enum gateway_state {
	GATEWAY_CONFIGURED,
	GATEWAY_ATTACHED,
	GATEWAY_READY,
	GATEWAY_LOST,
};
const char *gateway_state_name(enum gateway_state state);

struct gateway_listener {
	int fd_v4; /* 127.0.0.1:port */
	int fd_v6; /* [::1]:port; -1 if the namespace has no IPv6: covered IPv6 connects are refused, never fatal */
	uint64_t cookie_v4;
	uint64_t cookie_v6;
	uint16_t port; /* host order */
	unsigned int worker;
};

/*
 * Of the gateway that plays the part of one for /readyz (control/path_probe.h): its one destination, and by what it is
 * dialed. No snapshot knows of it. Immutable, and lives until the workers have let go of the gateway.
 */
struct gateway_probe {
	const struct destination *destination;
	const struct tls_settings *settings;
	struct tls_context *context;
};

struct gateway {
	uint32_t id;       /* never 0 */
	char *name;        /* "namespace/name" of the Gateway, or what the configuration calls it */
	char *cgroup_path; /* absolute, below the cgroup2 mount */
	char *netns_path;  /* NULL: that of a process of the cgroup */
	/* The Gateway objects that it serves. They may change while it is READY: see gateway_refs(). */
	const struct gateway_refs *_Atomic refs;
	_Atomic(enum postern_gateway_mode) mode;
	const struct gateway_probe *probe; /* NULL: a real gateway */
	enum gateway_state state;
	char reason[160]; /* why it is not READY, for the operator */
	uint64_t cgroup;  /* id of the cgroup that the hooks are on */
	bool beside;      /* another agent serves it until this one does: what is its own stays as it is */
	int netns_fd;
	int agent_netns_fd; /* the way back; -1: the gateway shares the agent's namespace */
	uint64_t netns_cookie;
	int raw_v4; /* IPPROTO_RAW with the secret SO_PRIORITY, in the gateway's namespace; -1: none */
	int raw_v6;
	struct gateway_listener *listeners;
	size_t listener_count;
};

/* Never changed; those of before live as long as the gateway, since a worker may be reading them. */
struct gateway_refs {
	struct gateway_refs *before;
	size_t count;
	struct object_name *at;
};

struct gateway_options {
	const char *name;
	const char *cgroup;             /* absolute, or relative to the cgroup2 mount ("/system.slice/nginx.service") */
	const char *netns;              /* NULL or "" */
	const struct object_name *refs; /* copied */
	size_t ref_count;
	const struct gateway_probe *probe; /* borrowed for the gateway's life; NULL: a real gateway */
	enum postern_gateway_mode mode;
	uint32_t id;
	unsigned int worker_count;
	unsigned int ports_per_worker;  /* >= 2 */
	uint16_t first_port, last_port; /* where the agent's ports may lie; a taken one means the next */
	bool beside;              /* another agent serves it; its map entry stays until this one's listeners are up */
	const char *agent_cgroup; /* this cgroup, its ancestors and descendants are refused */
	/*
	 * The listeners are up, and their ports will be in the map next: who accepts on them must be ready before that.
	 * 0, or negative errno: the gateway does not become READY. unserve takes it back if the rest fails. NULL:
	 * nobody.
	 */
	int (*serve)(void *context, const struct gateway *gateway);
	void (*unserve)(void *context, const struct gateway *gateway);
	/* Where its network namespace is: a descriptor that is the gateway's, or negative errno and the problem. NULL:
	 * netns, or that of a process of the cgroup. */
	int (*find_namespace)(void *context, char *problem, size_t problem_size);
	/* A port that leads elsewhere in some namespace of this node (a hostPort). NULL: none is known. */
	bool (*avoid_port)(void *context, uint16_t port);
	void *context;
};

/* Checks the rules of enrolment. 0; -EINVAL with a message (agent inside, nested with another gateway, not cgroup2). */
int gateway_new(const struct gateway_options *options, const struct gateway *const *others, size_t other_count,
                struct gateway **gateway, char *error, size_t error_size);
/* Any thread, while the gateway is there. Never NULL. */
static inline const struct gateway_refs *gateway_refs(const struct gateway *gateway)
{
	static const struct gateway_refs none;
	const struct gateway_refs *refs = atomic_load_explicit(&gateway->refs, memory_order_acquire);

	return refs ? refs : &none;
}
/* Other Gateways now; workers must be told that the policy changed. 0 or -ENOMEM. */
int gateway_set_refs(struct gateway *gateway, const struct object_name *refs, size_t count);
/*
 * Enforce or observe, at once and in any state. In the kernel it is one write: each connect and each packet is judged
 * by the one or the other. What is plain when enforce begins is dropped by the guard from then on; the caller sweeps. 0
 * or negative errno.
 */
int gateway_set_mode(struct gateway *gateway, struct hooks *hooks, enum postern_gateway_mode mode);
/*
 * It is a gateway no more: its hooks, pins and entries go. The workers have let go of it. What was detached by somebody
 * else, or is gone with its cgroup, is no error. 0 or the first negative errno (logged).
 */
int gateway_detach(struct gateway *gateway, struct hooks *hooks);

void gateway_free(struct gateway *gateway); /* closes listeners; leaves the hooks attached: they fail closed */

/*
 * Hooks on, id written; idempotent. For all gateways before any of them is READY: an id may have been another one's in
 * an earlier life, and who still has it must not be taken for him. True if the gateway is ATTACHED or READY.
 */
bool gateway_attach(struct gateway *gateway, struct hooks *hooks);
/*
 * One try to go forward; idempotent, called at start and again (timer, cgroup event) until READY. Returns true when the
 * gateway became READY by this call. The ports of an earlier life of the agent are read from the pinned map and tried
 * first.
 */
bool gateway_advance(struct gateway *gateway, struct hooks *hooks, const struct gateway_options *options);
/*
 * READY and the namespace or cgroup is gone: state LOST, map entry emptied (its ports stay there, to be tried first
 * again). Returns true if that just happened; the workers must have let go of the listeners before the next
 * gateway_advance(). Hooks that somebody detached are attached again, and that is logged.
 */
bool gateway_check(struct gateway *gateway, struct hooks *hooks);
/* READY: its entry names this agent's ports again. A successor that failed may have written its own. 0 or -errno. */
int gateway_reopen(struct gateway *gateway, struct hooks *hooks);
/* The listeners' entries in the kernel's maps, and no other agent's. */
void gateway_forget_listeners(const struct gateway *gateway, struct hooks *hooks);

/*
 * A socket made in the gateway's network namespace (READY only), close-on-exec. The calling thread, of any kind, is
 * back in its own namespace afterwards; if it cannot get back the process aborts: nothing may be dialed from a wrong
 * one. fd or -errno.
 */
int gateway_socket(const struct gateway *gateway, int family, int type, int protocol);

/* The same for a file that the namespace decides about ("/proc/thread-self/net/..."), read-only. fd or -errno. */
int gateway_open(const struct gateway *gateway, const char *path);

/* cgroup2's mount point, from /proc/self/mountinfo; static buffer filled once. NULL: no cgroup2. */
const char *cgroup2_mount(void);
/* The cgroup id (inode of the directory), 0 and errno on failure. */
uint64_t cgroup_id(const char *path);

#endif
