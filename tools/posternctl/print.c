/* SPDX-License-Identifier: GPL-2.0-only */
#include "print.h"

#include <stdio.h>
#include <string.h>

#include "agent_client.h"
#include "base/cleanup.h"
#include "base/reason.h"
#include "terminal.h"

int print_json(const struct options *options, json_t *document)
{
	/* ASCII: JSON escapes control characters, but not U+009B, which some terminals obey, or U+202E. */
	int failed = document ? json_dumpf(document, stdout,
	                                   (options->watch ? JSON_COMPACT : JSON_INDENT(2)) | JSON_ENSURE_ASCII)
	                      : -1;

	putchar('\n');
	json_decref(document);
	return failed ? EXIT_WRONG : EXIT_FINE;
}

enum exit_status complain_of_agent(enum agent_answer answer, const char *reason, const char *after)
{
	_cleanup_free_ char *safe = terminal_safe(reason, NULL);

	if (answer == AGENT_REFUSED) {
		fprintf(stderr, "posternctl: %s%s\n", safe, after);
		return EXIT_WRONG;
	}
	fprintf(stderr, "posternctl: the agent %s: %s%s\n", answer == AGENT_DEAD ? "is not running" : "cannot be asked",
	        safe, after);
	if (answer == AGENT_DEAD)
		fprintf(stderr, "posternctl: remedy: " REMEDY_DEAD "\n");
	if (answer == AGENT_HUNG)
		fprintf(stderr, "posternctl: remedy: " REMEDY_HUNG "\n");
	return EXIT_DEAD;
}

enum exit_status ask_or_complain(const struct options *options, const char *command, json_type expected,
                                 json_t **answer)
{
	char reason[256];
	enum agent_answer result = agent_ask(options->run_dir, command, expected, answer, reason, sizeof(reason));
	_cleanup_free_ char *safe = NULL;

	if (result == AGENT_ANSWERED)
		return EXIT_FINE;
	safe = terminal_safe(reason, NULL);
	if (options->json)
		(void)print_json(options, json_pack("{s:s}", "error", safe));
	return complain_of_agent(result, reason, "");
}

const char *format_bytes(long long bytes, char text[static AMOUNT_TEXT_MAX])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double amount = (double)bytes;
	size_t unit = 0;

	while (amount >= 1024 && unit + 1 < ARRAY_SIZE(units)) {
		amount /= 1024;
		unit++;
	}
	(void)snprintf(text, AMOUNT_TEXT_MAX, unit ? "%.1f %s" : "%.0f %s", amount, units[unit]);
	return text;
}

const char *format_age(double seconds, char text[static AMOUNT_TEXT_MAX])
{
	unsigned long long whole = seconds > 0 && seconds < 1e15 ? (unsigned long long)seconds : 0;

	if (whole < 10)
		(void)snprintf(text, AMOUNT_TEXT_MAX, "%.1fs", seconds > 0 ? seconds : 0.0);
	else if (whole < 60)
		(void)snprintf(text, AMOUNT_TEXT_MAX, "%llus", whole);
	else if (whole < 3600)
		(void)snprintf(text, AMOUNT_TEXT_MAX, "%llum %llus", whole / 60, whole % 60);
	else if (whole < 86400)
		(void)snprintf(text, AMOUNT_TEXT_MAX, "%lluh %llum", whole / 3600, whole % 3600 / 60);
	else
		(void)snprintf(text, AMOUNT_TEXT_MAX, "%llud %lluh", whole / 86400, whole % 86400 / 3600);
	return text;
}

bool is_mode_reason(const char *reason)
{
	for (unsigned int i = 0; i < REASON_COUNT; i++) {
		if (strcmp(reason_name((enum postern_reason)i), reason) == 0)
			return reason_is_of_mode((enum postern_reason)i);
	}
	return false;
}

const char *remedy_of(const char *reason)
{
	for (unsigned int i = 0; i < REASON_COUNT; i++) {
		if (strcmp(reason_name((enum postern_reason)i), reason) == 0)
			return reason_remedy((enum postern_reason)i);
	}
	return "";
}
