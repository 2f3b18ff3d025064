/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * hooks.h: the BPF programs and maps: loaded, pinned below <bpffs>/vN, attached to gateways' cgroups, taken over after
 * a restart, and taken away by uninstall. Control thread; the map descriptors are read by workers after hooks_load().
 */
#ifndef POSTERN_DATAPATH_HOOKS_H
#define POSTERN_DATAPATH_HOOKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "postern/abi.h"

struct hooks;

struct hooks_options {
	const char *bpffs; /* e.g. /sys/fs/bpf/postern; NULL: nothing is pinned (the proof, tests) */
	unsigned int worker_count;
	unsigned int max_destinations; /* the destination map's size; 0: POSTERN_MAX_DESTINATIONS. A pinned map keeps
	                                  its own */
	/*
	 * The rings of these workers are first_ring and those after it: what names a worker in the kernel is its ring's
	 * number. other_rings: bit n is a ring of another agent that lives, and is left alone.
	 */
	unsigned int first_ring;
	uint64_t other_rings;
	/* An agent serves beside this one: nothing of its is replaced before hooks_take_over(). */
	bool beside;
};

/*
 * Open, configure, load, pin. Maps that are already pinned with the same shape are taken over with their contents,
 * links with their attachment (their program is replaced in place: two live copies on one cgroup would delete each
 * other's storage). 0 or negative errno, with a log line that names program or map.
 */
int hooks_load(const struct hooks_options *options, struct hooks **hooks);
/*
 * Put this agent's programs into everything that is attached: the lane's map, and the links that it knows. After
 * hooks_load() beside another agent; and again if that one's successor failed.
 */
int hooks_take_over(struct hooks *hooks);
/* Every ring number that no living agent has leads to one of this agent's rings: who writes there is heard. */
int hooks_adopt_rings(struct hooks *hooks, uint64_t other_rings);
/* The number of a worker's ring. */
unsigned int hooks_ring_number(const struct hooks *hooks, unsigned int worker);
/* Close descriptors. Pinned programs, links and maps stay and go on refusing covered connects. */
void hooks_free(struct hooks *hooks);
/*
 * Remove every link, program and map below bpffs, of every ABI number, and the directories. Links are detached, not
 * only unpinned: an agent that still runs must not keep them alive. Returns how many pins were removed, or -errno.
 */
int hooks_uninstall(const char *bpffs);

/* Attach intercept, hold, guard and lane to the gateway's cgroup (idempotent), and write its id. */
int hooks_attach_gateway(struct hooks *hooks, const char *name, const char *cgroup_path, uint32_t gateway_id);
int hooks_detach_gateway(struct hooks *hooks, const char *name, const char *cgroup_path);
/* True while every link of this gateway is attached, by the kernel's word (bpf_link_info), not by a flag. */
bool hooks_gateway_attached(struct hooks *hooks, const char *name);
/* The id that the pinned hooks of a gateway of this name have, on a cgroup that lives; 0: there are none. */
uint32_t hooks_pinned_gateway_id(struct hooks *hooks, const char *name, uint64_t *cgroup);
/* The id that the hooks of a cgroup have; 0: none. */
uint32_t hooks_gateway_id_of(struct hooks *hooks, uint64_t cgroup);
/*
 * Detach the pinned hooks of every gateway that is not named: what an agent did not see leave while it was down; those
 * that were set aside, too. Where the cgroup's processes are a gateway's that lives on they are set aside instead.
 * Returns how many gateways were detached, or the first -errno.
 */
int hooks_keep_gateways(struct hooks *hooks, const char *const *names, size_t count,
                        bool (*lives_on)(void *context, uint64_t cgroup), void *context);
/*
 * The gateway is no more, and its processes run: its hooks stay on, refuse every covered connect, and no longer stand
 * in the way of another gateway of this name. hooks_keep_gateways() takes them away. 0; -ENOENT: none is pinned.
 */
int hooks_set_aside(struct hooks *hooks, const char *name);
/*
 * Take away what agents of other ABI numbers pinned, once this agent's hooks are on. Their hooks cannot be taken over:
 * BPF_LINK_UPDATE leaves a link the cgroup storage of its first program, which is another map's. So both are on for a
 * moment, each with maps of its own; the older connect hook is asked first and wins.
 *
 * A gateway of `names` that this agent has not attached yet keeps them: they refuse. Of the others go guard and
 * connect, by which new connects are this agent's; the rest, by which an agent that drains follows its own, when nobody
 * drains. Idempotent, and cheap when there is nothing. Returns how many directories were taken away, or the first
 * -errno.
 */
int hooks_clear_other_versions(struct hooks *hooks, const char *const *names, size_t count, bool drains);
/* There are pins of another ABI number. */
bool hooks_other_versions(const struct hooks *hooks);
/* The witness, on the agent's own cgroup. */
int hooks_attach_witness(struct hooks *hooks, const char *cgroup_path);

int hooks_set_gateway(struct hooks *hooks, uint32_t gateway_id, const struct postern_gateway *gateway);
int hooks_get_gateway(struct hooks *hooks, uint32_t gateway_id, struct postern_gateway *gateway);
int hooks_delete_gateway(struct hooks *hooks, uint32_t gateway_id); /* and what is left of its listeners */

/* -E2BIG: the map is full, -ENOMEM: no memory. A missing key is HOLD or a miss, so nothing covered leaks by it. */
int hooks_set_destination(struct hooks *hooks, const struct postern_destination_key *key,
                          const struct postern_destination *destination);
int hooks_delete_destination(struct hooks *hooks, const struct postern_destination_key *key); /* -ENOENT possible */
/*
 * Calls for each key in the kernel's map; used to remove what a restarted agent no longer knows: the callback may
 * change the map.
 */
int hooks_for_each_destination(struct hooks *hooks,
                               void (*each)(void *context, const struct postern_destination_key *key,
                                            const struct postern_destination *destination),
                               void *context);
int hooks_set_guarded_port(struct hooks *hooks, uint16_t port, bool guarded); /* host byte order */
/* The same, 64 ports at once: bit p % 64 of word p / 64. */
#define HOOKS_GUARDED_WORDS (65536 / 64)
int hooks_get_guarded_word(struct hooks *hooks, unsigned int index, uint64_t *word);
int hooks_set_guarded_word(struct hooks *hooks, unsigned int index, uint64_t word);
int hooks_set_cidr(struct hooks *hooks, const struct cidr *cidr, bool present); /* -ENOSPC: the trie is full */
/* Calls for each CIDR in the kernel's trie; the callback may change the trie. */
int hooks_for_each_cidr(struct hooks *hooks, void (*each)(void *context, const struct cidr *cidr), void *context);
/* A whole policy is in the maps: from now on, in later lives, too, a miss is judged by them (struct postern_meta). */
int hooks_policy_is_known(struct hooks *hooks);
int hooks_set_runtime_config(struct hooks *hooks, const struct postern_runtime_config *config);
int hooks_get_runtime_config(struct hooks *hooks, struct postern_runtime_config *config);

/* Listener's filter and mark; the filter must be attached before listen(). */
int hooks_attach_listener(struct hooks *hooks, int listener_fd, const struct postern_listener_mark *mark);
int hooks_detach_listener(struct hooks *hooks, uint64_t listener_cookie);
/* All listeners of a gateway, those of an earlier agent, too. */
int hooks_detach_listeners(struct hooks *hooks, uint32_t gateway_id);
/* The secret SO_PRIORITY that the listener's filter lets pass. */
uint32_t hooks_release_priority(const struct hooks *hooks);
/* B's storage for the witness. */
int hooks_set_backend(struct hooks *hooks, int b_fd, const struct postern_backend_socket *state);

/*
 * PLAIN for a key that is in no map yet, by an agent that no longer writes it. 0, also if it is PLAIN already; -EPERM:
 * another agent says otherwise, of this key or of any port of its address.
 */
int hooks_let_pass_unless_known(struct hooks *hooks, const struct postern_destination_key *key);

/* The worker's ring buffer (a map descriptor for ring_buffer__new()). */
int hooks_ring_fd(const struct hooks *hooks, unsigned int worker);

/* Lane: slots are mapped once for the process. */
struct postern_lane_slot *hooks_lane_slots(const struct hooks *hooks);
int hooks_lane_offer(struct hooks *hooks, uint64_t gateway_cookie, uint32_t slot);
int hooks_lane_withdraw(struct hooks *hooks, uint64_t gateway_cookie);
int hooks_lane_join_agent(struct hooks *hooks, uint64_t gateway_cookie, int a_fd);
int hooks_lane_leave_agent(struct hooks *hooks, uint64_t gateway_cookie);
/* G is a plain TCP socket again. Only after the program has left it (struct postern_lane_slot). */
int hooks_lane_leave_gateway(struct hooks *hooks, uint64_t gateway_cookie);
/* Is G still in the lane? The kernel takes it out when it is closed, so this heals a CLOSED record that was lost. */
bool hooks_lane_has_gateway(struct hooks *hooks, uint64_t gateway_cookie);

/* The maps' descriptors, for inet_diag's INET_DIAG_REQ_SK_BPF_STORAGES. */
int hooks_gateway_socket_fd(const struct hooks *hooks);
int hooks_passed_socket_fd(const struct hooks *hooks);
int hooks_judged_socket_fd(const struct hooks *hooks);

/* Sums over CPUs. */
int hooks_counters(struct hooks *hooks, uint64_t counters[static POSTERN_COUNTERS]);
int hooks_for_each_helper_error(struct hooks *hooks,
                                void (*each)(void *context, const struct postern_helper_error *error, uint64_t count),
                                void *context);
/* What an observed gateway would have had. */
int hooks_forget_would(struct hooks *hooks, uint32_t gateway_id);
/* Ids of gateway_map for which keep() is false, and what is left of their listeners, go. */
int hooks_keep_gateway_ids(struct hooks *hooks, bool (*keep)(void *context, uint32_t id), void *context);
int hooks_for_each_would(struct hooks *hooks,
                         void (*each)(void *context, const struct postern_would_key *key, uint64_t count),
                         void *context);

#endif
