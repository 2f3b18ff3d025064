// SPDX-License-Identifier: GPL-2.0-only
#include "source/assemble.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/sorted.h"
#include "policy/vector.h"

struct candidate {
	struct object *object;
	bool fading;  /* its file is not there any more, and may have been renamed */
	size_t order; /* files by name, documents as they come */
};

void findings_free(struct findings *findings)
{
	for (size_t i = 0; i < findings->error_count; i++) {
		free(findings->errors[i].object);
		free(findings->errors[i].message);
	}
	for (size_t i = 0; i < findings->note_count; i++)
		free(findings->notes[i]);
	free(findings->errors);
	free(findings->notes);
	*findings = (struct findings){0};
}

int findings_add_error(struct findings *findings, const char *object, const char *message)
{
	struct source_error error;

	if (findings->error_count >= MAX_SOURCE_ERRORS)
		return 0;
	if (vector_reserve(&findings->errors, findings->error_count, &findings->error_capacity, sizeof(error)) < 0)
		return -ENOMEM;
	error = (struct source_error){.object = strdup(object), .message = strdup(message)};
	if (!error.object || !error.message) {
		free(error.object);
		free(error.message);
		return -ENOMEM;
	}
	findings->errors[findings->error_count++] = error;
	return 0;
}

/* Takes over note, which may be NULL: no memory. */
static int add_note(struct findings *findings, char *note)
{
	if (!note)
		return -ENOMEM;
	if (findings->note_count >= MAX_SOURCE_ERRORS) {
		free(note);
		return 0;
	}
	if (vector_reserve(&findings->notes, findings->note_count, &findings->note_capacity, sizeof(note)) < 0) {
		free(note);
		return -ENOMEM;
	}
	findings->notes[findings->note_count++] = note;
	return 0;
}

int findings_add_note(struct findings *findings, const char *note)
{
	return add_note(findings, strdup(note));
}

static char *format(const char *pattern, ...) __attribute__((format(printf, 1, 2)));

static char *format(const char *pattern, ...)
{
	va_list arguments;
	char *text;
	int length;

	va_start(arguments, pattern);
	length = vasprintf(&text, pattern, arguments);
	va_end(arguments);
	return length < 0 ? NULL : text;
}

static int compare_candidates(const void *left_pointer, const void *right_pointer)
{
	const struct candidate *left = left_pointer, *right = right_pointer;
	int order;

	if (left->object->kind != right->object->kind)
		return left->object->kind < right->object->kind ? -1 : 1;
	order = object_compare(left->object, right->object);
	if (order)
		return order;
	if (left->fading != right->fading)
		return left->fading ? 1 : -1;
	return left->order < right->order ? -1 : left->order > right->order;
}

static int gather_candidates(struct manifest_file *const *files, size_t count, struct candidate **candidates,
                             size_t *candidate_count)
{
	size_t total = 0;

	*candidate_count = 0;
	for (size_t i = 0; i < count; i++)
		total += files[i]->in_force ? files[i]->in_force->decoded.object_count : 0;
	*candidates = calloc(total + 1, sizeof(**candidates));
	if (!*candidates)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		const struct manifest *manifest = files[i]->in_force;

		for (size_t j = 0; manifest && j < manifest->decoded.object_count; j++) {
			(*candidates)[*candidate_count] = (struct candidate){
			        .object = manifest->decoded.objects[j],
			        .fading = files[i]->missing_since_ns != 0,
			        .order = *candidate_count,
			};
			(*candidate_count)++;
		}
	}
	sort_list(*candidates, *candidate_count, sizeof(**candidates), compare_candidates);
	return 0;
}

static int refuse_duplicate(struct object_store *store, struct findings *findings, struct object *object,
                            const struct object *first)
{
	_cleanup_free_ char *name = format("%s: %s %s/%s", object->origin, object_kind_name(object->kind),
	                                   object->namespace_, object->name);
	_cleanup_free_ char *message = NULL, *why = NULL;

	if (!strcmp(object->origin, first->origin))
		message = format("is defined twice in %s; the first one is used", first->origin);
	else
		message = format("is defined in %s, too; that one is used", first->origin);
	why = format("%s: %s", name ? name : "", message ? message : "");
	if (!name || !message || !why || findings_add_error(findings, name, message) < 0)
		return -ENOMEM;
	return object_store_quarantine(store, object, why);
}

static int put_in_force(struct manifest_file *const *files, size_t count, struct object_store *store,
                        struct findings *findings)
{
	_cleanup_free_ struct candidate *candidates = NULL;
	const struct object *first = NULL;
	size_t candidate_count;
	int result = gather_candidates(files, count, &candidates, &candidate_count);

	for (size_t i = 0; result == 0 && i < candidate_count; i++) {
		struct object *object = candidates[i].object;

		if (first && first->kind == object->kind && !object_compare(first, object)) {
			if (!candidates[i].fading)
				result = refuse_duplicate(store, findings, object, first);
			continue;
		}
		first = object;
		result = object_store_put(store, object);
	}
	return result;
}

static int report_broken(const struct manifest_file *file, struct findings *findings)
{
	const struct decoded *decoded = &file->broken->decoded;
	int result = 0;

	if (file->broken->unreadable)
		return findings_add_error(findings, file->shown, file->broken->unreadable);
	for (size_t i = 0; result == 0 && i < decoded->problem_count; i++) {
		_cleanup_free_ char *object = format("%s: %s", file->shown, decoded->problems[i].object);

		result = object ? findings_add_error(findings, object, decoded->problems[i].message) : -ENOMEM;
	}
	return result;
}

static int quarantine_all(struct object_store *store, struct object **objects, size_t count, const char *why)
{
	int result = 0;

	for (size_t i = 0; result == 0 && i < count; i++)
		result = object_store_quarantine(store, objects[i], why);
	return result;
}

static int quarantine_broken(const struct manifest_file *file, struct object_store *store)
{
	const struct manifest *manifest = file->broken;
	const struct decoded *decoded = &manifest->decoded;
	_cleanup_free_ char *why = NULL;

	if (manifest->unreadable)
		why = format("%s: %s", file->shown, manifest->unreadable);
	else
		why = format("%s: %s: %s", file->shown, decoded->problems[0].object, decoded->problems[0].message);
	if (!why || quarantine_all(store, decoded->objects, decoded->object_count, why) < 0)
		return -ENOMEM;
	return quarantine_all(store, decoded->visible, decoded->visible_count, why);
}

static int note_manifest(const struct manifest_file *file, const struct manifest *manifest, struct findings *findings)
{
	const struct decoded *decoded = &manifest->decoded;
	int result = 0;

	for (size_t i = 0; result == 0 && i < decoded->unknown_kind_count; i++)
		result = add_note(findings, format("%s: kind %s is of no use to postern: ignored (%zu)", file->shown,
		                                   decoded->unknown_kinds[i].name, decoded->unknown_kinds[i].count));
	for (size_t i = 0; result == 0 && i < decoded->unknown_fields.count; i++) {
		const struct unknown_field *field = &decoded->unknown_fields.items[i];

		result = add_note(findings, format("%s: %s: %s is not known to this version: ignored (%zu)",
		                                   file->shown, field->subject, field->path, field->count));
	}
	for (size_t i = 0; result == 0 && i < decoded->object_count; i++) {
		const struct object *object = decoded->objects[i];

		if (object->kind == OBJECT_ENDPOINT_SLICE && object->endpoint_slice.fqdn)
			result = add_note(findings, format("%s: EndpointSlice %s/%s has addressType FQDN: names are no "
			                                   "destinations, ignored",
			                                   file->shown, object->namespace_, object->name));
	}
	return result;
}

int assemble_store(struct manifest_file *const *files, size_t count, struct object_store *store,
                   struct findings *findings)
{
	int result;

	object_store_clear(store);
	result = put_in_force(files, count, store, findings);
	for (size_t i = 0; result == 0 && i < count; i++) {
		if (files[i]->in_force)
			result = note_manifest(files[i], files[i]->in_force, findings);
		if (result == 0 && files[i]->broken)
			result = report_broken(files[i], findings);
		if (result == 0 && files[i]->broken)
			result = quarantine_broken(files[i], store);
	}
	return result;
}
