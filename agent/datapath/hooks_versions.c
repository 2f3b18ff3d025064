// SPDX-License-Identifier: GPL-2.0-only
/*
 * hooks_versions.c: what agents of other ABI numbers pinned, and how it goes (hooks.h, hooks_clear_other_versions()).
 * All that is known of them here is what never changes: the places of pins (hooks_pins.c), and three names.
 */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/version.h"
#include "datapath/hooks_internal.h"

struct clearing {
	struct hooks *hooks;
	const char *const *names;
	size_t count;
	bool drains;
	bool kept; /* hooks of a gateway stay on */
	int removed;
	int first_error;
};

static void note(struct clearing *clearing, int error)
{
	if (error < 0 && !clearing->first_error)
		clearing->first_error = error;
}

/* Calls for each directory in the directory whose name does not begin with a dot. */
static void for_each_directory(struct clearing *clearing, const char *path,
                               void (*each)(struct clearing *clearing, const char *path, const char *name))
{
	struct dirent **entries;
	int count = scandir(path, &entries, NULL, NULL);
	char below[PATH_MAX];

	if (count < 0) {
		note(clearing, errno == ENOENT ? 0 : -errno);
		return;
	}
	for (int i = 0; i < count; i++) {
		int length = snprintf(below, sizeof(below), "%s/%s", path, entries[i]->d_name);

		if (entries[i]->d_name[0] != '.' && entries[i]->d_type == DT_DIR && length < (int)sizeof(below))
			each(clearing, below, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
}

/* The gateway's own name, if it is one of ours. */
static const char *name_of(const struct clearing *clearing, const char *encoded)
{
	char own[NAME_MAX];

	for (size_t i = 0; i < clearing->count; i++) {
		hooks_encode_name(clearing->names[i], own);
		if (strcmp(own, encoded) == 0)
			return clearing->names[i];
	}
	return NULL;
}

/*
 * The guard first: a socket that connects meanwhile is known to both. Then what sends connects to the other agent;
 * those that it sent already are followed by what stays.
 */
static void clear_decisions(struct clearing *clearing, const char *gateway)
{
	static const char *const programs[] = {"guard", "connect4", "connect6"};
	char pin[PATH_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		int length = snprintf(pin, sizeof(pin), "%s/%s", gateway, programs[i]);

		if (length < (int)sizeof(pin) && access(pin, F_OK) == 0)
			note(clearing, hooks_remove_pin(pin));
	}
}

static void clear_gateway(struct clearing *clearing, const char *path, const char *encoded)
{
	const char *name = name_of(clearing, encoded);
	int result;

	if (name && !hooks_gateway_attached(clearing->hooks, name)) {
		clearing->kept = true;
		return;
	}
	clear_decisions(clearing, path);
	if (clearing->drains) {
		clearing->kept = true;
		return;
	}
	result = hooks_remove_pins_below(path);
	note(clearing, result);
	clearing->kept |= result < 0;
}

static void clear_version(struct clearing *clearing, const char *path, const char *name)
{
	char own[16], links[PATH_MAX];
	int length = snprintf(links, sizeof(links), "%s/links", path);
	int result;

	snprintf(own, sizeof(own), "v%u", postern_abi_version);
	if (!hooks_is_version_directory(name) || strcmp(name, own) == 0 || length >= (int)sizeof(links))
		return;
	clearing->kept = false;
	for_each_directory(clearing, links, clear_gateway);
	if (clearing->kept || clearing->drains)
		return;
	result = hooks_remove_pins_below(path);
	note(clearing, result);
	if (result < 0)
		return;
	clearing->removed++;
	log_info("hooks of another version taken away", "pins=%s", path);
}

int hooks_clear_other_versions(struct hooks *hooks, const char *const *names, size_t count, bool drains)
{
	struct clearing clearing = {.hooks = hooks, .names = names, .count = count, .drains = drains};

	if (!hooks->bpffs)
		return 0;
	for_each_directory(&clearing, hooks->bpffs, clear_version);
	return clearing.first_error ? clearing.first_error : clearing.removed;
}

static void note_version(struct clearing *clearing, const char *path, const char *name)
{
	char own[16];

	(void)path;
	snprintf(own, sizeof(own), "v%u", postern_abi_version);
	clearing->removed += hooks_is_version_directory(name) && strcmp(name, own) != 0;
}

bool hooks_other_versions(const struct hooks *hooks)
{
	struct clearing clearing = {0};

	if (hooks->bpffs)
		for_each_directory(&clearing, hooks->bpffs, note_version);
	return clearing.removed > 0;
}
