// SPDX-License-Identifier: GPL-2.0-only
/*
 * hooks_former.c: pinned hooks of gateways that are no more. They go, or their processes would be refused for ever;
 * unless the processes are what is left of a gateway: then they stay, and refuse, until the processes end. Another
 * gateway may have the name by then, so the pins get a place of their own, and the cgroup's gateway id is 0: nobody's.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "datapath/hooks_internal.h"
#include "postern.skel.h"

/* That the hooks in the directory are on; 0: on none that lives. */
static uint64_t cgroup_of_pins(const char *directory)
{
	char pin[PATH_MAX];

	return snprintf(pin, sizeof(pin), "%s/connect4", directory) < (int)sizeof(pin) ? hooks_pinned_cgroup(pin) : 0;
}

/* The id first: it may soon be another gateway's. */
static int put_aside(const struct hooks *hooks, const char *directory, uint64_t cgroup)
{
	const struct postern_gateway_id nobody = {0};
	char aside[PATH_MAX];

	if (hooks_aside_pin_directory(hooks, cgroup, aside) != 0)
		return -ENAMETOOLONG;
	if (strcmp(directory, aside) == 0)
		return 0;
	if (bpf_map_update_elem(bpf_map__fd(hooks->skeleton->maps.gateway_id_storage), &cgroup, &nobody, BPF_ANY) !=
	            0 ||
	    rename(directory, aside) != 0)
		return -errno;
	log_warning("the processes of a former gateway still run",
	            "pins=%s effect=\"their covered connects are refused until they end\"", aside);
	return 0;
}

int hooks_set_aside(struct hooks *hooks, const char *name)
{
	char directory[PATH_MAX];
	uint64_t cgroup;
	int error = hooks_gateway_pin_directory(hooks, name, directory);

	if (error || !directory[0])
		return error ? error : -ENOENT;
	cgroup = cgroup_of_pins(directory);
	if (!cgroup)
		return -ENOENT;
	error = put_aside(hooks, directory, cgroup);
	if (!error)
		hooks_let_go(hooks, name);
	return error;
}

static bool is_kept(const struct hooks *hooks, const char *entry_path, const char *const *names, size_t count)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < count; i++) {
		if (hooks_gateway_pin_directory(hooks, names[i], path) == 0 && strcmp(path, entry_path) == 0)
			return true;
	}
	return false;
}

/* 1: taken away; 0: set aside; or negative errno. */
static int forget(const struct hooks *hooks, const char *directory, bool (*lives_on)(void *context, uint64_t cgroup),
                  void *context)
{
	uint64_t cgroup = cgroup_of_pins(directory);
	int result;

	if (cgroup && lives_on(context, cgroup))
		return put_aside(hooks, directory, cgroup);
	result = hooks_remove_pins_below(directory);
	log_info("hooks of a former gateway taken away", "pins=%s", directory);
	return result < 0 ? result : 1;
}

int hooks_keep_gateways(struct hooks *hooks, const char *const *names, size_t count,
                        bool (*lives_on)(void *context, uint64_t cgroup), void *context)
{
	char links[PATH_MAX], path[PATH_MAX];
	struct dirent **entries;
	int removed = 0, first_error = 0;

	if (!hooks->directory)
		return 0;
	snprintf(links, sizeof(links), "%s/links", hooks->directory);
	int entry_count = scandir(links, &entries, NULL, NULL);
	if (entry_count < 0)
		return errno == ENOENT ? 0 : -errno;
	for (int i = 0; i < entry_count; i++) {
		int length = snprintf(path, sizeof(path), "%s/%s", links, entries[i]->d_name);

		if (entries[i]->d_name[0] != '.' && length < (int)sizeof(path) && !is_kept(hooks, path, names, count)) {
			int result = forget(hooks, path, lives_on, context);

			if (result >= 0)
				removed += result;
			else if (!first_error)
				first_error = result;
		}
		free(entries[i]);
	}
	free(entries);
	return first_error ? first_error : removed;
}
