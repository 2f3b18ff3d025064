/* SPDX-License-Identifier: GPL-2.0-only */
/* posternd: parse the command line, then hand over to the agent. Exit status: 0, 1 (it failed), 2 (bad configuration).
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/version.h"
#include "base/wiping.h"
#include "config/config.h"
#include "control/agent.h"
#include "control/check.h"
#include "tls/context.h"

int main(int argc, char **argv)
{
	char error[CONFIG_ERROR_MAX];
	struct config config;
	int status;
	int action;

	wiping_use_for_json();
	action = config_parse(argc, (const char *const *)argv, &config, error, sizeof(error));
	if (action < 0) {
		fprintf(stderr, "posternd: %s\n", error);
		return 2;
	}
	switch ((enum config_action)action) {
	case CONFIG_HELP:
		config_print_help(stdout);
		config_free(&config);
		return 0;
	case CONFIG_VERSION:
		printf("posternd %s\n", postern_version);
		config_free(&config);
		return 0;
	case CONFIG_CHECK:
		status = check_config(&config);
		config_free(&config);
		return status;
	case CONFIG_RUN:
		break;
	}
	log_set_level(config.log_level);
	log_set_format(config.log_format);
	status = tls_global_init();
	if (status) {
		fprintf(stderr, "posternd: process set-up: %s\n", strerror(-status));
		config_free(&config);
		return 1;
	}
	return agent_run(&config) == 0 ? 0 : 1;
}
