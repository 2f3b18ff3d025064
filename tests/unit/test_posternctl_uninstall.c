// SPDX-License-Identifier: GPL-2.0-only
/* posternctl uninstall, and what the kernel alone says: with real pins where this process may mount a bpf file system.
 */
#include "posternctl_world.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/evidence.h"
#include "postern/abi.h"

static void uninstall_under_a_live_agent(void **state)
{
	struct fixture *fixture = *state;
	const char *const force[] = {"uninstall", "--force", NULL};

	fixture->status = good_status;
	start_agent(fixture);
	assert_int_equal(run_one(fixture, "uninstall"), 1);
	assert_says(fixture, "the agent runs (pid 4711): stop it first, or use --force");
	assert_int_equal(run(fixture, force), 0);
	/* Its socket is not ours to remove. */
	assert_int_equal(run_one(fixture, "status"), 0);
}

static void uninstall_leaves_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	json_t *document;
	int dead = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/" CONTROL_SOCKET_NAME, fixture->run_dir);
	assert_int_equal(bind(dead, (struct sockaddr *)&address, sizeof(address)), 0);
	close(dead);
	assert_int_equal(run_one(fixture, "uninstall"), 0);
	assert_says(fixture, "nothing is pinned in ");
	assert_int_equal(access(fixture->run_dir, F_OK), -1);
	assert_int_equal(run_json(fixture, "uninstall", &document), 0); /* idempotent */
	assert_int_equal(json_integer_value(json_object_get(document, "removed")), 0);
	json_decref(document);
}

/* The auditor's: it goes only when that is asked for. */
static void uninstall_leaves_the_evidence(void **state)
{
	struct fixture *fixture = *state;
	const char *const purge[] = {"uninstall", "--purge", NULL};
	char path[256];
	json_t *document;
	int file;

	(void)snprintf(path, sizeof(path), "%s/" EVIDENCE_FILE, fixture->run_dir);
	file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(file >= 0);
	close(file);
	assert_int_equal(run_one(fixture, "uninstall"), 0);
	assert_says(fixture, "stays in ");
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(run_json(fixture, "uninstall", &document), 0);
	assert_string_equal(json_string_value(json_object_get(document, "evidence")), path);
	json_decref(document);
	assert_int_equal(run(fixture, purge), 0);
	assert_null(strstr(fixture->output, "stays in "));
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(access(fixture->run_dir, F_OK), -1);
}

static void pin_map(const char *directory, const char *name, enum bpf_map_type type, uint32_t key, uint32_t value,
                    int *fd)
{
	char path[256];

	*fd = bpf_map_create(type, name, key, value, 16, NULL);
	if (*fd < 0)
		fail_msg("bpf_map_create: %s", strerror(errno));
	(void)snprintf(path, sizeof(path), "%s/%s", directory, name);
	assert_int_equal(bpf_obj_pin(*fd, path), 0);
}

/* A bpf file system that only this process and its children see, at <run_dir>/bpf. False: no right to do so. */
static bool mount_bpffs(const struct fixture *fixture)
{
	char path[96];

	(void)snprintf(path, sizeof(path), "%s/bpf", fixture->run_dir);
	if (unshare(CLONE_NEWNS) == -1 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == -1)
		return false;
	assert_int_equal(mkdir(path, 0700), 0);
	if (mount("bpf", path, "bpf", 0, NULL) == 0)
		return true;
	assert_int_equal(rmdir(path), 0);
	return false;
}

static void unmount_bpffs(const struct fixture *fixture)
{
	char path[96];

	(void)snprintf(path, sizeof(path), "%s/bpf", fixture->run_dir);
	assert_int_equal(umount(path), 0);
	assert_int_equal(rmdir(path), 0);
}

/* The kernel's own word with real pins, and their removal. (Real hooks on real cgroups: tests/e2e.) */
static void kernel_truth_without_agent(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_close_ int map = -1;
	char directory[128];
	char links[160];
	json_t *document;

	(void)snprintf(directory, sizeof(directory), "%s/v%d", fixture->bpffs, POSTERN_ABI_VERSION);
	(void)snprintf(links, sizeof(links), "%s/links", directory);
	if (!mount_bpffs(fixture)) {
		print_message("[  SKIP    ] needs root, for a bpf file system: %s\n", strerror(errno));
		skip();
	}
	assert_int_equal(mkdir(fixture->bpffs, 0700), 0);
	assert_int_equal(mkdir(directory, 0700), 0);
	assert_int_equal(mkdir(links, 0700), 0);
	strcat(links, "/shop_2fedge"); /* as hooks_pins.c writes "shop/edge" */
	assert_int_equal(mkdir(links, 0700), 0);
	pin_map(directory, "destination_map", BPF_MAP_TYPE_HASH, sizeof(struct postern_destination_key),
	        sizeof(struct postern_destination), &map);
	for (uint16_t i = 0; i < 7; i++) {
		struct postern_destination_key key = {.port = i};
		struct postern_destination value = {.verdict = i < 4   ? POSTERN_VERDICT_TLS
		                                               : i < 6 ? POSTERN_VERDICT_DENY
		                                                       : POSTERN_VERDICT_PLAIN};

		assert_int_equal(bpf_map_update_elem(map, &key, &value, BPF_ANY), 0);
	}

	assert_int_equal(run_one(fixture, "status"), 3);
	assert_says(fixture, "posternd is not running");
	assert_says(fixture, "shop/edge: 0 of 0 hooks attached; connects are NOT intercepted");
	assert_says(fixture, "destinations in the kernel's map: 4 tls, 2 deny, 1 plain");
	assert_int_equal(run_json(fixture, "status", &document), 3);
	assert_true(json_is_true(json_object_get(json_object_get(document, "kernel"), "pinned")));
	json_decref(document);

	assert_int_equal(run_json(fixture, "uninstall", &document), 0);
	assert_int_equal(json_integer_value(json_object_get(document, "removed")), 1);
	json_decref(document);
	assert_int_equal(access(fixture->bpffs, F_OK), -1);
	unmount_bpffs(fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        TEST(uninstall_under_a_live_agent),
	        TEST(uninstall_leaves_nothing),
	        TEST(uninstall_leaves_the_evidence),
	        TEST(kernel_truth_without_agent),
	};

	return cmocka_run_group_tests(tests, find_program, NULL);
}
