/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * json.h: small helpers over jansson for what the agent shows. A NULL value means "out of memory" everywhere: building
 * goes on with it, and the whole document is NULL at the end (json_pack() does so by itself). Pure; any thread.
 */
#ifndef POSTERN_OBSERVE_JSON_H
#define POSTERN_OBSERVE_JSON_H

#include <jansson.h>
#include <stdint.h>
#include <time.h>

#include "postern/abi.h"

/*
 * A string from bytes of anybody (a certificate's subject, a manifest): what is not UTF-8 becomes U+FFFD, so that one
 * hostile name cannot make the document fail. NULL gives "".
 */
json_t *json_text(const char *text);
/* "192.0.2.1:443", "[2001:db8::1]:443" */
json_t *json_destination(const struct postern_destination_key *key);
/* RFC 3339 in UTC with milliseconds; CLOCK_REALTIME. */
json_t *json_time(const struct timespec *time);
/* Seconds with three decimals. */
json_t *json_seconds(uint64_t ns);
/* "ENOENT"; the number as a text if it has no name. error is positive. */
json_t *json_errno(uint32_t error);

/* Takes both references. If value or *array is NULL, *array becomes NULL. */
void json_append(json_t **array, json_t *value);
/* The same for a member of an object. */
void json_set(json_t **object, const char *key, json_t *value);

#endif
