/* SPDX-License-Identifier: GPL-2.0-only */
#include "rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent_client.h"
#include "base/address.h"
#include "base/cleanup.h"
#include "base/reason.h"
#include "observe/json.h"
#include "posternctl.h"
#include "terminal.h"

bool name_fits(const char *wanted, const char *name)
{
	const char *slash = strrchr(name, '/');

	return !wanted || strcmp(wanted, name) == 0 || (slash && strcmp(wanted, slash + 1) == 0);
}

/* "[fd00::7]:443" and "10.96.0.7:443": the address without brackets, and ":443". */
static void split(const char *destination, const char **address, size_t *length, const char **port)
{
	const char *end = strrchr(destination, ':');

	*port = end ? end : "";
	*address = destination;
	*length = end ? (size_t)(end - destination) : strlen(destination);
	if (*length >= 2 && destination[0] == '[' && destination[*length - 1] == ']') {
		*address += 1;
		*length -= 2;
	}
}

bool destination_fits(const char *wanted, const char *destination)
{
	const char *address;
	const char *port;
	size_t length;
	size_t wanted_length;

	if (!wanted || strcmp(wanted, destination) == 0)
		return true;
	split(destination, &address, &length, &port);
	wanted_length = strlen(wanted);
	if (wanted[0] == '[' && wanted[wanted_length - 1] == ']') {
		wanted++;
		wanted_length -= 2;
	}
	return strcmp(wanted, port) == 0 || (wanted_length == length && strncmp(wanted, address, length) == 0);
}

static bool begins(const char *wanted, const char *text)
{
	return strncmp(text, wanted, strlen(wanted)) == 0;
}

static bool reason_fits(const char *wanted, const json_t *row)
{
	return !wanted || begins(wanted, text_of(row, "reason")) || begins(wanted, text_of(row, "mode_reason"));
}

static bool mode_fits(const char *wanted, const json_t *row)
{
	return !wanted || begins(wanted, text_of(row, "to_backend")) || begins(wanted, text_of(row, "to_gateway"));
}

bool row_wanted(const struct options *options, const json_t *row)
{
	return name_fits(options->gateway, text_of(row, "gateway")) &&
	       name_fits(options->policy, text_of(row, "policy")) &&
	       destination_fits(options->destination, text_of(row, "destination")) && mode_fits(options->mode, row) &&
	       reason_fits(options->reason, row);
}

json_t *rows_wanted(const struct options *options, json_t *rows)
{
	json_t *wanted = json_array();
	size_t index;
	json_t *row;

	json_array_foreach (rows, index, row) {
		if (row_wanted(options, row))
			json_append(&wanted, json_incref(row));
	}
	json_decref(rows);
	return wanted;
}

static bool is_port(const char *text)
{
	char *end;
	unsigned long port = strtoul(text, &end, 10);

	return text[0] >= '0' && text[0] <= '9' && !*end && port <= 65535;
}

static bool is_destination(const char *wanted)
{
	struct postern_address address;
	char text[ADDRESS_TEXT_MAX];
	const char *start;
	const char *port;
	size_t length;

	if (address_parse(wanted, &address) == 0)
		return true;
	split(wanted, &start, &length, &port);
	if (wanted[0] == '[' && wanted[strlen(wanted) - 1] == ']') { /* without a port: the last ':' is the address's */
		start = wanted + 1;
		length = strlen(wanted) - 2;
		port = "";
	}
	if (port[0] && !is_port(port + 1))
		return false;
	if (length == 0)
		return port[0];
	(void)snprintf(text, sizeof(text), "%.*s", (int)length, start);
	return address_parse(text, &address) == 0;
}

static bool is_reason(const char *wanted)
{
	for (unsigned int i = REASON_NONE + 1; i < REASON_COUNT; i++)
		if (begins(wanted, reason_name((enum postern_reason)i)))
			return true;
	return false;
}

bool filters_make_sense(const struct options *options)
{
	const char *wrong = NULL;
	_cleanup_free_ char *safe = NULL;

	if (options->destination && !is_destination(options->destination)) {
		safe = terminal_safe(options->destination, NULL);
		wrong = "is no ADDRESS[:PORT] and no :PORT";
	} else if (options->reason && !is_reason(options->reason)) {
		safe = terminal_safe(options->reason, NULL);
		wrong = "is no reason, and none begins so; those that happened: posternctl status";
	}
	if (wrong)
		fprintf(stderr, "posternctl: \"%s\" %s\n", safe, wrong);
	return !wrong;
}

const char *none_text(const char *none, size_t before, char text[static NONE_TEXT_MAX])
{
	if (before == 0)
		return none;
	(void)snprintf(text, NONE_TEXT_MAX, "%.60s that fits, of %zu", none, before);
	return text;
}
