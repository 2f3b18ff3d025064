// SPDX-License-Identifier: GPL-2.0-only
/* The system's CA bundle is read again when it is another file, and what was good stays in force while it is not. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "control/system_ca.h"
#include "policy/shared_text.h"
#include "policy_fixture.h"

static char directory[] = "/tmp/postern-system-ca-XXXXXX";
static char path[sizeof(directory) + 16];

/* In place, or as another file of the same name. */
static void write_file(const char *text, bool replace)
{
	char fresh[sizeof(path) + 8];
	FILE *file;

	(void)snprintf(fresh, sizeof(fresh), "%s%s", path, replace ? ".new" : "");
	file = fopen(fresh, "we");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
	if (replace)
		assert_int_equal(rename(fresh, path), 0);
}

static void assert_holds(const struct system_ca *ca, const char *pem)
{
	/* The bundle is in canonical form: the base64 of the only certificate is in both. */
	assert_non_null(ca->bundle);
	if (!strstr(ca->bundle->text, pem))
		fail_msg("expected the bundle to hold\n%s\nseen\n%s", pem, ca->bundle->text);
}

static void rotation(void **state)
{
	struct system_ca ca;

	(void)state;
	(void)unlink(path);
	system_ca_init(&ca, path);
	assert_false(system_ca_refresh(&ca));
	assert_null(ca.bundle);
	assert_string_equal(ca.problem, "No such file or directory");

	write_file(fixture_ca(), true);
	assert_true(system_ca_refresh(&ca));
	assert_holds(&ca, fixture_ca());
	assert_string_equal(ca.problem, "");
	assert_false(system_ca_refresh(&ca));

	/* Another file with the same certificates, then others. */
	write_file(fixture_ca(), true);
	assert_false(system_ca_refresh(&ca));
	write_file(fixture_other_ca(), true);
	assert_true(system_ca_refresh(&ca));
	assert_holds(&ca, fixture_other_ca());
	write_file(fixture_ca(), false);
	assert_true(system_ca_refresh(&ca));
	assert_holds(&ca, fixture_ca());
	system_ca_free(&ca);
}

static void what_was_good_stays(void **state)
{
	static const char junk[] = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
	_cleanup_free_ char *both = NULL;
	struct system_ca ca;

	(void)state;
	write_file(junk, true);
	system_ca_init(&ca, path);
	assert_false(system_ca_refresh(&ca));
	assert_null(ca.bundle);
	assert_string_not_equal(ca.problem, "");

	/* One that is good among what is not. */
	assert_true(asprintf(&both, "%s%s", junk, fixture_ca()) > 0);
	write_file(both, true);
	assert_true(system_ca_refresh(&ca));
	assert_int_equal(ca.left_out, 1);
	assert_holds(&ca, fixture_ca());

	write_file("", true);
	assert_false(system_ca_refresh(&ca));
	assert_holds(&ca, fixture_ca());
	assert_string_not_equal(ca.problem, "");
	assert_int_equal(unlink(path), 0);
	assert_false(system_ca_refresh(&ca));
	assert_holds(&ca, fixture_ca());
	assert_int_equal(mkdir(path, 0700), 0);
	assert_false(system_ca_refresh(&ca));
	assert_string_equal(ca.problem, "it is no regular file");
	assert_int_equal(rmdir(path), 0);
	write_file(fixture_other_ca(), true);
	assert_true(system_ca_refresh(&ca));
	assert_holds(&ca, fixture_other_ca());
	assert_string_equal(ca.problem, "");
	system_ca_free(&ca);
}

/* Half of a bundle is fewer CAs than there are: it is not taken while somebody writes. */
static void while_it_is_written(void **state)
{
	_cleanup_close_ int writer = -1;
	struct system_ca ca;

	(void)state;
	write_file(fixture_ca(), true);
	system_ca_init(&ca, path);
	assert_true(system_ca_refresh(&ca));
	writer = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_true(writer >= 0);
	assert_int_equal(write(writer, fixture_other_ca(), strlen(fixture_other_ca())), strlen(fixture_other_ca()));
	assert_false(system_ca_refresh(&ca));
	assert_string_equal(ca.problem, "somebody is writing it");
	assert_null(strstr(ca.bundle->text, fixture_other_ca()));
	close(TAKE_FD(writer));
	assert_true(system_ca_refresh(&ca));
	assert_holds(&ca, fixture_other_ca());
	system_ca_free(&ca);
}

static void none_is_configured(void **state)
{
	struct system_ca ca;

	(void)state;
	system_ca_init(&ca, "");
	assert_false(system_ca_refresh(&ca));
	assert_null(ca.bundle);
	assert_string_equal(ca.problem, "");
	system_ca_free(&ca);
}

static int begin(void **state)
{
	(void)state;
	log_set_level(LOG_LEVEL_ERROR);
	if (!mkdtemp(directory))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/ca.pem", directory);
	return 0;
}

static int end(void **state)
{
	(void)state;
	(void)unlink(path);
	return rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(rotation),
	        cmocka_unit_test(what_was_good_stays),
	        cmocka_unit_test(while_it_is_written),
	        cmocka_unit_test(none_is_configured),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
