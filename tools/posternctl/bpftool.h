/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * bpftool.h: runs bpftool (7.1 and later; its --json is stable) and gives its answer to the caller piece by piece, so
 * that a full destination map, 100 MB of JSON, costs the memory of one entry.
 *
 * Its output is not believed: it is bounded in bytes and in time, each element is bounded, and who reads an element
 * checks every field of it. The child gets no environment but a PATH and the C locale, and none of our descriptors.
 */
#ifndef POSTERNCTL_BPFTOOL_H
#define POSTERNCTL_BPFTOOL_H

#include <jansson.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#define BPFTOOL_ERROR_MAX   256
#define BPFTOOL_ELEMENT_MAX ((size_t)256 << 10)
#define BPFTOOL_OUTPUT_MAX  ((size_t)1 << 30)
#define BPFTOOL_SECONDS     60

/*
 * Where it is: the file that was asked for, else the first one in PATH, /usr/sbin, /sbin and /usr/local/sbin. 0, or
 * -ENOENT: it is nowhere, and path is what was looked for.
 */
int bpftool_find(const char *wanted, char path[static PATH_MAX]);

/* One element of the answer. 0 to go on; anything else ends the run and is returned. */
typedef int (*bpftool_each)(void *context, const json_t *element);

/*
 * bpftool --json WORDS... (ends with NULL). If it answers with an array, each() is called with its elements, else with
 * the one object. 0, what each() returned, or a negative errno with a message: -EIO it could not be run or failed
 * (its own words), -EBADMSG not the JSON that it prints, -EFBIG too much, -ETIMEDOUT.
 */
int bpftool_run(const char *path, const char *const *words, bpftool_each each, void *context,
                char error[static BPFTOOL_ERROR_MAX]);

/* ["0x01", "0xff", ...] of exactly this size. 0 or -EBADMSG. */
int bpftool_bytes(const json_t *value, void *bytes, size_t size);
/* An integer from 0 to most. 0 or -EBADMSG. */
int bpftool_number(const json_t *object, const char *key, uint64_t most, uint64_t *number);

#endif
