// SPDX-License-Identifier: GPL-2.0-only
#include "policy/ca_bundle.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

struct der {
	unsigned char *bytes;
	size_t length;
};

struct der_list {
	struct der *items;
	size_t count;
	size_t capacity;
};

static void der_list_free(struct der_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		OPENSSL_free(list->items[i].bytes);
	free(list->items);
}

static void free_bio(BIO **bio)
{
	BIO_free(*bio);
}

/* Takes over bytes, on failure too. */
static int der_list_add(struct der_list *list, unsigned char *bytes, size_t length)
{
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 8;
		struct der *items = reallocarray(list->items, capacity, sizeof(*items));

		if (!items) {
			OPENSSL_free(bytes);
			return -ENOMEM;
		}
		list->items = items;
		list->capacity = capacity;
	}
	list->items[list->count++] = (struct der){bytes, length};
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

/* Empties the queue. OpenSSL says of want of memory what it says of bad input: it failed. */
static bool ran_out_of_memory(void)
{
	unsigned long code;
	bool found = false;

	while ((code = ERR_get_error()))
		found |= ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE;
	return found;
}

static bool is_one_certificate(const unsigned char *bytes, long length)
{
	const unsigned char *end = bytes;
	X509 *certificate = d2i_X509(NULL, &end, length);
	bool whole = certificate && end == bytes + length && X509_get0_pubkey(certificate);

	X509_free(certificate);
	return whole;
}

static size_t count_lines(const char *text, size_t size, const char *prefix)
{
	const char *line = text;
	size_t count = 0;

	while (line) {
		size_t left = size - (size_t)(line - text);

		if (left >= strlen(prefix) && !memcmp(line, prefix, strlen(prefix)))
			count++;
		line = memchr(line, '\n', left);
		if (line)
			line++;
	}
	return count;
}

/* One block: 1, 0 when there is no more, or negative errno with the message. */
static int read_block(BIO *bio, struct der_list *list, char *error, size_t error_size)
{
	char *name = NULL, *header = NULL;
	unsigned char *bytes = NULL;
	const char *problem = NULL;
	long length = 0;
	int result = 1;

	if (!PEM_read_bio(bio, &name, &header, &bytes, &length)) {
		unsigned long code = ERR_peek_last_error();

		if (ran_out_of_memory())
			return -ENOMEM;
		if (ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE)
			return 0;
		snprintf(error, error_size, "block %zu is not readable PEM", list->count + 1);
		return -EINVAL;
	}
	if (strstr(name, "PRIVATE KEY"))
		problem = "is a private key: remove it, and consider the key compromised";
	else if (strcmp(name, PEM_STRING_X509))
		problem = "is not a CERTIFICATE";
	else if (header[0])
		problem = "has PEM headers";
	else if (!is_one_certificate(bytes, length))
		problem = "does not hold one valid X.509 certificate";
	if (ran_out_of_memory()) {
		OPENSSL_clear_free(bytes, (size_t)length);
		result = -ENOMEM;
	} else if (problem) {
		snprintf(error, error_size, "block %zu %s", list->count + 1, problem);
		OPENSSL_clear_free(bytes, (size_t)length);
		result = -EINVAL;
	} else if (der_list_add(list, bytes, (size_t)length) < 0) {
		result = -ENOMEM;
	}
	OPENSSL_free(name);
	OPENSSL_free(header);
	return result;
}

static int write_bundle(struct der_list *list, struct shared_text **bundle)
{
	_cleanup_(free_bio) BIO *bio = BIO_new(BIO_s_mem());
	char *text;
	long length;

	if (!bio)
		return -ENOMEM;
	qsort(list->items, list->count, sizeof(*list->items), der_compare);
	for (size_t i = 0; i < list->count; i++) {
		if (i && !der_compare(&list->items[i - 1], &list->items[i]))
			continue;
		if (!PEM_write_bio(bio, PEM_STRING_X509, "", list->items[i].bytes, (long)list->items[i].length))
			return -ENOMEM;
	}
	length = BIO_get_mem_data(bio, &text);
	*bundle = shared_text_new(text, (size_t)length);
	return *bundle ? 0 : -ENOMEM;
}

int ca_bundle_canonical(const char *text, size_t size, struct shared_text **bundle, char *error, size_t error_size)
{
	_cleanup_(der_list_free) struct der_list list = {0};
	_cleanup_(free_bio) BIO *bio = BIO_new_mem_buf(text, (int)size);
	int result;

	if (!bio)
		return -ENOMEM;
	do
		result = read_block(bio, &list, error, error_size);
	while (result > 0);
	if (result < 0)
		return result;
	if (!list.count) {
		snprintf(error, error_size, "holds no certificate");
		return -EINVAL;
	}
	/* What OpenSSL skips must not be half of a block. */
	if (count_lines(text, size, "-----BEGIN") != list.count || count_lines(text, size, "-----END") != list.count) {
		snprintf(error, error_size, "has a PEM line that belongs to no whole block");
		return -EINVAL;
	}
	return write_bundle(&list, bundle);
}

int ca_bundle_parse(const char *text, size_t size, struct shared_text **bundle, char *error, size_t error_size)
{
	if (size > CA_BUNDLE_MAX_BYTES) {
		snprintf(error, error_size, "larger than %u MiB", CA_BUNDLE_MAX_BYTES >> 20);
		return -EINVAL;
	}
	return ca_bundle_canonical(text, size, bundle, error, error_size);
}
