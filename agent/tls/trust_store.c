// SPDX-License-Identifier: GPL-2.0-only
#include "tls/trust_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "policy/snapshot.h"
#include "tls/settings_refusal.h"
#include "tls/trust_cache.h"

static void bio_cleanup(BIO **bio)
{
	BIO_free(*bio);
}

static void x509_cleanup(X509 **certificate)
{
	X509_free(*certificate);
}

static void certificates_cleanup(STACK_OF(X509) * *certificates)
{
	sk_X509_pop_free(*certificates, X509_free);
}

static void crl_cleanup(X509_CRL **crl)
{
	X509_CRL_free(*crl);
}

static void digest_cleanup(EVP_MD_CTX **context)
{
	EVP_MD_CTX_free(*context);
}

static void store_cleanup(struct trust_store **store)
{
	trust_store_unref(*store);
}

/* PEM_read_bio_...() found nothing more: because the text is over? */
static bool pem_is_over(void)
{
	unsigned long error = ERR_peek_last_error();

	return ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
}

/* What add_next_...() did with the next block. */
enum added {
	ADDED,
	NOT_ADDED, /* OpenSSL's error says why */
	NO_MORE,   /* or the PEM is broken */
};

static enum added add_next_anchor(X509_STORE *store, BIO *bio)
{
	_cleanup_(x509_cleanup) X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);

	if (!certificate)
		return NO_MORE;
	return X509_STORE_add_cert(store, certificate) ? ADDED : NOT_ADDED;
}

static enum added add_next_crl(X509_STORE *store, BIO *bio)
{
	_cleanup_(crl_cleanup) X509_CRL *crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL);

	if (!crl)
		return NO_MORE;
	return X509_STORE_add_crl(store, crl) ? ADDED : NOT_ADDED;
}

/* Every block of the kind that add_next takes; other blocks are skipped, as OpenSSL's readers do. */
static int add_all(X509_STORE *store, const char *pem, enum added (*add_next)(X509_STORE *store, BIO *bio),
                   const char *what, char *error, size_t error_size)
{
	_cleanup_(bio_cleanup) BIO *bio = BIO_new_mem_buf(pem, -1);
	unsigned int count = 0;
	enum added added;

	if (!bio)
		return -ENOMEM;
	ERR_clear_error();
	while ((added = add_next(store, bio)) == ADDED)
		count++;
	if (added == NOT_ADDED || !pem_is_over())
		return settings_refuse(error, error_size, "%s %u: %s", what, count + 1, openssl_reason());
	if (count == 0)
		return settings_refuse(error, error_size, "no %s in the PEM", what);
	ERR_clear_error();
	return 0;
}

bool trust_error_is_of_crl(int error)
{
	switch (error) {
	case X509_V_ERR_UNABLE_TO_GET_CRL:
	case X509_V_ERR_UNABLE_TO_DECRYPT_CRL_SIGNATURE:
	case X509_V_ERR_CRL_SIGNATURE_FAILURE:
	case X509_V_ERR_CRL_NOT_YET_VALID:
	case X509_V_ERR_CRL_HAS_EXPIRED:
	case X509_V_ERR_ERROR_IN_CRL_LAST_UPDATE_FIELD:
	case X509_V_ERR_ERROR_IN_CRL_NEXT_UPDATE_FIELD:
	case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
	case X509_V_ERR_KEYUSAGE_NO_CRL_SIGN:
	case X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION:
	case X509_V_ERR_DIFFERENT_CRL_SCOPE:
	case X509_V_ERR_CRL_PATH_VALIDATION_ERROR:
		return true;
	default:
		return false;
	}
}

/*
 * OpenSSL knows two ways: the leaf alone, or a CRL for every certificate, the root's own included. Asked for the
 * second, it is told here where a CRL may be missing.
 */
static int on_verified(int ok, X509_STORE_CTX *store_context)
{
	int error = X509_STORE_CTX_get_error(store_context);
	int depth = X509_STORE_CTX_get_error_depth(store_context);
	bool anchor = depth == sk_X509_num(X509_STORE_CTX_get0_chain(store_context)) - 1;

	if (ok || depth == 0 || !trust_error_is_of_crl(error) || !(anchor || error == X509_V_ERR_UNABLE_TO_GET_CRL))
		return ok;
	X509_STORE_CTX_set_error(store_context, X509_V_OK);
	return 1;
}

static bool has_signed(X509 *issuer, X509 *certificate)
{
	bool signed_it;

	ERR_set_mark();
	signed_it = X509_verify(certificate, X509_get0_pubkey(issuer)) > 0;
	ERR_pop_to_mark();
	return signed_it;
}

/*
 * While a CA is renewed the bundle may hold two of one name. OpenSSL takes the first that fits by name and key
 * identifier, and never tries the other: where the certificate does not identify the key, the signature does. Anchors
 * only, so that what a peer sends cannot make work.
 */
static int get_issuer(X509 **issuer, X509_STORE_CTX *store_context, X509 *certificate)
{
	_cleanup_(certificates_cleanup) STACK_OF(X509) *candidates = NULL;
	int found = X509_STORE_CTX_get1_issuer(issuer, store_context, certificate);

	if (found != 1 || X509_get0_authority_key_id(certificate) || has_signed(*issuer, certificate))
		return found;
	candidates = X509_STORE_CTX_get1_certs(store_context, X509_get_issuer_name(certificate));
	for (int i = 0; i < sk_X509_num(candidates); i++) {
		X509 *candidate = sk_X509_value(candidates, i);

		if (X509_check_issued(candidate, certificate) != X509_V_OK || !has_signed(candidate, certificate))
			continue;
		X509_up_ref(candidate);
		X509_free(*issuer);
		*issuer = candidate;
		break;
	}
	return found;
}

static bool is_of_chain(const X509_STORE_CTX *store_context, X509_CRL *crl)
{
	const STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(store_context);
	bool found = false;

	ERR_set_mark();
	for (int i = 0; i < sk_X509_num(chain) && !found; i++) {
		X509 *issuer = sk_X509_value(chain, i);

		found = X509_NAME_cmp(X509_get_subject_name(issuer), X509_CRL_get_issuer(crl)) == 0 &&
		        X509_CRL_verify(crl, X509_get0_pubkey(issuer)) > 0;
	}
	ERR_pop_to_mark();
	return found;
}

/* The same of CRLs, which often identify no key: of several of one name, those of the issuer at hand, if there are. */
static STACK_OF(X509_CRL) * lookup_crls(const X509_STORE_CTX *store_context, const X509_NAME *issuer)
{
	STACK_OF(X509_CRL) *crls = X509_STORE_CTX_get1_crls(store_context, issuer);
	int mine = 0;

	if (sk_X509_CRL_num(crls) < 2)
		return crls;
	/* Those of the issuer to the front, the others off. */
	for (int i = 0; i < sk_X509_CRL_num(crls); i++) {
		X509_CRL *crl = sk_X509_CRL_value(crls, i);

		if (!is_of_chain(store_context, crl))
			continue;
		sk_X509_CRL_set(crls, i, sk_X509_CRL_value(crls, mine));
		sk_X509_CRL_set(crls, mine++, crl);
	}
	while (mine > 0 && sk_X509_CRL_num(crls) > mine)
		X509_CRL_free(sk_X509_CRL_pop(crls));
	return crls;
}

static int build(const struct tls_settings *settings, X509_STORE *store, char *error, size_t error_size)
{
	unsigned long flags = 0;
	int r;

	r = add_all(store, settings->ca_pem, add_next_anchor, "CA certificate", error, error_size);
	if (r == 0 && settings->crl_pem)
		r = add_all(store, settings->crl_pem, add_next_crl, "CRL", error, error_size);
	if (r < 0)
		return r;
	if (settings->crl_pem) {
		flags |= X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL;
		X509_STORE_set_verify_cb(store, on_verified);
		X509_STORE_set_lookup_crls(store, lookup_crls);
	}
	X509_STORE_set_get_issuer(store, get_issuer);
	if (settings->partial_chain)
		flags |= X509_V_FLAG_PARTIAL_CHAIN;
	if (!X509_STORE_set_flags(store, flags) ||
	    (settings->verify_depth >= 0 && !X509_STORE_set_depth(store, settings->verify_depth)))
		return -ENOMEM;
	return 0;
}

static bool add_text(EVP_MD_CTX *context, const char *text)
{
	const uint64_t length = text ? strlen(text) : UINT64_MAX;

	return EVP_DigestUpdate(context, &length, sizeof(length)) &&
	       (!text || EVP_DigestUpdate(context, text, (size_t)length));
}

/* Everything that build() looks at. */
static bool make_key(const struct tls_settings *settings, uint8_t key[static 32])
{
	const int numbers[] = {settings->verify_depth, settings->partial_chain};
	_cleanup_(digest_cleanup) EVP_MD_CTX *context = EVP_MD_CTX_new();

	return context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) &&
	       EVP_DigestUpdate(context, numbers, sizeof(numbers)) && add_text(context, settings->ca_pem) &&
	       add_text(context, settings->crl_pem) && EVP_DigestFinal_ex(context, key, NULL);
}

int trust_store_new(const struct tls_settings *settings, struct trust_cache *cache, struct trust_store **store,
                    char *error, size_t error_size)
{
	_cleanup_(store_cleanup) struct trust_store *new = NULL;
	uint8_t key[32];
	int r;

	if (!settings->ca_pem)
		return settings_refuse(error, error_size, "no CA certificates");
	if (!make_key(settings, key))
		return -ENOMEM;
	*store = cache ? trust_cache_get(cache, key) : NULL;
	if (*store)
		return 0;
	new = calloc(1, sizeof(*new));
	if (!new)
		return -ENOMEM;
	atomic_init(&new->references, 1);
	memcpy(new->key, key, sizeof(new->key));
	new->x509 = X509_STORE_new();
	if (!new->x509)
		return -ENOMEM;
	r = build(settings, new->x509, error, error_size);
	if (r < 0)
		return r;
	*store = cache ? trust_cache_put(cache, TAKE_PTR(new)) : TAKE_PTR(new);
	return 0;
}

struct trust_store *trust_store_ref(struct trust_store *store)
{
	atomic_fetch_add_explicit(&store->references, 1, memory_order_relaxed);
	return store;
}

void trust_store_unref(struct trust_store *store)
{
	if (!store || atomic_fetch_sub_explicit(&store->references, 1, memory_order_acq_rel) != 1)
		return;
	X509_STORE_free(store->x509);
	free(store);
}
