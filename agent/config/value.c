/* SPDX-License-Identifier: GPL-2.0-only */
#include "config/value.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"

#define GATEWAY_NAME_MAX 127 /* struct failure keeps 128 bytes */
#define SHOWN_MAX        80  /* of a bad value, in its error message */

static const struct {
	const char *suffix;
	uint64_t ns;
} units[] = {
        {"ms", 1000000ull},
        {"s", 1000000000ull},
        {"m", 60ull * 1000000000},
        {"h", 3600ull * 1000000000},
};

__attribute__((format(printf, 3, 4))) static int bad(char *error, size_t size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(error, size, format, args);
	va_end(args);
	return -EINVAL;
}

/* Digits only: strtoull() would take signs and spaces. Moves *text behind them, even when they are too many. */
static int digits(const char **text, uint64_t *number)
{
	const char *start = *text;
	bool overflow = false;
	uint64_t value = 0;

	for (; isdigit((unsigned char)**text); (*text)++) {
		uint64_t digit = (uint64_t)(**text - '0');

		overflow |= value > (UINT64_MAX - digit) / 10;
		value = value * 10 + digit;
	}
	if (*text == start || (*start == '0' && *text - start > 1))
		return -EINVAL;
	*number = value;
	return overflow ? -ERANGE : 0;
}

const char *value_format_duration(uint64_t ns, char *buffer, size_t size)
{
	size_t best = 0;

	for (size_t i = 0; i < ARRAY_SIZE(units) && ns; i++) {
		if (ns % units[i].ns == 0)
			best = i;
	}
	(void)snprintf(buffer, size, "%" PRIu64 "%s", ns / units[best].ns, ns ? units[best].suffix : "s");
	return buffer;
}

int value_duration(const char *text, uint64_t minimum_ns, uint64_t maximum_ns, uint64_t *ns, char *error, size_t size)
{
	char shown[SHOWN_MAX];
	char low[32];
	char high[32];
	const char *rest = text;
	uint64_t number;
	int result = digits(&rest, &number);

	if (result == -EINVAL)
		return bad(error, size, "%s is not a duration like 500ms, 10s or 2m",
		           log_quote(text, shown, sizeof(shown)));
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(rest, units[i].suffix) != 0)
			continue;
		if (result == -ERANGE || number > UINT64_MAX / units[i].ns || number * units[i].ns > maximum_ns ||
		    number * units[i].ns < minimum_ns)
			return bad(error, size, "%s is out of range (%s to %s)", log_quote(text, shown, sizeof(shown)),
			           value_format_duration(minimum_ns, low, sizeof(low)),
			           value_format_duration(maximum_ns, high, sizeof(high)));
		*ns = number * units[i].ns;
		return 0;
	}
	return bad(error, size, "%s has no unit of ms, s, m or h", log_quote(text, shown, sizeof(shown)));
}

int value_number(const char *text, uint64_t minimum, uint64_t maximum, uint64_t *number, char *error, size_t size)
{
	char shown[SHOWN_MAX];
	const char *rest = text;
	uint64_t value;
	int result = digits(&rest, &value);

	if (result == -EINVAL || *rest != '\0')
		return bad(error, size, "%s is not a decimal number", log_quote(text, shown, sizeof(shown)));
	if (result || value < minimum || value > maximum)
		return bad(error, size, "%s is out of range (%" PRIu64 " to %" PRIu64 ")",
		           log_quote(text, shown, sizeof(shown)), minimum, maximum);
	*number = value;
	return 0;
}

int value_ports(const char *text, struct config_ports *ports, char *error, size_t size)
{
	char shown[SHOWN_MAX];
	const char *rest = text;
	uint64_t first;
	uint64_t last;

	if (digits(&rest, &first) || *rest++ != '-' || digits(&rest, &last) || *rest != '\0')
		return bad(error, size, "%s is not a port range like 28100-28999",
		           log_quote(text, shown, sizeof(shown)));
	if (first == 0 || last > UINT16_MAX || first > last)
		return bad(error, size, "%s: ports lie between 1 and 65535, the first not above the last",
		           log_quote(text, shown, sizeof(shown)));
	ports->first = (uint16_t)first;
	ports->last = (uint16_t)last;
	return 0;
}

static bool has_dot_dot(const char *path)
{
	for (const char *part = path; part; part = strchr(part, '/')) {
		part += *part == '/';
		if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0'))
			return true;
	}
	return false;
}

int value_path(const char *text, enum value_path_rule rule, bool empty_allowed, char *error, size_t size)
{
	char shown[SHOWN_MAX];

	if (text[0] == '\0')
		return empty_allowed ? 0 : bad(error, size, "must not be empty");
	for (const char *byte = text; *byte; byte++) {
		if (iscntrl((unsigned char)*byte))
			return bad(error, size, "%s has a control character", log_quote(text, shown, sizeof(shown)));
	}
	if (strlen(text) >= PATH_MAX)
		return bad(error, size, "is longer than %d bytes", PATH_MAX - 1);
	if (rule == VALUE_PATH_ABSOLUTE && text[0] != '/')
		return bad(error, size, "%s must be an absolute path", log_quote(text, shown, sizeof(shown)));
	if (has_dot_dot(text))
		return bad(error, size, "%s must not contain \"..\"", log_quote(text, shown, sizeof(shown)));
	return 0;
}

int value_gateway_name(const char *text, char *error, size_t size)
{
	char shown[SHOWN_MAX];
	size_t length = strlen(text);

	if (length == 0)
		return bad(error, size, "must not be empty");
	if (length > GATEWAY_NAME_MAX)
		return bad(error, size, "is longer than %d bytes", GATEWAY_NAME_MAX);
	/* It names pins in bpffs and labels of metrics. "/" parts the namespace from the name of a Gateway object. */
	for (size_t i = 0; i < length; i++) {
		if (!isalnum((unsigned char)text[i]) && !strchr("._-/", text[i]))
			return bad(error, size, "%s: only letters, digits, '.', '_', '-' and '/' are allowed",
			           log_quote(text, shown, sizeof(shown)));
	}
	if (!isalnum((unsigned char)text[0]) || !isalnum((unsigned char)text[length - 1]) || strstr(text, "//") ||
	    has_dot_dot(text))
		return bad(error, size, "%s must begin and end with a letter or digit, without \"//\" or \"..\" in it",
		           log_quote(text, shown, sizeof(shown)));
	return 0;
}

const char *config_gateway_mode_name(enum postern_gateway_mode mode)
{
	return mode == POSTERN_MODE_OBSERVE ? "observe" : "enforce";
}

int value_gateway_mode(const char *text, enum postern_gateway_mode *mode, char *error, size_t size)
{
	char shown[SHOWN_MAX];

	if (strcmp(text, "enforce") == 0)
		*mode = POSTERN_MODE_ENFORCE;
	else if (strcmp(text, "observe") == 0)
		*mode = POSTERN_MODE_OBSERVE;
	else
		return bad(error, size, "%s is not one of enforce, observe", log_quote(text, shown, sizeof(shown)));
	return 0;
}

int value_add_cidr(struct config_cidrs *list, const char *text, char *error, size_t size)
{
	char shown[SHOWN_MAX];
	struct cidr cidr;
	struct cidr *grown;

	if (cidr_parse(text, &cidr))
		return bad(error, size, "%s is not a CIDR like 10.96.0.0/12 or fd00:10:96::/112, without host bits",
		           log_quote(text, shown, sizeof(shown)));
	if (list->count == POSTERN_MAX_CIDRS)
		return bad(error, size, "more than %d CIDRs", POSTERN_MAX_CIDRS);
	grown = reallocarray(list->at, list->count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	list->at = grown;
	list->at[list->count++] = cidr;
	return 0;
}

int value_add_gateway(struct config_gateways *list, const char *name, const char *cgroup, const char *netns,
                      const char *mode, const char **field, char *error, size_t size)
{
	_cleanup_free_ char *name_copy = NULL;
	_cleanup_free_ char *cgroup_copy = NULL;
	_cleanup_free_ char *netns_copy = NULL;
	enum postern_gateway_mode parsed_mode = POSTERN_MODE_ENFORCE;
	struct config_gateway *grown;
	int result;

	*field = "name";
	if (!name)
		return bad(error, size, "is required");
	result = value_gateway_name(name, error, size);
	if (result)
		return result;
	*field = "cgroup";
	if (!cgroup)
		return bad(error, size, "is required");
	result = value_path(cgroup, VALUE_PATH_ABSOLUTE, false, error, size);
	if (result)
		return result;
	*field = "netns";
	result = netns ? value_path(netns, VALUE_PATH_ABSOLUTE, false, error, size) : 0;
	if (result)
		return result;
	*field = "mode";
	result = mode ? value_gateway_mode(mode, &parsed_mode, error, size) : 0;
	if (result)
		return result;
	for (size_t i = 0; i < list->count; i++) {
		*field = "name";
		if (strcmp(list->at[i].name, name) == 0)
			return bad(error, size, "there is a gateway \"%s\" already", name);
		*field = "cgroup";
		if (strcmp(list->at[i].cgroup, cgroup) == 0)
			return bad(error, size, "is the cgroup of gateway \"%s\", too", list->at[i].name);
	}
	*field = "";
	if (list->count == POSTERN_MAX_GATEWAYS)
		return bad(error, size, "more than %d gateways", POSTERN_MAX_GATEWAYS);
	name_copy = strdup(name);
	cgroup_copy = strdup(cgroup);
	netns_copy = netns ? strdup(netns) : NULL;
	grown = reallocarray(list->at, list->count + 1, sizeof(*grown));
	if (grown)
		list->at = grown;
	if (!grown || !name_copy || !cgroup_copy || (netns && !netns_copy))
		return -ENOMEM;
	list->at[list->count++] = (struct config_gateway){
	        .name = TAKE_PTR(name_copy),
	        .cgroup = TAKE_PTR(cgroup_copy),
	        .netns = TAKE_PTR(netns_copy),
	        .mode = parsed_mode,
	};
	return 0;
}

int value_add_gateway_text(struct config_gateways *list, const char *text, char *error, size_t size)
{
	static const char *const keys[] = {"cgroup", "netns", "mode"};
	const char *values[ARRAY_SIZE(keys)] = {NULL};
	_cleanup_free_ char *copy = strdup(text);
	char reason[VALUE_ERROR_MAX];
	char shown[SHOWN_MAX];
	const char *field;
	char *rest = copy;
	char *name;
	char *part;
	int result;

	if (!copy)
		return -ENOMEM;
	name = strsep(&rest, ",");
	while ((part = strsep(&rest, ","))) {
		char *value = strchr(part, '=');
		size_t key = 0;

		if (value)
			*value++ = '\0';
		while (key < ARRAY_SIZE(keys) && strcmp(keys[key], part) != 0)
			key++;
		if (!value || key == ARRAY_SIZE(keys))
			return bad(error, size, "%s is not one of cgroup=PATH, netns=PATH, mode=enforce|observe",
			           log_quote(part, shown, sizeof(shown)));
		if (values[key])
			return bad(error, size, "%s is given twice", keys[key]);
		values[key] = value;
	}
	result = value_add_gateway(list, name, values[0], values[1], values[2], &field, reason, sizeof(reason));
	if (result == -EINVAL)
		return bad(error, size, "%s%s%s", field, *field ? ": " : "", reason);
	return result;
}
