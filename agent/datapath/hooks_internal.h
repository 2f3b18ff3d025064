/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * hooks_internal.h: what the files of hooks.h share: hooks.c (load, and take over what is pinned), hooks_maps.c (the
 * maps' accessors), hooks_trace.c (the programs' events), hooks_links.c (programs on cgroups), hooks_former.c (those of
 * gateways that are no more), hooks_pins.c (paths below the bpffs, uninstall), hooks_versions.c (pins of agents of
 * other ABI numbers).
 */
#ifndef POSTERN_DATAPATH_HOOKS_INTERNAL_H
#define POSTERN_DATAPATH_HOOKS_INTERNAL_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "datapath/hooks.h"

struct postern_bpf;
struct ring_buffer;

/* What is attached to a gateway's cgroup, in the order of attachment: connect comes last, when all else is on. */
enum gateway_link {
	LINK_GUARD,
	LINK_GUARD_INBOUND,
	LINK_HOLD_ATTEMPT,
	LINK_LANE_JOIN,
	LINK_GETPEERNAME4,
	LINK_GETPEERNAME6,
	LINK_CONNECT4,
	LINK_CONNECT6,
	GATEWAY_LINKS,
};

struct hooks_gateway {
	struct hooks_gateway *next;
	char *name;
	uint64_t cgroup_id;
	int link_fd[GATEWAY_LINKS]; /* -1: none */
};

struct hooks_trace {
	struct ring_buffer *ring; /* NULL: not open */
	void (*each)(void *context, const struct postern_trace_record *record);
	void *context;
	unsigned int count; /* of this reading */
};

struct hooks {
	struct postern_bpf *skeleton;
	char *bpffs;     /* NULL: nothing is pinned */
	char *directory; /* <bpffs>/vN */
	unsigned int worker_count;
	unsigned int first_ring;
	uint64_t other_rings;
	bool beside;
	unsigned int max_destinations;
	uint32_t release_priority;
	int ring_fd[POSTERN_MAX_WORKERS];
	struct postern_lane_slot *lane_slots;
	uint64_t *policy_generation; /* the kernel's page; shared with other agents that live */
	struct hooks_gateway *gateways;
	int witness_link_fd;
	struct hooks_trace trace;
};

/* hooks_maps.c: an earlier agent's offers name slots that this one gives to others. */
int hooks_lane_forget_offers(struct hooks *hooks);

/*
 * After each write to what postern_judge() reads, before anything relies on it: what the guard knows of long
 * connections by the maps before it is void (bpf/guard.bpf.c). What does this itself is hooks_maps.c; when programs
 * come back that were not there for a while, it must be done for what was written meanwhile.
 */
void hooks_raise_generation(struct hooks *hooks);

/* hooks_links.c */
void hooks_close_links(struct hooks *hooks);
int hooks_update_links(struct hooks *hooks);
/* The id of the cgroup that the link pinned at the path is on; 0: on none that lives, or there is no such link. */
uint64_t hooks_pinned_cgroup(const char *pin);
/* Close what this agent holds of the gateway's links, and forget them: they live on by their pins. */
void hooks_let_go(struct hooks *hooks, const char *name);

/* hooks_pins.c. The paths are "" when nothing is pinned; all fail with -ENAMETOOLONG. */
int hooks_prepare_directory(const char *bpffs, char **directory);
/* "v" and a number: what an agent of some ABI number pinned. */
bool hooks_is_version_directory(const char *name);
/* A gateway's name as a file's name. */
void hooks_encode_name(const char *name, char encoded[static NAME_MAX]);
int hooks_gateway_pin_directory(const struct hooks *hooks, const char *name, char path[static PATH_MAX]);
/* Of a gateway that is no more, on a cgroup that lives: the file's name is none that a gateway's name could have. */
int hooks_aside_pin_directory(const struct hooks *hooks, uint64_t cgroup, char path[static PATH_MAX]);
/* Of another agent's cgroup: a link beside the usual one. */
int hooks_witness_pin_path(const struct hooks *hooks, uint64_t other_cgroup, char path[static PATH_MAX]);
int hooks_make_links_directory(const struct hooks *hooks);
/* Detach the link that is pinned at the path, if it is one, and remove the pin. 0, or negative errno. */
int hooks_remove_pin(const char *path);
/* Everything in the directory, and itself. Returns how many pins were removed, or the first -errno. */
int hooks_remove_pins_below(const char *directory);

#endif
