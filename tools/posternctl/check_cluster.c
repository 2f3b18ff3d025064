/* SPDX-License-Identifier: GPL-2.0-only */
#include "check_cluster.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/loop.h"
#include "kubernetes/client.h"
#include "kubernetes/credentials.h"
#include "posternctl.h"
#include "source/assemble.h"
#include "source/kubernetes.h"
#include "terminal.h"

#define STEP_MS 100

struct cluster {
	struct loop *loop;
	struct kubernetes_credentials *credentials;
	struct kubernetes_client *client;
	struct source *source;
};

/* The source tells of changes; they are looked at between two steps of the loop. */
static void ignore_change(void *context)
{
	(void)context;
}

static void ignore_time(void *context, uint64_t as_of_ns, enum source_scope scope)
{
	(void)context;
	(void)as_of_ns;
	(void)scope;
}

static void complain(const char *what)
{
	_cleanup_free_ char *safe = terminal_safe(what, NULL);

	fprintf(stderr, "posternctl: %s\n", safe);
}

/* As kubectl finds it; only the first file of a list. */
static const char *usual_kubeconfig(char path[static PATH_MAX])
{
	const char *named = getenv("KUBECONFIG"), *home = getenv("HOME");

	if (named && named[0]) {
		(void)snprintf(path, PATH_MAX, "%.*s", (int)strcspn(named, ":"), named);
		return path;
	}
	if (home && snprintf(path, PATH_MAX, "%s/.kube/config", home) < PATH_MAX && access(path, R_OK) == 0)
		return path;
	return "";
}

static int open_source(struct cluster *cluster, const char *kubeconfig)
{
	const struct source_events events = {.changed = ignore_change, .current = ignore_time};
	struct kubernetes_source_options options = {.node_name = "", .events = events};
	char path[PATH_MAX], message[512];
	int error = loop_new(&cluster->loop);

	if (error)
		return error;
	error = kubernetes_credentials_open(kubeconfig ? kubeconfig : usual_kubeconfig(path), NULL,
	                                    &cluster->credentials, message, sizeof(message));
	if (error) {
		complain(message);
		return error;
	}
	error = kubernetes_client_new(cluster->loop, cluster->credentials, &cluster->client);
	options.loop = cluster->loop;
	options.client = cluster->client;
	if (!error)
		error = kubernetes_source_open(&options, &cluster->source);
	if (error)
		complain(strerror(-error));
	return error;
}

/* A Role that allows less than all gives errors, and what is allowed. */
static int report_errors(const struct source *source, struct findings *findings)
{
	for (size_t i = 0; i < source_error_count(source); i++) {
		const struct source_error *error = source_error_at(source, i);

		if (findings_add_error(findings, error->object, error->message) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int read_all(struct cluster *cluster, long long limit_ms, struct findings *findings)
{
	uint64_t until = monotonic_ns() + (uint64_t)limit_ms * 1000000;
	int error = 0;

	while (!error && !source_synced(cluster->source) && monotonic_ns() < until) {
		error = loop_step(cluster->loop, STEP_MS);
		(void)source_refresh(cluster->source, false);
	}
	(void)source_refresh(cluster->source, false);
	if (!error)
		error = report_errors(cluster->source, findings);
	if (!error && !source_synced(cluster->source))
		error = findings_add_error(findings, kubernetes_credentials_server(cluster->credentials),
		                           "not everything could be read in time; what was is judged");
	return error;
}

int cluster_read(const char *kubeconfig, long long limit_ms, struct findings *findings, struct cluster **result)
{
	struct cluster *cluster = calloc(1, sizeof(*cluster));
	int error;

	/* What could not be read is among the findings; the source's log would say it once more, and much besides. */
	log_set_level(LOG_LEVEL_ERROR);
	error = cluster ? open_source(cluster, kubeconfig) : -ENOMEM;

	if (!error)
		error = read_all(cluster, limit_ms, findings);
	if (error) {
		cluster_close(cluster);
		return EXIT_USAGE;
	}
	*result = cluster;
	return 0;
}

const struct object_store *cluster_store(const struct cluster *cluster)
{
	return source_store(cluster->source);
}

void cluster_close(struct cluster *cluster)
{
	if (!cluster)
		return;
	source_close(cluster->source);
	kubernetes_client_free(cluster->client);
	kubernetes_credentials_close(cluster->credentials);
	loop_free(cluster->loop);
	free(cluster);
}
