/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel_reader.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "datapath/gateway.h"

#define VALUE_MAX    512
#define CPUS_MAX     4096
#define STEPS_MIN    1024 /* a cgroup storage has no size of its own */
#define HANDLE_BYTES sizeof(uint64_t)
#define HANDLE_TYPE  0xfe /* FILEID_KERNFS: include/linux/exportfs.h */

static int fail(struct kernel_reader *reader, int number, const char *what)
{
	(void)snprintf(reader->error, sizeof(reader->error), "%.160s: %s%s", what, strerror(-number),
	               number == -EPERM || number == -EACCES ? " (it takes root)" : "");
	return number;
}

void kernel_reader_open(struct kernel_reader *reader, const char *bpftool)
{
	memset(reader, 0, sizeof(*reader));
	reader->by_bpftool = bpftool_find(bpftool, reader->bpftool) == 0;
}

void kernel_reader_close(struct kernel_reader *reader)
{
	free(reader->links);
	free(reader->programs);
	memset(reader, 0, sizeof(*reader));
}

const char *kernel_reader_name(const struct kernel_reader *reader)
{
	return reader->by_bpftool ? "bpftool" : "libbpf: bpftool was not found";
}

/* ---- maps ---- */

struct dump {
	size_t key_size;
	size_t value_size;
	bool per_cpu;
	kernel_each each;
	void *context;
};

static int sum_of_cpus(const json_t *values, uint64_t *sum)
{
	size_t index;
	json_t *row;

	if (!json_is_array(values) || json_array_size(values) > CPUS_MAX)
		return -EBADMSG;
	*sum = 0;
	json_array_foreach (values, index, row) {
		uint64_t one;

		if (bpftool_bytes(json_object_get(row, "value"), &one, sizeof(one)) != 0)
			return -EBADMSG;
		*sum += one;
	}
	return 0;
}

static int take_entry(void *context, const json_t *element)
{
	struct dump *dump = context;
	const json_t *value = json_object_get(element, "value");
	unsigned char key[VALUE_MAX] __attribute__((aligned(8)));
	unsigned char bytes[VALUE_MAX] __attribute__((aligned(8)));

	/* It went between two steps of the dump. */
	if (json_is_object(value) && json_object_get(value, "error"))
		return 0;
	if (bpftool_bytes(json_object_get(element, "key"), key, dump->key_size) != 0)
		return -EBADMSG;
	if (dump->per_cpu ? sum_of_cpus(json_object_get(element, "values"), (uint64_t *)(void *)bytes)
	                  : bpftool_bytes(value, bytes, dump->value_size))
		return -EBADMSG;
	dump->each(dump->context, key, bytes);
	return 0;
}

/* An agent that changes the map may send the iteration back to its start: no more steps than twice its size. */
static int walk_map(int map, const struct dump *dump)
{
	struct bpf_map_info info = {0};
	uint32_t info_size = sizeof(info);
	unsigned char keys[2][VALUE_MAX] __attribute__((aligned(8)));
	int cpus = libbpf_num_possible_cpus();
	_cleanup_free_ uint64_t *values = calloc(CPUS_MAX, sizeof(*values));
	void *previous = NULL;
	unsigned int which = 0;

	if (!values || cpus <= 0 || cpus > CPUS_MAX)
		return -ENOMEM;
	if (bpf_obj_get_info_by_fd(map, &info, &info_size) != 0)
		return -errno;
	if (info.key_size != dump->key_size || info.value_size != dump->value_size)
		return -EBADMSG;
	for (uint64_t steps = STEPS_MIN + 2 * (uint64_t)info.max_entries; steps > 0; steps--) {
		if (bpf_map_get_next_key(map, previous, keys[which]) != 0)
			return errno == ENOENT ? 0 : -errno;
		previous = keys[which];
		which = !which;
		if (bpf_map_lookup_elem(map, previous, values) != 0)
			continue;
		for (int cpu = 1; dump->per_cpu && cpu < cpus; cpu++)
			values[0] += values[cpu];
		dump->each(dump->context, previous, values);
	}
	return 0;
}

int kernel_map_each(struct kernel_reader *reader, const char *path, size_t key_size, size_t value_size, bool per_cpu,
                    kernel_each each, void *context)
{
	const char *const words[] = {"map", "dump", "pinned", path, NULL};
	struct dump dump = {key_size, value_size, per_cpu, each, context};
	_cleanup_close_ int map = -1;
	int result;

	if (key_size > VALUE_MAX || value_size > VALUE_MAX)
		return fail(reader, -EINVAL, path);
	if (reader->by_bpftool) {
		result = bpftool_run(reader->bpftool, words, take_entry, &dump, reader->error);
		return result && !reader->error[0] ? fail(reader, result, path) : result;
	}
	map = bpf_obj_get(path);
	if (map < 0)
		return fail(reader, -errno, path);
	result = walk_map(map, &dump);
	return result ? fail(reader, result, path) : 0;
}

/* ---- links ---- */

static int copy_text(const json_t *object, const char *key, char *out, size_t size)
{
	const char *text = json_string_value(json_object_get(object, key));

	if (!text || strlen(text) >= size)
		return -EBADMSG;
	memcpy(out, text, strlen(text) + 1);
	return 0;
}

/* Only cgroup links are ours; others of the machine are left out. */
static int parse_link(const json_t *element, struct kernel_link *link)
{
	const char *type = json_string_value(json_object_get(element, "type"));
	uint64_t id;
	uint64_t program;

	memset(link, 0, sizeof(*link));
	if (!type || strcmp(type, "cgroup") != 0)
		return -ENOENT;
	if (bpftool_number(element, "id", UINT32_MAX, &id) != 0 ||
	    bpftool_number(element, "prog_id", UINT32_MAX, &program) != 0 ||
	    bpftool_number(element, "cgroup_id", INT64_MAX, &link->cgroup_id) != 0)
		return -EBADMSG;
	/* A number for a type that this bpftool does not know. */
	(void)copy_text(element, "attach_type", link->attach_type, sizeof(link->attach_type));
	link->id = (uint32_t)id;
	link->program_id = (uint32_t)program;
	return 0;
}

static int add_link(struct kernel_reader *reader, const struct kernel_link *link)
{
	struct kernel_link *grown = reallocarray(reader->links, reader->link_count + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	reader->links = grown;
	reader->links[reader->link_count++] = *link;
	return 0;
}

static int take_link(void *context, const json_t *element)
{
	struct kernel_link link;
	size_t index;
	json_t *pin;
	int result = parse_link(element, &link);

	if (result)
		return result == -ENOENT ? 0 : result;
	json_array_foreach (json_object_get(element, "pinned"), index, pin) {
		const char *path = json_string_value(pin);

		if (!path || strlen(path) >= sizeof(link.path))
			continue;
		memcpy(link.path, path, strlen(path) + 1);
		result = add_link(context, &link);
		if (result)
			return result;
	}
	return 0;
}

static int take_one_link(void *context, const json_t *element)
{
	return parse_link(element, context);
}

/* One run of bpftool shows all links with their pins; a pin that it did not see is asked for by itself. */
static int link_by_bpftool(struct kernel_reader *reader, const char *path, struct kernel_link *link)
{
	static const char *const all[] = {"--bpffs", "link", "show", NULL};
	const char *const one[] = {"link", "show", "pinned", path, NULL};
	char real[PATH_MAX];
	int result;

	if (!reader->links_read) {
		reader->links_read = true;
		(void)bpftool_run(reader->bpftool, all, take_link, reader, reader->error);
	}
	if (realpath(path, real)) {
		for (size_t i = 0; i < reader->link_count; i++) {
			if (strcmp(reader->links[i].path, real) == 0) {
				*link = reader->links[i];
				return 0;
			}
		}
	}
	memset(link, 0, sizeof(*link));
	result = bpftool_run(reader->bpftool, one, take_one_link, link, reader->error);
	return result && !reader->error[0] ? fail(reader, result, path) : result;
}

static int link_by_libbpf(struct kernel_reader *reader, const char *path, struct kernel_link *link)
{
	_cleanup_close_ int fd = bpf_obj_get(path);
	struct bpf_link_info info = {0};
	uint32_t size = sizeof(info);
	const char *type;

	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &size) != 0)
		return fail(reader, -errno, path);
	if (info.type != BPF_LINK_TYPE_CGROUP)
		return fail(reader, -EBADMSG, path);
	memset(link, 0, sizeof(*link));
	link->id = info.id;
	link->program_id = info.prog_id;
	link->cgroup_id = info.cgroup.cgroup_id;
	type = libbpf_bpf_attach_type_str((enum bpf_attach_type)info.cgroup.attach_type);
	(void)snprintf(link->attach_type, sizeof(link->attach_type), "%s", type ? type : "");
	return 0;
}

int kernel_link_find(struct kernel_reader *reader, const char *path, struct kernel_link *link)
{
	int result = reader->by_bpftool ? link_by_bpftool(reader, path, link) : link_by_libbpf(reader, path, link);

	if (result == 0)
		(void)snprintf(link->path, sizeof(link->path), "%s", path);
	return result;
}

/* ---- programs ---- */

static int take_program(void *context, const json_t *element)
{
	struct kernel_reader *reader = context;
	struct kernel_program program = {0};
	struct kernel_program *grown;
	uint64_t id;

	if (bpftool_number(element, "id", UINT32_MAX, &id) != 0 ||
	    copy_text(element, "tag", program.tag, sizeof(program.tag)) != 0)
		return -EBADMSG;
	(void)copy_text(element, "name", program.name, sizeof(program.name)); /* some have none */
	program.id = (uint32_t)id;
	grown = reallocarray(reader->programs, reader->program_count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	reader->programs = grown;
	reader->programs[reader->program_count++] = program;
	return 0;
}

static int program_by_libbpf(struct kernel_reader *reader, uint32_t id, struct kernel_program *program)
{
	_cleanup_close_ int fd = bpf_prog_get_fd_by_id(id);
	struct bpf_prog_info info = {0};
	uint32_t size = sizeof(info);

	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &size) != 0)
		return fail(reader, -errno, "a program");
	memset(program, 0, sizeof(*program));
	program->id = id;
	(void)snprintf(program->name, sizeof(program->name), "%.15s", info.name);
	for (size_t i = 0; i < sizeof(info.tag); i++)
		(void)snprintf(program->tag + 2 * i, 3, "%02x", info.tag[i]);
	return 0;
}

int kernel_program_find(struct kernel_reader *reader, uint32_t id, struct kernel_program *program)
{
	static const char *const all[] = {"prog", "show", NULL};

	if (!reader->by_bpftool)
		return program_by_libbpf(reader, id, program);
	if (!reader->programs_read) {
		int result = bpftool_run(reader->bpftool, all, take_program, reader, reader->error);

		if (result)
			return reader->error[0] ? result : fail(reader, result, "programs");
		reader->programs_read = true;
	}
	for (size_t i = 0; i < reader->program_count; i++) {
		if (reader->programs[i].id == id) {
			*program = reader->programs[i];
			return 0;
		}
	}
	return fail(reader, -ENOENT, "a program that a link names");
}

/* ---- cgroups ---- */

void kernel_cgroup_path(uint64_t id, char path[static PATH_MAX])
{
	struct {
		struct file_handle handle;
		unsigned char bytes[HANDLE_BYTES];
	} name = {.handle = {.handle_bytes = HANDLE_BYTES, .handle_type = HANDLE_TYPE}};
	const char *mount = cgroup2_mount();
	_cleanup_close_ int root = mount ? open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	_cleanup_close_ int fd = -1;
	char link[64];
	ssize_t length;

	path[0] = '\0';
	if (root == -1)
		return;
	memcpy(name.handle.f_handle, &id, HANDLE_BYTES);
	fd = open_by_handle_at(root, &name.handle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd == -1)
		return;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, PATH_MAX - 1);
	path[length > 0 ? length : 0] = '\0';
}
