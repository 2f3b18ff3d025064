/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * snapshot.h: what the compile step makes of the object store, and all that the datapath knows of policy: destinations
 * with their verdicts, the TLS settings they point at, the guarded ports, and the status of every policy.
 *
 * Immutable once published. The control thread compiles and publishes; workers take a reference (snapshot_ref) for each
 * attempt and drop it (snapshot_unref). The last reference frees it, in any thread.
 */
#ifndef POSTERN_POLICY_SNAPSHOT_H
#define POSTERN_POLICY_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/reason.h"
#include "postern/abi.h"

enum subject_alt_name_type {
	SUBJECT_ALT_NAME_HOSTNAME,
	SUBJECT_ALT_NAME_URI,
};

struct subject_alt_name {
	enum subject_alt_name_type type;
	char *value;
};

enum alpn_protocol {
	ALPN_NONE,
	ALPN_HTTP_1_1,
	ALPN_H2,
};

enum switch_setting {
	SWITCH_AUTO,
	SWITCH_REQUIRE,
	SWITCH_OFF,
};

/*
 * The effective TLS settings of one policy (BackendTLSPolicy.spec.validation and .options, CA material resolved). Two
 * policies whose settings are equal in every field that reaches the wire have the same digest. An id stands for one
 * digest, for ever within an agent's life: the kernel's map and live connections refer to it.
 */
struct tls_settings {
	uint32_t id;        /* never 0 */
	uint8_t digest[32]; /* SHA-256 over everything below except the names of the policy */
	char *policy_namespace;
	char *policy_name;
	char *hostname; /* SNI always; the identity unless subject_alt_names is given */
	struct subject_alt_name *subject_alt_names;
	size_t subject_alt_name_count;
	const char *ca_pem; /* every usable CA certificate, concatenated PEM */
	bool system_ca;     /* wellKnownCACertificates: System; ca_pem is the system's bundle */
	int min_version;    /* TLS1_2_VERSION or TLS1_3_VERSION, as OpenSSL numbers them */
	int max_version;
	enum alpn_protocol alpn;
	enum switch_setting ktls;
	unsigned int connect_timeout_ms; /* 0: the agent's default */
	unsigned int handshake_timeout_ms;
	unsigned int idle_timeout_ms; /* 0: none */
	/* Of the options (options.h has what each means). NULL: the default list, here and below. */
	char *cipher_suites;
	char *ciphers;
	char *groups;
	char *signature_algorithms;
	int verify_depth; /* -1: OpenSSL's default */
	bool partial_chain;
	bool resumption;     /* sessions may be resumed */
	const char *crl_pem; /* NULL: no revocation check */
	const uint8_t (*pins)[32];
	size_t pin_count;
	/* The policy's own (option client-certificate); NULL: that of the Gateway, if it has one. */
	struct client_certificate *client_certificate;
};

struct client_certificate; /* client_certificate.h */

/* Design section 1: what a key is known by. A VIP decides before any claim on an endpoint of the same key. */
enum destination_class {
	DESTINATION_VIP,
	DESTINATION_ENDPOINT,
};

struct destination {
	struct postern_destination_key key; /* port 0: any port of the address (a slice with null ports) */
	enum destination_class class;
	enum postern_verdict verdict; /* TLS, PLAIN or DENY */
	uint32_t settings_id;         /* TLS only */
	enum postern_reason reason;   /* DENY only: why */
	uint32_t policy;              /* index into policies of the policy that decided, or SNAPSHOT_NO_POLICY */
	bool trusted;                 /* decided by a trusted claim */
	bool tombstone;               /* no longer claimed; kept TLS until tombstone_until_ns (CLOCK_MONOTONIC) */
	uint64_t tombstone_until_ns;
};

#define SNAPSHOT_NO_POLICY UINT32_MAX

struct policy_condition {
	bool status;
	char reason[64]; /* Gateway API's word: Accepted, Conflicted, Invalid, NoValidCACertificate, ... */
	char *message;   /* never NULL */
};

/* Gateway API allows so many in a policy's status, those of other controllers included. */
#define POLICY_MAX_ANCESTORS 16

struct object_name {
	char *namespace_;
	char *name;
};

/*
 * What is to be told of one policy. The conditions are the same for each ancestor. Ancestors are the Gateways of the
 * store with a Route to a Service that the policy targets; if the store has no Gateway at all there is one without a
 * name, which stands for whoever dials.
 */
struct policy_status {
	char *namespace_;
	char *name;
	uint64_t generation;
	struct policy_condition accepted;
	struct policy_condition resolved_refs;
	struct object_name *ancestors; /* sorted; room was left for the entries of other controllers */
	size_t ancestor_count;
	/* There was no room for: Gateway API calls the policy unimplementable for these. They follow in ancestors. */
	size_t ancestors_left_out;
	char *warnings; /* legal and dangerous, as sentences; also in accepted.message. "" if none */
	uint32_t destination_count;
	uint32_t settings_id; /* 0 if the policy has none that can be used */
};

/* What is to be told of one Gateway, and what it shows to backends. */
struct gateway_status {
	char *namespace_;
	char *name;
	uint64_t generation;
	bool served;        /* false: its GatewayClass does backend TLS itself, and nobody forced it */
	bool has_reference; /* spec.tls.backend.clientCertificateRef is there */
	struct policy_condition resolved_refs; /* of that reference */
	/* Borrowed from the snapshot. NULL with has_reference: it cannot be used, and nothing may be dialed without it.
	 */
	struct client_certificate *client_certificate;
};

struct snapshot; /* opaque: the accessors below are all that a reader needs */

struct snapshot *snapshot_ref(struct snapshot *snapshot);
void snapshot_unref(struct snapshot *snapshot); /* NULL-safe */

uint64_t snapshot_generation(const struct snapshot *snapshot);  /* counts compiles, from 1 */
uint64_t snapshot_compiled_ns(const struct snapshot *snapshot); /* CLOCK_MONOTONIC of the source state it shows */

/* Exact key first, then (address, any port). NULL: the snapshot does not know it. */
const struct destination *snapshot_find(const struct snapshot *snapshot, const struct postern_destination_key *key);
const struct tls_settings *snapshot_settings(const struct snapshot *snapshot, uint32_t settings_id);

/*
 * What changed between two snapshots, in the order of keys: each destination that is new (old NULL), gone (new NULL) or
 * different. Costs what changed, not what there is, for what the newer shares with the older; old may be NULL.
 */
void snapshot_diff(const struct snapshot *old, const struct snapshot *new,
                   void (*each)(void *context, const struct destination *old, const struct destination *new),
                   void *context);

/* Iteration in a stable order (destinations by key, policies by namespace/name). */
size_t snapshot_destination_count(const struct snapshot *snapshot);
const struct destination *snapshot_destination_at(const struct snapshot *snapshot, size_t index);
size_t snapshot_settings_count(const struct snapshot *snapshot);
const struct tls_settings *snapshot_settings_at(const struct snapshot *snapshot, size_t index);
size_t snapshot_policy_count(const struct snapshot *snapshot);
const struct policy_status *snapshot_policy_at(const struct snapshot *snapshot, size_t index);
size_t snapshot_gateway_count(const struct snapshot *snapshot); /* by namespace and name */
const struct gateway_status *snapshot_gateway_at(const struct snapshot *snapshot, size_t index);
const struct gateway_status *snapshot_find_gateway(const struct snapshot *snapshot, const char *namespace_,
                                                   const char *name);
bool snapshot_port_guarded(const struct snapshot *snapshot, uint16_t port);
size_t snapshot_cidr_count(const struct snapshot *snapshot);
const struct cidr *snapshot_cidr_at(const struct snapshot *snapshot, size_t index);
/* CLOCK_MONOTONIC at which the earliest tombstone ends and a new compile is due; 0 = none. */
uint64_t snapshot_next_expiry_ns(const struct snapshot *snapshot);

#endif
