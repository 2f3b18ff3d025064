// SPDX-License-Identifier: GPL-2.0-only
#include "policy/ca_bundle.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/sorted.h"
#include "policy/pem_blocks.h"
#include "policy/vector.h"

/* OpenSSL's security level 2, which tls/context.c sets. */
#define SECURITY_BITS 112

struct der {
	unsigned char *bytes;
	size_t length;
};

struct der_list {
	struct der *items;
	size_t count;
	size_t capacity;
};

/* What a text must consist of. */
struct content {
	const char *block_name;
	const char *empty; /* what is said of a text without any */
	const char *(*problem)(const unsigned char *bytes, long length);
	bool leave_out; /* blocks that cannot be used are counted, no error */
};

static void der_list_free(struct der_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		OPENSSL_free(list->items[i].bytes);
	free(list->items);
}

static int der_list_add(struct der_list *list, const struct pem_block *block)
{
	unsigned char *bytes;

	if (vector_reserve(&list->items, list->count, &list->capacity, sizeof(*list->items)) < 0)
		return -ENOMEM;
	bytes = OPENSSL_memdup(block->bytes, (size_t)block->length);
	if (!bytes)
		return -ENOMEM;
	list->items[list->count++] = (struct der){bytes, (size_t)block->length};
	return 0;
}

static int der_compare(const void *left_pointer, const void *right_pointer)
{
	const struct der *left = left_pointer, *right = right_pointer;
	size_t common = left->length < right->length ? left->length : right->length;
	int order = memcmp(left->bytes, right->bytes, common);

	if (order)
		return order;
	return left->length < right->length ? -1 : left->length > right->length;
}

static const char *weak_key(EVP_PKEY *key)
{
	if (EVP_PKEY_get_security_bits(key) >= SECURITY_BITS)
		return NULL;
	switch (EVP_PKEY_get_base_id(key)) {
	case EVP_PKEY_RSA:
	case EVP_PKEY_RSA_PSS:
		return "has an RSA key below 2048 bits";
	case EVP_PKEY_DSA:
		return "has a DSA key below 2048 bits";
	case EVP_PKEY_EC:
		return "has an EC key below 224 bits";
	default:
		return "has a key of less than 112 bits of security";
	}
}

bool certificate_is_weak(X509 *certificate, const char **why)
{
	EVP_PKEY *key = X509_get0_pubkey(certificate);
	int security_bits = -1;

	*why = key ? weak_key(key) : "has a key of an unknown kind";
	/* The same test as OpenSSL's own: names and key identifiers alone say "self-signed" (EXFLAG_SS). */
	if (*why || (X509_get_extension_flags(certificate) & EXFLAG_SS))
		return *why != NULL;
	if (!X509_get_signature_info(certificate, NULL, NULL, &security_bits, NULL) || security_bits < SECURITY_BITS)
		*why = "is signed with MD5, SHA-1 or another digest of less than 112 bits of security";
	return *why != NULL;
}

static const char *certificate_problem(const unsigned char *bytes, long length)
{
	const unsigned char *end = bytes;
	X509 *certificate = d2i_X509(NULL, &end, length);
	const char *why = NULL;

	if (!certificate || end != bytes + length || !X509_get0_pubkey(certificate))
		why = "does not hold one valid X.509 certificate";
	else
		certificate_is_weak(certificate, &why);
	X509_free(certificate);
	return why;
}

static const char *crl_problem(const unsigned char *bytes, long length)
{
	const unsigned char *end = bytes;
	X509_CRL *crl = d2i_X509_CRL(NULL, &end, length);
	const char *why = NULL;

	if (!crl || end != bytes + length)
		why = "does not hold one valid X.509 CRL";
	else if (!X509_CRL_get0_nextUpdate(crl))
		why = "has no nextUpdate, without which it would be believed for ever (RFC 5280 section 5.1.2.5)";
	X509_CRL_free(crl);
	return why;
}

static const char *block_problem(const struct pem_block *block, const struct content *content)
{
	if (strstr(block->name, "PRIVATE KEY"))
		return "is a PRIVATE KEY, which does not belong here: remove it, and consider the key compromised";
	if (strcmp(block->name, content->block_name))
		return !strcmp(content->block_name, PEM_STRING_X509) ? "is not a CERTIFICATE" : "is not an X509 CRL";
	if (block->header[0])
		return "has PEM headers";
	return content->problem(block->bytes, block->length);
}

/* One block: 1, 0 when there is no more, or negative errno with the message. */
static int read_block(BIO *reader, const struct content *content, struct der_list *list, size_t *left_out, char *error,
                      size_t error_size)
{
	_cleanup_(pem_block_clear) struct pem_block block = {0};
	size_t number = list->count + *left_out + 1;
	const char *problem = "is not readable PEM";
	int result = pem_blocks_next(reader, &block);

	if (result == 0 || result == -ENOMEM)
		return result;
	if (result > 0)
		problem = block_problem(&block, content);
	if (openssl_ran_out_of_memory())
		return -ENOMEM;
	if (!problem)
		return der_list_add(list, &block) < 0 ? -ENOMEM : 1;
	if (content->leave_out) {
		(*left_out)++;
		return 1;
	}
	snprintf(error, error_size, "block %zu %s", number, problem);
	return -EINVAL;
}

static int write_bundle(struct der_list *list, const char *block_name, struct shared_text **bundle)
{
	_cleanup_(pem_blocks_close) BIO *bio = BIO_new(BIO_s_mem());
	char *text;
	long length;

	if (!bio)
		return -ENOMEM;
	sort_list(list->items, list->count, sizeof(*list->items), der_compare);
	for (size_t i = 0; i < list->count; i++) {
		if (i && !der_compare(&list->items[i - 1], &list->items[i]))
			continue;
		if (!PEM_write_bio(bio, block_name, "", list->items[i].bytes, (long)list->items[i].length))
			return -ENOMEM;
	}
	length = BIO_get_mem_data(bio, &text);
	*bundle = shared_text_new(text, (size_t)length);
	return *bundle ? 0 : -ENOMEM;
}

static int parse(const char *text, size_t size, const struct content *content, struct shared_text **bundle,
                 size_t *left_out, char *error, size_t error_size)
{
	_cleanup_(der_list_free) struct der_list list = {0};
	_cleanup_(pem_blocks_close) BIO *reader = pem_blocks_open(text, size);
	int result;

	*left_out = 0;
	if (!reader)
		return -ENOMEM;
	do
		result = read_block(reader, content, &list, left_out, error, error_size);
	while (result > 0);
	if (result < 0)
		return result;
	if (!content->leave_out && !pem_blocks_are_all(text, size, list.count)) {
		snprintf(error, error_size, "has a PEM line that belongs to no whole block");
		return -EINVAL;
	}
	if (!list.count) {
		snprintf(error, error_size, "%s", content->empty);
		return -EINVAL;
	}
	return write_bundle(&list, content->block_name, bundle);
}

static bool is_too_large(size_t size, char *error, size_t error_size)
{
	if (size <= CA_BUNDLE_MAX_BYTES)
		return false;
	snprintf(error, error_size, "larger than %u MiB", CA_BUNDLE_MAX_BYTES >> 20);
	return true;
}

static const struct content certificates = {
        .block_name = PEM_STRING_X509, .empty = "holds no certificate", .problem = certificate_problem};
static const struct content system_certificates = {.block_name = PEM_STRING_X509,
                                                   .empty = "holds no certificate that can be used",
                                                   .problem = certificate_problem,
                                                   .leave_out = true};
static const struct content crls = {.block_name = PEM_STRING_X509_CRL, .empty = "holds no CRL", .problem = crl_problem};

int ca_bundle_canonical(const char *text, size_t size, struct shared_text **bundle, char *error, size_t error_size)
{
	size_t left_out;

	return parse(text, size, &certificates, bundle, &left_out, error, error_size);
}

int ca_bundle_parse(const char *text, size_t size, struct shared_text **bundle, char *error, size_t error_size)
{
	return is_too_large(size, error, error_size) ? -EINVAL
	                                             : ca_bundle_canonical(text, size, bundle, error, error_size);
}

int ca_bundle_parse_system(const char *text, size_t size, struct shared_text **bundle, size_t *left_out, char *error,
                           size_t error_size)
{
	return parse(text, size, &system_certificates, bundle, left_out, error, error_size);
}

int crl_bundle_parse(const char *text, size_t size, struct shared_text **bundle, char *error, size_t error_size)
{
	size_t left_out;

	return is_too_large(size, error, error_size) ? -EINVAL
	                                             : parse(text, size, &crls, bundle, &left_out, error, error_size);
}
