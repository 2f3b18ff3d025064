/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * service_manager.h: tells systemd (sd_notify(3), Type=notify) that the agent is up, so that gateways ordered after it
 * start when the hooks are on. Speaks the protocol itself: one datagram. Any thread.
 */
#ifndef POSTERN_BASE_SERVICE_MANAGER_H
#define POSTERN_BASE_SERVICE_MANAGER_H

#include <stdint.h>

/* state is e.g. "READY=1". 1 = told, 0 = nobody asked ($NOTIFY_SOCKET is not set), negative errno. */
int service_manager_notify(const char *state);
/*
 * How often "WATCHDOG=1" is expected at least ($WATCHDOG_USEC, in nanoseconds), for this process or for whoever is the
 * main one ($WATCHDOG_PID is not set); 0: not at all.
 */
uint64_t service_manager_watchdog_ns(void);

#endif
