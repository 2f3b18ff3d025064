/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * abi.h: everything that the BPF programs and user space share.
 *
 * The maps are pinned below /sys/fs/bpf/postern/vN, N = POSTERN_ABI_VERSION, and outlive the agent. A change of any
 * struct here is a new ABI number. Fixed-width types only, every byte of padding named, every size asserted: clang
 * (-target bpf) and gcc must see the same bytes.
 *
 * G is the gateway's own TCP socket, A the agent's accepted peer of G, B the agent's socket to the backend.
 */
#ifndef POSTERN_ABI_H
#define POSTERN_ABI_H

#include <linux/types.h>

/* Another number in the tests' build of base/version.c alone: user space reads postern_abi_version. */
#ifndef POSTERN_ABI_VERSION
#define POSTERN_ABI_VERSION 2
#endif

#define POSTERN_MAX_WORKERS      32 /* of one agent */
#define POSTERN_MAX_RINGS        64 /* of all agents that live: one is drained while its successor serves */
#define POSTERN_MAX_PORTS        64 /* agent ports per gateway, of all workers together */
#define POSTERN_MAX_GATEWAYS     256
#define POSTERN_MAX_SERVED       254 /* of these: the rest is for what plays a gateway for /readyz, while two agents live */
#define POSTERN_MAX_DESTINATIONS 131072
#define POSTERN_MAX_CIDRS        256
#define POSTERN_MAX_LANE_SLOTS   16384
#define POSTERN_RING_BYTES       (1 << 20) /* per worker; a power of two */
#define POSTERN_TRACE_RING_BYTES (1 << 18)
#define POSTERN_TCP_HEADER_MAX   60

/* What a (address, port) means. Zero is "no entry": what a miss means is decided by postern_judge() (bpf/judge.h). */
enum postern_verdict {
	POSTERN_VERDICT_NONE = 0, /* not covered and not guarded: none of our business */
	POSTERN_VERDICT_TLS = 1,
	POSTERN_VERDICT_PLAIN = 2, /* known and not covered */
	POSTERN_VERDICT_DENY = 3,
	POSTERN_VERDICT_HOLD = 4, /* unknown, could be covered: the agent must decide */
};

/*
 * IPv4 is stored v4-mapped (::ffff:a.b.c.d), so one key serves both families. Network byte order. Aligned, so that the
 * BPF programs may move it by words.
 */
struct postern_address {
	__u8 byte[16];
} __attribute__((aligned(4)));
_Static_assert(sizeof(struct postern_address) == 16, "abi");

/* destination_map: the cache of the snapshot that connect() and the guard read. Port 0 means "any port". */
struct postern_destination_key {
	struct postern_address address;
	__u16 port; /* network byte order */
	__u16 padding;
};
_Static_assert(sizeof(struct postern_destination_key) == 20, "abi");

struct postern_destination {
	__u32 verdict;     /* enum postern_verdict: TLS, PLAIN or DENY */
	__u32 settings_id; /* of the snapshot's TLS settings; 0 unless TLS */
};
_Static_assert(sizeof(struct postern_destination) == 8, "abi");

/* meta[0]: what the maps beside it were made for. A wrong layout with the right sizes would not be noticed otherwise.
 */
struct postern_meta {
	__u32 abi_version;
	/*
	 * 1: an agent has shown a whole policy here. Until then, on a node that is new or was booted, the maps mean
	 * nothing, and every miss outside loopback is HOLD. It outlives the agent: what the maps hold stays in force.
	 */
	__u32 policy_known;
};
_Static_assert(sizeof(struct postern_meta) == 8, "abi");

/*
 * covered_addresses: address -> how many keys of destination_map have it and are TLS or DENY. The guard judges by it
 * what it cannot parse down to a port.
 */

/* cluster_cidrs: LPM trie over v4-mapped addresses (an IPv4 /n is a /(96+n)). The value is unused. */
struct postern_cidr_key {
	__u32 prefix_length;
	struct postern_address address;
};
_Static_assert(sizeof(struct postern_cidr_key) == 20, "abi");

/* runtime_config[0]: switches that change while the programs run. */
struct postern_runtime_config {
	__u32 strict; /* every miss inside the cluster's CIDRs is HOLD */
	__u32 lane_enabled;
};
_Static_assert(sizeof(struct postern_runtime_config) == 8, "abi");

enum postern_gateway_mode {
	POSTERN_MODE_ENFORCE = 0,
	POSTERN_MODE_OBSERVE = 1,
};

/* gateway_map: gateway id -> its state. The id is kept in cgroup storage of the hooks; 0 = not ready = refused. */
struct postern_gateway {
	__u64 netns_cookie;
	__u32 mode;                    /* enum postern_gateway_mode */
	__u32 port_count;              /* 0 = no listener: covered destinations are refused */
	__u16 port[POSTERN_MAX_PORTS]; /* network byte order */
};
_Static_assert(sizeof(struct postern_gateway) == 16 + 2 * POSTERN_MAX_PORTS, "abi");

/* gateway_id_storage (CGROUP_STORAGE, key = cgroup id): which gateway this attachment belongs to. */
struct postern_gateway_id {
	__u32 id;
	__u32 padding;
};
_Static_assert(sizeof(struct postern_gateway_id) == 8, "abi");

/* listener_mark (SK_STORAGE of the agent's listeners): proves that the port is ours, written through the descriptor. */
#define POSTERN_LISTENER_MAGIC 0x706f7374 /* "post" */
struct postern_listener_mark {
	__u32 magic;
	__u32 worker;
	__u32 gateway_id;
	__u32 padding;
};
_Static_assert(sizeof(struct postern_listener_mark) == 16, "abi");

/* listener_map: listener's socket cookie -> the same, for the listener's filter, which cannot read socket storage. */

/* gateway_socket (SK_STORAGE of G): what connect() decided, for a G that it sent to the agent. It dies with the socket.
 */
#define POSTERN_NO_LANE_SLOT 0xffffffffu
#define POSTERN_G_NONBLOCK   (1u << 0) /* O_NONBLOCK at connect() */
#define POSTERN_G_MPTCP      (1u << 1)
#define POSTERN_G_V4MAPPED   (1u << 2) /* an AF_INET6 socket that dialed ::ffff:a.b.c.d */
#define POSTERN_G_BOUND      (1u << 3) /* bound to a non-loopback source address before connect() */
#define POSTERN_G_LANE       (1u << 4) /* G is in lane_gateway */
#define POSTERN_G_REDIRECTS  (1u << 5) /* the lane's last decision: into A's queue, not by TCP */
struct postern_gateway_socket {
	struct postern_destination_key destination; /* original destination */
	__u32 verdict;                              /* enum postern_verdict: TLS or HOLD */
	__u32 settings_id;
	__u32 gateway_id;
	__u32 worker;
	__u32 flags; /* POSTERN_G_* */
	__u64 cookie;
	__u32 lane_slot;
	__u32 lane_start; /* TCP sequence number of the first byte that G sends */
};
_Static_assert(sizeof(struct postern_gateway_socket) == 56, "abi");

/*
 * passed_socket (SK_STORAGE of the gateway's other sockets): those that connect() found PLAIN and that another program
 * sent elsewhere afterwards (a load balancer at the socket, such as Cilium's), with what was dialed, and those that the
 * gateway accepted. The guard judges by it; what any other socket dialed is its own destination. It is one map for all
 * ABI numbers, pinned beside their directories: the sockets live on when an agent of another number takes over. So
 * neither map nor struct ever change.
 */
#define POSTERN_PASSED_INBOUND (1u << 0) /* the gateway accepted it: a client's connection, not one to a backend */
struct postern_passed_socket {
	struct postern_destination_key destination; /* as it was dialed; zero if INBOUND */
	__u32 flags;                                /* POSTERN_PASSED_* */
};
_Static_assert(sizeof(struct postern_passed_socket) == 24, "abi");

/*
 * just_dialed (PERCPU_ARRAY of one): what connect() found PLAIN last, for the sock_ops program that runs later in the
 * same call, most of the time on the same CPU. If the destination is another one by then, the socket gets its
 * passed_socket there, and dialed_elsewhere[0] is 1 for ever: from then on each gets it in connect() itself.
 */
struct postern_just_dialed {
	__u64 cookie; /* of the socket; 0: nothing */
	struct postern_destination_key destination;
	__u32 padding;
};
_Static_assert(sizeof(struct postern_just_dialed) == 32, "abi");

/*
 * policy_generation[0]: a number that the agent raises after each write to what postern_judge() reads, never by less
 * than one write. 0: no agent was here yet.
 *
 * judged_socket (SK_STORAGE of the gateway's other sockets): the guard's own note that it may send to this destination,
 * as the packet has it, by the policy of that generation. It is made for long connections only, and dies with the
 * socket, or with its next connect().
 */
struct postern_judged_socket {
	__u64 generation; /* 0: not judged */
	struct postern_destination_key destination;
	__u32 padding;
};
_Static_assert(sizeof(struct postern_judged_socket) == 32, "abi");

/*
 * backend_socket (SK_STORAGE of B): what the witness may let pass. Written by the agent through B's descriptor before
 * connect(), and again when the handshake is done. A socket of the agent without this storage is not a B.
 */
enum postern_backend_phase {
	POSTERN_B_HANDSHAKE = 1, /* records 20..23, the first one type 22 */
	POSTERN_B_ARMED = 2,     /* the handshake is done: records 20..23 only */
	POSTERN_B_PLAIN = 3,     /* decided PLAIN after HOLD: nothing may go if the key is TLS, DENY or HOLD now */
};
struct postern_backend_socket {
	struct postern_destination_key destination;
	__u32 phase; /* enum postern_backend_phase */
	__u32 gateway_id;
};
_Static_assert(sizeof(struct postern_backend_socket) == 28, "abi");

/* witness_socket (SK_STORAGE of B): how far the witness has followed B's records. The witness alone writes it. */
#define POSTERN_TLS_HEADER 5 /* type, version (2), length (2): RFC 8446 5.1 */
struct postern_witness_socket {
	__u32 next_header;               /* TCP sequence number of the record header that must come next */
	__u32 headers;                   /* record headers found right */
	__u32 armed;                     /* of these, since POSTERN_B_ARMED */
	__u32 done;                      /* enough was seen: look no more */
	__u8 header[POSTERN_TLS_HEADER]; /* the part of that header that came already */
	__u8 header_length;
	__u8 padding[2];
};
_Static_assert(sizeof(struct postern_witness_socket) == 24, "abi");

/* What a worker's ring carries. Addresses are v4-mapped, ports in host byte order. */
enum postern_record_type {
	POSTERN_RECORD_CONNECT = 1, /* G's connect(), before its SYN; again at each SYN retransmit */
	POSTERN_RECORD_SYN = 2,     /* the listener's filter took a SYN away */
	POSTERN_RECORD_GONE = 3,    /* G gave up (SYN_SENT -> CLOSE) */
	POSTERN_RECORD_CLOSED = 4,  /* a G that has a lane slot reached CLOSE: the slot is free */
};

struct postern_tuple { /* as G sees it: local = G, remote = the agent's listener */
	struct postern_address local;
	struct postern_address remote;
	__u16 local_port;
	__u16 remote_port;
	__u32 padding;
};
_Static_assert(sizeof(struct postern_tuple) == 40, "abi");

struct postern_record_header {
	__u32 type;    /* enum postern_record_type */
	__u32 isn;     /* G's initial sequence number; 0 in GONE and CLOSED */
	__u64 time_ns; /* CLOCK_MONOTONIC */
	struct postern_tuple tuple;
};
_Static_assert(sizeof(struct postern_record_header) == 56, "abi");

struct postern_connect_record { /* CONNECT, GONE, CLOSED */
	struct postern_record_header header;
	struct postern_gateway_socket socket;
	__u64 netns_cookie;
	__u32 socket_mark; /* SO_MARK of G */
	__u32 tos;         /* IP_TOS or IPV6_TCLASS of G */
};
_Static_assert(sizeof(struct postern_connect_record) == 128, "abi");

struct postern_syn_record {
	struct postern_record_header header;
	__u64 listener_cookie;
	__u32 family; /* AF_INET or AF_INET6, of the packet */
	__u32 tcp_header_length;
	__u8 tcp_header[POSTERN_TCP_HEADER_MAX];
	__u32 padding;
};
_Static_assert(sizeof(struct postern_syn_record) == 136, "abi");

/*
 * lane_slots: one cache line each, BPF_F_MMAPABLE. In flight, in A's queue or in TCP, is
 *
 *   redirected_bytes + (write_seq of G - lane_start) - agent_read
 *
 * modulo 2^32. The kernel's own write_seq counts what went by TCP, so a send that TCP took only in part, or that began
 * before G joined, is counted right. All zero before the slot is offered.
 *
 * A stream of large messages or of files has no use for the lane, and pays for it: the agent asks (leave), the program
 * answers at the next message (left) and redirects no more. What it had redirected is read when agent_read has come to
 * redirected_until, the place in G's stream at which the last redirected message ends. Then both sockets can go out of
 * the maps.
 */
struct postern_lane_slot {
	__u64 redirected_bytes; /* put straight into A's queue; only the sk_msg program adds */
	__u64 agent_read;       /* bytes that the agent took from A; only the agent adds */
	__u64 redirected;       /* messages put straight into A's queue */
	__u64 passed;           /* messages left to TCP */
	__u64 owner;            /* ring number + 1 of the worker that has the slot; 0: nobody. Agents only */
	__u64 bulk_bytes;       /* left to TCP: messages larger than POSTERN_LANE_MAX_MESSAGE, and sendfile()'s pages */
	__u32 leave;            /* 1: redirect nothing any more; only the agent sets it */
	__u32 left;             /* 1: the program has seen that; only it sets this */
	__u32 redirected_until; /* modulo 2^32 */
	__u32 padding;
};
_Static_assert(sizeof(struct postern_lane_slot) == 64, "abi");

#define POSTERN_LANE_WINDOW      (2u << 20) /* redirected bytes in flight, at most, per connection */
#define POSTERN_LANE_MAX_MESSAGE 16384u     /* larger messages pass: TCP moves them better (measured) */

/* counters (PERCPU_ARRAY of __u64), by enum; names in base/reason.c. */
enum postern_counter {
	POSTERN_COUNT_CONNECT_TLS = 0,
	POSTERN_COUNT_CONNECT_PLAIN,
	POSTERN_COUNT_CONNECT_DENY,
	POSTERN_COUNT_CONNECT_HOLD,
	POSTERN_COUNT_CONNECT_MISS,
	POSTERN_COUNT_REFUSED_NOT_READY,    /* gateway id 0, or no port */
	POSTERN_COUNT_REFUSED_NO_AGENT,     /* no listener of ours answers on the port */
	POSTERN_COUNT_REFUSED_BOUND_DEVICE, /* SO_BINDTODEVICE */
	POSTERN_COUNT_REFUSED_STORAGE,      /* G's storage could not be made */
	POSTERN_COUNT_RING_FULL,
	POSTERN_COUNT_SYN_HELD,
	POSTERN_COUNT_SYN_RELEASED,
	POSTERN_COUNT_SYN_UNPARSED, /* dropped by the listener's filter: not a SYN it understands */
	POSTERN_COUNT_GUARD_SYN_DROPPED,
	POSTERN_COUNT_GUARD_PAYLOAD_DROPPED,
	POSTERN_COUNT_GUARD_UNPARSED_DROPPED,
	POSTERN_COUNT_GUARD_PEER_LATE, /* G's first bytes: A was not there yet; TCP sends them again */
	POSTERN_COUNT_WIRE_NOT_TLS,
	POSTERN_COUNT_WITNESS_PLAIN_DROPPED,
	POSTERN_COUNT_WOULD_TLS,
	POSTERN_COUNT_WOULD_DENY,
	POSTERN_COUNT_WOULD_HOLD,
	POSTERN_COUNT_LANE_JOINED,
	POSTERN_COUNT_LANE_REDIRECTED,
	POSTERN_COUNT_LANE_PASSED,
	POSTERN_COUNTERS,
};

/* helper_errors (HASH): every failed helper call, by site and errno. */
enum postern_helper_site {
	POSTERN_SITE_CONNECT_STORAGE = 1,
	POSTERN_SITE_CONNECT_LOOKUP,
	POSTERN_SITE_CONNECT_RETVAL,
	POSTERN_SITE_ATTEMPT_RING,
	POSTERN_SITE_ATTEMPT_FLAGS,
	POSTERN_SITE_ATTEMPT_TCP_SOCK,
	POSTERN_SITE_HOLD_LOAD,
	POSTERN_SITE_HOLD_RING,
	POSTERN_SITE_HOLD_LISTENER,
	POSTERN_SITE_GUARD_LOAD,
	POSTERN_SITE_WITNESS_LOAD,
	POSTERN_SITE_LANE_JOIN,
	POSTERN_SITE_LANE_TCP_SOCK,
	POSTERN_SITE_INBOUND_STORAGE,
	POSTERN_SITE_WITNESS_STORAGE,
	POSTERN_SITE_WOULD_UPDATE,
	POSTERN_SITES,
};
struct postern_helper_error {
	__u32 site;
	__u32 error; /* errno, positive */
};
_Static_assert(sizeof(struct postern_helper_error) == 8, "abi");

/*
 * trace_ring and trace_filter: what the programs tell of themselves while somebody looks (posternctl trace). Both
 * belong to one load of the programs and are not pinned: an agent reads what its own programs say, and a new one begins
 * with nothing asked for.
 */
enum postern_trace_place {
	POSTERN_TRACE_CONNECT = 1, /* intercept has decided a connect() */
	POSTERN_TRACE_ANNOUNCE,    /* G sends a SYN to the agent's listener, the first one or again */
	POSTERN_TRACE_SYN,         /* the listener's filter took it away, dropped it, or let it pass */
	POSTERN_TRACE_GUARD,       /* a packet of the gateway was dropped */
	POSTERN_TRACE_WITNESS,     /* a packet of B was dropped */
	POSTERN_TRACE_PLACES,
};

#define POSTERN_TRACE_BY_GATEWAY (1u << 0)
#define POSTERN_TRACE_BY_ADDRESS (1u << 1)
#define POSTERN_TRACE_BY_PORT    (1u << 2)
#define POSTERN_TRACE_BY_VERDICT (1u << 3)
struct postern_trace_filter {
	__u64 until_ns; /* CLOCK_MONOTONIC: until then somebody looks, if no agent dies; 0: nobody does */
	__u32 match;    /* POSTERN_TRACE_BY_*: all of these must be as below */
	__u32 gateway_id;
	struct postern_destination_key destination;
	__u32 verdicts; /* bit n: enum postern_verdict n */
};
_Static_assert(sizeof(struct postern_trace_filter) == 40, "abi");

struct postern_trace_record {
	__u64 time_ns;                              /* CLOCK_MONOTONIC */
	__u64 cookie;                               /* of G (of B: WITNESS); 0 where a program cannot tell */
	struct postern_tuple tuple;                 /* of G (of B), as far as known; zeros else */
	struct postern_destination_key destination; /* original; zeros: not known here (SYN) */
	__u32 place;                                /* enum postern_trace_place */
	__u32 gateway_id;
	__u32 verdict; /* enum postern_verdict; NONE where destination is not known */
	__u32 counter; /* enum postern_counter: what was counted */
	__s32 error;   /* negative errno: what connect() fails with, or a helper failed with; 0 */
};
_Static_assert(sizeof(struct postern_trace_record) == 96, "abi");

/* would_map (LRU_HASH): observe mode, per destination. */
struct postern_would_key {
	__u32 gateway_id;
	__u32 verdict;
	struct postern_destination_key destination;
};
_Static_assert(sizeof(struct postern_would_key) == 28, "abi");

#endif
