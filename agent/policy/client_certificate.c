// SPDX-License-Identifier: GPL-2.0-only
#include "policy/client_certificate.h"

#include <errno.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "policy/ca_bundle.h"
#include "policy/pem_blocks.h"

#define MAX_CHAIN_BYTES (100u << 10) /* OpenSSL's peers take no longer ones (SSL_CTX_set_max_cert_list()) */
#define MAX_KEY_BYTES   (8u << 10)   /* an RSA key of 8192 bits has 6.4 KB */
#define MAX_KEY_BITS    8192         /* each handshake waits for a signature: 60 ms with so many */

struct complaint {
	char *text;
	size_t size;
};

static int refuse(const struct complaint *complaint, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* -EINVAL, unless OpenSSL failed for want of memory. */
static int refuse(const struct complaint *complaint, const char *format, ...)
{
	va_list arguments;

	if (openssl_ran_out_of_memory())
		return -ENOMEM;
	va_start(arguments, format);
	vsnprintf(complaint->text, complaint->size, format, arguments);
	va_end(arguments);
	return -EINVAL;
}

/* Takes over x509. The first is the leaf. */
static int add_certificate(struct client_certificate *certificate, X509 *x509)
{
	if (!certificate->leaf) {
		certificate->leaf = x509;
		return 0;
	}
	if (sk_X509_push(certificate->chain, x509))
		return 0;
	X509_free(x509);
	return -ENOMEM;
}

static int take_certificate(struct client_certificate *certificate, const struct pem_block *block, size_t number,
                            const struct complaint *complaint)
{
	const unsigned char *end = block->bytes;
	const char *why;
	X509 *x509;

	if (strstr(block->name, "PRIVATE KEY"))
		return refuse(complaint, "tls.crt: block %zu is a PRIVATE KEY: it belongs into tls.key", number);
	if (strcmp(block->name, PEM_STRING_X509) || block->header[0])
		return refuse(complaint, "tls.crt: block %zu is not a CERTIFICATE", number);
	x509 = d2i_X509(NULL, &end, block->length);
	if (!x509 || end != block->bytes + block->length || !X509_get0_pubkey(x509)) {
		X509_free(x509);
		return refuse(complaint, "tls.crt: block %zu does not hold one valid X.509 certificate", number);
	}
	if (certificate_is_weak(x509, &why)) {
		X509_free(x509);
		return refuse(complaint, "tls.crt: block %zu %s", number, why);
	}
	return add_certificate(certificate, x509);
}

/* "openssl ecparam -genkey" writes the curve before the key; the key says it, too. */
static bool is_passed_over(const struct pem_block *block)
{
	return !strcmp(block->name, PEM_STRING_ECPARAMETERS);
}

static int take_key(struct client_certificate *certificate, const struct pem_block *block, size_t number,
                    const struct complaint *complaint)
{
	const unsigned char *end = block->bytes;

	if (is_passed_over(block))
		return 0;
	if (!strstr(block->name, "PRIVATE KEY"))
		return refuse(complaint, "tls.key: block %zu is not a private key", number);
	if (!strcmp(block->name, PEM_STRING_PKCS8) || strstr(block->header, "ENCRYPTED"))
		return refuse(complaint, "tls.key: the private key is encrypted: store it without a passphrase");
	if (certificate->key)
		return refuse(complaint, "tls.key: holds more than one private key");
	certificate->key = d2i_AutoPrivateKey(NULL, &end, block->length);
	if (!certificate->key || end != block->bytes + block->length)
		return refuse(complaint, "tls.key: block %zu does not hold one valid private key", number);
	return 0;
}

/* One key of the Secret: what its messages call it, how large it may be, and what becomes of each of its blocks. */
struct secret_part {
	const char *name;
	size_t most_bytes;
	int (*take)(struct client_certificate *certificate, const struct pem_block *block, size_t number,
	            const struct complaint *complaint);
};

static const struct secret_part chain_part = {"tls.crt", MAX_CHAIN_BYTES, take_certificate};
static const struct secret_part key_part = {"tls.key", MAX_KEY_BYTES, take_key};

static int read_part(struct client_certificate *certificate, const struct secret_part *part, const char *text,
                     size_t size, const struct complaint *complaint)
{
	_cleanup_(pem_blocks_close) BIO *reader = pem_blocks_open(text, size);
	size_t count = 0;
	int result;

	if (size > part->most_bytes)
		return refuse(complaint, "%s: larger than %zu KiB", part->name, part->most_bytes >> 10);
	if (!reader)
		return -ENOMEM;
	for (;;) {
		_cleanup_(pem_block_clear) struct pem_block block = {0};

		result = pem_blocks_next(reader, &block);
		if (result == -EINVAL)
			return refuse(complaint, "%s: block %zu is not readable PEM", part->name, count + 1);
		if (result <= 0)
			break;
		result = part->take(certificate, &block, ++count, complaint);
		if (result < 0)
			return result;
	}
	if (result < 0)
		return result;
	return pem_blocks_are_all(text, size, count)
	               ? 0
	               : refuse(complaint, "%s: has a PEM line that belongs to no whole block", part->name);
}

static int read_chain(struct client_certificate *certificate, const char *text, size_t size,
                      const struct complaint *complaint)
{
	int result = read_part(certificate, &chain_part, text, size, complaint);

	if (result < 0)
		return result;
	return certificate->leaf ? 0 : refuse(complaint, "tls.crt: holds no certificate");
}

static int read_key(struct client_certificate *certificate, const char *text, size_t size,
                    const struct complaint *complaint)
{
	int result = read_part(certificate, &key_part, text, size, complaint);

	if (result < 0)
		return result;
	return certificate->key ? 0 : refuse(complaint, "tls.key: holds no private key");
}

static bool can_sign_in_tls(EVP_PKEY *key)
{
	switch (EVP_PKEY_get_base_id(key)) {
	case EVP_PKEY_RSA:
	case EVP_PKEY_RSA_PSS:
	case EVP_PKEY_EC:
	case EVP_PKEY_ED25519:
	case EVP_PKEY_ED448:
		return true;
	default:
		return false;
	}
}

/* A signature costs what its numbers weigh: none of an RSA key's is longer than its modulus, unless somebody made it.
 */
static bool is_cheap_to_use(EVP_PKEY *key)
{
	static const char *const names[] = {OSSL_PKEY_PARAM_RSA_E,           OSSL_PKEY_PARAM_RSA_D,
	                                    OSSL_PKEY_PARAM_RSA_FACTOR1,     OSSL_PKEY_PARAM_RSA_FACTOR2,
	                                    OSSL_PKEY_PARAM_RSA_EXPONENT1,   OSSL_PKEY_PARAM_RSA_EXPONENT2,
	                                    OSSL_PKEY_PARAM_RSA_COEFFICIENT1};
	bool cheap = EVP_PKEY_get_bits(key) <= MAX_KEY_BITS;

	for (size_t i = 0; cheap && i < ARRAY_SIZE(names); i++) {
		BIGNUM *number = NULL;

		if (EVP_PKEY_get_bn_param(key, names[i], &number) == 1) /* those of other kinds of key have none */
			cheap = BN_num_bits(number) <= EVP_PKEY_get_bits(key);
		BN_clear_free(number);
	}
	ERR_clear_error();
	return cheap;
}

/* Equal public halves do not say that the private half is whole: a signature does. */
static bool signs_for(EVP_PKEY *private_key, EVP_PKEY *public_key)
{
	static const unsigned char message[] = "postern: does this key sign for this certificate?";
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	unsigned char *signature = NULL;
	size_t size = 0;
	bool good = context && EVP_DigestSignInit_ex(context, NULL, NULL, NULL, NULL, private_key, NULL) == 1 &&
	            EVP_DigestSign(context, NULL, &size, message, sizeof(message)) == 1 &&
	            (signature = OPENSSL_malloc(size)) &&
	            EVP_DigestSign(context, signature, &size, message, sizeof(message)) == 1;

	good = good && EVP_MD_CTX_reset(context) == 1 &&
	       EVP_DigestVerifyInit_ex(context, NULL, NULL, NULL, NULL, public_key, NULL) == 1 &&
	       EVP_DigestVerify(context, signature, size, message, sizeof(message)) == 1;
	OPENSSL_free(signature);
	EVP_MD_CTX_free(context);
	return good;
}

static int check_pair(const struct client_certificate *certificate, const struct complaint *complaint)
{
	if (!can_sign_in_tls(certificate->key))
		return refuse(complaint, "tls.key: the private key is of a kind that TLS does not use");
	if (!is_cheap_to_use(certificate->key))
		return refuse(complaint,
		              "tls.key: the private key has numbers of more than %d bits, or longer ones than "
		              "its modulus",
		              MAX_KEY_BITS);
	if (X509_check_private_key(certificate->leaf, certificate->key) != 1)
		return refuse(complaint, "tls.key: the private key does not belong to the first certificate of "
		                         "tls.crt");
	if (!signs_for(certificate->key, X509_get0_pubkey(certificate->leaf)))
		return refuse(complaint, "tls.key: the private key is damaged: it does not sign for the first "
		                         "certificate of tls.crt");
	ERR_clear_error();
	return 0;
}

static bool digest_certificate(EVP_MD_CTX *context, X509 *x509)
{
	unsigned char *bytes = NULL;
	int length = i2d_X509(x509, &bytes);
	bool done = length > 0 && EVP_DigestUpdate(context, bytes, (size_t)length) == 1;

	OPENSSL_free(bytes);
	return done;
}

static bool digest_public_key(EVP_MD_CTX *context, EVP_PKEY *key)
{
	unsigned char *bytes = NULL;
	int length = i2d_PUBKEY(key, &bytes);
	bool done = length > 0 && EVP_DigestUpdate(context, bytes, (size_t)length) == 1;

	OPENSSL_free(bytes);
	return done;
}

static int set_digest(struct client_certificate *certificate)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool done = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1 &&
	            digest_certificate(context, certificate->leaf);

	for (int i = 0; done && i < sk_X509_num(certificate->chain); i++)
		done = digest_certificate(context, sk_X509_value(certificate->chain, i));
	done = done && digest_public_key(context, certificate->key) &&
	       EVP_DigestFinal_ex(context, certificate->digest, NULL) == 1;
	EVP_MD_CTX_free(context);
	return done ? 0 : -ENOMEM;
}

static int set_expiry(struct client_certificate *certificate, const struct complaint *complaint)
{
	struct tm time = {0};

	if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate->leaf), &time) != 1)
		return refuse(complaint, "tls.crt: block 1 has no valid notAfter");
	certificate->not_after = timegm(&time);
	return 0;
}

int client_certificate_new(const char *certificate_pem, size_t certificate_size, const char *key_pem, size_t key_size,
                           struct client_certificate **result_certificate, char *error, size_t error_size)
{
	struct client_certificate *certificate = calloc(1, sizeof(*certificate));
	const struct complaint complaint = {error, error_size};
	int result = -ENOMEM;

	if (!certificate)
		return -ENOMEM;
	atomic_init(&certificate->references, 1);
	certificate->chain = sk_X509_new_null();
	if (!certificate->chain)
		goto out;
	if ((result = read_chain(certificate, certificate_pem, certificate_size, &complaint)) < 0 ||
	    (result = read_key(certificate, key_pem, key_size, &complaint)) < 0 ||
	    (result = check_pair(certificate, &complaint)) < 0 || (result = set_expiry(certificate, &complaint)) < 0 ||
	    (result = set_digest(certificate)) < 0)
		goto out;
	*result_certificate = TAKE_PTR(certificate);
out:
	client_certificate_unref(certificate);
	return result;
}

struct client_certificate *client_certificate_ref(struct client_certificate *certificate)
{
	atomic_fetch_add_explicit(&certificate->references, 1, memory_order_relaxed);
	return certificate;
}

void client_certificate_unref(struct client_certificate *certificate)
{
	if (!certificate || atomic_fetch_sub_explicit(&certificate->references, 1, memory_order_acq_rel) != 1)
		return;
	X509_free(certificate->leaf);
	sk_X509_pop_free(certificate->chain, X509_free);
	EVP_PKEY_free(certificate->key); /* wipes the private half */
	free(certificate);
}
