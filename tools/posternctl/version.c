/* SPDX-License-Identifier: GPL-2.0-only */
#include <jansson.h>
#include <stdio.h>

#include "base/version.h"
#include "posternctl.h"

int command_version(const struct options *options)
{
	json_t *document;

	if (!options->json) {
		printf("posternctl %s\n", postern_version);
		return EXIT_FINE;
	}
	document = json_pack("{s:s}", "version", postern_version);
	if (!document)
		return EXIT_WRONG;
	(void)json_dumpf(document, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(document);
	return EXIT_FINE;
}
