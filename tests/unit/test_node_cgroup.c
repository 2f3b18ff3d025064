// SPDX-License-Identifier: GPL-2.0-only
/* From a Pod to its cgroup and its network namespace, on trees of directories that look like a node's. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "node/pod_cgroup.h"
#include "node/pod_namespace.h"
#include "policy/object.h"

#define UID_DASHED "0f1e2d3c-aaaa-bbbb-cccc-0123456789ab"
#define UID_SLICE  "0f1e2d3c_aaaa_bbbb_cccc_0123456789ab"
#define CONTAINER  "1111111111111111111111111111111111111111111111111111111111111111"
#define SANDBOX    "2222222222222222222222222222222222222222222222222222222222222222"

static char root[PATH_MAX];

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
	(void)status;
	(void)type;
	(void)walk;
	return remove(path);
}

static int set_up(void **state)
{
	(void)state;
	snprintf(root, sizeof(root), "/tmp/postern-node-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	return nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void make_directories(const char *path)
{
	char copy[2 * PATH_MAX];
	int length = snprintf(copy, sizeof(copy), "%s/%s", root, path);

	assert_true(length < (int)sizeof(copy));
	for (char *slash = strchr(copy + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdir(copy, 0755);
		*slash = '/';
	}
	assert_true(mkdir(copy, 0755) == 0 || errno == EEXIST);
}

__attribute__((format(printf, 2, 3))) static void write_file(const char *path, const char *format, ...)
{
	char whole[2 * PATH_MAX];
	va_list arguments;
	FILE *file;

	snprintf(whole, sizeof(whole), "%s/%s", root, path);
	file = fopen(whole, "w");
	assert_non_null(file);
	va_start(arguments, format);
	assert_true(vfprintf(file, format, arguments) >= 0);
	va_end(arguments);
	fclose(file);
}

/* ---- the cgroup ---- */

static const struct {
	const char *title, *directory, *qos_class, *uid, *hash, *kubelet_root;
	bool found;
} rows[] = {
        {"systemd, burstable", "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" UID_SLICE ".slice",
         "Burstable", UID_DASHED, "", "", true},
        {"systemd, guaranteed", "kubepods.slice/kubepods-pod" UID_SLICE ".slice", "Guaranteed", UID_DASHED, "", "",
         true},
        {"systemd, best effort", "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" UID_SLICE ".slice",
         "BestEffort", UID_DASHED, "", "", true},
        {"systemd, a class that is not said", "kubepods.slice/kubepods-pod" UID_SLICE ".slice", "", UID_DASHED, "", "",
         true},
        {"systemd, below a root",
         "a.slice/a-b.slice/a-b-kubepods.slice/a-b-kubepods-burstable.slice/a-b-kubepods-burstable-pod" UID_SLICE
         ".slice",
         "Burstable", UID_DASHED, "", "a/b", true},
        {"systemd, kind",
         "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/"
         "kubelet-kubepods-burstable-pod" UID_SLICE ".slice",
         "Burstable", UID_DASHED, "", "", true},
        {"cgroupfs, burstable", "kubepods/burstable/pod" UID_DASHED, "Burstable", UID_DASHED, "", "", true},
        {"cgroupfs, guaranteed", "kubepods/pod" UID_DASHED, "Guaranteed", UID_DASHED, "", "", true},
        {"cgroupfs, kind", "kubelet/kubepods/burstable/pod" UID_DASHED, "Burstable", UID_DASHED, "", "", true},
        {"a static pod, by its hash", "kubepods/pod0123456789abcdef0123456789abcdef", "Guaranteed", UID_DASHED,
         "0123456789abcdef0123456789abcdef", "", true},
        {"another pod's", "kubepods/pod" UID_DASHED, "Guaranteed", "0f1e2d3c-aaaa-bbbb-cccc-0123456789ac", "", "",
         false},
        {"a uid that leads elsewhere", "kubepods/pod..", "Guaranteed", "/../../x", "", "", false},
        {"a hash that leads elsewhere", "kubepods/pod" UID_DASHED, "Guaranteed", UID_DASHED, "../pod" UID_DASHED, "",
         false},
        {"no uid", "kubepods/pod", "Guaranteed", "", "", "", false},
        {"a class that leads elsewhere", "kubepods/x/pod" UID_DASHED, "../x", UID_DASHED, "", "", false},
        {"a root that leads elsewhere", "kubepods/pod" UID_DASHED, "Guaranteed", UID_DASHED, "", "..", false},
};

static void the_cgroup_of_a_pod(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct pod pod = {.qos_class = rows[i].qos_class, .config_hash = rows[i].hash};
		char expected[2 * PATH_MAX], problem[256] = "";
		char *seen;

		set_up(NULL);
		make_directories(rows[i].directory);
		snprintf(expected, sizeof(expected), "%s/%s", root, rows[i].directory);
		seen = pod_cgroup_find(&pod, rows[i].uid, root, rows[i].kubelet_root, problem, sizeof(problem));
		if (rows[i].found && (!seen || strcmp(seen, expected) != 0))
			fail_msg("%s: expected %s, saw %s (%s)", rows[i].title, expected, seen ? seen : "none",
			         problem);
		if (!rows[i].found && (seen || !problem[0]))
			fail_msg("%s: expected none and a problem, saw %s (%s)", rows[i].title, seen ? seen : "none",
			         problem);
		free(seen);
		tear_down(NULL);
	}
}

static void a_pod_of_the_v1_hierarchy_alone(void **state)
{
	const struct pod pod = {.qos_class = "Burstable", .config_hash = ""};
	char mount[2 * PATH_MAX], problem[256];
	char *seen;

	(void)state;
	make_directories("unified/kubepods.slice");
	make_directories("memory/kubepods/burstable/pod" UID_DASHED);
	snprintf(mount, sizeof(mount), "%s/unified", root);
	assert_null(pod_cgroup_find(&pod, UID_DASHED, mount, "", problem, sizeof(problem)));
	assert_non_null(strstr(problem, "v1 hierarchy alone"));

	/* systemd makes its units in both. */
	make_directories("unified/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" UID_SLICE ".slice");
	seen = pod_cgroup_find(&pod, UID_DASHED, mount, "", problem, sizeof(problem));
	assert_non_null(seen);
	free(seen);
}

static void parts_of_paths(void **state)
{
	(void)state;
	assert_string_equal(pod_cgroup_part("/a/b/podX"), "podX");
	assert_true(pod_cgroup_is_part("/../../kubepods/podX/c", "podX"));
	assert_true(pod_cgroup_is_part("/kubepods/podX", "podX"));
	assert_false(pod_cgroup_is_part("/kubepods/podXY", "podX"));
	assert_false(pod_cgroup_is_part("/kubepods/apodX", "podX"));
	assert_false(pod_cgroup_is_part("/kubepods/podX", ""));
}

static void whose_cgroup_it_is(void **state)
{
	static const struct {
		const char *path, *uid; /* NULL: no pod's */
	} paths[] = {
	        {"/sys/fs/cgroup/kubepods/burstable/pod" UID_DASHED, UID_DASHED},
	        {"/sys/fs/cgroup/kubelet/kubepods/pod0123abcd", "0123abcd"},
	        {"/sys/fs/cgroup/kubepods.slice/kubepods-pod" UID_SLICE ".slice", UID_DASHED},
	        {"/sys/fs/cgroup/a.slice/a-podium.slice/a-podium-kubepods-burstable-pod" UID_SLICE ".slice",
	         UID_DASHED},
	        {"/sys/fs/cgroup/kubepods/burstable", NULL},
	        {"/sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice", NULL},
	        {"/sys/fs/cgroup/kubepods/pod", NULL},
	        {"/sys/fs/cgroup/kubepods.slice/kubepods-pod.slice", NULL},
	        {"/sys/fs/cgroup/kubepods/pod" UID_DASHED "/" CONTAINER, NULL},
	        {"/sys/fs/cgroup/kubepods/pod" CONTAINER "0", NULL}, /* longer than any */
	        {"/sys/fs/cgroup/system.slice/podman.service", NULL},
	        {"/sys/fs/cgroup/podX", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		char uid[POD_UID_MAX + 1] = "";
		bool named = pod_cgroup_names(paths[i].path, uid);

		if (named != (paths[i].uid != NULL) || (named && strcmp(uid, paths[i].uid) != 0))
			fail_msg("%s: expected %s, saw %s", paths[i].path, paths[i].uid ? paths[i].uid : "none",
			         named ? uid : "none");
	}
}

/* ---- the namespace ---- */

#define POD_CGROUP "cgroup/kubepods/pod" UID_DASHED

/* A process of a made-up /proc: its namespace is a file, which stands for its inode. */
static void add_process(int number, const char *cgroup, const char *command, const char *namespace_)
{
	char path[PATH_MAX], target[2 * PATH_MAX], link_path[2 * PATH_MAX];

	snprintf(path, sizeof(path), "proc/%d/ns", number);
	make_directories(path);
	snprintf(path, sizeof(path), "proc/%d/cgroup", number);
	write_file(path, "1:name=systemd:/x\n0::%s\n", cgroup);
	snprintf(path, sizeof(path), "proc/%d/cmdline", number);
	write_file(path, "%s%c--flag", command, 0);
	snprintf(path, sizeof(path), "namespace-%s", namespace_);
	write_file(path, "%s", "");
	snprintf(target, sizeof(target), "%s/namespace-%s", root, namespace_);
	snprintf(link_path, sizeof(link_path), "%s/proc/%d/ns/net", root, number);
	(void)unlink(link_path);
	assert_int_equal(symlink(target, link_path), 0);
}

static void add_container(const char *directory, const char *processes)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), POD_CGROUP "/%s", directory);
	make_directories(path);
	snprintf(path, sizeof(path), POD_CGROUP "/%s/cgroup.procs", directory);
	write_file(path, "%s", processes);
}

/* The name of the namespace, or the problem. Static buffer. */
static const char *open_namespace(const struct pod *pod, int *error)
{
	static char text[PATH_MAX];
	char cgroup[2 * PATH_MAX], proc[2 * PATH_MAX], link_path[64];
	ssize_t length;
	int fd;

	snprintf(cgroup, sizeof(cgroup), "%s/" POD_CGROUP, root);
	snprintf(proc, sizeof(proc), "%s/proc", root);
	fd = pod_namespace_open(pod, cgroup, proc, text, sizeof(text));
	*error = fd < 0 ? fd : 0;
	if (fd < 0)
		return text;
	snprintf(link_path, sizeof(link_path), "/proc/self/fd/%d", fd);
	length = readlink(link_path, text, sizeof(text) - 1);
	close(fd);
	assert_true(length > 0);
	text[length] = '\0';
	return strrchr(text, '-') + 1;
}

static const char *const ids[] = {"containerd://" CONTAINER};
static const struct pod ordinary = {
        .container_ids = ids, .container_id_count = 1, .runtime_class = "", .started = true};

static void begin(void)
{
	make_directories(POD_CGROUP);
	make_directories("proc");
	add_process(1, "/init.scope", "/sbin/init", "host");
}

#define PATH_OF(container) "/kubepods/pod" UID_DASHED "/" container

static void the_sandbox_comes_first(void **state)
{
	int error;

	(void)state;
	begin();
	assert_non_null(strstr(open_namespace(&ordinary, &error), "no process in its cgroup yet"));
	assert_int_equal(error, -EAGAIN);
	/* A container that made a namespace of its own must not be taken for the pod. */
	add_container(CONTAINER, "20\n");
	add_process(20, PATH_OF(CONTAINER), "/usr/bin/nginx", "inner");
	add_container(SANDBOX, "30\n");
	add_process(30, PATH_OF(SANDBOX), "/pause", "pod");
	assert_string_equal(open_namespace(&ordinary, &error), "pod");
	/* CRI-O without a sandbox process; its conmon is in the host's namespace. */
	add_container(SANDBOX, "");
	add_container("crio-conmon-x", "40\n");
	add_process(40, PATH_OF("crio-conmon-x"), "/usr/bin/conmon", "host");
	assert_string_equal(open_namespace(&ordinary, &error), "inner");
}

static void the_host_network(void **state)
{
	struct pod host = ordinary;
	int error;

	(void)state;
	begin();
	host.host_network = true;
	add_container(SANDBOX, "30\n");
	add_process(30, PATH_OF(SANDBOX), "/pause", "host");
	assert_string_equal(open_namespace(&host, &error), "host");
	assert_non_null(strstr(open_namespace(&ordinary, &error), "network namespace of its own"));
	assert_int_equal(error, -EAGAIN);
	add_process(30, PATH_OF(SANDBOX), "/pause", "pod");
	assert_non_null(strstr(open_namespace(&host, &error), "host's network namespace"));
	assert_string_equal(open_namespace(&ordinary, &error), "pod");
}

static void a_number_that_is_another_process_now(void **state)
{
	int error;

	(void)state;
	begin();
	add_container(SANDBOX, "30\n");
	add_process(30, "/system.slice/other.service", "/pause", "other");
	assert_non_null(strstr(open_namespace(&ordinary, &error), "network namespace of its own"));
	assert_int_equal(error, -EAGAIN);
}

static void processes_of_another_pid_namespace(void **state)
{
	int error;

	(void)state;
	begin();
	add_container(SANDBOX, "0\n0\n");
	assert_non_null(strstr(open_namespace(&ordinary, &error), "hostPID"));
	assert_int_equal(error, -EIO);
	/* The host's /proc shows them by what it says of their cgroup. */
	add_process(77, "/../.." PATH_OF(SANDBOX), "/pause", "pod");
	add_process(78, "/../../kubepods/pod0/x", "/pause", "other");
	assert_string_equal(open_namespace(&ordinary, &error), "pod");
}

static void runtimes_that_no_hook_sees(void **state)
{
	static const struct {
		const char *program, *name;
	} programs[] = {
	        {"runsc-sandbox", "gVisor"},
	        {"/usr/local/bin/runsc", "gVisor"},
	        {"/usr/bin/qemu-system-x86_64", "Kata"},
	        {"/opt/kata/bin/cloud-hypervisor", "Kata"},
	        {"/usr/bin/containerd-shim-kata-v2", "Kata"},
	};
	struct pod pod = ordinary;
	int error;

	(void)state;
	begin();
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		const char *said;

		add_container(SANDBOX, "30\n");
		add_process(30, PATH_OF(SANDBOX), programs[i].program, "pod");
		said = open_namespace(&pod, &error);
		if (error != -ENOTSUP || !strstr(said, programs[i].name))
			fail_msg("%s: expected %s and ENOTSUP, saw \"%s\" and %d", programs[i].program,
			         programs[i].name, said, error);
	}
	add_container(SANDBOX, "");
	pod.runtime_class = "kata-fc";
	assert_non_null(strstr(open_namespace(&pod, &error), "runtime class kata-fc"));
	assert_int_equal(error, -ENOTSUP);
	pod.started = false;
	(void)open_namespace(&pod, &error);
	assert_int_equal(error, -EAGAIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(the_cgroup_of_a_pod),
	        cmocka_unit_test_setup_teardown(a_pod_of_the_v1_hierarchy_alone, set_up, tear_down),
	        cmocka_unit_test(parts_of_paths),
	        cmocka_unit_test(whose_cgroup_it_is),
	        cmocka_unit_test_setup_teardown(the_sandbox_comes_first, set_up, tear_down),
	        cmocka_unit_test_setup_teardown(the_host_network, set_up, tear_down),
	        cmocka_unit_test_setup_teardown(a_number_that_is_another_process_now, set_up, tear_down),
	        cmocka_unit_test_setup_teardown(processes_of_another_pid_namespace, set_up, tear_down),
	        cmocka_unit_test_setup_teardown(runtimes_that_no_hook_sees, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
