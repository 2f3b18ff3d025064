/* SPDX-License-Identifier: GPL-2.0-only */
/* json_cleanup.h: a reference to a JSON value that a scope owns (base/cleanup.h). */
#ifndef POSTERN_CONTROLLER_JSON_CLEANUP_H
#define POSTERN_CONTROLLER_JSON_CLEANUP_H

#include <jansson.h>

#include "base/cleanup.h"

static inline void cleanup_json(json_t **value)
{
	json_decref(*value);
}

#define _cleanup_json_ _cleanup_(cleanup_json)

#endif
