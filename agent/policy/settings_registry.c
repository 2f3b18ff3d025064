// SPDX-License-Identifier: GPL-2.0-only
/* Digest -> id, for ever within an agent's life: the kernel's map and live connections hold ids. Open addressing. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "policy/compile.h"
#include "policy/settings.h"

#define FIRST_CAPACITY 64 /* a power of two, like every capacity */

struct registry_slot {
	uint32_t id; /* 0: empty */
	uint8_t digest[32];
};

struct settings_registry {
	struct registry_slot *slots;
	size_t capacity;
	uint32_t count; /* the last id that was given */
};

struct settings_registry *settings_registry_new(void)
{
	struct settings_registry *registry = calloc(1, sizeof(*registry));

	if (!registry)
		return NULL;
	registry->capacity = FIRST_CAPACITY;
	registry->slots = calloc(registry->capacity, sizeof(*registry->slots));
	if (!registry->slots) {
		free(registry);
		return NULL;
	}
	return registry;
}

void settings_registry_free(struct settings_registry *registry)
{
	if (!registry)
		return;
	free(registry->slots);
	free(registry);
}

/* The slot of the digest, or the empty one where it belongs. SHA-256 is its own hash. */
static struct registry_slot *find_slot(struct registry_slot *slots, size_t capacity, const uint8_t digest[static 32])
{
	uint64_t hash;
	size_t index;

	memcpy(&hash, digest, sizeof(hash));
	for (index = hash & (capacity - 1); slots[index].id; index = (index + 1) & (capacity - 1))
		if (!memcmp(slots[index].digest, digest, sizeof(slots[index].digest)))
			break;
	return &slots[index];
}

static bool grow(struct settings_registry *registry)
{
	size_t capacity = registry->capacity * 2;
	struct registry_slot *slots = calloc(capacity, sizeof(*slots));

	if (!slots)
		return false;
	for (size_t i = 0; i < registry->capacity; i++)
		if (registry->slots[i].id)
			*find_slot(slots, capacity, registry->slots[i].digest) = registry->slots[i];
	free(registry->slots);
	registry->slots = slots;
	registry->capacity = capacity;
	return true;
}

uint32_t settings_registry_id(struct settings_registry *registry, const uint8_t digest[static 32])
{
	struct registry_slot *slot = find_slot(registry->slots, registry->capacity, digest);

	if (slot->id)
		return slot->id;
	if (registry->count == UINT32_MAX)
		return 0;
	if (registry->count >= registry->capacity / 2) {
		if (!grow(registry))
			return 0;
		slot = find_slot(registry->slots, registry->capacity, digest);
	}
	memcpy(slot->digest, digest, sizeof(slot->digest));
	slot->id = ++registry->count;
	return slot->id;
}
