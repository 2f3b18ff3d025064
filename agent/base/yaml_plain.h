/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * yaml_plain.h: what a plain scalar of YAML stands for, by the rules of kubectl (sigs.k8s.io/yaml, that is go-yaml v2:
 * of YAML 1.1 the booleans, octal numbers and underscores; no times, no numbers of base 60). Pure.
 */
#ifndef POSTERN_BASE_YAML_PLAIN_H
#define POSTERN_BASE_YAML_PLAIN_H

#include <stdbool.h>

enum yaml_plain_kind {
	YAML_PLAIN_TEXT,
	YAML_PLAIN_NULL,
	YAML_PLAIN_TRUE,
	YAML_PLAIN_FALSE,
	YAML_PLAIN_INTEGER,
	YAML_PLAIN_REAL,
	YAML_PLAIN_NOT_FINITE, /* .inf, .nan: JSON has no such number */
	YAML_PLAIN_MERGE,      /* <<, which means something as a key only */
};

struct yaml_plain {
	enum yaml_plain_kind kind;
	long long integer;
	double real;
};

/* 0 or -ENOMEM. An integer that only a uint64_t holds is a real; JSON's own forms of reals ("1.0", "1e3") stay reals.
 */
int yaml_plain_resolve(const char *text, struct yaml_plain *plain);

#endif
