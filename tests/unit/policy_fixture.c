// SPDX-License-Identifier: GPL-2.0-only
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/yaml.h"
#include "certificates.h"
#include "policy/decode.h"
#include "policy/shared_text.h"
#include "policy_fixture.h"

static char *make_ca(void)
{
	struct certificate *certificate =
	        certificate_new(&(struct certificate_options){.common_name = "postern test CA", .authority = true});
	char *pem = certificate_pem((const struct certificate *const[]){certificate, NULL});

	certificate_free(certificate);
	return pem;
}

const char *fixture_ca(void)
{
	static char *pem;

	return pem ? pem : (pem = make_ca());
}

const char *fixture_other_ca(void)
{
	static char *pem;

	return pem ? pem : (pem = make_ca());
}

char *fixture_config_map(const char *namespace_, const char *name, const char *pem)
{
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	assert_non_null(stream);
	fprintf(stream,
	        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: %s}\ndata:\n  ca.crt: |\n    ", name,
	        namespace_);
	for (; *pem; pem++) {
		fputc(*pem, stream);
		if (*pem == '\n' && pem[1])
			fputs("    ", stream);
	}
	fclose(stream);
	return text;
}

char *fixture_quoted(const char *text)
{
	char *quoted = NULL;
	size_t size;
	FILE *stream = open_memstream(&quoted, &size);

	assert_non_null(stream);
	fputc('"', stream);
	for (; *text; text++) {
		if (*text == '\n')
			fputs("\\n", stream);
		else
			fputc(*text, stream);
	}
	fputc('"', stream);
	fclose(stream);
	return quoted;
}

static void decode(const char *yaml, struct decoded *decoded)
{
	json_t *documents;
	char error[256];

	if (yaml_load(yaml, strlen(yaml), &documents, error, sizeof(error)))
		fail_msg("%s\nin:\n%s", error, yaml);
	assert_int_equal(decode_documents(documents, "test.yaml", decoded), 0);
	json_decref(documents);
}

/* Decoded once a process: objects are immutable and counted. */
static const struct decoded *authorities(void)
{
	static struct decoded decoded;

	if (!decoded.object_count) {
		_cleanup_free_ char *ca = fixture_config_map("default", "ca", fixture_ca());
		_cleanup_free_ char *other_ca = fixture_config_map("default", "other-ca", fixture_other_ca());

		decode(ca, &decoded);
		decode(other_ca, &decoded);
	}
	return &decoded;
}

struct object *fixture_object(enum object_kind kind, const char *namespace_, const char *name)
{
	struct object *object = object_new(kind);

	assert_non_null(object);
	object->namespace_ = arena_strdup(&object->arena, namespace_);
	object->name = arena_strdup(&object->arena, name);
	return object;
}

void fixture_put(struct object_store *store, struct object *object)
{
	assert_int_equal(object_store_put(store, object), 0);
	object_unref(object);
}

struct policy_fixture *policy_fixture_new(void)
{
	struct policy_fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	fixture->store = object_store_new();
	fixture->registry = settings_registry_new();
	assert_non_null(fixture->store);
	assert_non_null(fixture->registry);
	fixture->system_ca = shared_text_new(fixture_other_ca(), strlen(fixture_other_ca()));
	assert_non_null(fixture->system_ca);
	fixture->options = (struct compile_options){
	        .operators_own = true,
	        .system_ca = fixture->system_ca,
	        .now_ns = 1000,
	        .registry = fixture->registry,
	};
	for (size_t i = 0; i < authorities()->object_count; i++)
		assert_int_equal(object_store_put(fixture->store, authorities()->objects[i]), 0);
	return fixture;
}

void policy_fixture_free(struct policy_fixture *fixture)
{
	snapshot_unref(fixture->snapshot);
	settings_registry_free(fixture->registry);
	object_store_free(fixture->store);
	shared_text_unref(fixture->system_ca);
	free(fixture);
}

void fixture_add(struct policy_fixture *fixture, const char *yaml)
{
	struct decoded decoded = {0};

	decode(yaml, &decoded);
	for (size_t i = 0; i < decoded.problem_count; i++)
		fail_msg("%s: %s\nin:\n%s", decoded.problems[i].object, decoded.problems[i].message, yaml);
	for (size_t i = 0; i < decoded.object_count; i++)
		assert_int_equal(object_store_put(fixture->store, decoded.objects[i]), 0);
	decoded_free(&decoded);
}

void fixture_quarantine(struct policy_fixture *fixture, const char *yaml)
{
	struct decoded decoded = {0};

	decode(yaml, &decoded);
	for (size_t i = 0; i < decoded.object_count; i++)
		assert_int_equal(object_store_quarantine(fixture->store, decoded.objects[i], "test.yaml: broken"), 0);
	for (size_t i = 0; i < decoded.visible_count; i++)
		assert_int_equal(object_store_quarantine(fixture->store, decoded.visible[i], "test.yaml: broken"), 0);
	decoded_free(&decoded);
}

void fixture_remove(struct policy_fixture *fixture, enum object_kind kind, const char *name)
{
	assert_true(object_store_remove(fixture->store, kind, "default", name));
}

void fixture_compile(struct policy_fixture *fixture)
{
	struct snapshot *snapshot;

	assert_int_equal(compile_snapshot(fixture->store, &fixture->options, fixture->snapshot, &snapshot), 0);
	snapshot_unref(fixture->snapshot);
	fixture->snapshot = snapshot;
}

const struct destination *fixture_find(const struct policy_fixture *fixture, const char *address, uint16_t port)
{
	const struct destination *destination;
	struct postern_destination_key key;
	struct postern_address parsed;

	assert_int_equal(address_parse(address, &parsed), 0);
	key = destination_key(&parsed, port);
	destination = snapshot_find(fixture->snapshot, &key);
	return destination && destination->key.port == key.port ? destination : NULL;
}

const char *fixture_verdict(const struct policy_fixture *fixture, const char *address, uint16_t port)
{
	static char text[512];
	const struct destination *destination = fixture_find(fixture, address, port);
	const struct policy_status *policy;
	const struct tls_settings *settings;
	char name[256] = "";

	if (!destination)
		return "none";
	if (destination->policy != SNAPSHOT_NO_POLICY) {
		policy = snapshot_policy_at(fixture->snapshot, destination->policy);
		snprintf(name, sizeof(name), " %s/%s", policy->namespace_, policy->name);
	}
	switch (destination->verdict) {
	case POSTERN_VERDICT_TLS:
		settings = snapshot_settings(fixture->snapshot, destination->settings_id);
		assert_non_null(settings);
		snprintf(text, sizeof(text), "TLS%s %s%s", name, settings->hostname,
		         settings->alpn == ALPN_H2     ? " h2"
		         : settings->alpn == ALPN_NONE ? " none"
		                                       : "");
		break;
	case POSTERN_VERDICT_DENY:
		assert_int_equal(destination->settings_id, 0);
		snprintf(text, sizeof(text), "DENY %s%s", reason_name(destination->reason), name);
		break;
	default:
		assert_int_equal(destination->verdict, POSTERN_VERDICT_PLAIN);
		assert_int_equal(destination->settings_id, 0);
		snprintf(text, sizeof(text), "PLAIN%s", name);
	}
	return text;
}

const struct policy_status *fixture_policy(const struct policy_fixture *fixture, const char *name)
{
	for (size_t i = 0; i < snapshot_policy_count(fixture->snapshot); i++) {
		const struct policy_status *policy = snapshot_policy_at(fixture->snapshot, i);

		if (!strcmp(policy->namespace_, "default") && !strcmp(policy->name, name))
			return policy;
	}
	fail_msg("no status for policy default/%s", name);
	return NULL;
}
