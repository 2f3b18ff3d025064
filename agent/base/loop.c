/* SPDX-License-Identifier: GPL-2.0-only */
#include "base/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

#define EVENTS_PER_ROUND 256

struct loop {
	int epoll_fd;
	bool stopped;
	/* This round's events; loop_remove() takes a source out of those that are still to come. */
	struct epoll_event events[EVENTS_PER_ROUND];
	int event_count;
	int event_next;
	/* A binary heap, earliest first; heap_index of a timer is its place + 1, 0 = not in it. */
	struct loop_timer **timers;
	unsigned int timer_count;
	unsigned int timer_size;
	void **deferred;
	size_t deferred_count;
	size_t deferred_size;
	bool in_round;
	struct loop_source wake_source;
	void (*on_wake)(void *context);
	void *wake_context;
	void (*on_idle)(void *context);
	void *idle_context;
};

uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static void wake_event(struct loop_source *source, uint32_t events)
{
	struct loop *loop = container_of(source, struct loop, wake_source);
	uint64_t count;

	(void)events;
	if (read(source->fd, &count, sizeof(count)) == -1)
		return; /* EAGAIN: somebody read it already */
	if (loop->on_wake)
		loop->on_wake(loop->wake_context);
}

int loop_new(struct loop **result)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int fd;
	int error;

	if (!loop)
		return -ENOMEM;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd == -1) {
		error = -errno;
		free(loop);
		return error;
	}
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd == -1) {
		error = -errno;
		loop_free(loop);
		return error;
	}
	loop->wake_source.on_event = wake_event;
	error = loop_add(loop, &loop->wake_source, fd, EPOLLIN);
	if (error) {
		close(fd);
		loop_free(loop);
		return error;
	}
	*result = loop;
	return 0;
}

static void free_deferred(struct loop *loop)
{
	for (size_t i = 0; i < loop->deferred_count; i++)
		free(loop->deferred[i]);
	loop->deferred_count = 0;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	free_deferred(loop);
	free(loop->deferred);
	free(loop->timers);
	if (loop->wake_source.registered)
		close(loop->wake_source.fd);
	close(loop->epoll_fd);
	free(loop);
}

int loop_add(struct loop *loop, struct loop_source *source, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) == -1)
		return -errno;
	source->fd = fd;
	source->events = events;
	source->registered = true;
	return 0;
}

int loop_set_events(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	if (source->events == events)
		return 0;
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) == -1)
		return -errno;
	source->events = events;
	return 0;
}

void loop_remove(struct loop *loop, struct loop_source *source)
{
	if (!source->registered)
		return;
	/* Only a descriptor that was closed too early can fail here, and then epoll has forgotten it already. */
	(void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
	source->registered = false;
	for (int i = loop->event_next; i < loop->event_count; i++) {
		if (loop->events[i].data.ptr == source)
			loop->events[i].data.ptr = NULL;
	}
}

static void heap_place(struct loop *loop, unsigned int at, struct loop_timer *timer)
{
	loop->timers[at] = timer;
	timer->heap_index = at + 1;
}

static void heap_up(struct loop *loop, unsigned int at)
{
	struct loop_timer *timer = loop->timers[at];

	while (at > 0 && loop->timers[(at - 1) / 2]->due_ns > timer->due_ns) {
		heap_place(loop, at, loop->timers[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	heap_place(loop, at, timer);
}

static void heap_down(struct loop *loop, unsigned int at)
{
	struct loop_timer *timer = loop->timers[at];

	for (;;) {
		unsigned int child = 2 * at + 1;

		if (child >= loop->timer_count)
			break;
		if (child + 1 < loop->timer_count && loop->timers[child + 1]->due_ns < loop->timers[child]->due_ns)
			child++;
		if (loop->timers[child]->due_ns >= timer->due_ns)
			break;
		heap_place(loop, at, loop->timers[child]);
		at = child;
	}
	heap_place(loop, at, timer);
}

int loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t delay_ns)
{
	loop_timer_cancel(loop, timer);
	if (loop->timer_count == loop->timer_size) {
		unsigned int size = loop->timer_size ? 2 * loop->timer_size : 64;
		struct loop_timer **timers = realloc(loop->timers, size * sizeof(struct loop_timer *));

		if (!timers)
			return -ENOMEM;
		loop->timers = timers;
		loop->timer_size = size;
	}
	timer->due_ns = monotonic_ns() + delay_ns;
	loop->timers[loop->timer_count] = timer;
	heap_up(loop, loop->timer_count++);
	return 0;
}

void loop_timer_cancel(struct loop *loop, struct loop_timer *timer)
{
	unsigned int at;
	struct loop_timer *last;

	timer->due_ns = 0;
	if (timer->heap_index == 0)
		return;
	at = timer->heap_index - 1;
	timer->heap_index = 0;
	last = loop->timers[--loop->timer_count];
	if (last == timer)
		return;
	heap_place(loop, at, last);
	heap_up(loop, at);
	heap_down(loop, last->heap_index - 1);
}

void loop_defer_free(struct loop *loop, void *pointer)
{
	if (!loop->in_round) {
		free(pointer);
		return;
	}
	if (loop->deferred_count == loop->deferred_size) {
		size_t size = loop->deferred_size ? 2 * loop->deferred_size : 64;
		void **deferred = realloc(loop->deferred, size * sizeof(void *));

		if (!deferred)
			return; /* a leak is better than a use after free */
		loop->deferred = deferred;
		loop->deferred_size = size;
	}
	loop->deferred[loop->deferred_count++] = pointer;
}

void loop_set_idle(struct loop *loop, void (*on_idle)(void *context), void *context)
{
	loop->on_idle = on_idle;
	loop->idle_context = context;
}

void loop_set_wake(struct loop *loop, void (*on_wake)(void *context), void *context)
{
	loop->on_wake = on_wake;
	loop->wake_context = context;
}

void loop_wake(struct loop *loop)
{
	const uint64_t one = 1;

	/* EAGAIN means that the counter is full, i.e. the wake-up is already due. */
	if (write(loop->wake_source.fd, &one, sizeof(one)) == -1)
		return;
}

/* How long epoll may wait: until the earliest timer, rounded up so that it is really due then. */
static int wait_milliseconds(const struct loop *loop, int limit_ms)
{
	uint64_t now;
	uint64_t wait;

	if (loop->timer_count == 0)
		return limit_ms;
	now = monotonic_ns();
	if (loop->timers[0]->due_ns <= now)
		return 0;
	wait = (loop->timers[0]->due_ns - now + 999999) / 1000000;
	if (limit_ms >= 0 && wait > (uint64_t)limit_ms)
		return limit_ms;
	return wait > 3600000 ? 3600000 : (int)wait;
}

static void run_due_timers(struct loop *loop)
{
	uint64_t now = monotonic_ns();

	while (loop->timer_count && loop->timers[0]->due_ns <= now) {
		struct loop_timer *timer = loop->timers[0];

		loop_timer_cancel(loop, timer);
		timer->on_expire(timer);
	}
}

int loop_step(struct loop *loop, int timeout_ms)
{
	int count = epoll_wait(loop->epoll_fd, loop->events, EVENTS_PER_ROUND, wait_milliseconds(loop, timeout_ms));

	if (count == -1)
		return errno == EINTR ? 0 : -errno;
	loop->in_round = true;
	loop->event_count = count;
	for (loop->event_next = 0; loop->event_next < count;) {
		struct epoll_event *event = &loop->events[loop->event_next++];
		struct loop_source *source = event->data.ptr;

		if (source)
			source->on_event(source, event->events);
	}
	loop->event_count = 0;
	run_due_timers(loop);
	if (loop->on_idle)
		loop->on_idle(loop->idle_context);
	loop->in_round = false;
	free_deferred(loop);
	return 0;
}

int loop_run(struct loop *loop)
{
	loop->stopped = false;
	while (!loop->stopped) {
		int error = loop_step(loop, -1);

		if (error)
			return error;
	}
	return 0;
}

void loop_stop(struct loop *loop)
{
	loop->stopped = true;
}
