/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * loop.h: one epoll loop with timers. Each thread (control, workers) has its own; nothing here is shared, except
 * loop_wake(), which any thread may call.
 *
 * Level-triggered. A source that is removed during a round is never called again in that round, even if its event was
 * already fetched; its memory may be freed in loop_defer_free() and loop_defer() only, which free at the end of the
 * round.
 */
#ifndef POSTERN_BASE_LOOP_H
#define POSTERN_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct loop;

struct loop_source {
	int fd;
	uint32_t events; /* EPOLLIN, EPOLLOUT...: what is asked for now */
	bool registered;
	void (*on_event)(struct loop_source *source, uint32_t events);
};

struct loop_timer {
	uint64_t due_ns; /* CLOCK_MONOTONIC; 0 = not armed */
	unsigned int heap_index;
	void (*on_expire)(struct loop_timer *timer);
};

int loop_new(struct loop **loop);
void loop_free(struct loop *loop);

/* 0 or negative errno. Asking for the same events again costs nothing. */
int loop_add(struct loop *loop, struct loop_source *source, int fd, uint32_t events);
int loop_set_events(struct loop *loop, struct loop_source *source, uint32_t events);
/* What `from` watched is `to`'s now, whose on_event is set. On failure nothing has changed. */
int loop_pass_on(struct loop *loop, struct loop_source *from, struct loop_source *to, uint32_t events);
void loop_remove(struct loop *loop, struct loop_source *source); /* does not close the descriptor; idempotent */

/*
 * Arm (or re-arm) to fire once, delay_ns from now; cancel is idempotent. -ENOMEM possible. Neither is a system call. A
 * timer that is due soon is waited for by epoll_pwait2(), to the microsecond; one that is due late by a timerfd that is
 * set once, so that timers of seconds cost nothing at each wait.
 */
int loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t delay_ns);
void loop_timer_cancel(struct loop *loop, struct loop_timer *timer);

/* release(object), or free(pointer), at the end of the current round (at once when no round runs). */
void loop_defer(struct loop *loop, void (*release)(void *object), void *object);
void loop_defer_free(struct loop *loop, void *pointer);

/* Called once at the end of each round, after all events: for work that is done when the relay has had its turn. */
void loop_set_idle(struct loop *loop, void (*on_idle)(void *context), void *context);

/* Another thread asks for on_wake to run in the loop's thread. Signal-safe. */
void loop_set_wake(struct loop *loop, void (*on_wake)(void *context), void *context);
void loop_wake(struct loop *loop);

/* Run until loop_stop(); loop_step() runs one round that waits at most timeout_ms (-1 = until something happens). */
int loop_run(struct loop *loop);
int loop_step(struct loop *loop, int timeout_ms);
void loop_stop(struct loop *loop);

/* For the watchdog, any thread: how many rounds have begun; the thread that loop_run() runs in, 0 before. */
uint64_t loop_rounds(const struct loop *loop);
pid_t loop_thread(const struct loop *loop);

uint64_t monotonic_ns(void);
/* The same, read once a round at most: for stamps on what is done at every event. */
uint64_t loop_now_ns(struct loop *loop);

#endif
