/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * salvage.h: what a manifest that is not YAML still shows. Nothing of it comes into force: it goes into the store's
 * quarantine, so that the Services which its policies visibly target are refused and not served in plaintext. Pure.
 */
#ifndef POSTERN_SOURCE_SALVAGE_H
#define POSTERN_SOURCE_SALVAGE_H

#include <stddef.h>

#include "policy/decode.h"

/* Adds to decoded; its problems mean nothing. 0 or -ENOMEM. */
int salvage_documents(const char *name, const char *text, size_t size, struct decoded *decoded);

#endif
