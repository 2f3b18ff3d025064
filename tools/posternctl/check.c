/* SPDX-License-Identifier: GPL-2.0-only */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "agent_client.h"
#include "base/cleanup.h"
#include "base/loop.h"
#include "check_cluster.h"
#include "policy/ca_bundle.h"
#include "policy/compile.h"
#include "policy/object.h"
#include "policy/shared_text.h"
#include "policy/store.h"
#include "posternctl.h"
#include "print.h"
#include "source/load.h"
#include "source/stable_read.h"
#include "terminal.h"

#define SYSTEM_CA_MAX    (16u << 20)
#define CLUSTER_LIMIT_MS 60000

const char check_help[] =
        "FILE is a manifest (YAML or JSON), a directory of manifests, or - for standard input. Give it what the\n"
        "policies refer to, too: Services, EndpointSlices, ConfigMaps, Secrets, Gateways, Routes.\n"
        "  posternctl check policies/\n"
        "  kubectl get backendtlspolicies,services,endpointslices,configmaps -A -o yaml | posternctl check -\n"
        "  posternctl check --from-cluster [--kubeconfig FILE]\n"
        "reads the objects of a cluster instead, which takes get, list and watch; before anything is installed it "
        "says\n"
        "what would be covered, and how many endpoints are ambiguous.\n"
        "It takes neither privileges nor an agent, and touches nothing. It prints of each policy its verdict, the\n"
        "Services and addresses that it covers, identity, CA certificates and settings; then what becomes of each\n"
        "destination: TLS, PLAIN (no policy covers it) or DENY (refused).\n"
        "\n"
        "Exit status: 0 every policy is accepted; 1 some is not, a Gateway's client certificate cannot be used, or\n"
        "handshakes will fail: no CA certificate is valid now, a CRL or client certificate has expired; 2 input\n"
        "that cannot be used (the rest is judged all the same), or wrong usage.\n";

struct check {
	const struct options *options;
	struct cidr *cidrs;
	struct loaded_manifests manifests;
	struct cluster *cluster;          /* NULL: the manifests are judged */
	const struct object_store *store; /* of either */
	struct shared_text *system_ca;
	struct settings_registry *registry;
	struct snapshot *snapshot;
};

static void release(struct check *check)
{
	snapshot_unref(check->snapshot);
	settings_registry_free(check->registry);
	shared_text_unref(check->system_ca);
	cluster_close(check->cluster);
	manifests_unload(&check->manifests);
	free(check->cidrs);
}

static int complain(const char *what, const char *why)
{
	_cleanup_free_ char *safe = terminal_safe(what, NULL);

	fprintf(stderr, "posternctl: %s: %s\n", safe, why);
	return EXIT_USAGE;
}

static int parse_cidrs(struct check *check)
{
	const struct options *options = check->options;

	check->cidrs = calloc(options->cluster_cidr_count + 1, sizeof(*check->cidrs));
	if (!check->cidrs)
		return -ENOMEM;
	for (size_t i = 0; i < options->cluster_cidr_count; i++)
		if (cidr_parse(options->cluster_cidrs[i], &check->cidrs[i]) < 0)
			return complain(options->cluster_cidrs[i],
			                "no CIDR: such as 10.96.0.0/12 or fd00::/16, without host bits");
	return 0;
}

static bool asks_for_system_ca(const struct object_store *store)
{
	for (size_t i = 0; i < object_store_count(store, OBJECT_BACKEND_TLS_POLICY); i++) {
		const char *known =
		        object_store_at(store, OBJECT_BACKEND_TLS_POLICY, i)->backend_tls_policy.well_known_ca;

		if (known && !strcmp(known, "System"))
			return true;
	}
	return false;
}

/* A store that is asked for and cannot be read is one more error of the input. */
static int load_system_ca(struct check *check)
{
	const char *path = check->options->system_ca;
	_cleanup_free_ char *text = NULL;
	char problem[160] = "";
	struct stat status;
	size_t size, left_out;
	int result;

	if (!asks_for_system_ca(check->store))
		return 0;
	result = stable_read(AT_FDCWD, path, SYSTEM_CA_MAX, &text, &size, &status);
	if (result == 0 || result == -EBUSY)
		result = ca_bundle_parse_system(text, size, &check->system_ca, &left_out, problem, sizeof(problem));
	if (result == 0 || result == -ENOMEM)
		return result;
	return findings_add_error(&check->manifests.findings, path, problem[0] ? problem : strerror(-result));
}

static int compile(struct check *check)
{
	const struct compile_options options = {
	        .cluster_cidrs = check->cidrs,
	        .cluster_cidr_count = check->options->cluster_cidr_count,
	        .operators_own = !check->cluster,
	        .system_ca = check->system_ca,
	        .now_ns = monotonic_ns(),
	        .registry = check->registry = settings_registry_new(),
	};

	return check->registry ? compile_snapshot(check->store, &options, NULL, &check->snapshot) : -ENOMEM;
}

static int load(struct check *check)
{
	int result;

	if (check->cluster) {
		check->store = cluster_store(check->cluster);
		return 0;
	}
	result = manifests_load(check->options->operands, check->options->operand_count, &check->manifests);
	check->store = check->manifests.store;
	return result;
}

/* -ENOMEM, or a document. */
static int judge(struct check *check, json_t **document)
{
	struct check_input input = {.system_ca_path = check->options->system_ca, .now = time(NULL)};

	if (load(check) < 0 || load_system_ca(check) < 0 || compile(check) < 0)
		return -ENOMEM;
	input.store = check->store;
	input.findings = &check->manifests.findings;
	input.snapshot = check->snapshot;
	input.system_ca = check->system_ca;
	*document = check_document(&input);
	return *document ? 0 : -ENOMEM;
}

/*
 * A policy by Accepted alone: a reference of several that cannot be used leaves it in force with those that can. A
 * Gateway that refers to a client certificate has one condition, and without the certificate it is not served.
 */
bool check_passes(const json_t *object)
{
	const json_t *condition = json_array_get(json_object_get(object, "conditions"), 0);

	return (!condition || strcmp(text_of(condition, "status"), "True") == 0) &&
	       json_array_size(json_object_get(object, "errors")) == 0;
}

static bool all_pass(const json_t *objects)
{
	size_t index;
	json_t *object;

	json_array_foreach (objects, index, object)
		if (!check_passes(object))
			return false;
	return true;
}

static int exit_status(const json_t *document)
{
	if (json_array_size(json_object_get(document, "errors")))
		return EXIT_USAGE;
	if (all_pass(json_object_get(document, "policies")) && all_pass(json_object_get(document, "gateways")))
		return EXIT_FINE;
	return EXIT_WRONG;
}

static void print_errors(const json_t *errors)
{
	size_t index;
	json_t *error;

	json_array_foreach (errors, index, error) {
		_cleanup_free_ char *message = terminal_safe(text_of(error, "message"), NULL);

		(void)complain(text_of(error, "object"), message);
	}
}

/* 0, or an exit status after a message. */
static int read_cluster(struct check *check)
{
	long long limit_ms;

	if (!check->options->from_cluster)
		return 0;
	if (check->options->operand_count) {
		fprintf(stderr, "posternctl: check takes either FILEs or --from-cluster\n");
		return EXIT_USAGE;
	}
	if (!timeout_of(check->options->timeout, CLUSTER_LIMIT_MS, &limit_ms))
		return EXIT_USAGE;
	return cluster_read(check->options->kubeconfig, limit_ms, &check->manifests.findings, &check->cluster);
}

/* Endpoints that several Services share under different policies: what a gateway that dials Pods would be refused. */
static size_t count_ambiguous(const json_t *document)
{
	const json_t *destination;
	size_t index, count = 0;

	json_array_foreach (json_object_get(document, "destinations"), index, destination)
		count += strcmp(text_of(destination, "reason"), CHECK_AMBIGUOUS) == 0;
	return count;
}

int command_check(const struct options *options)
{
	_cleanup_(release) struct check check = {.options = options};
	json_t *document = NULL;
	int result;

	if (options->operand_count == 0 && !options->from_cluster) {
		fprintf(stderr, "posternctl: check needs a FILE, or --from-cluster; see posternctl help check\n");
		return EXIT_USAGE;
	}
	result = parse_cidrs(&check);
	if (result == 0)
		result = read_cluster(&check);
	if (result == 0)
		result = judge(&check, &document);
	if (result < 0)
		return complain("check", strerror(-result));
	if (result > 0)
		return result;
	result = exit_status(document);
	print_errors(json_object_get(document, "errors"));
	if (options->json)
		return print_json(options, document) == EXIT_FINE ? result : EXIT_USAGE;
	print_check_page(document);
	if (options->from_cluster)
		printf("ambiguous endpoints: %zu%s\n", count_ambiguous(document),
		       json_array_size(json_object_get(document, "errors")) ? " in what could be read" : "");
	json_decref(document);
	return result;
}
