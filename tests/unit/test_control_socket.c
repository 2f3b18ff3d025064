/* SPDX-License-Identifier: GPL-2.0-only */
/* The status socket: what it answers, and where it can be. Clients that are slow, silent or many: the file beside. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "control_socket_world.h"

static void file_modes(void **state)
{
	struct fixture *fixture = *state;
	struct stat status;

	assert_int_equal(stat(fixture->run_dir, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0755);
	assert_int_equal(stat(fixture->path, &status), 0);
	assert_true(S_ISSOCK(status.st_mode));
	assert_int_equal(status.st_mode & 07777, 0600);
}

static void answers_and_errors(void **state)
{
	static const struct {
		const char *bytes;
		size_t size;
		const char *answer;
		unsigned int commands; /* how often the handler may have been asked */
	} rows[] = {
	        {"status\n", 7, "{\"ready\":true}\n", 1},
	        {"status\nconnections\n", 19, "{\"ready\":true}\n", 1}, /* one command a connection */
	        {"nonsense\n", 9, "{\"error\":\"unknown command\"}\n", 1},
	        {"\n", 1, "{\"error\":\"unknown command\"}\n", 1},
	        {"status\r\n", 8, "{\"error\":\"a command is printable ASCII\"}\n", 0},
	        {"sta\0tus\n", 8, "{\"error\":\"a command is printable ASCII\"}\n", 0},
	        {"status\0\n", 8, "{\"error\":\"a command is printable ASCII\"}\n", 0},
	        {"\xff\xfe\n", 3, "{\"error\":\"a command is printable ASCII\"}\n", 0},
	        {"\x1b[2J\n", 5, "{\"error\":\"a command is printable ASCII\"}\n", 0},
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_close_ int fd = connect_client(fixture);

		fixture->commands = 0;
		send_all(fd, rows[i].bytes, rows[i].size);
		assert_answer(fixture, fd, rows[i].answer);
		if (fixture->commands != rows[i].commands)
			fail_msg("row %zu: expected %u commands, seen %u", i, rows[i].commands, fixture->commands);
	}
}

static void command_lengths(void **state)
{
	struct fixture *fixture = *state;
	char bytes[4096];

	memset(bytes, 'a', sizeof(bytes));
	for (size_t length = CONTROL_COMMAND_MAX - 1; length <= CONTROL_COMMAND_MAX + 2; length++) {
		_cleanup_close_ int fd = connect_client(fixture);

		fixture->commands = 0;
		send_all(fd, bytes, length);
		send_all(fd, "\n", 1);
		if (length <= CONTROL_COMMAND_MAX) {
			assert_answer(fixture, fd, "{\"error\":\"unknown command\"}\n");
			assert_int_equal(strlen(fixture->last_command), length);
		} else {
			assert_answer(fixture, fd, "{\"error\":\"the command is too long\"}\n");
			assert_int_equal(fixture->commands, 0);
		}
	}
	/* A flood without a line break. */
	{
		_cleanup_close_ int fd = connect_client(fixture);

		send_all(fd, bytes, sizeof(bytes));
		assert_answer(fixture, fd, "{\"error\":\"the command is too long\"}\n");
	}
}

static void one_byte_at_a_time(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_close_ int fd = connect_client(fixture);

	for (const char *byte = "status\n"; *byte; byte++) {
		send_all(fd, byte, 1);
		for (int i = 0; i < 3; i++)
			assert_int_equal(loop_step(fixture->loop, 0), 0);
	}
	assert_answer(fixture, fd, "{\"ready\":true}\n");
}

static void living_socket_is_not_replaced(void **state)
{
	struct fixture *fixture = *state;
	struct control_socket *second = NULL;
	char expected[160];
	char error[256];

	(void)snprintf(expected, sizeof(expected), "%s: another posternd listens there", fixture->path);
	assert_int_equal(open_socket(fixture, &second, error), -EADDRINUSE);
	assert_string_equal(error, expected);
	assert_null(second);
	assert_served(fixture);
}

static void stale_socket_is_replaced(void **state)
{
	struct fixture *fixture = *state;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char error[256];
	int dead;

	control_socket_close(fixture->socket);
	fixture->socket = NULL;
	assert_int_equal(access(fixture->path, F_OK), -1);
	/* What a killed agent leaves: a bound name that nobody listens on. */
	dead = socket(AF_UNIX, SOCK_STREAM, 0);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.107s", fixture->path);
	assert_int_equal(bind(dead, (struct sockaddr *)&address, sizeof(address)), 0);
	close(dead);
	if (open_socket(fixture, &fixture->socket, error))
		fail_msg("%s", error);
	assert_served(fixture);
}

static void other_files_are_not_replaced(void **state)
{
	struct fixture *fixture = *state;
	char expected[160];
	char error[256];
	int fd;

	control_socket_close(fixture->socket);
	fixture->socket = NULL;
	fd = open(fixture->path, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	(void)snprintf(expected, sizeof(expected), "%s: exists and is no socket", fixture->path);
	assert_int_equal(open_socket(fixture, &fixture->socket, error), -EADDRINUSE);
	assert_string_equal(error, expected);
	fixture->socket = NULL;
	assert_int_equal(unlink(fixture->path), 0);
}

/* Closing removes our own socket only: a successor's stays. */
static void a_successors_socket_stays(void **state)
{
	struct fixture *fixture = *state;
	struct control_socket *second = NULL;
	char error[256];

	assert_int_equal(unlink(fixture->path), 0);
	if (open_socket(fixture, &second, error))
		fail_msg("%s", error);
	control_socket_close(fixture->socket);
	fixture->socket = second;
	assert_served(fixture);
}

static void impossible_places(void **state)
{
	struct fixture *fixture = *state;
	struct control_socket *socket = NULL;
	char saved[sizeof(fixture->run_dir)];
	char long_path[201];
	struct control_socket_options options = {.answer = answer, .context = fixture};
	char error[256];

	(void)snprintf(saved, sizeof(saved), "%s", fixture->run_dir);
	(void)snprintf(fixture->run_dir, sizeof(fixture->run_dir), "%s", "/nonexistent/run");
	assert_int_equal(open_socket(fixture, &socket, error), -ENOENT);
	assert_non_null(strstr(error, "/nonexistent/run"));
	(void)snprintf(fixture->run_dir, sizeof(fixture->run_dir), "%s", "/proc/version");
	assert_int_equal(open_socket(fixture, &socket, error), -ENOTDIR);
	(void)snprintf(fixture->run_dir, sizeof(fixture->run_dir), "%s", saved);

	memset(long_path, 'a', sizeof(long_path) - 1);
	long_path[0] = '/';
	long_path[sizeof(long_path) - 1] = '\0';
	options.run_dir = long_path;
	assert_int_equal(control_socket_open(fixture->loop, &options, &socket, error, sizeof(error)), -ENAMETOOLONG);
	assert_non_null(strstr(error, "at most 107 bytes"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        CONTROL_TEST(file_modes),
	        CONTROL_TEST(answers_and_errors),
	        CONTROL_TEST(command_lengths),
	        CONTROL_TEST(one_byte_at_a_time),
	        CONTROL_TEST(living_socket_is_not_replaced),
	        CONTROL_TEST(stale_socket_is_replaced),
	        CONTROL_TEST(other_files_are_not_replaced),
	        CONTROL_TEST(a_successors_socket_stays),
	        CONTROL_TEST(impossible_places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
