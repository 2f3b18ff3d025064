// SPDX-License-Identifier: GPL-2.0-only
/*
 * hooks_links.c: the programs on cgroups. Each attachment is a bpf_link, pinned, so that it outlives the agent and goes
 * on refusing covered connects. A new agent puts its own program into the pinned link (BPF_LINK_UPDATE): a second
 * attachment beside the first would see the agent's port instead of the destination and delete G's storage (measured).
 * A link whose cgroup is gone is dead for ever; a service that comes back has a new cgroup and gets a new link.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "datapath/gateway.h"
#include "datapath/hooks_internal.h"
#include "postern.skel.h"

struct attachment {
	const struct bpf_program *program;
	enum bpf_attach_type type;
};

static struct attachment attachment_of(const struct hooks *hooks, enum gateway_link link)
{
	const struct postern_bpf *skeleton = hooks->skeleton;

	switch (link) {
	case LINK_GUARD:
		return (struct attachment){skeleton->progs.guard, BPF_CGROUP_INET_EGRESS};
	case LINK_GUARD_INBOUND:
		return (struct attachment){skeleton->progs.guard_inbound, BPF_CGROUP_SOCK_OPS};
	case LINK_HOLD_ATTEMPT:
		return (struct attachment){skeleton->progs.hold_attempt, BPF_CGROUP_SOCK_OPS};
	case LINK_LANE_JOIN:
		return (struct attachment){skeleton->progs.lane_join, BPF_CGROUP_SOCK_OPS};
	case LINK_GETPEERNAME4:
		return (struct attachment){skeleton->progs.getpeername4, BPF_CGROUP_INET4_GETPEERNAME};
	case LINK_GETPEERNAME6:
		return (struct attachment){skeleton->progs.getpeername6, BPF_CGROUP_INET6_GETPEERNAME};
	case LINK_CONNECT4:
		return (struct attachment){skeleton->progs.connect4, BPF_CGROUP_INET4_CONNECT};
	case LINK_CONNECT6:
		return (struct attachment){skeleton->progs.connect6, BPF_CGROUP_INET6_CONNECT};
	case GATEWAY_LINKS:
		break;
	}
	abort();
}

static void close_link(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* By the kernel's word. A link whose cgroup was removed has the id 0. */
static bool link_is_on(int fd, uint64_t cgroup, enum bpf_attach_type type)
{
	struct bpf_link_info info = {0};
	uint32_t size = sizeof(info);

	return fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &size) == 0 && info.type == BPF_LINK_TYPE_CGROUP &&
	       info.cgroup.cgroup_id == cgroup && info.cgroup.attach_type == (uint32_t)type;
}

/* The pinned link, with this agent's program in it; -1: none that is of use. */
static int take_over_link(const char *pin, const struct attachment *attachment, uint64_t cgroup)
{
	_cleanup_close_ int fd = bpf_obj_get(pin);

	if (fd < 0)
		return -1;
	if (!link_is_on(fd, cgroup, attachment->type)) {
		log_info("link of a cgroup that is gone", "pin=%s", pin);
		hooks_remove_pin(pin);
		return -1;
	}
	if (bpf_link_update(fd, bpf_program__fd(attachment->program), NULL) != 0) {
		log_warning("cannot replace the program of a link", "pin=%s error=\"%s\"", pin, strerror(errno));
		hooks_remove_pin(pin);
		return -1;
	}
	return TAKE_FD(fd);
}

uint64_t hooks_pinned_cgroup(const char *pin)
{
	_cleanup_close_ int fd = bpf_obj_get(pin);
	struct bpf_link_info info = {0};
	uint32_t size = sizeof(info);

	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &size) != 0 || info.type != BPF_LINK_TYPE_CGROUP)
		return 0;
	return info.cgroup.cgroup_id;
}

static int make_link(const struct attachment *attachment, int cgroup_fd, int *link_fd)
{
	int fd = bpf_link_create(bpf_program__fd(attachment->program), cgroup_fd, attachment->type, NULL);

	if (fd < 0)
		return -errno;
	*link_fd = fd;
	return 0;
}

/* Somebody may have removed the pin by hand: the link must outlive the agent all the same. */
static int ensure_pinned(const char *pin, int link_fd)
{
	if (pin[0] == '\0' || access(pin, F_OK) == 0)
		return 0;
	return bpf_obj_pin(link_fd, pin) == 0 ? 0 : -errno;
}

/* `pin` is "" when nothing is pinned. */
static int ensure_link(const struct attachment *attachment, const char *pin, int cgroup_fd, uint64_t cgroup,
                       int *link_fd)
{
	int error = 0;

	if (!link_is_on(*link_fd, cgroup, attachment->type)) {
		close_link(link_fd);
		if (pin[0])
			*link_fd = take_over_link(pin, attachment, cgroup);
		if (*link_fd < 0)
			error = make_link(attachment, cgroup_fd, link_fd);
	}
	if (!error)
		error = ensure_pinned(pin, *link_fd);
	if (error)
		log_error("cannot attach", "program=%s error=\"%s\"", bpf_program__name(attachment->program),
		          strerror(-error));
	return error;
}

static int open_cgroup(const char *path, uint64_t *id)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd == -1)
		return -errno;
	*id = cgroup_id(path);
	if (*id == 0) {
		int error = -errno;
		close(fd);
		return error;
	}
	return fd;
}

static struct hooks_gateway *find_gateway(const struct hooks *hooks, const char *name)
{
	for (struct hooks_gateway *gateway = hooks->gateways; gateway; gateway = gateway->next) {
		if (strcmp(gateway->name, name) == 0)
			return gateway;
	}
	return NULL;
}

static struct hooks_gateway *find_or_add_gateway(struct hooks *hooks, const char *name)
{
	struct hooks_gateway *gateway = find_gateway(hooks, name);

	if (gateway)
		return gateway;
	gateway = calloc(1, sizeof(*gateway));
	if (!gateway)
		return NULL;
	gateway->name = strdup(name);
	if (!gateway->name) {
		free(gateway);
		return NULL;
	}
	for (size_t i = 0; i < GATEWAY_LINKS; i++)
		gateway->link_fd[i] = -1;
	gateway->next = hooks->gateways;
	hooks->gateways = gateway;
	return gateway;
}

static void free_gateway(struct hooks_gateway *gateway)
{
	for (size_t i = 0; i < GATEWAY_LINKS; i++)
		close_link(&gateway->link_fd[i]);
	free(gateway->name);
	free(gateway);
}

static int prepare_gateway_pins(const struct hooks *hooks, const char *name, char directory[static PATH_MAX])
{
	int error = hooks_gateway_pin_directory(hooks, name, directory);

	if (error || directory[0] == '\0')
		return error;
	error = hooks_make_links_directory(hooks);
	if (!error && mkdir(directory, 0700) == -1 && errno != EEXIST)
		error = -errno;
	return error;
}

static int gateway_pin(const struct hooks *hooks, const char *directory, enum gateway_link link,
                       char pin[static PATH_MAX])
{
	int length = 0;

	pin[0] = '\0';
	if (directory[0])
		length = snprintf(pin, PATH_MAX, "%s/%s", directory,
		                  bpf_program__name(attachment_of(hooks, link).program));
	return length < 0 || length >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static int attach_links(struct hooks *hooks, struct hooks_gateway *gateway, const char *directory, int cgroup_fd)
{
	char pin[PATH_MAX];

	for (enum gateway_link link = 0; link < GATEWAY_LINKS; link++) {
		struct attachment attachment = attachment_of(hooks, link);
		int error = gateway_pin(hooks, directory, link, pin);

		if (!error)
			error = ensure_link(&attachment, pin, cgroup_fd, gateway->cgroup_id, &gateway->link_fd[link]);
		if (error)
			return error;
	}
	return 0;
}

int hooks_attach_gateway(struct hooks *hooks, const char *name, const char *cgroup_path, uint32_t gateway_id)
{
	const struct postern_gateway_id value = {.id = gateway_id};
	struct hooks_gateway *gateway = find_or_add_gateway(hooks, name);
	char directory[PATH_MAX];
	uint64_t cgroup = 0;
	int error;

	if (!gateway)
		return -ENOMEM;
	_cleanup_close_ int cgroup_fd = open_cgroup(cgroup_path, &cgroup);
	if (cgroup_fd < 0)
		return cgroup_fd;
	gateway->cgroup_id = cgroup;
	error = prepare_gateway_pins(hooks, name, directory);
	if (!error)
		error = attach_links(hooks, gateway, directory, cgroup_fd);
	if (error)
		return error;
	/* Until now it was 0 in a new cgroup: not ready, covered connects are refused. */
	if (bpf_map_update_elem(bpf_map__fd(hooks->skeleton->maps.gateway_id_storage), &cgroup, &value, BPF_ANY) != 0)
		return -errno;
	return 0;
}

static int detach_links(struct hooks_gateway *gateway)
{
	int first_error = 0;

	for (size_t i = 0; i < GATEWAY_LINKS; i++) {
		if (gateway->link_fd[i] >= 0 && bpf_link_detach(gateway->link_fd[i]) != 0 && !first_error)
			first_error = -errno;
	}
	return first_error;
}

void hooks_let_go(struct hooks *hooks, const char *name)
{
	for (struct hooks_gateway **place = &hooks->gateways; *place; place = &(*place)->next) {
		struct hooks_gateway *gateway = *place;

		if (strcmp(gateway->name, name) != 0)
			continue;
		*place = gateway->next;
		free_gateway(gateway);
		return;
	}
}

int hooks_detach_gateway(struct hooks *hooks, const char *name, const char *cgroup_path)
{
	struct hooks_gateway *gateway = find_gateway(hooks, name);
	int first_error = gateway ? detach_links(gateway) : 0;
	char directory[PATH_MAX];

	hooks_let_go(hooks, name);
	int error = hooks_gateway_pin_directory(hooks, name, directory);
	if (!error && directory[0])
		error = hooks_remove_pins_below(directory);
	if (error < 0 && !first_error)
		first_error = error;
	if (first_error)
		log_warning("cannot detach a gateway's hooks wholly", "gateway=%s cgroup=%s error=\"%s\"", name,
		            cgroup_path, strerror(-first_error));
	return first_error;
}

bool hooks_gateway_attached(struct hooks *hooks, const char *name)
{
	const struct hooks_gateway *gateway = find_gateway(hooks, name);

	if (!gateway)
		return false;
	for (enum gateway_link link = 0; link < GATEWAY_LINKS; link++) {
		if (!link_is_on(gateway->link_fd[link], gateway->cgroup_id, attachment_of(hooks, link).type))
			return false;
	}
	return true;
}

uint32_t hooks_pinned_gateway_id(struct hooks *hooks, const char *name, uint64_t *cgroup)
{
	const struct attachment attachment = attachment_of(hooks, LINK_CONNECT4);
	struct bpf_link_info info = {0};
	uint32_t size = sizeof(info);
	char directory[PATH_MAX], pin[PATH_MAX];

	*cgroup = 0;
	if (hooks_gateway_pin_directory(hooks, name, directory) != 0 || !directory[0] ||
	    gateway_pin(hooks, directory, LINK_CONNECT4, pin) != 0)
		return 0;
	_cleanup_close_ int fd = bpf_obj_get(pin);
	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &size) != 0 || info.type != BPF_LINK_TYPE_CGROUP ||
	    !link_is_on(fd, info.cgroup.cgroup_id, attachment.type) || info.cgroup.cgroup_id == 0)
		return 0;
	*cgroup = info.cgroup.cgroup_id;
	return hooks_gateway_id_of(hooks, *cgroup);
}

uint32_t hooks_gateway_id_of(struct hooks *hooks, uint64_t cgroup)
{
	struct postern_gateway_id value = {0};

	if (bpf_map_lookup_elem(bpf_map__fd(hooks->skeleton->maps.gateway_id_storage), &cgroup, &value) != 0)
		return 0;
	return value.id;
}

/* The cgroup that the usual pin's link is on, if it lives, and is another one than ours. */
static uint64_t others_cgroup(const char *pin, uint64_t own)
{
	uint64_t cgroup = hooks_pinned_cgroup(pin);

	return cgroup == own ? 0 : cgroup;
}

int hooks_attach_witness(struct hooks *hooks, const char *cgroup_path)
{
	const struct attachment attachment = {hooks->skeleton->progs.witness, BPF_CGROUP_INET_EGRESS};
	char pin[PATH_MAX];
	uint64_t cgroup = 0;
	int error;

	_cleanup_close_ int cgroup_fd = open_cgroup(cgroup_path, &cgroup);
	if (cgroup_fd < 0)
		return cgroup_fd;
	error = hooks_witness_pin_path(hooks, 0, pin);
	/* The other agent's sockets belong to its cgroup for as long as they live: they stay watched. */
	if (!error && pin[0] && hooks->other_rings && others_cgroup(pin, cgroup))
		error = hooks_witness_pin_path(hooks, cgroup, pin);
	if (!error)
		error = ensure_link(&attachment, pin, cgroup_fd, cgroup, &hooks->witness_link_fd);
	return error;
}

static int update_link(int fd, const struct bpf_program *program)
{
	return fd < 0 || bpf_link_update(fd, bpf_program__fd(program), NULL) == 0 ? 0 : -errno;
}

int hooks_update_links(struct hooks *hooks)
{
	int first_error = update_link(hooks->witness_link_fd, hooks->skeleton->progs.witness);

	for (struct hooks_gateway *gateway = hooks->gateways; gateway; gateway = gateway->next) {
		for (enum gateway_link link = 0; link < GATEWAY_LINKS; link++) {
			int error = update_link(gateway->link_fd[link], attachment_of(hooks, link).program);

			first_error = first_error ? first_error : error;
		}
	}
	return first_error;
}

void hooks_close_links(struct hooks *hooks)
{
	while (hooks->gateways) {
		struct hooks_gateway *gateway = hooks->gateways;

		hooks->gateways = gateway->next;
		free_gateway(gateway);
	}
	close_link(&hooks->witness_link_fd);
}
