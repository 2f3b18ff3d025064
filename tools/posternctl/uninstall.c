/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent_client.h"
#include "base/cleanup.h"
#include "base/evidence.h"
#include "base/log.h"
#include "datapath/hooks.h"
#include "observe/control_socket.h"
#include "observe/json.h"
#include "posternctl.h"
#include "print.h"
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

static bool path_of(const char *run_dir, const char *name, char path[static PATH_MAX])
{
	int length = snprintf(path, PATH_MAX, "%s/%s", run_dir, name);

	return length > 0 && length < PATH_MAX;
}

/*
 * What a dead agent left in its run directory. The directory itself goes only if it is empty. The evidence is the
 * auditor's: who takes postern away does not thereby wipe out what it did.
 */
static void remove_run_files(const struct options *options)
{
	static const char *const names[] = {CONTROL_SOCKET_NAME, CONTROL_SOCKET_NAME ".lock"};
	static const char *const evidence[] = {EVIDENCE_FILE, EVIDENCE_FILE ".new"};
	char path[PATH_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (path_of(options->run_dir, names[i], path))
			(void)unlink(path);
	}
	for (size_t i = 0; options->purge && i < ARRAY_SIZE(evidence); i++) {
		if (path_of(options->run_dir, evidence[i], path))
			(void)unlink(path);
	}
	(void)rmdir(options->run_dir);
}

/* "": there is none. */
static const char *evidence_left(const struct options *options, char path[static PATH_MAX])
{
	return path_of(options->run_dir, EVIDENCE_FILE, path) && access(path, F_OK) == 0 ? path : "";
}

static int report(const struct options *options, int removed)
{
	char path[PATH_MAX];
	const char *evidence = evidence_left(options, path);

	if (options->json)
		return print_json(options, json_pack("{s:b, s:i, s:o}", "uninstalled", 1, "removed", removed,
		                                     "evidence", json_text(evidence)));
	if (removed)
		terminal_printf(COLOUR_NONE, "%d programs, links and maps removed from %s", removed, options->bpffs);
	else
		terminal_printf(COLOUR_NONE, "nothing is pinned in %s", options->bpffs);
	putchar('\n');
	puts("No gateway is intercepted any more: its connections go out as the gateway makes them, in plaintext.");
	if (evidence[0]) {
		terminal_printf(COLOUR_NONE, "What was counted for the auditor stays in %s (--purge removes it).",
		                evidence);
		putchar('\n');
	}
	return EXIT_FINE;
}

/* Whether an agent lives, and what is pinned, may be hidden from who is not root: then nothing is said of either. */
static bool lacks_rights(const struct options *options, char message[static 512])
{
	if (geteuid() == 0 || faccessat(AT_FDCWD, options->bpffs, R_OK | W_OK | X_OK, AT_EACCESS) == 0 ||
	    errno == ENOENT)
		return false;
	(void)snprintf(message, 512, "%.300s: %s (uninstall takes root): nothing was changed", options->bpffs,
	               strerror(errno));
	return true;
}

int command_uninstall(const struct options *options)
{
	char message[512];
	char reason[256];
	json_t *status = NULL;
	enum agent_answer agent;
	int removed;

	if (lacks_rights(options, message))
		return refuse(options, message);
	agent = agent_ask(options->run_dir, "status", JSON_OBJECT, &status, reason, sizeof(reason));
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
		(void)snprintf(message, sizeof(message), "%.300s: %s%s", options->bpffs, strerror(-removed),
		               removed == -EACCES || removed == -EPERM ? " (it takes root)" : "");
		return refuse(options, message);
	}
	if (agent == AGENT_DEAD)
		remove_run_files(options);
	return report(options, removed);
}

const char uninstall_help[] =
        "It takes away what fails closed for ever otherwise: hooks, links and maps, of every version, and a dead "
        "agent's\n"
        "socket. What was counted for the auditor (RUN_DIR/evidence.json) stays, unless you say --purge; under a live\n"
        "agent (--force) it stays in any case, since that agent writes it again.\n";
