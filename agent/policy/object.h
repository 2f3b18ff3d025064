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
	OBJECT_SECRET,
	OBJECT_CLUSTER_TRUST_BUNDLE,
	OBJECT_REFERENCE_GRANT,
	OBJECT_POD,
	OBJECT_NODE,
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
	const struct postern_address *external_ips; /* spec.externalIPs and status.loadBalancer.ingress[].ip */
	size_t external_ip_count;
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
	bool own_pod;    /* targetRef is a Pod of the slice's namespace */
	const char *pod; /* its name, "" if not own_pod */
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

/*
 * One PEM value of a ConfigMap, Secret or ClusterTrustBundle: certificates or CRLs, nothing secret. problem does not
 * say under which key it stands ("block 2 is not a CERTIFICATE"): whoever shows it does ("key ca.crt: ...").
 */
struct pem_value {
	bool present;            /* the key exists */
	struct shared_text *pem; /* canonical, or NULL: see problem */
	const char *problem;     /* why it cannot be used; never quotes it */
};

struct config_map {
	struct pem_value ca;  /* data["ca.crt"] */
	struct pem_value crl; /* data["ca.crl"] */
};

struct client_certificate;

struct secret {
	const char *type; /* "kubernetes.io/tls", "Opaque"..., "" if absent */
	struct pem_value ca;
	struct pem_value crl;
	struct client_certificate *certificate; /* tls.crt and tls.key; NULL: see certificate_problem */
	const char *certificate_problem;        /* "has no key tls.key", "tls.key: ..."; never quotes it */
};

struct cluster_trust_bundle {
	struct pem_value ca; /* spec.trustBundle */
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
	unsigned int foreign_ancestors; /* entries of status.ancestors that other controllers wrote */
};

struct parent_reference { /* a Route's, to a Gateway */
	const char *namespace_, *name;
	const char *section_name; /* the listener, "" for all */
	uint16_t port;            /* of the listener; 0: any */
};

struct backend_reference { /* to a Service */
	const char *namespace_, *name;
	uint16_t port; /* of the Service; 0: every port */
};

struct route {
	const struct parent_reference *parents;
	size_t parent_count;
	const struct backend_reference *backends; /* of rules and of filters */
	size_t backend_count;
	bool by_listener_set; /* a ListenerSet is among its parents, whose Gateway is not known */
};

struct listener {
	const char *name;
	const char *protocol; /* HTTP, HTTPS, TLS, TCP, UDP or an implementation's own */
	uint16_t port;
	bool passthrough;         /* tls.mode is Passthrough */
	bool from_all_namespaces; /* allowedRoutes.namespaces.from is All or Selector (labels are not looked at) */
};

/* tls.backend.clientCertificateRef; also what else points at a Secret that may be in another namespace. */
struct secret_reference {
	const char *group, *kind; /* "" and "Secret" if absent */
	const char *namespace_;   /* the referring object's own if absent */
	const char *name;
};

struct gateway_spec {
	const char *class_name;
	const struct listener *listeners;
	size_t listener_count;
	bool has_client_certificate;
	struct secret_reference client_certificate;
	bool force;               /* annotation postern.dev/force is "true" */
	const char *mode;         /* annotation postern.dev/mode, as written; "" if absent */
	const char *pod_selector; /* annotation postern.dev/pod-selector (pod_selector.h), as written; "" if absent */
};

struct gateway_class {
	const char *controller_name;
	bool supports_backend_tls_policy; /* status.supportedFeatures lists BackendTLSPolicy */
};

struct grant_from {
	const char *group, *kind, *namespace_;
};

struct grant_to {
	const char *group, *kind;
	const char *name; /* NULL: every object of the kind */
};

struct reference_grant { /* it allows references to objects of its own namespace */
	const struct grant_from *from;
	size_t from_count;
	const struct grant_to *to;
	size_t to_count;
};

struct pod_label {
	const char *key, *value;
};

struct pod {
	const struct postern_address *addresses; /* status.podIPs, or status.podIP alone */
	size_t address_count;
	bool host_network;
	const char *node_name;
	const struct pod_label *labels; /* all: an adopted Gateway selects by any of them */
	size_t label_count;
	const char *gateway_name;       /* label gateway.networking.k8s.io/gateway-name, "" if absent */
	const char *gateway_annotation; /* postern.dev/gateway: namespace/name, several with commas; "" if absent */
	const char *mode;               /* annotation postern.dev/mode, as written; "" if absent */
	bool force;                     /* annotation postern.dev/force is "true" */
	/* A static pod: the kubelet names its cgroup by this hash (annotation kubernetes.io/config.hash), not by the
	 * uid. */
	const char *config_hash;   /* "" if it is none */
	const char *qos_class;     /* Guaranteed, Burstable, BestEffort; "" if it is not said */
	const char *phase;         /* Pending, Running, Succeeded, Failed...; "" if it is not said */
	const char *runtime_class; /* spec.runtimeClassName, "" if absent */
	bool gated;                /* an init container named postern-gate */
	bool readiness_gated;      /* spec.readinessGates names postern.dev/enrolled */
	bool started;              /* a container that is not an init container has run */
	/* Of its containers, init containers, too: "containerd://<hex>". The sandbox's is not among them. */
	const char *const *container_ids;
	size_t container_id_count;
	/* TCP, on loopback or on every address; of sidecars (init containers that run on), too. */
	const uint16_t *host_ports;
	size_t host_port_count;
};

struct service_cidr {
	const struct cidr *cidrs;
	size_t cidr_count;
};

struct node {
	const struct cidr *pod_cidrs; /* of the Pods on it; none where the network has no such thing */
	size_t pod_cidr_count;
	bool startup_taint; /* it has the taint postern.dev/not-ready */
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
		struct secret secret;
		struct cluster_trust_bundle cluster_trust_bundle;
		struct gateway_spec gateway;
		struct gateway_class gateway_class;
		struct reference_grant reference_grant;
		struct pod pod;
		struct node node;
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
