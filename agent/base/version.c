/* SPDX-License-Identifier: GPL-2.0-only */
#include "base/version.h"

#include "postern/abi.h"

const char *const postern_version = POSTERN_VERSION;
const unsigned int postern_abi_version = POSTERN_ABI_VERSION;
