// SPDX-License-Identifier: GPL-2.0-only
/*
 * hooks_pins.c: names and places below the bpffs, and how all of it is taken away.
 *
 *   <bpffs>/passed_socket                of all ABI numbers
 *   <bpffs>/vN/<map>                      N = the ABI number
 *   <bpffs>/vN/witness_link              witness_link_CGROUP beside that of another agent that lives
 *   <bpffs>/vN/links/<gateway>/<program>
 *   <bpffs>/vN/links/_x<cgroup>/<program>  of a gateway that is no more, whose processes still run (hooks_former.c)
 *
 * The last two lines, how a gateway's name is encoded, and the names connect4, connect6 and guard are the same for all
 * ABI numbers: an agent takes the hooks of other ones away by them (hooks_versions.c).
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <libgen.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/version.h"
#include "datapath/hooks_internal.h"

#define ENCODED_NAME_MAX 200 /* NAME_MAX is 255 */

__attribute__((format(printf, 2, 3))) static int format_path(char path[static PATH_MAX], const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	int length = vsnprintf(path, PATH_MAX, format, arguments);
	va_end(arguments);
	return length < 0 || length >= PATH_MAX ? -ENAMETOOLONG : 0;
}

/* FNV-1a, for names that are too long to be a file's name as they are. */
static uint64_t hash_name(const char *name)
{
	uint64_t hash = 0xcbf29ce484222325;

	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * 0x100000001b3;
	return hash;
}

/* One name, one file name: letters, digits and '-' stand for themselves. The bpffs takes no dots. */
void hooks_encode_name(const char *name, char encoded[static NAME_MAX])
{
	size_t used = 0;

	for (const char *c = name; *c; c++) {
		if (used + 3 > ENCODED_NAME_MAX) {
			snprintf(encoded + used, NAME_MAX - used, "__%016llx", (unsigned long long)hash_name(name));
			return;
		}
		if (isalnum((unsigned char)*c) || *c == '-')
			encoded[used++] = *c;
		else
			used += (size_t)snprintf(encoded + used, 4, "_%02x", (unsigned char)*c);
	}
	encoded[used] = '\0';
}

int hooks_gateway_pin_directory(const struct hooks *hooks, const char *name, char path[static PATH_MAX])
{
	char encoded[NAME_MAX];

	path[0] = '\0';
	if (!hooks->directory)
		return 0;
	hooks_encode_name(name, encoded);
	return format_path(path, "%s/links/%s", hooks->directory, encoded);
}

int hooks_aside_pin_directory(const struct hooks *hooks, uint64_t cgroup, char path[static PATH_MAX])
{
	return format_path(path, "%s/links/_x%llx", hooks->directory, (unsigned long long)cgroup);
}

int hooks_witness_pin_path(const struct hooks *hooks, uint64_t other_cgroup, char path[static PATH_MAX])
{
	path[0] = '\0';
	if (!hooks->directory)
		return 0;
	if (other_cgroup)
		return format_path(path, "%s/witness_link_%llx", hooks->directory, (unsigned long long)other_cgroup);
	return format_path(path, "%s/witness_link", hooks->directory);
}

static int make_directory(const char *path)
{
	if (mkdir(path, 0700) == -1 && errno != EEXIST)
		return -errno;
	return 0;
}

int hooks_make_links_directory(const struct hooks *hooks)
{
	char path[PATH_MAX];
	int error = format_path(path, "%s/links", hooks->directory);

	return error ? error : make_directory(path);
}

bool hooks_is_version_directory(const char *name)
{
	return name[0] == 'v' && name[1] && strspn(name + 1, "0123456789") == strlen(name + 1);
}

static int check_is_bpffs(const char *path)
{
	struct statfs filesystem;

	if (statfs(path, &filesystem) == -1)
		return -errno;
	return filesystem.f_type == BPF_FS_MAGIC ? 0 : -EMEDIUMTYPE;
}

/* Looks before it makes anything, so that nothing is left in a file system of another type. */
static int make_bpffs_directory(const char *path)
{
	_cleanup_free_ char *parent = strdup(path);
	int error;

	if (!parent)
		return -ENOMEM;
	error = check_is_bpffs(dirname(parent));
	return error ? error : make_directory(path);
}

int hooks_prepare_directory(const char *bpffs, char **directory)
{
	char path[PATH_MAX];
	int error = check_is_bpffs(bpffs);

	if (error == -ENOENT)
		error = make_bpffs_directory(bpffs);
	if (error) {
		log_error("no place for pins", "path=%s error=\"%s\" remedy=\"mount -t bpf bpf /sys/fs/bpf\"", bpffs,
		          error == -EMEDIUMTYPE ? "not a bpf file system" : strerror(-error));
		return error;
	}
	error = format_path(path, "%s/v%u", bpffs, postern_abi_version);
	if (!error)
		error = make_directory(path);
	if (error) {
		log_error("no place for pins", "path=%s/v%u error=\"%s\"", bpffs, postern_abi_version,
		          strerror(-error));
		return error;
	}
	*directory = strdup(path);
	return *directory ? 0 : -ENOMEM;
}

int hooks_remove_pin(const char *path)
{
	_cleanup_close_ int fd = bpf_obj_get(path);
	int error = 0;

	/* EINVAL: it is no link but a map. */
	if (fd >= 0 && bpf_link_detach(fd) != 0 && errno != EINVAL)
		error = -errno;
	if (unlink(path) == -1)
		error = -errno;
	if (error)
		log_warning("cannot remove a pin", "path=%s error=\"%s\"", path, strerror(-error));
	return error;
}

static int remove_entry(const char *directory, const struct dirent *entry)
{
	char path[PATH_MAX];
	int error = format_path(path, "%s/%s", directory, entry->d_name);

	if (error)
		return error;
	if (entry->d_type == DT_DIR)
		return hooks_remove_pins_below(path);
	error = hooks_remove_pin(path);
	return error ? error : 1;
}

int hooks_remove_pins_below(const char *directory_path)
{
	_cleanup_closedir_ DIR *directory = opendir(directory_path);
	int removed = 0, first_error = 0;

	if (!directory)
		return errno == ENOENT ? 0 : -errno;
	for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		int result = remove_entry(directory_path, entry);
		if (result < 0)
			first_error = first_error ? first_error : result;
		else
			removed += result;
	}
	if (rmdir(directory_path) == -1 && !first_error)
		first_error = -errno;
	return first_error ? first_error : removed;
}

int hooks_uninstall(const char *bpffs)
{
	_cleanup_closedir_ DIR *directory = opendir(bpffs);
	int removed = 0, first_error = 0;
	char path[PATH_MAX];

	if (!directory)
		return errno == ENOENT ? 0 : -errno;
	for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
		if (!hooks_is_version_directory(entry->d_name) || format_path(path, "%s/%s", bpffs, entry->d_name) != 0)
			continue;
		int result = hooks_remove_pins_below(path);
		if (result < 0)
			first_error = first_error ? first_error : result;
		else
			removed += result;
	}
	if (format_path(path, "%s/passed_socket", bpffs) == 0 && access(path, F_OK) == 0) {
		int error = hooks_remove_pin(path);

		first_error = first_error ? first_error : error;
		removed += !error;
	}
	if (rmdir(bpffs) == -1 && errno != ENOTEMPTY && errno != EBUSY && !first_error) /* EBUSY: a mount point */
		first_error = -errno;
	return first_error ? first_error : removed;
}
