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

#define MILLISECOND 1000000ull
#define HOUR        (3600ull * 1000 * MILLISECOND)

/* The agent's ports must serve this many per worker: one port is 28k connections, and balance needs a choice. */
#define PORTS_PER_WORKER 2

static const struct setting_choice coverages[] = {
        {"standard", COVERAGE_STANDARD},
        {"strict", COVERAGE_STRICT},
        {NULL, 0},
};
static const struct setting_choice switches[] = {
        {"auto", SWITCH_AUTO},
        {"off", SWITCH_OFF},
        {NULL, 0},
};
static const struct setting_choice log_levels[] = {
        {"error", LOG_LEVEL_ERROR},
        {"warning", LOG_LEVEL_WARNING},
        {"info", LOG_LEVEL_INFO},
        {"debug", LOG_LEVEL_DEBUG},
        {NULL, 0},
};

/* Each setting, once. A default is a text that goes through the same parser as the operator's. */
const struct setting settings[] = {
        {
                .flag = "manifests",
                .key = "manifests",
                .type = SETTING_PATH,
                .offset = offsetof(struct config, manifests),
                .may_be_empty = true,
                .fallback = "",
                .placeholder = "DIR",
                .help = "directory of Kubernetes manifests, watched",
        },
        {
                .flag = "gateway",
                .key = "gateways",
                .type = SETTING_GATEWAYS,
                .offset = offsetof(struct config, gateways),
                .placeholder = "NAME,cgroup=PATH[,netns=PATH][,mode=observe]",
                .help = "a gateway to serve; repeatable, adds to the file's",
        },
        {
                .flag = "cluster-cidr",
                .key = "clusterCIDRs",
                .type = SETTING_CIDRS,
                .offset = offsetof(struct config, cluster_cidrs),
                .placeholder = "CIDR",
                .help = "where Services and Pods have their addresses; repeatable, adds to the file's",
        },
        {
                .flag = "coverage",
                .key = "coverage",
                .type = SETTING_CHOICE,
                .offset = offsetof(struct config, coverage),
                .choices = coverages,
                .fallback = "standard",
                .placeholder = "standard|strict",
                .help = "strict: an unknown destination inside the cluster's CIDRs waits on every port",
        },
        {
                .flag = "workers",
                .key = "workers",
                .type = SETTING_NUMBER,
                .offset = offsetof(struct config, workers),
                .maximum = POSTERN_MAX_WORKERS,
                .fallback = "0",
                .placeholder = "N",
                .help = "worker threads; 0 = one per CPU",
        },
        {
                .flag = "ports",
                .key = "ports",
                .type = SETTING_PORTS,
                .offset = offsetof(struct config, ports),
                .fallback = "28100-28999",
                .placeholder = "FIRST-LAST",
                .help = "where the agent's loopback ports may lie, in each gateway's network namespace",
        },
        {
                .flag = "ktls",
                .key = "ktls",
                .type = SETTING_CHOICE,
                .offset = offsetof(struct config, ktls),
                .choices = switches,
                .fallback = "auto",
                .placeholder = "auto|off",
                .help = "off: TLS records are made in user space",
        },
        {
                .flag = "lane",
                .key = "lane",
                .type = SETTING_CHOICE,
                .offset = offsetof(struct config, lane),
                .choices = switches,
                .fallback = "auto",
                .placeholder = "auto|off",
                .help = "off: the gateway's bytes go through loopback TCP, never the sockmap lane",
        },
        {
                .flag = "splice",
                .key = "splice",
                .type = SETTING_CHOICE,
                .offset = offsetof(struct config, splice),
                .choices = switches,
                .fallback = "auto",
                .placeholder = "auto|off",
                .help = "off: every byte is copied, none spliced",
        },
        {
                .flag = "dial-timeout",
                .key = "dialTimeout",
                .type = SETTING_DURATION,
                .offset = offsetof(struct config, dial_timeout_ns),
                .minimum = MILLISECOND,
                .maximum = HOUR,
                .fallback = "30s",
                .placeholder = "DURATION",
                .help = "a backend's TCP answer; the gateway's own connect timeout comes first if it is shorter",
        },
        {
                .flag = "handshake-timeout",
                .key = "handshakeTimeout",
                .type = SETTING_DURATION,
                .offset = offsetof(struct config, handshake_timeout_ns),
                .minimum = MILLISECOND,
                .maximum = HOUR,
                .fallback = "10s",
                .placeholder = "DURATION",
                .help = "the TLS handshake with a backend",
        },
        {
                .flag = "tombstone",
                .key = "tombstone",
                .type = SETTING_DURATION,
                .offset = offsetof(struct config, tombstone_ns),
                .minimum = MILLISECOND,
                .maximum = 24 * HOUR,
                .fallback = "10m",
                .placeholder = "DURATION",
                .help = "how long a covered endpoint that vanished stays TLS",
        },
        {
                .flag = "max-connections",
                .key = "maxConnections",
                .type = SETTING_NUMBER,
                .offset = offsetof(struct config, max_connections),
                .minimum = 1,
                .maximum = 1u << 20,
                .fallback = "65536",
                .placeholder = "N",
                .help = "connections at a time, of all workers together",
        },
        {
                .flag = "max-handshakes",
                .key = "maxHandshakes",
                .type = SETTING_NUMBER,
                .offset = offsetof(struct config, max_handshakes),
                .minimum = 1,
                .maximum = 1u << 20,
                .fallback = "4096",
                .placeholder = "N",
                .help = "held connects (dial and handshake) at a time, of all workers together",
        },
        {
                .flag = "max-destinations",
                .key = "maxDestinations",
                .type = SETTING_NUMBER,
                .offset = offsetof(struct config, max_destinations),
                .minimum = 1,
                .maximum = 1u << 22,
                .fallback = "131072",
                .placeholder = "N",
                .help = "keys of the kernel's destination map when it is made; a pinned one keeps its size",
        },
        {
                .flag = "run-dir",
                .key = "runDir",
                .type = SETTING_PATH,
                .offset = offsetof(struct config, run_dir),
                .absolute = true,
                .fallback = "/run/postern",
                .placeholder = "DIR",
                .help = "where the status socket posternd.sock is made",
        },
        {
                .flag = "bpffs",
                .key = "bpffs",
                .type = SETTING_PATH,
                .offset = offsetof(struct config, bpffs),
                .absolute = true,
                .fallback = "/sys/fs/bpf/postern",
                .placeholder = "DIR",
                .help = "where programs, links and maps are pinned",
        },
        {
                .flag = "agent-cgroup",
                .key = "agentCgroup",
                .type = SETTING_PATH,
                .offset = offsetof(struct config, agent_cgroup),
                .absolute = true,
                .may_be_empty = true,
                .fallback = "",
                .placeholder = "PATH",
                .help = "the agent's own cgroup, which is never enrolled; empty = found at run time",
        },
        {
                .flag = "log-level",
                .key = "logLevel",
                .type = SETTING_CHOICE,
                .offset = offsetof(struct config, log_level),
                .choices = log_levels,
                .fallback = "info",
                .placeholder = "error|warning|info|debug",
                .help = "what is written to stderr",
        },
};
const size_t setting_count = ARRAY_SIZE(settings);

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

/* What no single setting can know. */
static int check_together(const struct config *config, char *error, size_t error_size)
{
	unsigned int workers = config_worker_count(config);
	unsigned int ports = (unsigned int)config->ports.last - config->ports.first + 1;

	if (ports < workers * PORTS_PER_WORKER) {
		(void)snprintf(error, error_size, "ports: %u-%u are %u ports: %u workers need %u, two each",
		               config->ports.first, config->ports.last, ports, workers, workers * PORTS_PER_WORKER);
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
	for (size_t i = 0; i < config->gateways.count; i++) {
		free(config->gateways.at[i].name);
		free(config->gateways.at[i].cgroup);
		free(config->gateways.at[i].netns);
	}
	free(config->gateways.at);
	free(config->cluster_cidrs.at);
	free(config->file);
	free(config->manifests);
	free(config->run_dir);
	free(config->bpffs);
	free(config->agent_cgroup);
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
