/* SPDX-License-Identifier: GPL-2.0-only */
#include "placed.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hooks_fixture.h"

void give_up(const char *what)
{
	perror(what);
	_exit(1);
}

pid_t place(const char *cgroup, int netns_fd, int (*run)(void *context), void *context)
{
	pid_t child;

	(void)fflush(stdout);
	child = fork();
	if (child == -1)
		give_up("fork");
	if (child)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	step_into(cgroup);
	if (netns_fd >= 0 && setns(netns_fd, CLONE_NEWNET) == -1)
		give_up("setns");
	_exit(run(context));
}

void take_away(pid_t process)
{
	kill(process, SIGKILL);
	waitpid(process, NULL, 0);
}

void await_end(pid_t process, const char *what)
{
	int status;

	if (waitpid(process, &status, 0) != process || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		fprintf(stderr, "%s failed\n", what);
		_exit(1);
	}
}

double cpu_ns(pid_t process)
{
	struct timespec time;
	clockid_t clock = CLOCK_PROCESS_CPUTIME_ID;

	if ((process && clock_getcpuclockid(process, &clock) != 0) || clock_gettime(clock, &time) == -1)
		give_up("the clock of a process");
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

void *shared_memory(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		give_up("mmap");
	return memory;
}

static int compare_numbers(const void *left, const void *right)
{
	double difference = *(const double *)left - *(const double *)right;

	return (difference > 0) - (difference < 0);
}

double quantile(double *values, size_t count, double part)
{
	qsort(values, count, sizeof(*values), compare_numbers);
	return values[(size_t)(part * (double)(count - 1))];
}

double spread_of(double *values, size_t count)
{
	double smallest = quantile(values, count, 0);

	return smallest > 0 ? (quantile(values, count, 1) - smallest) / smallest : 0;
}
