// SPDX-License-Identifier: GPL-2.0-only
#include "policy/options.h"

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/printable.h"
#include "base/sorted.h"
#include "policy/names.h"
#include "policy/times.h"
#include "policy/tls_names.h"

#define OPTION_VALUE_MAX 4096
#define VERIFY_DEPTH_MAX 100
#define PIN_BASE64_BYTES 44

static const char prefix[] = "postern.dev/";

struct option_choice {
	const char *name;
	int value;
};

static const struct option_choice versions[] = {{"1.2", TLS1_2_VERSION}, {"1.3", TLS1_3_VERSION}, {0}};
static const struct option_choice protocols[] = {
        {"h2", ALPN_H2}, {"http/1.1", ALPN_HTTP_1_1}, {"none", ALPN_NONE}, {0}};
static const struct option_choice switches[] = {
        {"auto", SWITCH_AUTO}, {"require", SWITCH_REQUIRE}, {"off", SWITCH_OFF}, {0}};

static const struct option_choice truths[] = {{"true", true}, {"false", false}, {0}};
static const struct option_choice on_off[] = {{"on", true}, {"off", false}, {0}};

static bool choose(const struct option_choice *choices, const char *value, int *chosen)
{
	for (; choices->name; choices++) {
		if (!strcmp(choices->name, value)) {
			*chosen = choices->value;
			return true;
		}
	}
	return false;
}

/*
 * One setter an option. False: the value is wrong, and why says how; if that is empty, what the table expects says it.
 */

static bool set_min_version(struct tls_options *options, const char *value, struct text *why)
{
	(void)why;
	return choose(versions, value, &options->min_version);
}

static bool set_max_version(struct tls_options *options, const char *value, struct text *why)
{
	(void)why;
	return choose(versions, value, &options->max_version);
}

/* Copied, in OpenSSL's own names, by whoever needs it: here it is only looked at. */
static bool set_list(enum tls_list list, const char **option, const char *value, struct text *why)
{
	char canonical[TLS_LIST_MAX];

	if (!tls_list_canonical(list, value, canonical, why) || !tls_list_is_supported(list, canonical, why))
		return false;
	*option = value;
	return true;
}

static bool set_cipher_suites(struct tls_options *options, const char *value, struct text *why)
{
	return set_list(TLS_LIST_CIPHER_SUITES, &options->cipher_suites, value, why);
}

static bool set_ciphers(struct tls_options *options, const char *value, struct text *why)
{
	return set_list(TLS_LIST_CIPHERS, &options->ciphers, value, why);
}

static bool set_groups(struct tls_options *options, const char *value, struct text *why)
{
	return set_list(TLS_LIST_GROUPS, &options->groups, value, why);
}

static bool set_signature_algorithms(struct tls_options *options, const char *value, struct text *why)
{
	return set_list(TLS_LIST_SIGNATURE_ALGORITHMS, &options->signature_algorithms, value, why);
}

static bool set_alpn(struct tls_options *options, const char *value, struct text *why)
{
	int alpn;

	(void)why;
	options->alpn_given = choose(protocols, value, &alpn);
	if (options->alpn_given)
		options->alpn = (enum alpn_protocol)alpn;
	return options->alpn_given;
}

static bool set_verify_depth(struct tls_options *options, const char *value, struct text *why)
{
	size_t digits = strspn(value, "0123456789");
	int depth = 0;

	(void)why;
	if (digits == 0 || digits > 3 || value[digits] != '\0')
		return false;
	for (; *value; value++)
		depth = 10 * depth + (*value - '0');
	if (depth > VERIFY_DEPTH_MAX)
		return false;
	options->verify_depth = depth;
	return true;
}

static bool set_partial_chain(struct tls_options *options, const char *value, struct text *why)
{
	int partial_chain;

	(void)why;
	if (!choose(truths, value, &partial_chain))
		return false;
	options->partial_chain = partial_chain;
	return true;
}

static bool set_crl(struct tls_options *options, const char *value, struct text *why)
{
	static const struct {
		const char *prefix;
		enum object_kind kind;
	} kinds[] = {{"configmap/", OBJECT_CONFIG_MAP}, {"secret/", OBJECT_SECRET}};

	(void)why;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const char *name = value + strlen(kinds[i].prefix);

		if (strncasecmp(value, kinds[i].prefix, strlen(kinds[i].prefix)) != 0 || !is_dns_subdomain(name))
			continue;
		options->crl = (struct option_reference){.name = name, .kind = kinds[i].kind};
		return true;
	}
	return false;
}

/* Base64 of 32 bytes has 43 characters and one '=', and only one spelling is right: the one it encodes to again. */
static bool decode_pin(const char *text, size_t length, uint8_t pin[static OPTION_PIN_BYTES])
{
	unsigned char encoded[PIN_BASE64_BYTES + 1];
	unsigned char decoded[PIN_BASE64_BYTES];

	if (length != PIN_BASE64_BYTES ||
	    EVP_DecodeBlock(decoded, (const unsigned char *)text, PIN_BASE64_BYTES) != OPTION_PIN_BYTES + 1)
		return false;
	memcpy(pin, decoded, OPTION_PIN_BYTES);
	EVP_EncodeBlock(encoded, pin, OPTION_PIN_BYTES);
	return memcmp(encoded, text, PIN_BASE64_BYTES) == 0;
}

static int compare_pins(const void *left, const void *right)
{
	return memcmp(left, right, OPTION_PIN_BYTES);
}

/* Sorted and each once: their order means nothing. */
static void normalise_pins(struct tls_options *options)
{
	size_t kept = 0;

	sort_list(options->pins, options->pin_count, sizeof(options->pins[0]), compare_pins);
	for (size_t i = 0; i < options->pin_count; i++)
		if (i == 0 || compare_pins(options->pins[kept - 1], options->pins[i]))
			memmove(options->pins[kept++], options->pins[i], OPTION_PIN_BYTES);
	options->pin_count = kept;
}

static bool set_pins(struct tls_options *options, const char *value, struct text *why)
{
	static const char prefix_of_pin[] = "sha256/";

	for (const char *rest = value + strspn(value, ", "); *rest; rest += strspn(rest, ", ")) {
		size_t length = strcspn(rest, ", ");
		const char *pin = rest;

		rest += length;
		if (!strncmp(pin, prefix_of_pin, strlen(prefix_of_pin))) {
			pin += strlen(prefix_of_pin);
			length -= strlen(prefix_of_pin);
		}
		if (options->pin_count == OPTION_MAX_PINS) {
			text_append(why, "more than %d pins", OPTION_MAX_PINS);
			return false;
		}
		if (!decode_pin(pin, length, options->pins[options->pin_count])) {
			text_append(why,
			            "pin %zu is not the base64 of a SHA-256 value (44 characters that end in \"=\")",
			            options->pin_count + 1);
			return false;
		}
		options->pin_count++;
	}
	normalise_pins(options);
	return options->pin_count > 0;
}

static bool set_connect_timeout(struct tls_options *options, const char *value, struct text *why)
{
	(void)why;
	return duration_parse(value, &options->connect_timeout_ms) && options->connect_timeout_ms;
}

static bool set_handshake_timeout(struct tls_options *options, const char *value, struct text *why)
{
	(void)why;
	return duration_parse(value, &options->handshake_timeout_ms) && options->handshake_timeout_ms;
}

static bool set_idle_timeout(struct tls_options *options, const char *value, struct text *why)
{
	(void)why;
	return duration_parse(value, &options->idle_timeout_ms); /* 0s: none */
}

static bool set_resumption(struct tls_options *options, const char *value, struct text *why)
{
	int on;

	(void)why;
	if (!choose(on_off, value, &on))
		return false;
	options->resumption_off = !on;
	return true;
}

static bool set_ktls(struct tls_options *options, const char *value, struct text *why)
{
	int ktls;

	(void)why;
	if (!choose(switches, value, &ktls))
		return false;
	options->ktls = (enum switch_setting)ktls;
	return true;
}

static bool set_client_certificate(struct tls_options *options, const char *value, struct text *why)
{
	(void)why;
	if (!is_dns_subdomain(value))
		return false;
	options->client_certificate = (struct option_reference){.name = value, .kind = OBJECT_SECRET};
	return true;
}

static const struct {
	const char *name;
	bool (*set)(struct tls_options *options, const char *value, struct text *why);
	const char *expected;
} known_options[] = {
        {"min-tls-version", set_min_version, "1.2 or 1.3"},
        {"max-tls-version", set_max_version, "1.2 or 1.3"},
        {"cipher-suites", set_cipher_suites, "names of TLS 1.3 cipher suites separated by colons"},
        {"ciphers", set_ciphers, "names of TLS 1.2 cipher suites separated by colons"},
        {"groups", set_groups, "names of groups separated by colons"},
        {"signature-algorithms", set_signature_algorithms, "names of signature algorithms separated by colons"},
        {"alpn", set_alpn, "h2, http/1.1 or none"},
        {"verify-depth", set_verify_depth, "a number of 0 to 100"},
        {"partial-chain", set_partial_chain, "true or false"},
        {"crl", set_crl, "configmap/NAME or secret/NAME"},
        {"pin-sha256", set_pins, "1 to 16 SHA-256 values in base64 separated by commas or spaces"},
        {"handshake-timeout", set_handshake_timeout, "a duration of 1ms to 24h, like 5s or 500ms"},
        {"connect-timeout", set_connect_timeout, "a duration of 1ms to 24h, like 5s or 500ms"},
        {"idle-timeout", set_idle_timeout, "a duration of at most 24h, like 1m30s"},
        {"resumption", set_resumption, "on or off"},
        {"ktls", set_ktls, "auto, require or off"},
        {"client-certificate", set_client_certificate, "the name of a Secret"},
};

const char *options_name_at(size_t index)
{
	return index < ARRAY_SIZE(known_options) ? known_options[index].name : NULL;
}

static void parse_own(const struct option_value *option, struct tls_options *options, struct text *problems)
{
	const char *name = option->key + strlen(prefix);
	_cleanup_(text_free) struct text why = {0};
	char shown[PRINTABLE_MAX];
	size_t i = 0;

	while (i < ARRAY_SIZE(known_options) && strcmp(known_options[i].name, name) != 0)
		i++;
	if (i == ARRAY_SIZE(known_options))
		text_add_sentence(problems, "spec.options[%s]: postern has no such option",
		                  printable(option->key, shown));
	else if (known_options[i].set(options, option->value, &why))
		return;
	else if (text_is_empty(&why))
		text_add_sentence(problems, "spec.options[%s]: must be %s, not \"%s\"", option->key,
		                  known_options[i].expected, printable(option->value, shown));
	else
		text_add_sentence(problems, "spec.options[%s]: %s", option->key, why.data ? why.data : "no memory");
}

static void parse_one(const struct option_value *option, struct tls_options *options, struct text *problems)
{
	char shown[PRINTABLE_MAX];

	if (!is_annotation_key(option->key))
		text_add_sentence(problems, "spec.options: \"%s\" is not a valid key", printable(option->key, shown));
	else if (!strchr(option->key, '/'))
		text_add_sentence(problems,
		                  "spec.options[%s]: keys without a domain are reserved by Gateway API; postern's "
		                  "begin with postern.dev/",
		                  printable(option->key, shown));
	else if (strlen(option->value) > OPTION_VALUE_MAX)
		text_add_sentence(problems, "spec.options[%s]: longer than %d bytes", printable(option->key, shown),
		                  OPTION_VALUE_MAX);
	else if (!strncmp(option->key, prefix, strlen(prefix)))
		parse_own(option, options, problems);
}

/* A list of which nothing can be used with the version that decides leaves no handshake, or means something else. */
static void check_list(enum tls_list list, const char *value, const char *name, int version, const char *which,
                       struct text *problems)
{
	if (value && !tls_list_serves(list, value, version))
		text_add_sentence(problems,
		                  "spec.options[%s%s]: nothing in it can be used with TLS %s, the %s version allowed",
		                  prefix, name, version == TLS1_2_VERSION ? "1.2" : "1.3", which);
}

void options_parse(const struct option_value *values, size_t count, struct tls_options *options, struct text *problems)
{
	int min, max;

	*options = (struct tls_options){
	        .min_version = TLS1_2_VERSION,
	        .max_version = TLS1_3_VERSION,
	        .verify_depth = -1,
	};
	for (size_t i = 0; i < count; i++)
		parse_one(&values[i], options, problems);
	min = options->min_version;
	max = options->max_version;
	if (min > max)
		text_add_sentence(problems, "spec.options: postern.dev/min-tls-version is above max-tls-version");
	check_list(TLS_LIST_CIPHER_SUITES, options->cipher_suites, "cipher-suites", max, "highest", problems);
	check_list(TLS_LIST_CIPHERS, options->ciphers, "ciphers", min, "lowest", problems);
	check_list(TLS_LIST_GROUPS, options->groups, "groups", max, "highest", problems);
	check_list(TLS_LIST_SIGNATURE_ALGORITHMS, options->signature_algorithms, "signature-algorithms", max, "highest",
	           problems);
}
