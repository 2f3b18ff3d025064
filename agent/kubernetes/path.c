// SPDX-License-Identifier: GPL-2.0-only
/* Paths of the API, and their queries. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "kubernetes/client.h"

#define LETTERS_AND_DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

/* What names of objects are made of, colons of RBAC and ClusterTrustBundles included. */
static bool is_segment(const char *text)
{
	return strspn(text, LETTERS_AND_DIGITS "-._:") == strlen(text) && strcmp(text, ".") != 0 &&
	       strcmp(text, "..") != 0;
}

int kubernetes_path(const char *group, const char *version, const char *namespace_, const char *resource,
                    const char *name, const char *subresource, char **path)
{
	const char *segments[] = {group, version, namespace_, resource, name, subresource};

	for (size_t i = 0; i < ARRAY_SIZE(segments); i++)
		if (!is_segment(segments[i]))
			return -EINVAL;
	if (!*version || !*resource || (*subresource && !*name))
		return -EINVAL;
	if (asprintf(path, "/%s%s/%s%s%s/%s%s%s%s%s", *group ? "apis/" : "api", group, version,
	             *namespace_ ? "/namespaces/" : "", namespace_, resource, *name ? "/" : "", name,
	             *subresource ? "/" : "", subresource) == -1) {
		*path = NULL;
		return -ENOMEM;
	}
	return 0;
}

/* Everything but RFC 3986's unreserved characters. */
static char *percent_encode(const char *text)
{
	static const char digits[] = "0123456789ABCDEF";
	char *encoded = malloc(3 * strlen(text) + 1), *end = encoded;

	if (!encoded)
		return NULL;
	for (; *text; text++) {
		unsigned char byte = (unsigned char)*text;

		if (strchr(LETTERS_AND_DIGITS "-._~", byte)) {
			*end++ = *text;
			continue;
		}
		*end++ = '%';
		*end++ = digits[byte >> 4];
		*end++ = digits[byte & 0xf];
	}
	*end = '\0';
	return encoded;
}

int kubernetes_path_add(char **path, const char *key, const char *value)
{
	_cleanup_free_ char *encoded = percent_encode(value);
	char *longer;

	if (!encoded || asprintf(&longer, "%s%c%s=%s", *path, strchr(*path, '?') ? '&' : '?', key, encoded) == -1)
		return -ENOMEM;
	free(*path);
	*path = longer;
	return 0;
}
