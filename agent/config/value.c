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
#include "policy/names.h"

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

int value_size(const char *text, uint64_t minimum, uint64_t maximum, uint64_t *bytes, char *error, size_t size)
{
	static const struct {
		const char *suffix;
		unsigned int shift;
	} sizes[] = {{"", 0}, {"Ki", 10}, {"Mi", 20}, {"Gi", 30}};
	char shown[SHOWN_MAX];
	const char *rest = text;
	uint64_t number;
	int result = digits(&rest, &number);

	if (result == -EINVAL)
		return bad(error, size, "%s is not a size like 512Mi or 2Gi", log_quote(text, shown, sizeof(shown)));
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		if (strcmp(rest, sizes[i].suffix) != 0)
			continue;
		if (result || number > UINT64_MAX >> sizes[i].shift || number << sizes[i].shift > maximum ||
		    (number && number << sizes[i].shift < minimum))
			return bad(error, size, "%s is out of range (%" PRIu64 " to %" PRIu64 " bytes)",
			           log_quote(text, shown, sizeof(shown)), minimum, maximum);
		*bytes = number << sizes[i].shift;
		return 0;
	}
	return bad(error, size, "%s has no unit of Ki, Mi or Gi", log_quote(text, shown, sizeof(shown)));
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

int value_address(const char *text, struct config_address *address, char *error, size_t size)
{
	const char *colon = strrchr(text, ':');
	const char *rest = colon ? colon + 1 : "";
	char host[ADDRESS_TEXT_MAX + 2];
	char shown[SHOWN_MAX];
	uint64_t port = 0;
	size_t length = colon ? (size_t)(colon - text) : 0;
	bool bracketed = length > 2 && text[0] == '[' && text[length - 1] == ']';

	*address = (struct config_address){0};
	if (text[0] == '\0')
		return 0;
	if (!colon || length >= sizeof(host) || digits(&rest, &port) || *rest != '\0')
		return bad(error, size, "%s is not an address and a port like 127.0.0.1:9905 or [::1]:9905",
		           log_quote(text, shown, sizeof(shown)));
	if (port == 0 || port > UINT16_MAX)
		return bad(error, size, "%s: ports lie between 1 and 65535", log_quote(text, shown, sizeof(shown)));
	(void)snprintf(host, sizeof(host), "%.*s", (int)(bracketed ? length - 2 : length), text + bracketed);
	if (address_parse(host, &address->address) != 0 || bracketed != (strchr(host, ':') != NULL))
		return bad(error, size, "%s is not an address and a port like 127.0.0.1:9905 or [::1]:9905",
		           log_quote(text, shown, sizeof(shown)));
	address->port = (uint16_t)port;
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

static void free_gateway(struct config_gateway *gateway)
{
	for (size_t i = 0; i < gateway->ref_count; i++) {
		free(gateway->refs[i].namespace_);
		free(gateway->refs[i].name);
	}
	free(gateway->refs);
	free(gateway->name);
	free(gateway->cgroup);
	free(gateway->netns);
}

void value_free_gateways(struct config_gateways *list)
{
	for (size_t i = 0; i < list->count; i++)
		free_gateway(&list->at[i]);
	free(list->at);
	*list = (struct config_gateways){0};
}

static int add_reference(struct config_gateway *gateway, const char *text, char *error, size_t size)
{
	struct object_name *reference = &gateway->refs[gateway->ref_count];
	const char *slash = strchr(text, '/');
	char shown[SHOWN_MAX];

	reference->namespace_ = strndup(text, slash ? (size_t)(slash - text) : 0);
	reference->name = strdup(slash ? slash + 1 : "");
	gateway->ref_count++;
	if (!reference->namespace_ || !reference->name)
		return -ENOMEM;
	if (!is_dns_label(reference->namespace_) || !is_dns_subdomain(reference->name))
		return bad(error, size, "%s is not the namespace/name of a Gateway",
		           log_quote(text, shown, sizeof(shown)));
	for (size_t i = 0; i + 1 < gateway->ref_count; i++) {
		if (strcmp(gateway->refs[i].namespace_, reference->namespace_) == 0 &&
		    strcmp(gateway->refs[i].name, reference->name) == 0)
			return bad(error, size, "%s is given twice", log_quote(text, shown, sizeof(shown)));
	}
	return 0;
}

static int copy_references(struct config_gateway *copy, const struct value_gateway *gateway,
                           char field[static VALUE_FIELD_MAX], char *error, size_t size)
{
	copy->refs = calloc(gateway->ref_count + 1, sizeof(*copy->refs));
	if (!copy->refs)
		return -ENOMEM;
	for (size_t i = 0; i < gateway->ref_count; i++) {
		int result = add_reference(copy, gateway->refs[i], error, size);

		(void)snprintf(field, VALUE_FIELD_MAX, "gatewayRefs[%zu]", i);
		if (result)
			return result;
	}
	return 0;
}

static int check_gateway(const struct config_gateways *list, const struct value_gateway *gateway,
                         enum postern_gateway_mode *mode, const char **field, char *error, size_t size)
{
	int result;

	*field = "name";
	if (!gateway->name)
		return bad(error, size, "is required");
	result = value_gateway_name(gateway->name, error, size);
	if (result)
		return result;
	*field = "cgroup";
	if (!gateway->cgroup)
		return bad(error, size, "is required");
	result = value_path(gateway->cgroup, VALUE_PATH_ABSOLUTE, false, error, size);
	if (result)
		return result;
	*field = "netns";
	result = gateway->netns ? value_path(gateway->netns, VALUE_PATH_ABSOLUTE, false, error, size) : 0;
	if (result)
		return result;
	*field = "mode";
	result = gateway->mode ? value_gateway_mode(gateway->mode, mode, error, size) : 0;
	if (result)
		return result;
	for (size_t i = 0; i < list->count; i++) {
		*field = "name";
		if (strcmp(list->at[i].name, gateway->name) == 0)
			return bad(error, size, "there is a gateway \"%s\" already", gateway->name);
		*field = "cgroup";
		if (strcmp(list->at[i].cgroup, gateway->cgroup) == 0)
			return bad(error, size, "is the cgroup of gateway \"%s\", too", list->at[i].name);
	}
	*field = "";
	if (list->count == POSTERN_MAX_SERVED)
		return bad(error, size, "more than %d gateways", POSTERN_MAX_SERVED);
	return 0;
}

static int copy_gateway(struct config_gateway *copy, const struct value_gateway *gateway,
                        char field[static VALUE_FIELD_MAX], char *error, size_t size)
{
	copy->name = strdup(gateway->name);
	/* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): check_gateway() has refused one without */
	copy->cgroup = strdup(gateway->cgroup);
	copy->netns = gateway->netns ? strdup(gateway->netns) : NULL;
	if (!copy->name || !copy->cgroup || (gateway->netns && !copy->netns))
		return -ENOMEM;
	return copy_references(copy, gateway, field, error, size);
}

int value_add_gateway(struct config_gateways *list, const struct value_gateway *gateway,
                      char field[static VALUE_FIELD_MAX], char *error, size_t size)
{
	struct config_gateway copy = {.mode = POSTERN_MODE_ENFORCE};
	const char *bad_field = "";
	struct config_gateway *grown;
	int result = check_gateway(list, gateway, &copy.mode, &bad_field, error, size);

	(void)snprintf(field, VALUE_FIELD_MAX, "%s", bad_field);
	if (result)
		return result;
	result = copy_gateway(&copy, gateway, field, error, size);
	grown = result ? NULL : reallocarray(list->at, list->count + 1, sizeof(*grown));
	if (!grown) {
		free_gateway(&copy);
		return result ? result : -ENOMEM;
	}
	list->at = grown;
	list->at[list->count++] = copy;
	return 0;
}

/* One "key=value" of --gateway; *value is NULL for what has no '='. */
static int set_part(struct value_gateway *gateway, const char *key, const char *value, char *error, size_t size)
{
	const struct {
		const char *key;
		const char **text;
	} parts[] = {{"cgroup", &gateway->cgroup}, {"netns", &gateway->netns}, {"mode", &gateway->mode}};
	char shown[SHOWN_MAX];

	if (value && strcmp(key, "gatewayRef") == 0) {
		if (gateway->ref_count == VALUE_GATEWAY_REFS_MAX)
			return bad(error, size, "more than %d gatewayRefs", VALUE_GATEWAY_REFS_MAX);
		gateway->refs[gateway->ref_count++] = value;
		return 0;
	}
	for (size_t i = 0; value && i < ARRAY_SIZE(parts); i++) {
		if (strcmp(parts[i].key, key) != 0)
			continue;
		if (*parts[i].text)
			return bad(error, size, "%s is given twice", key);
		*parts[i].text = value;
		return 0;
	}
	return bad(error, size,
	           "%s is not one of cgroup=PATH, netns=PATH, mode=enforce|observe, gatewayRef=NAMESPACE/NAME",
	           log_quote(key, shown, sizeof(shown)));
}

int value_add_gateway_text(struct config_gateways *list, const char *text, char *error, size_t size)
{
	_cleanup_free_ char *copy = strdup(text);
	struct value_gateway gateway = {0};
	char reason[VALUE_ERROR_MAX];
	char field[VALUE_FIELD_MAX];
	char *rest = copy;
	char *part;
	int result;

	if (!copy)
		return -ENOMEM;
	gateway.name = strsep(&rest, ",");
	while ((part = strsep(&rest, ","))) {
		char *value = strchr(part, '=');

		if (value)
			*value++ = '\0';
		result = set_part(&gateway, part, value, error, size);
		if (result)
			return result;
	}
	result = value_add_gateway(list, &gateway, field, reason, sizeof(reason));
	if (result == -EINVAL)
		return bad(error, size, "%s%s%s", field, *field ? ": " : "", reason);
	return result;
}
