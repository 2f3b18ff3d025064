/* SPDX-License-Identifier: GPL-2.0-only */
#include "base/loop.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

#define EVENTS_PER_ROUND 256
/* A wait with a timeout starts and stops a timer of the kernel's: not worth it for what is due later than this. */
#define SOON_NS       UINT64_C(10000000)
#define NS_PER_SECOND UINT64_C(1000000000)

struct deferred {
	void (*release)(void *object);
	void *object;
};

struct loop {
	int epoll_fd;
	bool stopped;
	_Atomic uint64_t rounds; /* written by its own thread */
	_Atomic pid_t thread;
	/* This round's events; loop_remove() takes a source out of those that are still to come. */
	struct epoll_event events[EVENTS_PER_ROUND];
	int event_count;
	int event_next;
	/* A binary heap, earliest first; heap_index of a timer is its place + 1, 0 = not in it. */
	struct loop_timer **timers;
	unsigned int timer_count;
	unsigned int timer_size;
	struct loop_source late_source; /* the timerfd */
	uint64_t late_due_ns;           /* when it fires; 0 = not set. Perhaps before any timer is due, never after */
	uint64_t now_ns;                /* of this round; 0 = not asked for yet */
	struct deferred *deferred;
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

uint64_t loop_now_ns(struct loop *loop)
{
	if (loop->now_ns == 0)
		loop->now_ns = monotonic_ns();
	return loop->now_ns;
}

/* It did its work by ending the wait. */
static void late_event(struct loop_source *source, uint32_t events)
{
	struct loop *loop = container_of(source, struct loop, late_source);
	uint64_t count;

	(void)events;
	if (read(source->fd, &count, sizeof(count)) == -1)
		return; /* EAGAIN: it was set anew since */
	loop->late_due_ns = 0;
}

/* A source that is the loop's own; takes the descriptor. */
static int add_own(struct loop *loop, struct loop_source *source, int fd)
{
	int error;

	if (fd == -1)
		return -errno;
	error = loop_add(loop, source, fd, EPOLLIN);
	if (error)
		close(fd);
	return error;
}

int loop_new(struct loop **result)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int error;

	if (!loop)
		return -ENOMEM;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd == -1) {
		error = -errno;
		free(loop);
		return error;
	}
	loop->wake_source.on_event = wake_event;
	loop->late_source.on_event = late_event;
	error = add_own(loop, &loop->wake_source, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (!error)
		error = add_own(loop, &loop->late_source, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
	if (error) {
		loop_free(loop);
		return error;
	}
	*result = loop;
	return 0;
}

static void free_deferred(struct loop *loop)
{
	for (size_t i = 0; i < loop->deferred_count; i++)
		loop->deferred[i].release(loop->deferred[i].object);
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
	if (loop->late_source.registered)
		close(loop->late_source.fd);
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

/* Of this round, that are still to come. */
static void forget_events(struct loop *loop, const struct loop_source *source)
{
	for (int i = loop->event_next; i < loop->event_count; i++) {
		if (loop->events[i].data.ptr == source)
			loop->events[i].data.ptr = NULL;
	}
}

int loop_pass_on(struct loop *loop, struct loop_source *from, struct loop_source *to, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = to};

	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, from->fd, &event) == -1)
		return -errno;
	to->fd = from->fd;
	to->events = events;
	to->registered = true;
	from->registered = false;
	forget_events(loop, from);
	return 0;
}

void loop_remove(struct loop *loop, struct loop_source *source)
{
	if (!source->registered)
		return;
	/* Only a descriptor that was closed too early can fail here, and then epoll has forgotten it already. */
	(void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
	source->registered = false;
	forget_events(loop, source);
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

void loop_defer(struct loop *loop, void (*release)(void *object), void *object)
{
	if (!loop->in_round) {
		release(object);
		return;
	}
	if (loop->deferred_count == loop->deferred_size) {
		size_t size = loop->deferred_size ? 2 * loop->deferred_size : 64;
		struct deferred *deferred = realloc(loop->deferred, size * sizeof(*deferred));

		if (!deferred)
			return; /* a leak is better than a use after free */
		loop->deferred = deferred;
		loop->deferred_size = size;
	}
	loop->deferred[loop->deferred_count++] = (struct deferred){.release = release, .object = object};
}

void loop_defer_free(struct loop *loop, void *pointer)
{
	loop_defer(loop, free, pointer);
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

/* What the timerfd is set for already needs no timer of the wait's own, however soon it is. */
static bool late_ends_wait(const struct loop *loop, uint64_t due_ns)
{
	return loop->late_due_ns && loop->late_due_ns <= due_ns;
}

/* The timerfd fires no later than due_ns. False: it cannot be set. */
static bool set_late(struct loop *loop, uint64_t due_ns)
{
	const struct itimerspec when = {
	        .it_value = {.tv_sec = (time_t)(due_ns / NS_PER_SECOND), .tv_nsec = (long)(due_ns % NS_PER_SECOND)}};

	if (late_ends_wait(loop, due_ns))
		return true;
	if (timerfd_settime(loop->late_source.fd, TFD_TIMER_ABSTIME, &when, NULL) == -1)
		return false;
	loop->late_due_ns = due_ns;
	return true;
}

/* How long epoll may wait; NULL: for ever. */
static const struct timespec *wait_time(struct loop *loop, int limit_ms, struct timespec *time)
{
	uint64_t wait = limit_ms < 0 ? UINT64_MAX : (uint64_t)limit_ms * 1000000;
	uint64_t now, due;

	if (wait > 0 && loop->timer_count > 0) {
		now = loop_now_ns(loop);
		due = loop->timers[0]->due_ns;
		if (due <= now || (due - now <= SOON_NS && !late_ends_wait(loop, due)) || !set_late(loop, due)) {
			/* The round was long, perhaps. */
			now = monotonic_ns();
			due = due > now ? due - now : 0;
			if (wait > due)
				wait = due;
		}
	}
	if (wait == UINT64_MAX)
		return NULL;
	*time = (struct timespec){.tv_sec = (time_t)(wait / NS_PER_SECOND), .tv_nsec = (long)(wait % NS_PER_SECOND)};
	return time;
}

static void run_due_timers(struct loop *loop)
{
	while (loop->timer_count && loop->timers[0]->due_ns <= loop_now_ns(loop)) {
		struct loop_timer *timer = loop->timers[0];

		loop_timer_cancel(loop, timer);
		timer->on_expire(timer);
	}
}

uint64_t loop_rounds(const struct loop *loop)
{
	return atomic_load_explicit(&loop->rounds, memory_order_relaxed);
}

pid_t loop_thread(const struct loop *loop)
{
	return atomic_load_explicit(&loop->thread, memory_order_relaxed);
}

int loop_step(struct loop *loop, int timeout_ms)
{
	struct timespec time;
	int count = epoll_pwait2(loop->epoll_fd, loop->events, EVENTS_PER_ROUND, wait_time(loop, timeout_ms, &time),
	                         NULL);

	atomic_store_explicit(&loop->rounds, loop_rounds(loop) + 1, memory_order_relaxed);
	loop->now_ns = 0;
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
	atomic_store_explicit(&loop->thread, gettid(), memory_order_relaxed);
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
