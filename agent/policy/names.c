// SPDX-License-Identifier: GPL-2.0-only
#include "policy/names.h"

#include <stddef.h>
#include <string.h>

static bool is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_letter(char c)
{
	return is_lower(c) || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_lower_alphanumeric(char c)
{
	return is_lower(c) || is_digit(c);
}

static bool is_alphanumeric(char c)
{
	return is_letter(c) || is_digit(c);
}

/* [a-z0-9]([-a-z0-9]*[a-z0-9])? over exactly length bytes. */
static bool label_matches(const char *text, size_t length)
{
	if (!length || !is_lower_alphanumeric(text[0]) || !is_lower_alphanumeric(text[length - 1]))
		return false;
	for (size_t i = 0; i < length; i++)
		if (!is_lower_alphanumeric(text[i]) && text[i] != '-')
			return false;
	return true;
}

static bool subdomain_matches(const char *text, size_t length)
{
	size_t start = 0;

	if (length > DNS_SUBDOMAIN_MAX)
		return false;
	for (size_t i = 0; i <= length; i++) {
		if (i < length && text[i] != '.')
			continue;
		if (!label_matches(text + start, i - start))
			return false;
		start = i + 1;
	}
	return true;
}

bool is_dns_label(const char *text)
{
	size_t length = strlen(text);

	return length <= DNS_LABEL_MAX && label_matches(text, length);
}

bool is_dns_subdomain(const char *text)
{
	return subdomain_matches(text, strlen(text));
}

bool is_trust_bundle_name(const char *text)
{
	for (;;) {
		size_t length = strcspn(text, ":");

		if (!subdomain_matches(text, length))
			return false;
		if (!text[length])
			return true;
		text += length + 1;
	}
}

bool is_wildcard_hostname(const char *text)
{
	if (strlen(text) > DNS_SUBDOMAIN_MAX)
		return false;
	return is_dns_subdomain(!strncmp(text, "*.", 2) ? text + 2 : text);
}

bool is_kind(const char *text)
{
	size_t length = strlen(text);

	if (!length || length > 63 || !is_letter(text[0]) || !is_alphanumeric(text[length - 1]))
		return false;
	for (size_t i = 0; i < length; i++)
		if (!is_alphanumeric(text[i]) && text[i] != '-')
			return false;
	return true;
}

/* ([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9] */
static bool is_qualified_name(const char *text)
{
	size_t length = strlen(text);

	if (!length || length > 63 || !is_alphanumeric(text[0]) || !is_alphanumeric(text[length - 1]))
		return false;
	for (size_t i = 0; i < length; i++)
		if (!is_alphanumeric(text[i]) && text[i] != '-' && text[i] != '_' && text[i] != '.')
			return false;
	return true;
}

bool is_annotation_key(const char *text)
{
	const char *slash = strchr(text, '/');

	if (strlen(text) > 253)
		return false;
	if (!slash)
		return is_qualified_name(text);
	return subdomain_matches(text, (size_t)(slash - text)) && is_qualified_name(slash + 1);
}

bool is_well_known_ca(const char *text)
{
	return !strcmp(text, "System") || (strchr(text, '/') && is_annotation_key(text));
}

static bool is_numeric_label(const char *text, size_t length)
{
	if (length >= 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
		return strspn(text + 2, "0123456789abcdefABCDEF") >= length - 2;
	return length && strspn(text, "0123456789") >= length;
}

bool is_numeric_host(const char *text)
{
	if (!*text)
		return false;
	for (;;) {
		size_t length = strcspn(text, ".");

		if (!is_numeric_label(text, length))
			return false;
		if (!text[length])
			return true;
		text += length + 1;
	}
}
