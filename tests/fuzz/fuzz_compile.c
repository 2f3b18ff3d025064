// SPDX-License-Identifier: GPL-2.0-only
/*
 * compile: manifests as YAML -> two stores -> snapshots of the one and the other in turn, by one compiler. A document's
 * own field "when" says where it is: "quarantine", "first" or "second" (in this store only), or in both. What does not
 * decode goes where source/assemble.c puts it: its visible policies into the quarantine.
 *
 * Of every snapshot compile_oracle.h's invariants hold: no destination of a covered Service is PLAIN or missing,
 * statuses are well-formed, no covered endpoint is forgotten before its time. It is what a new compiler makes of the
 * same store and the same past; and the quarantine can only deny.
 */
#include <errno.h>
#include <string.h>

#include "base/yaml.h"
#include "compile_oracle.h"
#include "fuzz.h"
#include "pem_samples.h"
#include "policy/compile.h"
#include "policy/decode.h"
#include "policy/gateways.h"
#include "policy/route_index.h"
#include "policy/shared_text.h"
#include "policy/snapshot.h"
#include "policy/store.h"
#include "policy/text.h"

#define MAX_DOCUMENTS 64
#define SECOND        1000000000ull
#define TOMBSTONE     (10 * SECOND)

enum when {
	ALWAYS,
	FIRST,
	SECOND_ON,
	QUARANTINE,
};

struct documents {
	struct decoded decoded[MAX_DOCUMENTS];
	enum when when[MAX_DOCUMENTS];
	size_t count;
};

static struct decoded authorities;
static struct shared_text *system_ca;

static void decode_one(json_t *document, struct decoded *decoded)
{
	json_t *documents = json_array();

	json_array_append(documents, document);
	FUZZ_CHECK(decode_documents(documents, "fuzz.yaml", decoded) == 0, "no memory");
	json_decref(documents);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char *const names[] = {"ca", "other-ca"};
	static const char *const pems[] = {PEM_SAMPLE, PEM_OTHER_SAMPLE};
	json_t *documents = json_array();

	(void)argc;
	(void)argv;
	for (size_t i = 0; i < 2; i++)
		json_array_append_new(documents,
		                      json_pack("{s:s, s:s, s:{s:s}, s:{s:s}}", "apiVersion", "v1", "kind", "ConfigMap",
		                                "metadata", "name", names[i], "data", "ca.crt", pems[i]));
	FUZZ_CHECK(decode_documents(documents, "fuzz.yaml", &authorities) == 0 && authorities.object_count == 2,
	           "the samples do not decode");
	json_decref(documents);
	system_ca = shared_text_new(PEM_SAMPLE, strlen(PEM_SAMPLE));
	FUZZ_CHECK(system_ca, "no memory");
	return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
	return fuzz_mutate_yaml(data, size, max_size, seed, 0);
}

static enum when take_when(json_t *document)
{
	static const char *const words[] = {"always", "first", "second", "quarantine"};
	const char *text = json_string_value(json_object_get(document, "when"));
	enum when when = ALWAYS;

	for (size_t i = 0; text && i < sizeof(words) / sizeof(words[0]); i++)
		if (!strcmp(words[i], text))
			when = (enum when)i;
	if (text)
		json_object_del(document, "when");
	return when;
}

static void read_documents(json_t *documents, struct documents *read)
{
	json_t *document;
	size_t index;

	json_array_foreach (documents, index, document) {
		if (read->count == MAX_DOCUMENTS)
			break;
		read->when[read->count] = take_when(document);
		decode_one(document, &read->decoded[read->count++]);
	}
}

static void quarantine(struct object_store *store, struct object *const *objects, size_t count)
{
	for (size_t i = 0; i < count; i++)
		FUZZ_CHECK(object_store_quarantine(store, objects[i], "fuzz.yaml: broken") == 0, "no memory");
}

/* Of several objects of one name the first is in force, the others in quarantine. */
static void put_in_force(struct object_store *store, struct object *const *objects, size_t count, bool with_quarantine)
{
	for (size_t i = 0; i < count; i++) {
		if (!object_store_find(store, objects[i]->kind, objects[i]->namespace_, objects[i]->name))
			FUZZ_CHECK(object_store_put(store, objects[i]) == 0, "no memory");
		else if (with_quarantine)
			quarantine(store, &objects[i], 1);
	}
}

static struct object_store *make_store(const struct documents *documents, bool second, bool with_quarantine)
{
	struct object_store *store = object_store_new();

	FUZZ_CHECK(store, "no memory");
	for (size_t i = 0; i < documents->count; i++) {
		const struct decoded *decoded = &documents->decoded[i];
		enum when when = documents->when[i];

		if (when == QUARANTINE) {
			if (with_quarantine)
				quarantine(store, decoded->objects, decoded->object_count);
		} else if (when == ALWAYS || (when == SECOND_ON) == second) {
			put_in_force(store, decoded->objects, decoded->object_count, with_quarantine);
		} else {
			continue;
		}
		if (with_quarantine)
			quarantine(store, decoded->visible, decoded->visible_count);
	}
	put_in_force(store, authorities.objects, authorities.object_count, false);
	return store;
}

/* Incrementally, and once more from nothing but the store and the last snapshot. Takes over previous. */
static struct snapshot *compile(struct compiler *compiler, const struct object_store *store,
                                struct compile_options *options, uint64_t now_ns, struct snapshot *previous)
{
	struct snapshot *snapshot = NULL, *anew = NULL;

	options->now_ns = now_ns;
	FUZZ_CHECK(compiler_run(compiler, store, now_ns, &snapshot) == 0, "no memory");
	oracle_check(store, snapshot, options);
	FUZZ_CHECK(compile_snapshot(store, options, previous, &anew) == 0, "no memory");
	oracle_check_same(snapshot, anew);
	if (previous)
		oracle_check_nothing_forgotten(previous, snapshot, options);
	snapshot_unref(anew);
	snapshot_unref(previous);
	return snapshot;
}

/* What the compile step stands on, by itself. */
static void check_parts(const struct object_store *store)
{
	struct route_index *index;
	struct gateway_status *statuses;
	size_t count;

	FUZZ_CHECK(route_index_new(store, &index) == 0, "no memory");
	for (size_t i = 0; i < route_index_count(index); i++) {
		const struct service_routes *service = route_index_at(index, i);

		FUZZ_CHECK(service->use_count &&
		                   route_index_find(index, service->namespace_, service->service) == service,
		           "Service %s/%s", service->namespace_, service->service);
		for (size_t j = 1; j < service->gateway_count; j++)
			FUZZ_CHECK(object_compare(service->gateways[j - 1], service->gateways[j]) < 0, "not sorted");
	}
	route_index_free(index);
	FUZZ_CHECK(gateway_statuses_new(store, &statuses, &count) == 0, "no memory");
	FUZZ_CHECK(count == object_store_count(store, OBJECT_GATEWAY), "%zu statuses", count);
	for (size_t i = 0; i < count; i++) {
		FUZZ_CHECK(fuzz_is_message(statuses[i].resolved_refs.message, TEXT_MAX + 1), "\"%s\"",
		           statuses[i].resolved_refs.message);
		FUZZ_CHECK(statuses[i].resolved_refs.status ==
		                   !strcmp(statuses[i].resolved_refs.reason, "ResolvedRefs"),
		           "reason %s", statuses[i].resolved_refs.reason);
		FUZZ_CHECK(!statuses[i].client_certificate || statuses[i].has_reference,
		           "a certificate out of nothing");
	}
	gateway_statuses_free(statuses, count);
}

static void run(const struct documents *documents, bool operators_own)
{
	struct settings_registry *registry = settings_registry_new();
	struct compile_options options = {.operators_own = operators_own,
	                                  .system_ca = system_ca,
	                                  .now_ns = SECOND,
	                                  .tombstone_ns = TOMBSTONE,
	                                  .registry = registry};
	struct object_store *first = make_store(documents, false, true), *second = make_store(documents, true, true);
	struct object_store *in_force = make_store(documents, false, false);
	struct compiler *compiler = registry ? compiler_new(&options) : NULL;
	struct snapshot *snapshot, *without = NULL;

	FUZZ_CHECK(compiler, "no memory");
	check_parts(first);
	snapshot = compile(compiler, first, &options, SECOND, NULL);
	FUZZ_CHECK(compile_snapshot(in_force, &options, NULL, &without) == 0, "no memory");
	oracle_check_quarantine(without, snapshot);
	snapshot = compile(compiler, second, &options, 2 * SECOND, snapshot);
	snapshot = compile(compiler, first, &options, 3 * SECOND, snapshot);
	snapshot = compile(compiler, second, &options, 4 * SECOND + TOMBSTONE, snapshot);
	snapshot_unref(without);
	snapshot_unref(snapshot);
	compiler_free(compiler);
	object_store_free(first);
	object_store_free(second);
	object_store_free(in_force);
	settings_registry_free(registry);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct documents read = {0};
	json_t *documents;
	char error[256];

	if (yaml_load((const char *)data, size, &documents, error, sizeof(error)) != 0)
		return 0;
	read_documents(documents, &read);
	run(&read, size % 2);
	for (size_t i = 0; i < read.count; i++)
		decoded_free(&read.decoded[i]);
	json_decref(documents);
	return 0;
}
