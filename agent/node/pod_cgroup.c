/* SPDX-License-Identifier: GPL-2.0-only */
#include "node/pod_cgroup.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "policy/object.h"

#define PARTS_MAX 12 /* of a root, and the kubelet's own three */

const char *pod_cgroup_uid(const struct pod *pod, const char *uid)
{
	const char *name = pod->config_hash && pod->config_hash[0] ? pod->config_hash : uid;
	size_t length = strlen(name);

	if (length == 0 || length > POD_UID_MAX)
		return NULL;
	for (size_t i = 0; i < length; i++) {
		if (!isalnum((unsigned char)name[i]) && name[i] != '-')
			return NULL;
	}
	return name;
}

/* The parts of a cgroup's name, as the kubelet counts them: {"kubepods", "burstable", "podUID"} behind the root's. */
struct parts {
	const char *at[PARTS_MAX];
	size_t count;
};

/* False: it does not fit, or leads somewhere else. root is cut into its parts. */
static bool split_root(char *root, struct parts *parts)
{
	char *rest = root;

	for (char *part = strsep(&rest, "/"); part; part = strsep(&rest, "/")) {
		if (!part[0])
			continue;
		if (part[0] == '.' || parts->count + 3 > PARTS_MAX)
			return false;
		parts->at[parts->count++] = part;
	}
	return true;
}

/* A buffer that is too small holds "" afterwards. */
struct place {
	char *text;
	size_t size, used;
	bool cut;
};

static void add(struct place *place, const char *text, bool escape)
{
	for (; *text; text++) {
		if (place->used + 1 >= place->size) {
			place->cut = true;
			break;
		}
		place->text[place->used++] = escape && *text == '-' ? '_' : *text;
	}
	place->text[place->used] = '\0';
}

/* systemd's slices have the names of all above them in their own: a.slice/a-b.slice/a-b-c.slice. */
static void add_slices(struct place *place, const struct parts *parts)
{
	for (size_t depth = 1; depth <= parts->count; depth++) {
		add(place, "/", false);
		for (size_t i = 0; i < depth; i++) {
			add(place, i ? "-" : "", false);
			add(place, parts->at[i], true);
		}
		add(place, ".slice", false);
	}
}

static void add_directories(struct place *place, const struct parts *parts)
{
	for (size_t i = 0; i < parts->count; i++) {
		add(place, "/", false);
		add(place, parts->at[i], false);
	}
}

static bool is_directory(const char *path)
{
	struct stat status;

	return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* One class, both drivers. The path if it is there. */
static bool try_class(const char *mount, const struct parts *root, const char *class, const char *pod,
                      char path[static PATH_MAX])
{
	struct parts parts = *root;

	parts.at[parts.count++] = "kubepods";
	if (class[0])
		parts.at[parts.count++] = class;
	parts.at[parts.count++] = pod;
	for (int driver = 0; driver < 2; driver++) {
		struct place place = {.text = path, .size = PATH_MAX};

		add(&place, mount, false);
		if (driver == 0)
			add_slices(&place, &parts);
		else
			add_directories(&place, &parts);
		if (!place.cut && is_directory(path))
			return true;
	}
	return false;
}

/* The class that the API names comes first; what it does not say, or says wrongly, must not hide the pod. */
static bool try_classes(const char *mount, const struct parts *root, const char *qos_class, const char *pod,
                        char path[static PATH_MAX])
{
	static const struct {
		const char *name, *directory;
	} classes[] = {{"Burstable", "burstable"}, {"BestEffort", "besteffort"}, {"Guaranteed", ""}};

	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
		if (strcmp(classes[i].name, qos_class) == 0 && try_class(mount, root, classes[i].directory, pod, path))
			return true;
	}
	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
		if (try_class(mount, root, classes[i].directory, pod, path))
			return true;
	}
	return false;
}

/*
 * On a hybrid machine cgroup2 is mounted beside or below the v1 controllers (/sys/fs/cgroup/unified); a pod that the
 * kubelet made without systemd is in those alone.
 */
static bool is_in_v1(const char *mount, const struct parts *root, const char *qos_class, const char *pod)
{
	static const char *const controllers[] = {"memory", "pids", "cpu,cpuacct", "systemd"};
	char above[PATH_MAX], hierarchy[PATH_MAX], path[PATH_MAX];
	const char *slash = strrchr(mount, '/');
	int length = slash ? (int)(slash - mount) : 0;

	if (snprintf(above, sizeof(above), "%.*s", length, mount) >= (int)sizeof(above))
		return false;
	for (size_t i = 0; i < sizeof(controllers) / sizeof(controllers[0]); i++) {
		if (snprintf(hierarchy, sizeof(hierarchy), "%s/%s", above, controllers[i]) < (int)sizeof(hierarchy) &&
		    try_classes(hierarchy, root, qos_class, pod, path))
			return true;
	}
	return false;
}

char *pod_cgroup_find(const struct pod *pod, const char *uid, const char *mount, const char *root, char *problem,
                      size_t size)
{
	const char *name = pod_cgroup_uid(pod, uid);
	char own_root[PATH_MAX], directory[POD_UID_MAX + 4], path[PATH_MAX];
	struct parts parts = {0};

	if (!name) {
		snprintf(problem, size, "its uid is none that a cgroup could be named by");
		return NULL;
	}
	if (snprintf(own_root, sizeof(own_root), "%s", root) >= (int)sizeof(own_root) ||
	    !split_root(own_root, &parts)) {
		snprintf(problem, size, "the kubelet's cgroup root is no path that could be followed");
		return NULL;
	}
	snprintf(directory, sizeof(directory), "pod%s", name);
	if (try_classes(mount, &parts, pod->qos_class, directory, path))
		return strdup(path);
	/* kind, and others that run the kubelet in a cgroup of its own. */
	if (!parts.count) {
		struct parts nested = {.at = {"kubelet"}, .count = 1};

		if (try_classes(mount, &nested, pod->qos_class, directory, path))
			return strdup(path);
	}
	if (is_in_v1(mount, &parts, pod->qos_class, directory))
		snprintf(problem, size,
		         "its cgroup is in the v1 hierarchy alone, where no hook can be: let the kubelet use the "
		         "systemd driver, or boot with cgroup v2");
	else
		snprintf(problem, size, "no cgroup kubepods.../%s below %.100s%s%.60s yet", directory, mount,
		         root[0] ? "/" : "", root);
	return NULL;
}

bool pod_cgroup_names(const char *path, char uid[static POD_UID_MAX + 1])
{
	static const char slice[] = ".slice", separator[] = "-pod";
	const char *part = pod_cgroup_part(path), *name = NULL;
	size_t length = strlen(part);

	if (!strstr(path, "kubepods"))
		return false;
	if (length > sizeof(slice) - 1 && strcmp(part + length - (sizeof(slice) - 1), slice) == 0) {
		length -= sizeof(slice) - 1;
		for (const char *at = strstr(part, separator); at; at = strstr(at + 1, separator))
			name = at + sizeof(separator) - 1;
	} else if (strncmp(part, "pod", 3) == 0) {
		name = part + 3;
	}
	if (!name || name >= part + length || (size_t)(part + length - name) > POD_UID_MAX)
		return false;
	for (; name < part + length; name++)
		*uid++ = *name == '_' ? '-' : *name;
	*uid = '\0';
	return true;
}

const char *pod_cgroup_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

bool pod_cgroup_is_part(const char *path, const char *part)
{
	size_t length = strlen(part);

	for (const char *at = strchr(path, '/'); at; at = strchr(at + 1, '/')) {
		if (length && strncmp(at + 1, part, length) == 0 && (at[1 + length] == '/' || at[1 + length] == '\0'))
			return true;
	}
	return false;
}
