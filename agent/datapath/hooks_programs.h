/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * hooks_programs.h: the programs that this agent loaded, as the kernel names them, so that somebody else can tell
 * whether it is these that hang on a cgroup. Control thread.
 */
#ifndef POSTERN_DATAPATH_HOOKS_PROGRAMS_H
#define POSTERN_DATAPATH_HOOKS_PROGRAMS_H

#include <stdint.h>

struct hooks;

struct hooks_program {
	const char *name;
	uint32_t id;
	char tag[17]; /* of its instructions: 16 hexadecimal digits */
};

/* 0, or the first negative errno: the kernel did not say. */
int hooks_for_each_program(struct hooks *hooks, void (*each)(void *context, const struct hooks_program *program),
                           void *context);

#endif
