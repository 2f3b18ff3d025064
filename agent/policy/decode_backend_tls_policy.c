// SPDX-License-Identifier: GPL-2.0-only
/*
 * Types are checked here, values are not: what is missing stays NULL, what breaks a rule is kept as written, and
 * validate_policy.c says so in the policy's condition.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/printable.h"
#include "policy/decode_kinds.h"

#define CONTROLLER_NAME "postern.dev/backend-tls"

static int decode_reference(struct decoder *decoder, const struct path *where, const json_t *map, const char **group,
                            const char **kind, const char **name)
{
	int result;

	if ((result = value_map(decoder, where, map)) < 0 ||
	    (result = field_string(decoder, where, map, "group", OPTIONAL, group)) < 0 ||
	    (result = field_string(decoder, where, map, "kind", OPTIONAL, kind)) < 0)
		return result;
	return field_string(decoder, where, map, "name", OPTIONAL, name);
}

static int decode_target(struct decoder *decoder, const struct path *where, const json_t *map, void *item)
{
	static const char *const known[] = {"group", "kind", "name", "sectionName", NULL};
	struct target_reference *target = item;
	int result;

	if ((result = decode_reference(decoder, where, map, &target->group, &target->kind, &target->name)) < 0 ||
	    (result = field_string(decoder, where, map, "sectionName", OPTIONAL, &target->section_name)) < 0)
		return result;
	return note_unknown_fields(decoder, where, map, known);
}

static int decode_ca_reference(struct decoder *decoder, const struct path *where, const json_t *map, void *item)
{
	static const char *const known[] = {"group", "kind", "name", NULL};
	struct object_reference *reference = item;
	int result = decode_reference(decoder, where, map, &reference->group, &reference->kind, &reference->name);

	return result < 0 ? result : note_unknown_fields(decoder, where, map, known);
}

static int decode_subject_alt_name(struct decoder *decoder, const struct path *where, const json_t *map, void *item)
{
	static const char *const known[] = {"type", "hostname", "uri", NULL};
	struct subject_alt_name_value *name = item;
	int result;

	if ((result = value_map(decoder, where, map)) < 0 ||
	    (result = field_string(decoder, where, map, "type", OPTIONAL, &name->type)) < 0 ||
	    (result = field_string(decoder, where, map, "hostname", OPTIONAL, &name->hostname)) < 0 ||
	    (result = field_string(decoder, where, map, "uri", OPTIONAL, &name->uri)) < 0)
		return result;
	return note_unknown_fields(decoder, where, map, known);
}

static const struct field_item target_item = {sizeof(struct target_reference), decode_target};
static const struct field_item ca_reference_item = {sizeof(struct object_reference), decode_ca_reference};
static const struct field_item subject_alt_name_item = {sizeof(struct subject_alt_name_value), decode_subject_alt_name};

static int decode_validation(struct decoder *decoder, const struct path *spec_path, const json_t *spec,
                             struct backend_tls_policy *policy)
{
	static const char *const known[] = {"hostname", "wellKnownCACertificates", "caCertificateRefs",
	                                    "subjectAltNames", NULL};
	struct path where = path_key(spec_path, "validation");
	const json_t *validation;
	int result = field_map(decoder, spec_path, spec, "validation", OPTIONAL, &validation);

	if (result < 0 || !validation)
		return result;
	policy->has_validation = true;
	if ((result = note_unknown_fields(decoder, &where, validation, known)) < 0 ||
	    (result = field_string(decoder, &where, validation, "hostname", OPTIONAL, &policy->hostname)) < 0 ||
	    (result = field_string(decoder, &where, validation, "wellKnownCACertificates", OPTIONAL,
	                           &policy->well_known_ca)) < 0 ||
	    (result = field_items(decoder, &where, validation, "caCertificateRefs", OPTIONAL, SIZE_MAX,
	                          &ca_reference_item, &policy->cas, &policy->ca_count)) < 0)
		return result;
	return field_items(decoder, &where, validation, "subjectAltNames", OPTIONAL, SIZE_MAX, &subject_alt_name_item,
	                   &policy->subject_alt_names, &policy->subject_alt_name_count);
}

static int decode_options(struct decoder *decoder, const struct path *spec_path, const json_t *spec,
                          struct backend_tls_policy *policy)
{
	struct path where = path_key(spec_path, "options");
	struct option_value *options;
	const json_t *map;
	const char *key;
	json_t *value;
	int result = field_map(decoder, spec_path, spec, "options", OPTIONAL, &map);

	if (result < 0 || !map)
		return result;
	options = arena_alloc(decoder->arena, json_object_size(map), sizeof(*options));
	if (!options)
		return -ENOMEM;
	json_object_foreach ((json_t *)map, key, value) {
		char shown[PRINTABLE_MAX];
		struct path here = path_key(&where, printable(key, shown));
		struct option_value *option = &options[policy->option_count++];

		option->key = arena_strdup(decoder->arena, key);
		if (!option->key)
			return -ENOMEM;
		result = value_string(decoder, &here, value, &option->value);
		if (result < 0)
			return result;
	}
	policy->options = options;
	return 0;
}

/* Others write it: what it is not is let be. An entry without a name is not ours. */
static unsigned int count_foreign_ancestors(const json_t *document)
{
	const json_t *ancestors = json_object_get(json_object_get(document, "status"), "ancestors"), *item;
	unsigned int count = 0;
	size_t index;

	json_array_foreach (ancestors, index, item) {
		const char *name = json_string_value(json_object_get(item, "controllerName"));

		count += !name || strcmp(name, CONTROLLER_NAME) != 0;
	}
	return count;
}

int decode_backend_tls_policy(struct decoder *decoder, const json_t *document, struct object *object)
{
	static const char *const known[] = {"targetRefs", "validation", "options", NULL};
	struct path root = {0}, spec_path = path_key(&root, "spec"), old_path = path_key(&spec_path, "targetRef");
	struct backend_tls_policy *policy = &object->backend_tls_policy;
	const json_t *spec;
	int result;

	if ((result = field_map(decoder, &root, document, "spec", REQUIRED, &spec)) < 0)
		return result;
	/* Passed over, it would leave its target without the TLS that it asks for. */
	if (json_object_get(spec, "targetRef"))
		return refuse_field(decoder, &old_path, "is of an older schema: write a list targetRefs");
	if ((result = note_unknown_fields(decoder, &spec_path, spec, known)) < 0 ||
	    (result = field_items(decoder, &spec_path, spec, "targetRefs", OPTIONAL, SIZE_MAX, &target_item,
	                          &policy->targets, &policy->target_count)) < 0 ||
	    (result = decode_validation(decoder, &spec_path, spec, policy)) < 0)
		return result;
	policy->foreign_ancestors = count_foreign_ancestors(document);
	return decode_options(decoder, &spec_path, spec, policy);
}
