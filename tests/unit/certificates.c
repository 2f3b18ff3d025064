// SPDX-License-Identifier: GPL-2.0-only
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "certificates.h"

static void add_extension(X509 *x509, const X509 *issuer, int nid, const char *value)
{
	X509V3_CTX context;
	X509_EXTENSION *extension;

	X509V3_set_ctx(&context, (X509 *)issuer, x509, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	assert_non_null(extension);
	assert_int_equal(X509_add_ext(x509, extension, -1), 1);
	X509_EXTENSION_free(extension);
}

static void add_names(X509 *x509, const struct certificate_name names[static CERTIFICATE_NAMES_MAX])
{
	GENERAL_NAMES *list = GENERAL_NAMES_new();

	for (size_t i = 0; i < CERTIFICATE_NAMES_MAX && names[i].type != 0; i++) {
		GENERAL_NAME *name = GENERAL_NAME_new();
		ASN1_IA5STRING *value = ASN1_IA5STRING_new();
		size_t length = names[i].length > 0 ? names[i].length : strlen(names[i].value);

		assert_int_equal(ASN1_STRING_set(value, names[i].value, (int)length), 1);
		GENERAL_NAME_set0_value(name, names[i].type, value);
		assert_true(sk_GENERAL_NAME_push(list, name) > 0);
	}
	if (sk_GENERAL_NAME_num(list) > 0)
		assert_int_equal(X509_add1_ext_i2d(x509, NID_subject_alt_name, list, 0, X509V3_ADD_DEFAULT), 1);
	GENERAL_NAMES_free(list);
}

static void set_subject(X509 *x509, const char *common_name)
{
	X509_NAME *subject = X509_NAME_new();

	if (common_name)
		assert_int_equal(X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8,
		                                            (const unsigned char *)common_name, -1, -1, 0),
		                 1);
	assert_int_equal(X509_set_subject_name(x509, subject), 1);
	X509_NAME_free(subject);
}

struct certificate *certificate_new(const struct certificate_options *options)
{
	struct certificate *new = calloc(1, sizeof(*new));
	const struct certificate *issuer = options->issuer ? options->issuer : new;
	bool any_time = options->valid_from == 0 && options->valid_until == 0;
	const char *digest = options->digest ? options->digest : "SHA256";
	uint64_t serial = options->serial;

	assert_non_null(new);
	new->key = options->rsa_bits > 0 ? EVP_RSA_gen(options->rsa_bits) : EVP_EC_gen("P-256");
	new->x509 = X509_new();
	assert_non_null(new->key);
	assert_non_null(new->x509);
	if (serial == 0)
		assert_int_equal(RAND_bytes((unsigned char *)&serial, sizeof(serial)), 1);
	ASN1_INTEGER_set_uint64(X509_get_serialNumber(new->x509), serial >> 1);
	X509_set_version(new->x509, X509_VERSION_3);
	set_subject(new->x509, options->common_name);
	X509_set_issuer_name(new->x509, X509_get_subject_name(issuer->x509));
	X509_set_pubkey(new->x509, new->key);
	X509_gmtime_adj(X509_getm_notBefore(new->x509), any_time ? -3600 : options->valid_from);
	X509_gmtime_adj(X509_getm_notAfter(new->x509), any_time ? 86400 : options->valid_until);

	if (options->authority) {
		char constraints[64];

		snprintf(constraints, sizeof(constraints), "critical,CA:TRUE%s%s",
		         options->path_length ? ",pathlen:" : "", options->path_length ? options->path_length : "");
		add_extension(new->x509, issuer->x509, NID_basic_constraints, constraints);
		add_extension(new->x509, issuer->x509, NID_key_usage, "critical,keyCertSign,cRLSign");
	}
	if (!options->no_key_identifiers)
		add_extension(new->x509, issuer->x509, NID_subject_key_identifier, "hash");
	if (options->issuer && !options->no_key_identifiers)
		add_extension(new->x509, issuer->x509, NID_authority_key_identifier, "keyid:always");
	if (options->extended_key_usage)
		add_extension(new->x509, issuer->x509, NID_ext_key_usage, options->extended_key_usage);
	if (options->name_constraints)
		add_extension(new->x509, issuer->x509, NID_name_constraints, options->name_constraints);
	add_names(new->x509, options->names);
	assert_true(X509_sign(new->x509, issuer->key, EVP_get_digestbyname(digest)) > 0);
	return new;
}

void certificate_free(struct certificate *certificate)
{
	if (!certificate)
		return;
	X509_free(certificate->x509);
	EVP_PKEY_free(certificate->key);
	free(certificate);
}

static char *take_text(BIO *bio)
{
	char *data, *text;
	long length = BIO_get_mem_data(bio, &data);

	text = strndup(data, (size_t)length);
	assert_non_null(text);
	BIO_free(bio);
	return text;
}

char *certificate_pem(const struct certificate *const certificates[])
{
	BIO *bio = BIO_new(BIO_s_mem());

	for (size_t i = 0; certificates[i]; i++)
		assert_int_equal(PEM_write_bio_X509(bio, certificates[i]->x509), 1);
	return take_text(bio);
}

char *certificate_key_pem(const struct certificate *certificate)
{
	BIO *bio = BIO_new(BIO_s_mem());

	assert_int_equal(PEM_write_bio_PrivateKey(bio, certificate->key, NULL, NULL, 0, NULL, NULL), 1);
	return take_text(bio);
}

char *certificate_crl_pem(const struct certificate *issuer, const struct certificate *revoked, long next_update)
{
	ASN1_TIME *updated = X509_gmtime_adj(NULL, -3600);
	ASN1_TIME *next = X509_gmtime_adj(NULL, next_update);
	X509_CRL *crl = X509_CRL_new();
	BIO *bio = BIO_new(BIO_s_mem());

	assert_int_equal(X509_CRL_set_version(crl, X509_CRL_VERSION_2), 1);
	assert_int_equal(X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->x509)), 1);
	assert_int_equal(X509_CRL_set1_lastUpdate(crl, updated), 1);
	if (next_update)
		assert_int_equal(X509_CRL_set1_nextUpdate(crl, next), 1);
	if (revoked) {
		X509_REVOKED *entry = X509_REVOKED_new();

		assert_int_equal(X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(revoked->x509)), 1);
		assert_int_equal(X509_REVOKED_set_revocationDate(entry, updated), 1);
		assert_int_equal(X509_CRL_add0_revoked(crl, entry), 1);
	}
	X509_CRL_sort(crl);
	assert_true(X509_CRL_sign(crl, issuer->key, EVP_sha256()) > 0);
	assert_int_equal(PEM_write_bio_X509_CRL(bio, crl), 1);
	X509_CRL_free(crl);
	ASN1_TIME_free(updated);
	ASN1_TIME_free(next);
	return take_text(bio);
}
