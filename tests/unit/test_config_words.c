// SPDX-License-Identifier: GPL-2.0-only
/* What the settings look like to people: durations, and --help. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "config/config.h"
#include "config/value.h"

#define SECOND 1000000000ull

static void durations(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns;
		const char *formatted;
	} rows[] = {
	        {"1ms", 1000000, "1ms"},     {"1500ms", 1500000000, "1500ms"},
	        {"10s", 10 * SECOND, "10s"}, {"60s", 60 * SECOND, "1m"},
	        {"2m", 120 * SECOND, "2m"},  {"90m", 5400 * SECOND, "90m"},
	        {"1h", 3600 * SECOND, "1h"}, {"0s", 0, "0s"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char error[VALUE_ERROR_MAX];
		char text[32];
		uint64_t ns = UINT64_MAX;

		assert_int_equal(value_duration(rows[i].text, 0, UINT64_MAX, &ns, error, sizeof(error)), 0);
		assert_int_equal(ns, rows[i].ns);
		assert_string_equal(value_format_duration(ns, text, sizeof(text)), rows[i].formatted);
	}
}

/* --help names each setting's flag and key, so that nobody must read the source. */
static void help_is_whole(void **state)
{
	static const char *const names[] = {
	        "--manifests DIR",
	        "--source files|kubernetes",
	        "--kubeconfig FILE",
	        "--run-dir DIR",
	        "--bpffs DIR",
	        "--agent-cgroup PATH",
	        "--workers N",
	        "--gateway NAME",
	        "--cluster-cidr CIDR",
	        "--coverage standard|strict",
	        "--ports FIRST-LAST",
	        "--ktls auto|off",
	        "--lane auto|off",
	        "--splice auto|off",
	        "--log-level",
	        "--log-format logfmt|json",
	        "--access-log off|on",
	        "--metrics-address ADDRESS:PORT",
	        "--dial-timeout DURATION",
	        "--handshake-timeout DURATION",
	        "--max-connections N",
	        "--max-connections-per-gateway N",
	        "--memory-budget BYTES",
	        "--idle-timeout DURATION",
	        "--watchdog DURATION",
	        "--max-handshakes N",
	        "--max-destinations N",
	        "--tombstone DURATION",
	        "--config FILE",
	        "--check-config",
	        "clusterCIDRs",
	        "agentCgroup",
	        "default: 28100-28999",
	};
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	(void)state;
	assert_non_null(stream);
	config_print_help(stream);
	assert_int_equal(fclose(stream), 0);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strstr(text, names[i]))
			fail_msg("--help does not say \"%s\"", names[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(durations),
	        cmocka_unit_test(help_is_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
