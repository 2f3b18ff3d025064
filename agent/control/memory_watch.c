/* SPDX-License-Identifier: GPL-2.0-only */
#include "control/memory_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "datapath/worker.h"

#define PACE_NS      200000000ull
#define FAST_PACE_NS 20000000ull

/* ---- files of the kernel ---- */

/* The file's text, "" if it cannot be read. */
static const char *read_text(const char *directory, const char *name, char *text, size_t size)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -1;
	ssize_t got;

	text[0] = '\0';
	if (asprintf(&path, "%s/%s", directory, name) == -1) {
		path = NULL;
		return text;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	got = fd == -1 ? -1 : read(fd, text, size - 1);
	text[got > 0 ? got : 0] = '\0';
	return text;
}

/* "max", and what is no number, is 0: no limit. */
static uint64_t read_number(const char *directory, const char *name)
{
	char text[64];

	return strtoull(read_text(directory, name, text, sizeof(text)), NULL, 10);
}

/* The value of "KEY NUMBER" in memory.stat and the like; 0 if it is not there. */
static uint64_t number_of(const char *text, const char *key)
{
	size_t length = strlen(key);

	for (const char *line = text; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, length) == 0 && (line[length] == ' ' || line[length] == ':'))
			return strtoull(line + length + 1, NULL, 10);
	}
	return 0;
}

/* ---- what is used ---- */

static uint64_t used_of_cgroup(const struct memory_limit *limit)
{
	uint64_t current = read_number(limit->cgroup, "memory.current");
	char stat[8192];
	uint64_t cache;

	/* memory.stat costs the kernel a walk over its CPUs. */
	if (current < limit->budget / 2)
		return current;
	read_text(limit->cgroup, "memory.stat", stat, sizeof(stat));
	cache = number_of(stat, "active_file") + number_of(stat, "inactive_file");
	return current > cache ? current - cache : 0;
}

static uint64_t used_by_own_account(const struct memory_watch *watch)
{
	unsigned long long size = 0, resident = 0, shared = 0;
	uint64_t used = 0;
	char text[128];

	read_text("/proc/self", "statm", text, sizeof(text));
	if (sscanf(text, "%llu %llu %llu", &size, &resident, &shared) == 3 && resident > shared)
		used = (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
	for (unsigned int i = 0; i < watch->worker_count; i++) {
		struct worker_statistics statistics;

		worker_statistics(watch->workers[i], &statistics);
		used += statistics.socket_memory;
	}
	return used;
}

void memory_watch_measure(struct memory_watch *watch)
{
	uint64_t budget = watch->own_budget;
	uint64_t used = budget ? used_by_own_account(watch) : 0;

	for (size_t i = 0; i < watch->limit_count; i++) {
		const struct memory_limit *limit = &watch->limits[i];
		uint64_t by_this = used_of_cgroup(limit);

		/* The nearest: the one of which the greatest part is used. */
		if (budget == 0 || (double)by_this / (double)limit->budget > (double)used / (double)budget) {
			budget = limit->budget;
			used = by_this;
		}
	}
	memory_budget_measured(watch->budget, budget, used);
}

static void tell(struct memory_watch *watch)
{
	uint64_t used = atomic_load_explicit(&watch->budget->used, memory_order_relaxed);
	bool full = memory_budget_full(watch->budget);

	if (full == watch->told)
		return;
	watch->told = full;
	if (full)
		log_warning("memory budget is full",
		            "used=%" PRIu64 " budget=%" PRIu64 " source=\"%s\" effect=\"new connects are refused\"",
		            used, memory_budget_bytes(watch->budget), watch->source);
	else
		log_info("memory budget has room again", "used=%" PRIu64 " budget=%" PRIu64, used,
		         memory_budget_bytes(watch->budget));
}

static void on_pace(struct loop_timer *timer)
{
	struct memory_watch *watch = container_of(timer, struct memory_watch, timer);
	uint64_t used;

	memory_watch_measure(watch);
	tell(watch);
	used = atomic_load_explicit(&watch->budget->used, memory_order_relaxed);
	/* Its place in the heap is still there: this cannot fail. */
	(void)loop_timer_set(watch->loop, timer,
	                     used > memory_budget_bytes(watch->budget) / 2 ? FAST_PACE_NS : PACE_NS);
}

/* ---- where the limits are ---- */

static int add_limit(struct memory_watch *watch, const char *cgroup, uint64_t budget)
{
	struct memory_limit *limit = &watch->limits[watch->limit_count];

	limit->cgroup = strdup(cgroup);
	if (!limit->cgroup)
		return -ENOMEM;
	limit->budget = budget;
	watch->limit_count++;
	return 0;
}

/* The kernel's own count is better than ours, where there is one. */
static int add_own(struct memory_watch *watch, const char *cgroup, uint64_t budget)
{
	if (watch->limit_count < MEMORY_LIMITS_MAX && read_number(cgroup, "memory.current"))
		return add_limit(watch, cgroup, budget);
	watch->own_budget = budget;
	return 0;
}

static uint64_t three_quarters(uint64_t bytes)
{
	return bytes - bytes / 4;
}

/* Every cgroup from the agent's own up to the mount that has a limit. */
static int find_limits(struct memory_watch *watch, const char *cgroup, const char *mount)
{
	_cleanup_free_ char *path = strdup(cgroup);
	uint64_t tightest = 0;

	if (!path)
		return -ENOMEM;
	while (watch->limit_count < MEMORY_LIMITS_MAX && strlen(path) > strlen(mount)) {
		uint64_t maximum = read_number(path, "memory.max");
		char *slash = strrchr(path, '/');

		if (maximum) {
			if (add_limit(watch, path, three_quarters(maximum)) != 0)
				return -ENOMEM;
			if (!tightest || maximum < tightest)
				snprintf(watch->source, sizeof(watch->source), "memory.max of %.100s", path);
			tightest = tightest && tightest < maximum ? tightest : maximum;
		}
		*slash = '\0';
	}
	return 0;
}

static uint64_t machine_memory(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

int memory_watch_start(struct memory_watch *watch, struct loop *loop, const char *cgroup, const char *mount,
                       uint64_t setting, struct memory_budget *budget)
{
	int error = find_limits(watch, cgroup, mount);

	watch->loop = loop;
	watch->budget = budget;
	watch->timer.on_expire = on_pace;
	if (error)
		return error;
	if (setting) {
		snprintf(watch->source, sizeof(watch->source), "memoryBudget");
		error = add_own(watch, cgroup, setting);
	} else if (watch->limit_count == 0) {
		snprintf(watch->source, sizeof(watch->source), "the machine's memory");
		error = add_own(watch, cgroup, three_quarters(machine_memory()));
	}
	atomic_store_explicit(&budget->counts_sockets, watch->own_budget != 0, memory_order_relaxed);
	if (!error)
		error = loop_timer_set(loop, &watch->timer, PACE_NS);
	if (error)
		return error;
	memory_watch_measure(watch);
	log_info("memory budget", "bytes=%" PRIu64 " source=\"%s\"", memory_budget_bytes(budget), watch->source);
	return 0;
}

void memory_watch_workers(struct memory_watch *watch, struct worker *const *workers, unsigned int count)
{
	watch->workers = workers;
	watch->worker_count = count;
}

void memory_watch_stop(struct memory_watch *watch)
{
	if (watch->loop)
		loop_timer_cancel(watch->loop, &watch->timer);
	for (size_t i = 0; i < watch->limit_count; i++)
		free(watch->limits[i].cgroup);
	*watch = (struct memory_watch){0};
}
