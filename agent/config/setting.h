/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * setting.h: the table of settings (settings.c) and what applies a text or a YAML value to struct config by it. Inside
 * agent/config only.
 */
#ifndef POSTERN_CONFIG_SETTING_H
#define POSTERN_CONFIG_SETTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"

enum setting_type {                   /* the field's C type, and what the YAML file may hold */
	            SETTING_PATH,     /* char *; string */
	            SETTING_NUMBER,   /* uint32_t; integer */
	            SETTING_DURATION, /* uint64_t, ns; string like "10s" */
	            SETTING_SIZE,     /* uint64_t, bytes; integer, or string like "512Mi" */
	            SETTING_CHOICE,   /* an enum; string */
	            SETTING_PORTS,    /* struct config_ports; string */
	            SETTING_ADDRESS,  /* struct config_address; string like "127.0.0.1:9905" */
	            SETTING_CIDRS,    /* struct config_cidrs; list of strings */
	            SETTING_GATEWAYS, /* struct config_gateways; list of {name, cgroup, netns, mode, gatewayRefs} */
};

struct setting_choice { /* the list ends with a NULL name */
	const char *name;
	unsigned int value;
};

struct setting {
	const char *flag; /* without "--" */
	const char *key;  /* in the YAML file */
	enum setting_type type;
	size_t offset; /* of the field in struct config */
	const struct setting_choice *choices;
	uint64_t minimum; /* NUMBER, SIZE (bytes), DURATION (ns) */
	uint64_t maximum;
	bool absolute; /* PATH */
	bool may_be_empty;
	const char *fallback; /* the default, as a text; NULL: an empty list */
	const char *placeholder;
	const char *help;
};

extern const struct setting settings[];
extern const size_t setting_count;

/* 0; -EINVAL with the reason alone; -ENOMEM. Lists get one more item, others are replaced. */
int setting_set_text(const struct setting *setting, struct config *config, const char *text, char *error, size_t size);

/* Apply a YAML file. A missing file is an error only if required. Messages name file, field and reason. */
int setting_read_file(struct config *config, const char *path, bool required, char *error, size_t size);

#endif
