/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * value.h: the texts of single settings, as the YAML file and the command line share them: durations, numbers, port
 * ranges, paths, gateways. Pure.
 *
 * Each function returns 0, -EINVAL with the reason alone in error (the caller knows the field's name), or -ENOMEM.
 */
#ifndef POSTERN_CONFIG_VALUE_H
#define POSTERN_CONFIG_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"

#define VALUE_ERROR_MAX 256
#define VALUE_FIELD_MAX 64 /* "gateways[255].gatewayRefs[63]" */

enum value_path_rule {
	VALUE_PATH_ANY,
	VALUE_PATH_ABSOLUTE,
};

/* "500ms", "10s", "2m", "1h": a decimal integer and one unit. */
int value_duration(const char *text, uint64_t minimum_ns, uint64_t maximum_ns, uint64_t *ns, char *error, size_t size);
/* A decimal integer without sign, space or leading zeros. */
/* Bytes: a number with Ki, Mi, Gi or nothing behind it. 0 is always allowed. */
int value_size(const char *text, uint64_t minimum, uint64_t maximum, uint64_t *bytes, char *error, size_t size);
int value_number(const char *text, uint64_t minimum, uint64_t maximum, uint64_t *number, char *error, size_t size);
/* "28100-28999" */
int value_ports(const char *text, struct config_ports *ports, char *error, size_t size);
/* "127.0.0.1:9905", "[::1]:9905"; "" is port 0. */
int value_address(const char *text, struct config_address *address, char *error, size_t size);
/* Not longer than PATH_MAX, no control characters, no ".." component. "" only if empty_allowed. */
int value_path(const char *text, enum value_path_rule rule, bool empty_allowed, char *error, size_t size);
int value_gateway_name(const char *text, char *error, size_t size);
int value_gateway_mode(const char *text, enum postern_gateway_mode *mode, char *error, size_t size);

/* One line for a person, e.g. "10s"; the largest unit that shows it exactly. */
const char *value_format_duration(uint64_t ns, char *buffer, size_t size);

/* Each adds a copy of the item to its list. */
int value_add_cidr(struct config_cidrs *list, const char *text, char *error, size_t size);

#define VALUE_GATEWAY_REFS_MAX 64

/* One gateway as it was written; NULL: absent. */
struct value_gateway {
	const char *name;
	const char *cgroup;
	const char *netns;
	const char *mode;
	const char *refs[VALUE_GATEWAY_REFS_MAX]; /* "namespace/name" each */
	size_t ref_count;
};
/* Checks each part; field is set to the name of the bad one. */
int value_add_gateway(struct config_gateways *list, const struct value_gateway *gateway,
                      char field[static VALUE_FIELD_MAX], char *error, size_t size);
/* "NAME,cgroup=PATH[,netns=PATH][,mode=enforce|observe][,gatewayRef=NAMESPACE/NAME]...", as --gateway has it. */
int value_add_gateway_text(struct config_gateways *list, const char *text, char *error, size_t size);
void value_free_gateways(struct config_gateways *list);

#endif
