/* SPDX-License-Identifier: GPL-2.0-only */
/* The event loop, cgroups, the failures ring, the reasons' table and the log's quoting. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/cleanup.h"
#include "base/failures.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/reason.h"

/* ---- loop ---- */

struct order {
	struct loop_timer timer;
	struct loop *loop;
	char name;
	char *out;
};

static void append_name(struct loop_timer *timer)
{
	struct order *order = container_of(timer, struct order, timer);
	size_t length = strlen(order->out);

	order->out[length] = order->name;
	order->out[length + 1] = '\0';
}

static void test_timers_fire_in_order(void **state)
{
	static const struct {
		char name;
		uint64_t delay_ns;
		bool cancelled;
	} rows[] = {{'d', 4000000, false}, {'a', 0, false},      {'x', 1000000, true}, {'c', 3000000, false},
	            {'b', 2000000, false}, {'y', 5000000, true}, {'e', 6000000, false}};
	struct order orders[ARRAY_SIZE(rows)];
	struct loop *loop;
	char out[16] = "";

	(void)state;
	assert_int_equal(loop_new(&loop), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		orders[i] = (struct order){.timer.on_expire = append_name, .name = rows[i].name, .out = out};
		assert_int_equal(loop_timer_set(loop, &orders[i].timer, rows[i].delay_ns), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (rows[i].cancelled)
			loop_timer_cancel(loop, &orders[i].timer);
	}
	while (strlen(out) < 5)
		assert_int_equal(loop_step(loop, 1000), 0);
	assert_string_equal(out, "abcde");
	loop_free(loop);
}

/* Many timers, set and cancelled in a scrambled order: the heap must stay a heap. */
static void test_timer_heap(void **state)
{
	enum { COUNT = 500 };
	struct order orders[COUNT];
	struct loop *loop;
	char out[COUNT + 1] = "";
	unsigned int kept = 0;
	unsigned int random = 12345;

	(void)state;
	assert_int_equal(loop_new(&loop), 0);
	for (unsigned int i = 0; i < COUNT; i++) {
		random = random * 1103515245 + 12345;
		orders[i] = (struct order){.timer.on_expire = append_name, .name = '.', .out = out};
		assert_int_equal(loop_timer_set(loop, &orders[i].timer, random >> 8), 0);
	}
	for (unsigned int i = 0; i < COUNT; i++) {
		if (i % 3 == 0)
			loop_timer_cancel(loop, &orders[i].timer);
		else
			kept++;
	}
	for (unsigned int i = 0; i < COUNT; i += 5) {
		if (i % 3 != 0)
			assert_int_equal(loop_timer_set(loop, &orders[i].timer, 1000000), 0);
	}
	while (strlen(out) < kept)
		assert_int_equal(loop_step(loop, 1000), 0);
	for (unsigned int i = 0; i < COUNT; i++)
		assert_int_equal(orders[i].timer.heap_index, 0);
	loop_free(loop);
}

struct pair {
	struct loop_source mine;
	struct loop_source other;
	struct loop *loop;
	int calls;
};

static void remove_other(struct loop_source *source, uint32_t events)
{
	struct pair *pair = container_of(source, struct pair, mine);

	(void)events;
	pair->calls++;
	loop_remove(pair->loop, &pair->other);
	loop_remove(pair->loop, &pair->mine);
}

static void remove_mine(struct loop_source *source, uint32_t events)
{
	struct pair *pair = container_of(source, struct pair, other);

	(void)events;
	pair->calls++;
	loop_remove(pair->loop, &pair->mine);
	loop_remove(pair->loop, &pair->other);
}

/* Both are readable in one round; whoever comes first removes the other, which must not be called any more. */
static void test_removed_source_is_not_called(void **state)
{
	struct pair pair = {.mine.on_event = remove_other, .other.on_event = remove_mine};
	int first[2];
	int second[2];

	(void)state;
	assert_int_equal(pipe(first), 0);
	assert_int_equal(pipe(second), 0);
	assert_int_equal(loop_new(&pair.loop), 0);
	assert_int_equal(loop_add(pair.loop, &pair.mine, first[0], EPOLLIN), 0);
	assert_int_equal(loop_add(pair.loop, &pair.other, second[0], EPOLLIN), 0);
	assert_int_equal(write(first[1], "x", 1), 1);
	assert_int_equal(write(second[1], "x", 1), 1);
	assert_int_equal(loop_step(pair.loop, 1000), 0);
	assert_int_equal(pair.calls, 1);
	assert_int_equal(loop_step(pair.loop, 0), 0);
	assert_int_equal(pair.calls, 1);
	loop_free(pair.loop);
	for (int i = 0; i < 2; i++) {
		close(first[i]);
		close(second[i]);
	}
}

static void stop_loop(void *context)
{
	loop_stop(context);
}

static void *wake_from_thread(void *context)
{
	loop_wake(context);
	return NULL;
}

static void test_wake_from_another_thread(void **state)
{
	struct loop *loop;
	pthread_t thread;

	(void)state;
	assert_int_equal(loop_new(&loop), 0);
	loop_set_wake(loop, stop_loop, loop);
	assert_int_equal(pthread_create(&thread, NULL, wake_from_thread, loop), 0);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	loop_free(loop);
}

/* ---- cgroups ---- */

static void test_a_cgroup_with_processes(void **state)
{
	static const struct {
		const char *events; /* NULL: there is no such file */
		bool populated;
	} rows[] = {{"populated 1\nfrozen 0\n", true},
	            {"frozen 1\npopulated 1\n", true},
	            {"populated 0\nfrozen 1\n", false},
	            {"frozen 1\n", false},
	            {"populated", false},
	            {"", false},
	            {NULL, false}};
	char directory[] = "/tmp/postern-cgroup.XXXXXX", path[64];

	(void)state;
	assert_non_null(mkdtemp(directory));
	(void)snprintf(path, sizeof(path), "%s/cgroup.events", directory);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		FILE *file = rows[i].events ? fopen(path, "we") : NULL;

		if (file) {
			assert_true(fputs(rows[i].events, file) >= 0);
			assert_int_equal(fclose(file), 0);
		} else {
			assert_int_equal(unlink(path), 0);
		}
		if (cgroup_is_populated(directory) != rows[i].populated)
			fail_msg("cgroup.events \"%s\": expected populated %d, seen %d",
			         rows[i].events ? rows[i].events : "(none)", rows[i].populated, !rows[i].populated);
	}
	/* What cannot be read may have processes. */
	assert_int_equal(mkdir(path, 0700), 0);
	assert_true(cgroup_is_populated(directory));
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(directory), 0);
	assert_false(cgroup_is_populated(directory));
}

/* As the directory above lists it, which is what a cgroup file system gives for both. */
static uint64_t listed_inode(const char *directory, const char *name)
{
	DIR *opened = opendir(directory);
	uint64_t inode = 0;

	assert_non_null(opened);
	for (struct dirent *entry = readdir(opened); entry; entry = readdir(opened)) {
		if (strcmp(entry->d_name, name) == 0)
			inode = entry->d_ino;
	}
	assert_int_equal(closedir(opened), 0);
	assert_int_not_equal(inode, 0);
	return inode;
}

static void test_a_cgroup_by_its_id(void **state)
{
	static const char *const places[] = {"a", "a/b", "c", "c/d", "c/d/e"};
	char root[] = "/tmp/postern-cgroup.XXXXXX", path[128], above[128];

	(void)state;
	assert_non_null(mkdtemp(root));
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", root, places[i]);
		assert_int_equal(mkdir(path, 0700), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		_cleanup_free_ char *found = NULL;

		(void)snprintf(path, sizeof(path), "%s/%s", root, places[i]);
		(void)snprintf(above, sizeof(above), "%.*s", (int)(strrchr(path, '/') - path), path);
		found = cgroup_find(root, listed_inode(above, strrchr(path, '/') + 1));
		assert_string_equal(found, path);
	}
	assert_null(cgroup_find(root, 1));
	assert_int_equal(errno, ENOENT);
	for (size_t i = ARRAY_SIZE(places); i-- > 0;) {
		(void)snprintf(path, sizeof(path), "%s/%s", root, places[i]);
		assert_int_equal(rmdir(path), 0);
	}
	assert_int_equal(rmdir(root), 0);
	assert_null(cgroup_find(root, 1));
	assert_int_equal(errno, ENOENT);
}

/* ---- failures ---- */

static void test_failures_keep_the_newest(void **state)
{
	struct failures *failures = failures_new();
	struct failure *copies = calloc(FAILURES_KEPT, sizeof(*copies));

	(void)state;
	assert_non_null(failures);
	assert_non_null(copies);
	log_set_level(LOG_LEVEL_ERROR);
	for (unsigned int i = 0; i < FAILURES_KEPT + 10; i++) {
		struct failure failure = {.reason = REASON_BACKEND_REFUSED, .gateway_port = (uint16_t)i};

		failures_add(failures, &failure);
	}
	assert_int_equal(failures_copy(failures, copies, FAILURES_KEPT), FAILURES_KEPT);
	assert_int_equal(copies[0].gateway_port, FAILURES_KEPT + 9);
	assert_int_equal(copies[FAILURES_KEPT - 1].gateway_port, 10);
	assert_int_equal(failures_total(failures, REASON_BACKEND_REFUSED), FAILURES_KEPT + 10);
	failures_count(failures, REASON_ESCAPED);
	assert_int_equal(failures_total(failures, REASON_ESCAPED), 1);
	failures_count(failures, (enum postern_reason)9999);
	assert_int_equal(failures_total(failures, (enum postern_reason)9999), 0);
	failures_free(failures);
	free(copies);
}

/* ---- names ---- */

static void test_every_name_exists_once(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < REASON_COUNT; i++) {
		assert_non_null(reason_name(i));
		for (unsigned int j = 0; j < i; j++)
			assert_string_not_equal(reason_name(i), reason_name(j));
		if (i != REASON_NONE)
			assert_true(strlen(reason_remedy(i)) > 0);
	}
	for (unsigned int i = 0; i < POSTERN_COUNTERS; i++)
		assert_non_null(counter_name(i));
	for (unsigned int i = 1; i < POSTERN_SITES; i++)
		assert_non_null(helper_site_name(i));
	assert_null(counter_name(POSTERN_COUNTERS));
	assert_string_equal(reason_name((enum postern_reason)9999), "unknown");
}

static void test_quote(void **state)
{
	static const struct {
		const char *value;
		size_t size;
		const char *expected;
	} rows[] = {
	        {"plain", 64, "\"plain\""},
	        {"a \"b\" \\c", 64, "\"a \\\"b\\\" \\\\c\""},
	        {"line\nbreak", 64, "\"line\\x0abreak\""},
	        {"\x1b[31m", 64, "\"\\x1b[31m\""},
	        {"too long to fit", 10, "\"too \""},
	        {"x", 2, ""},
	};
	char buffer[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		log_quote(rows[i].value, buffer, rows[i].size);
		assert_string_equal(buffer, rows[i].expected);
	}
}

static void test_levels(void **state)
{
	enum log_level level;

	(void)state;
	assert_int_equal(log_parse_level("debug", &level), 0);
	assert_int_equal(level, LOG_LEVEL_DEBUG);
	assert_int_equal(log_parse_level("loud", &level), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_timers_fire_in_order),
	        cmocka_unit_test(test_timer_heap),
	        cmocka_unit_test(test_removed_source_is_not_called),
	        cmocka_unit_test(test_wake_from_another_thread),
	        cmocka_unit_test(test_a_cgroup_with_processes),
	        cmocka_unit_test(test_a_cgroup_by_its_id),
	        cmocka_unit_test(test_failures_keep_the_newest),
	        cmocka_unit_test(test_every_name_exists_once),
	        cmocka_unit_test(test_quote),
	        cmocka_unit_test(test_levels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
