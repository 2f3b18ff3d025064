/* SPDX-License-Identifier: GPL-2.0-only */
#include "base/reason.h"

#include <errno.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "postern/abi.h"

struct reason_text {
	const char *name;
	const char *remedy;
	enum reason_class class;
};

static const struct reason_text reasons[REASON_COUNT] = {
#define X(enumerator, name, class, remedy) [REASON_##enumerator] = {name, remedy, REASON_CLASS_##class},
        POSTERN_REASONS(X)
#undef X
};

static const char *const counters[POSTERN_COUNTERS] = {
        [POSTERN_COUNT_CONNECT_TLS] = "connect_tls",
        [POSTERN_COUNT_CONNECT_PLAIN] = "connect_plain",
        [POSTERN_COUNT_CONNECT_DENY] = "connect_deny",
        [POSTERN_COUNT_CONNECT_HOLD] = "connect_hold",
        [POSTERN_COUNT_CONNECT_MISS] = "connect_miss",
        [POSTERN_COUNT_REFUSED_NOT_READY] = "refused_not_ready",
        [POSTERN_COUNT_REFUSED_NO_AGENT] = "refused_no_agent",
        [POSTERN_COUNT_REFUSED_BOUND_DEVICE] = "refused_bound_device",
        [POSTERN_COUNT_REFUSED_STORAGE] = "refused_storage",
        [POSTERN_COUNT_RING_FULL] = "ring_full",
        [POSTERN_COUNT_SYN_HELD] = "syn_held",
        [POSTERN_COUNT_SYN_RELEASED] = "syn_released",
        [POSTERN_COUNT_SYN_UNPARSED] = "syn_unparsed",
        [POSTERN_COUNT_GUARD_SYN_DROPPED] = "guard_syn_dropped",
        [POSTERN_COUNT_GUARD_PAYLOAD_DROPPED] = "guard_payload_dropped",
        [POSTERN_COUNT_GUARD_UNPARSED_DROPPED] = "guard_unparsed_dropped",
        [POSTERN_COUNT_GUARD_PEER_LATE] = "guard_peer_late",
        [POSTERN_COUNT_WIRE_NOT_TLS] = "wire_not_tls",
        [POSTERN_COUNT_WITNESS_PLAIN_DROPPED] = "witness_plain_dropped",
        [POSTERN_COUNT_WOULD_TLS] = "would_tls",
        [POSTERN_COUNT_WOULD_DENY] = "would_deny",
        [POSTERN_COUNT_WOULD_HOLD] = "would_hold",
        [POSTERN_COUNT_LANE_JOINED] = "lane_joined",
        [POSTERN_COUNT_LANE_REDIRECTED] = "lane_redirected",
        [POSTERN_COUNT_LANE_PASSED] = "lane_passed",
};

static const char *const sites[POSTERN_SITES] = {
        [POSTERN_SITE_CONNECT_STORAGE] = "connect_storage",
        [POSTERN_SITE_CONNECT_LOOKUP] = "connect_lookup",
        [POSTERN_SITE_CONNECT_RETVAL] = "connect_retval",
        [POSTERN_SITE_ATTEMPT_RING] = "attempt_ring",
        [POSTERN_SITE_ATTEMPT_FLAGS] = "attempt_flags",
        [POSTERN_SITE_ATTEMPT_TCP_SOCK] = "attempt_tcp_sock",
        [POSTERN_SITE_HOLD_LOAD] = "hold_load",
        [POSTERN_SITE_HOLD_RING] = "hold_ring",
        [POSTERN_SITE_HOLD_LISTENER] = "hold_listener",
        [POSTERN_SITE_GUARD_LOAD] = "guard_load",
        [POSTERN_SITE_WITNESS_LOAD] = "witness_load",
        [POSTERN_SITE_LANE_JOIN] = "lane_join",
        [POSTERN_SITE_LANE_TCP_SOCK] = "lane_tcp_sock",
        [POSTERN_SITE_INBOUND_STORAGE] = "inbound_storage",
        [POSTERN_SITE_WITNESS_STORAGE] = "witness_storage",
        [POSTERN_SITE_WOULD_UPDATE] = "would_update",
};

static const struct reason_text *find(enum postern_reason reason)
{
	static const struct reason_text unknown = {"unknown", "", REASON_CLASS_LOCAL};

	if ((unsigned int)reason >= REASON_COUNT)
		return &unknown;
	return &reasons[reason];
}

const char *reason_name(enum postern_reason reason)
{
	return find(reason)->name;
}

const char *reason_remedy(enum postern_reason reason)
{
	return find(reason)->remedy;
}

enum reason_class reason_class(enum postern_reason reason)
{
	return find(reason)->class;
}

bool reason_is_of_mode(enum postern_reason reason)
{
	switch (reason) {
	case REASON_KTLS_UNAVAILABLE:
	case REASON_KTLS_UNPROVED:
	case REASON_KTLS_OFF:
	case REASON_KTLS_CIPHER:
	case REASON_TICKETS_PENDING:
		return true;
	default:
		return false;
	}
}

const char *reason_class_name(enum reason_class class)
{
	static const char *const names[] = {
	        [REASON_CLASS_LOCAL] = "local",
	        [REASON_CLASS_POLICY] = "policy",
	        [REASON_CLASS_PEER] = "peer",
	        [REASON_CLASS_KERNEL] = "kernel",
	};

	return (unsigned int)class < ARRAY_SIZE(names) ? names[class] : "unknown";
}

enum postern_reason reason_of_errno(int error, enum postern_reason otherwise)
{
	switch (error) {
	case EMFILE:
	case ENFILE:
		return REASON_NO_DESCRIPTORS;
	case ENOMEM:
	case ENOBUFS:
	case ENOSPC: /* epoll: fs.epoll.max_user_watches */
	case E2BIG:  /* a BPF map that is full */
		return REASON_NO_MEMORY;
	default:
		return otherwise;
	}
}

const char *counter_name(unsigned int counter)
{
	return counter < POSTERN_COUNTERS ? counters[counter] : NULL;
}

const char *helper_site_name(unsigned int site)
{
	return site < POSTERN_SITES ? sites[site] : NULL;
}
