/* SPDX-License-Identifier: GPL-2.0-only */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>

#include "base/cleanup.h"
#include "kernel_view.h"
#include "observe/json.h"

/* What hangs on a gateway's cgroup (hooks_links.c), by the names that libbpf and bpftool 7 give to the places. */
static const struct hook {
	const char *name;
	const char *attach_type;
} hooks[] = {
        {"guard", "cgroup_inet_egress"},
        {"guard_inbound", "cgroup_sock_ops"},
        {"hold_attempt", "cgroup_sock_ops"},
        {"lane_join", "cgroup_sock_ops"},
        {"getpeername4", "cgroup_inet4_getpeername"},
        {"getpeername6", "cgroup_inet6_getpeername"},
        {"connect4", "cgroup_inet4_connect"},
        {"connect6", "cgroup_inet6_connect"},
};

struct gateway_ids {
	struct {
		uint64_t cgroup;
		uint32_t id;
	} at[POSTERN_MAX_GATEWAYS];
	size_t count;
};

struct gateway_entries {
	struct {
		uint32_t id;
		struct postern_gateway entry;
	} at[POSTERN_MAX_GATEWAYS];
	size_t count;
};

struct gateway_links {
	unsigned int pins;
	unsigned int attached;
	uint64_t cgroup_id;
	bool seen[ARRAY_SIZE(hooks)]; /* attached, at its place, with its program */
	json_t *rows;
	json_t *foreign;
};

/* The names in a directory in their order, so that a page is the same one each time. */
struct names {
	struct dirent **at;
	int count;
};

static void cleanup_names(struct names *names)
{
	for (int i = 0; i < names->count; i++)
		free(names->at[i]);
	free(names->at);
}

static int is_name(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* False: errno. */
static bool read_names(const char *path, struct names *names)
{
	names->count = scandir(path, &names->at, is_name, alphasort);
	return names->count >= 0;
}

/* Undoes hooks_pins.c's "_xx" for what may not be in a file's name. */
static void decode_name(const char *encoded, char *name, size_t size)
{
	size_t used = 0;

	while (*encoded && used + 1 < size) {
		char digits[3] = {0};

		if (encoded[0] == '_' && isxdigit((unsigned char)encoded[1]) && isxdigit((unsigned char)encoded[2])) {
			memcpy(digits, encoded + 1, 2);
			name[used++] = (char)strtoul(digits, NULL, 16);
			encoded += 3;
		} else {
			name[used++] = *encoded++;
		}
	}
	name[used] = '\0';
}

static void take_id(void *context, const void *key, const void *value)
{
	struct gateway_ids *ids = context;
	const struct postern_gateway_id *id = value;

	if (ids->count == ARRAY_SIZE(ids->at))
		return;
	memcpy(&ids->at[ids->count].cgroup, key, sizeof(uint64_t));
	ids->at[ids->count++].id = id->id;
}

static void take_entry(void *context, const void *key, const void *value)
{
	struct gateway_entries *entries = context;

	if (entries->count == ARRAY_SIZE(entries->at))
		return;
	memcpy(&entries->at[entries->count].id, key, sizeof(uint32_t));
	memcpy(&entries->at[entries->count++].entry, value, sizeof(struct postern_gateway));
}

static uint32_t id_of(const struct gateway_ids *ids, uint64_t cgroup)
{
	for (size_t i = 0; i < ids->count; i++)
		if (ids->at[i].cgroup == cgroup)
			return ids->at[i].id;
	return 0;
}

static const struct postern_gateway *entry_of(const struct gateway_entries *entries, uint32_t id)
{
	for (size_t i = 0; i < entries->count; i++)
		if (entries->at[i].id == id)
			return &entries->at[i].entry;
	return NULL;
}

static const struct hook *find_hook(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++)
		if (strcmp(hooks[i].name, name) == 0)
			return &hooks[i];
	return NULL;
}

static void look_at_link(struct kernel_view *view, const char *path, const char *name, struct gateway_links *links)
{
	const struct hook *hook = find_hook(name);
	struct kernel_link link;
	struct kernel_program program = {0};
	bool attached;
	bool right;

	links->pins++;
	if (kernel_link_find(&view->reader, path, &link) != 0) {
		kernel_view_note(view, NULL, 0);
		return;
	}
	attached = link.cgroup_id != 0; /* 0 once the cgroup is gone or the link was detached */
	if (link.program_id && kernel_program_find(&view->reader, link.program_id, &program) != 0)
		kernel_view_note(view, NULL, 0);
	right = hook && (!program.name[0] || strcmp(program.name, hook->name) == 0) &&
	        (!link.attach_type[0] || strcmp(link.attach_type, hook->attach_type) == 0);
	if (!right)
		json_append(&links->foreign, json_text(name));
	if (attached) {
		links->attached++;
		links->cgroup_id = link.cgroup_id;
		if (right)
			links->seen[hook - hooks] = true;
	}
	json_append(&links->rows,
	            json_pack("{s:o, s:b, s:o, s:I, s:o, s:o}", "hook", json_text(name), "attached", (int)attached,
	                      "attach_type", json_text(link.attach_type), "program_id", (json_int_t)link.program_id,
	                      "program", json_text(program.name), "tag", json_text(program.tag)));
}

static bool look_at_pins(struct kernel_view *view, const char *path, struct gateway_links *links)
{
	_cleanup_(cleanup_names) struct names names = {0};

	if (!read_names(path, &names)) {
		kernel_view_note(view, path, errno);
		return false;
	}
	for (int i = 0; i < names.count; i++) {
		char link[2 * PATH_MAX];

		(void)snprintf(link, sizeof(link), "%s/%s", path, names.at[i]->d_name);
		look_at_link(view, link, names.at[i]->d_name, links);
	}
	return true;
}

static json_t *missing_hooks(const struct gateway_links *links)
{
	json_t *missing = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++)
		if (!links->seen[i])
			json_append(&missing, json_string(hooks[i].name));
	return missing;
}

static bool is_on(const struct gateway_links *links, const char *name)
{
	return links->seen[find_hook(name) - hooks];
}

static json_t *ports_of(const struct postern_gateway *entry)
{
	json_t *ports = json_array();

	for (uint32_t i = 0; entry && i < entry->port_count && i < POSTERN_MAX_PORTS; i++)
		json_append(&ports, json_integer(ntohs(entry->port[i])));
	return ports;
}

/* "enforce", "observe", "detached", or "not ready": covered connects are refused. */
static const char *mode_of(const struct gateway_links *links, const struct postern_gateway *entry)
{
	if (!links->attached)
		return "detached";
	if (!entry)
		return "not ready";
	return entry->mode == POSTERN_MODE_OBSERVE ? "observe" : "enforce";
}

static json_t *gateway_row(struct kernel_view *view, const char *directory, const char *encoded,
                           const struct gateway_ids *ids, const struct gateway_entries *entries)
{
	struct gateway_links links = {.rows = json_array(), .foreign = json_array()};
	char path[PATH_MAX + NAME_MAX + 2];
	char cgroup[PATH_MAX] = "";
	char name[NAME_MAX];
	const struct postern_gateway *entry;
	uint32_t id;

	(void)snprintf(path, sizeof(path), "%s/%s", directory, encoded);
	(void)look_at_pins(view, path, &links);
	id = id_of(ids, links.cgroup_id);
	entry = id ? entry_of(entries, id) : NULL;
	if (links.cgroup_id)
		kernel_cgroup_path(links.cgroup_id, cgroup);
	decode_name(encoded, name, sizeof(name));
	return json_pack("{s:o, s:s, s:i, s:i, s:b, s:b, s:o, s:o, s:I, s:o, s:I, s:o, s:o}", "name", json_text(name),
	                 "mode", mode_of(&links, entry), "hooks", (int)links.pins, "attached", (int)links.attached,
	                 "intercepts", is_on(&links, "connect4") && is_on(&links, "connect6"), "guarded",
	                 (int)is_on(&links, "guard"), "missing", missing_hooks(&links), "foreign", links.foreign,
	                 "cgroup_id", (json_int_t)links.cgroup_id, "cgroup", json_text(cgroup), "id", (json_int_t)id,
	                 "ports", ports_of(entry), "links", links.rows);
}

/* "postern-probe.1a2b3c4d": an agent's own, for /readyz (control/path_probe.h); it is enrolled and nobody's gateway. */
static bool is_probe_of_the_path(const char *encoded)
{
	static const char prefix[] = "postern-probe.";
	char name[NAME_MAX];

	decode_name(encoded, name, sizeof(name));
	return strncmp(name, prefix, sizeof(prefix) - 1) == 0 &&
	       strspn(name + sizeof(prefix) - 1, "0123456789abcdef") == 8 && strlen(name) == sizeof(prefix) - 1 + 8;
}

json_t *kernel_gateways(struct kernel_view *view)
{
	_cleanup_free_ struct gateway_ids *ids = calloc(1, sizeof(*ids));
	_cleanup_free_ struct gateway_entries *entries = calloc(1, sizeof(*entries));
	_cleanup_(cleanup_names) struct names names = {0};
	char path[PATH_MAX];
	json_t *rows = json_array();

	if (!ids || !entries) {
		json_decref(rows);
		return NULL;
	}
	if (snprintf(path, sizeof(path), "%.4000s/links", view->directory) < 0)
		return rows;
	if (!read_names(path, &names)) {
		if (errno != ENOENT)
			kernel_view_note(view, path, errno);
		return rows;
	}
	(void)kernel_view_each(view, "gateway_id_storage", sizeof(uint64_t), sizeof(struct postern_gateway_id), false,
	                       take_id, ids);
	(void)kernel_view_each(view, "gateway_map", sizeof(uint32_t), sizeof(struct postern_gateway), false, take_entry,
	                       entries);
	for (int i = 0; i < names.count; i++)
		if (!is_probe_of_the_path(names.at[i]->d_name))
			json_append(&rows, gateway_row(view, path, names.at[i]->d_name, ids, entries));
	return rows;
}

static bool is_witness(const struct dirent *entry)
{
	static const char name[] = "witness_link";
	const char *rest = entry->d_name + sizeof(name) - 1;

	return strncmp(entry->d_name, name, sizeof(name) - 1) == 0 && (*rest == '\0' || *rest == '_');
}

/*
 * An agent that took over from one that lived has a pin of its own (hooks_pins.c), and the other's stays when that one
 * and its cgroup are gone. Program ids are given in their order, so the highest is that of the agent that came last.
 */
json_t *kernel_witness(struct kernel_view *view)
{
	_cleanup_(cleanup_names) struct names names = {0};
	struct kernel_link newest = {0};
	char cgroup[PATH_MAX] = "";

	if (!read_names(view->directory, &names) && errno != ENOENT)
		kernel_view_note(view, view->directory, errno);
	for (int i = 0; i < names.count; i++) {
		struct kernel_link link = {0};
		char path[2 * PATH_MAX];

		if (!is_witness(names.at[i]))
			continue;
		(void)snprintf(path, sizeof(path), "%s/%s", view->directory, names.at[i]->d_name);
		if (kernel_link_find(&view->reader, path, &link) != 0)
			kernel_view_note(view, NULL, 0);
		else if (link.program_id >= newest.program_id)
			newest = link;
	}
	if (newest.cgroup_id)
		kernel_cgroup_path(newest.cgroup_id, cgroup);
	return json_pack("{s:b, s:o, s:I}", "attached", newest.cgroup_id != 0, "cgroup", json_text(cgroup),
	                 "program_id", (json_int_t)newest.program_id);
}
