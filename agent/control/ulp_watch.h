/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ulp_watch.h: the watchdog of B. Every ULP_WATCH_NS it compares for each connection what the agent believes about B
 * (who makes its records, with which version and cipher) with what the kernel says by inet_diag. What differs is an
 * incident: the connection is reset, with reason kernel_tls_mismatch, logged and counted. It also looks at the kernel's
 * count of records that did not authenticate (TlsDecryptError of /proc/net/tls_stat, for each namespace).
 *
 * A connection may change, or end, while the two are asked: only those are judged about which the worker said the same
 * before and after the kernel was asked. One that the kernel did not name at all is asked for once more, a second
 * later: its socket may have been closed by the peer, and the worker not have heard of it.
 *
 * Control thread. The kernel's dump is the same as the audit's (datapath/sweep.h): some milliseconds for a thousand
 * sockets.
 */
#ifndef POSTERN_CONTROL_ULP_WATCH_H
#define POSTERN_CONTROL_ULP_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"

struct agent;
struct backend_view;
struct ulp_info;

#define ULP_WATCH_NS       15000000000ull
#define ULP_WATCH_AGAIN_NS 1000000000ull
#define ULP_WATCH_SUSPECTS 1024 /* more are judged with the next turn */
#define ULP_WATCH_TEXT_MAX 192

struct ulp_watch_namespace { /* whose count of decrypt errors is known */
	uint64_t netns_cookie;
	uint64_t errors;
};

struct ulp_watch {
	struct agent *agent;
	struct loop_timer timer;
	uint64_t *suspects; /* cookies of the last turn's, sorted */
	size_t suspect_count;
	struct ulp_watch_namespace *namespaces;
	size_t namespace_count;
	uint64_t checks;
	uint64_t mismatches;
	uint64_t decrypt_errors; /* since the watch began */
};

/* 0 or -ENOMEM. */
int ulp_watch_start(struct agent *agent);
void ulp_watch_stop(struct agent *agent); /* idempotent */

/* Pure. seen NULL: the kernel names no socket with a ULP there. True: it is as believed; else why not. */
bool ulp_watch_compare(const struct backend_view *believed, const struct ulp_info *seen,
                       char text[static ULP_WATCH_TEXT_MAX]);
/* The value of a counter in the text of /proc/net/tls_stat; 0 if it is not there. Pure. */
uint64_t ulp_watch_stat(const char *text, const char *name);

#endif
