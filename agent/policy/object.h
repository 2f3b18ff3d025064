/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * object.h: Kubernetes objects as typed structs: what the compile step needs of each, nothing more. Made by decode.h,
 * never changed afterwards, reference-counted; control thread only. Strings and arrays live in the object's own arena.
 *
 * Structure is checked when an object is made (types, ports, addresses, names); the values of a BackendTLSPolicy are
 * kept as written, because a policy with a bad value is still a policy: it denies (validate_policy.h).
 */
#ifndef POSTERN_POLICY_OBJECT_H
#define POSTERN_POLICY_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "policy/arena.h"

enum object_kind {
	OBJECT_SERVICE,
	OBJECT_ENDPOINT_SLICE,
	OBJECT_CONFIG_MAP,
	OBJECT_BACKEND_TLS_POLICY,
	OBJECT_GATEWAY,
	OBJECT_GATEWAY_CLASS,
	OBJECT_HTTP_ROUTE,
	OBJECT_GRPC_ROUTE,
	OBJECT_TLS_ROUTE,
	OBJECT_TCP_ROUTE,
	OBJECT_SERVICE_CIDR,
	OBJECT_KINDS,
};

enum transport_protocol {
	TRANSPORT_TCP,
	TRANSPORT_UDP,
	TRANSPORT_SCTP,
};

struct service_port {
	const char *name; /* "" if it has none */
	enum transport_protocol protocol;
	uint16_t port;
	uint16_t target_port;     /* 0: named, resolved in the EndpointSlices only */
	uint16_t node_port;       /* 0: none */
	const char *app_protocol; /* "" if it has none */
};

struct service {
	bool external_name;
	const struct postern_address *cluster_ips; /* none: headless, ExternalName, or not allocated yet */
	size_t cluster_ip_count;
	const struct service_port *ports;
	size_t port_count;
};

struct slice_port {
	const char *name; /* the Service port's name: that is how the two belong together */
	enum transport_protocol protocol;
	uint16_t port; /* 0: null, any port */
};

struct endpoint {
	struct postern_address address;
	bool own_pod; /* targetRef is a Pod of the slice's namespace */
};

struct endpoint_slice {
	const char *service; /* label kubernetes.io/service-name, "" if it has none */
	bool managed;        /* label endpointslice.kubernetes.io/managed-by names Kubernetes' own controller */
	bool fqdn;           /* addressType FQDN: names are no destinations, no endpoints are kept */
	const struct slice_port *ports;
	size_t port_count;
	const struct endpoint *endpoints; /* one per address */
	size_t endpoint_count;
};

struct shared_text;

struct config_map {
	bool has_ca;            /* data["ca.crt"] exists */
	struct shared_text *ca; /* canonical PEM, or NULL: see problem */
	const char *ca_problem; /* why ca.crt cannot be used; never quotes it */
};

struct target_reference {
	const char *group, *kind, *name;
	const char *section_name; /* NULL: the whole Service */
};

struct object_reference {
	const char *group, *kind, *name;
};

struct subject_alt_name_value {
	const char *type;
	const char *hostname; /* NULL if absent, here and below */
	const char *uri;
};

struct option_value {
	const char *key, *value;
};

struct backend_tls_policy {
	const struct target_reference *targets;
	size_t target_count;
	bool has_validation;
	const char *hostname;               /* NULL if absent */
	const char *well_known_ca;          /* wellKnownCACertificates, NULL if absent */
	const struct object_reference *cas; /* caCertificateRefs */
	size_t ca_count;
	const struct subject_alt_name_value *subject_alt_names;
	size_t subject_alt_name_count;
	const struct option_value *options;
	size_t option_count;
};

struct backend_reference { /* to a Service */
	const char *namespace_, *name;
	uint16_t port; /* of the Service; 0: every port */
};

struct route {
	const struct backend_reference *backends; /* of rules and of filters */
	size_t backend_count;
};

struct service_cidr {
	const struct cidr *cidrs;
	size_t cidr_count;
};

#define OBJECT_CREATED_UNKNOWN INT64_MAX /* no creationTimestamp: younger than every object that has one */

struct object {
	enum object_kind kind;
	unsigned int references;
	struct arena arena;
	const char *namespace_; /* "" for cluster-scoped kinds */
	const char *name;
	const char *uid; /* "" if it has none */
	uint64_t generation;
	int64_t created;    /* seconds since the epoch */
	const char *origin; /* where it was read: a file's name; for messages */
	union {
		struct service service;
		struct endpoint_slice endpoint_slice;
		struct config_map config_map;
		struct backend_tls_policy backend_tls_policy;
		struct route route; /* the four kinds of Route */
		struct service_cidr service_cidr;
	};
};

/* One reference, or NULL. */
struct object *object_new(enum object_kind kind);
struct object *object_ref(struct object *object);
void object_unref(struct object *object); /* NULL-safe */

/* "Service", "BackendTLSPolicy"... */
const char *object_kind_name(enum object_kind kind);
bool object_kind_is_namespaced(enum object_kind kind);

/* By namespace, then name. */
int object_compare(const struct object *left, const struct object *right);

#endif
