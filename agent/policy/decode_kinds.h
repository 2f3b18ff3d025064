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

int decode_service(struct decoder *decoder, const json_t *document, struct object *object);
int decode_endpoint_slice(struct decoder *decoder, const json_t *document, struct object *object);
int decode_config_map(struct decoder *decoder, const json_t *document, struct object *object);
int decode_backend_tls_policy(struct decoder *decoder, const json_t *document, struct object *object);
int decode_route(struct decoder *decoder, const json_t *document, struct object *object);
int decode_service_cidr(struct decoder *decoder, const json_t *document, struct object *object);

/* What can be recognised of a policy that does not decode: always succeeds but for memory. */
int decode_visible_targets(struct arena *arena, const json_t *document, struct object *object);

/* Shared pieces. */
int decode_protocol(struct decoder *decoder, const struct path *where, const json_t *map,
                    enum transport_protocol *protocol);
/* A unicast address in its own notation: a v4-mapped IPv6 address is refused, as Kubernetes refuses it. */
int decode_address(struct decoder *decoder, const struct path *where, const json_t *value,
                   struct postern_address *address);

#endif
