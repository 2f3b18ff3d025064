// SPDX-License-Identifier: GPL-2.0-only
/*
 * test_source_tool KUBECONFIG NODE: the Kubernetes source and the compiler, without a datapath, for source.py. It says
 * what happens as lines of JSON and takes commands, a line each: current, addresses, status, quit.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/wiping.h"
#include "kubernetes/client.h"
#include "kubernetes/credentials.h"
#include "policy/compile.h"
#include "policy/snapshot.h"
#include "policy/store.h"
#include "source/kubernetes.h"
#include "tls/context.h"

struct tool {
	struct loop *loop;
	struct source *source;
	struct kubernetes_client *client;
	struct settings_registry *registry;
	struct compiler *compiler;
	struct snapshot *snapshot;
	struct loop_source commands;
	char line[4096];
	size_t length;
	unsigned int compiles;
};

static void say(json_t *event)
{
	_cleanup_free_ char *text = event ? json_dumps(event, JSON_COMPACT) : NULL;

	if (!text || printf("%s\n", text) < 0 || fflush(stdout) != 0)
		_exit(1);
	json_decref(event);
}

static size_t resident_kib(void)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/self/status", "re");
	char line[256];
	size_t size = 0;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "VmRSS: %zu", &size) == 1)
			break;
	return size;
}

static void refresh(struct tool *tool)
{
	struct object_name pods[100];
	struct snapshot *snapshot;

	if (!source_refresh(tool->source, false) || !source_synced(tool->source))
		return;
	if (compiler_run(tool->compiler, source_store(tool->source), monotonic_ns(), &snapshot) < 0)
		_exit(1);
	snapshot_unref(tool->snapshot);
	tool->snapshot = snapshot;
	tool->compiles++;
	source_want_pods(tool->source, pods, compiler_contested_pods(tool->compiler, pods, ARRAY_SIZE(pods)));
}

static json_t *describe_destination(const struct destination *destination)
{
	static const char *const verdicts[] = {
	        [POSTERN_VERDICT_TLS] = "TLS", [POSTERN_VERDICT_PLAIN] = "PLAIN", [POSTERN_VERDICT_DENY] = "DENY"};
	char text[DESTINATION_TEXT_MAX];

	return json_pack("{s:s,s:s}", "at", destination_format(&destination->key, text), "verdict",
	                 verdicts[destination->verdict]);
}

static json_t *describe_condition(const struct policy_condition *condition)
{
	return json_pack("{s:b,s:s,s:s}", "status", condition->status, "reason", condition->reason, "message",
	                 condition->message);
}

static json_t *destinations(const struct tool *tool)
{
	json_t *list = json_array();
	size_t count = tool->snapshot ? snapshot_destination_count(tool->snapshot) : 0;

	for (size_t i = 0; i < count && i < 50; i++)
		json_array_append_new(list, describe_destination(snapshot_destination_at(tool->snapshot, i)));
	return list;
}

static json_t *policies(const struct tool *tool)
{
	json_t *map = json_object();
	size_t count = tool->snapshot ? snapshot_policy_count(tool->snapshot) : 0;

	for (size_t i = 0; i < count && i < 50; i++) {
		const struct policy_status *status = snapshot_policy_at(tool->snapshot, i);
		char name[600];

		(void)snprintf(name, sizeof(name), "%s/%s", status->namespace_, status->name);
		json_object_set_new(map, name,
		                    json_pack("{s:o,s:o}", "accepted", describe_condition(&status->accepted),
		                              "resolved", describe_condition(&status->resolved_refs)));
	}
	return map;
}

static json_t *watches(const struct tool *tool)
{
	json_t *list = json_array();

	for (size_t i = 0; i < source_watch_count(tool->source); i++) {
		struct source_watch watch = source_watch_at(tool->source, i);

		json_array_append_new(list,
		                      json_pack("{s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:s}", "resource", watch.resource,
		                                "namespace", watch.namespace_, "name", watch.name, "state", watch.state,
		                                "objects", (json_int_t)watch.objects, "lists", (json_int_t)watch.lists,
		                                "events", (json_int_t)watch.events, "failures",
		                                (json_int_t)watch.failures, "error", watch.error));
	}
	return list;
}

static json_t *findings(const struct tool *tool)
{
	json_t *list = json_array();

	for (size_t i = 0; i < source_error_count(tool->source); i++) {
		const struct source_error *error = source_error_at(tool->source, i);

		json_array_append_new(list, json_pack("[s,s]", error->object, error->message));
	}
	return list;
}

static json_t *notes(const struct tool *tool)
{
	json_t *list = json_array();

	for (size_t i = 0; i < source_note_count(tool->source); i++)
		json_array_append_new(list, json_string(source_note_at(tool->source, i)));
	return list;
}

static json_t *counts(const struct tool *tool)
{
	json_t *map = json_object();

	for (enum object_kind kind = 0; kind < OBJECT_KINDS; kind++)
		json_object_set_new(map, object_kind_name(kind),
		                    json_integer((json_int_t)object_store_count(source_store(tool->source), kind)));
	return map;
}

static void say_status(const struct tool *tool, const char *event)
{
	const struct kubernetes_client_statistics *client = kubernetes_client_statistics(tool->client);

	say(json_pack("{s:s,s:b,s:b,s:I,s:I,s:o,s:o,s:o,s:o,s:o,s:o,s:I,s:I,s:I,s:s,s:I}", "event", event, "synced",
	              source_synced(tool->source), "in_order", source_in_order(tool->source), "compiles",
	              (json_int_t)tool->compiles, "destination_count",
	              (json_int_t)(tool->snapshot ? snapshot_destination_count(tool->snapshot) : 0), "destinations",
	              destinations(tool), "policies", policies(tool), "watches", watches(tool), "errors",
	              findings(tool), "notes", notes(tool), "counts", counts(tool), "rss_kib",
	              (json_int_t)resident_kib(), "connections", (json_int_t)client->connections, "bytes_read",
	              (json_int_t)client->bytes_read, "client_error", client->last_error, "cidrs",
	              (json_int_t)(tool->snapshot ? snapshot_cidr_count(tool->snapshot) : 0)));
}

static void on_changed(void *context)
{
	struct tool *tool = context;

	refresh(tool);
	say_status(tool, "changed");
}

static void on_current(void *context, uint64_t as_of_ns, enum source_scope scope)
{
	struct tool *tool = context;

	refresh(tool);
	/* as_of_ns is when the source asked; the command may have come before. */
	say(json_pack("{s:s,s:b,s:I,s:I,s:o}", "event", "current", "all", scope == SOURCE_ALL, "microseconds",
	              (json_int_t)((monotonic_ns() - as_of_ns) / 1000), "compiles", (json_int_t)tool->compiles,
	              "destinations", destinations(tool)));
}

static void obey(struct tool *tool, char *line)
{
	if (strcmp(line, "current") == 0)
		source_make_current(tool->source, monotonic_ns(), SOURCE_ALL);
	else if (strcmp(line, "addresses") == 0)
		source_make_current(tool->source, monotonic_ns(), SOURCE_ADDRESSES);
	else if (strcmp(line, "status") == 0)
		say_status(tool, "status");
	else
		loop_stop(tool->loop);
}

static void on_command(struct loop_source *source, uint32_t events)
{
	struct tool *tool = container_of(source, struct tool, commands);
	ssize_t got = read(source->fd, tool->line + tool->length, sizeof(tool->line) - tool->length - 1);
	char *end;

	(void)events;
	if (got <= 0) {
		loop_stop(tool->loop);
		return;
	}
	tool->length += (size_t)got;
	tool->line[tool->length] = '\0';
	while ((end = strchr(tool->line, '\n'))) {
		*end = '\0';
		obey(tool, tool->line);
		tool->length -= (size_t)(end + 1 - tool->line);
		memmove(tool->line, end + 1, tool->length + 1);
	}
}

static int run(struct tool *tool, struct kubernetes_credentials *credentials, const char *node)
{
	const struct compile_options options = {.registry = tool->registry};
	struct kubernetes_source_options source = {
	        .loop = tool->loop,
	        .node_name = node,
	        .events = {.changed = on_changed, .current = on_current, .context = tool},
	};
	int error = kubernetes_client_new(tool->loop, credentials, &tool->client);

	tool->compiler = compiler_new(&options);
	source.client = tool->client;
	tool->commands.on_event = on_command;
	if (!error)
		error = tool->compiler ? 0 : -ENOMEM;
	if (!error)
		error = loop_add(tool->loop, &tool->commands, STDIN_FILENO, EPOLLIN);
	if (!error)
		error = kubernetes_source_open(&source, &tool->source);
	if (!error)
		error = loop_run(tool->loop);
	source_close(tool->source);
	kubernetes_client_free(tool->client);
	compiler_free(tool->compiler);
	snapshot_unref(tool->snapshot);
	return error;
}

static bool is_directory(const char *path)
{
	struct stat status;

	return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

int main(int argc, char **argv)
{
	struct tool tool = {0};
	struct kubernetes_credentials *credentials;
	char error[256];
	int result;

	wiping_use_for_json();
	if (argc != 3 || tls_global_init() != 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return 2;
	if (getenv("POSTERN_LOG_LEVEL") && strcmp(getenv("POSTERN_LOG_LEVEL"), "debug") == 0)
		log_set_level(LOG_LEVEL_DEBUG);
	/* A directory is that of a service account. */
	if (kubernetes_credentials_open(is_directory(argv[1]) ? "" : argv[1], argv[1], &credentials, error,
	                                sizeof(error)) < 0) {
		fprintf(stderr, "%s\n", error);
		return 1;
	}
	tool.registry = settings_registry_new();
	if (!tool.registry || loop_new(&tool.loop) < 0)
		return 1;
	result = run(&tool, credentials, argv[2]);
	kubernetes_credentials_close(credentials);
	loop_free(tool.loop);
	settings_registry_free(tool.registry);
	return result == 0 ? 0 : 1;
}
