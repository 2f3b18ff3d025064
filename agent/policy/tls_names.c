// SPDX-License-Identifier: GPL-2.0-only
#include "policy/tls_names.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/cleanup.h"
#include "base/printable.h"

static const char separators[] = ":, ";

struct tls_name {
	const char *name;       /* as OpenSSL has it */
	const char *aliases[2]; /* NULL: no more */
	bool not_1_2;
	bool not_1_3;
};

static const struct tls_name cipher_suites[] = {
        {"TLS_AES_128_GCM_SHA256", .not_1_2 = true},
        {"TLS_AES_256_GCM_SHA384", .not_1_2 = true},
        {"TLS_CHACHA20_POLY1305_SHA256", .not_1_2 = true},
        {0},
};

static const struct tls_name ciphers[] = {
        {"ECDHE-ECDSA-AES128-GCM-SHA256", {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}, .not_1_3 = true},
        {"ECDHE-RSA-AES128-GCM-SHA256", {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}, .not_1_3 = true},
        {"ECDHE-ECDSA-AES256-GCM-SHA384", {"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"}, .not_1_3 = true},
        {"ECDHE-RSA-AES256-GCM-SHA384", {"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"}, .not_1_3 = true},
        {"ECDHE-ECDSA-CHACHA20-POLY1305", {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"}, .not_1_3 = true},
        {"ECDHE-RSA-CHACHA20-POLY1305", {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"}, .not_1_3 = true},
        {0},
};

static const struct tls_name groups[] = {
        {.name = "X25519"},
        {.name = "X448"},
        {.name = "P-256", .aliases = {"secp256r1", "prime256v1"}},
        {.name = "P-384", .aliases = {"secp384r1"}},
        {.name = "P-521", .aliases = {"secp521r1"}},
        {.name = "X25519MLKEM768", .not_1_2 = true},
        {.name = "SecP256r1MLKEM768", .not_1_2 = true},
        {.name = "SecP384r1MLKEM1024", .not_1_2 = true},
        {0},
};

static const struct tls_name signature_algorithms[] = {
        {.name = "ecdsa_secp256r1_sha256"},
        {.name = "ecdsa_secp384r1_sha384"},
        {.name = "ecdsa_secp521r1_sha512"},
        {.name = "ed25519"},
        {.name = "ed448"},
        {.name = "rsa_pss_rsae_sha256"},
        {.name = "rsa_pss_rsae_sha384"},
        {.name = "rsa_pss_rsae_sha512"},
        {.name = "rsa_pss_pss_sha256"},
        {.name = "rsa_pss_pss_sha384"},
        {.name = "rsa_pss_pss_sha512"},
        {.name = "rsa_pkcs1_sha256", .not_1_3 = true}, /* RFC 8446 4.2.3: in certificates only */
        {.name = "rsa_pkcs1_sha384", .not_1_3 = true},
        {.name = "rsa_pkcs1_sha512", .not_1_3 = true},
        {0},
};

static const struct tls_name *names_of(enum tls_list list)
{
	switch (list) {
	case TLS_LIST_CIPHER_SUITES:
		return cipher_suites;
	case TLS_LIST_CIPHERS:
		return ciphers;
	case TLS_LIST_GROUPS:
		return groups;
	case TLS_LIST_SIGNATURE_ALGORITHMS:
		break;
	}
	return signature_algorithms;
}

static bool same(const char *name, const char *word, size_t length)
{
	return name && strlen(name) == length && strncasecmp(name, word, length) == 0;
}

static const struct tls_name *find(enum tls_list list, const char *word, size_t length)
{
	for (const struct tls_name *name = names_of(list); name->name; name++)
		if (same(name->name, word, length) || same(name->aliases[0], word, length) ||
		    same(name->aliases[1], word, length))
			return name;
	return NULL;
}

/* The next name from *rest on, its length in *length; NULL: there is none. */
static const char *next_word(const char **rest, size_t *length)
{
	const char *word = *rest + strspn(*rest, separators);

	*length = strcspn(word, separators);
	*rest = word + *length;
	return *length > 0 ? word : NULL;
}

static void say_choices(enum tls_list list, const char *word, size_t length, struct text *why)
{
	char shown[PRINTABLE_MAX];
	char copy[PRINTABLE_MAX + 1];

	snprintf(copy, sizeof(copy), "%.*s", length < PRINTABLE_MAX ? (int)length : PRINTABLE_MAX, word);
	text_append(why, "\"%s\" is not one of", printable(copy, shown));
	for (const struct tls_name *name = names_of(list); name->name; name++)
		text_append(why, "%s %s", name == names_of(list) ? "" : ",", name->name);
}

static void free_ssl_ctx(SSL_CTX **ssl_ctx)
{
	SSL_CTX_free(*ssl_ctx);
}

static bool set(SSL_CTX *ssl_ctx, enum tls_list list, const char *names)
{
	bool done = false;

	switch (list) {
	case TLS_LIST_CIPHER_SUITES:
		done = SSL_CTX_set_ciphersuites(ssl_ctx, names);
		break;
	case TLS_LIST_CIPHERS:
		done = SSL_CTX_set_cipher_list(ssl_ctx, names);
		break;
	case TLS_LIST_GROUPS:
		done = SSL_CTX_set1_groups_list(ssl_ctx, names);
		break;
	case TLS_LIST_SIGNATURE_ALGORITHMS:
		done = SSL_CTX_set1_sigalgs_list(ssl_ctx, names);
		break;
	}
	ERR_clear_error();
	return done;
}

/* OpenSSL may be older than a name, or built without what it stands for. One by one: it does not say which. */
bool tls_list_is_supported(enum tls_list list, const char *canonical, struct text *why)
{
	_cleanup_(free_ssl_ctx) SSL_CTX *ssl_ctx = SSL_CTX_new(TLS_client_method());
	const char *word;
	size_t length;

	if (!ssl_ctx) {
		text_append(why, "no memory to try it");
		return false;
	}
	while ((word = next_word(&canonical, &length))) {
		const struct tls_name *name = find(list, word, length);

		if (set(ssl_ctx, list, name->name))
			continue;
		text_append(why, "this OpenSSL (%s) has no %s", OpenSSL_version(OPENSSL_VERSION_STRING), name->name);
		return false;
	}
	return true;
}

bool tls_list_canonical(enum tls_list list, const char *value, char canonical[static TLS_LIST_MAX], struct text *why)
{
	const struct tls_name *all = names_of(list);
	const char *rest = value;
	unsigned long seen = 0;
	const char *word;
	size_t length;
	size_t used = 0;

	canonical[0] = '\0';
	while ((word = next_word(&rest, &length))) {
		const struct tls_name *name = find(list, word, length);

		if (!name) {
			say_choices(list, word, length, why);
			return false;
		}
		if (seen & (1ul << (name - all))) {
			text_append(why, "%s is there twice", name->name);
			return false;
		}
		seen |= 1ul << (name - all);
		used += (size_t)snprintf(canonical + used, TLS_LIST_MAX - used, "%s%s", used > 0 ? ":" : "",
		                         name->name);
	}
	return used > 0;
}

bool tls_list_serves(enum tls_list list, const char *value, int version)
{
	const char *word;
	size_t length;

	while ((word = next_word(&value, &length))) {
		const struct tls_name *name = find(list, word, length);

		if (name && !(version == TLS1_2_VERSION ? name->not_1_2 : name->not_1_3))
			return true;
	}
	return false;
}
