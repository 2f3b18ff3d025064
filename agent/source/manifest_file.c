// SPDX-License-Identifier: GPL-2.0-only
#include "source/manifest_file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/printable.h"
#include "base/yaml.h"
#include "source/stable_read.h"

/* File times move in steps of a kernel tick: a change so close to our reading may not show in them. */
#define TIME_GRANULARITY_NS 100000000LL

static bool has_suffix(const char *name, const char *suffix)
{
	size_t length = strlen(name), suffix_length = strlen(suffix);

	return length > suffix_length && !strcmp(name + length - suffix_length, suffix);
}

bool is_manifest_name(const char *name)
{
	return name[0] != '.' && (has_suffix(name, ".yaml") || has_suffix(name, ".yml") || has_suffix(name, ".json"));
}

struct manifest_file *manifest_file_new(const char *name)
{
	struct manifest_file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	file->target_watch = -1;
	file->name = strdup(name);
	file->shown = strdup(name);
	if (!file->name || !file->shown) {
		manifest_file_free(file);
		return NULL;
	}
	printable_in_place(file->shown); /* file names are bytes; messages are text */
	return file;
}

void manifest_file_free(struct manifest_file *file)
{
	if (!file)
		return;
	manifest_free(file->in_force);
	manifest_free(file->broken);
	free(file->name);
	free(file->shown);
	free(file);
}

static int64_t nanoseconds(const struct timespec *time)
{
	return (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
}

static bool same_time(const struct timespec *left, const struct timespec *right)
{
	return left->tv_sec == right->tv_sec && left->tv_nsec == right->tv_nsec;
}

static bool is_unchanged(const struct manifest_file *file, int directory_fd)
{
	struct stat status;

	if (!file->status.st_ino || fstatat(directory_fd, file->name, &status, 0) == -1)
		return false;
	return status.st_dev == file->status.st_dev && status.st_ino == file->status.st_ino &&
	       status.st_size == file->status.st_size && same_time(&status.st_mtim, &file->status.st_mtim) &&
	       same_time(&status.st_ctim, &file->status.st_ctim) &&
	       nanoseconds(&status.st_ctim) + TIME_GRANULARITY_NS < nanoseconds(&file->read_time);
}

static const char *describe_error(int error)
{
	switch (error) {
	case -EFBIG:
		return "larger than 16 MiB";
	case -EINVAL:
		return "not a regular file";
	case -ENOENT:
	case -ELOOP:
		return "a symbolic link that leads to no file";
	case -EBUSY:
		return "is open for writing";
	default:
		return strerror(-error);
	}
}

/* Takes over manifest. A good version comes into force and ends what was broken; a broken one leaves it in force. */
static void set_version(struct manifest_file *file, struct manifest *manifest)
{
	manifest_free(TAKE_PTR(file->broken));
	if (manifest_is_broken(manifest)) {
		file->broken = manifest;
		return;
	}
	manifest_free(file->in_force);
	file->in_force = manifest;
}

static int set_unreadable(struct manifest_file *file, int error)
{
	const char *why = describe_error(error);
	struct manifest *manifest;

	file->has_digest = false;
	if (file->broken && file->broken->unreadable && !strcmp(file->broken->unreadable, why))
		return 0;
	manifest = manifest_new_unreadable(why);
	if (!manifest)
		return -ENOMEM;
	set_version(file, manifest);
	return 1;
}

static int set_content(struct manifest_file *file, const char *text, size_t size, bool busy)
{
	struct manifest *manifest;
	uint8_t digest[32];

	if (!EVP_Digest(text, size, digest, NULL, EVP_sha256(), NULL))
		return -ENOMEM;
	if (file->has_digest && !memcmp(file->digest, digest, sizeof(digest)))
		return 0;
	manifest = manifest_new(file->shown, text, size);
	if (manifest && busy && !manifest->unreadable)
		manifest->unreadable = strdup(describe_error(-EBUSY));
	if (!manifest || (busy && !manifest->unreadable)) {
		manifest_free(manifest);
		return -ENOMEM;
	}
	memcpy(file->digest, digest, sizeof(digest));
	file->has_digest = !busy; /* the same text without a writer is another version */
	set_version(file, manifest);
	return 1;
}

static bool exists(const struct manifest_file *file, int directory_fd)
{
	struct stat status;

	return fstatat(directory_fd, file->name, &status, AT_SYMLINK_NOFOLLOW) == 0;
}

int manifest_file_update(struct manifest_file *file, int directory_fd, bool force)
{
	_cleanup_free_ char *text = NULL;
	struct stat status = {0};
	struct timespec now;
	size_t size = 0;
	bool busy;
	int result;

	if (!force && is_unchanged(file, directory_fd))
		return 0;
	clock_gettime(CLOCK_REALTIME, &now);
	result = stable_read(directory_fd, file->name, YAML_MAX_BYTES, &text, &size, &status);
	busy = result == -EBUSY;
	file->busy = busy;
	if (result == -ENOENT && !exists(file, directory_fd)) {
		file->seen = false; /* gone since the scan saw it */
		return 0;
	}
	/* It is looked at again when the writer is gone; what stands there now counts only if we know nothing better.
	 */
	if (busy && (file->in_force || file->broken))
		result = 0;
	else if (result == 0 || busy)
		result = set_content(file, text, size, busy);
	else if (result != -ENOMEM)
		result = set_unreadable(file, result);
	if (result >= 0) {
		file->status = text && !busy ? status : (struct stat){0};
		file->read_time = now;
	}
	if (text)
		OPENSSL_cleanse(text, size); /* it may hold a private key that does not belong there */
	return result;
}
