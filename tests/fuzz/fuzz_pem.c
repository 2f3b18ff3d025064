// SPDX-License-Identifier: GPL-2.0-only
/*
 * pem: a letter, then a text -> ca_bundle.c and client_certificate.c. The letter says what the text is:
 *
 *   C  CA certificates        c  the same, the text is DER that becomes one CERTIFICATE block
 *   R  CRLs                   r  the same, one X509 CRL block
 *   S  the system's bundle    K  tls.crt, a line "====", tls.key        k  tls.crt, "====", DER of the key
 *
 * What is accepted is canonical: parsed again it is the same text, it has no other block than its kind, no private key,
 * no weak certificate, and OpenSSL reads each block by itself. What is refused is refused with one line that quotes
 * nothing. Nothing but want of memory is called want of memory.
 */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include <openssl/pem.h>

#include "fuzz.h"
#include "policy/ca_bundle.h"
#include "policy/client_certificate.h"

#define ERROR_SIZE 160
#define QUOTED     24 /* so many characters of base64 in a row are no word */

static void check_error(int result, const char *error)
{
	size_t run = 0;

	FUZZ_CHECK(result == -EINVAL, "result %d: %s", result, error);
	FUZZ_CHECK(fuzz_is_message(error, ERROR_SIZE), "\"%s\"", error);
	for (; *error; error++) {
		run = isalnum((unsigned char)*error) || strchr("+/=", *error) ? run + 1 : 0;
		FUZZ_CHECK(run < QUOTED, "the message quotes what it refuses");
	}
}

/* Text that holds one block. */
static char *armour(const char *name, const uint8_t *data, size_t size, size_t *length)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *bytes, *text;

	FUZZ_CHECK(bio && PEM_write_bio(bio, name, "", data, (long)size), "no PEM");
	*length = (size_t)BIO_get_mem_data(bio, &bytes);
	text = fuzz_text((const uint8_t *)bytes, *length);
	BIO_free(bio);
	return text;
}

static void check_block(BIO *bio, const char *name)
{
	const char *why;

	if (!strcmp(name, PEM_STRING_X509)) {
		X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);

		FUZZ_CHECK(certificate, "an accepted certificate cannot be read");
		FUZZ_CHECK(!certificate_is_weak(certificate, &why), "an accepted certificate %s", why);
		X509_free(certificate);
	} else {
		X509_CRL *crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL);

		FUZZ_CHECK(crl, "an accepted CRL cannot be read");
		X509_CRL_free(crl);
	}
}

static void check_bundle(const struct shared_text *bundle, const char *name,
                         int (*parse)(const char *text, size_t size, struct shared_text **bundle, char *error,
                                      size_t error_size))
{
	struct shared_text *again = NULL;
	size_t blocks = 0, name_length = strlen(name);
	char error[ERROR_SIZE];
	BIO *bio = BIO_new_mem_buf(bundle->text, (int)bundle->length);

	FUZZ_CHECK(bundle->length && strlen(bundle->text) == bundle->length, "length %zu", bundle->length);
	FUZZ_CHECK(!strstr(bundle->text, "PRIVATE KEY-----"), "a private key among certificates");
	for (const char *begin = bundle->text; (begin = strstr(begin, "-----BEGIN ")); begin += 11) {
		FUZZ_CHECK(!strncmp(begin + 11, name, name_length) && !strncmp(begin + 11 + name_length, "-----", 5),
		           "a block of another kind");
		blocks++;
	}
	FUZZ_CHECK(blocks && bio, "no block");
	for (size_t i = 0; i < blocks; i++)
		check_block(bio, name);
	BIO_free(bio);
	FUZZ_CHECK(parse(bundle->text, bundle->length, &again, error, sizeof(error)) == 0, "not parsed again: %s",
	           error);
	FUZZ_CHECK(again->length == bundle->length && !memcmp(again->text, bundle->text, bundle->length) &&
	                   !memcmp(again->digest, bundle->digest, sizeof(again->digest)),
	           "not canonical");
	shared_text_unref(again);
}

static void fuzz_bundle(const char *text, size_t size, const char *name,
                        int (*parse)(const char *text, size_t size, struct shared_text **bundle, char *error,
                                     size_t error_size))
{
	struct shared_text *bundle = NULL;
	char error[ERROR_SIZE] = "";
	int result = parse(text, size, &bundle, error, sizeof(error));

	if (result < 0)
		check_error(result, error);
	else
		check_bundle(bundle, name, parse);
	shared_text_unref(bundle);
}

/* What the strict reader takes, the system's takes, too, and leaves nothing out. */
static void fuzz_system(const char *text, size_t size)
{
	struct shared_text *bundle = NULL, *strict = NULL;
	size_t left_out = 0, left_out_again;
	char error[ERROR_SIZE] = "";
	int result = ca_bundle_parse_system(text, size, &bundle, &left_out, error, sizeof(error));

	if (result < 0)
		check_error(result, error);
	else
		check_bundle(bundle, PEM_STRING_X509, ca_bundle_canonical);
	if (ca_bundle_parse(text, size, &strict, error, sizeof(error)) == 0) {
		FUZZ_CHECK(result == 0 && !left_out, "the system's reader is stricter: %s, %zu left out", error,
		           left_out);
		FUZZ_CHECK(!strcmp(strict->text, bundle->text), "the readers differ");
	}
	if (result == 0) {
		shared_text_unref(strict);
		FUZZ_CHECK(ca_bundle_parse_system(bundle->text, bundle->length, &strict, &left_out_again, error,
		                                  sizeof(error)) == 0 &&
		                   !left_out_again,
		           "the system's reader does not take its own");
	}
	shared_text_unref(strict);
	shared_text_unref(bundle);
}

static void check_client_certificate(struct client_certificate *certificate)
{
	const char *why;

	FUZZ_CHECK(certificate->leaf && certificate->key && certificate->chain, "a part is missing");
	FUZZ_CHECK(X509_check_private_key(certificate->leaf, certificate->key) == 1, "not a pair");
	FUZZ_CHECK(!certificate_is_weak(certificate->leaf, &why), "the leaf %s", why);
	for (int i = 0; i < sk_X509_num(certificate->chain); i++)
		FUZZ_CHECK(!certificate_is_weak(sk_X509_value(certificate->chain, i), &why), "the chain %s", why);
	client_certificate_unref(client_certificate_ref(certificate));
}

static void fuzz_client(const uint8_t *data, size_t size, bool der)
{
	static const char separator[] = "\n====\n";
	const uint8_t *end = size ? memmem(data, size, separator, strlen(separator)) : NULL;
	struct client_certificate *certificate = NULL;
	char error[ERROR_SIZE] = "", *key;
	size_t key_size;
	int result;

	if (!end)
		return;
	key_size = size - (size_t)(end - data) - strlen(separator);
	key = der ? armour("PRIVATE KEY", end + strlen(separator), key_size, &key_size)
	          : fuzz_text(end + strlen(separator), key_size);
	result = client_certificate_new((const char *)data, (size_t)(end - data) + 1, key, key_size, &certificate,
	                                error, sizeof(error));
	if (result < 0) {
		check_error(result, error);
		FUZZ_CHECK(!strncmp(error, "tls.crt: ", 9) || !strncmp(error, "tls.key: ", 9), "\"%s\"", error);
	} else {
		check_client_certificate(certificate);
	}
	client_certificate_unref(certificate);
	free(key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t length = size ? size - 1 : 0;
	char *text;

	if (!size)
		return 0;
	switch (data[0]) {
	case 'c':
		text = armour(PEM_STRING_X509, data + 1, length, &length);
		fuzz_bundle(text, length, PEM_STRING_X509, ca_bundle_parse);
		break;
	case 'r':
		text = armour(PEM_STRING_X509_CRL, data + 1, length, &length);
		fuzz_bundle(text, length, PEM_STRING_X509_CRL, crl_bundle_parse);
		break;
	case 'R':
		text = fuzz_text(data + 1, length);
		fuzz_bundle(text, length, PEM_STRING_X509_CRL, crl_bundle_parse);
		break;
	case 'S':
		text = fuzz_text(data + 1, length);
		fuzz_system(text, length);
		break;
	case 'K':
	case 'k':
		fuzz_client(data + 1, length, data[0] == 'k');
		return 0;
	default:
		text = fuzz_text(data + 1, length);
		fuzz_bundle(text, length, PEM_STRING_X509, ca_bundle_parse);
	}
	free(text);
	return 0;
}
