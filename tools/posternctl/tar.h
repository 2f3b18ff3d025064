/* SPDX-License-Identifier: GPL-2.0-only */
/* tar.h: a tar file (POSIX ustar) of small files, written from memory. */
#ifndef POSTERNCTL_TAR_H
#define POSTERNCTL_TAR_H

#include <stddef.h>

/* name: at most 99 bytes. 0 or negative errno. */
int tar_add(int fd, const char *name, const void *data, size_t size);
/* The two empty blocks that end it. */
int tar_end(int fd);

#endif
