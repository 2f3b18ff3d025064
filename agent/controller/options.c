/* SPDX-License-Identifier: GPL-2.0-only */
#include "controller/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

struct argument {
	const char *name, *value_name, *help;
};

static const struct argument arguments[] = {
        {"--kubeconfig", "FILE", "talk to the API server that this file names (default: the pod's service account)"},
        {"--service-account", "DIR", "where token and ca.crt of the service account are"},
        {"--namespace", "NAME", "of the Lease and of the agents (default: POD_NAMESPACE, then the service account's)"},
        {"--lease", "NAME", "the Lease that the replicas share (default: postern-controller)"},
        {"--identity", "TEXT", "holder of the Lease (default: POD_NAME, then host name and chance)"},
        {"--agents", "SELECTOR", "label selector of the agents' Pods (default: app.kubernetes.io/name=posternd)"},
        {"--listen", "ADDRESS:PORT", "/metrics, /livez, /readyz and /status (default: [::]:9906; none: off)"},
        {"--system-ca", "FILE", "what wellKnownCACertificates: System is judged by"},
        {"--grace", "SECONDS", "how long a node may be without a ready agent before it is told (default: 30)"},
        {"--readiness-gate", "on|off",
         "write the condition postern.dev/enrolled of Pods whose spec.readinessGates names it (default: off)"},
        {"--startup-taint", "on|off",
         "take the taint postern.dev/not-ready from a node when its agent is ready (default: off)"},
        {"--agent-port", "PORT", "where agents tell who is enrolled, for the readiness gate (default: 9905)"},
        {"--log-level", "LEVEL", "error, warning, info or debug"},
};

void controller_options_print_help(FILE *file)
{
	fprintf(file,
	        "usage: postern-controller [--name value | --name=value]...\n\n"
	        "Writes the status of BackendTLSPolicies, and tells what is wrong with gateways, for the agents.\n\n");
	for (size_t i = 0; i < sizeof(arguments) / sizeof(arguments[0]); i++)
		fprintf(file, "  %s %s\n        %s\n", arguments[i].name, arguments[i].value_name, arguments[i].help);
	fprintf(file, "  --help, --version\n");
}

static const char *environment(const char *name)
{
	const char *value = getenv(name);

	return value ? value : "";
}

static int parse_seconds(const char *value, uint64_t *ns)
{
	char *end;
	unsigned long long seconds;

	errno = 0;
	seconds = strtoull(value, &end, 10);
	if (errno || *end || end == value || *value == '-' || seconds > 86400)
		return -EINVAL;
	*ns = seconds * 1000000000ull;
	return 0;
}

static int parse_switch(const char *value, bool *on)
{
	*on = !strcmp(value, "on");
	return *on || !strcmp(value, "off") ? 0 : -EINVAL;
}

static int parse_port(const char *value, uint16_t *port)
{
	char *end;
	unsigned long number = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || !number || number > UINT16_MAX)
		return -EINVAL;
	*port = (uint16_t)number;
	return 0;
}

static int set_argument(struct controller_options *options, const char *name, const char *value)
{
	const struct {
		const char *name;
		const char **text;
	} texts[] = {
	        {"--kubeconfig", &options->kubeconfig}, {"--service-account", &options->service_account},
	        {"--namespace", &options->namespace_},  {"--lease", &options->lease},
	        {"--identity", &options->identity},     {"--agents", &options->agents},
	        {"--listen", &options->listen},         {"--system-ca", &options->system_ca},
	};
	enum log_level level;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (!strcmp(texts[i].name, name)) {
			*texts[i].text = value;
			return *value ? 0 : -EINVAL;
		}
	if (!strcmp(name, "--grace"))
		return parse_seconds(value, &options->grace_ns);
	if (!strcmp(name, "--readiness-gate"))
		return parse_switch(value, &options->readiness_gate);
	if (!strcmp(name, "--startup-taint"))
		return parse_switch(value, &options->startup_taint);
	if (!strcmp(name, "--agent-port"))
		return parse_port(value, &options->agent_port);
	if (log_parse_level(value, &level) < 0)
		return -EINVAL;
	log_set_level(level);
	return 0;
}

/* The argument's own name, without a value behind "="; NULL: there is none like it. */
static const struct argument *find_argument(const char *text, const char **value)
{
	size_t length = strcspn(text, "=");

	*value = text[length] ? text + length + 1 : NULL;
	for (size_t i = 0; i < sizeof(arguments) / sizeof(arguments[0]); i++)
		if (strlen(arguments[i].name) == length && !strncmp(arguments[i].name, text, length))
			return &arguments[i];
	return NULL;
}

int controller_options_parse(int argc, char **argv, struct controller_options *options, char *error, size_t size)
{
	*options = (struct controller_options){
	        .kubeconfig = "",
	        .namespace_ = environment("POD_NAMESPACE"),
	        .lease = "postern-controller",
	        .identity = environment("POD_NAME"),
	        .agents = "app.kubernetes.io/name=posternd",
	        .listen = "[::]:9906",
	        .system_ca = "/etc/ssl/certs/ca-certificates.crt",
	        .grace_ns = 30000000000ull,
	        .agent_port = 9905,
	};
	for (int i = 1; i < argc; i++) {
		const struct argument *argument;
		const char *value;

		if (!strcmp(argv[i], "--help"))
			return OPTIONS_HELP;
		if (!strcmp(argv[i], "--version"))
			return OPTIONS_VERSION;
		argument = find_argument(argv[i], &value);
		if (!argument) {
			snprintf(error, size, "unknown argument \"%.64s\": see --help", argv[i]);
			return -EINVAL;
		}
		if (!value && ++i < argc)
			value = argv[i];
		if (!value || set_argument(options, argument->name, value) < 0) {
			snprintf(error, size, "%s: %s \"%.64s\" is not right: see --help", argument->name,
			         argument->value_name, value ? value : "");
			return -EINVAL;
		}
	}
	if (!strcmp(options->listen, "none"))
		options->listen = "";
	return OPTIONS_RUN;
}
