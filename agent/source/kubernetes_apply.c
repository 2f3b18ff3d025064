// SPDX-License-Identifier: GPL-2.0-only
/*
 * Records -> the store. Two streams may show one object (a Pod of this node that was asked for by its name, too): it is
 * there as long as one of them shows it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "policy/store.h"
#include "source/kubernetes_internal.h"

static bool is_of(const struct record *record, const struct record *other)
{
	return record->resource->kind == other->resource->kind && strcmp(record->name, other->name) == 0 &&
	       strcmp(record->namespace_, other->namespace_) == 0;
}

/* Another record of the same object; NULL: there is none. */
static const struct record *other_record(const struct kubernetes_source *source, const struct record *record)
{
	struct table_node *node = table_first(&source->records, record->node.hash);

	for (; node; node = table_next(node)) {
		const struct record *other = container_of(node, struct record, node);

		if (other != record && !other->gone && other->object && is_of(other, record))
			return other;
	}
	return NULL;
}

/* 1: the store changed, 0: not, -ENOMEM. */
static int apply_object(struct kubernetes_source *source, const struct record *record, struct object *object)
{
	enum object_kind kind = record->resource->kind;

	if (!object)
		return object_store_remove(source->store, kind, record->namespace_, record->name);
	if (object_store_find(source->store, kind, record->namespace_, record->name) == object)
		return 0;
	return object_store_put(source->store, object) < 0 ? -ENOMEM : 1;
}

static int quarantine(struct kubernetes_source *source, struct record *record)
{
	char *why;
	int result;

	if (asprintf(&why, "%s %s%s%s: %s", object_kind_name(record->resource->kind), record->namespace_,
	             *record->namespace_ ? "/" : "", record->name, record->problem) == -1)
		return -ENOMEM;
	result = object_store_quarantine(source->store, record->visible, why);
	free(why);
	record->quarantined = result == 0;
	return result < 0 ? result : 1;
}

static int apply_quarantine(struct kubernetes_source *source, struct record *record)
{
	bool wanted = !record->gone && record->problem && record->visible;
	int changed = 0;

	if (record->quarantined) {
		changed = object_store_release(source->store, record->resource->kind, record->namespace_, record->name);
		record->quarantined = false;
	}
	return wanted ? quarantine(source, record) : changed;
}

static int apply_record(struct kubernetes_source *source, struct record *record)
{
	const struct record *other = record->gone ? other_record(source, record) : NULL;
	struct object *object = record->gone ? (other ? other->object : NULL) : record->object;
	int changed = apply_object(source, record, object);
	int quarantined = changed < 0 ? 0 : apply_quarantine(source, record);

	return changed < 0 ? changed : quarantined < 0 ? quarantined : changed | quarantined;
}

/* What they say decides what else is asked for. */
static bool concerns_references(enum object_kind kind)
{
	return kind == OBJECT_BACKEND_TLS_POLICY || kind == OBJECT_GATEWAY || kind == OBJECT_REFERENCE_GRANT;
}

bool apply_records(struct kubernetes_source *source)
{
	struct record *dirty = source->dirty;
	bool changed = false;

	source->dirty = NULL;
	source->dirty_end = &source->dirty;
	source->out_of_memory = false;
	while (dirty) {
		struct record *record = dirty;
		int result = apply_record(source, record);

		dirty = record->next_dirty;
		record->dirty = false;
		if (result < 0) {
			source->out_of_memory = true;
			record_mark(record);
			continue;
		}
		changed |= result;
		source->references_due |= result && concerns_references(record->resource->kind);
		if (record->gone) {
			table_remove(&source->records, &record->node);
			record_free(record);
		}
	}
	if (source->out_of_memory)
		log_error("no memory", "what=\"objects of the cluster\"");
	return changed;
}
