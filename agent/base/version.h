/* SPDX-License-Identifier: GPL-2.0-only */
/* version.h: what `git describe` said when this was built, and the number of its ABI (postern/abi.h). */
#ifndef POSTERN_BASE_VERSION_H
#define POSTERN_BASE_VERSION_H

extern const char *const postern_version;
extern const unsigned int postern_abi_version;

#endif
