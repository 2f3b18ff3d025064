/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * options.h: BackendTLSPolicy.spec.options with the prefix postern.dev/: one table of names, values and what they set.
 * Pure.
 */
#ifndef POSTERN_POLICY_OPTIONS_H
#define POSTERN_POLICY_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/object.h"
#include "policy/snapshot.h"
#include "policy/text.h"

struct tls_options {
	int min_version; /* TLS1_2_VERSION... */
	int max_version;
	bool alpn_given;
	enum alpn_protocol alpn;
	enum switch_setting ktls;
	unsigned int connect_timeout_ms; /* 0: not given, here and below */
	unsigned int handshake_timeout_ms;
	unsigned int idle_timeout_ms;
};

/*
 * Defaults, then every option that is ours. Foreign keys are let be; a key of ours that is not known, a value that is
 * not, a key without a domain (Gateway API reserves those) or against the grammar is a sentence in problems.
 */
void options_parse(const struct option_value *values, size_t count, struct tls_options *options, struct text *problems);

#endif
