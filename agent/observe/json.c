/* SPDX-License-Identifier: GPL-2.0-only */
#include "observe/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/cleanup.h"

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD in UTF-8 */

json_t *json_text(const char *text)
{
	json_t *value = json_string(text ? text : "");
	_cleanup_free_ char *clean = NULL;
	char *end;

	if (value || !text)
		return value;
	/* Not UTF-8 (or out of memory: then the second try fails, too). Every byte that is not ASCII is replaced. */
	clean = malloc(strlen(text) * strlen(replacement) + 1);
	if (!clean)
		return NULL;
	end = clean;
	for (; *text; text++) {
		if ((unsigned char)*text < 0x80) {
			*end++ = *text;
		} else {
			memcpy(end, replacement, strlen(replacement));
			end += strlen(replacement);
		}
	}
	*end = '\0';
	return json_string(clean);
}

json_t *json_destination(const struct postern_destination_key *key)
{
	char text[DESTINATION_TEXT_MAX];

	return json_string(destination_format(key, text));
}

json_t *json_time(const struct timespec *time)
{
	struct tm parts;
	char text[64];

	if (!gmtime_r(&time->tv_sec, &parts))
		return json_string("");
	(void)snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ", parts.tm_year + 1900,
	               parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
	               time->tv_nsec / 1000000);
	return json_string(text);
}

json_t *json_seconds(uint64_t ns)
{
	const uint64_t milliseconds = ns / 1000000;

	return json_real((double)milliseconds / 1000.0);
}

json_t *json_errno(uint32_t error)
{
	const char *name = strerrorname_np((int)error);
	char number[16];

	if (name)
		return json_string(name);
	(void)snprintf(number, sizeof(number), "%u", error);
	return json_string(number);
}

void json_append(json_t **array, json_t *value)
{
	if (*array && json_array_append_new(*array, value) == 0)
		return;
	if (!*array)
		json_decref(value);
	json_decref(*array);
	*array = NULL;
}

void json_set(json_t **object, const char *key, json_t *value)
{
	if (*object && json_object_set_new(*object, key, value) == 0)
		return;
	if (!*object)
		json_decref(value);
	json_decref(*object);
	*object = NULL;
}
