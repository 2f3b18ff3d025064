/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * compilation.h: what the steps of one compile share. In order:
 *
 *   compiled_policy.c  each policy by itself: values, options, CA material, settings
 *   attachments.c      which policy wins each Service and port (Gateway API's precedence)
 *   route_uses.c       which kinds of Route refer to a Service's port, for ALPN
 *   coverage.c         each Service and port: TLS, PLAIN or DENY; its addresses become claims; guarded ports
 *   verdicts.c         all claims on a key together become a destination; tombstones
 *   statuses.c         the policies' conditions
 *
 * Everything returns 0 or -ENOMEM. Control thread.
 */
#ifndef POSTERN_POLICY_COMPILATION_H
#define POSTERN_POLICY_COMPILATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/compile.h"
#include "policy/object.h"
#include "policy/options.h"
#include "policy/snapshot_data.h"
#include "policy/store.h"
#include "policy/text.h"

#define NO_POLICY      UINT32_MAX
#define MAX_CLAIMS     (8u << 20) /* 60 times what the kernel's map holds */
#define ALPN_PROTOCOLS 3

struct compiled_policy {
	const struct object *object;
	const char *why_quarantined; /* NULL: in force */
	struct tls_options options;
	struct shared_text *ca;                          /* owned; NULL: the system's, or none */
	enum postern_reason deny_reason;                 /* NONE: it can give TLS */
	struct settings_entry *settings[ALPN_PROTOCOLS]; /* owned, made when a port needs them */
	uint32_t settings_id;                            /* of the first that was made */
	size_t status_index;

	/* What there is to tell, each as sentences. */
	struct text invalid;   /* the policy's own values */
	struct text unusable;  /* targets that can never be covered: UDP, ExternalName */
	struct text conflicts; /* lost to another policy */
	struct text not_found; /* no such Service, no such port */
	struct text warnings;
	struct text unresolved;        /* CA references */
	const char *unresolved_reason; /* of the first of them */
	unsigned int shared_endpoints;
	unsigned int ambiguous_endpoints;
	size_t last_ambiguous; /* the group of claims that was counted last */
};

/* One Service that a policy names. */
struct attachment {
	const char *namespace_, *service;
	const char *section; /* "": the whole Service */
	uint32_t policy;
};

/* One Service's port that a Route refers to. */
struct route_use {
	const char *namespace_, *service;
	uint16_t port; /* 0: every port */
	enum object_kind kind;
};

/* What a Service's port means. */
struct coverage {
	const char *namespace_, *service;
	enum postern_verdict verdict;
	uint32_t settings_id;       /* TLS */
	enum postern_reason reason; /* DENY */
	uint32_t policy;            /* NO_POLICY: PLAIN */
	bool refusal;               /* by something in quarantine */
};

#define CLAIM_VIP     (1u << 0)
#define CLAIM_TRUSTED (1u << 1)
#define CLAIM_REFUSAL (1u << 2) /* denies if nobody else covers the key */

struct claim {
	struct postern_destination_key key;
	uint32_t coverage;
	uint32_t flags;
};

struct compilation {
	const struct object_store *store;
	const struct compile_options *options;
	const struct snapshot *previous; /* may be NULL */
	struct snapshot *snapshot;       /* being made */

	struct compiled_policy *policies; /* in force, in the store's order; then the quarantined */
	size_t policy_count;

	struct attachment *attachments; /* sorted: see attachments.c */
	size_t attachment_count, attachment_capacity;

	struct route_use *route_uses; /* sorted */
	size_t route_use_count, route_use_capacity;

	struct coverage *coverages;
	size_t coverage_count, coverage_capacity;

	struct claim *claims;
	size_t claim_count, claim_capacity;

	size_t destination_capacity;

	struct settings_entry **settings_by_id; /* borrowed from the policies; index = id */
	size_t settings_by_id_size;
};

int compile_policies(struct compilation *compilation);
void free_compiled_policies(struct compilation *compilation);
/* The settings entry of a usable policy for a protocol; borrowed. NULL: no memory. */
const struct settings_entry *policy_settings(struct compilation *compilation, uint32_t policy, enum alpn_protocol alpn);

int attach_policies(struct compilation *compilation);
/* The attachments to one Service. */
struct service_attachments {
	size_t start, end; /* of compilation->attachments; equal: none */
	/* The first that names a port which does not exist; [0] in force, [1] in quarantine. */
	const struct attachment *missing[2];
};

/* service is NULL if there is none of this name. False if there are no attachments. */
bool find_attachments(const struct compilation *compilation, const char *namespace_, const char *name,
                      const struct object *service, struct service_attachments *attached);
/* Write down what each policy has to tell about this Service (NULL: it does not exist). */
void judge_attachments(struct compilation *compilation, const struct service_attachments *attached,
                       const struct object *service);
/* The attachment that decides a port, NULL if none; *missing: it does so because its own port does not exist. */
const struct attachment *deciding_attachment(const struct compilation *compilation,
                                             const struct service_attachments *attached, const char *port_name,
                                             bool *missing);

int collect_route_uses(struct compilation *compilation);
/*
 * The protocol of a port by option, appProtocol or Routes (design section 6.1); *mixed: GRPCRoutes refer to it, and so
 * do others.
 */
enum alpn_protocol choose_alpn(const struct compilation *compilation, const struct tls_options *options,
                               const struct object *service, const struct service_port *port, bool *mixed);

int cover_services(struct compilation *compilation);
int decide_destinations(struct compilation *compilation);
int write_statuses(struct compilation *compilation);

static inline bool is_quarantined(const struct compilation *compilation, const struct attachment *attachment)
{
	return compilation->policies[attachment->policy].why_quarantined != NULL;
}

#endif
