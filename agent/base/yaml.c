// SPDX-License-Identifier: GPL-2.0-only
#include "base/yaml.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "base/cleanup.h"
#include "base/printable.h"
#include "base/wiping.h"
#include "base/yaml_plain.h"

/*
 * libyaml frees its copies of the text by these two names, and the dynamic linker finds ours first. What they held may
 * be a private key.
 */
void yaml_free(void *memory);
void *yaml_realloc(void *memory, size_t size);

void yaml_free(void *memory)
{
	wiping_free(memory);
}

void *yaml_realloc(void *memory, size_t size)
{
	return wiping_realloc(memory, size);
}

/* A container that is being filled. The documents' own array is frame 0, without a parent. */
struct frame {
	json_t *container; /* owned until it is put into its parent */
	char *key;         /* of a mapping: the key whose value comes next, or NULL when a key comes next */
};

struct reader {
	yaml_parser_t parser;
	struct frame frames[YAML_MAX_DEPTH + 1];
	size_t depth; /* frames in use */
	size_t nodes;
	char *error;
	size_t error_size;
	size_t error_line; /* from 1 */
};

static int refuse(struct reader *reader, int result, size_t line, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

static int refuse(struct reader *reader, int result, size_t line, const char *format, ...)
{
	int length = snprintf(reader->error, reader->error_size, "line %zu: ", line + 1);
	va_list arguments;

	reader->error_line = line + 1;
	if (length > 0 && (size_t)length < reader->error_size) {
		va_start(arguments, format);
		vsnprintf(reader->error + length, reader->error_size - (size_t)length, format, arguments);
		va_end(arguments);
	}
	return result;
}

/* Takes over value, on failure too. */
static int place(struct reader *reader, json_t *value, size_t line)
{
	struct frame *frame = &reader->frames[reader->depth - 1];
	int failed;

	if (!value)
		return -ENOMEM;
	if (++reader->nodes > YAML_MAX_NODES) {
		json_decref(value);
		return refuse(reader, -E2BIG, line, "more than %d values", YAML_MAX_NODES);
	}
	if (json_is_array(frame->container))
		return json_array_append_new(frame->container, value) ? -ENOMEM : 0;
	failed = json_object_set_new(frame->container, frame->key, value);
	free(TAKE_PTR(frame->key));
	return failed ? -ENOMEM : 0;
}

static bool next_is_key(const struct reader *reader)
{
	const struct frame *frame = &reader->frames[reader->depth - 1];

	return json_is_object(frame->container) && !frame->key;
}

static bool is_plain(const yaml_event_t *event)
{
	return !event->data.scalar.tag && event->data.scalar.plain_implicit;
}

/* What a plain key stands for, as a text; a fraction stays as it is written. Refused: NULL, with *result set. */
static const char *key_text(struct reader *reader, const yaml_event_t *event, char number[static PRINTABLE_MAX],
                            int *result)
{
	const char *text = (const char *)event->data.scalar.value;
	size_t line = event->start_mark.line;
	struct yaml_plain plain = {.kind = YAML_PLAIN_TEXT};

	*result = is_plain(event) ? yaml_plain_resolve(text, &plain) : 0;
	if (*result < 0)
		return NULL;
	switch (plain.kind) {
	case YAML_PLAIN_TRUE:
		return "true";
	case YAML_PLAIN_FALSE:
		return "false";
	case YAML_PLAIN_INTEGER:
		(void)snprintf(number, PRINTABLE_MAX, "%lld", plain.integer);
		return number;
	case YAML_PLAIN_NULL:
		*result = refuse(reader, -EINVAL, line, "null is not accepted as a key");
		return NULL;
	case YAML_PLAIN_MERGE:
		*result = refuse(reader, -EINVAL, line, "merge keys are not accepted");
		return NULL;
	default:
		return text;
	}
}

static int take_key(struct reader *reader, const yaml_event_t *event)
{
	struct frame *frame = &reader->frames[reader->depth - 1];
	char number[PRINTABLE_MAX], key[PRINTABLE_MAX];
	int result;
	const char *text = key_text(reader, event, number, &result);

	if (!text)
		return result;
	if (json_object_get(frame->container, text))
		return refuse(reader, -EINVAL, event->start_mark.line, "duplicate key \"%s\"", printable(text, key));
	frame->key = strdup(text);
	return frame->key ? 0 : -ENOMEM;
}

/* NULL: no memory; place() says so. */
static json_t *value_of(const struct yaml_plain *plain, const char *text, size_t size)
{
	switch (plain->kind) {
	case YAML_PLAIN_NULL:
		return json_null();
	case YAML_PLAIN_TRUE:
		return json_true();
	case YAML_PLAIN_FALSE:
		return json_false();
	case YAML_PLAIN_INTEGER:
		return json_integer(plain->integer);
	case YAML_PLAIN_REAL:
		return json_real(plain->real);
	default:
		return json_stringn(text, size);
	}
}

static int take_plain(struct reader *reader, const yaml_event_t *event)
{
	const char *text = (const char *)event->data.scalar.value;
	size_t line = event->start_mark.line;
	struct yaml_plain plain;
	char number[PRINTABLE_MAX];

	if (yaml_plain_resolve(text, &plain) < 0)
		return -ENOMEM;
	if (plain.kind == YAML_PLAIN_NOT_FINITE)
		return refuse(reader, -EINVAL, line, "%s is no number of JSON's", printable(text, number));
	return place(reader, value_of(&plain, text, event->data.scalar.length), line);
}

static int take_scalar(struct reader *reader, const yaml_event_t *event)
{
	const char *text = (const char *)event->data.scalar.value;
	size_t size = event->data.scalar.length;
	const char *tag = (const char *)event->data.scalar.tag;
	size_t line = event->start_mark.line;
	char tag_shown[PRINTABLE_MAX];

	if (event->data.scalar.anchor)
		return refuse(reader, -EINVAL, line, "anchors and aliases are not accepted");
	if (tag && strcmp(tag, YAML_STR_TAG) && strcmp(tag, "!")) /* "!" says: not resolved, so a string */
		return refuse(reader, -EINVAL, line, "tag \"%s\" is not accepted", printable(tag, tag_shown));
	if (memchr(text, '\0', size))
		return refuse(reader, -EINVAL, line, "a NUL character is not accepted");
	if (next_is_key(reader))
		return take_key(reader, event);
	if (is_plain(event))
		return take_plain(reader, event);
	return place(reader, json_stringn(text, size), line);
}

static int open_container(struct reader *reader, const yaml_event_t *event, json_t *container,
                          const yaml_char_t *anchor, const yaml_char_t *tag, const char *default_tag)
{
	size_t line = event->start_mark.line;
	const char *problem = NULL;

	if (!container)
		return -ENOMEM;
	if (anchor)
		problem = "anchors and aliases are not accepted";
	else if (tag && strcmp((const char *)tag, default_tag))
		problem = "tags are not accepted";
	else if (next_is_key(reader))
		problem = "a mapping or sequence is not accepted as a key";
	if (problem) {
		json_decref(container);
		return refuse(reader, -EINVAL, line, "%s", problem);
	}
	if (reader->depth > YAML_MAX_DEPTH) {
		json_decref(container);
		return refuse(reader, -E2BIG, line, "nested deeper than %d", YAML_MAX_DEPTH);
	}
	reader->frames[reader->depth++] = (struct frame){.container = container};
	return 0;
}

static int close_container(struct reader *reader, const yaml_event_t *event)
{
	struct frame *frame = &reader->frames[--reader->depth];

	return place(reader, TAKE_PTR(frame->container), event->start_mark.line);
}

static int take_event(struct reader *reader, const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_SCALAR_EVENT:
		return take_scalar(reader, event);
	case YAML_SEQUENCE_START_EVENT:
		return open_container(reader, event, json_array(), event->data.sequence_start.anchor,
		                      event->data.sequence_start.tag, YAML_SEQ_TAG);
	case YAML_MAPPING_START_EVENT:
		return open_container(reader, event, json_object(), event->data.mapping_start.anchor,
		                      event->data.mapping_start.tag, YAML_MAP_TAG);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		return close_container(reader, event);
	case YAML_ALIAS_EVENT:
		return refuse(reader, -EINVAL, event->start_mark.line, "anchors and aliases are not accepted");
	default:
		return 0;
	}
}

static int read_events(struct reader *reader)
{
	yaml_event_type_t type;
	yaml_event_t event;
	int result;

	do {
		if (!yaml_parser_parse(&reader->parser, &event)) {
			if (reader->parser.error == YAML_MEMORY_ERROR)
				return -ENOMEM;
			return refuse(reader, -EINVAL, reader->parser.problem_mark.line, "%s",
			              reader->parser.problem ? reader->parser.problem : "not YAML");
		}
		type = event.type;
		result = take_event(reader, &event);
		yaml_event_delete(&event);
	} while (result == 0 && type != YAML_STREAM_END_EVENT);
	return result;
}

static int read_text(struct reader *reader, const char *text, size_t size)
{
	int result;

	reader->frames[0].container = json_array();
	if (!reader->frames[0].container)
		return -ENOMEM;
	reader->depth = 1;
	if (!yaml_parser_initialize(&reader->parser))
		return -ENOMEM;
	yaml_parser_set_encoding(&reader->parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&reader->parser, (const unsigned char *)text, size);
	result = read_events(reader);
	yaml_parser_delete(&reader->parser);
	return result;
}

static void free_frames(struct reader *reader)
{
	for (size_t i = 0; i < reader->depth; i++) {
		json_decref(reader->frames[i].container);
		free(reader->frames[i].key);
	}
}

int yaml_load(const char *text, size_t size, json_t **documents, char *error, size_t error_size)
{
	struct reader reader = {.error = error, .error_size = error_size};
	int result;

	if (error_size)
		error[0] = '\0';
	if (size > YAML_MAX_BYTES) {
		snprintf(error, error_size, "larger than %u MiB", YAML_MAX_BYTES >> 20);
		return -E2BIG;
	}
	result = read_text(&reader, text, size);
	if (result == 0)
		*documents = TAKE_PTR(reader.frames[0].container);
	free_frames(&reader);
	return result;
}

/* Put each open container into its parent. */
static int close_frames(struct reader *reader)
{
	int result = 0;

	while (result == 0 && reader->depth > 1) {
		struct frame *frame = &reader->frames[--reader->depth];

		free(TAKE_PTR(frame->key)); /* its value never came */
		result = place(reader, TAKE_PTR(frame->container), 0);
	}
	return result;
}

int yaml_load_until_error(const char *text, size_t size, json_t **documents, size_t *error_line)
{
	char error[128];
	struct reader reader = {.error = error, .error_size = sizeof(error)};
	int result = read_text(&reader, text, size);

	*error_line = reader.error_line;
	if (result == -EINVAL || result == -E2BIG) {
		reader.nodes = 0; /* what is open is placed, whatever the count is */
		result = close_frames(&reader);
	}
	if (result == 0)
		*documents = TAKE_PTR(reader.frames[0].container);
	free_frames(&reader);
	return result;
}
