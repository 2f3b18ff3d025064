// SPDX-License-Identifier: GPL-2.0-only
/* Whatever a command line can name: files, directories, pipes, devices, standard input, things that are not there. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/yaml.h"
#include "policy/store.h"
#include "source/load.h"

#define MAP(name)    "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: " name "}\n"
#define BROKEN       "---\napiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 0}]}\n"
#define NOT_YAML     "a: [\n"
#define NO_USE       "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n"
#define MAX_ARGUMENT 8

struct place {
	char directory[48];
	struct loaded_manifests loaded;
};

static const char *path_of(const struct place *place, const char *name)
{
	static char paths[MAX_ARGUMENT][256]; /* of calls in one expression */
	static unsigned int next;
	char *path = paths[next++ % MAX_ARGUMENT];

	snprintf(path, sizeof(paths[0]), "%s/%s", place->directory, name);
	return path;
}

static const char *write_bytes(const struct place *place, const char *name, const void *bytes, size_t size)
{
	const char *path = path_of(place, name);
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	assert_int_equal(fclose(file), 0);
	return path;
}

static const char *write_file(const struct place *place, const char *name, const char *text)
{
	return write_bytes(place, name, text, strlen(text));
}

/* The paths end with NULL. */
static void load(struct place *place, ...)
{
	const char *paths[MAX_ARGUMENT];
	size_t count = 0;
	va_list arguments;

	va_start(arguments, place);
	for (const char *path = va_arg(arguments, const char *); path; path = va_arg(arguments, const char *))
		paths[count++] = path;
	va_end(arguments);
	manifests_unload(&place->loaded);
	assert_int_equal(manifests_load(paths, count, &place->loaded), 0);
}

static void assert_maps(const struct place *place, size_t expected)
{
	size_t seen = object_store_count(place->loaded.store, OBJECT_CONFIG_MAP);

	if (seen != expected)
		fail_msg("expected %zu ConfigMaps, seen %zu", expected, seen);
}

static void assert_no_error(const struct place *place)
{
	const struct findings *findings = &place->loaded.findings;

	if (findings->error_count)
		fail_msg("expected no error, seen %s: %s", findings->errors[0].object, findings->errors[0].message);
}

/* Exactly one error: the end of its object, and a part of its message. */
static void assert_error(const struct place *place, const char *object, const char *message)
{
	const struct findings *findings = &place->loaded.findings;
	const char *seen;

	if (findings->error_count != 1)
		fail_msg("expected one error on %s, seen %zu", object, findings->error_count);
	seen = findings->errors[0].object;
	if (strlen(seen) < strlen(object) || strcmp(seen + strlen(seen) - strlen(object), object) != 0 ||
	    !strstr(findings->errors[0].message, message))
		fail_msg("expected %s: %s, seen %s: %s", object, message, seen, findings->errors[0].message);
}

static int set_up(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	snprintf(place->directory, sizeof(place->directory), "/tmp/postern-load-XXXXXX");
	assert_non_null(mkdtemp(place->directory));
	*state = place;
	return 0;
}

static int tear_down(void **state)
{
	struct place *place = *state;
	char command[160];

	manifests_unload(&place->loaded);
	snprintf(command, sizeof(command), "chmod -R u+rwx %s; rm -rf %s", place->directory, place->directory);
	assert_int_equal(system(command), 0);
	free(place);
	return 0;
}

static void files_of_any_name(void **state)
{
	struct place *place = *state;

	load(place, write_file(place, "a", MAP("a")), write_file(place, "b.txt", MAP("b") MAP("c")),
	     write_file(place, "c.json",
	                "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": "
	                "\"d\"}}"),
	     NULL);
	assert_no_error(place);
	assert_maps(place, 4);
}

static void a_directory_gives_its_manifests(void **state)
{
	struct place *place = *state;

	assert_int_equal(mkdir(path_of(place, "sub.yaml"), 0755), 0);
	write_file(place, "sub.yaml/inner.yaml", MAP("inner"));
	write_file(place, "a.yaml", MAP("a"));
	write_file(place, "b.yml", MAP("b"));
	write_file(place, "c.json", MAP("c"));
	write_file(place, ".hidden.yaml", MAP("hidden"));
	write_file(place, "README", "no manifest: [");
	assert_int_equal(symlink("a.yaml", path_of(place, "another-name")), 0);
	assert_int_equal(symlink("sub.yaml", path_of(place, "link.yaml")), 0); /* to a directory */
	load(place, place->directory, NULL);
	assert_no_error(place);
	assert_maps(place, 3);
}

static void a_directory_reports_each_file(void **state)
{
	struct place *place = *state;

	write_file(place, "a.yaml", MAP("a"));
	write_file(place, "b.yaml", MAP("b") BROKEN);
	load(place, place->directory, NULL);
	assert_maps(place, 1); /* nothing of a broken file */
	assert_error(place, "/b.yaml: Service default/bad", "spec.ports[0].port");
	unlink(path_of(place, "b.yaml"));
	assert_int_equal(symlink("nowhere", path_of(place, "b.yaml")), 0);
	load(place, place->directory, NULL);
	assert_maps(place, 1);
	assert_error(place, "/b.yaml", "leads to no file");
	unlink(path_of(place, "b.yaml"));
	assert_int_equal(mkfifo(path_of(place, "b.yaml"), 0600), 0);
	load(place, place->directory, NULL);
	assert_maps(place, 1);
	assert_error(place, "/b.yaml", "not a regular file");
}

static void duplicates(void **state)
{
	struct place *place = *state;
	const char *first = write_file(place, "a.yaml", MAP("a")), *second = write_file(place, "b.yaml", MAP("a"));

	load(place, first, second, NULL);
	assert_maps(place, 1);
	assert_error(place, "/b.yaml: ConfigMap default/a", "is defined in");
}

/* posternctl check policies/ policies/a.yaml */
static void the_same_file_twice_is_one(void **state)
{
	struct place *place = *state;
	const char *path = write_file(place, "a.yaml", MAP("a"));
	char linked[256];

	snprintf(linked, sizeof(linked), "%s.link", place->directory);
	assert_int_equal(symlink(path, linked), 0);
	load(place, place->directory, path, path, linked, place->directory, NULL);
	assert_int_equal(unlink(linked), 0);
	assert_no_error(place);
	assert_maps(place, 1);
}

static void what_cannot_be_read(void **state)
{
	static const unsigned char junk[] = {0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0xff, 0xfe, 0x80, 0, 1, 2, 3};
	struct place *place = *state;

	load(place, path_of(place, "nothing"), NULL);
	assert_error(place, "/nothing", "No such file");
	load(place, "", NULL);
	assert_error(place, "", "No such file");
	load(place, write_bytes(place, "junk", junk, sizeof(junk)), NULL);
	assert_error(place, "/junk", "line 1");
	load(place, write_file(place, "no-yaml", NOT_YAML), NULL);
	assert_error(place, "/no-yaml", "line 2");
	load(place, write_file(place, "broken", BROKEN), NULL);
	assert_error(place, "/broken: Service default/bad", "spec.ports[0].port");
	load(place,
	     write_file(place,
	                "no\x1b[2J\xff"
	                "name",
	                NOT_YAML),
	     NULL);
	assert_error(place, "/no?[2J?name", "line 2");
	load(place, "/dev/zero", NULL);
	assert_error(place, "/dev/zero", "larger than 16 MiB");
}

static void what_is_too_large(void **state)
{
	struct place *place = *state;
	const char *path = write_file(place, "large", MAP("a"));

	assert_int_equal(truncate(path, YAML_MAX_BYTES + 1), 0);
	load(place, path, write_file(place, "good", MAP("b")), NULL);
	assert_error(place, "/large", "larger than 16 MiB");
	assert_maps(place, 1);
}

static void without_permission(void **state)
{
	struct place *place = *state;
	const char *path = write_file(place, "closed.yaml", MAP("a"));

	assert_int_equal(chmod(path, 0), 0);
	if (access(path, R_OK) == 0)
		skip(); /* root: tests/e2e/check.py does it as nobody */
	load(place, path, NULL);
	assert_error(place, "/closed.yaml", "Permission denied");
}

static void nothing_to_judge(void **state)
{
	struct place *place = *state;

	load(place, place->directory, NULL);
	assert_error(place, "", "holds no manifest");
	load(place, write_file(place, "empty", ""), NULL);
	assert_error(place, "/empty", "no object");
	load(place, "/dev/null", NULL);
	assert_error(place, "/dev/null", "no object");
	load(place, write_file(place, "a", "# a\n---\n---\n"), write_file(place, "b", ""), NULL);
	assert_error(place, "all paths", "no object");
	load(place, write_file(place, "no-use", NO_USE), NULL); /* there is something: what kustomize built, say */
	assert_no_error(place);
	assert_int_equal(place->loaded.findings.note_count, 1);
}

/* A pipe with this text and so much beyond it that a child is still writing when we read. */
static int pipe_with(const char *text)
{
	static const char comment[] = "# far more than a pipe can hold\n";
	int ends[2];
	pid_t child;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		FILE *stream = fdopen(ends[1], "w");

		close(ends[0]);
		for (unsigned int i = 0; stream && i < 10000; i++)
			(void)fputs(comment, stream);
		_exit(!stream || fputs(text, stream) < 0 || fclose(stream) != 0);
	}
	close(ends[1]);
	return ends[0];
}

static void await_writer(void)
{
	int status;

	assert_true(wait(&status) > 0);
	assert_int_equal(status, 0);
}

static void standard_input(void **state)
{
	struct place *place = *state;
	int input = dup(STDIN_FILENO), reader = pipe_with(MAP("a") MAP("b"));

	assert_int_equal(dup2(reader, STDIN_FILENO), STDIN_FILENO);
	load(place, "-", write_file(place, "c", MAP("c")), NULL);
	assert_no_error(place);
	assert_maps(place, 3);
	await_writer();
	load(place, "-", NULL); /* at its end */
	assert_error(place, "stdin", "nobody wrote");
	close(reader);
	reader = pipe_with(BROKEN);
	assert_int_equal(dup2(reader, STDIN_FILENO), STDIN_FILENO);
	load(place, "-", NULL);
	assert_error(place, "stdin: Service default/bad", "spec.ports[0].port");
	await_writer();
	assert_int_equal(dup2(input, STDIN_FILENO), STDIN_FILENO);
	close(input);
	close(reader);
}

/* bash's <(command) is /dev/fd/N. */
static void a_pipe_by_its_path(void **state)
{
	struct place *place = *state;
	int reader = pipe_with(MAP("a"));
	char path[32];

	snprintf(path, sizeof(path), "/dev/fd/%d", reader);
	load(place, path, NULL);
	assert_no_error(place);
	assert_maps(place, 1);
	await_writer();
	close(reader);
}

static void a_fifo_without_a_writer_is_not_waited_for(void **state)
{
	struct place *place = *state;

	assert_int_equal(mkfifo(path_of(place, "fifo"), 0600), 0);
	alarm(10);
	load(place, path_of(place, "fifo"), NULL);
	alarm(0);
	assert_error(place, "/fifo", "nobody wrote");
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	        TEST(files_of_any_name),
	        TEST(a_directory_gives_its_manifests),
	        TEST(a_directory_reports_each_file),
	        TEST(duplicates),
	        TEST(the_same_file_twice_is_one),
	        TEST(what_cannot_be_read),
	        TEST(what_is_too_large),
	        TEST(without_permission),
	        TEST(nothing_to_judge),
	        TEST(standard_input),
	        TEST(a_pipe_by_its_path),
	        TEST(a_fifo_without_a_writer_is_not_waited_for),
	};
#undef TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
