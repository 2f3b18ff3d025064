// SPDX-License-Identifier: GPL-2.0-only
#include "source/source.h"

void source_close(struct source *source)
{
	if (source)
		source->operations->close(source);
}

bool source_refresh(struct source *source, bool force)
{
	return source->operations->refresh(source, force);
}

void source_make_current(struct source *source, uint64_t as_of_ns, enum source_scope scope)
{
	source->operations->make_current(source, as_of_ns, scope);
}

void source_want_pods(struct source *source, const struct object_name *pods, size_t count)
{
	if (source->operations->want_pods)
		source->operations->want_pods(source, pods, count);
}

const struct object_store *source_store(const struct source *source)
{
	return source->operations->store(source);
}

bool source_synced(const struct source *source)
{
	return source->operations->synced(source);
}

bool source_in_order(const struct source *source)
{
	return source->operations->in_order(source);
}

size_t source_error_count(const struct source *source)
{
	return source->operations->error_count(source);
}

const struct source_error *source_error_at(const struct source *source, size_t index)
{
	return source->operations->error_at(source, index);
}

size_t source_note_count(const struct source *source)
{
	return source->operations->note_count(source);
}

const char *source_note_at(const struct source *source, size_t index)
{
	return source->operations->note_at(source, index);
}

size_t source_watch_count(const struct source *source)
{
	return source->operations->watch_count(source);
}

struct source_watch source_watch_at(const struct source *source, size_t index)
{
	return source->operations->watch_at(source, index);
}
