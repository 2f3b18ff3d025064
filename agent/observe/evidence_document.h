/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * evidence_document.h: for the auditor, by `evidence [SINCE]` of the status socket (SINCE: Unix time, 0 = all there
 * is); and the same rows as a file that a later agent reads. Control thread.
 */
#ifndef POSTERN_OBSERVE_EVIDENCE_DOCUMENT_H
#define POSTERN_OBSERVE_EVIDENCE_DOCUMENT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "observe/status.h"

struct evidence;

/*
 * {"version", "configuration": {key: value} of every setting in force, "configuration_digest", "policy_digest",
 * "since", "now", "problem": why it is not saved, or "", "intervals": [{"gateway", "mode", "from", "until", "open"}],
 * "connections": [{"hour", "gateway", "policy", "version", "cipher", "peer", "connections", "resumed"}],
 * "wire_not_tls", "witness_plain_dropped", "escaped", "guard_payload_dropped", "proof": as in the status, "kernel"}.
 * NULL: no memory.
 */
json_t *evidence_document(const struct status_sources *sources, struct evidence *evidence, const char *problem,
                          const char *argument);

/* {"intervals", "connections"} of everything. */
json_t *evidence_save(struct evidence *evidence);
/* What evidence_save() made; hostile until checked: rows that cannot be right are left out. Returns how many were. */
size_t evidence_load(struct evidence *evidence, const json_t *document);

#endif
