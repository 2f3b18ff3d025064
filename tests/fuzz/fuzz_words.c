// SPDX-License-Identifier: GPL-2.0-only
/*
 * words: a letter, then a text -> one of the small grammars, each against a second opinion: a regular expression of the
 * standard that the header names, inet_pton(), or timegm() backwards.
 *
 *   N  names.h    U  uri.h    T  timestamp_parse()    D  duration_parse()    A  address.h    P  printable(), text.h
 */
#include <arpa/inet.h>
#include <regex.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/address.h"
#include "base/printable.h"
#include "fuzz.h"
#include "policy/names.h"
#include "policy/text.h"
#include "policy/times.h"
#include "policy/uri.h"

#define LABEL     "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
#define SUBDOMAIN LABEL "(\\." LABEL ")*"
#define QUALIFIED "[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"

enum expression {
	IS_LABEL,
	IS_SUBDOMAIN,
	IS_WILDCARD,
	IS_KIND,
	IS_KEY,
	IS_DOMAIN_KEY,
	IS_NUMERIC,
	IS_DURATION,
	IS_TIME,
	IS_URI,
	EXPRESSIONS,
};

static const char *const patterns[EXPRESSIONS] = {
        [IS_LABEL] = "^" LABEL "$",
        [IS_SUBDOMAIN] = "^" SUBDOMAIN "$",
        [IS_WILDCARD] = "^(\\*\\.)?" SUBDOMAIN "$",
        [IS_KIND] = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$",
        [IS_KEY] = "^(" SUBDOMAIN "/)?" QUALIFIED "$",
        [IS_DOMAIN_KEY] = "^" SUBDOMAIN "/" QUALIFIED "$",
        [IS_NUMERIC] = "^(0[xX][0-9a-fA-F]*|[0-9]+)(\\.(0[xX][0-9a-fA-F]*|[0-9]+))*$",
        [IS_DURATION] = "^([0-9]{1,5}(h|m|s|ms)){1,4}$",
        [IS_TIME] =
                "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]+)?([Zz]|[-+][0-9]{2}:[0-9]{2})$",
        /* RFC 3986 appendix A with an authority; the host is refined by the code, never widened. */
        [IS_URI] = "^[A-Za-z][-A-Za-z0-9+.]*://"
                   "(([-A-Za-z0-9._~!$&'()*+,;=:]|%[0-9A-Fa-f]{2})*@)?"
                   "(\\[[0-9A-Fa-f:.]+\\]|([-A-Za-z0-9._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+)(:[0-9]*)?"
                   "(/([-A-Za-z0-9._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*)?"
                   "(\\?([-A-Za-z0-9._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*)?"
                   "(#([-A-Za-z0-9._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*)?$",
};

static regex_t compiled[EXPRESSIONS];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	for (size_t i = 0; i < EXPRESSIONS; i++)
		FUZZ_CHECK(!regcomp(&compiled[i], patterns[i], REG_EXTENDED | REG_NOSUB), "expression %zu", i);
	return 0;
}

static bool matches(enum expression expression, const char *text)
{
	return !regexec(&compiled[expression], text, 0, NULL, 0);
}

static void fuzz_names(const char *text)
{
	size_t length = strlen(text);
	const char *slash = strchr(text, '/');
	size_t qualified = slash ? strlen(slash + 1) : length;
	bool sizes = qualified <= 63 && (!slash || (size_t)(slash - text) <= DNS_SUBDOMAIN_MAX);

	FUZZ_CHECK(is_dns_label(text) == (length <= 63 && matches(IS_LABEL, text)), "label \"%s\"", text);
	FUZZ_CHECK(is_dns_subdomain(text) == (length <= 253 && matches(IS_SUBDOMAIN, text)), "subdomain \"%s\"", text);
	FUZZ_CHECK(!is_wildcard_hostname(text) || (length <= 255 && matches(IS_WILDCARD, text)), "wildcard \"%s\"",
	           text);
	FUZZ_CHECK(is_wildcard_hostname(text) || !(length <= 253 && matches(IS_WILDCARD, text)), "wildcard \"%s\"",
	           text);
	FUZZ_CHECK(is_kind(text) == (length <= 63 && matches(IS_KIND, text)), "kind \"%s\"", text);
	FUZZ_CHECK(!is_annotation_key(text) || (sizes && matches(IS_KEY, text)), "annotation key \"%s\"", text);
	FUZZ_CHECK(is_annotation_key(text) || !(sizes && length <= 253 && matches(IS_KEY, text)),
	           "annotation key \"%s\"", text);
	FUZZ_CHECK(!is_well_known_ca(text) || !strcmp(text, "System") || matches(IS_DOMAIN_KEY, text),
	           "well-known CA \"%s\"", text);
	FUZZ_CHECK(is_numeric_host(text) == matches(IS_NUMERIC, text), "numeric \"%s\"", text);
}

static void fuzz_uri(const char *text)
{
	const char *problem = uri_problem(text);

	FUZZ_CHECK(problem || matches(IS_URI, text), "\"%s\" is no URI", text);
	FUZZ_CHECK(!problem || fuzz_is_message(problem, 128), "\"%s\"", problem);
	if (!problem && !strncasecmp(text, "spiffe:", 7))
		FUZZ_CHECK(!strpbrk(text, "@?#%") && !strstr(text + 9, "//") && text[strlen(text) - 1] != '/',
		           "\"%s\" is no SPIFFE ID", text);
}

static void fuzz_timestamp(const char *text)
{
	int64_t seconds, offset = 0;
	char written[64];
	struct tm tm;
	time_t local;

	if (!timestamp_parse(text, &seconds))
		return;
	FUZZ_CHECK(matches(IS_TIME, text), "\"%s\" is no time", text);
	if (!strpbrk(text, "Zz")) {
		const char *end = text + strlen(text) - 6;

		offset = (strtol(end + 1, NULL, 10) * 60 + strtol(end + 4, NULL, 10)) * (*end == '-' ? -60 : 60);
	}
	local = seconds + offset;
	FUZZ_CHECK(gmtime_r(&local, &tm), "\"%s\" is beyond all time", text);
	snprintf(written, sizeof(written), "%04d-%02d-%02d%c%02d:%02d:%02d", tm.tm_year + 1900, tm.tm_mon + 1,
	         tm.tm_mday, text[10], tm.tm_hour, tm.tm_min, tm.tm_sec);
	/* A leap second is the next minute's first. */
	if (strncmp(text + 17, "60", 2))
		FUZZ_CHECK(!strncmp(written, text, 19), "\"%s\" was read as %s", text, written);
}

static void fuzz_duration(const char *text)
{
	unsigned long long total = 0;
	unsigned int milliseconds = 0;
	bool read = duration_parse(text, &milliseconds);

	if (!matches(IS_DURATION, text)) {
		FUZZ_CHECK(!read, "\"%s\" is no duration", text);
		return;
	}
	for (const char *rest = text; *rest;) {
		char *unit;
		unsigned long number = strtoul(rest, &unit, 10);

		total += number * (*unit == 'h' ? 3600000ull : unit[1] == 's' ? 1 : *unit == 'm' ? 60000 : 1000);
		rest = unit + 1 + (*unit == 'm' && unit[1] == 's');
	}
	FUZZ_CHECK(read == (total <= DURATION_MAX_MS), "\"%s\" is %llu ms", text, total);
	FUZZ_CHECK(!read || milliseconds == total, "\"%s\" is %llu ms, not %u", text, total, milliseconds);
}

static void fuzz_address(const char *text)
{
	unsigned char bytes[16];
	struct postern_address address, again;
	char written[ADDRESS_TEXT_MAX];
	struct cidr cidr;
	bool known = inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;

	FUZZ_CHECK((address_parse(text, &address) == 0) == known, "address \"%s\"", text);
	if (known) {
		address_format(&address, written);
		FUZZ_CHECK(address_parse(written, &again) == 0 && address_equal(&address, &again), "\"%s\" as \"%s\"",
		           text, written);
	}
	if (cidr_parse(text, &cidr) == 0) {
		FUZZ_CHECK(strchr(text, '/') && cidr.prefix_length <= 128, "CIDR \"%s\"", text);
		FUZZ_CHECK(cidr_contains(&cidr, &cidr.address), "\"%s\" does not contain its own address", text);
		for (unsigned int bit = cidr.prefix_length; bit < 128; bit++)
			FUZZ_CHECK(!(cidr.address.byte[bit / 8] & (0x80u >> bit % 8)), "\"%s\" has host bits", text);
	}
}

static void fuzz_printable(const char *text)
{
	char shown[PRINTABLE_MAX];
	struct text grown = {0};
	char *taken;

	printable(text, shown);
	FUZZ_CHECK(!*text || fuzz_is_message(shown, sizeof(shown)), "\"%s\"", shown);
	FUZZ_CHECK(!strchr(shown, '"'), "a quote in \"%s\"", shown);
	for (size_t i = 0; i < 80; i++)
		text_add_sentence(&grown, "%s", text);
	taken = text_take(&grown);
	FUZZ_CHECK(taken && strlen(taken) <= TEXT_MAX + strlen("..."), "%zu bytes", taken ? strlen(taken) : 0);
	free(taken);
	text_free(&grown);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct {
		char letter;
		void (*fuzz)(const char *text);
	} grammars[] = {{'N', fuzz_names},    {'U', fuzz_uri},     {'T', fuzz_timestamp},
	                {'D', fuzz_duration}, {'A', fuzz_address}, {'P', fuzz_printable}};
	char *text;

	if (!size)
		return 0;
	text = fuzz_text(data + 1, size - 1);
	for (size_t i = 0; i < sizeof(grammars) / sizeof(grammars[0]); i++)
		if (grammars[i].letter == data[0])
			grammars[i].fuzz(text);
	free(text);
	return 0;
}
