/* SPDX-License-Identifier: GPL-2.0-only */
#include "base/version.h"

const char *const postern_version = POSTERN_VERSION;
