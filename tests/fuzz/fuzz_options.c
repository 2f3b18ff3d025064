// SPDX-License-Identifier: GPL-2.0-only
/*
 * options: lines, "key NL value NL" and so on -> options_parse().
 *
 * Without problems every value is in its range, and every list is what OpenSSL takes. Options of others change nothing.
 * Each problem is one line. The order of the options means nothing, unless one stands there twice.
 */
#include <string.h>

#include <openssl/ssl.h>

#include "fuzz.h"
#include "policy/options.h"

#define MAX_OPTIONS 32

static const char prefix[] = "postern.dev/";

static bool in_range(const struct tls_options *options)
{
	return (options->min_version == TLS1_2_VERSION || options->min_version == TLS1_3_VERSION) &&
	       (options->max_version == TLS1_2_VERSION || options->max_version == TLS1_3_VERSION) &&
	       options->min_version <= options->max_version && options->alpn <= ALPN_H2 &&
	       options->ktls <= SWITCH_OFF && options->verify_depth >= -1 && options->verify_depth <= 100 &&
	       options->connect_timeout_ms <= 86400000 && options->handshake_timeout_ms <= 86400000 &&
	       options->idle_timeout_ms <= 86400000 && options->pin_count <= OPTION_MAX_PINS &&
	       (!options->crl.name || options->crl.kind == OBJECT_CONFIG_MAP || options->crl.kind == OBJECT_SECRET) &&
	       (!options->client_certificate.name || options->client_certificate.kind == OBJECT_SECRET);
}

static bool same_text(const char *left, const char *right)
{
	return left && right ? !strcmp(left, right) : left == right;
}

static bool same(const struct tls_options *left, const struct tls_options *right)
{
	return left->min_version == right->min_version && left->max_version == right->max_version &&
	       left->alpn_given == right->alpn_given && left->alpn == right->alpn && left->ktls == right->ktls &&
	       left->connect_timeout_ms == right->connect_timeout_ms &&
	       left->handshake_timeout_ms == right->handshake_timeout_ms &&
	       left->idle_timeout_ms == right->idle_timeout_ms && left->verify_depth == right->verify_depth &&
	       left->partial_chain == right->partial_chain && left->resumption_off == right->resumption_off &&
	       left->pin_count == right->pin_count &&
	       !memcmp(left->pins, right->pins, sizeof(left->pins[0]) * left->pin_count) &&
	       same_text(left->cipher_suites, right->cipher_suites) && same_text(left->ciphers, right->ciphers) &&
	       same_text(left->groups, right->groups) &&
	       same_text(left->signature_algorithms, right->signature_algorithms) &&
	       same_text(left->crl.name, right->crl.name) &&
	       same_text(left->client_certificate.name, right->client_certificate.name);
}

static void check_reversed(const struct option_value *values, size_t count, const struct tls_options *options,
                           bool problems)
{
	struct option_value reversed[MAX_OPTIONS];
	struct tls_options again;
	struct text text = {0};

	for (size_t i = 0; i < count; i++) {
		for (size_t j = 0; j < i; j++)
			if (!strcmp(values[i].key, values[j].key))
				return; /* a YAML map has none of these */
		reversed[count - 1 - i] = values[i];
	}
	options_parse(reversed, count, &again, &text);
	FUZZ_CHECK(text_is_empty(&text) != problems, "the order decides what is a problem: %s", text.data);
	FUZZ_CHECK(problems || same(options, &again), "the order decides what is set");
	text_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct tls_options defaults = {
	        .min_version = TLS1_2_VERSION, .max_version = TLS1_3_VERSION, .verify_depth = -1};
	struct option_value values[MAX_OPTIONS];
	struct tls_options options;
	struct text problems = {0};
	size_t count = 0;
	bool own = false;

	while (count < MAX_OPTIONS && size) {
		values[count].key = fuzz_take(&data, &size, '\n');
		values[count].value = fuzz_take(&data, &size, '\n');
		if (!values[count].value)
			values[count].value = fuzz_text(data, 0);
		own |= !strncmp(values[count].key, prefix, strlen(prefix));
		count++;
	}
	options_parse(values, count, &options, &problems);
	FUZZ_CHECK(!problems.failed, "no memory");
	if (text_is_empty(&problems)) {
		FUZZ_CHECK(in_range(&options), "out of range");
		FUZZ_CHECK(own || same(&options, &defaults), "options of others set something");
	} else {
		FUZZ_CHECK(fuzz_is_message(problems.data, TEXT_MAX + 1), "\"%s\"", problems.data);
	}
	check_reversed(values, count, &options, !text_is_empty(&problems));
	text_free(&problems);
	for (size_t i = 0; i < count; i++) {
		free((char *)values[i].key);
		free((char *)values[i].value);
	}
	return 0;
}
