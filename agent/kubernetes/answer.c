// SPDX-License-Identifier: GPL-2.0-only
/* What the server said: JSON, and metav1.Status where it refuses. */
#include <stdio.h>
#include <string.h>

#include "base/printable.h"
#include "kubernetes/client_internal.h"

#define REASON_MAX  64
#define MESSAGE_MAX 400

json_t *answer_parse(const char *bytes, size_t length, char *error, size_t error_size)
{
	json_error_t problem;
	/*
	 * Any value of any tenant stands in a list: a NUL in one of them must not make the list unreadable. The
	 * decoders refuse it where they read it (policy/field.h).
	 */
	json_t *value = json_loadb(bytes, length, JSON_ALLOW_NUL, &problem);

	/* jansson's text quotes what it met, which may be of a Secret. */
	if (!value)
		(void)snprintf(error, error_size, "is no JSON (at byte %d of %zu)", problem.position, length);
	return value;
}

static const char *plain_reason(long status)
{
	switch (status) {
	case 401:
		return "Unauthorized";
	case 403:
		return "Forbidden";
	case 404:
		return "NotFound";
	case 410:
		return "Gone";
	case 429:
		return "TooManyRequests";
	default:
		return status >= 300 && status < 400 ? "a redirect, which is not followed" : "";
	}
}

void answer_describe(long status, const json_t *body, char *error, size_t error_size)
{
	const char *reason = json_string_value(json_object_get(body, "reason"));
	const char *message = json_string_value(json_object_get(body, "message"));
	char reason_shown[REASON_MAX], message_shown[MESSAGE_MAX];

	printable_copy(reason_shown, sizeof(reason_shown), reason && *reason ? reason : plain_reason(status));
	printable_copy(message_shown, sizeof(message_shown), message ? message : "");
	(void)snprintf(error, error_size, "%ld%s%s%s%s", status, *reason_shown ? " " : "", reason_shown,
	               *message_shown ? ": " : "", message_shown);
}
