// SPDX-License-Identifier: GPL-2.0-only
/* A directory of manifests at the wrong moment: files that are being written or moved, and whatever else lies there. */
#include "files_place.h"

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
	           "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: f}\naddressType: FQDN\n---\n"
	           "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: p}\n"
	           "spec: {mode: x, targetRefs: []}\n");
	open_place(place);
	assert_int_equal(error_count(place), 0);
	assert_int_equal(files_source_note_count(place->source), 3);
	assert_string_equal(files_source_note_at(place->source, 0),
	                    "a.yaml: kind Deployment.apps is of no use to postern: ignored (2)");
	assert_string_equal(files_source_note_at(place->source, 1),
	                    "a.yaml: BackendTLSPolicy default/p: spec.mode is not known to this version: ignored (1)");
	assert_non_null(strstr(files_source_note_at(place->source, 2), "EndpointSlice default/f has addressType FQDN"));
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
	const struct CMUnitTest tests[] = {
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
