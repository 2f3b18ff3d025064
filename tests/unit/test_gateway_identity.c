// SPDX-License-Identifier: GPL-2.0-only
/* Which client certificate a data plane shows: the whole rule as a table. The snapshot is played. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "policy/client_certificate.h"
#include "policy/gateway_identity.h"
#include "policy/snapshot.h"

struct snapshot {
	struct gateway_status gateways[4];
	size_t count;
};

size_t snapshot_gateway_count(const struct snapshot *snapshot)
{
	return snapshot->count;
}

const struct gateway_status *snapshot_gateway_at(const struct snapshot *snapshot, size_t index)
{
	return &snapshot->gateways[index];
}

const struct gateway_status *snapshot_find_gateway(const struct snapshot *snapshot, const char *namespace_,
                                                   const char *name)
{
	for (size_t i = 0; i < snapshot->count; i++) {
		if (strcmp(snapshot->gateways[i].namespace_, namespace_) == 0 &&
		    strcmp(snapshot->gateways[i].name, name) == 0)
			return &snapshot->gateways[i];
	}
	return NULL;
}

/* one and same present one identity, other another. */
static struct client_certificate one = {.digest = {1}}, same = {.digest = {1}}, other = {.digest = {2}};

static char shop[] = "shop";

/* '1' one, '=' same, '2' other, '-' none, '!' named and unusable. Gateways are called a, b, c... */
static struct snapshot played(const char *gateways)
{
	static char names[][2] = {"a", "b", "c", "d"};
	struct snapshot snapshot = {.count = strlen(gateways)};

	for (size_t i = 0; i < snapshot.count; i++) {
		struct gateway_status *gateway = &snapshot.gateways[i];

		gateway->namespace_ = shop;
		gateway->name = names[i];
		gateway->has_reference = gateways[i] != '-';
		gateway->client_certificate = gateways[i] == '1'   ? &one
		                              : gateways[i] == '=' ? &same
		                              : gateways[i] == '2' ? &other
		                                                   : NULL;
	}
	return snapshot;
}

static void the_rule(void **state)
{
	static const struct {
		const char *gateways; /* of the snapshot */
		const char *refs;     /* of the data plane: their names */
		struct client_certificate *own;
		struct client_certificate *certificate;
		const char *unusable;
		bool disagreement;
	} rows[] = {
	        {"", "", NULL, NULL, NULL, false},
	        {"1", "", NULL, NULL, NULL, false}, /* a Gateway that it does not serve */
	        {"", "a", NULL, NULL, NULL, false}, /* one that does not exist */
	        {"-", "a", NULL, NULL, NULL, false},
	        {"1", "a", NULL, &one, NULL, false},
	        {"21", "b", NULL, &one, NULL, false},
	        {"1=", "ab", NULL, &one, NULL, false},
	        {"12", "ab", NULL, NULL, NULL, true},
	        {"1-", "ab", NULL, NULL, NULL, true},
	        {"-1", "ab", NULL, NULL, NULL, true},
	        {"1", "ax", NULL, NULL, NULL, true},
	        {"1=2", "abc", NULL, NULL, NULL, true},
	        {"--", "ab", NULL, NULL, NULL, false},
	        {"!", "a", NULL, NULL, "a", false},
	        {"1!", "ab", NULL, NULL, "b", false},
	        {"12!", "abc", NULL, NULL, "c", false}, /* refused, whatever else */
	        {"1!", "a", NULL, &one, NULL, false},   /* not one of its own */
	        /* A policy's own certificate comes before all that. */
	        {"", "", &other, &other, NULL, false},
	        {"1", "a", &other, &other, NULL, false},
	        {"!", "a", &other, &other, NULL, false},
	        {"12", "ab", &one, &one, NULL, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct snapshot snapshot = played(rows[i].gateways);
		const struct tls_settings settings = {.client_certificate = rows[i].own};
		char names[4][2] = {0};
		struct object_name refs[4];
		size_t count = strlen(rows[i].refs);
		struct gateway_identity identity;

		for (size_t j = 0; j < count; j++) {
			names[j][0] = rows[i].refs[j];
			refs[j] = (struct object_name){shop, names[j]};
		}
		gateway_identity_find(&snapshot, refs, count, rows[i].own ? &settings : NULL, &identity);
		if (identity.certificate != rows[i].certificate)
			fail_msg("row %zu: expected the certificate %p, seen %p", i, (void *)rows[i].certificate,
			         (void *)identity.certificate);
		if (strcmp(identity.unusable ? identity.unusable->name : "", rows[i].unusable ?: "") != 0)
			fail_msg("row %zu: expected Gateway \"%s\" to be unusable, seen \"%s\"", i,
			         rows[i].unusable ?: "", identity.unusable ? identity.unusable->name : "");
		if (identity.disagreement != rows[i].disagreement)
			fail_msg("row %zu: expected disagreement %d, seen %d", i, rows[i].disagreement,
			         identity.disagreement);
	}
}

static void what_changes_it(void **state)
{
	static const struct {
		const char *before, *after;
		bool equal;
	} rows[] = {
	        {"", "", true},   {"1", "1", true},  {"1", "=", true},    {"1", "2", false},  {"1", "-", false},
	        {"-", "-", true}, {"-", "!", false}, {"!", "!", true},    {"1", "!", false},  {"1", "", false},
	        {"", "1", false}, {"", "-", false},  {"12", "21", false}, {"12", "12", true},
	};
	struct snapshot empty = played("");

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct snapshot before = played(rows[i].before), after = played(rows[i].after);

		if (gateway_identities_equal(&before, &after) != rows[i].equal)
			fail_msg("\"%s\" to \"%s\": expected equal=%d", rows[i].before, rows[i].after, rows[i].equal);
	}
	assert_true(gateway_identities_equal(NULL, &empty));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(the_rule),
	        cmocka_unit_test(what_changes_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
