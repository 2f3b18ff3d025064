/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * directory.h: a directory of manifests (files.h) as a source in a loop: inotify tells of changes. Control thread.
 *
 * It is synced once it is open, and in order while no file is broken. What is true now was read within 100 ms, or is
 * read again.
 */
#ifndef POSTERN_SOURCE_DIRECTORY_H
#define POSTERN_SOURCE_DIRECTORY_H

#include "source/source.h"

struct loop;

/* Opens and reads the directory once. 0 or negative errno, as files_source_open(). The loop must live longer. */
int directory_source_open(const char *path, struct loop *loop, const struct source_events *events,
                          struct source **source);

#endif
