// SPDX-License-Identifier: GPL-2.0-only
#include "tls/provider.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/x509.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "tls/hmac.h"
#include "tls/keys.h"
#include "tls/settings_refusal.h"

#define NAME           "postern"
#define DECODES_FAST   0x30200000ul /* from this version on decoders are looked up in a cache */
#define ALGORITHMS_MAX 16
#define FUNCTIONS_MAX  16 /* of a key derivation, the end included */

/* RFC 8446 7.1 */
#define CLIENT_LABEL "c ap traffic"
#define SERVER_LABEL "s ap traffic"

/*
 * What a handshake of ours and the chain in it can need, by the first of an algorithm's names. It is so short since
 * OpenSSL, when it looks for one kind of algorithm, walks over all that it ever fetched in this context.
 */
static const struct wanted {
	int operation;
	const char *names[ALGORITHMS_MAX];
} table[] = {
        /* those of signatures in chains, whatever becomes of them */
        {OSSL_OP_DIGEST,
         {"SHA1", "SHA2-224", "SHA2-256", "SHA2-384", "SHA2-512", "SHA2-512/256", "SHA3-256", "SHA3-384", "SHA3-512"}},
        {OSSL_OP_CIPHER, {"AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305"}},
        {OSSL_OP_MAC, {"HMAC"}},
        {OSSL_OP_KDF, {"TLS13-KDF", "TLS1-PRF"}},
        {OSSL_OP_RAND, {"CTR-DRBG", "SEED-SRC"}},
        {OSSL_OP_KEYMGMT, {"RSA", "RSA-PSS", "EC", "ED25519", "ED448", "X25519", "X448", "DSA", "HMAC"}},
        {OSSL_OP_KEYEXCH, {"ECDH", "X25519", "X448"}},
        {OSSL_OP_SIGNATURE, {"RSA", "ECDSA", "ED25519", "ED448", "DSA", "HMAC"}},
        {OSSL_OP_DECODER, {"RSA", "RSA-PSS", "EC", "ED25519", "ED448", "DSA"}}, /* public keys of certificates only */
};

/* Made once, then only read: OpenSSL asks for algorithms as long as the process lives. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static OSSL_PROVIDER *whole;
static OSSL_ALGORITHM filtered[ARRAY_SIZE(table)][ALGORITHMS_MAX + 1];
static OSSL_DISPATCH derivation[FUNCTIONS_MAX]; /* TLS13-KDF's, with a function of ours */
static OSSL_FUNC_kdf_derive_fn *derive_whole;
static OSSL_LIB_CTX *library_context;

static _Thread_local struct tls_rekey_secrets *kept_secrets;

/* names: "RSA:rsaEncryption:1.2.840.113549.1.1.1" */
static bool is_wanted(const struct wanted *wanted, const OSSL_ALGORITHM *algorithm)
{
	size_t length = strcspn(algorithm->algorithm_names, ":");

	if (wanted->operation == OSSL_OP_DECODER &&
	    (!strstr(algorithm->property_definition, "input=der") ||
	     !strstr(algorithm->property_definition, "structure=SubjectPublicKeyInfo")))
		return false;
	for (size_t i = 0; i < ALGORITHMS_MAX && wanted->names[i]; i++)
		if (strlen(wanted->names[i]) == length &&
		    strncasecmp(wanted->names[i], algorithm->algorithm_names, length) == 0)
			return true;
	return false;
}

static bool filter(const struct wanted *wanted, OSSL_ALGORITHM chosen[static ALGORITHMS_MAX + 1])
{
	int no_cache = 0;
	const OSSL_ALGORITHM *all = OSSL_PROVIDER_query_operation(whole, wanted->operation, &no_cache);
	size_t count = 0;

	for (; all && all->algorithm_names; all++) {
		if (!is_wanted(wanted, all))
			continue;
		if (count == ALGORITHMS_MAX)
			return false;
		chosen[count++] = *all;
	}
	return count > 0 && !no_cache;
}

static bool has_label(const OSSL_PARAM *label, const char *wanted)
{
	return label && label->data_size == strlen(wanted) && memcmp(label->data, wanted, label->data_size) == 0;
}

static enum hmac_digest digest_of(const OSSL_PARAM *parameter)
{
	static const struct {
		const char *name;
		enum hmac_digest digest;
	} names[] = {
	        {"SHA2-256", HMAC_SHA256}, {"SHA256", HMAC_SHA256}, {"SHA2-384", HMAC_SHA384}, {"SHA384", HMAC_SHA384}};

	for (size_t i = 0; parameter && i < ARRAY_SIZE(names); i++) {
		if (parameter->data_type == OSSL_PARAM_UTF8_STRING && parameter->data_size == strlen(names[i].name) &&
		    strncasecmp(parameter->data, names[i].name, parameter->data_size) == 0)
			return names[i].digest;
	}
	return HMAC_DIGESTS;
}

static struct hmac_piece piece_of(const OSSL_PARAM parameters[], const char *name)
{
	const OSSL_PARAM *parameter = OSSL_PARAM_locate_const(parameters, name);

	if (!parameter || parameter->data_type != OSSL_PARAM_OCTET_STRING || !parameter->data)
		return (struct hmac_piece){NULL, 0};
	return (struct hmac_piece){parameter->data, parameter->data_size};
}

/*
 * HKDF-Expand-Label, of which a handshake has about fifteen, without the contexts that OpenSSL makes for each. False:
 * it is something else, and OpenSSL's to do; nothing was written then.
 */
static bool expand(unsigned char *key, size_t length, const OSSL_PARAM parameters[])
{
	const OSSL_PARAM *mode = OSSL_PARAM_locate_const(parameters, OSSL_KDF_PARAM_MODE);
	enum hmac_digest digest = digest_of(OSSL_PARAM_locate_const(parameters, OSSL_KDF_PARAM_DIGEST));
	struct hmac_piece prefix = piece_of(parameters, OSSL_KDF_PARAM_PREFIX);
	struct hmac_piece secret = piece_of(parameters, OSSL_KDF_PARAM_KEY);
	struct hmac_piece label = piece_of(parameters, OSSL_KDF_PARAM_LABEL);
	struct hmac_piece data = piece_of(parameters, OSSL_KDF_PARAM_DATA);
	_cleanup_(hmac_end) struct hmac hmac = {0};
	int mode_number = -1;

	if (!mode || mode->data_type != OSSL_PARAM_INTEGER || !OSSL_PARAM_get_int(mode, &mode_number) ||
	    mode_number != EVP_KDF_HKDF_MODE_EXPAND_ONLY || digest == HMAC_DIGESTS || !label.bytes ||
	    secret.length != hmac_length(digest) || prefix.length != strlen("tls13 ") ||
	    memcmp(prefix.bytes, "tls13 ", prefix.length) != 0)
		return false;
	return hmac_begin(&hmac, digest, secret.bytes, secret.length) == 0 &&
	       hmac_expand_label(&hmac, &label, &data, key, length) == 0;
}

static int derive(void *context, unsigned char *key, size_t length, const OSSL_PARAM parameters[])
{
	struct tls_rekey_secrets *secrets = kept_secrets;
	const OSSL_PARAM *label;

	if (!expand(key, length, parameters) && !derive_whole(context, key, length, parameters))
		return 0;
	if (!secrets || length > TLS_SECRET_MAX)
		return 1;
	label = OSSL_PARAM_locate_const(parameters, OSSL_KDF_PARAM_LABEL);
	if (has_label(label, CLIENT_LABEL))
		memcpy(secrets->transmit, key, length);
	else if (has_label(label, SERVER_LABEL))
		memcpy(secrets->receive, key, length);
	else
		return 1;
	secrets->length = length;
	return 1;
}

/* The key derivation of TLS 1.3, which tells us what it derived, with its most frequent part made cheap. */
static bool watch_derivation(OSSL_ALGORITHM *algorithm)
{
	size_t count = 0;

	for (const OSSL_DISPATCH *function = algorithm->implementation; function->function_id != 0; function++) {
		if (count == FUNCTIONS_MAX - 1)
			return false;
		derivation[count] = *function;
		if (function->function_id == OSSL_FUNC_KDF_DERIVE) {
			derive_whole = OSSL_FUNC_kdf_derive(function);
			derivation[count].function = (void (*)(void))derive;
		}
		count++;
	}
	algorithm->implementation = derivation;
	return derive_whole;
}

static bool filter_all(void)
{
	bool watched = false;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (!filter(&table[i], filtered[i]))
			return false;
		for (OSSL_ALGORITHM *each = filtered[i]; each->algorithm_names; each++)
			if (strncmp(each->algorithm_names, "TLS13-KDF", strlen("TLS13-KDF")) == 0)
				watched = watch_derivation(each);
	}
	return watched;
}

static const OSSL_ALGORITHM *query_operation(void *provider_context, int operation, int *no_cache)
{
	(void)provider_context;
	*no_cache = 0;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (table[i].operation == operation)
			return filtered[i];
	return NULL;
}

/* The groups of TLS. */
static int get_capabilities(void *provider_context, const char *capability, OSSL_CALLBACK *callback, void *argument)
{
	(void)provider_context;
	return OSSL_PROVIDER_get_capabilities(whole, capability, callback, argument);
}

static int get_parameters(void *provider_context, OSSL_PARAM parameters[])
{
	OSSL_PARAM *status = OSSL_PARAM_locate(parameters, OSSL_PROV_PARAM_STATUS);

	(void)provider_context;
	return !status || OSSL_PARAM_set_int(status, 1);
}

static void tear_down(void *provider_context)
{
	(void)provider_context; /* it is the default provider's */
}

static int initialise(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *core, const OSSL_DISPATCH **functions,
                      void **provider_context)
{
	static const OSSL_DISPATCH own[] = {
	        {OSSL_FUNC_PROVIDER_TEARDOWN, (void (*)(void))tear_down},
	        {OSSL_FUNC_PROVIDER_GET_PARAMS, (void (*)(void))get_parameters},
	        {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query_operation},
	        {OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))get_capabilities},
	        {0, NULL},
	};

	(void)handle;
	(void)core;
	*functions = own;
	*provider_context = OSSL_PROVIDER_get0_provider_ctx(whole);
	return 1;
}

static void key_cleanup(EVP_PKEY **key)
{
	EVP_PKEY_free(*key);
}

/* It makes a key share, and reads the key of a certificate (RFC 8410 4; any 32 bytes pass for one). */
static bool works(OSSL_LIB_CTX *context)
{
	static const unsigned char public_key[44] = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b,
	                                             0x65, 0x70, 0x03, 0x21, 0x00, 0x09};
	const unsigned char *der = public_key;
	_cleanup_(key_cleanup) EVP_PKEY *share = EVP_PKEY_Q_keygen(context, NULL, "X25519");
	_cleanup_(key_cleanup) EVP_PKEY *read = d2i_PUBKEY_ex(NULL, &der, sizeof(public_key), context, NULL);

	return share && read && EVP_PKEY_is_a(read, "ED25519");
}

static OSSL_LIB_CTX *new_library_context(void)
{
	OSSL_LIB_CTX *context = OSSL_LIB_CTX_new();

	whole = OSSL_PROVIDER_load(NULL, "default");
	if (context && whole && filter_all() && OSSL_PROVIDER_add_builtin(context, NAME, initialise) &&
	    OSSL_PROVIDER_load(context, NAME) && works(context))
		return context;
	OSSL_LIB_CTX_free(context);
	return NULL;
}

static void make(void)
{
	char quoted[256];

	if (OpenSSL_version_num() >= DECODES_FAST || EVP_default_properties_is_fips_enabled(NULL))
		return;
	ERR_clear_error();
	library_context = new_library_context();
	if (!library_context)
		log_warning("handshakes cost more than they need", "what=\"no library context of their own\" error=%s",
		            log_quote(openssl_reason(), quoted, sizeof(quoted)));
	ERR_clear_error();
}

OSSL_LIB_CTX *provider_library_context(void)
{
	pthread_once(&once, make);
	return library_context;
}

void provider_keep_secrets(struct tls_rekey_secrets *secrets)
{
	kept_secrets = secrets;
}
