/* SPDX-License-Identifier: GPL-2.0-only */
/* version.h: what `git describe` said when this was built. */
#ifndef POSTERN_BASE_VERSION_H
#define POSTERN_BASE_VERSION_H

extern const char *const postern_version;

#endif
