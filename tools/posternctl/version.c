/* SPDX-License-Identifier: GPL-2.0-only */
#include <jansson.h>
#include <stdio.h>

#include "base/version.h"
#include "posternctl.h"

/* Over a change of the ABI number an upgrade drains connections instead of handing them over. */
int command_version(const struct options *options)
{
	json_t *document;

	if (!options->json) {
		printf("posternctl %s (ABI %u)\n", postern_version, postern_abi_version);
		return EXIT_FINE;
	}
	document = json_pack("{s:s, s:I}", "version", postern_version, "abi", (json_int_t)postern_abi_version);
	if (!document)
		return EXIT_WRONG;
	(void)json_dumpf(document, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(document);
	return EXIT_FINE;
}
