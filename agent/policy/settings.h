/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * settings.h: TLS settings with their digest and id. An entry is immutable once made, shared by snapshots, and freed by
 * its last owner in any thread; everything else here belongs to the control thread.
 */
#ifndef POSTERN_POLICY_SETTINGS_H
#define POSTERN_POLICY_SETTINGS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/object.h"
#include "policy/options.h"
#include "policy/shared_text.h"
#include "policy/snapshot.h"

struct settings_registry;

struct settings_entry {
	struct tls_settings settings; /* ca_pem, crl_pem and pins point into those below */
	atomic_uint references;
	struct shared_text *ca;
	struct shared_text *crl;
	uint8_t *pins;
};

struct settings_entry *settings_entry_ref(struct settings_entry *entry);
void settings_entry_unref(struct settings_entry *entry); /* NULL-safe */

struct settings_input {
	const struct object *policy; /* valid */
	const struct tls_options *options;
	struct shared_text
	        *ca;    /* resolved: of the references, or the system's. NULL only where compile_options has none */
	bool system_ca; /* ca is the system's */
	struct shared_text *crl;                       /* resolved option crl, or NULL */
	struct client_certificate *client_certificate; /* resolved option client-certificate, or NULL */
	enum alpn_protocol alpn;
};

/*
 * SHA-256 over the canonical form: names of the policy left out, subjectAltNames and pins sorted, lists of ciphers and
 * the like in OpenSSL's own names and in their order, CA certificates and CRLs in their canonical order, the client
 * certificate by its digest. 0 or -ENOMEM.
 */
int settings_digest(const struct settings_input *input, uint8_t digest[static 32]);
/* One reference, or NULL: no memory. */
struct settings_entry *settings_entry_new(const struct settings_input *input, const uint8_t digest[static 32],
                                          uint32_t id);

/* The id of a digest, a new one if it was never seen. 0: no memory, or 2^32 settings. */
uint32_t settings_registry_id(struct settings_registry *registry, const uint8_t digest[static 32]);

#endif
