// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
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
#include "config/config.h"

#define SECOND        1000000000ull
#define ARGUMENTS_MAX 12

static char file[64]; /* one file of settings, rewritten by each row */

static void write_file(const void *text, size_t size)
{
	FILE *stream = fopen(file, "w");

	assert_non_null(stream);
	assert_int_equal(fwrite(text, 1, size, stream), size);
	assert_int_equal(fclose(stream), 0);
}

/* Words after "posternd", up to NULL. With yaml, `--config FILE` comes first. */
static int parse(const char *yaml, const char *const *words, struct config *config, char error[CONFIG_ERROR_MAX])
{
	const char *argv[ARGUMENTS_MAX + 1] = {"posternd"};
	int argc = 1;

	if (yaml) {
		write_file(yaml, strlen(yaml));
		argv[argc++] = "--config";
		argv[argc++] = file;
	}
	for (; words && *words; words++) {
		assert_true(argc < ARGUMENTS_MAX);
		argv[argc++] = *words;
	}
	return config_parse(argc, argv, config, error, CONFIG_ERROR_MAX);
}

static void defaults(void **state)
{
	struct config config;
	char error[CONFIG_ERROR_MAX];

	(void)state;
	assert_int_equal(parse("", NULL, &config, error), CONFIG_RUN);
	assert_string_equal(config.file, file);
	assert_string_equal(config.manifests, "");
	assert_int_equal(config.source, SOURCE_FILES);
	assert_string_equal(config.kubeconfig, "");
	assert_string_equal(config.run_dir, "/run/postern");
	assert_string_equal(config.bpffs, "/sys/fs/bpf/postern");
	assert_string_equal(config.agent_cgroup, "");
	assert_string_equal(config.system_ca, "/etc/ssl/certs/ca-certificates.crt");
	assert_int_equal(config.workers, 0);
	assert_int_equal(config.gateways.count, 0);
	assert_int_equal(config.cluster_cidrs.count, 0);
	assert_int_equal(config.coverage, COVERAGE_STANDARD);
	assert_int_equal(config.ports.first, 28100);
	assert_int_equal(config.ports.last, 28999);
	assert_int_equal(config.ktls, SWITCH_AUTO);
	assert_int_equal(config.lane, SWITCH_AUTO);
	assert_int_equal(config.splice, SWITCH_AUTO);
	assert_int_equal(config.log_level, LOG_LEVEL_INFO);
	assert_int_equal(config.log_format, LOG_FORMAT_LOGFMT);
	assert_int_equal(config.access_log, ACCESS_LOG_OFF);
	assert_true(address_is_loopback(&config.metrics_address.address));
	assert_int_equal(config.metrics_address.port, 9905);
	assert_int_equal(config.dial_timeout_ns, 30 * SECOND);
	assert_int_equal(config.handshake_timeout_ns, 10 * SECOND);
	assert_int_equal(config.tombstone_ns, 600 * SECOND);
	assert_int_equal(config.max_connections, 65536);
	assert_int_equal(config.max_handshakes, 4096);
	assert_int_equal(config.max_destinations, POSTERN_MAX_DESTINATIONS);
	assert_in_range(config_worker_count(&config), 1, POSTERN_MAX_WORKERS);
	config_free(&config);
	config_free(&config);
	assert_null(config.run_dir);
}

static const char whole_file[] = "# every setting\n"
                                 "manifests: /srv/manifests\n"
                                 "runDir: /run/other\n"
                                 "bpffs: /sys/fs/bpf/other\n"
                                 "agentCgroup: /system.slice/posternd.service\n"
                                 "workers: 3\n"
                                 "gateways:\n"
                                 "- name: shop/edge\n"
                                 "  cgroup: /system.slice/nginx.service\n"
                                 "  gatewayRefs: [shop/edge]\n"
                                 "- {name: second, cgroup: /sys/fs/cgroup/second, netns: /run/netns/g, mode: observe}\n"
                                 "clusterCIDRs: [10.96.0.0/12, 'fd00:10:96::/112']\n"
                                 "coverage: strict\n"
                                 "ports: 29000-29100\n"
                                 "ktls: off\n"
                                 "lane: \"off\"\n"
                                 "splice: auto\n"
                                 "logLevel: debug\n"
                                 "logFormat: json\n"
                                 "accessLog: on\n"
                                 "metricsAddress: '[fd00::1]:9100'\n"
                                 "dialTimeout: 500ms\n"
                                 "handshakeTimeout: 2m\n"
                                 "maxConnections: 1000\n"
                                 "maxConnectionsPerGateway: 600\n"
                                 "memoryBudget: 512Mi\n"
                                 "idleTimeout: 5m\n"
                                 "watchdog: 0s\n"
                                 "maxHandshakes: 10\n"
                                 "maxDestinations: 64\n"
                                 "tombstone: 1h\n"
                                 "systemCA: /srv/ca.pem\n";

static void every_setting_of_the_file(void **state)
{
	struct config config;
	char error[CONFIG_ERROR_MAX];
	char text[ADDRESS_TEXT_MAX];

	(void)state;
	if (parse(whole_file, NULL, &config, error) != CONFIG_RUN)
		fail_msg("%s", error);
	assert_string_equal(config.manifests, "/srv/manifests");
	assert_string_equal(config.run_dir, "/run/other");
	assert_string_equal(config.bpffs, "/sys/fs/bpf/other");
	assert_string_equal(config.agent_cgroup, "/system.slice/posternd.service");
	assert_int_equal(config.workers, 3);
	assert_int_equal(config_worker_count(&config), 3);
	assert_int_equal(config.gateways.count, 2);
	assert_string_equal(config.gateways.at[0].name, "shop/edge");
	assert_string_equal(config.gateways.at[0].cgroup, "/system.slice/nginx.service");
	assert_null(config.gateways.at[0].netns);
	assert_int_equal(config.gateways.at[0].mode, POSTERN_MODE_ENFORCE);
	assert_string_equal(config.gateways.at[1].netns, "/run/netns/g");
	assert_int_equal(config.gateways.at[1].mode, POSTERN_MODE_OBSERVE);
	assert_int_equal(config.gateways.at[0].ref_count, 1);
	assert_string_equal(config.gateways.at[0].refs[0].namespace_, "shop");
	assert_string_equal(config.gateways.at[0].refs[0].name, "edge");
	assert_int_equal(config.gateways.at[1].ref_count, 0);
	assert_string_equal(config.system_ca, "/srv/ca.pem");
	assert_int_equal(config.cluster_cidrs.count, 2);
	assert_string_equal(address_format(&config.cluster_cidrs.at[0].address, text), "10.96.0.0");
	assert_int_equal(config.cluster_cidrs.at[0].prefix_length, 108);
	assert_int_equal(config.coverage, COVERAGE_STRICT);
	assert_int_equal(config.ports.first, 29000);
	assert_int_equal(config.ports.last, 29100);
	assert_int_equal(config.ktls, SWITCH_OFF);
	assert_int_equal(config.lane, SWITCH_OFF);
	assert_int_equal(config.splice, SWITCH_AUTO);
	assert_int_equal(config.log_level, LOG_LEVEL_DEBUG);
	assert_int_equal(config.log_format, LOG_FORMAT_JSON);
	assert_int_equal(config.access_log, ACCESS_LOG_ON);
	assert_string_equal(address_format(&config.metrics_address.address, text), "fd00::1");
	assert_int_equal(config.metrics_address.port, 9100);
	assert_int_equal(config.dial_timeout_ns, SECOND / 2);
	assert_int_equal(config.handshake_timeout_ns, 120 * SECOND);
	assert_int_equal(config.tombstone_ns, 3600 * SECOND);
	assert_int_equal(config.max_connections, 1000);
	assert_int_equal(config.max_gateway_connections, 600);
	assert_true(config.memory_budget == 512u << 20);
	assert_true(config.idle_timeout_ns == 300 * SECOND);
	assert_true(config.watchdog_ns == 0);
	assert_int_equal(config.max_handshakes, 10);
	assert_int_equal(config.max_destinations, 64);
	config_free(&config);
}

static void the_command_line_wins_and_lists_grow(void **state)
{
	const char *const words[] = {
	        "--workers=5",
	        "--ktls",
	        "auto",
	        "--gateway",
	        "third,mode=observe,cgroup=/third,gatewayRef=shop/a,netns=/proc/1/ns/net,gatewayRef=b/c.d",
	        "--cluster-cidr=192.168.0.0/16",
	        "--manifests=relative/dir",
	        NULL};
	struct config config;
	char error[CONFIG_ERROR_MAX];

	(void)state;
	if (parse(whole_file, words, &config, error) != CONFIG_RUN)
		fail_msg("%s", error);
	assert_int_equal(config.workers, 5);
	assert_int_equal(config.ktls, SWITCH_AUTO);
	assert_int_equal(config.lane, SWITCH_OFF); /* the file's */
	assert_string_equal(config.manifests, "relative/dir");
	assert_int_equal(config.gateways.count, 3);
	assert_string_equal(config.gateways.at[2].name, "third");
	assert_string_equal(config.gateways.at[2].cgroup, "/third");
	assert_string_equal(config.gateways.at[2].netns, "/proc/1/ns/net");
	assert_int_equal(config.gateways.at[2].mode, POSTERN_MODE_OBSERVE);
	assert_int_equal(config.gateways.at[2].ref_count, 2);
	assert_string_equal(config.gateways.at[2].refs[0].namespace_, "shop");
	assert_string_equal(config.gateways.at[2].refs[0].name, "a");
	assert_string_equal(config.gateways.at[2].refs[1].namespace_, "b");
	assert_string_equal(config.gateways.at[2].refs[1].name, "c.d");
	assert_int_equal(config.cluster_cidrs.count, 3);
	config_free(&config);
}

static void what_is_to_be_done(void **state)
{
	static const struct {
		const char *words[4];
		int result;
	} rows[] = {
	        {{NULL}, CONFIG_RUN},
	        {{"--help"}, CONFIG_HELP},
	        {{"-h"}, CONFIG_HELP},
	        {{"--version"}, CONFIG_VERSION},
	        {{"-V"}, CONFIG_VERSION},
	        {{"--check-config"}, CONFIG_CHECK},
	        {{"--check-config", "--workers", "2"}, CONFIG_CHECK},
	        {{"--check-config", "--workers", "many"}, -EINVAL},
	        {{"--check-config", "--help"}, CONFIG_HELP},
	        {{"--workers", "many", "--help"}, CONFIG_HELP}, /* help for whoever is in trouble */
	        {{"--nonsense", "--help"}, -EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct config config;
		char error[CONFIG_ERROR_MAX];
		int seen = parse("", rows[i].words, &config, error);

		if (seen != rows[i].result)
			fail_msg("row %zu: expected %d, seen %d (%s)", i, rows[i].result, seen, error);
		config_free(&config);
	}
}

static void missing_files(void **state)
{
	const char *const named[] = {"posternd", "--config", "/nonexistent/postern.yaml"};
	const char *const directory[] = {"posternd", "--config", "/"};
	struct config config;
	char error[CONFIG_ERROR_MAX];

	(void)state;
	assert_int_equal(config_parse(3, named, &config, error, sizeof(error)), -ENOENT);
	assert_string_equal(error, "/nonexistent/postern.yaml: No such file or directory");
	assert_null(config.run_dir);
	assert_int_equal(config_parse(3, directory, &config, error, sizeof(error)), -EINVAL);
	assert_string_equal(error, "/: is not a regular file");
	if (access(CONFIG_DEFAULT_FILE, F_OK) == 0)
		return; /* somebody's own configuration lies there: it is not ours to judge */
	assert_int_equal(config_parse(1, named, &config, error, sizeof(error)), CONFIG_RUN);
	assert_null(config.file);
	config_free(&config);
}

/* A FIFO that nobody writes must be refused at once, not waited for. */
static void fifo_is_refused(void **state)
{
	char path[80];
	const char *const argv[] = {"posternd", "--config", path};
	struct config config;
	char error[CONFIG_ERROR_MAX];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s.fifo", file);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(config_parse(3, argv, &config, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "is not a regular file"));
	assert_int_equal(unlink(path), 0);
}

static void bad_files(void **state)
{
	static const struct {
		const char *yaml;
		const char *message; /* after "FILE: " */
	} rows[] = {
	        {"colour: red\n", "\"colour\": unknown key; `posternd --help` lists them"},
	        {"\"a\\e[31m\": 1\n", "\"a\\x1b[31m\": unknown key; `posternd --help` lists them"},
	        {"- manifests\n", "must be a mapping of settings, not a list"},
	        {"just text\n", "must be a mapping of settings, not a string"},
	        {"workers: 1\n---\nworkers: 2\n", "holds 2 documents; one is meant"},
	        {"workers: many\n", "workers: must be an integer, not a string"},
	        {"workers: \"2\"\n", "workers: must be an integer, not a string"},
	        {"workers: 2.5\n", "workers: must be an integer, not a fraction"},
	        {"workers:\n", "workers: must be an integer, not nothing"},
	        {"workers: true\n", "workers: must be an integer, not a boolean"},
	        {"workers: 33\n", "workers: \"33\" is out of range (0 to 32)"},
	        {"workers: -1\n", "workers: \"-1\" is not a decimal number"},
	        {"workers: {a: 1}\n", "workers: must be an integer, not a mapping"},
	        {"maxConnections: 0\n", "maxConnections: \"0\" is out of range (1 to 1048576)"},
	        {"memoryBudget: 12MB\n", "memoryBudget: \"12MB\" has no unit of Ki, Mi or Gi"},
	        {"memoryBudget: lots\n", "memoryBudget: \"lots\" is not a size like 512Mi or 2Gi"},
	        {"memoryBudget: 8Mi\n", "memoryBudget: \"8Mi\" is out of range (16777216 to 4398046511104 bytes)"},
	        {"memoryBudget: 18014398509481984Ki\n",
	         "memoryBudget: \"18014398509481984Ki\" is out of range (16777216 to 4398046511104 bytes)"},
	        {"memoryBudget: 1024\n", "memoryBudget: \"1024\" is out of range (16777216 to 4398046511104 bytes)"},
	        {"memoryBudget: true\n", "memoryBudget: must be a string, not a boolean"},
	        {"idleTimeout: 48h\n", "idleTimeout: \"48h\" is out of range (0s to 24h)"},
	        {"manifests: 12\n", "manifests: must be a string, not an integer"},
	        {"manifests: \"a\\u0001b\"\n", "manifests: \"a\\x01b\" has a control character"},
	        {"manifests: \"a\\0b\"\n", NULL}, /* the YAML reader's or ours, but refused */
	        {"runDir: run\n", "runDir: \"run\" must be an absolute path"},
	        {"runDir: ''\n", "runDir: must not be empty"},
	        {"bpffs: /sys/fs/bpf/../x\n", "bpffs: \"/sys/fs/bpf/../x\" must not contain \"..\""},
	        {"agentCgroup: own\n", "agentCgroup: \"own\" must be an absolute path"},
	        {"coverage: lax\n", "coverage: \"lax\" is not one of standard|strict"},
	        {"ktls: on\n", "ktls: \"on\" is not one of auto|off"},
	        {"lane: require\n", "lane: \"require\" is not one of auto|off"},
	        {"logFormat: xml\n", "logFormat: \"xml\" is not one of logfmt|json"},
	        {"accessLog: maybe\n", "accessLog: \"maybe\" is not one of off|on"},
	        {"metricsAddress: 9905\n", "metricsAddress: must be a string, not an integer"},
	        {"metricsAddress: ':9905'\n",
	         "metricsAddress: \":9905\" is not an address and a port like 127.0.0.1:9905 or [::1]:9905"},
	        {"metricsAddress: localhost:9905\n",
	         "metricsAddress: \"localhost:9905\" is not an address and a port like 127.0.0.1:9905 or [::1]:9905"},
	        {"metricsAddress: '::1:9905'\n",
	         "metricsAddress: \"::1:9905\" is not an address and a port like 127.0.0.1:9905 or [::1]:9905"},
	        {"metricsAddress: '[127.0.0.1]:9905'\n",
	         "metricsAddress: \"[127.0.0.1]:9905\" is not an address and a port like 127.0.0.1:9905 or [::1]:9905"},
	        {"metricsAddress: 127.0.0.1:0\n", "metricsAddress: \"127.0.0.1:0\": ports lie between 1 and 65535"},
	        {"metricsAddress: 127.0.0.1:65536\n",
	         "metricsAddress: \"127.0.0.1:65536\": ports lie between 1 and 65535"},
	        {"metricsAddress: 127.0.0.1\n",
	         "metricsAddress: \"127.0.0.1\" is not an address and a port like 127.0.0.1:9905 or [::1]:9905"},
	        {"logLevel: loud\n", "logLevel: \"loud\" is not one of error|warning|info|debug"},
	        {"dialTimeout: 10\n", "dialTimeout: must be a string, not an integer"},
	        {"dialTimeout: 10 s\n", "dialTimeout: \"10 s\" has no unit of ms, s, m or h"},
	        {"dialTimeout: 0s\n", "dialTimeout: \"0s\" is out of range (1ms to 1h)"},
	        {"tombstone: forever\n", "tombstone: \"forever\" is not a duration like 500ms, 10s or 2m"},
	        {"ports: 8080\n", "ports: must be a string, not an integer"},
	        {"ports: 9000-8000\n",
	         "ports: \"9000-8000\": ports lie between 1 and 65535, the first not above the last"},
	        {"ports: 0-8000\n", "ports: \"0-8000\": ports lie between 1 and 65535, the first not above the last"},
	        {"ports: 1-65536\n", "ports: \"1-65536\": ports lie between 1 and 65535, the first not above the last"},
	        {"ports: a-b\n", "ports: \"a-b\" is not a port range like 28100-28999"},
	        {"clusterCIDRs: 10.0.0.0/8\n", "clusterCIDRs: must be a list, not a string"},
	        {"clusterCIDRs:\n", "clusterCIDRs: must be a list, not nothing"},
	        {"clusterCIDRs: [10.0.0.0/8, 7]\n", "clusterCIDRs[1]: must be a string, not an integer"},
	        {"clusterCIDRs: [10.0.0.1/8]\n", "clusterCIDRs[0]: \"10.0.0.1/8\" is not a CIDR like 10.96.0.0/12 or "
	                                         "fd00:10:96::/112, without host bits"},
	        {"gateways: {name: a, cgroup: /a}\n", "gateways: must be a list, not a mapping"},
	        {"gateways: [a]\n", "gateways[0]: must be a mapping with name and cgroup, not a string"},
	        {"gateways: [{cgroup: /a}]\n", "gateways[0].name: is required"},
	        {"gateways: [{name: a}]\n", "gateways[0].cgroup: is required"},
	        {"gateways: [{name: '', cgroup: /a}]\n", "gateways[0].name: must not be empty"},
	        {"gateways: [{name: 'a b', cgroup: /a}]\n",
	         "gateways[0].name: \"a b\": only letters, digits, '.', '_', '-' and '/' are allowed"},
	        {"gateways: [{name: ../a, cgroup: /a}]\n", "gateways[0].name: \"../a\" must begin and end with a "
	                                                   "letter or digit, without \"//\" or \"..\" in it"},
	        {"gateways: [{name: a, cgroup: system.slice}]\n",
	         "gateways[0].cgroup: \"system.slice\" must be an absolute path"},
	        {"gateways: [{name: a, cgroup: /a/../b}]\n", "gateways[0].cgroup: \"/a/../b\" must not contain \"..\""},
	        {"gateways: [{name: a, cgroup: /a, netns: blue}]\n",
	         "gateways[0].netns: \"blue\" must be an absolute path"},
	        {"gateways: [{name: a, cgroup: /a, netns: ''}]\n", "gateways[0].netns: must not be empty"},
	        {"gateways: [{name: a, cgroup: /a, mode: permissive}]\n",
	         "gateways[0].mode: \"permissive\" is not one of enforce, observe"},
	        {"gateways: [{name: a, cgroup: /a, netnS: /x}]\n",
	         "gateways[0]: unknown key \"netnS\"; known are name, cgroup, netns, mode, gatewayRefs"},
	        {"gateways: [{name: a, cgroup: /a, gatewayRefs: shop/edge}]\n",
	         "gateways[0].gatewayRefs: must be a list, not a string"},
	        {"gateways: [{name: a, cgroup: /a, gatewayRefs: [shop/edge, 4]}]\n",
	         "gateways[0].gatewayRefs[1]: must be a string, not an integer"},
	        {"gateways: [{name: a, cgroup: /a, gatewayRefs: [edge]}]\n",
	         "gateways[0].gatewayRefs[0]: \"edge\" is not the namespace/name of a Gateway"},
	        {"gateways: [{name: a, cgroup: /a, gatewayRefs: [shop/Edge]}]\n",
	         "gateways[0].gatewayRefs[0]: \"shop/Edge\" is not the namespace/name of a Gateway"},
	        {"gateways: [{name: a, cgroup: /a, gatewayRefs: [shop/edge, shop/edge]}]\n",
	         "gateways[0].gatewayRefs[1]: \"shop/edge\" is given twice"},
	        {"gateways: [{name: a, cgroup: 4}]\n", "gateways[0].cgroup: must be a string, not an integer"},
	        {"gateways: [{name: a, cgroup: /a}, {name: a, cgroup: /b}]\n",
	         "gateways[1].name: there is a gateway \"a\" already"},
	        {"gateways: [{name: a, cgroup: /a}, {name: b, cgroup: /a}]\n",
	         "gateways[1].cgroup: is the cgroup of gateway \"a\", too"},
	        /* What the YAML reader refuses: its words, our file name. */
	        {"workers: 1\nworkers: 2\n", NULL},
	        {"workers: [1\n", NULL},
	        {"a: &x 1\nb: *x\n", NULL},
	        {"\tworkers: 1\n", NULL},
	        {"workers: \xff\xfe\n", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct config config;
		char error[CONFIG_ERROR_MAX];
		char expected[CONFIG_ERROR_MAX];
		int seen = parse(rows[i].yaml, NULL, &config, error);

		(void)snprintf(expected, sizeof(expected), "%s: %s", file, rows[i].message ? rows[i].message : "");
		if (seen != -EINVAL ||
		    (rows[i].message ? strcmp(error, expected) != 0 : strncmp(error, expected, strlen(expected)) != 0))
			fail_msg("%s\nexpected %d \"%s\"\nseen     %d \"%s\"", rows[i].yaml, -EINVAL, expected, seen,
			         error);
		/* Nothing half-applied. */
		assert_null(config.run_dir);
		assert_null(config.gateways.at);
	}
}

static void bad_flags(void **state)
{
	static const struct {
		const char *words[5];
		const char *message;
	} rows[] = {
	        {{"start"}, "command line: \"start\": is no flag; see --help"},
	        {{""}, "command line: \"\": is no flag; see --help"},
	        {{"-x"}, "command line: \"-x\": is no flag; see --help"},
	        {{"--"}, "command line: \"--\": unknown flag; see --help"},
	        {{"--colour", "red"}, "command line: \"--colour\": unknown flag; see --help"},
	        {{"--worker", "2"}, "command line: \"--worker\": unknown flag; see --help"}, /* no abbreviations */
	        {{"--workers"}, "command line: \"--workers\": needs a value"},
	        {{"--config"}, "command line: \"--config\": needs a value"},
	        {{"--config="}, "command line: \"--config=\": needs the name of a file"},
	        {{"--workers", "+1"}, "command line: --workers: \"+1\" is not a decimal number"},
	        {{"--workers", "0x2"}, "command line: --workers: \"0x2\" is not a decimal number"},
	        {{"--workers", "02"}, "command line: --workers: \"02\" is not a decimal number"},
	        {{"--workers="}, "command line: --workers: \"\" is not a decimal number"},
	        {{"--workers", "99999999999999999999"},
	         "command line: --workers: \"99999999999999999999\" is out of range (0 to 32)"},
	        {{"--dial-timeout", "99999999999999999999h"},
	         "command line: --dial-timeout: \"99999999999999999999h\" is out of range (1ms to 1h)"},
	        {{"--dial-timeout", "18446744073709551615h"},
	         "command line: --dial-timeout: \"18446744073709551615h\" is out of range (1ms to 1h)"},
	        {{"--gateway", "a"}, "command line: --gateway: cgroup: is required"},
	        {{"--gateway", ",cgroup=/a"}, "command line: --gateway: name: must not be empty"},
	        {{"--gateway", "a,cgroup=/a,cgroup=/b"}, "command line: --gateway: cgroup is given twice"},
	        {{"--gateway", "a,cgroup=/a,colour=red"},
	         "command line: --gateway: \"colour\" is not one of cgroup=PATH, netns=PATH, mode=enforce|observe, "
	         "gatewayRef=NAMESPACE/NAME"},
	        {{"--gateway", "a,cgroup=/a,gatewayRef=b"},
	         "command line: --gateway: gatewayRefs[0]: \"b\" is not the namespace/name of a Gateway"},
	        {{"--system-ca", "ca.pem"}, "command line: --system-ca: \"ca.pem\" must be an absolute path"},
	        {{"--gateway", "a,cgroup=/a,"},
	         "command line: --gateway: \"\" is not one of cgroup=PATH, netns=PATH, mode=enforce|observe, "
	         "gatewayRef=NAMESPACE/NAME"},
	        {{"--gateway", "a,cgroup=/a,netns=run/g"},
	         "command line: --gateway: netns: \"run/g\" must be an absolute path"},
	        {{"--gateway", "a,cgroup=/a", "--gateway", "a,cgroup=/b"},
	         "command line: --gateway: name: there is a gateway \"a\" already"},
	        {{"--cluster-cidr", "everything"},
	         "command line: --cluster-cidr: \"everything\" is not a CIDR like 10.96.0.0/12 or fd00:10:96::/112, "
	         "without host bits"},
	        {{"--workers", "4", "--ports", "100-106"},
	         "ports: 100-106 are 7 ports outside the NodePort range: 4 workers need 8, two each"},
	        {{"--workers", "4", "--ports", "29999-32770"},
	         "ports: 29999-32770 are 4 ports outside the NodePort range: 4 workers need 8, two each"},
	        {{"--agent-cgroup", "/a", "--gateway", "a,cgroup=/a"},
	         "agentCgroup: is the cgroup of gateway \"a\": the agent's own connections would come back to it"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct config config;
		char error[CONFIG_ERROR_MAX];
		int seen = parse("", rows[i].words, &config, error);

		if (seen != -EINVAL || strcmp(error, rows[i].message) != 0)
			fail_msg("row %zu: expected \"%s\"\nseen %d \"%s\"", i, rows[i].message, seen, error);
		assert_null(config.run_dir);
	}
}

/* A duplicate between file and command line is found, too. */
static void duplicate_across_file_and_flag(void **state)
{
	const char *const words[] = {"--gateway", "shop/edge,cgroup=/other", NULL};
	struct config config;
	char error[CONFIG_ERROR_MAX];

	(void)state;
	assert_int_equal(parse(whole_file, words, &config, error), -EINVAL);
	assert_string_equal(error, "command line: --gateway: name: there is a gateway \"shop/edge\" already");
}

static void absurd_sizes(void **state)
{
	const size_t size = 3u << 20;
	_cleanup_free_ char *text = malloc(size + 1);
	struct config config;
	char error[CONFIG_ERROR_MAX];
	const char *const argv[] = {"posternd", "--config", file};
	size_t used;

	(void)state;
	assert_non_null(text);
	memset(text, '#', size);
	write_file(text, size);
	assert_int_equal(config_parse(3, argv, &config, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "is larger than 1048576 bytes"));

	/* One gateway more than there may be. */
	used = (size_t)sprintf(text, "gateways:\n");
	for (int i = 0; i <= POSTERN_MAX_SERVED; i++)
		used += (size_t)sprintf(text + used, "- {name: g%d, cgroup: /g%d}\n", i, i);
	write_file(text, used);
	assert_int_equal(config_parse(3, argv, &config, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "gateways[254]: more than 254 gateways"));

	used = (size_t)sprintf(text, "clusterCIDRs:\n");
	for (int i = 0; i <= POSTERN_MAX_CIDRS; i++)
		used += (size_t)sprintf(text + used, "- 10.%d.%d.0/24\n", i / 256, i % 256);
	write_file(text, used);
	assert_int_equal(config_parse(3, argv, &config, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "clusterCIDRs[256]: more than 256 CIDRs"));

	used = (size_t)sprintf(text, "manifests: /");
	memset(text + used, 'a', 5000);
	strcpy(text + used + 5000, "\n");
	write_file(text, used + 5001);
	assert_int_equal(config_parse(3, argv, &config, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "manifests: is longer than 4095 bytes"));

	/* A path as long as a line of the message buffer does not push the reason out. */
	memset(text, '/', 1000);
	text[1000] = '\0';
	{
		const char *const long_argv[] = {"posternd", "--config", text};

		assert_int_equal(config_parse(3, long_argv, &config, error, sizeof(error)), -EINVAL);
		assert_non_null(strstr(error, "is not a regular file"));
	}

	/* Every byte value as a file. */
	for (int i = 0; i < 256; i++)
		text[i] = (char)i;
	write_file(text, 256);
	assert_int_equal(config_parse(3, argv, &config, error, sizeof(error)), -EINVAL);
}

/* What is shipped as an example is right: from the repository, where the suite runs. */
static void shipped_example(void **state)
{
	const char *const argv[] = {"posternd", "--config", "deploy/postern.yaml"};
	struct config config;
	char error[CONFIG_ERROR_MAX];

	(void)state;
	if (access(argv[2], F_OK) == -1) {
		print_message("[  SKIP    ] %s is not below the working directory\n", argv[2]);
		skip();
	}
	if (config_parse(3, argv, &config, error, sizeof(error)) != CONFIG_RUN)
		fail_msg("%s", error);
	assert_string_equal(config.gateways.at[0].cgroup, "/system.slice/nginx.service");
	assert_int_equal(config.cluster_cidrs.count, 2);
	config_free(&config);
}

static int make_file(void **state)
{
	(void)state;
	strcpy(file, "/tmp/postern-test-config-XXXXXX");
	return mkstemp(file) == -1 ? -1 : 0;
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(defaults),
	        cmocka_unit_test(every_setting_of_the_file),
	        cmocka_unit_test(the_command_line_wins_and_lists_grow),
	        cmocka_unit_test(what_is_to_be_done),
	        cmocka_unit_test(missing_files),
	        cmocka_unit_test(fifo_is_refused),
	        cmocka_unit_test(bad_files),
	        cmocka_unit_test(bad_flags),
	        cmocka_unit_test(duplicate_across_file_and_flag),
	        cmocka_unit_test(absurd_sizes),
	        cmocka_unit_test(shipped_example),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
