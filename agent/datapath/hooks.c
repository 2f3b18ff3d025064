// SPDX-License-Identifier: GPL-2.0-only
/*
 * hooks.c: opens, configures and loads the BPF programs, and takes over what an earlier agent pinned.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/version.h"
#include "datapath/hooks_internal.h"
#include "datapath/hooks_trace.h"
#include "postern.skel.h"

#define LANE_SLOTS_BYTES (POSTERN_MAX_LANE_SLOTS * sizeof(struct postern_lane_slot))
#define VERIFIER_LINES   40 /* of the verifier's log, from its end, where it says why */

static void log_line(enum libbpf_print_level level, const char *line)
{
	char quoted[512];

	log_quote(line, quoted, sizeof(quoted));
	if (level == LIBBPF_WARN)
		log_warning("libbpf", "message=%s", quoted);
	else
		log_debug("libbpf", "message=%s", quoted);
}

/* Where the last `lines` lines of the text begin. */
static char *last_lines(char *text, unsigned int lines)
{
	for (char *c = text + strlen(text); c > text; c--) {
		if (c[-1] == '\n' && *c && lines-- == 0)
			return c;
	}
	return text;
}

static int print_libbpf(enum libbpf_print_level level, const char *format, va_list arguments)
{
	_cleanup_free_ char *text = NULL;
	char *rest;

	if (level != LIBBPF_WARN && !log_enabled(LOG_LEVEL_DEBUG))
		return 0;
	if (vasprintf(&text, format, arguments) < 0) {
		text = NULL;
		return 0;
	}
	rest = last_lines(text, VERIFIER_LINES);
	for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
		if (*line)
			log_line(level, line);
	}
	return 0;
}

/* Every map but those that belong to one load of the programs; passed_socket beside those of this ABI number. */
static int set_pin_paths(struct hooks *hooks)
{
	struct bpf_map *map;

	bpf_object__for_each_map (map, hooks->skeleton->obj) {
		char path[PATH_MAX];

		if (bpf_map__is_internal(map) || map == hooks->skeleton->maps.trace_ring)
			continue;
		int length = snprintf(path, sizeof(path), "%s/%s",
		                      map == hooks->skeleton->maps.passed_socket ? hooks->bpffs : hooks->directory,
		                      bpf_map__name(map));
		if (length < 0 || length >= (int)sizeof(path))
			return -ENAMETOOLONG;
		int error = bpf_map__set_pin_path(map, path);
		if (error)
			return error;
	}
	return 0;
}

/* Random, so that no process of a gateway's namespace can guess it; an ordinary packet has 0. */
static int draw_release_priority(struct hooks *hooks)
{
	while (hooks->release_priority == 0) {
		if (getrandom(&hooks->release_priority, sizeof(hooks->release_priority), 0) !=
		    (ssize_t)sizeof(hooks->release_priority))
			return errno ? -errno : -EIO;
	}
	hooks->skeleton->rodata->release_priority = hooks->release_priority;
	return 0;
}

/* A pinned map has the size that it was made with; a load with another one would fail. */
static unsigned int pinned_size(const char *pin)
{
	_cleanup_close_ int fd = bpf_obj_get(pin);
	struct bpf_map_info info = {0};
	uint32_t size = sizeof(info);

	return fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &size) == 0 ? info.max_entries : 0;
}

static int set_destination_count(struct hooks *hooks)
{
	struct bpf_map *const maps[] = {
	        hooks->skeleton->maps.destination_map,
	        hooks->skeleton->maps.covered_addresses,
	};

	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		const char *pin = bpf_map__pin_path(maps[i]);
		unsigned int pinned = pin ? pinned_size(pin) : 0;
		int error = bpf_map__set_max_entries(maps[i], pinned ? pinned : hooks->max_destinations);

		if (error)
			return error;
		if (pinned && pinned != hooks->max_destinations)
			log_warning("a pinned map keeps its size",
			            "map=%s entries=%u wanted=%u remedy=\"posternctl uninstall, then start again\"",
			            bpf_map__name(maps[i]), pinned, hooks->max_destinations);
	}
	return 0;
}

static int load_programs(struct hooks *hooks)
{
	int error;

	hooks->skeleton = postern_bpf__open();
	if (!hooks->skeleton) {
		error = errno ? -errno : -EINVAL;
		log_error("cannot open the BPF programs", "error=\"%s\"", strerror(-error));
		return error;
	}
	error = hooks->directory ? set_pin_paths(hooks) : 0;
	if (!error)
		error = set_destination_count(hooks);
	if (!error)
		error = draw_release_priority(hooks);
	if (!error)
		error = postern_bpf__load(hooks->skeleton);
	if (error)
		log_error("cannot load the BPF programs", "pins=%s error=\"%s\"",
		          hooks->directory ? hooks->directory : "none", strerror(-error));
	return error;
}

/* libbpf has compared types and sizes of the pinned maps; the number says whether the bytes mean the same. */
static int check_abi(struct hooks *hooks)
{
	int fd = bpf_map__fd(hooks->skeleton->maps.meta);
	struct postern_meta meta;
	uint32_t index = 0;

	if (bpf_map_lookup_elem(fd, &index, &meta) != 0)
		return -errno;
	if (meta.abi_version == 0) {
		meta.abi_version = postern_abi_version;
		return bpf_map_update_elem(fd, &index, &meta, BPF_ANY) == 0 ? 0 : -errno;
	}
	if (meta.abi_version == postern_abi_version)
		return 0;
	log_error("pinned maps are of another version",
	          "pins=%s version=%u own=%u remedy=\"posternctl uninstall, then start again\"", hooks->directory,
	          meta.abi_version, postern_abi_version);
	return -EPROTO;
}

/* The rings are this agent's own: what an earlier one left unread is healed by the SYN retransmits. */
static int make_rings(struct hooks *hooks)
{
	int rings = bpf_map__fd(hooks->skeleton->maps.worker_rings);

	for (uint32_t number = 0; number < POSTERN_MAX_RINGS; number++) {
		uint32_t worker = number - hooks->first_ring;

		if (number < hooks->first_ring || worker >= hooks->worker_count) {
			if (!(hooks->other_rings >> number & 1) && bpf_map_delete_elem(rings, &number) != 0 &&
			    errno != ENOENT)
				return -errno;
			continue;
		}
		int fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "worker_ring", 0, 0, POSTERN_RING_BYTES, NULL);
		if (fd < 0)
			return -errno;
		hooks->ring_fd[worker] = fd;
		if (bpf_map_update_elem(rings, &number, &fd, BPF_ANY) != 0)
			return -errno;
	}
	return 0;
}

static int map_lane_slots(struct hooks *hooks)
{
	void *slots = mmap(NULL, LANE_SLOTS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
	                   bpf_map__fd(hooks->skeleton->maps.lane_slots), 0);

	if (slots == MAP_FAILED)
		return -errno;
	hooks->lane_slots = slots;
	return 0;
}

static int map_policy_generation(struct hooks *hooks)
{
	void *generation = mmap(NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED,
	                        bpf_map__fd(hooks->skeleton->maps.policy_generation), 0);

	if (generation == MAP_FAILED)
		return -errno;
	hooks->policy_generation = generation;
	hooks_raise_generation(hooks);
	return 0;
}

/* An earlier agent's program in the pinned map is replaced; a G that is in it keeps the one that it joined with. */
static int attach_lane(struct hooks *hooks)
{
	int error = bpf_prog_attach(bpf_program__fd(hooks->skeleton->progs.lane_redirect),
	                            bpf_map__fd(hooks->skeleton->maps.lane_gateway), BPF_SK_MSG_VERDICT, 0);

	return error ? -errno : 0;
}

int hooks_take_over(struct hooks *hooks)
{
	int error = attach_lane(hooks);

	hooks_raise_generation(hooks); /* the guard may have been one that knows no generation */
	return error ? error : hooks_update_links(hooks);
}

int hooks_adopt_rings(struct hooks *hooks, uint64_t other_rings)
{
	int rings = bpf_map__fd(hooks->skeleton->maps.worker_rings);
	unsigned int worker = 0; /* in turns */

	for (uint32_t number = 0; number < POSTERN_MAX_RINGS; number++) {
		bool own = number >= hooks->first_ring && number < hooks->first_ring + hooks->worker_count;

		if (own || other_rings >> number & 1)
			continue;
		if (bpf_map_update_elem(rings, &number, &hooks->ring_fd[worker], BPF_ANY) != 0)
			return -errno;
		worker = worker + 1 < hooks->worker_count ? worker + 1 : 0;
	}
	return 0;
}

unsigned int hooks_ring_number(const struct hooks *hooks, unsigned int worker)
{
	return hooks->first_ring + worker;
}

/* What another agent serves by is not touched yet. */
static int forget_offers(struct hooks *hooks)
{
	return hooks->other_rings ? 0 : hooks_lane_forget_offers(hooks);
}

static int begin(struct hooks *hooks)
{
	return hooks->beside ? 0 : attach_lane(hooks);
}

/* What is not pinned is nobody's node: the proof and the tests say what the maps hold. */
static int know_without_pins(struct hooks *hooks)
{
	return hooks->directory ? 0 : hooks_policy_is_known(hooks);
}

static int start(struct hooks *hooks, const char *bpffs)
{
	static const struct {
		const char *what;
		int (*step)(struct hooks *hooks);
	} steps[] = {
	        {"check the version of the maps", check_abi},   {"map the policy's generation", map_policy_generation},
	        {"take the maps for known", know_without_pins}, {"make the workers' rings", make_rings},
	        {"map the lane's slots", map_lane_slots},       {"take back the lane's offers", forget_offers},
	        {"attach the lane's program", begin},
	};
	int error = bpffs ? hooks_prepare_directory(bpffs, &hooks->directory) : 0;

	if (!error && bpffs) {
		hooks->bpffs = strdup(bpffs);
		error = hooks->bpffs ? 0 : -ENOMEM;
	}
	if (!error)
		error = load_programs(hooks);
	if (error)
		return error;
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		error = steps[i].step(hooks);
		if (error) {
			log_error("hooks are not ready", "step=\"%s\" error=\"%s\"", steps[i].what, strerror(-error));
			return error;
		}
	}
	return 0;
}

int hooks_load(const struct hooks_options *options, struct hooks **hooks_out)
{
	struct hooks *hooks;
	int error;

	if (options->worker_count == 0 || options->worker_count > POSTERN_MAX_WORKERS ||
	    options->first_ring + options->worker_count > POSTERN_MAX_RINGS)
		return -EINVAL;
	hooks = calloc(1, sizeof(*hooks));
	if (!hooks)
		return -ENOMEM;
	hooks->worker_count = options->worker_count;
	hooks->first_ring = options->first_ring;
	hooks->other_rings = options->other_rings;
	hooks->beside = options->beside;
	hooks->max_destinations = options->max_destinations ? options->max_destinations : POSTERN_MAX_DESTINATIONS;
	hooks->witness_link_fd = -1;
	for (size_t i = 0; i < POSTERN_MAX_WORKERS; i++)
		hooks->ring_fd[i] = -1;
	libbpf_set_print(print_libbpf);
	error = start(hooks, options->bpffs);
	if (error) {
		hooks_free(hooks);
		return error;
	}
	*hooks_out = hooks;
	return 0;
}

void hooks_free(struct hooks *hooks)
{
	if (!hooks)
		return;
	hooks_trace_close(hooks);
	hooks_close_links(hooks);
	if (hooks->lane_slots)
		munmap(hooks->lane_slots, LANE_SLOTS_BYTES);
	if (hooks->policy_generation)
		munmap(hooks->policy_generation, sizeof(uint64_t));
	for (size_t i = 0; i < POSTERN_MAX_WORKERS; i++) {
		if (hooks->ring_fd[i] >= 0)
			close(hooks->ring_fd[i]);
	}
	postern_bpf__destroy(hooks->skeleton);
	free(hooks->directory);
	free(hooks->bpffs);
	free(hooks);
}
