/* SPDX-License-Identifier: GPL-2.0-only */
#include "config/config.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/version.h"
#include "config/setting.h"
#include "config/value.h"

/* The agent's ports must serve this many per worker: one port is 28k connections, and balance needs a choice. */
#define PORTS_PER_WORKER 2
#define NODE_PORT_FIRST  30000 /* kube-proxy's default range; gateway_namespace.c leaves it out, too */
#define NODE_PORT_LAST   32767

static int set_defaults(struct config *config, char *error, size_t error_size)
{
	for (size_t i = 0; i < setting_count; i++) {
		char reason[VALUE_ERROR_MAX];
		int result;

		if (!settings[i].fallback)
			continue;
		result = setting_set_text(&settings[i], config, settings[i].fallback, reason, sizeof(reason));
		if (result) {
			(void)snprintf(error, error_size, "default of %s: %s", settings[i].key, reason);
			return result;
		}
	}
	return 0;
}

static const struct setting *find_flag(const char *name, size_t length)
{
	for (size_t i = 0; i < setting_count; i++) {
		if (strlen(settings[i].flag) == length && strncmp(settings[i].flag, name, length) == 0)
			return &settings[i];
	}
	return NULL;
}

/* The flags that are no settings. */
struct invocation {
	enum config_action action;
	const char *file; /* --config */
};

struct command_line {
	int argc;
	const char *const *argv;
	int next;
	char *error;
	size_t error_size;
};

static int flag_error(const struct command_line *line, const char *argument, const char *reason)
{
	char shown[128];

	(void)snprintf(line->error, line->error_size, "command line: %s: %s", log_quote(argument, shown, sizeof(shown)),
	               reason);
	return -EINVAL;
}

static bool is_one_of(const char *argument, const char *short_form, const char *long_form)
{
	return strcmp(argument, short_form) == 0 || strcmp(argument, long_form) == 0;
}

/* "--name VALUE" or "--name=VALUE", whose name is of this length. NULL: there is none. */
static const char *take_value(struct command_line *line, const char *argument, size_t length)
{
	if (argument[2 + length] == '=')
		return argument + 2 + length + 1;
	return line->next < line->argc ? line->argv[line->next++] : NULL;
}

/* One flag with a value: --config, or a setting. */
static int read_flag(struct command_line *line, const char *argument, struct invocation *invocation,
                     struct config *config)
{
	size_t length = strcspn(argument + 2, "=");
	bool is_config = length == strlen("config") && strncmp(argument + 2, "config", length) == 0;
	const struct setting *setting = find_flag(argument + 2, length);
	char reason[VALUE_ERROR_MAX];
	const char *value;
	int result;

	if (!setting && !is_config)
		return flag_error(line, argument, "unknown flag; see --help");
	value = take_value(line, argument, length);
	if (!value)
		return flag_error(line, argument, "needs a value");
	if (is_config) {
		if (value[0] == '\0')
			return flag_error(line, argument, "needs the name of a file");
		invocation->file = value;
		return 0;
	}
	if (!config)
		return 0;
	result = setting_set_text(setting, config, value, reason, sizeof(reason));
	if (result == -EINVAL)
		(void)snprintf(line->error, line->error_size, "command line: --%s: %s", setting->flag, reason);
	return result;
}

/*
 * Reads the command line. With config NULL only the invocation is taken, since the file must be read before the flags
 * that override it.
 */
static int read_flags(struct command_line *line, struct invocation *invocation, struct config *config)
{
	for (line->next = 1; line->next < line->argc;) {
		const char *argument = line->argv[line->next++];
		int result;

		if (is_one_of(argument, "-h", "--help")) {
			invocation->action = CONFIG_HELP;
			return 0;
		}
		if (is_one_of(argument, "-V", "--version")) {
			invocation->action = CONFIG_VERSION;
			return 0;
		}
		if (strcmp(argument, "--check-config") == 0) {
			invocation->action = CONFIG_CHECK;
			continue;
		}
		if (strncmp(argument, "--", 2) != 0)
			return flag_error(line, argument, "is no flag; see --help");
		result = read_flag(line, argument, invocation, config);
		if (result)
			return result;
	}
	return 0;
}

/* Those of the range that a gateway may be given: kube-proxy would lead a NodePort elsewhere. */
static unsigned int usable_ports(const struct config_ports *ports)
{
	unsigned int count = 0;

	for (unsigned int port = ports->first; port <= ports->last; port++)
		count += port < NODE_PORT_FIRST || port > NODE_PORT_LAST;
	return count;
}

/* What no single setting can know. */
static int check_together(const struct config *config, char *error, size_t error_size)
{
	unsigned int workers = config_worker_count(config);
	unsigned int ports = usable_ports(&config->ports);

	if (ports < workers * PORTS_PER_WORKER) {
		(void)snprintf(error, error_size,
		               "ports: %u-%u are %u ports outside the NodePort range: %u workers need %u, two each",
		               config->ports.first, config->ports.last, ports, workers, workers * PORTS_PER_WORKER);
		return -EINVAL;
	}
	if (config->source == SOURCE_KUBERNETES && config->manifests[0]) {
		(void)snprintf(error, error_size, "manifests: there is one source, and it is kubernetes");
		return -EINVAL;
	}
	if (config->source == SOURCE_KUBERNETES && !config->node_name[0]) {
		(void)snprintf(error, error_size, "nodeName: is required with the source kubernetes");
		return -EINVAL;
	}
	if (config->agent_cgroup[0] == '\0')
		return 0;
	for (size_t i = 0; i < config->gateways.count; i++) {
		if (strcmp(config->gateways.at[i].cgroup, config->agent_cgroup) == 0) {
			(void)snprintf(error, error_size,
			               "agentCgroup: is the cgroup of gateway \"%s\": the agent's own connections "
			               "would come back to it",
			               config->gateways.at[i].name);
			return -EINVAL;
		}
	}
	return 0;
}

static int parse(int argc, const char *const argv[], struct config *config, char *error, size_t error_size)
{
	struct command_line line = {.argc = argc, .argv = argv, .error = error, .error_size = error_size};
	struct invocation invocation = {.action = CONFIG_RUN};
	int result = set_defaults(config, error, error_size);

	if (result)
		return result;
	result = read_flags(&line, &invocation, NULL);
	if (result || invocation.action == CONFIG_HELP || invocation.action == CONFIG_VERSION)
		return result ? result : (int)invocation.action;
	result = setting_read_file(config, invocation.file ? invocation.file : CONFIG_DEFAULT_FILE,
	                           invocation.file != NULL, error, error_size);
	if (!result)
		result = read_flags(&line, &invocation, config);
	if (!result)
		result = check_together(config, error, error_size);
	return result ? result : (int)invocation.action;
}

int config_parse(int argc, const char *const argv[], struct config *config, char *error, size_t error_size)
{
	int result;

	*config = (struct config){0};
	if (error_size)
		error[0] = '\0';
	result = parse(argc, argv, config, error, error_size);
	if (result == -ENOMEM)
		(void)snprintf(error, error_size, "out of memory");
	if (result < 0)
		config_free(config);
	return result;
}

void config_free(struct config *config)
{
	value_free_gateways(&config->gateways);
	free(config->cluster_cidrs.at);
	free(config->file);
	free(config->manifests);
	free(config->node_name);
	free(config->kubeconfig);
	free(config->host_proc);
	free(config->kubelet_cgroup_root);
	free(config->run_dir);
	free(config->bpffs);
	free(config->agent_cgroup);
	free(config->system_ca);
	*config = (struct config){0};
}

unsigned int config_worker_count(const struct config *config)
{
	cpu_set_t set;
	long count;

	if (config->workers)
		return config->workers;
	/* More than 1,024 CPUs do not fit the set: then all that are online. */
	count = sched_getaffinity(0, sizeof(set), &set) == -1 ? sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&set);
	if (count < 1)
		return 1;
	return count > POSTERN_MAX_WORKERS ? POSTERN_MAX_WORKERS : (unsigned int)count;
}

void config_print_help(FILE *stream)
{
	fprintf(stream,
	        "posternd %s: gives a gateway's connections the TLS that BackendTLSPolicy asks for, in the kernel\n\n"
	        "usage: posternd [FLAG [VALUE]]...\n\n"
	        "  --config FILE\n"
	        "      YAML file of settings; default %s, if it exists\n"
	        "  --check-config\n"
	        "      read configuration and manifests, say what is wrong, exit 0 or 2; needs no privileges\n"
	        "  --help, --version\n\n"
	        "Settings: each is a flag, and a key of the file. The command line wins; lists are added up.\n\n",
	        postern_version, CONFIG_DEFAULT_FILE);
	for (size_t i = 0; i < setting_count; i++) {
		const struct setting *setting = &settings[i];

		fprintf(stream, "  --%s %s\n      %s\n      file: %s", setting->flag, setting->placeholder,
		        setting->help, setting->key);
		if (setting->fallback && setting->fallback[0])
			fprintf(stream, "; default: %s", setting->fallback);
		fputc('\n', stream);
	}
}

const char *config_switch_name(enum switch_setting setting)
{
	switch (setting) {
	case SWITCH_AUTO:
		return "auto";
	case SWITCH_REQUIRE:
		return "require";
	case SWITCH_OFF:
		return "off";
	}
	return "unknown";
}
