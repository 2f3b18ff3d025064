// SPDX-License-Identifier: GPL-2.0-only
/* The configuration in force as texts, and its digest: the same settings are the same, however they were given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "config/describe.h"
#include "config/setting.h"

struct found {
	const char *key;
	char value[256];
	unsigned int keys;
};

static void find(void *context, const char *key, const char *value)
{
	struct found *found = context;

	found->keys++;
	if (found->key && strcmp(key, found->key) == 0)
		(void)snprintf(found->value, sizeof(found->value), "%s", value);
}

static char empty_file[] = "/tmp/postern-describe-XXXXXX";

static int make_file(void **state)
{
	int fd = mkstemp(empty_file);

	(void)state;
	return fd >= 0 ? close(fd) : -1;
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(empty_file);
}

/* One flag at most. */
static void parse(const char *flag, struct config *config)
{
	const char *const none[] = {"posternd", "--config", empty_file};
	const char *const with[] = {"posternd", "--config", empty_file, flag};
	char error[CONFIG_ERROR_MAX];
	int result = config_parse(flag ? 4 : 3, flag ? with : none, config, error, sizeof(error));

	if (result != CONFIG_RUN)
		fail_msg("%s: expected to be taken, seen %d: %s", flag ? flag : "nothing", result, error);
}

static const struct {
	const char *key;
	const char *flag;
	const char *value;
} rows[] = {
        {"manifests", "--manifests=/tmp", "/tmp"},
        {"nodeName", "--node-name=n", "n"},
        {"kubeconfig", "--kubeconfig=/k", "/k"},
        {"systemCA", "--system-ca=/ca.pem", "/ca.pem"},
        {"gateways", "--gateway=a/b,cgroup=/c,netns=/n,mode=observe,gatewayRef=x/y",
         "a/b,cgroup=/c,netns=/n,mode=observe,gatewayRef=x/y"},
        {"clusterCIDRs", "--cluster-cidr=10.0.0.0/8", "10.0.0.0/8"},
        {"clusterCIDRs", "--cluster-cidr=fd00::/64", "fd00::/64"},
        {"coverage", "--coverage=strict", "strict"},
        {"workers", "--workers=3", "3"},
        {"ports", "--ports=28200-28300", "28200-28300"},
        {"ktls", "--ktls=off", "off"},
        {"dialTimeout", "--dial-timeout=7s", "7000ms"},
        {"memoryBudget", "--memory-budget=512Mi", "536870912"},
        {"metricsAddress", "--metrics-address=[::1]:9", "[::1]:9"},
        {"maxDestinations", "--max-destinations=1000", "1000"},
};

static void test_values(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct found found = {.key = rows[i].key};
		uint8_t before[CONFIG_DIGEST_SIZE], after[CONFIG_DIGEST_SIZE];
		struct config plain, config;

		parse(NULL, &plain);
		parse(rows[i].flag, &config);
		assert_int_equal(config_describe(&config, find, &found), 0);
		if (strcmp(found.value, rows[i].value) != 0)
			fail_msg("%s: expected \"%s\", seen \"%s\"", rows[i].key, rows[i].value, found.value);
		assert_int_equal(config_digest(&plain, before), 0);
		assert_int_equal(config_digest(&config, after), 0);
		if (memcmp(before, after, sizeof(before)) == 0)
			fail_msg("%s: expected another digest", rows[i].flag);
		config_free(&plain);
		config_free(&config);
	}
}

/* What is the default, said or not said. */
static void test_the_same(void **state)
{
	uint8_t before[CONFIG_DIGEST_SIZE], after[CONFIG_DIGEST_SIZE];
	struct found found = {0};
	struct config plain;

	(void)state;
	parse(NULL, &plain);
	assert_int_equal(config_describe(&plain, find, &found), 0);
	assert_int_equal(found.keys, setting_count);
	assert_int_equal(config_digest(&plain, before), 0);
	config_free(&plain);
	for (size_t i = 0; i < setting_count; i++) {
		char flag[256];
		struct config config;

		if (!settings[i].fallback)
			continue;
		(void)snprintf(flag, sizeof(flag), "--%s=%s", settings[i].flag, settings[i].fallback);
		parse(flag, &config);
		assert_int_equal(config_digest(&config, after), 0);
		if (memcmp(before, after, sizeof(before)) != 0)
			fail_msg("%s: expected the digest of the defaults", flag);
		config_free(&config);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_values),
	        cmocka_unit_test(test_the_same),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
