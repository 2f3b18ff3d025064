// SPDX-License-Identifier: GPL-2.0-only
#include "policy/times.h"

#include <stddef.h>
#include <string.h>
#include <time.h>

static bool take_digits(const char **text, int count, int *value)
{
	*value = 0;
	for (int i = 0; i < count; i++, (*text)++) {
		if (**text < '0' || **text > '9')
			return false;
		*value = *value * 10 + (**text - '0');
	}
	return true;
}

static bool take_literal(const char **text, char literal)
{
	if (**text != literal)
		return false;
	(*text)++;
	return true;
}

/* [+-]hh:mm or Z, as seconds east of UTC. */
static bool take_offset(const char **text, int *seconds)
{
	int sign = **text == '-' ? -1 : 1;
	int hours, minutes;

	*seconds = 0;
	if (take_literal(text, 'Z') || take_literal(text, 'z'))
		return true;
	if (!take_literal(text, sign < 0 ? '-' : '+'))
		return false;
	if (!take_digits(text, 2, &hours) || !take_literal(text, ':') || !take_digits(text, 2, &minutes))
		return false;
	*seconds = sign * (hours * 3600 + minutes * 60);
	return hours < 24 && minutes < 60;
}

static bool skip_fraction(const char **text)
{
	size_t digits;

	if (!take_literal(text, '.'))
		return true;
	digits = strspn(*text, "0123456789");
	*text += digits;
	return digits > 0;
}

bool timestamp_parse(const char *text, int64_t *seconds)
{
	struct tm normal, time = {0};
	int leap_second, offset;

	if (!take_digits(&text, 4, &time.tm_year) || !take_literal(&text, '-') ||
	    !take_digits(&text, 2, &time.tm_mon) || !take_literal(&text, '-') || !take_digits(&text, 2, &time.tm_mday))
		return false;
	if (!take_literal(&text, 'T') && !take_literal(&text, 't'))
		return false;
	if (!take_digits(&text, 2, &time.tm_hour) || !take_literal(&text, ':') ||
	    !take_digits(&text, 2, &time.tm_min) || !take_literal(&text, ':') || !take_digits(&text, 2, &time.tm_sec))
		return false;
	if (!skip_fraction(&text) || !take_offset(&text, &offset) || *text)
		return false;
	if (time.tm_hour > 23 || time.tm_min > 59 || time.tm_sec > 60)
		return false;
	leap_second = time.tm_sec == 60;
	time.tm_sec -= leap_second;
	time.tm_year -= 1900;
	time.tm_mon -= 1;
	normal = time;
	*seconds = (int64_t)timegm(&normal) + leap_second - offset;
	/* timegm() turns 30 February into 2 March: what it changed was no date. */
	return normal.tm_mon == time.tm_mon && normal.tm_mday == time.tm_mday;
}

static const struct {
	const char *name; /* "ms" before "m", which is its prefix */
	unsigned int milliseconds;
} units[] = {{"ms", 1}, {"h", 3600 * 1000}, {"m", 60 * 1000}, {"s", 1000}};

static unsigned int take_unit(const char **text)
{
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t length = strlen(units[i].name);

		if (!strncmp(*text, units[i].name, length)) {
			*text += length;
			return units[i].milliseconds;
		}
	}
	return 0;
}

bool duration_parse(const char *text, unsigned int *milliseconds)
{
	uint64_t total = 0;
	int parts = 0;

	for (; *text && parts < 4; parts++) {
		size_t digits = strspn(text, "0123456789");
		unsigned int unit;
		int value;

		if (digits < 1 || digits > 5 || !take_digits(&text, (int)digits, &value))
			return false;
		unit = take_unit(&text);
		if (!unit)
			return false;
		total += (uint64_t)value * unit;
	}
	if (*text || !parts || total > DURATION_MAX_MS)
		return false;
	*milliseconds = (unsigned int)total;
	return true;
}
