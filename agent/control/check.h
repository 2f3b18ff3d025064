/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * check.h: `posternd --check-config`: reads the manifests and compiles them as the agent would, without privileges and
 * without touching the kernel, and says what is wrong.
 */
#ifndef POSTERN_CONTROL_CHECK_H
#define POSTERN_CONTROL_CHECK_H

struct config;

/* Exit status: 0 all right; 2 with one line per error on stderr. */
int check_config(const struct config *config);

#endif
