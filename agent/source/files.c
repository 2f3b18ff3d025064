// SPDX-License-Identifier: GPL-2.0-only
#include "source/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/timerfd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sorted.h"
#include "policy/vector.h"
#include "source/assemble.h"

#define REMOVAL_DELAY_NS 100000000ull
#define RETRY_DELAY_NS   1000000000ull /* after want of memory */
/*
 * The kernel tells of IN_CLOSE_WRITE before it takes the writer off the file (__fput()), so who looks at once may find
 * it still there, and no other event comes.
 */
#define BUSY_DELAY_NS 50000000ull

/*
 * IN_CREATE is for symlinks and hard links; a new regular file is open for writing at that time, and its IN_CLOSE_WRITE
 * follows.
 */
#define DIRECTORY_EVENTS                                                                                               \
	(IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB | IN_DELETE_SELF |           \
	 IN_MOVE_SELF | IN_ONLYDIR)
#define TARGET_EVENTS (IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF)

struct files_source {
	char *path;
	int directory_fd; /* the directory itself: what stands at path may be another one later */
	int inotify_fd;
	int timer_fd;                 /* the next removal, or the next try */
	int epoll_fd;                 /* the two above as one */
	struct manifest_file **files; /* by name */
	size_t file_count, file_capacity;
	struct object_store *store;
	struct findings findings;
	const char *directory_problem; /* NULL: it is as it should be */
	bool changed;                  /* a file, since the store was assembled last */
	bool assembled;                /* store and findings show what is known */
};

static void close_directory(DIR **directory)
{
	if (*directory)
		closedir(*directory);
}

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static int compare_to_file(const void *name, const void *file)
{
	return strcmp(name, (*(struct manifest_file *const *)file)->name);
}

/* The index of the file, or where it belongs. */
static size_t find_file(const struct files_source *source, const char *name, bool *found)
{
	return place_sorted(name, source->files, source->file_count, sizeof(*source->files), compare_to_file, found);
}

static int see_file(struct files_source *source, const char *name)
{
	struct manifest_file *file;
	bool found;
	size_t index = find_file(source, name, &found);

	if (!found) {
		if (vector_reserve(&source->files, source->file_count, &source->file_capacity,
		                   sizeof(struct manifest_file *)) < 0)
			return -ENOMEM;
		file = manifest_file_new(name);
		if (!file)
			return -ENOMEM;
		memmove(source->files + index + 1, source->files + index,
		        (source->file_count - index) * sizeof(struct manifest_file *));
		source->files[index] = file;
		source->file_count++;
	}
	source->files[index]->seen = true;
	return 0;
}

/* 0, or -errno: what was not seen may still be there. */
static int list_directory(struct files_source *source)
{
	int fd = openat(source->directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(close_directory) DIR *directory = fd == -1 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!directory) {
		int error = errno;

		if (fd != -1)
			close(fd);
		return -error;
	}
	for (size_t i = 0; i < source->file_count; i++)
		source->files[i]->seen = false;
	for (;;) {
		errno = 0;
		entry = readdir(directory);
		if (!entry)
			return -errno;
		if (!is_manifest_name(entry->d_name) || entry->d_type == DT_DIR)
			continue;
		if (see_file(source, entry->d_name) < 0)
			return -ENOMEM;
	}
}

static const char *check_directory(const struct files_source *source)
{
	struct stat ours, at_path;

	if (fstat(source->directory_fd, &ours) == -1 || !ours.st_nlink)
		return "the directory was removed: its last state is kept until postern is started again";
	if (stat(source->path, &at_path) == -1)
		return "the directory is not at its place any more: its last state is kept";
	if (ours.st_dev != at_path.st_dev || ours.st_ino != at_path.st_ino)
		return "the directory was replaced by another: its last state is kept until postern is started again";
	return NULL;
}

static bool is_symlink(const struct files_source *source, const char *name)
{
	struct stat status;

	return fstatat(source->directory_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(status.st_mode);
}

static void unwatch_target(struct files_source *source, struct manifest_file *file)
{
	int watch = file->target_watch;

	if (watch == -1)
		return;
	file->target_watch = -1;
	for (size_t i = 0; i < source->file_count; i++) /* two links to one file share its watch */
		if (source->files[i]->target_watch == watch)
			return;
	inotify_rm_watch(source->inotify_fd, watch);
}

/* A symlink's target lies outside: its changes are no events of the directory. A failure means later notice only. */
static void watch_target(struct files_source *source, struct manifest_file *file)
{
	_cleanup_free_ char *path = NULL;
	int watch = -1;

	if (is_symlink(source, file->name)) {
		if (asprintf(&path, "%s/%s", source->path, file->name) < 0) {
			path = NULL;
			return;
		}
		watch = inotify_add_watch(source->inotify_fd, path, TARGET_EVENTS);
	}
	if (watch == file->target_watch)
		return;
	unwatch_target(source, file);
	file->target_watch = watch;
}

static void arm_timer(struct files_source *source, uint64_t due_ns)
{
	struct itimerspec setting = {
	        .it_value = {.tv_sec = (time_t)(due_ns / 1000000000), .tv_nsec = (long)(due_ns % 1000000000)}};

	timerfd_settime(source->timer_fd, TFD_TIMER_ABSTIME, &setting, NULL);
}

static void remove_file(struct files_source *source, size_t index)
{
	unwatch_target(source, source->files[index]);
	manifest_file_free(source->files[index]);
	source->file_count--;
	memmove(source->files + index, source->files + index + 1,
	        (source->file_count - index) * sizeof(struct manifest_file *));
}

static void wait_until(uint64_t *due, uint64_t time)
{
	if (!*due || time < *due)
		*due = time;
}

/* True if a file is gone for good, or is back. Those that are missing or being written are waited for. */
static bool remove_missing(struct files_source *source)
{
	uint64_t now = now_ns(), due = 0;
	bool changed = false;

	for (size_t i = source->file_count; i-- > 0;) {
		struct manifest_file *file = source->files[i];

		if (file->seen) {
			changed |= file->missing_since_ns != 0; /* its objects count in full again */
			file->missing_since_ns = 0;
			if (file->busy)
				wait_until(&due, now + BUSY_DELAY_NS);
			continue;
		}
		if (!file->missing_since_ns)
			file->missing_since_ns = now;
		if (now - file->missing_since_ns >= REMOVAL_DELAY_NS) {
			changed |= file->in_force || file->broken;
			remove_file(source, i);
			continue;
		}
		wait_until(&due, file->missing_since_ns + REMOVAL_DELAY_NS);
	}
	if (due)
		arm_timer(source, due);
	return changed;
}

/* 0, or -ENOMEM: some are as they were. */
static int update_files(struct files_source *source, bool force)
{
	int result = 0;

	for (size_t i = 0; i < source->file_count; i++) {
		struct manifest_file *file = source->files[i];
		int changed;

		if (!file->seen)
			continue;
		watch_target(source, file); /* before reading: what changes afterwards is an event */
		changed = manifest_file_update(file, source->directory_fd, force);
		if (changed < 0)
			result = changed;
		source->changed |= changed > 0;
	}
	return result;
}

static bool knows_error(const struct findings *findings, const struct source_error *error)
{
	for (size_t i = 0; i < findings->error_count; i++)
		if (!strcmp(findings->errors[i].object, error->object) &&
		    !strcmp(findings->errors[i].message, error->message))
			return true;
	return false;
}

static void log_errors(const struct findings *findings, const struct findings *before, const char *event)
{
	char object[512], message[1024];

	for (size_t i = 0; i < findings->error_count; i++)
		if (!knows_error(before, &findings->errors[i]))
			log_warning(event, "object=%s error=%s",
			            log_quote(findings->errors[i].object, object, sizeof(object)),
			            log_quote(findings->errors[i].message, message, sizeof(message)));
}

static void replace_findings(struct files_source *source, struct findings *findings)
{
	log_errors(findings, &source->findings, "manifest refused");
	log_errors(&source->findings, findings, "manifest error gone");
	findings_free(&source->findings);
	source->findings = *findings;
	*findings = (struct findings){0};
}

/* Without memory the store and the findings stay as they were. */
static int assemble(struct files_source *source)
{
	_cleanup_(findings_free) struct findings findings = {0};
	struct object_store *store = object_store_new();
	int result = store ? 0 : -ENOMEM;

	if (result == 0 && source->directory_problem)
		result = findings_add_error(&findings, source->path, source->directory_problem);
	if (result == 0)
		result = assemble_store(source->files, source->file_count, store, &findings);
	if (result == 0) {
		object_store_swap(source->store, store);
		replace_findings(source, &findings);
	}
	object_store_free(store);
	return result;
}

/* Look at the directory, and at its files if it is what it should be. 0 or -ENOMEM. */
static int look(struct files_source *source, bool force)
{
	const char *problem = check_directory(source);
	int result = 0;

	if (!problem) {
		result = list_directory(source);
		problem = result < 0 ? strerror(-result) : check_directory(source);
	}
	source->assembled &= problem == source->directory_problem;
	source->directory_problem = problem;
	if (problem)
		return result == -ENOMEM ? result : 0;
	result = update_files(source, force);
	source->changed |= remove_missing(source);
	return result;
}

/* True if the store changed. */
static bool scan(struct files_source *source, bool force)
{
	int result = look(source, force), assembled = 0;
	bool changed = source->changed;

	if (changed || !source->assembled)
		assembled = assemble(source);
	if (result < 0 || assembled < 0) {
		log_error("manifests not applied", "error=\"%s\"", strerror(ENOMEM));
		arm_timer(source, now_ns() + RETRY_DELAY_NS);
	}
	source->assembled = assembled == 0;
	if (assembled < 0)
		return false;
	source->changed = false;
	return changed;
}

/* True if there was anything. An overflow of the queue is one more reason to look at everything. */
static bool drain_inotify(int fd)
{
	char buffer[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
	bool any = false;

	for (;;) {
		ssize_t got = read(fd, buffer, sizeof(buffer));

		if (got == -1 && errno == EINTR)
			continue;
		if (got <= 0)
			return any;
		any = true;
	}
}

static bool drain_timer(int fd)
{
	uint64_t expirations;

	return read(fd, &expirations, sizeof(expirations)) == (ssize_t)sizeof(expirations);
}

bool files_source_refresh(struct files_source *source)
{
	bool events = drain_inotify(source->inotify_fd);

	events |= drain_timer(source->timer_fd);
	return events && scan(source, false);
}

bool files_source_reload(struct files_source *source)
{
	drain_inotify(source->inotify_fd);
	drain_timer(source->timer_fd);
	return scan(source, true);
}

static int add_to_epoll(int epoll_fd, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == -1 ? -errno : 0;
}

static int open_watches(struct files_source *source)
{
	int result;

	source->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (source->inotify_fd == -1)
		return -errno;
	if (inotify_add_watch(source->inotify_fd, source->path, DIRECTORY_EVENTS) == -1)
		return -errno;
	source->directory_fd = open(source->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (source->directory_fd == -1)
		return -errno;
	source->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (source->timer_fd == -1)
		return -errno;
	source->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (source->epoll_fd == -1)
		return -errno;
	result = add_to_epoll(source->epoll_fd, source->inotify_fd);
	return result < 0 ? result : add_to_epoll(source->epoll_fd, source->timer_fd);
}

static int open_source(struct files_source *source, const char *directory)
{
	int result;

	source->path = strdup(directory);
	source->store = object_store_new();
	if (!source->path || !source->store)
		return -ENOMEM;
	result = open_watches(source);
	if (result < 0)
		return result;
	result = list_directory(source);
	if (result == 0)
		result = update_files(source, true);
	if (result == 0)
		result = assemble(source);
	source->changed = false;
	source->assembled = true;
	return result;
}

int files_source_open(const char *directory, struct files_source **result)
{
	struct files_source *source = calloc(1, sizeof(*source));
	int error;

	if (!source)
		return -ENOMEM;
	source->directory_fd = source->inotify_fd = source->timer_fd = source->epoll_fd = -1;
	error = open_source(source, directory);
	if (error)
		files_source_close(source);
	else
		*result = source;
	return error;
}

void files_source_close(struct files_source *source)
{
	if (!source)
		return;
	for (size_t i = 0; i < source->file_count; i++)
		manifest_file_free(source->files[i]);
	free(source->files);
	object_store_free(source->store);
	findings_free(&source->findings);
	cleanup_close(&source->epoll_fd);
	cleanup_close(&source->timer_fd);
	cleanup_close(&source->inotify_fd);
	cleanup_close(&source->directory_fd);
	free(source->path);
	free(source);
}

int files_source_fd(const struct files_source *source)
{
	return source->epoll_fd;
}

const struct object_store *files_source_store(const struct files_source *source)
{
	return source->store;
}

size_t files_source_error_count(const struct files_source *source)
{
	return source->findings.error_count;
}

const struct source_error *files_source_error_at(const struct files_source *source, size_t index)
{
	return &source->findings.errors[index];
}

size_t files_source_note_count(const struct files_source *source)
{
	return source->findings.note_count;
}

const char *files_source_note_at(const struct files_source *source, size_t index)
{
	return source->findings.notes[index];
}
