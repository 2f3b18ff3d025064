/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * stable_read.h: read a file whole at a moment when nobody writes it. A manifest that is being written in place can be
 * valid YAML without the policy that comes last in it: to apply that would open what the policy closes.
 */
#ifndef POSTERN_SOURCE_STABLE_READ_H
#define POSTERN_SOURCE_STABLE_READ_H

#include <stddef.h>
#include <sys/stat.h>

/*
 * Reads the regular file name below the directory. 0 with *text (wiping_free() it; NUL-terminated beyond *size) and
 * *status; -EBUSY: somebody has it open for writing (*text is what stands there now); -EFBIG: larger than limit;
 * -EINVAL: not a regular file; -errno of openat() or read(). *status is set whenever the file could be opened.
 *
 * A read lease (fcntl(2)) keeps writers out while it reads; where the file system or our rights do not allow one, the
 * file is read without.
 */
int stable_read(int directory_fd, const char *name, size_t limit, char **text, size_t *size, struct stat *status);

#endif
