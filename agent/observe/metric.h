/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * metric.h: the metrics that agent and controller show, in one table, and the text that they are shown in: OpenMetrics
 * 1.0 (https://github.com/prometheus/OpenMetrics) or the older text format 0.0.4, which every reader takes. Pure; any
 * thread, one text each.
 *
 * The table names each family once: name, type, unit, labels, how many series it may have, and the help, from which
 * docs/operations.md is made (tests/unit/test_metric.c compares). Labels are gateways, policies, modes, reasons: never
 * an address. All families together have less than METRIC_SERIES_MAX series; what goes beyond a family's own limit is
 * put together in one series whose labels all say "other", and counted.
 */
#ifndef POSTERN_OBSERVE_METRIC_H
#define POSTERN_OBSERVE_METRIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define METRIC_SERIES_MAX 2000
#define METRIC_LABELS_MAX 4
#define METRIC_OTHER      "other"

enum metric_type {
	METRIC_GAUGE,
	METRIC_COUNTER,
	METRIC_HISTOGRAM,
	METRIC_INFO, /* always 1; what is to be known is in its labels */
};

enum metric_fold { /* what the series "other" says */
	           METRIC_SUM,
	           METRIC_LEAST,
};

enum metric_owner {
	METRIC_OF_AGENT,
	METRIC_OF_CONTROLLER,
	METRIC_OF_BOTH,
};

/*
 * X(enumerator, name without the suffix of its type, type, unit or "", labels, series, fold, owner, help). The name
 * ends with the unit. Series: how many there are before "other"; those of a histogram are its buckets, sum and count.
 */
#define POSTERN_METRICS(X)                                                                                             \
	X(BUILD, "postern_build", INFO, "", "version,openssl", 1, SUM, BOTH, "What runs.")                             \
	X(START_TIME, "postern_start_time_seconds", GAUGE, "seconds", "", 1, SUM, BOTH,                                \
	  "When it was started, Unix time.")                                                                           \
	X(READY, "postern_ready", GAUGE, "", "", 1, LEAST, AGENT,                                                      \
	  "1 while the promise is kept for every gateway: hooks proved and attached, maps complete, listeners up.")    \
	X(GATEWAY_READY, "postern_gateway_ready", GAUGE, "", "gateway,mode", 64, LEAST, AGENT,                         \
	  "1 while the gateway is served; 0: covered connects of it are refused.")                                     \
	X(GATEWAY_HOOKS, "postern_gateway_hooks_attached", GAUGE, "", "gateway", 64, LEAST, AGENT,                     \
	  "1 while every hook is on the gateway's cgroup, by the kernel's word; 0: it may speak plaintext.")           \
	X(LIVE_CONNECTIONS, "postern_live_connections", GAUGE, "", "gateway,policy,mode", 130, SUM, AGENT,             \
	  "Connections that are relayed now, by what makes their TLS: kernel_tls, user_tls, or plain.")                \
	X(CONNECTIONS, "postern_connections", COUNTER, "", "gateway,policy,mode", 130, SUM, AGENT,                     \
	  "Connections that were accepted, B verified before.")                                                        \
	X(RELAYED_BYTES, "postern_relayed_bytes", COUNTER, "bytes", "gateway,policy,mode,direction", 260, SUM, AGENT,  \
	  "Plaintext bytes that were relayed, to_backend and to_gateway.")                                             \
	X(WINDOW_STALLS, "postern_window_stalls", COUNTER, "", "direction", 2, SUM, AGENT,                             \
	  "How often a direction had to wait because its sink took less than it was given.")                           \
	X(HANDSHAKE_DURATION, "postern_handshake_duration_seconds", HISTOGRAM, "seconds", "gateway", 495, SUM, AGENT,  \
	  "From B's TCP connection to its verified TLS session, of handshakes that succeeded.")                        \
	X(HANDSHAKES, "postern_handshakes", COUNTER, "", "kind", 2, SUM, AGENT,                                        \
	  "Handshakes that succeeded, full or resumed: the resumption ratio is resumed by all.")                       \
	X(ATTEMPTS, "postern_attempts", COUNTER, "", "", 1, SUM, AGENT, "Connects that the agent was asked to carry.") \
	X(LIVE_ATTEMPTS, "postern_live_attempts", GAUGE, "", "", 1, SUM, AGENT,                                        \
	  "Connects that are held now, and refused ones that are still remembered.")                                   \
	X(FAILURES, "postern_failures", COUNTER, "", "reason,class", 90, SUM, AGENT,                                   \
	  "Connects refused and connections reset, by reason; class says whose fault: policy, peer, kernel, local.")   \
	X(KTLS_OFF, "postern_ktls_off", COUNTER, "", "reason", 8, SUM, AGENT,                                          \
	  "Connections whose records are made in user space, by the reason.")                                          \
	X(ESCAPED, "postern_escaped", COUNTER, "", "", 1, SUM, AGENT,                                                  \
	  "Plain sockets of an enrolled gateway to a covered destination that the audit found and destroyed.")         \
	X(WIRE_NOT_TLS, "postern_wire_not_tls", COUNTER, "", "", 1, SUM, AGENT,                                        \
	  "First bytes of a B that were no TLS record: dropped before they left the node.")                            \
	X(KERNEL_EVENTS, "postern_kernel_events", COUNTER, "", "event", 40, SUM, AGENT,                                \
	  "What the BPF programs count: connects by verdict, held SYNs, drops of the guard, the lane.")                \
	X(HELPER_FAILURES, "postern_bpf_helper_failures", COUNTER, "", "site", 40, SUM, AGENT,                         \
	  "Calls of BPF helpers that failed, by their place in the programs.")                                         \
	X(LANE_CONNECTIONS, "postern_lane_connections", COUNTER, "", "", 1, SUM, AGENT,                                \
	  "Connections that got the lane, the sockmap path of small messages.")                                        \
	X(TICKETS_DROPPED, "postern_tickets_dropped", COUNTER, "", "", 1, SUM, AGENT,                                  \
	  "Session tickets that came after kernel TLS had the receive keys.")                                          \
	X(REVERIFIED, "postern_reverified_connections", COUNTER, "", "", 1, SUM, AGENT,                                \
	  "Live connections that were verified once more, after a change of policy or an expiry.")                     \
	X(DRAINING, "postern_draining_connections", GAUGE, "", "", 1, SUM, AGENT,                                      \
	  "Live connections that show a client certificate which is another one now.")                                 \
	X(HANDED_OVER, "postern_handed_over_connections", COUNTER, "", "direction", 2, SUM, AGENT,                     \
	  "Connections that went to the next agent (out), or came from the one before (in).")                          \
	X(THREAD_CPU, "postern_thread_cpu_seconds", COUNTER, "seconds", "thread", 34, SUM, AGENT,                      \
	  "CPU time of each thread.")                                                                                  \
	X(GATEWAY_CPU, "postern_gateway_cpu_seconds", COUNTER, "seconds", "gateway,work", 66, SUM, AGENT,              \
	  "CPU time spent for each gateway: every handshake step is measured, of relaying one event in 64.")           \
	X(POLICIES, "postern_policies", GAUGE, "", "state", 2, SUM, AGENT,                                             \
	  "BackendTLSPolicies that are accepted with all references resolved, and those that are refused.")            \
	X(DESTINATIONS, "postern_destinations", GAUGE, "", "verdict", 3, SUM, AGENT,                                   \
	  "Destinations of the snapshot by verdict.")                                                                  \
	X(AMBIGUOUS, "postern_ambiguous_endpoints", GAUGE, "", "", 1, SUM, AGENT,                                      \
	  "Destinations that are refused because policies with different settings claim them.")                        \
	X(CA_EXPIRY, "postern_ca_expiry_timestamp_seconds", GAUGE, "seconds", "policy", 160, LEAST, AGENT,             \
	  "When the first CA certificate of the policy that is not expired yet will be, Unix time; not for System.")   \
	X(CLIENT_CERTIFICATE_EXPIRY, "postern_client_certificate_expiry_timestamp_seconds", GAUGE, "seconds", "owner", \
	  64, LEAST, AGENT, "When a client certificate expires, Unix time; owner names Gateway or policy.")            \
	X(SNAPSHOT_GENERATION, "postern_snapshot_generation", GAUGE, "", "", 1, SUM, AGENT,                            \
	  "Number of the snapshot in force: counts compiles.")                                                         \
	X(SNAPSHOT_AGE, "postern_snapshot_age_seconds", GAUGE, "seconds", "", 1, SUM, AGENT,                           \
	  "Age of the snapshot in force. It grows while nothing changes: see postern_source_stale_seconds.")           \
	X(SOURCE_ERRORS, "postern_source_errors", GAUGE, "", "", 1, SUM, AGENT,                                        \
	  "Manifests or objects that cannot be read, and watches that fail.")                                          \
	X(SOURCE_STALE, "postern_source_stale_seconds", GAUGE, "seconds", "", 1, SUM, AGENT,                           \
	  "For how long the longest failing watch of the Kubernetes API has failed; 0 with manifests.")                \
	X(WATCH_UP, "postern_watch_up", GAUGE, "", "resource,namespace", 40, LEAST, BOTH,                              \
	  "1 while the resource is watched.")                                                                          \
	X(WATCH_EVENTS, "postern_watch_events", COUNTER, "", "resource,namespace", 40, SUM, BOTH,                      \
	  "Events of the watch.")                                                                                      \
	X(WATCH_LISTS, "postern_watch_lists", COUNTER, "", "resource,namespace", 40, SUM, BOTH,                        \
	  "Lists of the resource: one at first, and one after each watch that could not go on.")                       \
	X(WATCH_FAILURES, "postern_watch_failures", COUNTER, "", "resource,namespace", 40, SUM, BOTH,                  \
	  "Lists and watches that failed.")                                                                            \
	X(PROOF, "postern_proof_verdict", GAUGE, "", "subject,direction,version,cipher", 60, LEAST, AGENT,             \
	  "The start-up proof: 1 it is safe and used, 0 this kernel does not have it, -1 it did wrong.")               \
	X(MAP_ENTRIES, "postern_map_entries", GAUGE, "", "map", 8, SUM, AGENT, "Entries of the kernel's maps.")        \
	X(MAP_CAPACITY, "postern_map_capacity", GAUGE, "", "map", 8, SUM, AGENT, "How many entries they can hold.")    \
	X(MAP_OVERFLOW, "postern_map_overflow_keys", GAUGE, "", "", 1, SUM, AGENT,                                     \
	  "Covered destinations that found no room in the kernel's map: connects to them are held and asked for.")     \
	X(MEMORY_BUDGET, "postern_memory_budget_bytes", GAUGE, "bytes", "", 1, SUM, AGENT,                             \
	  "The memory budget; 0: not known.")                                                                          \
	X(MEMORY_USED, "postern_memory_used_bytes", GAUGE, "bytes", "", 1, SUM, AGENT,                                 \
	  "What is used of it, the kernel's memory for sockets included.")                                             \
	X(PROBES, "postern_path_probes", COUNTER, "", "result", 2, SUM, AGENT,                                         \
	  "Connections through the hooks to the built-in TLS peer that /readyz asked for: passed or failed.")          \
	X(ULP_CHECKS, "postern_ulp_checks", COUNTER, "", "", 1, SUM, AGENT,                                            \
	  "Connections whose B was compared with what the kernel says about it.")                                      \
	X(ULP_MISMATCHES, "postern_ulp_mismatches", COUNTER, "", "", 1, SUM, AGENT,                                    \
	  "Connections that were reset because the kernel did not say what the agent believes about B.")               \
	X(TLS_DECRYPT_ERRORS, "postern_tls_decrypt_errors", COUNTER, "", "", 1, SUM, AGENT,                            \
	  "TlsDecryptError of the gateways' network namespaces: records that did not authenticate.")                   \
	X(TRACE_LOST, "postern_trace_lost_events", COUNTER, "", "cause", 3, SUM, AGENT,                                \
	  "Events that a reader of posternctl trace did not get: no room in the kernel's ring, overwritten before it " \
	  "looked, or it stayed away for more than 10 s (then at most so many).")                                      \
	X(LOG_LINES, "postern_log_lines", COUNTER, "", "fate", 3, SUM, BOTH,                                           \
	  "Lines of the log: written, suppressed by the limit of their place, lost because nobody read.")              \
	X(SERIES_FOLDED, "postern_folded_series", GAUGE, "", "", 1, SUM, BOTH,                                         \
	  "Series of this answer that are counted as \"other\", and label sets that found no room since start.")       \
	X(LEADER, "postern_leader", GAUGE, "", "", 1, SUM, CONTROLLER, "1 for the replica that holds the Lease.")      \
	X(UNPROTECTED_PODS, "postern_unprotected_gateway_pods", GAUGE, "", "", 1, SUM, CONTROLLER,                     \
	  "Gateway pods on nodes without an agent.")                                                                   \
	X(FINDINGS, "postern_findings", GAUGE, "", "reason", 5, SUM, CONTROLLER,                                       \
	  "What is wrong with gateways' pods and no policy's status says: UnprotectedGatewayPod, StartRace, ...")      \
	X(READY_AGENTS, "postern_ready_agents", GAUGE, "", "", 1, SUM, CONTROLLER,                                     \
	  "Pods of the agent that are Ready.")                                                                         \
	X(LEASE_TERMS, "postern_lease_terms", COUNTER, "", "", 1, SUM, CONTROLLER,                                     \
	  "How often this replica became the one that writes.")                                                        \
	X(LEASE_FAILURES, "postern_lease_failures", COUNTER, "", "", 1, SUM, CONTROLLER,                               \
	  "Renewals and claims of the Lease that did not go through.")                                                 \
	X(STATUS_REQUESTS, "postern_status_requests", COUNTER, "", "result", 9, SUM, CONTROLLER,                       \
	  "Statuses by what became of them: read, written, unchanged, stale, conflict, denied, gone, invalid, "        \
	  "failed.")                                                                                                   \
	X(STATUS_OBJECTS, "postern_status_objects", GAUGE, "", "state", 3, SUM, CONTROLLER,                            \
	  "Objects whose status is to be looked at: queued, in_flight, or waiting after a failure.")                   \
	X(EVENTS, "postern_events", COUNTER, "", "result", 4, SUM, CONTROLLER,                                         \
	  "Events: told, counted into a series, dropped by a limit, failed.")

enum metric {
#define X(enumerator, ...) METRIC_##enumerator,
	POSTERN_METRICS(X)
#undef X
	        METRIC_COUNT,
};

struct metric_family {
	const char *name;
	enum metric_type type;
	const char *unit;
	const char *labels; /* names, separated by commas */
	unsigned int series;
	enum metric_fold fold;
	enum metric_owner owner;
	const char *help;
};
extern const struct metric_family metric_families[METRIC_COUNT];

struct metric_text;

/* NULL: no memory. A text that ran out of memory later is NULL from metric_finish(). */
struct metric_text *metric_start(bool openmetrics);
/*
 * One series. Families come in one piece each; a new one ends the one before. The values of its labels are char
 * pointers, in the table's order, as many as it has labels.
 */
void metric_add(struct metric_text *text, enum metric metric, double value, ...);
/* A histogram's series for one set of labels. buckets are not cumulative; the last one is +Inf. */
void metric_add_histogram(struct metric_text *text, enum metric metric, const uint64_t *buckets, const double *bounds,
                          size_t bound_count, double sum, ...);
/* How many series have gone into "other" so far, and how many lines there are. */
unsigned int metric_folded(const struct metric_text *text);
unsigned int metric_series(const struct metric_text *text);
/* Frees the text; the result is free()d by the caller. NULL: no memory. */
char *metric_finish(struct metric_text *text, size_t *length);

extern const char metric_type_openmetrics[]; /* values of Content-Type */
extern const char metric_type_text[];
/* Does this value of Accept prefer OpenMetrics? NULL: no. RFC 9110 12.5.1, as far as it matters here. */
bool metric_wants_openmetrics(const char *accept);

#endif
