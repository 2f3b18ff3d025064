/* SPDX-License-Identifier: GPL-2.0-only */
/* Ring numbers of agents that live: each its own, and free when the process is gone, however it went. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control/worker_claim.h"
#include "postern/abi.h"

static char directory[64];

static int make_directory(void **state)
{
	(void)state;
	snprintf(directory, sizeof(directory), "/tmp/postern-claim-XXXXXX");
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	char path[96];

	(void)state;
	snprintf(path, sizeof(path), "%s/posternd.workers", directory);
	unlink(path);
	return rmdir(directory);
}

static void test_side_by_side(void **state)
{
	struct worker_claim first, second, third;

	(void)state;
	assert_int_equal(worker_claim(directory, 4, &first), 0);
	assert_int_equal(first.first, 0);
	assert_int_equal(first.count, 4);
	assert_int_equal(worker_claim_others(&first), 0);
	assert_int_equal(worker_claim(directory, 2, &second), 0);
	assert_int_equal(second.first, 4);
	assert_true(worker_claim_others(&first) == 0x30);
	assert_true(worker_claim_others(&second) == 0x0f);
	/* The first has ended: its numbers are the next one's, if they are enough. */
	worker_claim_release(&first);
	assert_true(worker_claim_others(&second) == 0);
	assert_int_equal(worker_claim(directory, 5, &third), 0);
	assert_int_equal(third.first, 6);
	worker_claim_release(&third);
	assert_int_equal(worker_claim(directory, 3, &third), 0);
	assert_int_equal(third.first, 0);
	worker_claim_release(&third);
	worker_claim_release(&second);
}

static void test_fewer_or_none(void **state)
{
	struct worker_claim first, second, third;

	(void)state;
	assert_int_equal(worker_claim(directory, POSTERN_MAX_RINGS - 2, &first), 0);
	assert_int_equal(worker_claim(directory, 8, &second), 0);
	assert_int_equal(second.count, 2);
	assert_int_equal(worker_claim(directory, 1, &third), -EBUSY);
	assert_int_equal(third.fd, -1);
	worker_claim_release(&second);
	worker_claim_release(&first);
}

static void test_killed(void **state)
{
	struct worker_claim claim;
	int ready[2];
	char byte;
	pid_t child;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		if (worker_claim(directory, 3, &claim) != 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		pause();
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(worker_claim(directory, 3, &claim), 0);
	assert_int_equal(claim.first, 3);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_true(worker_claim_others(&claim) == 0);
	worker_claim_release(&claim);
	close(ready[0]);
	close(ready[1]);
}

static void test_no_directory(void **state)
{
	struct worker_claim claim;

	(void)state;
	assert_int_equal(worker_claim("/proc/no/such", 1, &claim), -ENOENT);
	assert_int_equal(claim.fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_side_by_side),
	        cmocka_unit_test(test_fewer_or_none),
	        cmocka_unit_test(test_killed),
	        cmocka_unit_test(test_no_directory),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
