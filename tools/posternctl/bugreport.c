/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * posternctl bugreport: one tar of what every command says, of what bpftool says, and of the machine. Nothing in it is
 * secret: no file is copied that could hold a key or a token (manifests, Secrets, the configuration), no map that holds
 * bytes of connections; certificates and CAs are what everybody on the wire sees. tests/e2e/bugreport.py proves it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent_client.h"
#include "base/cleanup.h"
#include "base/version.h"
#include "bpftool.h"
#include "posternctl.h"
#include "tar.h"
#include "terminal.h"

#define FILE_MAX ((size_t)4 << 20) /* of one that is copied */

static const char *const reported[] = {"status",   "connections", "failures", "policies", "destinations",
                                       "gateways", "certs",       "probe",    "metrics",  "log-level"};

static const char *const machine[] = {
        "/proc/version",
        "/proc/cmdline",
        "/proc/meminfo",
        "/proc/cpuinfo",
        "/proc/crypto",
        "/proc/modules",
        "/proc/mounts",
        "/proc/net/tls_stat",
        "/proc/net/sockstat",
        "/proc/net/netstat",
        "/proc/sys/net/ipv4/tcp_available_ulp",
        "/proc/sys/net/ipv4/ip_local_port_range",
        "/proc/sys/net/core/bpf_jit_enable",
        "/proc/sys/kernel/unprivileged_bpf_disabled",
        "/etc/os-release",
};

static const char *const of_agent[] = {"status", "limits", "cgroup", "cmdline", "mountinfo"};

static const char *const pinned[] = {"meta",     "cluster_cidrs", "runtime_config", "gateway_map",   "listener_map",
                                     "counters", "helper_errors", "would_map",      "lane_slot_map", "guarded_ports"};

struct report {
	const struct options *options;
	int fd;
	unsigned int files;
	int error; /* the first one */
};

static void add(struct report *report, const char *name, const void *data, size_t size)
{
	int error = tar_add(report->fd, name, data, size);

	if (error && !report->error)
		report->error = error;
	report->files++;
}

static void add_descriptor(struct report *report, const char *name, int fd)
{
	_cleanup_free_ char *data = malloc(FILE_MAX);
	size_t used = 0;

	while (data && used < FILE_MAX) {
		ssize_t got = read(fd, data + used, FILE_MAX - used);

		if (got <= 0)
			break;
		used += (size_t)got;
	}
	if (data && used)
		add(report, name, data, used);
}

/* What a command prints, its complaints included; it runs in a child, so that nothing of it ends this program. */
static void add_command(struct report *report, const struct command *command, bool json)
{
	struct options options = *report->options;
	_cleanup_close_ int output = memfd_create("posternctl", MFD_CLOEXEC);
	char name[96];
	pid_t child;

	options.json = json;
	options.operand_count = 0;
	if (output == -1)
		return;
	(void)fflush(NULL);
	child = fork();
	if (child == 0) {
		int status = EXIT_WRONG;

		if (dup2(output, STDOUT_FILENO) != -1 && dup2(output, STDERR_FILENO) != -1)
			status = command->run(&options);
		(void)fflush(NULL);
		_exit(status);
	}
	if (child > 0)
		(void)waitpid(child, NULL, 0);
	(void)lseek(output, 0, SEEK_SET);
	(void)snprintf(name, sizeof(name), "posternctl/%.60s.%s", command->name, json ? "json" : "txt");
	add_descriptor(report, name, output);
}

static void add_file(struct report *report, const char *name, const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		add_descriptor(report, name, fd);
}

static int add_to_array(void *context, const json_t *element)
{
	return json_array_append(context, (json_t *)element) == 0 ? 0 : -ENOMEM;
}

static void add_bpftool(struct report *report, const char *bpftool, const char *name, const char *const *words)
{
	char error[BPFTOOL_ERROR_MAX];
	json_t *array = json_array();
	_cleanup_free_ char *text = NULL;
	int result = array ? bpftool_run(bpftool, words, add_to_array, array, error) : -ENOMEM;

	if (result == 0)
		text = json_dumps(array, JSON_INDENT(1));
	add(report, name, text ? text : error, strlen(text ? text : error));
	json_decref(array);
}

static void add_kernel(struct report *report)
{
	static const char *const programs[] = {"prog", "show", NULL};
	static const char *const links[] = {"link", "show", NULL};
	static const char *const maps[] = {"map", "show", NULL};
	char bpftool[PATH_MAX];

	if (bpftool_find(report->options->bpftool, bpftool) != 0) {
		add(report, "bpftool/missing", "bpftool was not found\n", 22);
		return;
	}
	add_bpftool(report, bpftool, "bpftool/programs.json", programs);
	add_bpftool(report, bpftool, "bpftool/links.json", links);
	add_bpftool(report, bpftool, "bpftool/maps.json", maps);
	for (size_t i = 0; i < ARRAY_SIZE(pinned); i++) {
		char path[PATH_MAX];
		char name[96];
		const char *const words[] = {"map", "dump", "pinned", path, NULL};

		(void)snprintf(path, sizeof(path), "%.3900s/v%u/%s", report->options->bpffs, postern_abi_version,
		               pinned[i]);
		(void)snprintf(name, sizeof(name), "bpftool/%s.json", pinned[i]);
		if (access(path, F_OK) == 0)
			add_bpftool(report, bpftool, name, words);
	}
}

static void add_process(struct report *report)
{
	json_t *status = NULL;
	char error[256];

	if (agent_ask(report->options->run_dir, "status", JSON_OBJECT, &status, error, sizeof(error)) !=
	    AGENT_ANSWERED) {
		add(report, "agent/not-asked", error, strlen(error));
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(of_agent); i++) {
		char path[64];
		char name[64];

		(void)snprintf(path, sizeof(path), "/proc/%lld/%s", number_of(status, "pid"), of_agent[i]);
		(void)snprintf(name, sizeof(name), "agent/%s", of_agent[i]);
		add_file(report, name, path);
	}
	json_decref(status);
}

static void add_machine(struct report *report)
{
	for (size_t i = 0; i < ARRAY_SIZE(machine); i++) {
		char name[96];

		(void)snprintf(name, sizeof(name), "machine%.80s", machine[i]);
		add_file(report, name, machine[i]);
	}
}

/* One that hangs is waited for once, and not by each command. */
static void give_up_on_hung(const struct options *options)
{
	json_t *status = NULL;
	char error[256];

	if (agent_ask(options->run_dir, "status", JSON_OBJECT, &status, error, sizeof(error)) == AGENT_HUNG)
		agent_give_up(error);
	json_decref(status);
}

static void add_commands(struct report *report)
{
	for (size_t i = 0; i < ARRAY_SIZE(reported); i++) {
		const struct command *command = find_command(reported[i]);

		if (!command)
			continue;
		add_command(report, command, true);
		add_command(report, command, false);
	}
}

static void default_name(char name[static 96])
{
	time_t now = time(NULL);
	struct tm parts;

	(void)gmtime_r(&now, &parts);
	(void)strftime(name, 96, "postern-bugreport-%Y%m%dT%H%M%SZ.tar", &parts);
}

static int finish(const struct options *options, const struct report *report, const char *path)
{
	if (report->error) {
		fprintf(stderr, "posternctl: the report could not be written: %s\n", strerror(-report->error));
		return EXIT_WRONG;
	}
	if (strcmp(path, "-") == 0)
		return EXIT_FINE;
	if (options->json) {
		json_t *document = json_pack("{s:s, s:i}", "file", path, "files", (int)report->files);

		(void)json_dumpf(document, stdout, JSON_INDENT(2));
		json_decref(document);
	} else {
		terminal_printf(COLOUR_NONE, "%s: %u files. There are addresses and names in it, and no secrets.", path,
		                report->files);
	}
	putchar('\n');
	return EXIT_FINE;
}

int command_bugreport(const struct options *options)
{
	struct report report = {.options = options};
	char name[96];
	const char *path = options->output ? options->output : name;
	_cleanup_close_ int fd = -1;
	char line[128];

	default_name(name);
	fd = strcmp(path, "-") == 0 ? dup(STDOUT_FILENO)
	                            : open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd == -1) {
		_cleanup_free_ char *safe = terminal_safe(path, NULL);

		fprintf(stderr, "posternctl: %s: %s\n", safe, strerror(errno));
		return EXIT_WRONG;
	}
	report.fd = fd;
	(void)snprintf(line, sizeof(line), "posternctl %.100s\n", postern_version);
	add(&report, "version", line, strlen(line));
	give_up_on_hung(options);
	add_commands(&report);
	add_kernel(&report);
	add_process(&report);
	add_machine(&report);
	if (!report.error)
		report.error = tar_end(fd);
	return finish(options, &report, path);
}

const char bugreport_help[] =
        "It writes postern-bugreport-TIME.tar (or --output FILE, - for standard output) with what every command says,\n"
        "bpftool's view of programs, links and maps, and facts of the machine. It holds names, addresses and\n"
        "certificates; no keys, no tokens, nothing of Secrets, no manifests and no traffic.\n";
