/* SPDX-License-Identifier: GPL-2.0-only */
#include "rows.h"

#include <string.h>

#include "agent_client.h"
#include "observe/json.h"
#include "posternctl.h"

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
