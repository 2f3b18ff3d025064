// SPDX-License-Identifier: GPL-2.0-only
/* A directory of manifests as it is really changed: written, replaced, swapped, broken, deleted. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/yaml.h"
#include "policy/store.h"
#include "policy_fixture.h"
#include "source/files.h"

#define WAIT_MS 5000 /* far more than ever needed: a failure, not a delay */

#define CONFIG_MAP(name) "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: " name "}\n"
#define POLICY(name, service)                                                                                          \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: " name "}\n"          \
	"spec: {targetRefs: [{group: '', kind: Service, name: " service "}], validation: {hostname: p.example,"        \
	" wellKnownCACertificates: System}}\n"
#define SERVICE(name, ip)                                                                                              \
	"---\napiVersion: v1\nkind: Service\nmetadata: {name: " name "}\nspec: {clusterIP: " ip                        \
	", ports: [{port: 443}]}\n"
#define BROKEN "---\napiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 0}]}\n"

struct place {
	char directory[48];
	struct files_source *source;
};

static char *path_of(const struct place *place, const char *name)
{
	static char paths[4][256]; /* of calls in one expression */
	static unsigned int next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", place->directory, name);
	return path;
}

static void write_path(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void write_file(const struct place *place, const char *name, const char *text)
{
	write_path(path_of(place, name), text);
}

static void open_place(struct place *place)
{
	assert_int_equal(files_source_open(place->directory, &place->source), 0);
}

static int set_up(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	log_set_level(LOG_LEVEL_ERROR);
	snprintf(place->directory, sizeof(place->directory), "/tmp/postern-files-XXXXXX");
	assert_non_null(mkdtemp(place->directory));
	*state = place;
	return 0;
}

static int tear_down(void **state)
{
	struct place *place = *state;
	char command[160];

	files_source_close(place->source);
	snprintf(command, sizeof(command), "rm -rf %s %s.old", place->directory, place->directory);
	assert_int_equal(system(command), 0);
	free(place);
	return 0;
}

static uint64_t now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

static bool has(const struct place *place, enum object_kind kind, const char *name)
{
	return object_store_find(files_source_store(place->source), kind, "default", name) != NULL;
}

static bool has_config_map(const struct place *place, const char *name)
{
	return has(place, OBJECT_CONFIG_MAP, name);
}

/* Refresh on events until the store changes. */
static void await_change(const struct place *place)
{
	uint64_t end = now_ms() + WAIT_MS;

	for (;;) {
		struct pollfd fd = {.fd = files_source_fd(place->source), .events = POLLIN};
		int left = (int)(end - now_ms());

		if (left <= 0 || poll(&fd, 1, left) != 1)
			fail_msg("expected a change of the store, saw none within %d ms", WAIT_MS);
		if (files_source_refresh(place->source))
			return;
	}
}

/* Refresh on events that are there already. */
static bool refresh(const struct place *place)
{
	struct pollfd fd = {.fd = files_source_fd(place->source), .events = POLLIN};
	bool changed = false;

	while (poll(&fd, 1, 0) == 1)
		changed |= files_source_refresh(place->source);
	return changed;
}

static void expect_error(const struct place *place, const char *object, const char *message)
{
	for (size_t i = 0; i < files_source_error_count(place->source); i++) {
		const struct source_error *error = files_source_error_at(place->source, i);

		if (strstr(error->object, object) && strstr(error->message, message))
			return;
	}
	if (files_source_error_count(place->source))
		fail_msg("expected error \"%s\": \"%s\", saw \"%s\": \"%s\"", object, message,
		         files_source_error_at(place->source, 0)->object,
		         files_source_error_at(place->source, 0)->message);
	fail_msg("expected error \"%s\": \"%s\", saw none", object, message);
}

static size_t error_count(const struct place *place)
{
	return files_source_error_count(place->source);
}

static void a_missing_directory_is_an_error(void **state)
{
	struct place *place = *state;

	assert_int_equal(files_source_open(path_of(place, "nowhere"), &place->source), -ENOENT);
	write_file(place, "a.yaml", "");
	assert_int_equal(files_source_open(path_of(place, "a.yaml"), &place->source), -ENOTDIR);
	assert_null(place->source);
}

static void names_are_chosen(void **state)
{
	static const struct {
		const char *file;
		bool read;
	} rows[] = {
	        {"a.yaml", true},   {"b.yml", true},       {"c.json", true},    {"d.YAML", false},     {"e.txt", false},
	        {"f.yaml~", false}, {".g.yaml", false},    {".#h.yaml", false}, {"i.yaml.swp", false}, {"yaml", false},
	        {".yaml", false},   {"j.yaml.bak", false}, {"#k.yaml#", false}, {"l m.yaml", true},
	};
	struct place *place = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char text[128];

		snprintf(text, sizeof(text), "{apiVersion: v1, kind: ConfigMap, metadata: {name: map-%zu}}\n", i);
		write_file(place, rows[i].file, text);
	}
	assert_int_equal(mkdir(path_of(place, "z.yaml"), 0700), 0);
	open_place(place);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char name[32];

		snprintf(name, sizeof(name), "map-%zu", i);
		if (has_config_map(place, name) != rows[i].read)
			fail_msg("%s: expected read %d", rows[i].file, rows[i].read);
	}
	assert_int_equal(error_count(place), 0);
}

static void files_come_change_and_go(void **state)
{
	struct place *place = *state;
	const struct object_store *store;

	write_file(place, "a.yaml", CONFIG_MAP("one"));
	open_place(place);
	store = files_source_store(place->source);
	assert_true(has_config_map(place, "one"));
	assert_false(refresh(place));

	write_file(place, "b.yaml", CONFIG_MAP("two"));
	await_change(place);
	assert_true(has_config_map(place, "two"));

	write_file(place, "a.yaml", CONFIG_MAP("three"));
	await_change(place);
	assert_true(has_config_map(place, "three"));
	assert_false(has_config_map(place, "one"));

	assert_int_equal(unlink(path_of(place, "a.yaml")), 0);
	await_change(place);
	assert_false(has_config_map(place, "three"));
	assert_true(has_config_map(place, "two"));
	assert_ptr_equal(files_source_store(place->source), store);
}

static void atomic_replacement(void **state)
{
	struct place *place = *state;

	write_file(place, "a.yaml", CONFIG_MAP("one"));
	open_place(place);
	write_file(place, ".a.yaml.new", CONFIG_MAP("two"));
	assert_int_equal(rename(path_of(place, ".a.yaml.new"), path_of(place, "a.yaml")), 0);
	await_change(place);
	assert_true(has_config_map(place, "two"));
	assert_false(has_config_map(place, "one"));
}

/* As kubelet does it: a.yaml -> ..data/a.yaml, ..data -> ..1, then ..data is renamed over. */
static void config_map_volume(void **state)
{
	struct place *place = *state;

	assert_int_equal(mkdir(path_of(place, "..1"), 0700), 0);
	assert_int_equal(mkdir(path_of(place, "..2"), 0700), 0);
	write_file(place, "..1/a.yaml", CONFIG_MAP("one"));
	write_file(place, "..2/a.yaml", CONFIG_MAP("two"));
	assert_int_equal(symlink("..1", path_of(place, "..data")), 0);
	assert_int_equal(symlink("..data/a.yaml", path_of(place, "a.yaml")), 0);
	open_place(place);
	assert_true(has_config_map(place, "one"));
	assert_int_equal(symlink("..2", path_of(place, "..data_tmp")), 0);
	assert_int_equal(rename(path_of(place, "..data_tmp"), path_of(place, "..data")), 0);
	await_change(place);
	assert_true(has_config_map(place, "two"));
	assert_false(has_config_map(place, "one"));
}

static void a_symlinks_target_is_watched(void **state)
{
	struct place *place = *state;
	char target[80];

	snprintf(target, sizeof(target), "%s.old", place->directory);
	write_path(target, CONFIG_MAP("one"));
	assert_int_equal(symlink(target, path_of(place, "a.yaml")), 0);
	assert_int_equal(symlink(target, path_of(place, "b.yaml")), 0); /* the same watch */
	open_place(place);
	expect_error(place, "b.yaml: ConfigMap default/one", "is defined in a.yaml, too");
	write_path(target, CONFIG_MAP("two"));
	await_change(place);
	assert_true(has_config_map(place, "two"));
	assert_int_equal(unlink(path_of(place, "b.yaml")), 0);
	await_change(place);
	assert_int_equal(error_count(place), 0);
	write_path(target, CONFIG_MAP("three"));
	await_change(place);
	assert_true(has_config_map(place, "three"));

	/* The target is gone: an error, and the last state stays. */
	assert_int_equal(unlink(target), 0);
	await_change(place);
	expect_error(place, "a.yaml", "a symbolic link that leads to no file");
	assert_true(has_config_map(place, "three"));
	write_path(target, CONFIG_MAP("three"));
	assert_true(files_source_reload(place->source));
	assert_int_equal(error_count(place), 0);
	assert_true(has_config_map(place, "three"));
}

static void a_broken_file_keeps_its_last_good_state(void **state)
{
	static const struct {
		const char *text, *object, *message;
	} rows[] = {
	        {CONFIG_MAP("two") "---\na: [\n", "a.yaml", "line "},
	        {"\x7f\x45\x4c\x46\x02\x01\x01", "a.yaml", "line 1: "},
	        {CONFIG_MAP("two") BROKEN, "a.yaml: Service default/bad",
	         "spec.ports[0].port: must be between 1 and 65535"},
	        {CONFIG_MAP("two") "---\nkind: Service\n", "a.yaml: document 2 (Service)", "apiVersion: is required"},
	};
	struct place *place = *state;

	write_file(place, "a.yaml", CONFIG_MAP("one"));
	write_file(place, "b.yaml", CONFIG_MAP("other"));
	open_place(place);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		write_file(place, "a.yaml", rows[i].text);
		await_change(place);
		expect_error(place, rows[i].object, rows[i].message);
		assert_int_equal(error_count(place), 1);
		assert_true(has_config_map(place, "one"));
		assert_false(has_config_map(place, "two"));
		assert_true(has_config_map(place, "other"));
	}
	write_file(place, "a.yaml", CONFIG_MAP("two"));
	await_change(place);
	assert_int_equal(error_count(place), 0);
	assert_true(has_config_map(place, "two"));
	assert_false(has_config_map(place, "one"));
}

static const char *verdict(const struct place *place, const char *address)
{
	static char text[64];
	struct settings_registry *registry = settings_registry_new();
	struct compile_options options = {.trust_every_slice = true, .now_ns = 1, .registry = registry};
	const struct destination *destination;
	struct postern_destination_key key;
	struct postern_address parsed;
	struct snapshot *snapshot;

	assert_int_equal(compile_snapshot(files_source_store(place->source), &options, NULL, &snapshot), 0);
	assert_int_equal(address_parse(address, &parsed), 0);
	key = destination_key(&parsed, 443);
	destination = snapshot_find(snapshot, &key);
	snprintf(text, sizeof(text), "%s",
	         !destination                                   ? "none"
	         : destination->verdict == POSTERN_VERDICT_TLS  ? "TLS"
	         : destination->verdict == POSTERN_VERDICT_DENY ? "DENY"
	                                                        : "PLAIN");
	snapshot_unref(snapshot);
	settings_registry_free(registry);
	return text;
}

/* Whatever is broken around a policy, its Service is never plain. */
static void a_broken_file_never_uncovers(void **state)
{
	static const struct {
		const char *name, *first, *second, *verdict;
	} rows[] = {
	        {"policy and Service in one broken file", SERVICE("s", "10.96.0.1") POLICY("p", "s") BROKEN, "",
	         "DENY"},
	        {"a syntax error after them", SERVICE("s", "10.96.0.1") POLICY("p", "s") "---\na: [\n", "", "DENY"},
	        {"a syntax error before them", "a: [\n---\n" SERVICE("s", "10.96.0.1") POLICY("p", "s"), "", "DENY"},
	        {"an open quote before the targets",
	         "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata:\n  name: 'p\nspec:\n"
	         "  validation: {}\n  targetRefs:\n  - group: ''\n    kind: Service\n    name: s\n",
	         SERVICE("s", "10.96.0.1"), "DENY"},
	        {"an open bracket in the targets",
	         "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: p}\nspec: "
	         "{targetRefs: [\n"
	         " {group: '', kind: Service, name: s}\n",
	         SERVICE("s", "10.96.0.1"), "DENY"},
	        {"a policy in a List, with a tab",
	         "apiVersion: v1\nkind: List\nitems:\n- kind: BackendTLSPolicy\n  apiVersion: "
	         "gateway.networking.k8s.io/v1\n"
	         "\tmetadata: {}\n  spec:\n    targetRefs:\n    - group: ''\n      kind: Service\n      name: s\n",
	         SERVICE("s", "10.96.0.1"), "DENY"},
	        {"another namespace's policy is seen in its own",
	         "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: p, namespace: "
	         "n}\nspec: {\n"
	         "  targetRefs: [{group: '', kind: Service, name: s}]\n",
	         SERVICE("s", "10.96.0.1"), "PLAIN"},
	        {"JSON, cut off",
	         "{\"kind\": \"BackendTLSPolicy\", \"spec\": {\"targetRefs\": [{\"kind\": \"Service\", \"name\": "
	         "\"s\"}, {\"na",
	         SERVICE("s", "10.96.0.1"), "DENY"},
	        {"broken policy, sound Service", POLICY("p", "s") BROKEN, SERVICE("s", "10.96.0.1"), "DENY"},
	        {"sound policy, broken Service file", POLICY("p", "s"), SERVICE("s", "10.96.0.1") BROKEN, "DENY"},
	        {"another policy in force", POLICY("p", "s") BROKEN, SERVICE("s", "10.96.0.1") POLICY("q", "s"), "TLS"},
	        {"duplicate policy with another target", SERVICE("s", "10.96.0.1") POLICY("p", "other"),
	         POLICY("p", "s"), "DENY"},
	        {"no policy at all", SERVICE("s", "10.96.0.1") BROKEN, "", "none"},
	};
	struct place *place = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *seen;

		write_file(place, "a.yaml", rows[i].first);
		write_file(place, "b.yaml", rows[i].second);
		open_place(place);
		seen = verdict(place, "10.96.0.1");
		if (strcmp(seen, rows[i].verdict))
			fail_msg("%s: expected %s, saw %s", rows[i].name, rows[i].verdict, seen);
		assert_true(error_count(place) > 0);
		files_source_close(place->source);
		place->source = NULL;
	}
}

static void a_broken_update_keeps_tls(void **state)
{
	struct place *place = *state;

	write_file(place, "a.yaml", SERVICE("s", "10.96.0.1") POLICY("p", "s"));
	open_place(place);
	assert_string_equal(verdict(place, "10.96.0.1"), "TLS");
	write_file(place, "a.yaml", SERVICE("s", "10.96.0.1") SERVICE("t", "10.96.0.2") POLICY("p", "t") BROKEN);
	await_change(place);
	assert_string_equal(verdict(place, "10.96.0.1"), "TLS");  /* the last good version */
	assert_string_equal(verdict(place, "10.96.0.2"), "DENY"); /* what the new one targets */
}

static void duplicates_name_both(void **state)
{
	struct place *place = *state;

	write_file(place, "b.yaml", CONFIG_MAP("one") CONFIG_MAP("two") CONFIG_MAP("two"));
	open_place(place);
	expect_error(place, "b.yaml: ConfigMap default/two", "is defined twice in b.yaml; the first one is used");
	write_file(place, "a.yaml", CONFIG_MAP("one"));
	await_change(place);
	expect_error(place, "b.yaml: ConfigMap default/one", "is defined in a.yaml, too; that one is used");
	assert_int_equal(error_count(place), 2);
	assert_string_equal(
	        object_store_find(files_source_store(place->source), OBJECT_CONFIG_MAP, "default", "one")->origin,
	        "a.yaml");
	assert_int_equal(unlink(path_of(place, "a.yaml")), 0);
	await_change(place);
	assert_int_equal(error_count(place), 1);
	assert_true(has_config_map(place, "one"));
}

static void untouched_files_cost_nothing(void **state)
{
	struct place *place = *state;
	const struct object *object;

	write_file(place, "a.yaml", CONFIG_MAP("one"));
	open_place(place);
	object = object_store_find(files_source_store(place->source), OBJECT_CONFIG_MAP, "default", "one");
	write_file(place, "a.yaml", CONFIG_MAP("one")); /* the same content: no change */
	assert_false(refresh(place));
	assert_false(files_source_reload(place->source));
	write_file(place, "b.yaml", CONFIG_MAP("two"));
	await_change(place);
	assert_ptr_equal(object,
	                 object_store_find(files_source_store(place->source), OBJECT_CONFIG_MAP, "default", "one"));
}

/* The time of a change and its size may be those of the last one: the content decides. */
static void same_size_same_time(void **state)
{
	struct place *place = *state;
	struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};

	write_file(place, "a.yaml", CONFIG_MAP("one"));
	utimensat(AT_FDCWD, path_of(place, "a.yaml"), times, 0);
	open_place(place);
	write_file(place, "a.yaml", CONFIG_MAP("two"));
	utimensat(AT_FDCWD, path_of(place, "a.yaml"), times, 0);
	await_change(place);
	assert_true(has_config_map(place, "two"));
}

static bool leases_work(const struct place *place)
{
	int writer = open(path_of(place, "probe"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	int reader = open(path_of(place, "probe"), O_RDONLY | O_CLOEXEC);
	bool busy = fcntl(reader, F_SETLEASE, F_RDLCK) == -1 && errno == EAGAIN;

	close(writer);
	busy = busy && fcntl(reader, F_SETLEASE, F_RDLCK) == 0;
	close(reader);
	unlink(path_of(place, "probe"));
	return busy;
}

static void a_file_that_is_being_written_is_left_alone(void **state)
{
	struct place *place = *state;
	FILE *writer;

	if (!leases_work(place)) {
		print_message("this file system has no leases: skipped\n");
		skip();
	}
	write_file(place, "a.yaml", SERVICE("s", "10.96.0.1") POLICY("p", "s"));
	open_place(place);
	writer = fopen(path_of(place, "a.yaml"), "w");
	fputs(SERVICE("s", "10.96.0.1"), writer);
	fflush(writer);
	/* Another file's event makes it look, but not apply what stands there. */
	write_file(place, "b.yaml", CONFIG_MAP("two"));
	await_change(place);
	assert_true(has(place, OBJECT_BACKEND_TLS_POLICY, "p"));
	assert_false(files_source_reload(place->source));
	assert_true(has(place, OBJECT_BACKEND_TLS_POLICY, "p"));
	assert_int_equal(error_count(place), 0);
	fputs(POLICY("q", "s"), writer);
	fclose(writer);
	await_change(place);
	assert_true(has(place, OBJECT_BACKEND_TLS_POLICY, "q"));
	assert_false(has(place, OBJECT_BACKEND_TLS_POLICY, "p"));
}

/* Known only half written: nothing is in force, and what is seen of it is refused. */
static void a_new_file_that_is_being_written_only_refuses(void **state)
{
	struct place *place = *state;
	FILE *writer;

	if (!leases_work(place)) {
		print_message("this file system has no leases: skipped\n");
		skip();
	}
	write_file(place, "b.yaml", SERVICE("s", "10.96.0.1"));
	writer = fopen(path_of(place, "a.yaml"), "w");
	fputs(POLICY("p", "s"), writer);
	fflush(writer);
	open_place(place);
	expect_error(place, "a.yaml", "is open for writing");
	assert_string_equal(verdict(place, "10.96.0.1"), "DENY");
	fclose(writer); /* with not one byte more */
	await_change(place);
	assert_int_equal(error_count(place), 0);
	assert_string_equal(verdict(place, "10.96.0.1"), "TLS");
}

/* The writer leaves without an event, as one whose IN_CLOSE_WRITE came before the kernel had taken it off the file. */
static void a_writer_that_leaves_in_silence(void **state)
{
	struct place *place = *state;
	char elsewhere[sizeof(place->directory) + 16];
	int writer;

	if (!leases_work(place)) {
		print_message("this file system has no leases: skipped\n");
		skip();
	}
	write_file(place, "a.yaml", CONFIG_MAP("one"));
	open_place(place);
	/* Events go to the directory of the name that was opened. */
	snprintf(elsewhere, sizeof(elsewhere), "%s.elsewhere", place->directory);
	assert_int_equal(link(path_of(place, "a.yaml"), elsewhere), 0);
	writer = open(elsewhere, O_WRONLY | O_CLOEXEC);
	assert_int_not_equal(writer, -1);
	assert_int_equal(unlink(elsewhere), 0);
	write_file(place, "a.yaml", CONFIG_MAP("two"));
	assert_false(refresh(place));
	assert_true(has_config_map(place, "one"));
	close(writer);
	await_change(place);
	assert_true(has_config_map(place, "two"));
	assert_false(has_config_map(place, "one"));
}

/* Away and back again within the delay: the objects never leave. */
static void a_file_on_its_way_back(void **state)
{
	struct place *place = *state;

	write_file(place, "a.yaml", CONFIG_MAP("one"));
	open_place(place);
	assert_int_equal(rename(path_of(place, "a.yaml"), path_of(place, "a.txt")), 0);
	assert_false(refresh(place));
	assert_true(has_config_map(place, "one"));
	assert_int_equal(rename(path_of(place, "a.txt"), path_of(place, "a.yaml")), 0);
	refresh(place);
	assert_true(has_config_map(place, "one"));
	assert_int_equal(unlink(path_of(place, "a.yaml")), 0);
	write_file(place, "a.yaml", CONFIG_MAP("one") CONFIG_MAP("two")); /* as some editors save */
	await_change(place);
	assert_true(has_config_map(place, "one"));
	assert_true(has_config_map(place, "two"));
	/* And away for good. */
	assert_int_equal(unlink(path_of(place, "a.yaml")), 0);
	await_change(place);
	assert_false(has_config_map(place, "one"));
}

/* No moment without the objects, and no complaint that they are there twice. */
static void a_renamed_file(void **state)
{
	static const char *const names[] = {"b.yaml", "c.yaml", "a.yaml"};
	struct place *place = *state;

	write_file(place, names[0], SERVICE("s", "10.96.0.1") POLICY("p", "s"));
	open_place(place);
	for (size_t i = 0; i + 1 < ARRAY_SIZE(names); i++) {
		assert_int_equal(rename(path_of(place, names[i]), path_of(place, names[i + 1])), 0);
		await_change(place);
		assert_int_equal(error_count(place), 0);
		assert_string_equal(verdict(place, "10.96.0.1"), "TLS");
		await_change(place); /* the old name is gone for good */
		assert_int_equal(error_count(place), 0);
		assert_string_equal(verdict(place, "10.96.0.1"), "TLS");
		assert_string_equal(
		        object_store_find(files_source_store(place->source), OBJECT_SERVICE, "default", "s")->origin,
		        names[i + 1]);
	}
}

static void a_removed_directory_keeps_the_state(void **state)
{
	struct place *place = *state;
	char command[160];

	write_file(place, "a.yaml", CONFIG_MAP("one"));
	open_place(place);
	snprintf(command, sizeof(command), "rm -rf %s", place->directory);
	assert_int_equal(system(command), 0);
	assert_false(refresh(place));
	expect_error(place, place->directory, "the directory was removed");
	assert_true(has_config_map(place, "one"));

	assert_int_equal(mkdir(place->directory, 0700), 0);
	write_file(place, "b.yaml", CONFIG_MAP("two"));
	assert_false(files_source_reload(place->source));
	expect_error(place, place->directory, "the directory was removed");
	assert_true(has_config_map(place, "one"));
	assert_false(has_config_map(place, "two"));
}

static void a_replaced_directory_keeps_the_state(void **state)
{
	struct place *place = *state;
	char old[80];

	snprintf(old, sizeof(old), "%s.old", place->directory);
	write_file(place, "a.yaml", CONFIG_MAP("one"));
	open_place(place);
	assert_int_equal(rename(place->directory, old), 0);
	assert_int_equal(mkdir(place->directory, 0700), 0);
	assert_false(refresh(place));
	expect_error(place, place->directory, "the directory was replaced");
	assert_true(has_config_map(place, "one"));

	/* Put back, it is itself again. */
	assert_int_equal(rmdir(place->directory), 0);
	assert_int_equal(rename(old, place->directory), 0);
	files_source_reload(place->source);
	assert_int_equal(error_count(place), 0);
	write_file(place, "b.yaml", CONFIG_MAP("two"));
	await_change(place);
	assert_true(has_config_map(place, "two"));
}

static void unreadable_things(void **state)
{
	struct place *place = *state;
	int fd;

	write_file(place, "big.yaml", CONFIG_MAP("one"));
	assert_int_equal(mkfifo(path_of(place, "fifo.yaml"), 0600), 0);
	assert_int_equal(symlink("loop.yaml", path_of(place, "loop.yaml")), 0);
	assert_int_equal(symlink("/dev/zero", path_of(place, "zero.yaml")), 0);
	assert_int_equal(symlink("/", path_of(place, "root.yaml")), 0);
	open_place(place);
	expect_error(place, "fifo.yaml", "not a regular file");
	expect_error(place, "zero.yaml", "not a regular file");
	expect_error(place, "root.yaml", "not a regular file");
	expect_error(place, "loop.yaml", "leads to no file");
	assert_int_equal(error_count(place), 4);
	fd = open(path_of(place, "big.yaml"), O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, YAML_MAX_BYTES + 1), 0);
	close(fd);
	await_change(place);
	expect_error(place, "big.yaml", "larger than 16 MiB");
	assert_true(has_config_map(place, "one"));
}

static void strange_names_are_printable(void **state)
{
	struct place *place = *state;

	write_file(place, "a\n\x1b[31m\xff.yaml", BROKEN);
	open_place(place);
	expect_error(place, "a??[31m?.yaml: Service default/bad", "spec.ports[0].port");
}

static void notes(void **state)
{
	struct place *place = *state;

	write_file(place, "a.yaml",
	           "apiVersion: apps/v1\nkind: Deployment\n---\napiVersion: apps/v1\nkind: Deployment\n---\n"
	           "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: f}\naddressType: FQDN\n");
	open_place(place);
	assert_int_equal(error_count(place), 0);
	assert_int_equal(files_source_note_count(place->source), 2);
	assert_string_equal(files_source_note_at(place->source, 0),
	                    "a.yaml: kind Deployment.apps is of no use to postern: ignored (2)");
	assert_non_null(strstr(files_source_note_at(place->source, 1), "EndpointSlice default/f has addressType FQDN"));
}

/* The queue of events overflows (16384 by default): everything is looked at, nothing is missed. */
static void overflow(void **state)
{
	struct place *place = *state;
	FILE *limit = fopen("/proc/sys/fs/inotify/max_queued_events", "r");
	long events = 0;

	if (!limit || fscanf(limit, "%ld", &events) != 1 || events > 100000)
		skip();
	fclose(limit);
	write_file(place, "a.yaml", CONFIG_MAP("one"));
	open_place(place);
	for (long i = 0; i <= events / 2; i++) {
		int fd = open(path_of(place, i % 2 ? "x" : "y"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

		close(fd);
		unlink(path_of(place, i % 2 ? "x" : "y"));
	}
	write_file(place, "a.yaml", CONFIG_MAP("two"));
	await_change(place);
	assert_true(has_config_map(place, "two"));
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	        TEST(a_missing_directory_is_an_error),
	        TEST(names_are_chosen),
	        TEST(files_come_change_and_go),
	        TEST(atomic_replacement),
	        TEST(config_map_volume),
	        TEST(a_symlinks_target_is_watched),
	        TEST(a_broken_file_keeps_its_last_good_state),
	        TEST(a_broken_file_never_uncovers),
	        TEST(a_broken_update_keeps_tls),
	        TEST(duplicates_name_both),
	        TEST(untouched_files_cost_nothing),
	        TEST(same_size_same_time),
	        TEST(a_file_that_is_being_written_is_left_alone),
	        TEST(a_new_file_that_is_being_written_only_refuses),
	        TEST(a_writer_that_leaves_in_silence),
	        TEST(a_file_on_its_way_back),
	        TEST(a_renamed_file),
	        TEST(a_removed_directory_keeps_the_state),
	        TEST(a_replaced_directory_keeps_the_state),
	        TEST(unreadable_things),
	        TEST(strange_names_are_printable),
	        TEST(notes),
	        TEST(overflow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
