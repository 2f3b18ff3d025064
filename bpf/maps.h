/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * maps.h: every map of the programs, declared. Each is defined once, in maps.bpf.c, and joined by the static linker
 * (bpftool gen object), which refuses two different shapes of one name. All but .rodata, .bss and trace_ring are pinned
 * and outlive the agent; who writes what:
 *
 *   meta, destination_map, covered_addresses, cluster_cidrs, guarded_ports,
 *   runtime_config, policy_generation, gateway_map,
 *   gateway_id_storage, listener_map, lane_slot_map,
 *   lane_agent, worker_rings                                   the agent; the programs read
 *   listener_mark, backend_socket                              the agent, through the socket's descriptor
 *   gateway_socket, passed_socket, judged_socket,
 *   just_dialed, dialed_elsewhere, witness_socket,
 *   lane_gateway                                               the programs
 *   lane_slots                                                 both, each its own fields
 *   counters, helper_errors, would_map, trace_ring, trace_lost the programs; the agent reads
 *   trace_filter                                               the agent; the programs read
 */
#ifndef POSTERN_BPF_MAPS_H
#define POSTERN_BPF_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "postern/abi.h"

#define GUARDED_WORDS (65536 / 64) /* one bit a port */

struct meta_shape {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct postern_meta);
};

struct destination_map_shape {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, POSTERN_MAX_DESTINATIONS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct postern_destination_key);
	__type(value, struct postern_destination);
};

struct covered_addresses_shape {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, POSTERN_MAX_DESTINATIONS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct postern_address);
	__type(value, __u32);
};

struct cluster_cidrs_shape {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, POSTERN_MAX_CIDRS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct postern_cidr_key);
	__type(value, __u32);
};

struct guarded_ports_shape {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, GUARDED_WORDS);
	__type(key, __u32);
	__type(value, __u64);
};

struct runtime_config_shape {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct postern_runtime_config);
};

struct gateway_map_shape {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, POSTERN_MAX_GATEWAYS);
	__type(key, __u32);
	__type(value, struct postern_gateway);
};

/* A __u64 key makes one storage per cgroup, shared by all programs that are attached to it. */
struct gateway_id_storage_shape {
	__uint(type, BPF_MAP_TYPE_CGROUP_STORAGE);
	__type(key, __u64);
	__type(value, struct postern_gateway_id);
};

struct listener_map_shape {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, POSTERN_MAX_GATEWAYS *POSTERN_MAX_PORTS * 2);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct postern_listener_mark);
};

struct listener_mark_shape {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct postern_listener_mark);
};

struct gateway_socket_shape {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct postern_gateway_socket);
};

struct passed_socket_shape { /* for ever: see abi.h */
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct postern_passed_socket);
};

struct judged_socket_shape {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct postern_judged_socket);
};

struct policy_generation_shape {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
};

struct just_dialed_shape {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct postern_just_dialed);
};

struct dialed_elsewhere_shape {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
};

struct backend_socket_shape {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct postern_backend_socket);
};

struct witness_socket_shape {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct postern_witness_socket);
};

struct worker_ring_shape {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, POSTERN_RING_BYTES);
};

struct worker_rings_shape {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, POSTERN_MAX_RINGS);
	__type(key, __u32);
	__array(values, struct worker_ring_shape);
};

struct lane_slot_map_shape { /* G's socket cookie -> its slot, offered by the worker */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, POSTERN_MAX_LANE_SLOTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u32);
};

struct lane_slots_shape {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, POSTERN_MAX_LANE_SLOTS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct postern_lane_slot);
};

struct lane_sockets_shape { /* G's socket cookie -> G (lane_gateway) or A (lane_agent). Never B. */
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, POSTERN_MAX_LANE_SLOTS);
	__type(key, __u64);
	__type(value, __u64);
};

struct counters_shape {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, POSTERN_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
};

struct helper_errors_shape {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct postern_helper_error);
	__type(value, __u64);
};

struct would_map_shape {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct postern_would_key);
	__type(value, __u64);
};

struct trace_ring_shape {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, POSTERN_TRACE_RING_BYTES);
};

extern struct meta_shape meta SEC(".maps");
extern struct destination_map_shape destination_map SEC(".maps");
extern struct covered_addresses_shape covered_addresses SEC(".maps");
extern struct cluster_cidrs_shape cluster_cidrs SEC(".maps");
extern struct guarded_ports_shape guarded_ports SEC(".maps");
extern struct runtime_config_shape runtime_config SEC(".maps");
extern struct gateway_map_shape gateway_map SEC(".maps");
extern struct gateway_id_storage_shape gateway_id_storage SEC(".maps");
extern struct listener_map_shape listener_map SEC(".maps");
extern struct listener_mark_shape listener_mark SEC(".maps");
extern struct gateway_socket_shape gateway_socket SEC(".maps");
extern struct passed_socket_shape passed_socket SEC(".maps");
extern struct judged_socket_shape judged_socket SEC(".maps");
extern struct policy_generation_shape policy_generation SEC(".maps");
extern struct just_dialed_shape just_dialed SEC(".maps");
extern struct dialed_elsewhere_shape dialed_elsewhere SEC(".maps");
extern struct backend_socket_shape backend_socket SEC(".maps");
extern struct witness_socket_shape witness_socket SEC(".maps");
extern struct worker_rings_shape worker_rings SEC(".maps");
extern struct lane_slot_map_shape lane_slot_map SEC(".maps");
extern struct lane_slots_shape lane_slots SEC(".maps");
extern struct lane_sockets_shape lane_gateway SEC(".maps");
extern struct lane_sockets_shape lane_agent SEC(".maps");
extern struct counters_shape counters SEC(".maps");
extern struct helper_errors_shape helper_errors SEC(".maps");
extern struct would_map_shape would_map SEC(".maps");
extern struct trace_ring_shape trace_ring SEC(".maps");

/* In .bss: to look at a filter that is off costs a load. */
extern volatile struct postern_trace_filter trace_filter;
extern __u64 trace_lost; /* records that found no room in trace_ring */

#endif
