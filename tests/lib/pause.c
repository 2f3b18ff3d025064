/* SPDX-License-Identifier: GPL-2.0-only */
/* The sandbox's process of the tests' pods, as `pause` of Kubernetes: keeps the namespaces, and ends when it is told
 * to. */
#include <signal.h>
#include <unistd.h>

static void end(int number)
{
	(void)number;
	_exit(0);
}

int main(void)
{
	struct sigaction action = {.sa_handler = end};

	(void)sigaction(SIGTERM, &action, NULL);
	(void)sigaction(SIGINT, &action, NULL);
	for (;;)
		pause();
}
