/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * maps.bpf.c: the one place where the maps are defined. What each is for stands in maps.h and include/postern/abi.h.
 */
#include "maps.h"

struct meta_shape meta SEC(".maps");
struct destination_map_shape destination_map SEC(".maps");
struct covered_addresses_shape covered_addresses SEC(".maps");
struct cluster_cidrs_shape cluster_cidrs SEC(".maps");
struct guarded_ports_shape guarded_ports SEC(".maps");
struct runtime_config_shape runtime_config SEC(".maps");
struct gateway_map_shape gateway_map SEC(".maps");
struct gateway_id_storage_shape gateway_id_storage SEC(".maps");
struct listener_map_shape listener_map SEC(".maps");
struct listener_mark_shape listener_mark SEC(".maps");
struct gateway_socket_shape gateway_socket SEC(".maps");
struct passed_socket_shape passed_socket SEC(".maps");
struct judged_socket_shape judged_socket SEC(".maps");
struct policy_generation_shape policy_generation SEC(".maps");
struct just_dialed_shape just_dialed SEC(".maps");
struct dialed_elsewhere_shape dialed_elsewhere SEC(".maps");
struct backend_socket_shape backend_socket SEC(".maps");
struct witness_socket_shape witness_socket SEC(".maps");
struct worker_rings_shape worker_rings SEC(".maps");
struct lane_slot_map_shape lane_slot_map SEC(".maps");
struct lane_slots_shape lane_slots SEC(".maps");
struct lane_sockets_shape lane_gateway SEC(".maps");
struct lane_sockets_shape lane_agent SEC(".maps");
struct counters_shape counters SEC(".maps");
struct helper_errors_shape helper_errors SEC(".maps");
struct would_map_shape would_map SEC(".maps");
struct trace_ring_shape trace_ring SEC(".maps");

volatile struct postern_trace_filter trace_filter = {};
__u64 trace_lost = 0;

char _license[] SEC("license") = "GPL";
