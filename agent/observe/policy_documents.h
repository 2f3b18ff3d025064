/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * policy_documents.h: what the agent made of policy, in full, for the status socket: `policies`, `destinations`,
 * `certificates`, `settings ID`. Nothing of a private key is ever in them; certificates, CAs and CRLs are what
 * everybody on the wire may see.
 *
 * Control thread. A new reference, or NULL: out of memory.
 */
#ifndef POSTERN_OBSERVE_POLICY_DOCUMENTS_H
#define POSTERN_OBSERVE_POLICY_DOCUMENTS_H

#include <jansson.h>

#include "observe/status.h"

struct tls_settings;

/* As in the status, each with "settings": {} or what settings_row() says without the PEM. */
json_t *policies_document(const struct status_sources *sources);
/* [{"destination", "class", "verdict", "policy", "settings_id", "reason", "remedy", "trusted", "tombstone"}] */
json_t *destinations_document(const struct status_sources *sources);
/*
 * [{"kind": "ca" | "system-ca" | "crl" | "client", "pem", "used_by": ["policy default/echo", "Gateway default/edge"]}]:
 * each text once. The system's is not told: "pem" is "".
 */
json_t *certificates_document(const struct status_sources *sources);
/* {"error"} if there are no settings with this number. */
json_t *settings_document(const struct status_sources *sources, const char *argument);

/*
 * {"id", "digest", "policy", "hostname", "subject_alt_names": [{"type", "value"}], "system_ca", "min_version",
 * "max_version", "alpn", "ktls", "cipher_suites", "ciphers", "groups", "signature_algorithms", "verify_depth",
 * "partial_chain", "resumption", "pins": [hex], "crl", "client_certificate": digest or "", *_timeout_ms}; with_pem adds
 * "ca_pem" and "crl_pem".
 */
json_t *settings_row(const struct tls_settings *settings, bool with_pem);

#endif
