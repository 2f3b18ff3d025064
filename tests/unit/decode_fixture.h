/* SPDX-License-Identifier: GPL-2.0-only */
/* decode_fixture.h: YAML -> what the decoders make of it. Failures end the test (cmocka). */
#ifndef POSTERN_TESTS_DECODE_FIXTURE_H
#define POSTERN_TESTS_DECODE_FIXTURE_H

#include "policy/decode.h"

/* decoded must be all zero; decoded_free() is the caller's. */
void decode_yaml(const char *yaml, struct decoded *decoded);

/* A document that gives no object and one problem: of which object, and which words it has. */
struct refused_document {
	const char *yaml;
	const char *object, *message;
};
void assert_refused(const struct refused_document *row);

#endif
