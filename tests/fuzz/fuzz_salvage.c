// SPDX-License-Identifier: GPL-2.0-only
/*
 * salvage: any text -> salvage_documents(); a byte 0xff in it is where a policy is put, once as a document of its own
 * and once at the head of what follows in the same document.
 *
 * Whatever stands around it, the policy's target is seen: that is how a broken file never turns a covered Service into
 * plaintext. And nothing is called want of memory that is none.
 */
#include <string.h>

#include "fuzz.h"
#include "source/manifest.h"
#include "source/salvage.h"

static const char policy[] = "apiVersion: gateway.networking.k8s.io/v1\n"
                             "kind: BackendTLSPolicy\n"
                             "metadata: {name: fuzz, namespace: salvage}\n"
                             "spec:\n"
                             "  validation: {wellKnownCACertificates: System, hostname: fuzz.example.com}\n"
                             "  targetRefs: [{group: \"\", kind: Service, name: fuzz-target}]\n";

static bool targets(struct object *const *objects, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct backend_tls_policy *spec = &objects[i]->backend_tls_policy;

		if (objects[i]->kind != OBJECT_BACKEND_TLS_POLICY || strcmp(objects[i]->namespace_, "salvage"))
			continue;
		for (size_t j = 0; j < spec->target_count; j++)
			if (spec->targets[j].name && !strcmp(spec->targets[j].name, "fuzz-target"))
				return true;
	}
	return false;
}

static void check_seen(const char *text, size_t size, const char *how)
{
	struct decoded decoded = {0};

	FUZZ_CHECK(salvage_documents("fuzz.yaml", text, size, &decoded) == 0, "no memory");
	FUZZ_CHECK(targets(decoded.objects, decoded.object_count) || targets(decoded.visible, decoded.visible_count),
	           "the policy is not seen %s", how);
	decoded_free(&decoded);
}

/* The text with something in the middle; free(). */
static char *join(const uint8_t *before, size_t before_size, const char *middle, const uint8_t *after,
                  size_t after_size, size_t *size)
{
	size_t length = strlen(middle);
	char *text = malloc(before_size + length + after_size + 1);

	FUZZ_CHECK(text, "no memory");
	memcpy(text, before, before_size);
	memcpy(text + before_size, middle, length);
	memcpy(text + before_size + length, after, after_size);
	*size = before_size + length + after_size;
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *place = size ? memchr(data, 0xff, size) : NULL;
	size_t before = place ? (size_t)(place - data) : size, after = place ? size - before - 1 : 0, length;
	struct decoded decoded = {0};
	struct manifest *manifest;
	char document[sizeof(policy) + 16], head[sizeof(policy) + 8], *text;

	FUZZ_CHECK(salvage_documents("fuzz.yaml", (const char *)data, size, &decoded) == 0, "no memory");
	decoded_free(&decoded);
	manifest = manifest_new("fuzz.yaml", (const char *)data, size);
	FUZZ_CHECK(manifest, "no memory");
	manifest_free(manifest);
	if (!place)
		return 0;
	snprintf(document, sizeof(document), "\n---\n%s\n---\n", policy);
	text = join(data, before, document, place + 1, after, &length);
	check_seen(text, length, "as a document of its own");
	free(text);
	snprintf(head, sizeof(head), "\n---\n%s", policy);
	text = join(data, before, head, place + 1, after, &length);
	check_seen(text, length, "at the head of a document");
	free(text);
	return 0;
}
