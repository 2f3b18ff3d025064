/* SPDX-License-Identifier: GPL-2.0-only */
/* policy_judge.h: the spec of one BackendTLSPolicy -> what validation says of it. Failures end the test (cmocka). */
#ifndef POSTERN_TESTS_POLICY_JUDGE_H
#define POSTERN_TESTS_POLICY_JUDGE_H

#include <stddef.h>

#include "policy/validate_policy.h"

struct judged {
	const char *spec;    /* YAML, the inside of a flow map; its structure must be sound */
	const char *problem; /* a part of what is said; NULL: valid */
};

void judge_spec(const char *spec, struct tls_options *options, struct text *problems);
void judge_all(const struct judged *rows, size_t count);

#endif
