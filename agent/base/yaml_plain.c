// SPDX-License-Identifier: GPL-2.0-only
#include "base/yaml_plain.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/wiping.h"

/* Three ways to write each word, and no other. */
static const struct {
	const char *word;
	enum yaml_plain_kind kind;
} words[] = {
        {"", YAML_PLAIN_NULL},
        {"~", YAML_PLAIN_NULL},
        {"null", YAML_PLAIN_NULL},
        {"Null", YAML_PLAIN_NULL},
        {"NULL", YAML_PLAIN_NULL},
        {"true", YAML_PLAIN_TRUE},
        {"True", YAML_PLAIN_TRUE},
        {"TRUE", YAML_PLAIN_TRUE},
        {"y", YAML_PLAIN_TRUE},
        {"Y", YAML_PLAIN_TRUE},
        {"yes", YAML_PLAIN_TRUE},
        {"Yes", YAML_PLAIN_TRUE},
        {"YES", YAML_PLAIN_TRUE},
        {"on", YAML_PLAIN_TRUE},
        {"On", YAML_PLAIN_TRUE},
        {"ON", YAML_PLAIN_TRUE},
        {"false", YAML_PLAIN_FALSE},
        {"False", YAML_PLAIN_FALSE},
        {"FALSE", YAML_PLAIN_FALSE},
        {"n", YAML_PLAIN_FALSE},
        {"N", YAML_PLAIN_FALSE},
        {"no", YAML_PLAIN_FALSE},
        {"No", YAML_PLAIN_FALSE},
        {"NO", YAML_PLAIN_FALSE},
        {"off", YAML_PLAIN_FALSE},
        {"Off", YAML_PLAIN_FALSE},
        {"OFF", YAML_PLAIN_FALSE},
        {".nan", YAML_PLAIN_NOT_FINITE},
        {".NaN", YAML_PLAIN_NOT_FINITE},
        {".NAN", YAML_PLAIN_NOT_FINITE},
        {".inf", YAML_PLAIN_NOT_FINITE},
        {".Inf", YAML_PLAIN_NOT_FINITE},
        {".INF", YAML_PLAIN_NOT_FINITE},
        {"+.inf", YAML_PLAIN_NOT_FINITE},
        {"+.Inf", YAML_PLAIN_NOT_FINITE},
        {"+.INF", YAML_PLAIN_NOT_FINITE},
        {"-.inf", YAML_PLAIN_NOT_FINITE},
        {"-.Inf", YAML_PLAIN_NOT_FINITE},
        {"-.INF", YAML_PLAIN_NOT_FINITE},
        {"<<", YAML_PLAIN_MERGE},
};

#define LONGEST_WORD 5

static const char *skip_digits(const char *text)
{
	return text + strspn(text, "0123456789");
}

static bool is_sign(char byte)
{
	return byte == '+' || byte == '-';
}

/* Nothing, or e, a sign perhaps, and digits up to the end. */
static bool is_exponent(const char *text)
{
	const char *digits;

	if (!*text)
		return true;
	if (*text != 'e' && *text != 'E')
		return false;
	digits = text + 1 + is_sign(text[1]);
	return digits[strspn(digits, "0123456789")] == '\0' && *digits;
}

/* JSON's grammar of reals: -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)? */
static bool is_json_real(const char *text)
{
	const char *first = text + (*text == '-'), *next = skip_digits(first);

	if (next == first || (*first == '0' && next - first > 1))
		return false;
	if (*next == '.') {
		if (skip_digits(next + 1) == next + 1)
			return false;
		next = skip_digits(next + 1);
	}
	return is_exponent(next);
}

/* [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)? */
static bool is_real(const char *text)
{
	const char *first = text + is_sign(*text), *next = skip_digits(first);

	if (*next == '.') {
		if (next == first && skip_digits(next + 1) == next + 1)
			return false;
		next = skip_digits(next + 1);
	} else if (next == first) {
		return false;
	}
	return is_exponent(next);
}

static int base_of(const char **digits)
{
	const char *text = *digits;

	if (text[0] != '0' || !text[1])
		return 10;
	*digits = text + 2;
	switch (text[1]) {
	case 'x':
	case 'X':
		return 16;
	case 'o':
	case 'O':
		return 8;
	case 'b':
	case 'B':
		return 2;
	default:
		*digits = text + 1;
		return 8;
	}
}

static bool are_digits(const char *text, int base)
{
	const char *const of_base = base == 16   ? "0123456789abcdefABCDEF"
	                            : base == 10 ? "0123456789"
	                            : base == 8  ? "01234567"
	                                         : "01";

	return *text && text[strspn(text, of_base)] == '\0';
}

/* True: it is an integer of 64 bits, with or without a sign. */
static bool take_integer(const char *text, struct yaml_plain *plain)
{
	bool negative = *text == '-', is_signed = is_sign(*text);
	const char *digits = text + is_signed;
	int base = base_of(&digits);
	unsigned long long size;

	if (!are_digits(digits, base))
		return false;
	errno = 0;
	size = strtoull(digits, NULL, base);
	if (errno == ERANGE || size > (unsigned long long)INT64_MAX + negative) {
		if (errno == ERANGE || is_signed)
			return false;
		plain->kind = YAML_PLAIN_REAL;
		plain->real = (double)size;
		return true;
	}
	plain->kind = YAML_PLAIN_INTEGER;
	plain->integer = (long long)(negative ? 0 - size : size);
	return true;
}

/* One that no double can hold stays text. */
static void take_real(const char *text, bool stays_real, struct yaml_plain *plain)
{
	double real = strtod(text, NULL);

	if (!isfinite(real))
		return;
	plain->kind = YAML_PLAIN_REAL;
	plain->real = real;
	if (stays_real || fabs(real) >= 9.2e18 || real != trunc(real))
		return;
	plain->kind = YAML_PLAIN_INTEGER;
	plain->integer = (long long)real;
}

static void take_number(const char *text, const char *written, struct yaml_plain *plain)
{
	if (!take_integer(text, plain) && is_real(text))
		take_real(text, is_json_real(written), plain);
}

/* As go-yaml wants it of what begins with a point; anywhere else it does not care. */
static bool are_underscores_between_digits(const char *text)
{
	for (const char *place = strchr(text, '_'); place; place = strchr(place + 1, '_'))
		if (place == text || skip_digits(place - 1) == place - 1 || skip_digits(place + 1) == place + 1)
			return false;
	return true;
}

static char *copy_without_underscores(const char *text)
{
	char *copy = strdup(text), *end = copy;

	if (!copy)
		return NULL;
	for (; *text; text++)
		if (*text != '_')
			*end++ = *text;
	*end = '\0';
	return copy;
}

int yaml_plain_resolve(const char *text, struct yaml_plain *plain)
{
	_cleanup_wiping_free_ char *copy = NULL;

	*plain = (struct yaml_plain){.kind = YAML_PLAIN_TEXT};
	for (size_t i = 0; i < ARRAY_SIZE(words) && strnlen(text, LONGEST_WORD + 1) <= LONGEST_WORD; i++) {
		if (strcmp(words[i].word, text) == 0) {
			plain->kind = words[i].kind;
			return 0;
		}
	}
	if (!strchr("+-.0123456789", *text) || (*text == '.' && !are_underscores_between_digits(text)))
		return 0;
	if (!strchr(text, '_')) {
		take_number(text, text, plain);
		return 0;
	}
	copy = copy_without_underscores(text);
	if (!copy)
		return -ENOMEM;
	take_number(copy, text, plain);
	return 0;
}
