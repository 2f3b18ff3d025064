/* SPDX-License-Identifier: GPL-2.0-only */
/* A loop that hangs ends the process; one that sleeps, or is busy, or was stopped with all the others, does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "base/watchdog.h"

#define LIMIT_MS 1500
#define LIMIT_NS (LIMIT_MS * 1000000ull)

struct scene {
	const char *what;
	void (*act)(struct loop_timer *timer); /* in the loop's thread */
	bool stopped;                          /* the whole process, for longer than the limit */
	int signal;                            /* that ends it; 0: it goes on */
};

struct timers {
	struct loop *loop;
	struct loop_timer act;
	struct loop_timer end;
};

static void hang(struct loop_timer *timer)
{
	(void)timer;
	for (;;)
		pause();
}

/* Rounds without rest. */
static void busy(struct loop_timer *timer)
{
	struct timers *timers = container_of(timer, struct timers, act);

	(void)loop_timer_set(timers->loop, timer, 0);
}

static void end(struct loop_timer *timer)
{
	loop_stop(container_of(timer, struct timers, end)->loop);
}

static void *run(void *loop)
{
	return loop_run(loop) == 0 ? loop : NULL;
}

_Noreturn static void child(const struct scene *scene)
{
	struct timers timers = {.act.on_expire = scene->act, .end.on_expire = end};
	struct watchdog *watchdog;
	pthread_t thread;

	if (!freopen("/dev/null", "w", stderr) || loop_new(&timers.loop) != 0 || watchdog_new(&watchdog) != 0 ||
	    watchdog_add(watchdog, "worker", timers.loop, LIMIT_NS) != 0)
		_exit(99);
	if (scene->act)
		(void)loop_timer_set(timers.loop, &timers.act, 1000000);
	(void)loop_timer_set(timers.loop, &timers.end, 4 * LIMIT_NS);
	if (watchdog_start(watchdog) != 0 || pthread_create(&thread, NULL, run, timers.loop) != 0)
		_exit(98);
	pthread_join(thread, NULL);
	watchdog_free(watchdog);
	loop_free(timers.loop);
	_exit(0);
}

static pid_t begin(const struct scene *scene)
{
	pid_t process = fork();

	assert_int_not_equal(process, -1);
	if (process == 0) {
		(void)signal(SIGABRT, SIG_DFL); /* a sanitizer has a handler of its own */
		child(scene);
	}
	return process;
}

/* All at a time: the limit is long, so that a loop which the machine keeps from the CPU is not taken for one that
 * hangs. */
static void only_what_hangs_is_ended(void **state)
{
	static const struct scene scenes[] = {
	        {"a loop that hangs", hang, false, SIGABRT},
	        {"a loop that sleeps", NULL, false, 0},
	        {"a loop that is busy", busy, false, 0},
	        {"a process that was stopped", NULL, true, 0},
	};
	pid_t processes[ARRAY_SIZE(scenes)];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(scenes); i++)
		processes[i] = begin(&scenes[i]);
	(void)poll(NULL, 0, LIMIT_MS * 2 / 3); /* looks were missed already, perhaps */
	for (size_t i = 0; i < ARRAY_SIZE(scenes); i++)
		if (scenes[i].stopped)
			kill(processes[i], SIGSTOP);
	(void)poll(NULL, 0, LIMIT_MS * 3);
	for (size_t i = 0; i < ARRAY_SIZE(scenes); i++)
		if (scenes[i].stopped)
			kill(processes[i], SIGCONT);
	for (size_t i = 0; i < ARRAY_SIZE(scenes); i++) {
		const struct scene *scene = &scenes[i];
		int status;

		assert_int_equal(waitpid(processes[i], &status, 0), processes[i]);
		if (scene->signal ? !WIFSIGNALED(status) || WTERMSIG(status) != scene->signal
		                  : !WIFEXITED(status) || WEXITSTATUS(status) != 0)
			fail_msg("%s: status 0x%x", scene->what, status);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(only_what_hangs_is_ended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
