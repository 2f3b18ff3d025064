/* SPDX-License-Identifier: GPL-2.0-only */
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "check.h"
#include "observe/json.h"
#include "policy/client_certificate.h"
#include "policy/shared_text.h"
#include "policy/vector.h"

#define SECONDS_PER_DAY 86400
#define NOTICE_DAYS     30
#define EXAMPLES        3 /* concerns that are told one by one */

#define TIME_TEXT_MAX 80 /* if every number were of the longest */
#define CONCERN_MAX   128
#define NEVER         INT64_MAX

struct validity {
	int64_t from, until;
	char from_text[TIME_TEXT_MAX], until_text[TIME_TEXT_MAX];
};

static void free_bio(BIO **bio)
{
	BIO_free(*bio);
}

static void free_certificate(X509 **certificate)
{
	X509_free(*certificate);
}

void advise(json_t **texts, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	json_append(texts, text ? json_text(text) : NULL);
}

/* RFC 2253, in ASCII: what is not is written as \XX. */
static char *format_name(const X509_NAME *name)
{
	_cleanup_(free_bio) BIO *bio = BIO_new(BIO_s_mem());
	char *data;
	long length;

	if (!bio || X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) < 0)
		return NULL;
	length = BIO_get_mem_data(bio, &data);
	return strndup(data, (size_t)length);
}

static json_t *json_name(const X509_NAME *name)
{
	_cleanup_free_ char *text = format_name(name);

	return text ? json_text(text) : NULL;
}

/* A time that cannot be read makes the certificate useless to OpenSSL, too: it lies before all others. */
static int64_t read_time(const ASN1_TIME *time, char text[static TIME_TEXT_MAX])
{
	struct tm parts;

	if (!ASN1_TIME_to_tm(time, &parts)) {
		(void)snprintf(text, TIME_TEXT_MAX, "unreadable");
		return INT64_MIN;
	}
	(void)snprintf(text, TIME_TEXT_MAX, "%04d-%02d-%02dT%02d:%02d:%02dZ", parts.tm_year + 1900, parts.tm_mon + 1,
	               parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
	return timegm(&parts);
}

static struct validity read_validity(const ASN1_TIME *from, const ASN1_TIME *until)
{
	struct validity validity = {.until = NEVER};

	validity.from = read_time(from, validity.from_text);
	if (until)
		validity.until = read_time(until, validity.until_text);
	return validity;
}

static bool is_valid(const struct validity *validity, int64_t now)
{
	return validity->from <= now && now <= validity->until;
}

static bool ends_soon(const struct validity *validity, int64_t now)
{
	return validity->until != NEVER && validity->until - now <= NOTICE_DAYS * (int64_t)SECONDS_PER_DAY;
}

/* "expired 2026-01-01T00:00:00Z": what there is to say of it, NULL if nothing. */
static const char *describe_concern(const struct validity *validity, int64_t now, char *text, size_t size)
{
	long long days;

	if (validity->from > now) {
		(void)snprintf(text, size, "is not valid before %s", validity->from_text);
	} else if (validity->until < now) {
		(void)snprintf(text, size, "expired %s", validity->until_text);
	} else if (ends_soon(validity, now)) {
		days = (validity->until - now) / SECONDS_PER_DAY;
		(void)snprintf(text, size, "expires in %lld day%s (%s)", days, days == 1 ? "" : "s",
		               validity->until_text);
	} else {
		return NULL;
	}
	return text;
}

static json_t *certificate_document(X509 *certificate, const struct validity *validity, const char *from)
{
	return json_pack("{s:o, s:s, s:s, s:o}", "subject", json_name(X509_get_subject_name(certificate)), "notBefore",
	                 validity->from_text, "notAfter", validity->until_text, "from", json_text(from));
}

void pem_descriptions_free(struct pem_descriptions *descriptions)
{
	for (size_t i = 0; i < descriptions->count; i++) {
		json_decref(descriptions->at[i].documents);
		json_decref(descriptions->at[i].errors);
		json_decref(descriptions->at[i].warnings);
	}
	free(descriptions->at);
}

static const struct pem_description *find_description(const struct pem_descriptions *descriptions,
                                                      const struct shared_text *pem)
{
	for (size_t i = 0; i < descriptions->count; i++)
		if (descriptions->at[i].pem == pem)
			return &descriptions->at[i];
	return NULL;
}

/* Empty, and the last of the list. NULL: no memory. */
static struct pem_description *new_description(struct pem_descriptions *descriptions, const struct shared_text *pem)
{
	struct pem_description *description;

	if (vector_reserve(&descriptions->at, descriptions->count, &descriptions->capacity, sizeof(*description)) < 0)
		return NULL;
	description = &descriptions->at[descriptions->count++];
	*description = (struct pem_description){
	        .pem = pem,
	        .documents = json_array(),
	        .errors = json_array(),
	        .warnings = json_array(),
	};
	return description;
}

static void add_authority(struct pem_description *description, X509 *certificate, const char *from, bool listed,
                          int64_t now)
{
	struct validity validity = read_validity(X509_get0_notBefore(certificate), X509_get0_notAfter(certificate));
	_cleanup_free_ char *name = format_name(X509_get_subject_name(certificate));
	char concern[CONCERN_MAX];

	description->count++;
	description->valid += is_valid(&validity, now);
	if (!listed)
		return;
	json_append(&description->documents, certificate_document(certificate, &validity, from));
	if (describe_concern(&validity, now, concern, sizeof(concern)) && description->concerns++ < EXAMPLES)
		advise(&description->warnings, "CA certificate \"%s\" of %s %s", name ? name : "", from, concern);
}

const struct pem_description *describe_authorities(struct pem_descriptions *descriptions, const struct shared_text *pem,
                                                   const char *from, bool listed)
{
	_cleanup_(free_bio) BIO *bio = BIO_new_mem_buf(pem->text, (int)pem->length);
	struct pem_description *description;

	if (find_description(descriptions, pem))
		return find_description(descriptions, pem);
	description = bio ? new_description(descriptions, pem) : NULL;
	while (description) {
		_cleanup_(free_certificate) X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);

		if (!certificate)
			break;
		add_authority(description, certificate, from, listed, descriptions->now);
	}
	ERR_clear_error();
	if (description && description->concerns > EXAMPLES)
		advise(&description->warnings, "%zu more CA certificates of %s are not valid now, or expire soon",
		       description->concerns - EXAMPLES, from);
	return description;
}

struct crl {
	X509_CRL *crl;
	struct validity validity;
};

struct crl_list {
	struct crl *at;
	size_t count, capacity;
};

static void free_crls(struct crl_list *crls)
{
	for (size_t i = 0; i < crls->count; i++)
		X509_CRL_free(crls->at[i].crl);
	free(crls->at);
}

/* False: no memory. */
static bool read_crls(const struct shared_text *pem, struct crl_list *crls)
{
	_cleanup_(free_bio) BIO *bio = BIO_new_mem_buf(pem->text, (int)pem->length);
	X509_CRL *crl;

	while (bio && (crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL))) {
		if (vector_reserve(&crls->at, crls->count, &crls->capacity, sizeof(*crls->at)) < 0) {
			X509_CRL_free(crl);
			return false;
		}
		crls->at[crls->count++] = (struct crl){
		        .crl = crl,
		        .validity = read_validity(X509_CRL_get0_lastUpdate(crl), X509_CRL_get0_nextUpdate(crl)),
		};
	}
	ERR_clear_error();
	return bio;
}

/* A valid one of the same issuer that ends later makes this one no concern. */
static bool is_superseded(const struct crl *crl, const struct crl_list *all, int64_t now)
{
	for (size_t i = 0; i < all->count; i++) {
		const struct crl *other = &all->at[i];

		if (other->validity.until > crl->validity.until && is_valid(&other->validity, now) &&
		    X509_NAME_cmp(X509_CRL_get_issuer(other->crl), X509_CRL_get_issuer(crl->crl)) == 0)
			return true;
	}
	return false;
}

static void add_crl(struct pem_description *description, const struct crl *crl, const struct crl_list *all,
                    const char *from, int64_t now)
{
	_cleanup_free_ char *issuer = format_name(X509_CRL_get_issuer(crl->crl));
	bool valid = is_valid(&crl->validity, now);
	char concern[CONCERN_MAX];

	description->count++;
	description->valid += valid;
	json_append(&description->documents,
	            json_pack("{s:o, s:s, s:s, s:o}", "issuer", issuer ? json_text(issuer) : NULL, "thisUpdate",
	                      crl->validity.from_text, "nextUpdate", crl->validity.until_text, "from",
	                      json_text(from)));
	if (!describe_concern(&crl->validity, now, concern, sizeof(concern)) || is_superseded(crl, all, now) ||
	    description->concerns++ >= EXAMPLES)
		return;
	advise(valid ? &description->warnings : &description->errors, "the CRL of \"%s\" in %s %s: %s",
	       issuer ? issuer : "", from, concern,
	       valid ? "then certificates of this issuer are refused" : "certificates of this issuer are refused");
}

const struct pem_description *describe_crls(struct pem_descriptions *descriptions, const struct shared_text *pem,
                                            const char *from)
{
	_cleanup_(free_crls) struct crl_list crls = {0};
	struct pem_description *description;

	if (find_description(descriptions, pem))
		return find_description(descriptions, pem);
	description = read_crls(pem, &crls) ? new_description(descriptions, pem) : NULL;
	for (size_t i = 0; description && i < crls.count; i++)
		add_crl(description, &crls.at[i], &crls, from, descriptions->now);
	if (description && description->concerns > EXAMPLES)
		advise(&description->errors, "%zu more CRLs of %s are not valid now, or end soon",
		       description->concerns - EXAMPLES, from);
	return description;
}

json_t *describe_client_certificate(const struct client_certificate *certificate, const char *from,
                                    struct check_advice *advice)
{
	struct validity validity = read_validity(X509_get0_notBefore(certificate->leaf),
	                                         X509_get0_notAfter(certificate->leaf));
	_cleanup_free_ char *subject = format_name(X509_get_subject_name(certificate->leaf));
	char concern[CONCERN_MAX];

	if (!describe_concern(&validity, advice->now, concern, sizeof(concern)))
		return certificate_document(certificate->leaf, &validity, from);
	if (is_valid(&validity, advice->now))
		advise(&advice->warnings, "client certificate \"%s\" of %s %s", subject ? subject : "", from, concern);
	else
		advise(&advice->errors, "client certificate \"%s\" of %s %s: backends that verify it refuse it",
		       subject ? subject : "", from, concern);
	return certificate_document(certificate->leaf, &validity, from);
}
