// SPDX-License-Identifier: GPL-2.0-only
#include "policy/options.h"

#include <openssl/ssl.h>
#include <string.h>

#include "base/cleanup.h"
#include "policy/names.h"
#include "policy/times.h"

#define OPTION_VALUE_MAX 4096

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

static bool set_min_version(struct tls_options *options, const char *value)
{
	return choose(versions, value, &options->min_version);
}

static bool set_max_version(struct tls_options *options, const char *value)
{
	return choose(versions, value, &options->max_version);
}

static bool set_alpn(struct tls_options *options, const char *value)
{
	int alpn;

	options->alpn_given = choose(protocols, value, &alpn);
	if (options->alpn_given)
		options->alpn = (enum alpn_protocol)alpn;
	return options->alpn_given;
}

static bool set_ktls(struct tls_options *options, const char *value)
{
	int ktls;

	if (!choose(switches, value, &ktls))
		return false;
	options->ktls = (enum switch_setting)ktls;
	return true;
}

static bool set_connect_timeout(struct tls_options *options, const char *value)
{
	return duration_parse(value, &options->connect_timeout_ms) && options->connect_timeout_ms;
}

static bool set_handshake_timeout(struct tls_options *options, const char *value)
{
	return duration_parse(value, &options->handshake_timeout_ms) && options->handshake_timeout_ms;
}

static bool set_idle_timeout(struct tls_options *options, const char *value)
{
	return duration_parse(value, &options->idle_timeout_ms); /* 0s: none */
}

static const struct {
	const char *name;
	bool (*set)(struct tls_options *options, const char *value);
	const char *expected;
} known_options[] = {
        {"min-tls-version", set_min_version, "1.2 or 1.3"},
        {"max-tls-version", set_max_version, "1.2 or 1.3"},
        {"alpn", set_alpn, "h2, http/1.1 or none"},
        {"ktls", set_ktls, "auto, require or off"},
        {"connect-timeout", set_connect_timeout, "a duration of 1ms to 24h, like 5s or 500ms"},
        {"handshake-timeout", set_handshake_timeout, "a duration of 1ms to 24h, like 5s or 500ms"},
        {"idle-timeout", set_idle_timeout, "a duration of at most 24h, like 1m30s"},
};

static void parse_own(const struct option_value *option, struct tls_options *options, struct text *problems)
{
	const char *name = option->key + strlen(prefix);
	char shown[PRINTABLE_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(known_options); i++) {
		if (strcmp(known_options[i].name, name))
			continue;
		if (!known_options[i].set(options, option->value))
			text_add_sentence(problems, "spec.options[%s]: must be %s, not \"%s\"", option->key,
			                  known_options[i].expected, printable(option->value, shown));
		return;
	}
	text_add_sentence(problems, "spec.options[%s]: postern has no such option", printable(option->key, shown));
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

void options_parse(const struct option_value *values, size_t count, struct tls_options *options, struct text *problems)
{
	*options = (struct tls_options){.min_version = TLS1_2_VERSION, .max_version = TLS1_3_VERSION};
	for (size_t i = 0; i < count; i++)
		parse_one(&values[i], options, problems);
	if (options->min_version > options->max_version)
		text_add_sentence(problems, "spec.options: postern.dev/min-tls-version is above max-tls-version");
}
