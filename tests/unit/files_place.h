/* SPDX-License-Identifier: GPL-2.0-only */
/* files_place.h: a directory of manifests and the source that reads it, for the tests of source/files.h. */
#ifndef POSTERN_TESTS_FILES_PLACE_H
#define POSTERN_TESTS_FILES_PLACE_H

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
#include "policy/shared_text.h"
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

static inline char *path_of(const struct place *place, const char *name)
{
	static char paths[4][256]; /* of calls in one expression */
	static unsigned int next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", place->directory, name);
	return path;
}

static inline void write_path(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static inline void write_file(const struct place *place, const char *name, const char *text)
{
	write_path(path_of(place, name), text);
}

static inline void open_place(struct place *place)
{
	assert_int_equal(files_source_open(place->directory, &place->source), 0);
}

static inline int set_up(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	log_set_level(LOG_LEVEL_ERROR);
	snprintf(place->directory, sizeof(place->directory), "/tmp/postern-files-XXXXXX");
	assert_non_null(mkdtemp(place->directory));
	*state = place;
	return 0;
}

static inline int tear_down(void **state)
{
	struct place *place = *state;
	char command[160];

	files_source_close(place->source);
	snprintf(command, sizeof(command), "rm -rf %s %s.old", place->directory, place->directory);
	assert_int_equal(system(command), 0);
	free(place);
	return 0;
}

static inline uint64_t now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

static inline bool has(const struct place *place, enum object_kind kind, const char *name)
{
	return object_store_find(files_source_store(place->source), kind, "default", name) != NULL;
}

static inline bool has_config_map(const struct place *place, const char *name)
{
	return has(place, OBJECT_CONFIG_MAP, name);
}

/* Refresh on events until the store changes. */
static inline void await_change(const struct place *place)
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
static inline bool refresh(const struct place *place)
{
	struct pollfd fd = {.fd = files_source_fd(place->source), .events = POLLIN};
	bool changed = false;

	while (poll(&fd, 1, 0) == 1)
		changed |= files_source_refresh(place->source);
	return changed;
}

static inline void expect_error(const struct place *place, const char *object, const char *message)
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

static inline size_t error_count(const struct place *place)
{
	return files_source_error_count(place->source);
}

static inline const char *verdict(const struct place *place, const char *address)
{
	static char text[64];
	struct settings_registry *registry = settings_registry_new();
	struct shared_text *system_ca = shared_text_new(fixture_ca(), strlen(fixture_ca()));
	struct compile_options options = {
	        .operators_own = true, .now_ns = 1, .registry = registry, .system_ca = system_ca};
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
	shared_text_unref(system_ca);
	return text;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

#endif
