/* SPDX-License-Identifier: GPL-2.0-only */
#include "base/watchdog.h"

#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/loop.h"

#define LOOPS_MAX     80
#define LOOKS         4u /* within the limit */
#define NS_PER_SECOND 1000000000ull
#define WHERE_SIGNAL  SIGUSR2
#define WHERE_DEPTH   32
#define WHERE_WAIT_MS 500

struct watched {
	const char *name;
	struct loop *loop;
	uint64_t limit_ns;
	uint64_t rounds;     /* when it last went on */
	unsigned int missed; /* looks since */
};

struct watchdog {
	struct watched loops[LOOPS_MAX];
	size_t count;
	uint64_t pace_ns;
	pthread_t thread;
	bool runs;
	bool ends;
	pthread_mutex_t lock;
	pthread_cond_t end;
};

/* In the thread that hangs. Writes addresses only, without memory of the heap; backtrace() was loaded at start. */
static void say_where(int number)
{
	void *addresses[WHERE_DEPTH];
	int error = errno;

	(void)number;
	backtrace_symbols_fd(addresses, backtrace(addresses, WHERE_DEPTH), STDERR_FILENO);
	errno = error;
}

/* One line of /proc/self/task/TID/NAME. */
static const char *task_text(pid_t thread, const char *name, char *text, size_t size)
{
	_cleanup_close_ int fd = -1;
	char path[64];
	ssize_t got;

	snprintf(path, sizeof(path), "/proc/self/task/%d/%s", thread, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	got = fd == -1 ? -1 : read(fd, text, size - 1);
	text[got > 0 ? got : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return text;
}

_Noreturn static void end(const struct watched *watched)
{
	pid_t thread = loop_thread(watched->loop);
	char call[128];
	char waits[64];

	log_error("thread hangs",
	          "thread=%s tid=%d seconds=%u syscall=\"%s\" kernel=\"%s\" effect=\"the agent ends: connects are "
	          "refused\"",
	          watched->name, thread, (unsigned int)(watched->limit_ns / NS_PER_SECOND),
	          task_text(thread, "syscall", call, sizeof(call)), task_text(thread, "wchan", waits, sizeof(waits)));
	if (thread > 0 && syscall(SYS_tgkill, getpid(), thread, WHERE_SIGNAL) == 0)
		(void)poll(NULL, 0, WHERE_WAIT_MS);
	abort();
}

static void begin_anew(struct watchdog *watchdog)
{
	for (size_t i = 0; i < watchdog->count; i++)
		watchdog->loops[i].missed = 0;
}

static void look(struct watchdog *watchdog)
{
	for (size_t i = 0; i < watchdog->count; i++) {
		struct watched *watched = &watchdog->loops[i];
		uint64_t rounds = loop_rounds(watched->loop);

		if (rounds != watched->rounds) {
			watched->rounds = rounds;
			watched->missed = 0;
		} else if (++watched->missed * watchdog->pace_ns >= watched->limit_ns) {
			end(watched);
		}
		/* A loop that sleeps has a round because of this. */
		loop_wake(watched->loop);
	}
}

static void *run(void *argument)
{
	struct watchdog *watchdog = argument;
	uint64_t before = monotonic_ns();

	pthread_mutex_lock(&watchdog->lock);
	while (!watchdog->ends) {
		uint64_t due = before + watchdog->pace_ns;
		const struct timespec until = {.tv_sec = (time_t)(due / NS_PER_SECOND),
		                               .tv_nsec = (long)(due % NS_PER_SECOND)};
		uint64_t now;

		if (pthread_cond_timedwait(&watchdog->end, &watchdog->lock, &until) == 0)
			continue;
		now = monotonic_ns();
		if (now - before > 2 * watchdog->pace_ns)
			begin_anew(watchdog);
		before = now;
		look(watchdog);
	}
	pthread_mutex_unlock(&watchdog->lock);
	return NULL;
}

int watchdog_new(struct watchdog **result)
{
	struct watchdog *watchdog = calloc(1, sizeof(*watchdog));
	pthread_condattr_t attributes;

	if (!watchdog)
		return -ENOMEM;
	watchdog->pace_ns = UINT64_MAX;
	pthread_mutex_init(&watchdog->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&watchdog->end, &attributes);
	pthread_condattr_destroy(&attributes);
	*result = watchdog;
	return 0;
}

int watchdog_add(struct watchdog *watchdog, const char *name, struct loop *loop, uint64_t limit_ns)
{
	if (watchdog->count == LOOPS_MAX)
		return -ENOMEM;
	watchdog->loops[watchdog->count++] = (struct watched){.name = name, .loop = loop, .limit_ns = limit_ns};
	if (limit_ns / LOOKS < watchdog->pace_ns)
		watchdog->pace_ns = limit_ns / LOOKS;
	return 0;
}

int watchdog_start(struct watchdog *watchdog)
{
	struct sigaction action = {.sa_handler = say_where, .sa_flags = SA_RESTART};
	void *first[1];
	sigset_t all;
	sigset_t before;
	int error;

	(void)backtrace(first, 1); /* it loads a library at its first call */
	if (sigaction(WHERE_SIGNAL, &action, NULL) == -1)
		return -errno;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = -pthread_create(&watchdog->thread, NULL, run, watchdog);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	watchdog->runs = error == 0;
	return error;
}

void watchdog_free(struct watchdog *watchdog)
{
	if (!watchdog)
		return;
	if (watchdog->runs) {
		pthread_mutex_lock(&watchdog->lock);
		watchdog->ends = true;
		pthread_cond_signal(&watchdog->end);
		pthread_mutex_unlock(&watchdog->lock);
		pthread_join(watchdog->thread, NULL);
	}
	pthread_cond_destroy(&watchdog->end);
	pthread_mutex_destroy(&watchdog->lock);
	free(watchdog);
}
