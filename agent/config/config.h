/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * config.h: what posternd was told to do: defaults < the YAML file < the command line. One table (settings.c) names
 * each setting once: its flag, its YAML key, its type, its default and its help; --help is printed from the same table.
 *
 * The file is /etc/postern/postern.yaml or --config FILE. A missing default file is fine, a missing named file is an
 * error. Lists (gateways, clusterCIDRs) of the file are added to by the command line, every other setting is replaced.
 * Nothing is guessed: an unknown key, a wrong type, a value out of range is an error that names file or flag, field and
 * reason, and nothing of the configuration is used then.
 *
 * Pure but for reading the file. Any thread.
 */
#ifndef POSTERN_CONFIG_CONFIG_H
#define POSTERN_CONFIG_CONFIG_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/address.h"
#include "base/log.h"
#include "policy/snapshot.h" /* enum switch_setting, struct object_name */
#include "postern/abi.h"

#define CONFIG_DEFAULT_FILE "/etc/postern/postern.yaml"
#define CONFIG_ERROR_MAX    512 /* room for any message of config_parse() */

enum config_source {
	SOURCE_FILES,      /* a directory of manifests */
	SOURCE_KUBERNETES, /* the Kubernetes API */
};

enum config_coverage {
	COVERAGE_STANDARD, /* a miss is HOLD on guarded ports only */
	COVERAGE_STRICT,   /* every miss inside the cluster's CIDRs is HOLD */
};

enum config_access_log {
	ACCESS_LOG_OFF,
	ACCESS_LOG_ON,
};

enum config_after_handover { /* what an agent does that was replaced, and has nothing left */
	                     AFTER_HANDOVER_EXIT,
	                     AFTER_HANDOVER_WAIT, /* until it is told to end: who watches it would start it again */
};

struct config_gateway {
	char *name;
	char *cgroup; /* starts with '/': absolute, or from the cgroup2 mount */
	char *netns;  /* absolute path, or NULL: that of a process of the cgroup */
	enum postern_gateway_mode mode;
	struct object_name *refs; /* the Gateway objects that it serves; none: it shows no Gateway's certificate */
	size_t ref_count;
};

struct config_gateways {
	struct config_gateway *at;
	size_t count;
};

struct config_cidrs {
	struct cidr *at;
	size_t count;
};

struct config_address { /* where the agent listens */
	struct postern_address address;
	uint16_t port; /* host byte order; 0 = nowhere */
};

struct config_ports { /* host byte order, both included */
	uint16_t first;
	uint16_t last;
};

struct config {
	char *file;      /* the file that was read, NULL if none */
	char *manifests; /* directory; "" = no source of manifests */
	enum config_source source;
	char *kubeconfig; /* "" = the service account of this pod */
	char *node_name;  /* whose Pods may be gateways; "" = every Pod of the source */
	char *host_proc;
	char *kubelet_cgroup_root; /* "" = the usual one */
	char *run_dir;
	char *bpffs;
	char *agent_cgroup; /* "" = the agent's own, found at run time */
	char *system_ca;    /* PEM file that wellKnownCACertificates: System stands for; "" = none */
	uint32_t workers;   /* 0 = one per CPU; see config_worker_count() */
	struct config_gateways gateways;
	struct config_cidrs cluster_cidrs;
	enum config_coverage coverage;
	struct config_ports ports;
	enum switch_setting ktls; /* AUTO or OFF, as are lane and splice */
	enum switch_setting lane;
	enum switch_setting splice;
	enum log_level log_level;
	enum log_format log_format;
	enum config_access_log access_log;
	struct config_address metrics_address;
	uint64_t dial_timeout_ns;
	uint64_t handshake_timeout_ns;
	uint64_t tombstone_ns;
	uint64_t drain_timeout_ns;
	enum config_after_handover after_handover;
	uint64_t idle_timeout_ns;         /* 0 = none */
	uint64_t watchdog_ns;             /* 0 = none */
	uint64_t memory_budget;           /* bytes; 0 = found at run time */
	uint32_t max_connections;         /* of all workers together */
	uint32_t max_gateway_connections; /* 0 = three quarters of them, if there are several gateways */
	uint32_t max_handshakes;
	uint32_t max_destinations;
};

enum config_action { /* what config_parse() says is to be done; negative errno apart */
	             CONFIG_RUN = 0,
	             CONFIG_CHECK = 1, /* --check-config: the configuration is right; say so and end */
	             CONFIG_HELP = 2,
	             CONFIG_VERSION = 3,
};

/*
 * An enum config_action with *config filled, or -EINVAL, -ENOENT (the named file), another negative errno of reading
 * it, or -ENOMEM, with a one-line message in error and *config empty. With HELP and VERSION *config holds the defaults
 * only.
 */
int config_parse(int argc, const char *const argv[], struct config *config, char *error, size_t error_size);
/* Frees what the struct holds, not the struct; it is empty afterwards. Idempotent. */
void config_free(struct config *config);

void config_print_help(FILE *stream);

/* The number of workers to start, 1..POSTERN_MAX_WORKERS: the CPUs that this process may use when workers is 0. */
unsigned int config_worker_count(const struct config *config);

const char *config_switch_name(enum switch_setting setting);
const char *config_gateway_mode_name(enum postern_gateway_mode mode);

#endif
