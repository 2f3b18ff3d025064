/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent_client.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "datapath/hooks.h"
#include "observe/control_socket.h"
#include "posternctl.h"
#include "terminal.h"

static int refuse(const struct options *options, const char *message)
{
	_cleanup_free_ char *safe = terminal_safe(message, NULL);

	if (options->json) {
		json_t *document = json_pack("{s:b, s:i, s:s}", "uninstalled", 0, "removed", 0, "error", safe);

		if (document) {
			(void)json_dumpf(document, stdout, JSON_INDENT(2));
			putchar('\n');
			json_decref(document);
		}
	}
	fprintf(stderr, "posternctl: %s\n", safe);
	return EXIT_WRONG;
}

/* What a dead agent left in its run directory. The directory itself goes only if it is empty. */
static void remove_run_files(const char *run_dir)
{
	static const char *const names[] = {CONTROL_SOCKET_NAME, CONTROL_SOCKET_NAME ".lock"};
	char path[PATH_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		int length = snprintf(path, sizeof(path), "%s/%s", run_dir, names[i]);

		if (length > 0 && (size_t)length < sizeof(path))
			(void)unlink(path);
	}
	(void)rmdir(run_dir);
}

int command_uninstall(const struct options *options)
{
	char message[512];
	char reason[256];
	json_t *status = NULL;
	enum agent_answer agent = agent_ask(options->run_dir, "status", JSON_OBJECT, &status, reason, sizeof(reason));
	int removed;

	if (agent != AGENT_DEAD && !options->force) {
		if (agent == AGENT_ANSWERED)
			(void)snprintf(message, sizeof(message),
			               "the agent runs (pid %lld): stop it first, or use --force",
			               number_of(status, "pid"));
		else
			(void)snprintf(message, sizeof(message), "is the agent dead? %s. --force does it all the same",
			               reason);
		json_decref(status);
		return refuse(options, message);
	}
	json_decref(status);
	log_set_level(LOG_LEVEL_WARNING);
	removed = hooks_uninstall(options->bpffs);
	if (removed < 0) {
		(void)snprintf(message, sizeof(message), "%.300s: %s", options->bpffs, strerror(-removed));
		return refuse(options, message);
	}
	if (agent == AGENT_DEAD)
		remove_run_files(options->run_dir);
	if (options->json) {
		printf("{\"uninstalled\": true, \"removed\": %d}\n", removed);
		return EXIT_FINE;
	}
	if (removed)
		terminal_printf(COLOUR_NONE, "%d programs, links and maps removed from %s", removed, options->bpffs);
	else
		terminal_printf(COLOUR_NONE, "nothing is pinned in %s", options->bpffs);
	putchar('\n');
	puts("No gateway is intercepted any more: its connections go out as the gateway makes them, in plaintext.");
	return EXIT_FINE;
}
