/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * certificates.h: X.509 certificates made at run time for tests, so that no fixture ever expires. Failures end the
 * test (cmocka).
 */
#ifndef POSTERN_TESTS_CERTIFICATES_H
#define POSTERN_TESTS_CERTIFICATES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

struct certificate {
	X509 *x509;
	EVP_PKEY *key;
};

#define CERTIFICATE_NAMES_MAX 6

struct certificate_name {
	int type; /* GEN_DNS, GEN_URI, GEN_EMAIL, GEN_IPADD (the bytes); 0 ends the list */
	const char *value;
	size_t length; /* 0: strlen(value); otherwise value may hold NUL bytes */
};

struct certificate_options {
	const char *common_name; /* NULL: empty subject */
	struct certificate_name names[CERTIFICATE_NAMES_MAX];
	const struct certificate *issuer; /* NULL: self-signed */
	bool authority;
	const char *path_length;        /* of an authority; NULL: none */
	const char *extended_key_usage; /* OpenSSL's syntax; NULL: none */
	const char *name_constraints;   /* OpenSSL's syntax; NULL: none */
	const char *digest;             /* NULL: SHA256 */
	unsigned int rsa_bits;          /* 0: P-256 */
	uint64_t serial;                /* 0: random */
	bool no_key_identifiers;        /* nothing that tells two issuers of one name apart */
	long valid_from;                /* seconds from now; both 0: an hour ago until a day from now */
	long valid_until;
};

struct certificate *certificate_new(const struct certificate_options *options);
void certificate_free(struct certificate *certificate); /* NULL-safe */
/* Concatenated PEM of the certificates up to the first NULL; free(). */
char *certificate_pem(const struct certificate *const certificates[]);
/* Its private key, not encrypted; free(). */
char *certificate_key_pem(const struct certificate *certificate);

/*
 * A CRL of the issuer, made an hour ago, that is good until next_update (seconds from now; 0: it does not say);
 * revoked: one certificate, or NULL. PEM; free().
 */
char *certificate_crl_pem(const struct certificate *issuer, const struct certificate *revoked, long next_update);

#endif
