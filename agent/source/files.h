/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * files.h: the source for a machine without Kubernetes: a directory of ordinary manifests (*.yaml, *.yml, *.json,
 * several documents a file), watched with inotify. Control thread only.
 *
 * A reload is all or nothing per file: a file that does not parse or does not validate keeps the objects that its last
 * good version gave, and is named in files_source_error_at() with line or object and field. What its broken version
 * shows goes into the store's quarantine (policy/store.h): a policy in there is not applied, but its targets are
 * refused unless something in force covers them. Of two objects of one name, that of the first file (by name) is in
 * force.
 *
 * A file that is being written in place is left as it was until it is closed. A file that disappears takes its objects
 * with it, 100 ms later: it may be on its way back, or its directory may be next. A directory that is removed or
 * replaced is an error: the last state stays until the process is started again. Hidden files and names without .yaml,
 * .yml or .json are not looked at; symlinks are (ConfigMap volumes swap them).
 */
#ifndef POSTERN_SOURCE_FILES_H
#define POSTERN_SOURCE_FILES_H

#include <stdbool.h>
#include <stddef.h>

#include "source/source.h" /* struct source_error */

struct files_source;
struct object_store;

/* Opens and reads the directory once. 0; -errno if the directory itself cannot be read. Bad files are not an error. */
int files_source_open(const char *directory, struct files_source **source);
void files_source_close(struct files_source *source);

/* For the loop: readable when something may have changed, or when the time of a removal has come. */
int files_source_fd(const struct files_source *source);
/* Drain inotify and re-read what changed. Returns true if the store changed (a compile is due). */
bool files_source_refresh(struct files_source *source);
/* Re-read everything even if inotify said nothing. Returns true if the store changed. */
bool files_source_reload(struct files_source *source);

/* The same pointer for the life of the source. */
const struct object_store *files_source_store(const struct files_source *source);
size_t files_source_error_count(const struct files_source *source);
const struct source_error *files_source_error_at(const struct files_source *source, size_t index);
/* What is no error and still worth a line: kinds that are of no use here, slices of names. */
size_t files_source_note_count(const struct files_source *source);
const char *files_source_note_at(const struct files_source *source, size_t index);

#endif
