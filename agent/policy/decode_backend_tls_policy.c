// SPDX-License-Identifier: GPL-2.0-only
/*
 * Types are checked here, values are not: what is missing stays NULL, what breaks a rule is kept as written, and
 * validate_policy.c says so in the policy's condition.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "policy/decode_kinds.h"
#include "policy/text.h"

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

static int decode_targets(struct decoder *decoder, const struct path *spec_path, const json_t *spec,
                          struct backend_tls_policy *policy)
{
	struct path where = path_key(spec_path, "targetRefs");
	struct target_reference *targets;
	const json_t *list, *item;
	size_t index;
	int result = field_list(decoder, spec_path, spec, "targetRefs", OPTIONAL, SIZE_MAX, &list);

	if (result < 0 || !list)
		return result;
	targets = arena_alloc(decoder->arena, json_array_size(list), sizeof(*targets));
	if (!targets)
		return -ENOMEM;
	json_array_foreach (list, index, item) {
		struct path here = path_index(&where, index);
		struct target_reference *target = &targets[index];

		if ((result = decode_reference(decoder, &here, item, &target->group, &target->kind, &target->name)) <
		            0 ||
		    (result = field_string(decoder, &here, item, "sectionName", OPTIONAL, &target->section_name)) < 0)
			return result;
	}
	policy->targets = targets;
	policy->target_count = json_array_size(list);
	return 0;
}

static int decode_ca_references(struct decoder *decoder, const struct path *where, const json_t *validation,
                                struct backend_tls_policy *policy)
{
	struct path list_path = path_key(where, "caCertificateRefs");
	struct object_reference *references;
	const json_t *list, *item;
	size_t index;
	int result = field_list(decoder, where, validation, "caCertificateRefs", OPTIONAL, SIZE_MAX, &list);

	if (result < 0 || !list)
		return result;
	references = arena_alloc(decoder->arena, json_array_size(list), sizeof(*references));
	if (!references)
		return -ENOMEM;
	json_array_foreach (list, index, item) {
		struct path here = path_index(&list_path, index);

		result = decode_reference(decoder, &here, item, &references[index].group, &references[index].kind,
		                          &references[index].name);
		if (result < 0)
			return result;
	}
	policy->cas = references;
	policy->ca_count = json_array_size(list);
	return 0;
}

static int decode_subject_alt_names(struct decoder *decoder, const struct path *where, const json_t *validation,
                                    struct backend_tls_policy *policy)
{
	struct path list_path = path_key(where, "subjectAltNames");
	struct subject_alt_name_value *names;
	const json_t *list, *item;
	size_t index;
	int result = field_list(decoder, where, validation, "subjectAltNames", OPTIONAL, SIZE_MAX, &list);

	if (result < 0 || !list)
		return result;
	names = arena_alloc(decoder->arena, json_array_size(list), sizeof(*names));
	if (!names)
		return -ENOMEM;
	json_array_foreach (list, index, item) {
		struct path here = path_index(&list_path, index);

		if ((result = value_map(decoder, &here, item)) < 0 ||
		    (result = field_string(decoder, &here, item, "type", OPTIONAL, &names[index].type)) < 0 ||
		    (result = field_string(decoder, &here, item, "hostname", OPTIONAL, &names[index].hostname)) < 0 ||
		    (result = field_string(decoder, &here, item, "uri", OPTIONAL, &names[index].uri)) < 0)
			return result;
	}
	policy->subject_alt_names = names;
	policy->subject_alt_name_count = json_array_size(list);
	return 0;
}

static int decode_validation(struct decoder *decoder, const struct path *spec_path, const json_t *spec,
                             struct backend_tls_policy *policy)
{
	struct path where = path_key(spec_path, "validation");
	const json_t *validation;
	int result = field_map(decoder, spec_path, spec, "validation", OPTIONAL, &validation);

	if (result < 0 || !validation)
		return result;
	policy->has_validation = true;
	if ((result = field_string(decoder, &where, validation, "hostname", OPTIONAL, &policy->hostname)) < 0 ||
	    (result = field_string(decoder, &where, validation, "wellKnownCACertificates", OPTIONAL,
	                           &policy->well_known_ca)) < 0 ||
	    (result = decode_ca_references(decoder, &where, validation, policy)) < 0)
		return result;
	return decode_subject_alt_names(decoder, &where, validation, policy);
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

int decode_backend_tls_policy(struct decoder *decoder, const json_t *document, struct object *object)
{
	struct path root = {0}, spec_path = path_key(&root, "spec");
	struct backend_tls_policy *policy = &object->backend_tls_policy;
	const json_t *spec;
	int result;

	if ((result = field_map(decoder, &root, document, "spec", REQUIRED, &spec)) < 0 ||
	    (result = decode_targets(decoder, &spec_path, spec, policy)) < 0 ||
	    (result = decode_validation(decoder, &spec_path, spec, policy)) < 0)
		return result;
	return decode_options(decoder, &spec_path, spec, policy);
}

static int visible_string(struct arena *arena, const json_t *map, const char *key, const char **text)
{
	const char *found = json_string_value(json_object_get(map, key));

	*text = NULL;
	if (!found || !*found)
		return 0;
	*text = arena_strdup(arena, found);
	return *text ? 0 : -ENOMEM;
}

/* An element, a list of elements, or neither: whatever stands there is looked at as a list. */
static size_t visible_count(const json_t *value)
{
	return json_is_array(value) ? json_array_size(value) : json_is_object(value);
}

static const json_t *visible_at(const json_t *value, size_t index)
{
	return json_is_array(value) ? json_array_get(value, index) : value;
}

int decode_visible_targets(struct arena *arena, const json_t *document, struct object *object)
{
	const json_t *metadata = json_object_get(document, "metadata"), *spec = json_object_get(document, "spec");
	const json_t *lists[] = {json_object_get(spec, "targetRefs"), json_object_get(spec, "targetRef")};
	size_t total = visible_count(lists[0]) + visible_count(lists[1]);
	struct target_reference *targets = arena_alloc(arena, total, sizeof(*targets));
	struct backend_tls_policy *policy = &object->backend_tls_policy;

	if (!targets || visible_string(arena, metadata, "namespace", &object->namespace_) < 0 ||
	    visible_string(arena, metadata, "name", &object->name) < 0)
		return -ENOMEM;
	object->namespace_ = object->namespace_ ? object->namespace_ : "default";
	object->name = object->name ? object->name : "(unnamed)";
	for (size_t list = 0; list < 2; list++) {
		for (size_t i = 0; i < visible_count(lists[list]); i++) {
			const json_t *item = visible_at(lists[list], i);
			struct target_reference *target = &targets[policy->target_count];

			if (visible_string(arena, item, "group", &target->group) < 0 ||
			    visible_string(arena, item, "kind", &target->kind) < 0 ||
			    visible_string(arena, item, "name", &target->name) < 0 ||
			    visible_string(arena, item, "sectionName", &target->section_name) < 0)
				return -ENOMEM;
			policy->target_count += target->name != NULL;
		}
	}
	policy->targets = targets;
	return 0;
}
