/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * decode_kinds.h: one decoder a kind. Each fills the part of the object that is the kind's own, from the whole
 * document; metadata is in the object already. 0, -EINVAL with decoder->error, or -ENOMEM.
 */
#ifndef POSTERN_POLICY_DECODE_KINDS_H
#define POSTERN_POLICY_DECODE_KINDS_H

#include <jansson.h>

#include "policy/field.h"
#include "policy/object.h"
#include "policy/unknown_fields.h"

#define GATEWAY_GROUP          "gateway.networking.k8s.io"
#define SLICE_MAX_DESTINATIONS 100000 /* addresses times ports; ours, not Kubernetes' */

int decode_service(struct decoder *decoder, const json_t *document, struct object *object);
int decode_endpoint_slice(struct decoder *decoder, const json_t *document, struct object *object);
int decode_config_map(struct decoder *decoder, const json_t *document, struct object *object);
int decode_backend_tls_policy(struct decoder *decoder, const json_t *document, struct object *object);
int decode_route(struct decoder *decoder, const json_t *document, struct object *object);
int decode_service_cidr(struct decoder *decoder, const json_t *document, struct object *object);
int decode_secret(struct decoder *decoder, const json_t *document, struct object *object);
int decode_cluster_trust_bundle(struct decoder *decoder, const json_t *document, struct object *object);
int decode_reference_grant(struct decoder *decoder, const json_t *document, struct object *object);
int decode_gateway(struct decoder *decoder, const json_t *document, struct object *object);
int decode_gateway_class(struct decoder *decoder, const json_t *document, struct object *object);
int decode_pod(struct decoder *decoder, const json_t *document, struct object *object);
int decode_node(struct decoder *decoder, const json_t *document, struct object *object);

/*
 * What can be recognised of a policy, a Service or an EndpointSlice that does not decode: what a policy targets, and
 * the addresses that must be refused if a policy wants them. Always succeeds but for memory.
 */
bool is_worth_seeing(enum object_kind kind);
int decode_visible(struct arena *arena, const json_t *document, struct object *object);

/* Shared pieces. */
int decode_cidr(struct decoder *decoder, const struct path *where, const json_t *value, void *item);
int decode_protocol(struct decoder *decoder, const struct path *where, const json_t *map,
                    enum transport_protocol *protocol);
/* A unicast address in its own notation: a v4-mapped IPv6 address is refused, as Kubernetes refuses it. */
int decode_address(struct decoder *decoder, const struct path *where, const json_t *value,
                   struct postern_address *address);

/* A label or annotation (map: "labels", "annotations"), copied into the arena; "" if absent. */
int decode_metadata_string(struct decoder *decoder, const json_t *document, const char *map, const char *key,
                           const char **value);
/*
 * ca.crt and ca.crl: what is wrong with them is no structural error, because the object may be nobody's. Whoever needs
 * them says so, with the key.
 */
int decode_ca(struct decoder *decoder, const char *text, size_t size, struct pem_value *value);
int decode_crl(struct decoder *decoder, const char *text, size_t size, struct pem_value *value);

#endif
