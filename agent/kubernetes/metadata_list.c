// SPDX-License-Identifier: GPL-2.0-only
#include "kubernetes/metadata_list.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* What stands before a message of Kubernetes; then a runtime.Unknown, which holds the list. */
static const char magic[4] = {'k', '8', 's', '\0'};

/* Field numbers of k8s.io/apimachinery's generated.proto. */
enum {
	UNKNOWN_TYPE_META = 1,
	UNKNOWN_RAW = 2,
	TYPE_META_KIND = 2,
	LIST_METADATA = 1,
	LIST_ITEMS = 2,
	LIST_META_RESOURCE_VERSION = 2,
	LIST_META_CONTINUE = 3,
	ITEM_METADATA = 1,
	OBJECT_META_NAME = 1,
	OBJECT_META_NAMESPACE = 3,
	OBJECT_META_RESOURCE_VERSION = 6,
};

enum wire_type { WIRE_VARINT = 0, WIRE_64_BIT = 1, WIRE_BYTES = 2, WIRE_32_BIT = 5 };

struct span {
	const unsigned char *at, *end;
};

struct field {
	uint64_t number;
	bool is_bytes;
	struct span value; /* of bytes */
};

static bool read_varint(struct span *span, uint64_t *value)
{
	*value = 0;
	for (unsigned int shift = 0; shift < 64 && span->at < span->end; shift += 7) {
		unsigned char byte = *span->at++;

		*value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return true;
	}
	return false;
}

static bool skip(struct span *span, uint64_t size)
{
	if (size > (uint64_t)(span->end - span->at))
		return false;
	span->at += size;
	return true;
}

/* 1: a field; 0: there is none left; -EINVAL. */
static int next_field(struct span *span, struct field *field)
{
	uint64_t tag, value;

	if (span->at == span->end)
		return 0;
	if (!read_varint(span, &tag) || !(tag >> 3))
		return -EINVAL;
	*field = (struct field){.number = tag >> 3, .is_bytes = (tag & 7) == WIRE_BYTES};
	switch ((enum wire_type)(tag & 7)) {
	case WIRE_VARINT:
		return read_varint(span, &value) ? 1 : -EINVAL;
	case WIRE_64_BIT:
		return skip(span, 8) ? 1 : -EINVAL;
	case WIRE_32_BIT:
		return skip(span, 4) ? 1 : -EINVAL;
	case WIRE_BYTES:
		if (!read_varint(span, &value))
			return -EINVAL;
		field->value.at = span->at;
		if (!skip(span, value))
			return -EINVAL;
		field->value.end = span->at;
		return 1;
	default: /* groups, which nobody writes any more */
		return -EINVAL;
	}
}

static size_t size_of(const struct span *span)
{
	return (size_t)(span->end - span->at);
}

static int copy_text(const struct field *field, char *text, size_t size)
{
	size_t length = size_of(&field->value);

	if (!field->is_bytes || length >= size || memchr(field->value.at, '\0', length))
		return -EINVAL;
	memcpy(text, field->value.at, length);
	text[length] = '\0';
	return 0;
}

/* Calls take for each field of a message until one is refused. */
static int for_each_field(struct span span, int (*take)(void *context, const struct field *field), void *context)
{
	struct field field;
	int result;

	while ((result = next_field(&span, &field)) == 1) {
		result = take(context, &field);
		if (result)
			return result;
	}
	return result;
}

static int take_of_object_meta(void *context, const struct field *field)
{
	struct metadata_item *item = context;

	switch (field->number) {
	case OBJECT_META_NAME:
		return copy_text(field, item->name, sizeof(item->name));
	case OBJECT_META_NAMESPACE:
		return copy_text(field, item->namespace_, sizeof(item->namespace_));
	case OBJECT_META_RESOURCE_VERSION:
		return copy_text(field, item->resource_version, sizeof(item->resource_version));
	default:
		return 0;
	}
}

static int take_of_item(void *context, const struct field *field)
{
	if (field->number != ITEM_METADATA)
		return 0;
	return field->is_bytes ? for_each_field(field->value, take_of_object_meta, context) : -EINVAL;
}

static int take_of_list_meta(void *context, const struct field *field)
{
	struct metadata_list *list = context;

	if (field->number == LIST_META_RESOURCE_VERSION)
		return copy_text(field, list->resource_version, sizeof(list->resource_version));
	if (field->number == LIST_META_CONTINUE)
		list->continues = field->is_bytes && size_of(&field->value) > 0;
	return 0;
}

struct reading {
	struct metadata_list *list;
	int (*on_item)(void *context, const struct metadata_item *item);
	void *context;
	bool is_list; /* the message's kind says so */
	struct span raw;
};

static int take_of_list(void *context, const struct field *field)
{
	struct reading *reading = context;
	struct metadata_item item;
	int result;

	if (field->number != LIST_METADATA && field->number != LIST_ITEMS)
		return 0;
	if (!field->is_bytes)
		return -EINVAL;
	if (field->number == LIST_METADATA)
		return for_each_field(field->value, take_of_list_meta, reading->list);
	item.namespace_[0] = item.name[0] = item.resource_version[0] = '\0';
	result = for_each_field(field->value, take_of_item, &item);
	if (result == 0 && (!item.name[0] || !item.resource_version[0]))
		return -EINVAL;
	return result == 0 && reading->on_item ? reading->on_item(reading->context, &item) : result;
}

static int take_of_type_meta(void *context, const struct field *field)
{
	static const char kind[] = "PartialObjectMetadataList";
	struct reading *reading = context;

	if (field->number == TYPE_META_KIND)
		reading->is_list = field->is_bytes && size_of(&field->value) == sizeof(kind) - 1 &&
		                   memcmp(field->value.at, kind, sizeof(kind) - 1) == 0;
	return 0;
}

static int take_of_unknown(void *context, const struct field *field)
{
	struct reading *reading = context;

	if (field->number != UNKNOWN_TYPE_META && field->number != UNKNOWN_RAW)
		return 0;
	if (!field->is_bytes)
		return -EINVAL;
	if (field->number == UNKNOWN_TYPE_META)
		return for_each_field(field->value, take_of_type_meta, reading);
	reading->raw = field->value;
	return 0;
}

int metadata_list_read(const char *bytes, size_t length, struct metadata_list *list,
                       int (*on_item)(void *context, const struct metadata_item *item), void *context)
{
	struct reading reading = {.list = list, .on_item = on_item, .context = context};
	struct span span = {.at = (const unsigned char *)bytes, .end = (const unsigned char *)bytes + length};
	int result;

	*list = (struct metadata_list){0};
	if (length < sizeof(magic) || memcmp(bytes, magic, sizeof(magic)) != 0)
		return -EINVAL;
	span.at += sizeof(magic);
	result = for_each_field(span, take_of_unknown, &reading);
	if (result)
		return result;
	return reading.is_list ? for_each_field(reading.raw, take_of_list, &reading) : -EINVAL;
}
