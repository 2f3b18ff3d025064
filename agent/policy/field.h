/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * field.h: typed reading of JSON fields, with errors that name the field by its path ("spec.ports[2].port: ...").
 *
 * All return 0, -EINVAL with the message in decoder->error, or -ENOMEM. null counts as absent, as Kubernetes has it.
 * Pure.
 */
#ifndef POSTERN_POLICY_FIELD_H
#define POSTERN_POLICY_FIELD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "policy/arena.h"

#define FIELD_ERROR_MAX 512

struct unknown_fields;

struct decoder {
	struct arena *arena;            /* of the object that is being made */
	struct unknown_fields *unknown; /* where fields without a meaning here are noted */
	const char *subject;            /* whose they are: "BackendTLSPolicy default/p" */
	char error[FIELD_ERROR_MAX];
};

/* Where a value stands; lives on the stack of whoever walks down. */
struct path {
	const struct path *parent; /* NULL: the document itself */
	const char *key;           /* NULL: an array's element */
	size_t index;
};

enum presence {
	OPTIONAL,
	REQUIRED,
};

static inline struct path path_key(const struct path *parent, const char *key)
{
	return (struct path){.parent = parent, .key = key};
}

static inline struct path path_index(const struct path *parent, size_t index)
{
	return (struct path){.parent = parent, .index = index};
}

/* "spec.ports[2].port", cut to size. Returns its length. */
size_t path_format(const struct path *where, char *text, size_t size);

int refuse_field(struct decoder *decoder, const struct path *where, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* where is the path of map itself, map a JSON object. Absent optional fields give NULL (or leave *value as it is). */
int field_string(struct decoder *decoder, const struct path *where, const json_t *map, const char *key,
                 enum presence presence, const char **value); /* copied into the arena */
int field_borrow(struct decoder *decoder, const struct path *where, const json_t *map, const char *key,
                 enum presence presence, const char **value); /* lives as long as map does */
int field_integer(struct decoder *decoder, const struct path *where, const json_t *map, const char *key,
                  enum presence presence, json_int_t minimum, json_int_t maximum, json_int_t *value);
int field_boolean(struct decoder *decoder, const struct path *where, const json_t *map, const char *key, bool *value);
int field_map(struct decoder *decoder, const struct path *where, const json_t *map, const char *key,
              enum presence presence, const json_t **value);
int field_list(struct decoder *decoder, const struct path *where, const json_t *map, const char *key,
               enum presence presence, size_t most, const json_t **value);

/*
 * A list of one kind of items into an array of the arena, each decoded into its place. items is the address of the
 * array's pointer; that and *count stay as they are if the list is absent.
 */
struct field_item {
	size_t size;
	int (*decode)(struct decoder *decoder, const struct path *where, const json_t *value, void *item);
};
int field_items(struct decoder *decoder, const struct path *where, const json_t *map, const char *key,
                enum presence presence, size_t most, const struct field_item *kind, void *items, size_t *count);

/* Values that stand in a list. */
int value_map(struct decoder *decoder, const struct path *where, const json_t *value);
int value_string(struct decoder *decoder, const struct path *where, const json_t *value, const char **text);
/* The same, living as long as value; NULL is "is required". */
int value_borrow(struct decoder *decoder, const struct path *where, const json_t *value, const char **text);

#endif
