/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * manifest_file.h: one file of the directory: the version that is in force, and the newest one if that is broken.
 * Control thread.
 */
#ifndef POSTERN_SOURCE_MANIFEST_FILE_H
#define POSTERN_SOURCE_MANIFEST_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "source/manifest.h"

struct manifest_file {
	char *name;
	char *shown;               /* the name, fit for messages */
	struct manifest *in_force; /* the last good version, NULL: there was none */
	struct manifest *broken;   /* the newest version, if it cannot be used */
	struct stat status;        /* of what was read last; st_ino 0: nothing yet */
	struct timespec read_time; /* CLOCK_REALTIME, as file times are */
	uint8_t digest[32];        /* SHA-256 of what was read last */
	bool has_digest;
	bool busy;                 /* somebody had it open for writing when it was read last */
	bool seen;                 /* by the current scan */
	uint64_t missing_since_ns; /* CLOCK_MONOTONIC; 0: it is there */
	int target_watch;          /* inotify watch on what a symlink points at; -1: none */
};

/* Of a directory's files, which ones are manifests: *.yaml, *.yml, *.json, unless hidden. */
bool is_manifest_name(const char *name);

struct manifest_file *manifest_file_new(const char *name); /* NULL: no memory */
void manifest_file_free(struct manifest_file *file);       /* NULL-safe */

/*
 * Look at the file. Unless force is set, a file whose stat(2) says that nothing happened is not read again; in any case
 * one whose content is the same is not parsed again. Returns 1 if anything changed, 0 if not, -ENOMEM (the file is as
 * it was).
 */
int manifest_file_update(struct manifest_file *file, int directory_fd, bool force);

#endif
