// SPDX-License-Identifier: GPL-2.0-only
#include "tls/verify.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "policy/snapshot.h"
#include "tls/trust_store.h"

/* How much of one name goes into a detail: a certificate may hold names of any length. */
#define NAME_TEXT_MAX 100

static void store_context_cleanup(X509_STORE_CTX **store_context)
{
	X509_STORE_CTX_free(*store_context);
}

static void names_cleanup(GENERAL_NAMES **names)
{
	GENERAL_NAMES_free(*names);
}

static void bio_cleanup(BIO **bio)
{
	BIO_free(*bio);
}

static void crls_cleanup(STACK_OF(X509_CRL) * *crls)
{
	sk_X509_CRL_pop_free(*crls, X509_CRL_free);
}

static void der_cleanup(unsigned char **der)
{
	OPENSSL_free(*der);
}

__attribute__((format(printf, 2, 3))) static void append(char text[static VERIFY_TEXT_MAX], const char *format, ...)
{
	size_t length = strlen(text);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text + length, VERIFY_TEXT_MAX - length, format, arguments);
	va_end(arguments);
}

/* What others wrote, made safe for a log line. */
static const char *printable(const void *value, size_t length, char text[static NAME_TEXT_MAX])
{
	const unsigned char *bytes = value;
	size_t i;

	for (i = 0; i < length && i + 1 < NAME_TEXT_MAX; i++)
		text[i] = bytes[i] > ' ' && bytes[i] < 0x7f ? (char)bytes[i] : '?';
	text[i] = '\0';
	return text;
}

/* RFC 2253 form: OpenSSL escapes control characters and everything above ASCII. */
static const char *format_name(const X509_NAME *name, char text[static NAME_TEXT_MAX])
{
	_cleanup_(bio_cleanup) BIO *bio = BIO_new(BIO_s_mem());
	int length = 0;

	if (bio && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0)
		length = BIO_read(bio, text, NAME_TEXT_MAX - 1);
	text[length > 0 ? length : 0] = '\0';
	return length > 0 ? text : "(empty subject)";
}

static const char *format_time(const ASN1_TIME *time, char text[static 32])
{
	struct tm tm;

	if (!ASN1_TIME_to_tm(time, &tm) || strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		return "(unreadable)";
	return text;
}

static int64_t unix_time(const ASN1_TIME *time)
{
	struct tm tm;

	return ASN1_TIME_to_tm(time, &tm) ? (int64_t)timegm(&tm) : 0;
}

bool verify_hostname_matches(const char *presented, size_t length, const char *reference)
{
	const char *rest = presented;

	if (length == 0 || memchr(presented, '\0', length))
		return false;
	if (length > 2 && presented[0] == '*' && presented[1] == '.') {
		reference = strchr(reference, '.') == reference ? NULL : strchr(reference, '.');
		if (!reference)
			return false;
		rest++;
		length--;
	}
	return !memchr(rest, '*', length) && strlen(reference) == length && strncasecmp(rest, reference, length) == 0;
}

static bool name_matches(const GENERAL_NAME *presented, const struct verify_identity *identity)
{
	int type;
	const ASN1_IA5STRING *value = GENERAL_NAME_get0_value(presented, &type);
	const char *bytes;
	size_t length;

	if (type != GEN_DNS && type != GEN_URI)
		return false;
	bytes = (const char *)ASN1_STRING_get0_data(value);
	length = (size_t)ASN1_STRING_length(value);
	if (identity->name_count == 0)
		return type == GEN_DNS && verify_hostname_matches(bytes, length, identity->hostname);
	for (size_t i = 0; i < identity->name_count; i++) {
		const struct subject_alt_name *wanted = &identity->names[i];

		if (wanted->type == SUBJECT_ALT_NAME_HOSTNAME && type == GEN_DNS &&
		    verify_hostname_matches(bytes, length, wanted->value))
			return true;
		/* An embedded NUL makes the lengths differ: strlen() stops at it, the wanted value has none. */
		if (wanted->type == SUBJECT_ALT_NAME_URI && type == GEN_URI && strlen(wanted->value) == length &&
		    memcmp(bytes, wanted->value, length) == 0)
			return true;
	}
	return false;
}

static const char *format_general_name(const GENERAL_NAME *name, char text[static NAME_TEXT_MAX])
{
	int type;
	const ASN1_STRING *value = GENERAL_NAME_get0_value(name, &type);

	if (type != GEN_DNS && type != GEN_URI)
		return NULL;
	return printable(ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value), text);
}

static void describe_mismatch(const GENERAL_NAMES *names, const struct verify_identity *identity, char *detail)
{
	char text[NAME_TEXT_MAX];
	int shown = 0;

	append(detail, "wanted ");
	if (identity->name_count == 0)
		append(detail, "%s", printable(identity->hostname, strlen(identity->hostname), text));
	for (size_t i = 0; i < identity->name_count; i++) {
		const char *wanted = identity->names[i].value;

		append(detail, "%s%s", i > 0 ? " or " : "", printable(wanted, strlen(wanted), text));
	}
	append(detail, "; the certificate is for ");
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const char *name = format_general_name(sk_GENERAL_NAME_value(names, i), text);

		if (name)
			append(detail, "%s%s", shown++ > 0 ? ", " : "", name);
	}
	if (shown == 0)
		append(detail, "no DNS name and no URI");
}

static bool verify_leaf_identity(X509 *leaf, const struct verify_identity *identity, struct verify_result *result)
{
	_cleanup_(names_cleanup) GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		char text[NAME_TEXT_MAX];

		if (!name_matches(name, identity))
			continue;
		append(result->identity, "%s", format_general_name(name, text));
		return true;
	}
	result->reason = REASON_IDENTITY_MISMATCH;
	describe_mismatch(names, identity, result->detail);
	return false;
}

static bool pin_of(X509 *leaf, unsigned char pin[static VERIFY_PIN_BYTES])
{
	_cleanup_(der_cleanup) unsigned char *der = NULL;
	int length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &der);

	_Static_assert(VERIFY_PIN_BYTES == SHA256_DIGEST_LENGTH, "pins are SHA-256");
	return length > 0 && EVP_Digest(der, (size_t)length, pin, NULL, EVP_sha256(), NULL);
}

/* After path and name: a certificate that is pinned and expired is expired. */
static bool verify_pins(X509 *leaf, const struct verify_identity *identity, struct verify_result *result)
{
	unsigned char pin[VERIFY_PIN_BYTES];
	unsigned char text[4 * (VERIFY_PIN_BYTES + 2) / 3 + 1];

	if (identity->pin_count == 0)
		return true;
	if (!pin_of(leaf, pin)) {
		result->reason = REASON_NO_MEMORY;
		return false;
	}
	for (size_t i = 0; i < identity->pin_count; i++)
		if (memcmp(pin, identity->pins[i], sizeof(pin)) == 0)
			return true;
	EVP_EncodeBlock(text, pin, sizeof(pin));
	result->reason = REASON_PIN_MISMATCH;
	append(result->detail, "the certificate's key is sha256/%s, none of the %zu pinned", (const char *)text,
	       identity->pin_count);
	return false;
}

static enum postern_reason reason_of_error(int error)
{
	if (trust_error_is_of_crl(error))
		return REASON_CRL_UNUSABLE;
	switch (error) {
	case X509_V_ERR_CERT_HAS_EXPIRED:
		return REASON_CERTIFICATE_EXPIRED;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return REASON_CERTIFICATE_NOT_YET_VALID;
	case X509_V_ERR_CERT_REVOKED:
		return REASON_CERTIFICATE_REVOKED;
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
		return REASON_CERTIFICATE_SELF_SIGNED;
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_CERT_UNTRUSTED:
	case X509_V_ERR_CERT_REJECTED:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE: /* another CA of the same name */
	case X509_V_ERR_NO_ISSUER_PUBLIC_KEY:
		return REASON_CERTIFICATE_UNTRUSTED;
	case X509_V_ERR_OUT_OF_MEM:
		return REASON_NO_MEMORY;
	default:
		return REASON_CERTIFICATE_INVALID;
	}
}

/* The last nextUpdate of the CRLs of the certificate's issuer. */
static void describe_crl_end(X509_STORE_CTX *store_context, X509 *certificate, char *detail)
{
	_cleanup_(crls_cleanup)
	        STACK_OF(X509_CRL) *crls = X509_STORE_CTX_get1_crls(store_context, X509_get_issuer_name(certificate));
	const ASN1_TIME *last = NULL;
	char time[32];

	for (int i = 0; i < sk_X509_CRL_num(crls); i++) {
		const ASN1_TIME *next_update = X509_CRL_get0_nextUpdate(sk_X509_CRL_value(crls, i));

		if (next_update && (!last || ASN1_TIME_compare(last, next_update) < 0))
			last = next_update;
	}
	if (last)
		append(detail, ", nextUpdate=%s", format_time(last, time));
}

static void describe_error(X509_STORE_CTX *store_context, int error, char *detail)
{
	X509 *certificate = X509_STORE_CTX_get_current_cert(store_context);
	char text[NAME_TEXT_MAX];
	char time[32];

	append(detail, "%s", X509_verify_cert_error_string(error));
	if (!certificate)
		return;
	append(detail, ": %s", format_name(X509_get_subject_name(certificate), text));
	switch (reason_of_error(error)) {
	case REASON_CERTIFICATE_EXPIRED:
		append(detail, ", notAfter=%s", format_time(X509_get0_notAfter(certificate), time));
		break;
	case REASON_CERTIFICATE_NOT_YET_VALID:
		append(detail, ", notBefore=%s", format_time(X509_get0_notBefore(certificate), time));
		break;
	case REASON_CERTIFICATE_UNTRUSTED:
		append(detail, ", issuer %s", format_name(X509_get_issuer_name(certificate), text));
		break;
	case REASON_CRL_UNUSABLE:
		append(detail, ", issuer %s", format_name(X509_get_issuer_name(certificate), text));
		if (error == X509_V_ERR_CRL_HAS_EXPIRED)
			describe_crl_end(store_context, certificate, detail);
		break;
	default:
		break;
	}
}

static int64_t earlier(int64_t left, int64_t right)
{
	return left < right ? left : right;
}

static int64_t later(int64_t left, int64_t right)
{
	return left > right ? left : right;
}

/* Of several CRLs of one name any that is good may have been used: the window is too short then, never too long. */
static void narrow_to_crls(X509_STORE_CTX *store_context, X509 *certificate, int64_t now, struct verify_result *result)
{
	_cleanup_(crls_cleanup)
	        STACK_OF(X509_CRL) *crls = X509_STORE_CTX_get1_crls(store_context, X509_get_issuer_name(certificate));

	for (int i = 0; i < sk_X509_CRL_num(crls); i++) {
		const X509_CRL *crl = sk_X509_CRL_value(crls, i);
		const ASN1_TIME *next_update = X509_CRL_get0_nextUpdate(crl);
		int64_t begin = unix_time(X509_CRL_get0_lastUpdate(crl));
		int64_t end = next_update ? unix_time(next_update) : INT64_MAX;

		if (begin > now || end <= now)
			continue;
		result->valid_from = later(result->valid_from, begin);
		result->valid_until = earlier(result->valid_until, end);
	}
}

static void keep_window(X509_STORE_CTX *store_context, int64_t now, struct verify_result *result)
{
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(store_context);
	bool revocation = X509_VERIFY_PARAM_get_flags(X509_STORE_CTX_get0_param(store_context)) & X509_V_FLAG_CRL_CHECK;

	result->valid_from = INT64_MIN;
	result->valid_until = INT64_MAX;
	for (int i = 0; i < sk_X509_num(chain); i++) {
		X509 *certificate = sk_X509_value(chain, i);

		result->valid_from = later(result->valid_from, unix_time(X509_get0_notBefore(certificate)));
		result->valid_until = earlier(result->valid_until, unix_time(X509_get0_notAfter(certificate)));
		if (revocation)
			narrow_to_crls(store_context, certificate, now, result);
	}
}

bool verify_store_context(X509_STORE_CTX *store_context, const struct verify_identity *identity, int64_t now,
                          struct verify_result *result)
{
	X509 *leaf = X509_STORE_CTX_get0_cert(store_context);
	int error;

	*result = (struct verify_result){.reason = REASON_NONE};
	X509_STORE_CTX_set_time(store_context, 0, now);
	X509_VERIFY_PARAM_set_hostflags(X509_STORE_CTX_get0_param(store_context), X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	if (X509_verify_cert(store_context) <= 0) {
		error = X509_STORE_CTX_get_error(store_context);
		if (error == X509_V_OK) { /* it could not even begin */
			error = X509_V_ERR_UNSPECIFIED;
			X509_STORE_CTX_set_error(store_context, error);
		}
		result->reason = reason_of_error(error);
		describe_error(store_context, error, result->detail);
		return false;
	}
	result->not_after = unix_time(X509_get0_notAfter(leaf));
	if (!verify_leaf_identity(leaf, identity, result)) {
		X509_STORE_CTX_set_error(store_context, X509_V_ERR_HOSTNAME_MISMATCH);
		return false;
	}
	if (!verify_pins(leaf, identity, result)) {
		X509_STORE_CTX_set_error(store_context, X509_V_ERR_CERT_REJECTED);
		return false;
	}
	keep_window(store_context, now, result);
	return true;
}

bool verify_chain(X509_STORE *store, X509 *leaf, STACK_OF(X509) * untrusted, const struct verify_identity *identity,
                  int64_t now, struct verify_result *result)
{
	_cleanup_(store_context_cleanup) X509_STORE_CTX *store_context = X509_STORE_CTX_new();

	/* As libssl sets its own up for a client. */
	if (!store_context || !X509_STORE_CTX_init(store_context, store, leaf, untrusted) ||
	    !X509_STORE_CTX_set_default(store_context, "ssl_server")) {
		*result = (struct verify_result){.reason = REASON_NO_MEMORY};
		return false;
	}
	X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(store_context), VERIFY_SECURITY_LEVEL);
	return verify_store_context(store_context, identity, now, result);
}
