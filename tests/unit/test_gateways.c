// SPDX-License-Identifier: GPL-2.0-only
/* Each Gateway by itself: is it served, and which client certificate does it show? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "policy/client_certificate.h"
#include "policy/gateways.h"
#include "policy/store.h"
#include "policy_fixture.h"

#define GATEWAY_GROUP "gateway.networking.k8s.io"

/* Nothing but a number of owners: what is in it is nobody's business here. */
static struct client_certificate *some_certificate(void)
{
	struct client_certificate *certificate = calloc(1, sizeof(*certificate));

	assert_non_null(certificate);
	atomic_init(&certificate->references, 1);
	return certificate;
}

static void put_secret(struct object_store *store, const char *namespace_, const char *name, const char *type,
                       const char *problem)
{
	struct object *object = fixture_object(OBJECT_SECRET, namespace_, name);

	object->secret.type = type;
	object->secret.certificate_problem = problem;
	object->secret.certificate = problem ? NULL : some_certificate();
	fixture_put(store, object);
}

/* The Secrets that every row of client_certificates() finds. */
static void put_secrets(struct object_store *store)
{
	struct object *broken = fixture_object(OBJECT_SECRET, "n", "broken");

	put_secret(store, "n", "good", "kubernetes.io/tls", NULL);
	put_secret(store, "other", "good", "kubernetes.io/tls", NULL);
	put_secret(store, "n", "opaque", "Opaque", "has no key tls.crt");
	put_secret(store, "n", "opaque-pair", "Opaque", NULL);
	put_secret(store, "n", "no-key", "kubernetes.io/tls", "has no key tls.key");
	put_secret(store, "n", "mismatch", "kubernetes.io/tls",
	           "tls.key: is not the key of the certificate in tls.crt");
	broken->secret.type = "kubernetes.io/tls";
	assert_int_equal(object_store_quarantine(store, broken, "a.yaml: data: must be a map"), 0);
	object_unref(broken);
}

struct grant_row {
	const char *namespace_;
	struct grant_from from;
	struct grant_to to;
};

static void put_grant(struct object_store *store, const struct grant_row *row, const char *name)
{
	struct object *object = fixture_object(OBJECT_REFERENCE_GRANT, row->namespace_, name);

	object->reference_grant = (struct reference_grant){&row->from, 1, &row->to, 1};
	fixture_put(store, object);
}

#define FROM_GATEWAYS                                                                                                  \
	{                                                                                                              \
		GATEWAY_GROUP, "Gateway", "n"                                                                          \
	}

static const struct {
	const char *title;
	struct secret_reference reference; /* name NULL: none */
	struct grant_row grants[2];
	const char *reason;
	const char *message; /* a part of it */
} rows[] = {
        {"no reference", .reason = "ResolvedRefs", .message = "refers to no client certificate"},
        {"own namespace", {"", "Secret", "n", "good"}, .reason = "ResolvedRefs", .message = "Secret n/good is used"},

        /* GatewayInvalidTLSBackendConfiguration, upstream's five */
        {"no such Secret",
         {"", "Secret", "n", "nonexistent"},
         .reason = "InvalidClientCertificateRef",
         .message = "Secret n/nonexistent does not exist: create it"},
        {"another group",
         {"wrong.io", "Secret", "n", "good"},
         .reason = "InvalidClientCertificateRef",
         .message = "kind \"Secret\" of group \"wrong.io\" is not supported"},
        {"another kind",
         {"", "WrongKind", "n", "good"},
         .reason = "InvalidClientCertificateRef",
         .message = "kind \"WrongKind\" of group \"\" is not supported"},
        {"an empty Secret of type Opaque",
         {"", "Secret", "n", "opaque"},
         .reason = "InvalidClientCertificateRef",
         .message = "Secret n/opaque is of type \"Opaque\": it must be kubernetes.io/tls"},
        {"another namespace without a grant",
         {"", "Secret", "other", "good"},
         .reason = "RefNotPermitted",
         .message = "Secret other/good is in another namespace and no ReferenceGrant there permits it"},

        {"a good pair in a Secret of type Opaque",
         {"", "Secret", "n", "opaque-pair"},
         .reason = "InvalidClientCertificateRef",
         .message = "is of type \"Opaque\""},
        {"no tls.key",
         {"", "Secret", "n", "no-key"},
         .reason = "InvalidClientCertificateRef",
         .message = "Secret n/no-key cannot be used: has no key tls.key"},
        {"not a pair",
         {"", "Secret", "n", "mismatch"},
         .reason = "InvalidClientCertificateRef",
         .message = "tls.key: is not the key"},
        {"a Secret in quarantine",
         {"", "Secret", "n", "broken"},
         .reason = "InvalidClientCertificateRef",
         .message = "Secret n/broken is not applied: a.yaml: data: must be a map"},

        /* Grants */
        {"a grant by name",
         {"", "Secret", "other", "good"},
         {{"other", FROM_GATEWAYS, {"", "Secret", "good"}}},
         .reason = "ResolvedRefs",
         .message = "Secret other/good is used"},
        {"a grant by kind",
         {"", "Secret", "other", "good"},
         {{"other", FROM_GATEWAYS, {"", "Secret", NULL}}},
         .reason = "ResolvedRefs",
         .message = "Secret other/good is used"},
        {"the second grant of the namespace",
         {"", "Secret", "other", "good"},
         {{"other", FROM_GATEWAYS, {"", "Secret", "x"}}, {"other", FROM_GATEWAYS, {"", "Secret", NULL}}},
         .reason = "ResolvedRefs",
         .message = "Secret other/good is used"},
        {"a grant for other names only",
         {"", "Secret", "other", "good"},
         {{"other", FROM_GATEWAYS, {"", "Secret", "goo"}}, {"other", FROM_GATEWAYS, {"", "Secret", "goods"}}},
         .reason = "RefNotPermitted",
         .message = "no ReferenceGrant there"},
        {"a grant from another namespace",
         {"", "Secret", "other", "good"},
         {{"other", {GATEWAY_GROUP, "Gateway", "m"}, {"", "Secret", NULL}}},
         .reason = "RefNotPermitted",
         .message = "no ReferenceGrant there"},
        {"a grant that stands in another namespace",
         {"", "Secret", "other", "good"},
         {{"n", FROM_GATEWAYS, {"", "Secret", NULL}}, {"othe", FROM_GATEWAYS, {"", "Secret", NULL}}},
         .reason = "RefNotPermitted",
         .message = "no ReferenceGrant there"},
        {"a grant from Routes",
         {"", "Secret", "other", "good"},
         {{"other", {GATEWAY_GROUP, "HTTPRoute", "n"}, {"", "Secret", NULL}}},
         .reason = "RefNotPermitted",
         .message = "no ReferenceGrant there"},
        {"a grant from a Gateway of another group",
         {"", "Secret", "other", "good"},
         {{"other", {"networking.istio.io", "Gateway", "n"}, {"", "Secret", NULL}}},
         .reason = "RefNotPermitted",
         .message = "no ReferenceGrant there"},
        {"a grant to another kind",
         {"", "Secret", "other", "good"},
         {{"other", FROM_GATEWAYS, {"", "ConfigMap", NULL}}},
         .reason = "RefNotPermitted",
         .message = "no ReferenceGrant there"},
        {"without a grant nobody learns that there is no such Secret",
         {"", "Secret", "other", "nonexistent"},
         .reason = "RefNotPermitted",
         .message = "Secret other/nonexistent is in another namespace"},
        {"with a grant it is said",
         {"", "Secret", "other", "nonexistent"},
         {{"other", FROM_GATEWAYS, {"", "Secret", NULL}}},
         .reason = "InvalidClientCertificateRef",
         .message = "Secret other/nonexistent does not exist"},
        {"another kind in another namespace: not permitted comes first",
         {"wrong.io", "Secret", "other", "good"},
         {{"other", FROM_GATEWAYS, {"", "Secret", NULL}}},
         .reason = "RefNotPermitted",
         .message = "Secret other/good is in another namespace"},
};

static void client_certificates(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct object_store *store = object_store_new();
		struct object *gateway = fixture_object(OBJECT_GATEWAY, "n", "g");
		bool good = !strcmp(rows[i].reason, "ResolvedRefs"), has_reference = rows[i].reference.name != NULL;
		struct gateway_status *statuses;
		size_t count;

		put_secrets(store);
		for (size_t j = 0; j < ARRAY_SIZE(rows[i].grants) && rows[i].grants[j].namespace_; j++)
			put_grant(store, &rows[i].grants[j], j ? "b" : "a");
		gateway->generation = 7;
		gateway->gateway.class_name = "class";
		gateway->gateway.has_client_certificate = has_reference;
		gateway->gateway.client_certificate = rows[i].reference;
		fixture_put(store, gateway);

		assert_int_equal(gateway_statuses_new(store, &statuses, &count), 0);
		object_store_free(store); /* the certificate stays */
		assert_int_equal(count, 1);
		assert_string_equal(statuses->namespace_, "n");
		assert_string_equal(statuses->name, "g");
		assert_int_equal(statuses->generation, 7);
		assert_int_equal(statuses->has_reference, has_reference);
		if (strcmp(statuses->resolved_refs.reason, rows[i].reason) || statuses->resolved_refs.status != good ||
		    !strstr(statuses->resolved_refs.message, rows[i].message))
			fail_msg("%s: expected %s %s \"%s\", seen %d %s \"%s\"", rows[i].title, good ? "True" : "False",
			         rows[i].reason, rows[i].message, statuses->resolved_refs.status,
			         statuses->resolved_refs.reason, statuses->resolved_refs.message);
		if ((statuses->client_certificate != NULL) != (good && has_reference))
			fail_msg("%s: %s certificate", rows[i].title, statuses->client_certificate ? "a" : "no");
		if (statuses->client_certificate)
			assert_int_equal(atomic_load(&statuses->client_certificate->references), 1);
		gateway_statuses_free(statuses, count);
	}
}

static void served(void **state)
{
	static const struct {
		const char *title, *class;
		bool force, expected;
	} cases[] = {
	        {"a class that does nothing of the kind", "plain", false, true},
	        {"a class that is not there", "nobody", false, true},
	        {"a class that does backend TLS", "does", false, false},
	        {"a class that does, forced", "does", true, true},
	        {"a class that does not, forced", "plain", true, true},
	};
	struct object_store *store = object_store_new();
	struct object *class = fixture_object(OBJECT_GATEWAY_CLASS, "", "does");
	struct gateway_status *statuses;
	char name[32];
	size_t count;

	(void)state;
	class->gateway_class.controller_name = "example.com/does";
	class->gateway_class.supports_backend_tls_policy = true;
	fixture_put(store, class);
	class = fixture_object(OBJECT_GATEWAY_CLASS, "", "plain");
	class->gateway_class.controller_name = "example.com/plain";
	fixture_put(store, class);
	for (size_t i = ARRAY_SIZE(cases); i--;) {
		struct object *gateway;

		snprintf(name, sizeof(name), "g%zu", i);
		gateway = fixture_object(OBJECT_GATEWAY, "n", name);
		gateway->gateway.class_name = cases[i].class;
		gateway->gateway.force = cases[i].force;
		fixture_put(store, gateway);
	}
	assert_int_equal(gateway_statuses_new(store, &statuses, &count), 0);
	assert_int_equal(count, ARRAY_SIZE(cases));
	for (size_t i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "g%zu", i);
		assert_string_equal(statuses[i].name, name);
		if (statuses[i].served != cases[i].expected)
			fail_msg("%s: expected served %d", cases[i].title, cases[i].expected);
		assert_int_equal(gateway_does_backend_tls(store, object_store_at(store, OBJECT_GATEWAY, i)),
		                 !cases[i].expected);
	}
	gateway_statuses_free(statuses, count);
	object_store_free(store);
}

static void none(void **state)
{
	struct object_store *store = object_store_new();
	struct gateway_status *statuses;
	size_t count;

	(void)state;
	assert_int_equal(gateway_statuses_new(store, &statuses, &count), 0);
	assert_int_equal(count, 0);
	gateway_statuses_free(statuses, count);
	object_store_free(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(client_certificates),
	        cmocka_unit_test(served),
	        cmocka_unit_test(none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
