// SPDX-License-Identifier: GPL-2.0-only
#include "source/directory.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/loop.h"
#include "source/files.h"

/* Without inotify's word the directory is read again if the last read is older. */
#define FRESH_NS 100000000ull

struct directory_source {
	struct source source;
	struct loop *loop;
	struct files_source *files;
	struct loop_source event;
	struct loop_timer answer; /* who asked is told in the next round */
	uint64_t read_ns;         /* the store shows the directory as of then; CLOCK_MONOTONIC */
	uint64_t asked_ns;        /* 0: nobody waits */
	bool stale;               /* the next refresh reads everything */
};

static struct directory_source *directory_of(const struct source *source)
{
	return container_of(source, struct directory_source, source);
}

static void on_event(struct loop_source *event, uint32_t events)
{
	struct directory_source *directory = container_of(event, struct directory_source, event);

	(void)events;
	directory->source.events.changed(directory->source.events.context);
}

static void on_answer(struct loop_timer *timer)
{
	struct directory_source *directory = container_of(timer, struct directory_source, answer);
	uint64_t asked_ns = directory->asked_ns;

	directory->asked_ns = 0;
	directory->source.events.current(directory->source.events.context, asked_ns, SOURCE_ALL);
}

static void make_current(struct source *source, uint64_t as_of_ns, enum source_scope scope)
{
	struct directory_source *directory = directory_of(source);

	(void)scope;
	directory->asked_ns = as_of_ns;
	directory->stale |= as_of_ns - directory->read_ns > FRESH_NS;
	if (loop_timer_set(directory->loop, &directory->answer, 0) != 0)
		log_error("no memory", "what=\"answer of the manifests\""); /* the waiters' limit answers */
}

static bool refresh(struct source *source, bool force)
{
	struct directory_source *directory = directory_of(source);

	force |= directory->stale;
	directory->stale = false;
	directory->read_ns = monotonic_ns();
	return force ? files_source_reload(directory->files) : files_source_refresh(directory->files);
}

static void close_directory(struct source *source)
{
	struct directory_source *directory = directory_of(source);

	loop_timer_cancel(directory->loop, &directory->answer);
	loop_remove(directory->loop, &directory->event);
	files_source_close(directory->files);
	loop_defer_free(directory->loop, directory);
}

static const struct object_store *store(const struct source *source)
{
	return files_source_store(directory_of(source)->files);
}

static bool synced(const struct source *source)
{
	(void)source;
	return true;
}

static bool in_order(const struct source *source)
{
	return files_source_error_count(directory_of(source)->files) == 0;
}

static size_t error_count(const struct source *source)
{
	return files_source_error_count(directory_of(source)->files);
}

static const struct source_error *error_at(const struct source *source, size_t index)
{
	return files_source_error_at(directory_of(source)->files, index);
}

static size_t note_count(const struct source *source)
{
	return files_source_note_count(directory_of(source)->files);
}

static const char *note_at(const struct source *source, size_t index)
{
	return files_source_note_at(directory_of(source)->files, index);
}

static size_t watch_count(const struct source *source)
{
	(void)source;
	return 0;
}

static struct source_watch watch_at(const struct source *source, size_t index)
{
	(void)source;
	(void)index;
	return (struct source_watch){0};
}

static const struct source_operations operations = {
        .close = close_directory,
        .refresh = refresh,
        .make_current = make_current,
        .store = store,
        .synced = synced,
        .in_order = in_order,
        .error_count = error_count,
        .error_at = error_at,
        .note_count = note_count,
        .note_at = note_at,
        .watch_count = watch_count,
        .watch_at = watch_at,
};

int directory_source_open(const char *path, struct loop *loop, const struct source_events *events,
                          struct source **source)
{
	struct directory_source *directory = calloc(1, sizeof(*directory));
	int error = directory ? files_source_open(path, &directory->files) : -ENOMEM;

	if (error) {
		free(directory);
		return error;
	}
	directory->source = (struct source){.operations = &operations, .events = *events};
	directory->loop = loop;
	directory->read_ns = monotonic_ns();
	directory->event.on_event = on_event;
	directory->answer.on_expire = on_answer;
	error = loop_add(loop, &directory->event, files_source_fd(directory->files), EPOLLIN);
	if (error) {
		files_source_close(directory->files);
		free(directory);
		return error;
	}
	*source = &directory->source;
	return 0;
}
