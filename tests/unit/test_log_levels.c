/* SPDX-License-Identifier: GPL-2.0-only */
/* The command log-level: what it sets, what it shows, what it refuses. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "observe/log_levels.h"

static const char *level_of(const json_t *document, const char *subsystem)
{
	return json_string_value(json_object_get(json_object_get(document, "levels"), subsystem));
}

static void sets_and_shows(void **state)
{
	json_t *document;

	(void)state;
	log_set_level(LOG_LEVEL_INFO);
	document = log_levels_command("log-level");
	assert_int_equal(json_object_size(json_object_get(document, "levels")), LOG_SUBSYSTEMS);
	assert_string_equal(level_of(document, "tls"), "info");
	json_decref(document);

	document = log_levels_command("log-level tls debug");
	assert_string_equal(level_of(document, "tls"), "debug");
	assert_string_equal(level_of(document, "datapath"), "info");
	assert_true(log_subsystem_enabled(LOG_TLS, LOG_LEVEL_DEBUG));
	json_decref(document);

	document = log_levels_command("log-level  error ");
	assert_string_equal(level_of(document, "tls"), "error");
	assert_string_equal(level_of(document, "access"), "error");
	json_decref(document);
	log_set_level(LOG_LEVEL_INFO);
}

static void refuses(void **state)
{
	static const char *const commands[] = {
	        "log-level loud",      "log-level kernel debug",
	        "log-level tls",       "log-level tls debug now",
	        "log-level debug tls", "log-level xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx debug",
	};

	(void)state;
	log_set_level(LOG_LEVEL_INFO);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		json_t *document = log_levels_command(commands[i]);

		if (!json_object_get(document, "error"))
			fail_msg("%s: expected an error", commands[i]);
		json_decref(document);
		for (unsigned int j = 0; j < LOG_SUBSYSTEMS; j++)
			assert_int_equal(log_subsystem_level((enum log_subsystem)j), LOG_LEVEL_INFO);
	}
	assert_null(log_levels_command("log-levels"));
	assert_null(log_levels_command("status"));
	assert_null(log_levels_command(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(sets_and_shows),
	        cmocka_unit_test(refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
