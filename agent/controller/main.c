/* SPDX-License-Identifier: GPL-2.0-only */
/* postern-controller: parse the command line, then hand over. Exit status: 0, 1 (it failed), 2 (bad arguments). */
#include <stdio.h>
#include <string.h>

#include "base/version.h"
#include "base/wiping.h"
#include "controller/controller.h"
#include "controller/options.h"
#include "tls/context.h"

int main(int argc, char **argv)
{
	struct controller_options options;
	char error[OPTIONS_ERROR_MAX];
	int result;

	wiping_use_for_json();
	result = controller_options_parse(argc, argv, &options, error, sizeof(error));
	if (result < 0) {
		fprintf(stderr, "postern-controller: %s\n", error);
		return 2;
	}
	if (result == OPTIONS_HELP) {
		controller_options_print_help(stdout);
		return 0;
	}
	if (result == OPTIONS_VERSION) {
		printf("postern-controller %s\n", postern_version);
		return 0;
	}
	result = tls_global_init();
	if (result < 0) {
		fprintf(stderr, "postern-controller: process set-up: %s\n", strerror(-result));
		return 1;
	}
	return controller_run(&options) == 0 ? 0 : 1;
}
