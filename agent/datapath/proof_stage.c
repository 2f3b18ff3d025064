/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/proof_stage.h"

#include <arpa/inet.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/loop.h"
#include "datapath/hooks.h"

#define CGROUP_PREFIX "postern-proof."

struct postern_destination_key proof_key(uint32_t address, uint16_t port)
{
	struct sockaddr_storage storage = {0};
	struct sockaddr_in *v4 = (struct sockaddr_in *)&storage;
	struct postern_address parsed = {0};
	uint16_t ignored;

	v4->sin_family = AF_INET;
	v4->sin_addr.s_addr = htonl(address);
	(void)address_from_sockaddr(&storage, &parsed, &ignored);
	return destination_key(&parsed, port);
}

static int on_record(void *context, void *data, size_t size)
{
	struct proof_stage *stage = context;
	const struct postern_record_header *header = data;

	if (header->type == POSTERN_RECORD_CONNECT && size >= sizeof(stage->connect)) {
		memcpy(&stage->connect, data, sizeof(stage->connect));
		stage->connects++;
	} else if (header->type == POSTERN_RECORD_SYN && size >= sizeof(stage->syn)) {
		memcpy(&stage->syn, data, sizeof(stage->syn));
		stage->syns++;
	}
	return 0;
}

bool proof_await_syn(struct proof_stage *stage, unsigned int before)
{
	uint64_t end = monotonic_ns() + PROOF_PATIENCE_MS * 1000000ull;

	while (stage->syns <= before && monotonic_ns() < end)
		(void)ring_buffer__poll(stage->ring, 100);
	return stage->syns > before;
}

uint64_t proof_counter(struct proof_stage *stage, enum postern_counter which)
{
	uint64_t counters[POSTERN_COUNTERS];

	return hooks_counters(stage->hooks, counters) == 0 ? counters[which] : 0;
}

bool proof_await_count(struct proof_stage *stage, enum postern_counter which, uint64_t before)
{
	uint64_t end = monotonic_ns() + PROOF_PATIENCE_MS * 1000000ull;

	while (proof_counter(stage, which) == before && monotonic_ns() < end)
		(void)poll(NULL, 0, 1);
	return proof_counter(stage, which) > before;
}

/* Of agents that were killed in the middle of their proof. One that is in use cannot be removed. */
static void remove_leftovers(const char *directory_path)
{
	DIR *directory = opendir(directory_path);
	struct dirent *entry;

	if (!directory)
		return;
	while ((entry = readdir(directory)) != NULL) {
		if (strncmp(entry->d_name, CGROUP_PREFIX, strlen(CGROUP_PREFIX)) == 0)
			(void)unlinkat(dirfd(directory), entry->d_name, AT_REMOVEDIR);
	}
	closedir(directory);
}

static int make_cgroup(struct proof_stage *stage, const char *agent_cgroup)
{
	const char *slash = strrchr(agent_cgroup, '/');
	_cleanup_free_ char *parent = slash ? strndup(agent_cgroup, (size_t)(slash - agent_cgroup)) : NULL;

	if (!slash)
		return -EINVAL;
	/* Beside the agent's: neither above nor below it. */
	if (!parent || asprintf(&stage->cgroup, "%s/" CGROUP_PREFIX "%d", parent, (int)getpid()) == -1) {
		stage->cgroup = NULL;
		return -ENOMEM;
	}
	remove_leftovers(parent);
	if (mkdir(stage->cgroup, 0755) == -1)
		return -errno;
	stage->cgroup_fd = open(stage->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return stage->cgroup_fd == -1 ? -errno : 0;
}

static int listen_plain(struct proof_stage *stage)
{
	_cleanup_close_ int fd = gateway_socket(stage->gateway, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in address = {
	        .sin_family = AF_INET,
	        .sin_port = htons(PROOF_PLAIN_PORT),
	        .sin_addr.s_addr = htonl(PROOF_CHILD_ADDRESS),
	};

	if (fd < 0)
		return fd;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == -1 || listen(fd, 8) == -1)
		return -errno;
	stage->listener = TAKE_FD(fd);
	return 0;
}

int proof_stage_set(struct proof_stage *stage, const char *agent_cgroup, char *error, size_t error_size)
{
	const struct hooks_options hooks_options = {.worker_count = 1};
	const struct postern_runtime_config runtime = {.lane_enabled = 1};
	const struct postern_destination covered = {.verdict = POSTERN_VERDICT_TLS, .settings_id = 1};
	const struct postern_destination_key key = proof_key(PROOF_BACKEND, PROOF_COVERED_PORT);
	char netns[64];
	int result = make_cgroup(stage, agent_cgroup);

	if (!result)
		result = proof_child_start(stage->cgroup_fd, &stage->child);
	if (!result)
		result = hooks_load(&hooks_options, &stage->hooks);
	if (!result)
		result = hooks_attach_witness(stage->hooks, agent_cgroup);
	if (!result)
		result = hooks_set_runtime_config(stage->hooks, &runtime);
	if (!result)
		result = hooks_set_destination(stage->hooks, &key, &covered);
	if (result) {
		snprintf(error, error_size, "%s", strerror(-result));
		return result;
	}
	snprintf(netns, sizeof(netns), "/proc/%d/ns/net", (int)stage->child.pid);
	stage->options = (struct gateway_options){
	        .name = "postern-proof",
	        .cgroup = stage->cgroup,
	        .netns = netns,
	        .id = 1,
	        .worker_count = 1,
	        .ports_per_worker = 2,
	        .first_port = 28000,
	        .last_port = 28099,
	        .agent_cgroup = agent_cgroup,
	};
	result = gateway_new(&stage->options, NULL, 0, &stage->gateway, error, error_size);
	if (result)
		return result;
	if (!gateway_advance(stage->gateway, stage->hooks, &stage->options)) {
		snprintf(error, error_size, "%s", stage->gateway->reason);
		return -EAGAIN;
	}
	result = listen_plain(stage);
	if (!result) {
		stage->ring = ring_buffer__new(hooks_ring_fd(stage->hooks, 0), on_record, stage, NULL);
		result = stage->ring ? 0 : -errno;
	}
	if (result)
		snprintf(error, error_size, "%s", strerror(-result));
	return result;
}

void proof_stage_strike(struct proof_stage *stage)
{
	ring_buffer__free(stage->ring);
	if (stage->listener >= 0)
		close(stage->listener);
	proof_child_stop(&stage->child);
	if (stage->gateway)
		gateway_free(stage->gateway);
	if (stage->hooks)
		hooks_free(stage->hooks);
	if (stage->cgroup_fd >= 0)
		close(stage->cgroup_fd);
	if (stage->cgroup && rmdir(stage->cgroup) == -1 && errno != ENOENT)
		log_warning("proof cgroup not removed", "cgroup=%s error=\"%s\"", stage->cgroup, strerror(errno));
	free(stage->cgroup);
}
