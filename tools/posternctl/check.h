/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * check.h: posternctl check: manifests -> store -> snapshot (the agent's own compile step) -> one document -> a page
 * for people. No agent, no privileges, no kernel.
 *
 *   check.c               the command: reads, compiles, prints
 *   check_document.c      store and snapshot -> the document
 *   check_coverage.c      which Services, ports and addresses a policy covers
 *   check_certificates.c  CA certificates, CRLs and client certificates: names and times
 *   check_page.c          the document -> the page
 *
 * Where memory runs out, documents are NULL (observe/json.h).
 */
#ifndef POSTERNCTL_CHECK_H
#define POSTERNCTL_CHECK_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/snapshot.h"

struct findings;
struct object;
struct object_store;
struct shared_text;

struct check_input {
	const struct object_store *store;
	const struct snapshot *snapshot;
	const struct findings *findings; /* of reading */
	const char *system_ca_path;
	const struct shared_text *system_ca; /* NULL: no policy asks for it, or it cannot be read */
	int64_t now;                         /* Unix time */
};

/* "none", "http/1.1", "h2" */
const char *alpn_text(enum alpn_protocol alpn);
/* {"address", "port", "class", "verdict", "reason"} */
json_t *destination_document(const struct destination *destination);

/* {"policies", "destinations", "gateways", "held", "errors", "notes"}; the members are described where they are made.
 */
json_t *check_document(const struct check_input *input);
void print_check_page(const json_t *document);
/* Of a policy or Gateway in it: every condition is True, and no error is told. */
bool check_passes(const json_t *object);

/* Who covers what: an index over the store's Services, slices and policies. NULL: no memory. */
struct coverage_index;
struct coverage_index *coverage_index_new(const struct object_store *store, const struct snapshot *snapshot);
void coverage_index_free(struct coverage_index *index); /* NULL-safe */
/*
 * [{"namespace", "name", "ports": [{"name", "port", "alpn", "addresses": [{"address", "port", "class", "verdict",
 * "reason"}]}]}]: the TCP ports of the policy's targets for which no other policy takes precedence, each with what the
 * snapshot says of its addresses; last, as port 0, those ports of its endpoints that the Service does not have. "alpn"
 * is
 * "" where there is no TLS. *endpoints counts the addresses of endpoints.
 */
json_t *covered_services(const struct coverage_index *index, const struct object *policy, size_t *endpoints);

/* The word of a destination that several Services share under different policies. */
#define CHECK_AMBIGUOUS "AmbiguousEndpoint"

/* What a policy or a Gateway is told beyond its conditions: texts. */
struct check_advice {
	json_t *errors;   /* handshakes will fail */
	json_t *warnings; /* legal and dangerous */
	int64_t now;
};

void advise(json_t **texts, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What a bundle of PEM holds. */
struct pem_description {
	const struct shared_text *pem;
	json_t *documents; /* of CA certificates: {"subject", "notBefore", "notAfter", "from"} */
	                   /* of CRLs: {"issuer", "thisUpdate", "nextUpdate" ("" if it has none), "from"} */
	json_t *errors;    /* as in struct check_advice, of the bundle alone */
	json_t *warnings;
	size_t count, valid; /* valid at this time */
	size_t concerns;     /* not valid, or not for long: those beyond a few are counted only */
};

/* Many policies share a bundle, and it is read once. */
struct pem_descriptions { /* all zero but now = empty */
	struct pem_description *at;
	size_t count, capacity;
	int64_t now;
};
void pem_descriptions_free(struct pem_descriptions *descriptions);
/*
 * from ("ConfigMap shop/ca") stands beside each. listed: the system's own are so many that they are counted only. The
 * pointer is good until the next call; NULL: no memory.
 */
const struct pem_description *describe_authorities(struct pem_descriptions *descriptions, const struct shared_text *pem,
                                                   const char *from, bool listed);
const struct pem_description *describe_crls(struct pem_descriptions *descriptions, const struct shared_text *pem,
                                            const char *from);

/* {"subject", "notBefore", "notAfter", "from"} */
json_t *describe_client_certificate(const struct client_certificate *certificate, const char *from,
                                    struct check_advice *advice);

#endif
