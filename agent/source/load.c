// SPDX-License-Identifier: GPL-2.0-only
#include "source/load.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/yaml.h"
#include "policy/vector.h"

struct loading {
	struct manifest_file **files; /* in the order in which they were named */
	size_t file_count, file_capacity;
	size_t of_earlier_paths; /* so many of them */
	struct findings *findings;
};

/* A name that is fit for messages, and a place for what is read. */
static struct manifest_file *add_file(struct loading *loading, const char *name)
{
	struct manifest_file *file;

	if (vector_reserve(&loading->files, loading->file_count, &loading->file_capacity,
	                   sizeof(struct manifest_file *)) < 0)
		return NULL;
	file = manifest_file_new(name);
	if (file)
		loading->files[loading->file_count++] = file;
	return file;
}

static void drop_newest(struct loading *loading)
{
	manifest_file_free(loading->files[--loading->file_count]);
}

static int refuse(struct loading *loading, const char *path, const char *why)
{
	struct manifest_file *file = manifest_file_new(path); /* for its shown name */
	int result = file ? findings_add_error(loading->findings, file->shown, why) : -ENOMEM;

	manifest_file_free(file);
	return result;
}

static bool is_known(const struct loading *loading, const struct stat *status)
{
	for (size_t i = 0; i < loading->of_earlier_paths; i++) {
		const struct stat *known = &loading->files[i]->status;

		if (known->st_ino && known->st_dev == status->st_dev && known->st_ino == status->st_ino)
			return true;
	}
	return false;
}

static int load_file(struct loading *loading, const char *path, const struct stat *status)
{
	struct manifest_file *file;

	if (is_known(loading, status))
		return 0;
	file = add_file(loading, path);
	if (!file || manifest_file_update(file, AT_FDCWD, true) < 0)
		return -ENOMEM;
	if (file->in_force || file->broken)
		return 0;
	drop_newest(loading); /* it has gone since it was looked at */
	return refuse(loading, path, strerror(ENOENT));
}

static int is_manifest(const struct dirent *entry)
{
	return entry->d_type != DT_DIR && is_manifest_name(entry->d_name);
}

static int compare_entries(const struct dirent **left, const struct dirent **right)
{
	return strcmp((*left)->d_name, (*right)->d_name);
}

static int load_entry(struct loading *loading, const char *directory, const char *name)
{
	const char *separator = directory[strlen(directory) - 1] == '/' ? "" : "/";
	_cleanup_free_ char *path = NULL;
	struct stat status = {0}; /* of one that cannot be looked at: reading it says why */

	if (asprintf(&path, "%s%s%s", directory, separator, name) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	if (stat(path, &status) == 0 && S_ISDIR(status.st_mode))
		return 0;
	return load_file(loading, path, &status);
}

static int load_directory(struct loading *loading, const char *path)
{
	struct dirent **entries;
	int count = scandir(path, &entries, is_manifest, compare_entries), result = 0;

	if (count == -1)
		return errno == ENOMEM ? -ENOMEM : refuse(loading, path, strerror(errno));
	for (int i = 0; i < count; i++) {
		if (result == 0)
			result = load_entry(loading, path, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	if (result == 0 && !count)
		result = refuse(loading, path, "holds no manifest (*.yaml, *.yml or *.json)");
	return result;
}

/* To the end, at most one byte more than a manifest may have. -errno. */
static int read_to_end(int fd, char *text, size_t *size)
{
	*size = 0;
	while (*size <= YAML_MAX_BYTES) {
		ssize_t got = read(fd, text + *size, YAML_MAX_BYTES + 1 - *size);

		if (got == -1 && errno == EAGAIN) {
			struct pollfd readable = {.fd = fd, .events = POLLIN};

			if (poll(&readable, 1, -1) == -1 && errno != EINTR)
				return -errno;
			continue;
		}
		if (got == -1 && errno == EINTR)
			continue;
		if (got == -1)
			return -errno;
		if (got == 0)
			return 0;
		*size += (size_t)got;
	}
	return -EFBIG;
}

static int load_text(struct loading *loading, const char *name, const char *text, size_t size)
{
	struct manifest_file *file = add_file(loading, name);
	struct manifest *manifest = file ? manifest_new(file->shown, text, size) : NULL;

	if (!manifest)
		return -ENOMEM;
	if (manifest_is_broken(manifest))
		file->broken = manifest;
	else
		file->in_force = manifest;
	return 0;
}

static int load_stream(struct loading *loading, const char *name, int fd)
{
	/* In one piece: nothing that was moved stays behind in freed memory. Only what is read becomes real. */
	_cleanup_free_ char *text = malloc(YAML_MAX_BYTES + 1);
	struct stat status;
	size_t size;
	int result;

	if (!text)
		return -ENOMEM;
	result = read_to_end(fd, text, &size);
	if (result == 0 && !size && fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode))
		result = refuse(loading, name, "is a pipe into which nobody wrote anything");
	else if (result == 0)
		result = load_text(loading, name, text, size);
	else
		result = refuse(loading, name, result == -EFBIG ? "larger than 16 MiB" : strerror(-result));
	OPENSSL_cleanse(text, size); /* it may hold a private key */
	return result;
}

static int load_special(struct loading *loading, const char *path)
{
	/* O_NONBLOCK: a FIFO without a writer must not hang us. */
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	return fd == -1 ? refuse(loading, path, strerror(errno)) : load_stream(loading, path, fd);
}

static const char *path_name(const char *path)
{
	return strcmp(path, "-") ? path : "stdin";
}

static int load_path(struct loading *loading, const char *path)
{
	struct stat status;

	loading->of_earlier_paths = loading->file_count;
	if (!strcmp(path, "-"))
		return load_stream(loading, path_name(path), STDIN_FILENO);
	if (stat(path, &status) == -1)
		return refuse(loading, path, strerror(errno));
	if (S_ISDIR(status.st_mode))
		return load_directory(loading, path);
	return S_ISREG(status.st_mode) ? load_file(loading, path, &status) : load_special(loading, path);
}

/* Documents of kinds that are of no use here count: there was something to read. */
static bool has_documents(const struct loading *loading)
{
	for (size_t i = 0; i < loading->file_count; i++) {
		const struct manifest *manifest = loading->files[i]->in_force;

		if (manifest && (manifest->decoded.object_count || manifest->decoded.unknown_kind_count))
			return true;
	}
	return false;
}

int manifests_load(const char *const *paths, size_t count, struct loaded_manifests *loaded)
{
	struct loading loading = {.findings = &loaded->findings};
	int result = 0;

	loaded->store = object_store_new();
	if (!loaded->store)
		return -ENOMEM;
	for (size_t i = 0; result == 0 && i < count; i++)
		result = load_path(&loading, paths[i]);
	if (result == 0)
		result = assemble_store(loading.files, loading.file_count, loaded->store, &loaded->findings);
	if (result == 0 && !loaded->findings.error_count && !has_documents(&loading))
		result = refuse(&loading, count == 1 ? path_name(paths[0]) : "all paths",
		                "nothing to judge: no object");
	while (loading.file_count)
		drop_newest(&loading);
	free(loading.files);
	return result;
}

void manifests_unload(struct loaded_manifests *loaded)
{
	object_store_free(loaded->store);
	findings_free(&loaded->findings);
	*loaded = (struct loaded_manifests){0};
}
