/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * --watch: a terminal is cleared before each page; elsewhere pages follow each other, and JSON documents are a line
 * each. It ends when nobody reads any more, or by a signal.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "posternctl.h"

#define DEFAULT_SECONDS 2.0
#define LEAST_SECONDS   0.1
#define MOST_SECONDS    86400.0

static struct timespec interval_of(const struct options *options)
{
	double seconds = options->watch_seconds ? strtod(options->watch_seconds, NULL) : DEFAULT_SECONDS;
	struct timespec interval;

	if (seconds < LEAST_SECONDS)
		seconds = LEAST_SECONDS;
	if (seconds > MOST_SECONDS)
		seconds = MOST_SECONDS;
	interval.tv_sec = (time_t)seconds;
	interval.tv_nsec = (long)((seconds - (double)interval.tv_sec) * 1e9);
	return interval;
}

bool wait_while_read(const struct timespec *interval)
{
	/* No event is asked for: a pipe that nobody reads any more says so in any case. */
	struct pollfd output = {.fd = STDOUT_FILENO};

	return fflush(stdout) != EOF && !ferror(stdout) && ppoll(&output, 1, interval, NULL) == 0;
}

bool watch_wait(const struct options *options)
{
	const struct timespec interval = interval_of(options);

	return wait_while_read(&interval);
}

int watch_command(const struct command *command, const struct options *options)
{
	bool terminal = isatty(STDOUT_FILENO) && !options->json;
	int status;

	for (;;) {
		if (terminal)
			fputs("\x1b[H\x1b[2J", stdout);
		status = command->run(options);
		if (status == EXIT_USAGE || !watch_wait(options))
			return status;
	}
}
