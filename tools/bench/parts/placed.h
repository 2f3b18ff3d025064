/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * placed.h: a part of a measured connection as a process of its own: forked into a cgroup and a network namespace,
 * with a clock of the CPU time that it and the kernel on its behalf spent. On loopback the path of a packet runs in the
 * context of who sends it, so the sum over the parts is the sum over the connection. And what is made of repeats.
 *
 * Whatever goes wrong here ends the program: there is nothing to measure then.
 */
#ifndef POSTERN_BENCH_PLACED_H
#define POSTERN_BENCH_PLACED_H

#include <stddef.h>
#include <sys/types.h>

__attribute__((noreturn)) void give_up(const char *what);

/* `run` in a child; netns_fd -1: in this network namespace. The child ends with what it returns, or is taken away. */
pid_t place(const char *cgroup, int netns_fd, int (*run)(void *context), void *context);
void take_away(pid_t process);
/* Waits for its end. */
void await_end(pid_t process, const char *what);

/* User and system time so far, in nanoseconds. 0: this process. */
double cpu_ns(pid_t process);
/* Zeroed, and the same for parent and children. */
void *shared_memory(size_t size);

/* Sorts. `part`: 0.5 is the median. */
double quantile(double *values, size_t count, double part);
/* (largest - smallest) / smallest; sorts. */
double spread_of(double *values, size_t count);

#endif
