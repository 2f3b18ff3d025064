// SPDX-License-Identifier: GPL-2.0-only
#include "policy/field.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

size_t path_format(const struct path *where, char *text, size_t size)
{
	size_t length = where->parent ? path_format(where->parent, text, size) : 0;
	int added;

	if (length + 1 >= size)
		return length;
	if (where->key)
		added = snprintf(text + length, size - length, "%s%s", length ? "." : "", where->key);
	else if (where->parent)
		added = snprintf(text + length, size - length, "[%zu]", where->index);
	else
		added = 0;
	length += added > 0 ? (size_t)added : 0;
	return length < size ? length : size - 1;
}

int refuse_field(struct decoder *decoder, const struct path *where, const char *format, ...)
{
	char path[256] = "";
	va_list arguments;
	int length;

	path_format(where, path, sizeof(path));
	length = snprintf(decoder->error, sizeof(decoder->error), "%s%s", path, path[0] ? ": " : "");
	va_start(arguments, format);
	vsnprintf(decoder->error + length, sizeof(decoder->error) - (size_t)length, format, arguments);
	va_end(arguments);
	return -EINVAL;
}

static const char *type_name(const json_t *value)
{
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): asked for what lookup() found only */
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "a map";
	case JSON_ARRAY:
		return "a list";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
	case JSON_REAL:
		return "a number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	default:
		return "null";
	}
}

/* 1: *value is there; 0: absent and optional. */
static int lookup(struct decoder *decoder, const struct path *here, const json_t *map, enum presence presence,
                  const json_t **value)
{
	*value = json_object_get(map, here->key);
	if (*value && !json_is_null(*value))
		return 1;
	*value = NULL;
	return presence == REQUIRED ? refuse_field(decoder, here, "is required") : 0;
}

int value_borrow(struct decoder *decoder, const struct path *where, const json_t *value, const char **text)
{
	if (!value)
		return refuse_field(decoder, where, "is required");
	if (!json_is_string(value))
		return refuse_field(decoder, where, "must be a string, not %s", type_name(value));
	if (strlen(json_string_value(value)) != json_string_length(value))
		return refuse_field(decoder, where, "must not contain a NUL character");
	*text = json_string_value(value);
	return 0;
}

int value_string(struct decoder *decoder, const struct path *where, const json_t *value, const char **text)
{
	int result = value_borrow(decoder, where, value, text);

	if (result < 0)
		return result;
	*text = arena_strdup(decoder->arena, *text);
	return *text ? 0 : -ENOMEM;
}

int value_map(struct decoder *decoder, const struct path *where, const json_t *value)
{
	return json_is_object(value) ? 0 : refuse_field(decoder, where, "must be a map, not %s", type_name(value));
}

int field_string(struct decoder *decoder, const struct path *where, const json_t *map, const char *key,
                 enum presence presence, const char **value)
{
	struct path here = path_key(where, key);
	const json_t *found;
	int result = lookup(decoder, &here, map, presence, &found);

	*value = NULL;
	return result > 0 ? value_string(decoder, &here, found, value) : result;
}

int field_borrow(struct decoder *decoder, const struct path *where, const json_t *map, const char *key,
                 enum presence presence, const char **value)
{
	struct path here = path_key(where, key);
	const json_t *found;
	int result = lookup(decoder, &here, map, presence, &found);

	*value = NULL;
	return result > 0 ? value_borrow(decoder, &here, found, value) : result;
}

int field_integer(struct decoder *decoder, const struct path *where, const json_t *map, const char *key,
                  enum presence presence, json_int_t minimum, json_int_t maximum, json_int_t *value)
{
	struct path here = path_key(where, key);
	const json_t *found;
	int result = lookup(decoder, &here, map, presence, &found);

	if (result <= 0)
		return result;
	if (!json_is_integer(found))
		return refuse_field(decoder, &here, "must be a whole number, not %s", type_name(found));
	if (json_integer_value(found) < minimum || json_integer_value(found) > maximum)
		return refuse_field(decoder, &here,
		                    "must be between %" JSON_INTEGER_FORMAT " and %" JSON_INTEGER_FORMAT
		                    ", not %" JSON_INTEGER_FORMAT,
		                    minimum, maximum, json_integer_value(found));
	*value = json_integer_value(found);
	return 0;
}

int field_boolean(struct decoder *decoder, const struct path *where, const json_t *map, const char *key, bool *value)
{
	struct path here = path_key(where, key);
	const json_t *found;
	int result = lookup(decoder, &here, map, OPTIONAL, &found);

	if (result <= 0)
		return result;
	if (!json_is_boolean(found))
		return refuse_field(decoder, &here, "must be true or false, not %s", type_name(found));
	*value = json_is_true(found);
	return 0;
}

int field_map(struct decoder *decoder, const struct path *where, const json_t *map, const char *key,
              enum presence presence, const json_t **value)
{
	struct path here = path_key(where, key);
	int result = lookup(decoder, &here, map, presence, value);

	return result > 0 ? value_map(decoder, &here, *value) : result;
}

int field_list(struct decoder *decoder, const struct path *where, const json_t *map, const char *key,
               enum presence presence, size_t most, const json_t **value)
{
	struct path here = path_key(where, key);
	int result = lookup(decoder, &here, map, presence, value);

	if (result <= 0)
		return result;
	if (!json_is_array(*value))
		return refuse_field(decoder, &here, "must be a list, not %s", type_name(*value));
	if (json_array_size(*value) > most)
		return refuse_field(decoder, &here, "has %zu items, at most %zu are allowed", json_array_size(*value),
		                    most);
	return 0;
}

int field_items(struct decoder *decoder, const struct path *where, const json_t *map, const char *key,
                enum presence presence, size_t most, const struct field_item *kind, void *items, size_t *count)
{
	struct path list_path = path_key(where, key);
	const json_t *list, *value;
	size_t index;
	char *array;
	int result = field_list(decoder, where, map, key, presence, most, &list);

	if (result < 0 || !list)
		return result;
	array = arena_alloc(decoder->arena, json_array_size(list), kind->size);
	if (!array)
		return -ENOMEM;
	json_array_foreach (list, index, value) {
		struct path here = path_index(&list_path, index);

		result = kind->decode(decoder, &here, value, array + index * kind->size);
		if (result < 0)
			return result;
	}
	memcpy(items, &array, sizeof(array));
	*count = json_array_size(list);
	return 0;
}
