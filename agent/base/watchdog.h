/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * watchdog.h: ends the process when one of its loops hangs. Connects to a hung agent would wait for their own timers;
 * to a dead one they are refused at once, and a supervisor starts the next.
 *
 * A thread of its own wakes each loop a few times within its limit and expects it to begin another round. It counts its
 * own wake-ups and not the clock's time, and begins anew when it was itself away for long: a process that was stopped
 * (SIGSTOP, a suspended machine) did not hang. Before the end it says which thread hangs, in which system call, and has
 * that thread write where it is (return addresses, for addr2line).
 *
 * Any thread may call these, one at a time.
 */
#ifndef POSTERN_BASE_WATCHDOG_H
#define POSTERN_BASE_WATCHDOG_H

#include <pthread.h>
#include <stdint.h>

struct loop;
struct watchdog;

int watchdog_new(struct watchdog **watchdog);
/* A loop that runs. name is borrowed. Before watchdog_start(). 0 or -ENOMEM. */
int watchdog_add(struct watchdog *watchdog, const char *name, struct loop *loop, uint64_t limit_ns);
int watchdog_start(struct watchdog *watchdog);
/* Before any of its loops ends. NULL-safe. */
void watchdog_free(struct watchdog *watchdog);

#endif
