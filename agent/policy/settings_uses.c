// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which settings are in use, and under whose name: equal settings of several policies are one entry, named after the
 * first of them. Tombstones keep settings that no policy has any more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compilation.h"
#include "policy/vector.h"

static int widen(struct compiler *compiler, uint32_t id)
{
	size_t size = compiler->settings_size ? compiler->settings_size : 64;
	struct settings_slot *slots;

	if (id < compiler->settings_size)
		return 0;
	while (size <= id)
		size *= 2;
	slots = reallocarray(compiler->settings, size, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	memset(slots + compiler->settings_size, 0, (size - compiler->settings_size) * sizeof(*slots));
	compiler->settings = slots;
	compiler->settings_size = size;
	return 0;
}

/* Room for every id: what is released cannot fail. */
static int prepare(struct compiler *compiler, uint32_t id)
{
	if (widen(compiler, id) < 0)
		return -ENOMEM;
	if (compiler->touched_capacity < compiler->settings_size) {
		uint32_t *touched = reallocarray(compiler->touched_settings, compiler->settings_size, sizeof(*touched));

		if (!touched)
			return -ENOMEM;
		compiler->touched_settings = touched;
		compiler->touched_capacity = compiler->settings_size;
	}
	return 0;
}

static void touch(struct compiler *compiler, uint32_t id)
{
	if (compiler->settings[id].touched)
		return;
	compiler->settings[id].touched = true;
	compiler->touched_settings[compiler->touched_count++] = id;
}

static struct settings_input make_input(const struct compiled_policy *policy, enum alpn_protocol alpn)
{
	return (struct settings_input){
	        .policy = policy->object,
	        .options = &policy->options,
	        .ca = policy->ca,
	        .system_ca = policy->system_ca,
	        .crl = policy->crl,
	        .client_certificate = policy->client_certificate,
	        .alpn = alpn,
	};
}

static int find_id(struct compiler *compiler, const struct settings_use *use, enum alpn_protocol alpn, uint32_t *id)
{
	const struct settings_input input = make_input(use->policy, alpn);
	uint8_t digest[32];

	if (settings_digest(&input, digest) < 0)
		return -ENOMEM;
	*id = settings_registry_id(compiler->options.registry, digest);
	return *id ? prepare(compiler, *id) : -ENOMEM;
}

static void add_user(struct settings_slot *slot, struct settings_use *use)
{
	use->previous = NULL;
	use->next = slot->users;
	if (slot->users)
		slot->users->previous = use;
	slot->users = use;
}

static void remove_user(struct settings_slot *slot, struct settings_use *use)
{
	if (use->previous)
		use->previous->next = use->next;
	else
		slot->users = use->next;
	if (use->next)
		use->next->previous = use->previous;
	use->previous = use->next = NULL;
}

int use_settings(struct compiler *compiler, struct compiled_policy *policy, enum alpn_protocol alpn, uint32_t *id)
{
	struct settings_use *use = &policy->uses[alpn];

	if (!use->id && find_id(compiler, use, alpn, &use->id) < 0) {
		use->id = 0;
		return -ENOMEM;
	}
	if (!use->coverages++) {
		add_user(&compiler->settings[use->id], use);
		touch(compiler, use->id);
	}
	*id = use->id;
	return 0;
}

void release_settings(struct compiler *compiler, struct compiled_policy *policy, enum alpn_protocol alpn)
{
	struct settings_use *use = &policy->uses[alpn];

	if (--use->coverages)
		return;
	remove_user(&compiler->settings[use->id], use);
	touch(compiler, use->id);
}

int count_tombstone_settings(struct compiler *compiler, uint32_t id, int step)
{
	if (prepare(compiler, id) < 0)
		return -ENOMEM;
	compiler->settings[id].tombstones += (size_t)step;
	touch(compiler, id);
	return 0;
}

/* NULL: nobody. */
static const struct settings_use *first_user(const struct settings_slot *slot)
{
	const struct settings_use *first = slot->users;

	for (const struct settings_use *use = first; use; use = use->next)
		if (compare_policies(use->policy, first->policy) < 0)
			first = use;
	return first;
}

static bool is_named_after(const struct settings_entry *entry, const struct object *policy)
{
	return !strcmp(entry->settings.policy_namespace, policy->namespace_) &&
	       !strcmp(entry->settings.policy_name, policy->name);
}

static struct settings_entry *make_entry(const struct settings_use *user)
{
	struct settings_input input = make_input(user->policy, (enum alpn_protocol)(user - user->policy->uses));
	uint8_t digest[32];

	return settings_digest(&input, digest) < 0 ? NULL : settings_entry_new(&input, digest, user->id);
}

/* One reference for the caller in *entry, or NULL there if nobody needs the settings. */
static int find_entry(const struct compiler *compiler, uint32_t id, struct settings_entry **entry)
{
	const struct settings_slot *slot = &compiler->settings[id];
	const struct settings_use *user = first_user(slot);
	struct settings_entry *old = slot->entry;

	if (!old && compiler->last)
		old = snapshot_settings_entry(compiler->last, id);
	*entry = NULL;
	if (user && (!old || !is_named_after(old, user->policy->object))) {
		*entry = make_entry(user);
		return *entry ? 0 : -ENOMEM;
	}
	if (old && (user || slot->tombstones))
		*entry = settings_entry_ref(old);
	return 0;
}

int settle_settings(struct compiler *compiler)
{
	for (size_t i = 0; i < compiler->touched_count; i++) {
		struct settings_slot *slot = &compiler->settings[compiler->touched_settings[i]];
		struct settings_entry *entry;

		if (find_entry(compiler, compiler->touched_settings[i], &entry) < 0)
			return -ENOMEM;
		slot->touched = false;
		compiler->settings_changed |= entry != slot->entry;
		settings_entry_unref(slot->entry);
		slot->entry = entry;
	}
	compiler->touched_count = 0;
	return 0;
}

void free_settings(struct compiler *compiler)
{
	for (size_t i = 0; i < compiler->settings_size; i++)
		settings_entry_unref(compiler->settings[i].entry);
	free(compiler->settings);
	free(compiler->touched_settings);
	compiler->settings = NULL;
	compiler->touched_settings = NULL;
	compiler->settings_size = compiler->touched_count = compiler->touched_capacity = 0;
}
