// SPDX-License-Identifier: GPL-2.0-only
/*
 * config: the text of a configuration file -> config_parse(). What is refused is refused with one line and leaves
 * nothing; what is accepted is in its ranges, and is freed twice without harm.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config/config.h"
#include "fuzz.h"

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
	return fuzz_mutate_yaml(data, size, max_size, seed, 0);
}

static bool is_path(const char *text)
{
	return text && *text == '/';
}

static void check_gateway(const struct config_gateway *gateway)
{
	FUZZ_CHECK(gateway->name && *gateway->name && is_path(gateway->cgroup), "a gateway without name or cgroup");
	FUZZ_CHECK(!gateway->netns || is_path(gateway->netns), "namespace \"%s\"", gateway->netns);
	FUZZ_CHECK(config_gateway_mode_name(gateway->mode), "mode %d", gateway->mode);
	for (size_t i = 0; i < gateway->ref_count; i++)
		FUZZ_CHECK(gateway->refs[i].namespace_ && *gateway->refs[i].namespace_ && gateway->refs[i].name &&
		                   *gateway->refs[i].name,
		           "a reference without name");
}

static void check(const struct config *config)
{
	FUZZ_CHECK(config->file && config->manifests && is_path(config->run_dir) && is_path(config->bpffs) &&
	                   config->agent_cgroup && config->system_ca,
	           "a path is missing");
	FUZZ_CHECK(config->workers <= POSTERN_MAX_WORKERS && config_worker_count(config) >= 1 &&
	                   config_worker_count(config) <= POSTERN_MAX_WORKERS,
	           "%u workers", config->workers);
	FUZZ_CHECK(config->ports.first && config->ports.first <= config->ports.last, "ports %u to %u",
	           config->ports.first, config->ports.last);
	FUZZ_CHECK(config_switch_name(config->ktls) && config_switch_name(config->lane) &&
	                   config_switch_name(config->splice) && config->ktls != SWITCH_REQUIRE,
	           "a switch");
	FUZZ_CHECK(config->dial_timeout_ns && config->handshake_timeout_ns && config->max_connections &&
	                   config->max_handshakes && config->max_destinations,
	           "a limit of 0");
	for (size_t i = 0; i < config->gateways.count; i++) {
		check_gateway(&config->gateways.at[i]);
		for (size_t j = 0; j < i; j++)
			FUZZ_CHECK(strcmp(config->gateways.at[i].name, config->gateways.at[j].name), "two gateways %s",
			           config->gateways.at[i].name);
	}
	for (size_t i = 0; i < config->cluster_cidrs.count; i++)
		FUZZ_CHECK(config->cluster_cidrs.at[i].prefix_length <= 128, "prefix");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct config nothing;
	static int fd = -1;
	static char path[64];
	const char *const arguments[] = {"posternd", "--config", path};
	char error[CONFIG_ERROR_MAX] = "";
	struct config config;
	int result;

	if (fd == -1) {
		fd = memfd_create("config", 0);
		FUZZ_CHECK(fd >= 0, "no memfd");
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	}
	FUZZ_CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size, "not written");
	result = config_parse(3, arguments, &config, error, sizeof(error));
	if (result == CONFIG_RUN) {
		check(&config);
		config_free(&config);
	} else {
		FUZZ_CHECK(result == -EINVAL, "result %d: %s", result, error);
		FUZZ_CHECK(fuzz_is_message(error, sizeof(error)), "\"%s\"", error);
		FUZZ_CHECK(!memcmp(&config, &nothing, sizeof(config)), "something is left after an error");
	}
	config_free(&config);
	return 0;
}
