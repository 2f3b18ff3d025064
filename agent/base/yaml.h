/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * yaml.h: YAML (libyaml) to JSON values (jansson), as kubectl reads manifests: plain scalars by base/yaml_plain.h (yes,
 * on and y are true, 010 is 8), as keys, too; everything quoted is a string. Anchors, aliases and merge keys are
 * refused (a "billion laughs" is hostile), duplicate keys are an error, depth and size are bounded. JSON text is YAML,
 * so it goes through the same door. Pure.
 */
#ifndef POSTERN_BASE_YAML_H
#define POSTERN_BASE_YAML_H

#include <jansson.h>
#include <stddef.h>

#define YAML_MAX_BYTES (16u << 20)
#define YAML_MAX_DEPTH 64
#define YAML_MAX_NODES 1000000 /* "[],[],..." takes 40 times its own size in memory */

/*
 * All documents of a stream, as a JSON array (an empty document is null). 0; -EINVAL with "line N: ..." in error;
 * -E2BIG with the limit that was passed; -ENOMEM. *documents is set on success only. Each mapping keeps no line
 * numbers: errors about values name the object and field instead. Strings of the result hold no NUL.
 */
int yaml_load(const char *text, size_t size, json_t **documents, char *error, size_t error_size);

/*
 * What can be told of a text that is not YAML: everything up to the error, with what is open there closed. For looking
 * at, never for use. 0 with *documents, and in *error_line the line of the error from 1, 0 if there was none; -ENOMEM.
 */
int yaml_load_until_error(const char *text, size_t size, json_t **documents, size_t *error_line);

#endif
