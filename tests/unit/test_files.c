// SPDX-License-Identifier: GPL-2.0-only
/* A directory of manifests as it is really changed: written, replaced, swapped, broken, deleted. */
#include "files_place.h"

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
	         "'n'}\nspec: {\n"
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

int main(void)
{
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
