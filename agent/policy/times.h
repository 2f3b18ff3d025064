/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * times.h: the two notations of time in manifests. Pure.
 */
#ifndef POSTERN_POLICY_TIMES_H
#define POSTERN_POLICY_TIMES_H

#include <stdbool.h>
#include <stdint.h>

/* RFC 3339 ("2024-05-01T12:00:00Z", also with a fraction, which is dropped, and an offset): seconds since the epoch. */
bool timestamp_parse(const char *text, int64_t *seconds);

#define DURATION_MAX_MS 86400000u /* 24 h */

/* Gateway API's Duration (GEP-2257): ^([0-9]{1,5}(h|m|s|ms)){1,4}$. Milliseconds; more than 24 h is refused. */
bool duration_parse(const char *text, unsigned int *milliseconds);

#endif
