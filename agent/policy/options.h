/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * options.h: BackendTLSPolicy.spec.options with the prefix postern.dev/: one table of names, values and what they set.
 * Values are exact (no spaces around them, lower case unless said otherwise). None turns verification off. Pure.
 *
 *   min-tls-version       1.2 (default) or 1.3
 *   max-tls-version       1.2 or 1.3 (default); not below min-tls-version
 *   cipher-suites         TLS 1.3 suites in order of preference: TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384,
 *                         TLS_CHACHA20_POLY1305_SHA256. Default: these, in this order. Not with max-tls-version 1.2
 *   ciphers               TLS 1.2 suites in order of preference, by OpenSSL's name or IANA's: ECDHE-ECDSA- or
 *                         ECDHE-RSA- with AES128-GCM-SHA256, AES256-GCM-SHA384 or CHACHA20-POLY1305. Default: these
 *                         six, AES-128 first. Not with min-tls-version 1.3
 *   groups                X25519, X448, P-256 (secp256r1, prime256v1), P-384 (secp384r1), P-521 (secp521r1),
 *                         X25519MLKEM768, SecP256r1MLKEM768, SecP384r1MLKEM1024. Default X25519:P-256:P-384. The key
 *                         share is of the first; a backend that wants another costs one round trip. The hybrids need an
 *                         OpenSSL that has them (3.5), else the policy is Invalid, and TLS 1.3: alone with
 *                         max-tls-version 1.2 they are Invalid, too
 *   signature-algorithms  ecdsa_secp256r1_sha256, ecdsa_secp384r1_sha384, ecdsa_secp521r1_sha512, ed25519, ed448,
 *                         rsa_pss_rsae_sha256|384|512, rsa_pss_pss_sha256|384|512, rsa_pkcs1_sha256|384|512. With what
 *                         the backend may sign the handshake. Default: all. The rsa_pkcs1 ones are for TLS 1.2 only:
 *                         alone they need max-tls-version 1.2
 *       The four lists: names in any case, separated by colons, commas or spaces, each once. What is not named here
 *       (anything without forward secrecy or AEAD, MD5, SHA-1) cannot be had.
 *   alpn                  h2, http/1.1 or none: the one protocol offered. Default by the Service's appProtocol and its
 *                         Routes (design section 6). h2 must be selected by the backend; http/1.1 need not be
 *   verify-depth          0 to 100: most certificates between the leaf and the trust anchor. Default 100
 *   partial-chain         true or false (default). true: each certificate of the CA bundle is a trust anchor, also an
 *                         intermediate without its root, and the leaf itself
 *   crl                   configmap/NAME or secret/NAME (the kind in any case) in the policy's namespace, key ca.crl:
 *                         PEM of one or more X509 CRL blocks. The leaf must have a valid CRL of its issuer, an
 *                         intermediate only where one is there. No CRL, or one past its nextUpdate: refused
 * (crl_unusable) pin-sha256            1 to 16 pins separated by commas or spaces: base64 of the SHA-256 of the DER of
 *                         SubjectPublicKeyInfo, "sha256/" before it or not. The leaf's key must be one of them, beside
 *                         everything else. `openssl x509 -pubkey -noout -in tls.crt | openssl pkey -pubin -outform DER
 * | openssl dgst -sha256 -binary | base64` makes one handshake-timeout     a duration (GEP-2257) of 1ms to 24h for TLS
 * after TCP is there. Default: the agent's connect-timeout       the same for TCP idle-timeout          a duration of
 * at most 24h without a byte either way, then a reset; 0s (default): none resumption            on (default) or off.
 * off: every connection is a full handshake ktls                  auto (default): kernel TLS where it is proved, user
 * space elsewhere; require: no connection without it; off: user space client-certificate    NAME of a kubernetes.io/tls
 * Secret in the policy's namespace, shown if the backend asks for one, instead of the Gateway's
 */
#ifndef POSTERN_POLICY_OPTIONS_H
#define POSTERN_POLICY_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/object.h"
#include "policy/snapshot.h"
#include "policy/text.h"

/* A ConfigMap or Secret of the policy's own namespace. kind: OBJECT_CONFIG_MAP or OBJECT_SECRET. */
struct option_reference {
	const char *name; /* NULL: not given */
	enum object_kind kind;
};

#define OPTION_MAX_PINS  16
#define OPTION_PIN_BYTES 32

/*
 * What the options say. Strings point into the policy object's option values, or are static: the object must live as
 * long. Lists (suites, ciphers, groups, signature algorithms) were tried on an OpenSSL context: they are accepted by
 * the library that will use them, and hold nothing that the kernel or this design cannot carry (ECDHE and AEAD only).
 */
struct tls_options {
	int min_version; /* TLS1_2_VERSION... */
	int max_version;
	bool alpn_given;
	enum alpn_protocol alpn;
	enum switch_setting ktls;
	unsigned int connect_timeout_ms; /* 0: not given, here and below */
	unsigned int handshake_timeout_ms;
	unsigned int idle_timeout_ms;
	/* As given: tls_list_canonical() makes OpenSSL's list of it. NULL: context.c's own list, here and below. */
	const char *cipher_suites;        /* cipher-suites: TLS 1.3 */
	const char *ciphers;              /* ciphers: TLS 1.2 */
	const char *groups;               /* groups */
	const char *signature_algorithms; /* signature-algorithms */
	int verify_depth;                 /* verify-depth: intermediates at most, 0..100; -1: not given */
	bool partial_chain;               /* partial-chain: a CA certificate that is no root is a trust anchor */
	bool resumption_off;              /* resumption: off */
	struct option_reference crl;      /* crl: "configmap/NAME" or "secret/NAME", key ca.crl */
	struct option_reference client_certificate; /* client-certificate: NAME of a kubernetes.io/tls Secret */
	uint8_t pins[OPTION_MAX_PINS]
	            [OPTION_PIN_BYTES]; /* pin-sha256: SHA-256 of SubjectPublicKeyInfo, any of; sorted, each once */
	size_t pin_count;
};

/*
 * Defaults, then every option that is ours. Foreign keys are let be; a key of ours that is not known, a value that is
 * not, a key without a domain (Gateway API reserves those) or against the grammar, and options that contradict each
 * other are a sentence in problems each.
 */
void options_parse(const struct option_value *values, size_t count, struct tls_options *options, struct text *problems);

/* The names of the table without their prefix, in its order; NULL: index is beyond the last. */
const char *options_name_at(size_t index);

#endif
