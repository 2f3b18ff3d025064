// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/service_manager.h"

/* A manager's socket by this name ('@' for the abstract namespace), which must get the state and nothing else. */
static void assert_told(const char *name)
{
	_cleanup_close_ int manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char text[64] = "";

	strcpy(address.sun_path, name);
	if (name[0] == '@')
		address.sun_path[0] = '\0';
	assert_int_equal(bind(manager, (struct sockaddr *)&address,
	                      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
	                 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
	assert_int_equal(service_manager_notify("READY=1"), 1);
	assert_int_equal(recv(manager, text, sizeof(text) - 1, MSG_DONTWAIT), strlen("READY=1"));
	assert_string_equal(text, "READY=1");
}

static void tells_the_manager(void **state)
{
	char path[64];
	char abstract[64];

	(void)state;
	(void)snprintf(path, sizeof(path), "/tmp/postern-test-notify-%d", (int)getpid());
	(void)snprintf(abstract, sizeof(abstract), "@postern-test-notify-%d", (int)getpid());
	assert_told(path);
	assert_int_equal(unlink(path), 0);
	assert_told(abstract);
}

static void nobody_asked_or_nonsense(void **state)
{
	char long_name[200];

	(void)state;
	memset(long_name, 'a', sizeof(long_name) - 1);
	long_name[0] = '/';
	long_name[sizeof(long_name) - 1] = '\0';
	unsetenv("NOTIFY_SOCKET");
	assert_int_equal(service_manager_notify("READY=1"), 0);
	setenv("NOTIFY_SOCKET", "", 1);
	assert_int_equal(service_manager_notify("READY=1"), 0);
	setenv("NOTIFY_SOCKET", "relative", 1);
	assert_int_equal(service_manager_notify("READY=1"), -EINVAL);
	setenv("NOTIFY_SOCKET", long_name, 1);
	assert_int_equal(service_manager_notify("READY=1"), -EINVAL);
	setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1);
	assert_int_equal(service_manager_notify("READY=1"), -ENOENT);
}

static void how_often_it_wants_to_hear(void **state)
{
	char own[32];
	const struct {
		const char *usec, *pid;
		uint64_t wanted;
	} rows[] = {
	        {NULL, NULL, 0},  {"", NULL, 0},        {"30000000", NULL, 30000000000},
	        {"1", own, 1000}, {"30000000", "1", 0}, {"30s", NULL, 0},
	        {"-1", NULL, 0},  {"30000000", "x", 0}, {"99999999999999999999", NULL, 0},
	        {" 5", NULL, 0},  {"0", NULL, 0},       {"18446744073709551615", NULL, 0},
	};

	(void)state;
	snprintf(own, sizeof(own), "%d", (int)getpid());
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		unsetenv("WATCHDOG_USEC");
		unsetenv("WATCHDOG_PID");
		if (rows[i].usec)
			setenv("WATCHDOG_USEC", rows[i].usec, 1);
		if (rows[i].pid)
			setenv("WATCHDOG_PID", rows[i].pid, 1);
		assert_int_equal(service_manager_watchdog_ns(), rows[i].wanted);
	}
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(tells_the_manager),
	        cmocka_unit_test(nobody_asked_or_nonsense),
	        cmocka_unit_test(how_often_it_wants_to_hear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
