/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * compilation.h: what a compiler remembers, and what the steps of one run share. In order:
 *
 *   changes.c          the store against what was seen of it: per kind, what came, went and changed
 *   compiled_policy.c  each policy by itself: values, options; authorities.c: what it refers to; policy_slots.c: names
 *   service_nodes.c    what belongs to each Service: slices, attachments.c: which policy wins each of its ports
 *   coverage.c         each Service and port: TLS, PLAIN or DENY (alpn.c: with which protocol); its addresses become
 *                      claims; guarded ports
 *   keys.c, verdicts.c all claims on a key together become a destination; decisions.c: tombstones, the new list
 *   settings_uses.c    which settings are in use, and under whose name
 *   statuses.c         the policies' conditions (target_status.c, ancestors.c)
 *
 * A change makes Services dirty, a dirty Service its keys (those it claimed and those it claims), a dirty key the
 * policies that claim it; each step does what is dirty and no more. A full compile is the same with everything dirty.
 *
 * Everything that can fail returns 0 or -ENOMEM, and leaves what compiler_reset() can free. Control thread.
 */
#ifndef POSTERN_POLICY_COMPILATION_H
#define POSTERN_POLICY_COMPILATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/compile.h"
#include "policy/object.h"
#include "policy/options.h"
#include "policy/route_index.h"
#include "policy/snapshot_data.h"
#include "policy/store.h"
#include "policy/targets.h"
#include "policy/table.h"
#include "policy/text.h"

#define MAX_CLAIMS     (8u << 20) /* 60 times what the kernel's map holds */
#define ALPN_PROTOCOLS 3
#define NOT_WATCHED    SIZE_MAX

/* ---- policies ---- */

/* One protocol of one policy. */
struct settings_use {
	struct compiled_policy *policy;
	uint32_t id;                          /* of the settings; 0: never asked for */
	size_t coverages;                     /* that use it */
	struct settings_use *previous, *next; /* of the same settings, while it is used */
};

/* An object of the policy's namespace (a ClusterTrustBundle: of none) that it names. */
struct policy_reference {
	struct table_node node;
	struct compiled_policy *policy;
	enum object_kind kind;
	const char *name;
};

struct compiled_policy {
	const struct object *object;
	const char *why_quarantined; /* NULL: in force */
	size_t ordinal;              /* of those in quarantine */
	struct policy_slot *slot;
	struct tls_options options;
	struct shared_text *ca; /* owned, like crl and client_certificate */
	bool system_ca;
	struct shared_text *crl;
	struct client_certificate *client_certificate;
	enum postern_reason deny_reason; /* NONE: it can give TLS */
	struct settings_use uses[ALPN_PROTOCOLS];
	struct policy_reference *references;
	size_t reference_count;
	bool stale; /* something that it refers to changed */

	/* What there is to tell of it without looking at its targets, each as sentences. */
	struct text invalid;           /* its own values */
	struct text unsupported;       /* targets that are no Services */
	struct text unresolved;        /* references */
	const char *unresolved_reason; /* of the first of them */
};

/* All policies of one name: one status. */
struct policy_slot {
	const struct object *object;          /* of the first of them: in force before in quarantine */
	struct compiled_policy *in_force;     /* NULL: only in quarantine */
	struct compiled_policy **quarantined; /* in the order in which they came */
	size_t quarantined_count, quarantined_capacity;
	uint32_t index; /* of the status, in the snapshot being made */
	uint32_t destination_count;
	struct status_entry *status; /* NULL until it was written */
	bool dirty;
};

/* ---- Services ---- */

/* One Service that a policy names. */
struct attachment {
	const char *section; /* "": the whole Service */
	struct compiled_policy *policy;
};

struct slice_use {
	const struct object *slice;
	bool quarantined;
};

/* What a Service's port means. */
struct coverage {
	enum postern_verdict verdict;
	uint32_t settings_id;           /* TLS */
	enum alpn_protocol alpn;        /* TLS */
	enum postern_reason reason;     /* DENY */
	struct compiled_policy *policy; /* NULL: PLAIN */
	bool refusal;                   /* by something in quarantine */
	bool mixed_routes;              /* GRPCRoutes refer to it, and so do others */
	bool passthrough;               /* a TLSRoute that does not terminate refers to it */
	uint16_t port;                  /* of the Service, 0: a stray one */
};

#define CLAIM_VIP      (1u << 0)
#define CLAIM_TRUSTED  (1u << 1) /* by slice and targetRef; see verdicts.c for Pods */
#define CLAIM_REFUSAL  (1u << 2) /* denies if nobody else covers the key */
#define CLAIM_EXTERNAL (1u << 3) /* an external or a load balancer's address: whoever makes a Service names any */
#define CLAIM_KNOWN    (1u << 4) /* without a policy it would be here all the same, and say PLAIN */

struct claim {
	struct key_node *key;
	struct claim *next;   /* on the same key */
	struct claim **place; /* what points at it; NULL until it is linked */
	struct service_node *service;
	const struct endpoint *endpoint; /* NULL: an address of the Service itself */
	uint32_t coverage;               /* of the Service's */
	uint32_t flags;
};

/* Whatever belongs to one name of a Service, whether there is one or not. */
struct service_node {
	struct table_node node;
	const char *namespace_, *name;
	const struct object *service; /* in force; NULL: there is none */
	const struct object **quarantined;
	size_t quarantined_count, quarantined_capacity;
	struct slice_use *slices; /* by name */
	size_t slice_count, slice_capacity;
	struct attachment *attachments; /* sorted: see attachments.c */
	size_t attachment_count, attachment_capacity;

	struct coverage *coverages;
	size_t coverage_count, coverage_capacity;
	struct claim *claims;
	size_t claim_count, claim_capacity;
	uint16_t *guards; /* ports; one that is there n times counts n times */
	size_t guard_count, guard_capacity;
	bool dirty;
	char text[];
};

/* ---- keys ---- */

struct key_node {
	struct table_node node;
	struct claim *claims;        /* in no order */
	uint64_t tombstone_until_ns; /* 0: none */
	char *note;                  /* what the policies of its claims are told; NULL: nothing */
	size_t watched;              /* place in compiler->watched */
	struct postern_destination_key key;
	bool dirty;
	bool ambiguous; /* the note says so; else it says that the endpoint is shared */
	bool vip;       /* of the claims that counted, here and below */
	bool contested; /* Pods were asked */
	int level;      /* the least level of trust that counted */
};

struct settings_slot {
	struct settings_entry *entry; /* owned; what the snapshot shows */
	struct settings_use *users;
	size_t tombstones; /* destinations that need it although no policy may */
	bool touched;
};

/* ---- the compiler ---- */

struct seen_objects {
	const struct object **objects; /* referenced, in the store's order */
	size_t count;
};

struct object_change {
	const struct object *old, *new; /* one may be NULL */
};

struct changes {
	struct object_change *items;
	size_t count, capacity;
};

struct compiler {
	struct compile_options options; /* its own copy */
	struct snapshot *last;          /* NULL: none */

	/* What was seen. */
	struct seen_objects seen[OBJECT_KINDS];
	struct quarantined *quarantine[OBJECT_KINDS];
	size_t quarantine_count[OBJECT_KINDS];

	/* What was made of it. */
	struct policy_slot **slots; /* sorted by name */
	size_t slot_count, slot_capacity;
	struct table references;
	struct table services;
	struct table keys;
	size_t any_port_count;          /* of keys of any port: there are none in most clusters */
	struct settings_slot *settings; /* by id */
	size_t settings_size;
	struct route_index *routes;
	struct gateway_list *gateways;
	struct key_node **watched; /* tombstones, and keys that Pods decide */
	size_t watched_count, watched_capacity;
	size_t claim_count;
	uint32_t guards[65536];

	/* The run in progress. */
	const struct object_store *store;
	uint64_t now_ns;
	bool first;                           /* nothing was remembered: every key of last is to be judged again */
	struct changes changes[OBJECT_KINDS]; /* the old ones stay referenced until the end */
	struct compiled_policy **dead;        /* freed once nothing points at them any more */
	size_t dead_count, dead_capacity;
	struct service_node **dirty_services;
	size_t dirty_service_count, dirty_service_capacity;
	struct key_node **dirty_keys;
	size_t dirty_key_count, dirty_key_capacity;
	uint32_t *touched_settings;
	size_t touched_count, touched_capacity;
	uint32_t *policy_map; /* last's policy indexes -> new ones; NULL: none moved */
	bool slots_moved, statuses_changed, settings_changed;
	struct destination_list destinations;
};

/* changes.c */
int find_changes(struct compiler *compiler);
void end_changes(struct compiler *compiler);
void forget_seen(struct compiler *compiler);
bool quarantine_changed(const struct compiler *compiler);
/* Did anything of this kind come, go or change? */
static inline bool kind_changed(const struct compiler *compiler, enum object_kind kind)
{
	return compiler->changes[kind].count;
}

/* policy_slots.c */
int change_policies(struct compiler *compiler); /* all that are new, gone, changed, or whose references changed */
int number_policies(struct compiler *compiler); /* afterwards: indexes, and policy_map */
void free_slots(struct compiler *compiler);
void free_dead_policies(struct compiler *compiler);
/* In force before in quarantine, then by name, then as they came. */
int compare_policies(const struct compiled_policy *left, const struct compiled_policy *right);

/* compiled_policy.c */
int compiled_policy_new(struct compiler *compiler, const struct object *object, const char *why_quarantined,
                        size_t ordinal, struct compiled_policy **policy);
void compiled_policy_free(struct compiler *compiler, struct compiled_policy *policy); /* NULL-safe */

/* authorities.c: CA certificates, CRL, client certificate */
int resolve_references(struct compiler *compiler, struct compiled_policy *policy);
void mark_policies_naming(struct compiler *compiler, enum object_kind kind, const char *namespace_, const char *name);

/* service_nodes.c */
struct service_node *find_service(const struct compiler *compiler, const char *namespace_, const char *name);
struct service_node *get_service(struct compiler *compiler, const char *namespace_, const char *name);
int touch_service(struct compiler *compiler, struct service_node *service);
int change_services(struct compiler *compiler); /* and slices */
int change_routes(struct compiler *compiler);
void drop_idle_services(struct compiler *compiler);
void free_services(struct compiler *compiler);

/* attachments.c */
int attach_policy(struct compiler *compiler, struct compiled_policy *policy);
int detach_policy(struct compiler *compiler, struct compiled_policy *policy);
/* The winner of one section, NULL if no policy names it. */
const struct attachment *find_winner(const struct service_node *service, const char *section);
const struct service_port *find_service_port(const struct object *service, const char *name);
/*
 * The attachment that decides a port of object (NULL: no such Service), NULL if none; *missing: it does so because its
 * own port does not exist.
 */
const struct attachment *deciding_attachment(const struct service_node *service, const struct object *object,
                                             const char *port_name, bool *missing);

/* alpn.c: sets alpn, mixed_routes and passthrough. port NULL: a stray one */
void choose_alpn(const struct compiler *compiler, const struct service_node *service, const struct service_port *port,
                 struct coverage *coverage);

/* coverage.c */
int cover_dirty_services(struct compiler *compiler);

/* keys.c */
struct key_node *find_key(const struct compiler *compiler, const struct postern_destination_key *key);
struct key_node *get_key(struct compiler *compiler, const struct postern_destination_key *key);
int touch_key(struct compiler *compiler, struct key_node *key);
int watch_key(struct compiler *compiler, struct key_node *key);
void unwatch_key(struct compiler *compiler, struct key_node *key);
int wake_watched_keys(struct compiler *compiler); /* tombstones that end, and those whose Pods changed */
int spread_any_ports(struct compiler *compiler);  /* a dirty key of any port: every key of its address is */
int touch_last_keys(struct compiler *compiler);   /* those of the last snapshot */
void drop_idle_keys(struct compiler *compiler);
void free_keys(struct compiler *compiler);
/* The node of any port of the same address; NULL: none, or key is that. */
struct key_node *find_any_port(const struct compiler *compiler, const struct key_node *key);
/* Every key of the address but its any port. 0, or what each returned. */
int for_each_port(const struct compiler *compiler, const struct destination_list *list,
                  const struct postern_address *address, int (*each)(const struct key_node *key, void *context),
                  void *context);

/* verdicts.c */
/* What the claims on a key say. *in_force: is it said by something that is in force? *claimed: at all? */
int judge_key(struct compiler *compiler, struct key_node *key, struct destination *destination, bool *in_force,
              bool *claimed);
bool claim_counts(const struct compiler *compiler, const struct key_node *key, const struct claim *claim);
static inline const struct coverage *claim_coverage(const struct claim *claim)
{
	return &claim->service->coverages[claim->coverage];
}

/* decisions.c */
int decide_destinations(struct compiler *compiler);

/* settings_uses.c */
int use_settings(struct compiler *compiler, struct compiled_policy *policy, enum alpn_protocol alpn, uint32_t *id);
void release_settings(struct compiler *compiler, struct compiled_policy *policy, enum alpn_protocol alpn);
int count_tombstone_settings(struct compiler *compiler, uint32_t id, int step);
int settle_settings(struct compiler *compiler);
void free_settings(struct compiler *compiler);

/* statuses.c */
void mark_statuses(struct compiler *compiler); /* those of policies whose Services or keys are dirty */
int write_statuses(struct compiler *compiler);

/* What the targets of a policy in force give to tell. */
struct target_report {
	struct text unusable;  /* targets that can never be covered: UDP, ExternalName */
	struct text conflicts; /* lost to another policy */
	struct text not_found; /* no such Service, no such port */
	struct text warnings;
	bool covers_endpoint; /* it decides at least one */
	bool wins;            /* any target */
};

/* target_status.c */
int report_targets(const struct compiler *compiler, const struct compiled_policy *policy, struct target_report *report);
void free_target_report(struct target_report *report);

/* ancestors.c: fills ancestors, ancestor_count and ancestors_left_out */
int collect_ancestors(const struct compiler *compiler, const struct object *policy, struct policy_status *status);

#endif
