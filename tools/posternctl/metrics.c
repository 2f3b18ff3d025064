/* SPDX-License-Identifier: GPL-2.0-only */
/* posternctl metrics: what a scrape of /metrics would get (OpenMetrics), over the status socket: no port is needed. */
#include <stdio.h>
#include <string.h>

#include "agent_client.h"
#include "posternctl.h"
#include "print.h"

int command_metrics(const struct options *options)
{
	json_t *document = NULL;
	int status = ask_or_complain(options, "metrics", JSON_OBJECT, &document);

	if (status)
		return status;
	if (options->json)
		return print_json(options, document);
	fputs(text_of(document, "text"), stdout);
	json_decref(document);
	return EXIT_FINE;
}
