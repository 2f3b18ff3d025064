/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * options.h: the command line of postern-controller. There is no configuration file: a Deployment has arguments. Pure
 * but for the environment (POD_NAME, POD_NAMESPACE).
 */
#ifndef POSTERN_CONTROLLER_OPTIONS_H
#define POSTERN_CONTROLLER_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define OPTIONS_ERROR_MAX 256

enum controller_options_action {
	OPTIONS_RUN,
	OPTIONS_HELP,
	OPTIONS_VERSION,
};

struct controller_options {          /* all strings borrowed from argv, the environment or constants */
	const char *kubeconfig;      /* "": the service account of this pod */
	const char *service_account; /* directory of its files; NULL: the usual one */
	const char *namespace_;      /* of the Lease and the agents; "": that of the credentials */
	const char *lease;
	const char *identity; /* "": host name and chance */
	const char *agents;   /* label selector of the agents' Pods */
	const char *listen;   /* address:port of /metrics, /livez, /readyz and /status; "": none */
	const char *system_ca;
	uint64_t grace_ns;
	bool readiness_gate; /* write the condition postern.dev/enrolled of Pods that have this readiness gate */
	bool startup_taint;  /* take the taint postern.dev/not-ready from nodes whose agent is ready */
	uint16_t agent_port; /* where agents serve /enrolled */
};

/* An enum controller_options_action, or -EINVAL with a line that names the argument. */
int controller_options_parse(int argc, char **argv, struct controller_options *options, char *error, size_t size);
void controller_options_print_help(FILE *file);

#endif
