/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel_truth.h"

#include <bpf/bpf.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "observe/json.h"
#include "postern/abi.h"

struct truth {
	char directory[PATH_MAX]; /* <bpffs>/vN */
	char error[256];          /* the first one */
	json_t *gateways;
};

static void cleanup_directory(DIR **directory)
{
	if (*directory)
		closedir(*directory);
}

static void note_error(struct truth *truth, const char *what, int number)
{
	if (truth->error[0] == '\0')
		(void)snprintf(truth->error, sizeof(truth->error), "%.160s: %s%s", what, strerror(number),
		               number == EPERM || number == EACCES ? " (it takes root)" : "");
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

static int open_map(struct truth *truth, const char *name)
{
	char path[PATH_MAX + 64];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", truth->directory, name);
	fd = bpf_obj_get(path);
	if (fd < 0)
		note_error(truth, path, errno);
	return fd;
}

/* "enforce", "observe", or "not ready": covered connects are refused. */
static const char *gateway_mode(struct truth *truth, uint64_t cgroup_id)
{
	_cleanup_close_ int ids = open_map(truth, "gateway_id_storage");
	_cleanup_close_ int gateways = open_map(truth, "gateway_map");
	struct postern_gateway_id id = {0};
	struct postern_gateway gateway = {0};

	if (ids < 0 || gateways < 0)
		return "unknown";
	if (bpf_map_lookup_elem(ids, &cgroup_id, &id) != 0 || bpf_map_lookup_elem(gateways, &id.id, &gateway) != 0)
		return "not ready";
	return gateway.mode == POSTERN_MODE_OBSERVE ? "observe" : "enforce";
}

struct gateway_links {
	unsigned int hooks;
	unsigned int attached;
	bool connect4;
	bool connect6;
	bool guarded;
	uint64_t cgroup_id;
};

static void look_at_link(struct truth *truth, const char *path, struct gateway_links *links)
{
	_cleanup_close_ int fd = bpf_obj_get(path);
	struct bpf_link_info info = {0};
	uint32_t size = sizeof(info);

	links->hooks++;
	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &size) != 0) {
		note_error(truth, path, errno);
		return;
	}
	/* The id is 0 once the cgroup is gone or the link was detached. */
	if (info.type != BPF_LINK_TYPE_CGROUP || info.cgroup.cgroup_id == 0)
		return;
	links->attached++;
	links->cgroup_id = info.cgroup.cgroup_id;
	links->connect4 |= info.cgroup.attach_type == BPF_CGROUP_INET4_CONNECT;
	links->connect6 |= info.cgroup.attach_type == BPF_CGROUP_INET6_CONNECT;
	links->guarded |= info.cgroup.attach_type == BPF_CGROUP_INET_EGRESS;
}

static void look_at_gateway(struct truth *truth, const char *links_path, const char *encoded_name)
{
	struct gateway_links links = {0};
	char path[PATH_MAX + NAME_MAX + 80];
	char name[NAME_MAX];
	_cleanup_(cleanup_directory) DIR *directory = NULL;

	(void)snprintf(path, sizeof(path), "%s/%s", links_path, encoded_name);
	directory = opendir(path);
	if (!directory) {
		note_error(truth, path, errno);
		return;
	}
	for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
		char link[sizeof(path) + NAME_MAX + 2];

		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(link, sizeof(link), "%s/%s", path, entry->d_name);
		look_at_link(truth, link, &links);
	}
	decode_name(encoded_name, name, sizeof(name));
	json_append(&truth->gateways,
	            json_pack("{s:o, s:s, s:i, s:i, s:b, s:b}", "name", json_text(name), "mode",
	                      links.attached ? gateway_mode(truth, links.cgroup_id) : "detached", "hooks",
	                      (int)links.hooks, "attached", (int)links.attached, "intercepts",
	                      links.connect4 && links.connect6, "guarded", (int)links.guarded));
}

static void look_at_gateways(struct truth *truth)
{
	char path[PATH_MAX + 16];
	_cleanup_(cleanup_directory) DIR *directory = NULL;

	(void)snprintf(path, sizeof(path), "%s/links", truth->directory);
	directory = opendir(path);
	if (!directory) {
		if (errno != ENOENT)
			note_error(truth, path, errno);
		return;
	}
	for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
		if (entry->d_name[0] != '.')
			look_at_gateway(truth, path, entry->d_name);
	}
}

/* An agent that changes the map may send the iteration back to its start: no more steps than twice its size. */
static uint64_t steps_at_most(int map)
{
	struct bpf_map_info info = {0};
	uint32_t size = sizeof(info);

	return bpf_obj_get_info_by_fd(map, &info, &size) == 0 ? 2 * (uint64_t)info.max_entries : 0;
}

static json_t *count_destinations(struct truth *truth)
{
	_cleanup_close_ int map = open_map(truth, "destination_map");
	unsigned int counts[POSTERN_VERDICT_HOLD + 1] = {0};
	struct postern_destination_key key;
	struct postern_destination_key *previous = NULL;

	for (uint64_t steps = map >= 0 ? steps_at_most(map) : 0; steps > 0; steps--) {
		struct postern_destination_key next;
		struct postern_destination value = {0};

		if (bpf_map_get_next_key(map, previous, &next) != 0)
			break;
		if (bpf_map_lookup_elem(map, &next, &value) == 0 && value.verdict < ARRAY_SIZE(counts))
			counts[value.verdict]++;
		key = next;
		previous = &key;
	}
	return json_pack("{s:i, s:i, s:i}", "tls", (int)counts[POSTERN_VERDICT_TLS], "plain",
	                 (int)counts[POSTERN_VERDICT_PLAIN], "deny", (int)counts[POSTERN_VERDICT_DENY]);
}

json_t *kernel_truth(const char *bpffs)
{
	struct truth truth = {.gateways = json_array()};
	json_t *destinations;
	bool pinned;
	int length = snprintf(truth.directory, sizeof(truth.directory), "%s/v%d", bpffs, POSTERN_ABI_VERSION);

	if (length < 0 || (size_t)length >= sizeof(truth.directory)) {
		note_error(&truth, "--bpffs", ENAMETOOLONG);
		truth.directory[0] = '\0';
	}
	pinned = truth.directory[0] && access(truth.directory, F_OK) == 0;
	if (!pinned && errno != ENOENT)
		note_error(&truth, truth.directory, errno);
	if (pinned) {
		look_at_gateways(&truth);
		destinations = count_destinations(&truth);
	} else {
		destinations = json_pack("{s:i, s:i, s:i}", "tls", 0, "plain", 0, "deny", 0);
	}
	return json_pack("{s:b, s:o, s:o, s:o}", "pinned", (int)pinned, "error", json_text(truth.error), "gateways",
	                 truth.gateways, "destinations", destinations);
}
