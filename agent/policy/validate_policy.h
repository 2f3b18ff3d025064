/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * validate_policy.h: the rules of BackendTLSPolicy's schema (CRD v1, Gateway API v1.6: patterns, sizes, CEL) once more
 * in the agent, where a bypassed or older CRD cannot weaken them, and those that the schema cannot express. Pure.
 */
#ifndef POSTERN_POLICY_VALIDATE_POLICY_H
#define POSTERN_POLICY_VALIDATE_POLICY_H

#include "policy/object.h"
#include "policy/options.h"
#include "policy/text.h"

/*
 * Every broken rule is a sentence in problems ("field: message", the CEL messages word for word); an empty text means
 * valid. options is filled in any case, and is of use only if the policy is valid.
 */
void validate_backend_tls_policy(const struct backend_tls_policy *policy, struct tls_options *options,
                                 struct text *problems);

#endif
