// SPDX-License-Identifier: GPL-2.0-only
#include "policy/uri.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/address.h"
#include "policy/names.h"

#define DIGITS     "0123456789"
#define LOWER      "abcdefghijklmnopqrstuvwxyz"
#define UPPER      "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define UNRESERVED LOWER UPPER DIGITS "-._~"
#define SUB_DELIMS "!$&'()*+,;="

struct part {
	const char *text;
	size_t length;
};

struct uri {
	struct part scheme, userinfo, host, port, path, query, fragment; /* text NULL: not there */
};

static bool consists_of(struct part part, const char *allowed)
{
	for (size_t i = 0; i < part.length; i++)
		if (!strchr(allowed, part.text[i]))
			return false;
	return true;
}

/* The same, and percent-encoded bytes. */
static bool consists_of_encoded(struct part part, const char *allowed)
{
	for (size_t i = 0; i < part.length; i++) {
		if (part.text[i] != '%') {
			if (!strchr(allowed, part.text[i]))
				return false;
			continue;
		}
		if (part.length - i < 3 || !consists_of((struct part){part.text + i + 1, 2}, DIGITS "abcdefABCDEF"))
			return false;
		i += 2;
	}
	return true;
}

static struct part take_until(const char **rest, const char *ends)
{
	struct part part = {*rest, strcspn(*rest, ends)};

	*rest += part.length;
	return part;
}

static bool take(const char **rest, const char *literal)
{
	size_t length = strlen(literal);

	if (strncmp(*rest, literal, length))
		return false;
	*rest += length;
	return true;
}

static void split_authority(struct part authority, struct uri *uri)
{
	const char *end = authority.text + authority.length;
	const char *at = memchr(authority.text, '@', authority.length);
	const char *host = at ? at + 1 : authority.text;
	const char *colon;

	if (at)
		uri->userinfo = (struct part){authority.text, (size_t)(at - authority.text)};
	if (host < end && *host == '[') {
		const char *bracket = memchr(host, ']', (size_t)(end - host));

		colon = bracket && bracket + 1 < end ? bracket + 1 : NULL;
	} else {
		colon = memchr(host, ':', (size_t)(end - host));
	}
	uri->host = (struct part){host, (size_t)((colon ? colon : end) - host)};
	if (colon)
		uri->port = (struct part){colon + 1, (size_t)(end - colon - 1)};
	if (colon && *colon != ':') /* "[::1]x" */
		uri->host = (struct part){host, 0};
}

static const char *split(const char *rest, struct uri *uri)
{
	uri->scheme = take_until(&rest, ":/?#");
	if (!take(&rest, ":"))
		return "has no scheme";
	if (!take(&rest, "//"))
		return "has no authority (\"//\" after the scheme)";
	split_authority(take_until(&rest, "/?#"), uri);
	uri->path = take_until(&rest, "?#");
	if (take(&rest, "?"))
		uri->query = take_until(&rest, "#");
	if (take(&rest, "#"))
		uri->fragment = (struct part){rest, strlen(rest)};
	return NULL;
}

static bool is_ip_literal(struct part host)
{
	struct postern_address address;
	char text[ADDRESS_TEXT_MAX];

	if (host.length < 2 || host.text[0] != '[' || host.text[host.length - 1] != ']' ||
	    host.length - 2 >= sizeof(text))
		return false;
	memcpy(text, host.text + 1, host.length - 2);
	text[host.length - 2] = '\0';
	return strchr(text, ':') && address_parse(text, &address) == 0;
}

/* "127.1" and "0x7f000001" are numbers that some take for an address, and no DNS names. */
static bool is_number_without_address(struct part host)
{
	struct postern_address address;
	char text[256];

	if (host.length >= sizeof(text))
		return false;
	memcpy(text, host.text, host.length);
	text[host.length] = '\0';
	return is_numeric_host(text) && address_parse(text, &address) < 0;
}

/* Labels of letters, digits and inner hyphens; a dotted IPv4 address is of that form, too. */
static bool is_host_name(struct part host)
{
	size_t start = 0;

	if (is_number_without_address(host))
		return false;
	if (!consists_of(host, LOWER UPPER DIGITS "-."))
		return false;
	for (size_t i = 0; i <= host.length; i++) {
		if (i < host.length && host.text[i] != '.')
			continue;
		if (i == start || i - start > 63 || host.text[start] == '-' || host.text[i - 1] == '-')
			return false;
		start = i + 1;
	}
	return true;
}

static bool is_port(struct part port)
{
	return port.length && port.length <= 5 && consists_of(port, DIGITS) &&
	       strtoul(port.text, NULL, 10) <= UINT16_MAX;
}

static bool has_bad_segment(struct part path)
{
	size_t start = 1;

	for (size_t i = 1; i <= path.length; i++) {
		size_t length = i - start;

		if (i < path.length && path.text[i] != '/')
			continue;
		if (!length || (length == 1 && path.text[start] == '.') ||
		    (length == 2 && !memcmp(path.text + start, "..", 2)))
			return true;
		start = i + 1;
	}
	return false;
}

/* https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md section 2 */
static const char *spiffe_problem(const struct uri *uri)
{
	if (uri->userinfo.text || uri->port.text)
		return "is a SPIFFE ID with a user or a port";
	if (uri->query.text || uri->fragment.text)
		return "is a SPIFFE ID with a query or a fragment";
	if (!consists_of(uri->host, LOWER DIGITS "-._"))
		return "is a SPIFFE ID whose trust domain is not of lower case";
	if (!consists_of(uri->path, LOWER UPPER DIGITS "-._/"))
		return "is a SPIFFE ID with a character in its path that SPIFFE does not allow";
	if (uri->path.length && has_bad_segment(uri->path))
		return "is a SPIFFE ID with an empty or dot segment in its path";
	return NULL;
}

const char *uri_problem(const char *text)
{
	struct uri uri = {0};
	const char *problem = split(text, &uri);
	bool spiffe;

	if (problem)
		return problem;
	if (!uri.scheme.length || !strchr(LOWER UPPER, uri.scheme.text[0]) ||
	    !consists_of(uri.scheme, LOWER UPPER DIGITS "+-."))
		return "has no valid scheme";
	if (!uri.host.length)
		return "has no host";
	spiffe = uri.scheme.length == 6 && !strncasecmp(uri.scheme.text, "spiffe", 6);
	if (spiffe && strncmp(uri.scheme.text, "spiffe", 6))
		return "is a SPIFFE ID whose scheme is not of lower case";
	if (!is_ip_literal(uri.host) && !is_host_name(uri.host) && !spiffe)
		return "has a host that is neither a DNS name nor an IP address";
	if (uri.userinfo.text && !consists_of_encoded(uri.userinfo, UNRESERVED SUB_DELIMS ":"))
		return "has a character in its user that RFC 3986 does not allow";
	if (uri.port.text && !is_port(uri.port))
		return "has a port that is no number from 0 to 65535";
	if (!consists_of_encoded(uri.path, UNRESERVED SUB_DELIMS ":@/"))
		return "has a character in its path that RFC 3986 does not allow";
	if (!consists_of_encoded(uri.query, UNRESERVED SUB_DELIMS ":@/?") ||
	    !consists_of_encoded(uri.fragment, UNRESERVED SUB_DELIMS ":@/?"))
		return "has a character in its query or fragment that RFC 3986 does not allow";
	return spiffe ? spiffe_problem(&uri) : NULL;
}
