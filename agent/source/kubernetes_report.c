// SPDX-License-Identifier: GPL-2.0-only
/* What the operator is told: objects that do not decode, watches that fail, kinds that are not served. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "source/kubernetes_internal.h"

/* "endpointslices (cluster)", "configmaps (namespace shop)", "secrets (shop/ca)" */
static void name_stream(const struct stream *stream, char *text, size_t size)
{
	if (*stream->name)
		(void)snprintf(text, size, "%s (%s/%s)", stream->resource->name, stream->namespace_, stream->name);
	else if (*stream->namespace_)
		(void)snprintf(text, size, "%s (namespace %s)", stream->resource->name, stream->namespace_);
	else
		(void)snprintf(text, size, "%s (cluster)", stream->resource->name);
}

static int add_stream(struct findings *findings, const struct stream *stream)
{
	enum kubernetes_watch_state state = stream_state(stream);
	const char *error = stream_error(stream);
	char name[400], note[700];

	if (!*error)
		return 0;
	name_stream(stream, name, sizeof(name));
	if (state != WATCH_ABSENT || stream->resource->required)
		return findings_add_error(findings, name, error);
	(void)snprintf(note, sizeof(note), "%s: %s", name, error);
	return findings_add_note(findings, note);
}

static int add_record(struct findings *findings, const struct record *record)
{
	char name[700];

	if (record->note && findings_add_note(findings, record->note) < 0)
		return -1;
	if (!record->problem)
		return 0;
	(void)snprintf(name, sizeof(name), "%s %s%s%s", object_kind_name(record->resource->kind), record->namespace_,
	               *record->namespace_ ? "/" : "", record->name);
	return findings_add_error(findings, name, record->problem);
}

static int fill(struct findings *findings, const struct kubernetes_source *source)
{
	for (const struct stream *stream = source->streams; stream; stream = stream->next)
		if (add_stream(findings, stream) < 0)
			return -1;
	for (const struct stream *stream = source->streams; stream; stream = stream->next)
		for (const struct record *record = stream->records; record; record = record->next)
			if (add_record(findings, record) < 0)
				return -1;
	return 0;
}

/* Made when somebody looks. Without memory the old ones stay, and are made anew at the next look. */
static const struct findings *look(const struct source *base)
{
	struct kubernetes_source *source = kubernetes_source_of(base);
	struct findings findings = {0};

	if (!source->findings_due)
		return &source->findings;
	if (fill(&findings, source) < 0) {
		findings_free(&findings);
		return &source->findings;
	}
	findings_free(&source->findings);
	source->findings = findings;
	source->findings_due = false;
	return &source->findings;
}

size_t report_error_count(const struct source *source)
{
	return look(source)->error_count;
}

const struct source_error *report_error_at(const struct source *source, size_t index)
{
	return &kubernetes_source_of(source)->findings.errors[index];
}

size_t report_note_count(const struct source *source)
{
	return look(source)->note_count;
}

const char *report_note_at(const struct source *source, size_t index)
{
	return kubernetes_source_of(source)->findings.notes[index];
}

size_t report_watch_count(const struct source *source)
{
	size_t count = 0;

	for (const struct stream *stream = kubernetes_source_of(source)->streams; stream; stream = stream->next)
		count++;
	return count;
}

struct source_watch report_watch_at(const struct source *source, size_t index)
{
	const struct stream *stream = kubernetes_source_of(source)->streams;
	const struct kubernetes_watch_statistics *statistics;
	struct source_watch row;

	while (index--)
		stream = stream->next;
	row = (struct source_watch){
	        .resource = stream->resource->name,
	        .namespace_ = stream->namespace_,
	        .name = stream->name,
	        .state = kubernetes_watch_state_name(stream_state(stream)),
	        .objects = stream->record_count,
	        .lists = stream->lists,
	        .events = stream->events,
	        .failures = stream->failures,
	        .error = stream_error(stream),
	};
	if (!stream->watch)
		return row;
	statistics = kubernetes_watch_statistics(stream->watch);
	row.lists += statistics->lists;
	row.events += statistics->events;
	row.failures += statistics->failures;
	row.last_event_ns = statistics->last_event_ns;
	row.failing_since_ns = stream->absent && !stream->resource->required ? 0 : statistics->failing_since_ns;
	return row;
}
