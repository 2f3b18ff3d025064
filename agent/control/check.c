/* SPDX-License-Identifier: GPL-2.0-only */
#include "control/check.h"

#include <stdio.h>
#include <string.h>

#include "base/loop.h"
#include "config/config.h"
#include "control/system_ca.h"
#include "policy/compile.h"
#include "policy/snapshot.h"
#include "source/files.h"

static int check_policies(const struct snapshot *snapshot)
{
	int status = 0;

	for (size_t i = 0; i < snapshot_policy_count(snapshot); i++) {
		const struct policy_status *policy = snapshot_policy_at(snapshot, i);
		const struct policy_condition *conditions[] = {&policy->accepted, &policy->resolved_refs};
		const char *const names[] = {"Accepted", "ResolvedRefs"};

		for (size_t j = 0; j < 2; j++) {
			if (conditions[j]->status)
				continue;
			fprintf(stderr, "BackendTLSPolicy %s/%s: %s is False (%s): %s\n", policy->namespace_,
			        policy->name, names[j], conditions[j]->reason, conditions[j]->message);
			status = 2;
		}
	}
	return status;
}

/* A data plane that serves such a Gateway dials nothing that is covered. */
static int check_gateways(const struct snapshot *snapshot)
{
	int status = 0;

	for (size_t i = 0; i < snapshot_gateway_count(snapshot); i++) {
		const struct gateway_status *gateway = snapshot_gateway_at(snapshot, i);

		if (!gateway->has_reference || gateway->client_certificate)
			continue;
		fprintf(stderr, "Gateway %s/%s: ResolvedRefs is False (%s): %s\n", gateway->namespace_, gateway->name,
		        gateway->resolved_refs.reason, gateway->resolved_refs.message);
		status = 2;
	}
	return status;
}

/* What has no effect is no error, and worth a line. */
static void print_notes(const struct files_source *source)
{
	for (size_t i = 0; i < files_source_note_count(source); i++)
		fprintf(stderr, "note: %s\n", files_source_note_at(source, i));
}

int check_config(const struct config *config)
{
	struct settings_registry *registry = settings_registry_new();
	struct compile_options options = {
	        .cluster_cidrs = config->cluster_cidrs.at,
	        .cluster_cidr_count = config->cluster_cidrs.count,
	        .operators_own = true,
	        .now_ns = monotonic_ns(),
	        .tombstone_ns = config->tombstone_ns,
	        .registry = registry,
	};
	struct files_source *source = NULL;
	struct system_ca system_ca;
	struct snapshot *snapshot = NULL;
	int status = 0;
	int error = registry ? 0 : -1;

	system_ca_init(&system_ca, config->system_ca);
	(void)system_ca_refresh(&system_ca);
	options.system_ca = system_ca.bundle;
	if (system_ca.problem[0])
		fprintf(stderr, "note: systemCA: %s: %s\n", system_ca.path, system_ca.problem);
	if (!error && config->manifests[0]) {
		error = files_source_open(config->manifests, &source);
		if (error)
			fprintf(stderr, "%s: %s\n", config->manifests, strerror(-error));
	}
	if (!error && source) {
		for (size_t i = 0; i < files_source_error_count(source); i++) {
			const struct source_error *bad = files_source_error_at(source, i);

			fprintf(stderr, "%s: %s\n", bad->object, bad->message);
			status = 2;
		}
		print_notes(source);
		error = compile_snapshot(files_source_store(source), &options, NULL, &snapshot);
		if (error)
			fprintf(stderr, "compile: %s\n", strerror(-error));
	}
	if (error)
		status = 2;
	if (snapshot && check_policies(snapshot) != 0)
		status = 2;
	if (snapshot && check_gateways(snapshot) != 0)
		status = 2;
	if (status == 0)
		printf("configuration is valid: %zu destinations, %zu policies\n",
		       snapshot ? snapshot_destination_count(snapshot) : 0,
		       snapshot ? snapshot_policy_count(snapshot) : 0);
	snapshot_unref(snapshot);
	files_source_close(source);
	system_ca_free(&system_ca);
	settings_registry_free(registry);
	return status;
}
