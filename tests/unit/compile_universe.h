/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * compile_universe.h: a small world of objects, each in several versions, which meet as often as they can: few
 * addresses, few Services, few names. For tests that change it at random. Failures end the test (cmocka).
 */
#ifndef POSTERN_TESTS_COMPILE_UNIVERSE_H
#define POSTERN_TESTS_COMPILE_UNIVERSE_H

#include <stddef.h>

#include "policy/object.h"

#define UNIVERSE_VERSIONS 16

struct universe_object {
	struct object *versions[UNIVERSE_VERSIONS]; /* of one name */
	char *texts[UNIVERSE_VERSIONS];             /* that they were made of */
	size_t version_count;
};

struct universe {
	struct universe_object *objects;
	size_t count;
};

struct universe *universe_new(void);
void universe_free(struct universe *universe);
/* Made anew, so that nobody else holds it: one reference. */
struct object *universe_make(const struct universe_object *object, size_t version);

#endif
