// SPDX-License-Identifier: GPL-2.0-only
/* Address and port, with all that is claimed of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/sorted.h"
#include "policy/compilation.h"
#include "policy/vector.h"

static struct key_node *key_of(struct table_node *node)
{
	return container_of(node, struct key_node, node);
}

static struct key_node *find_hashed(const struct compiler *compiler, const struct postern_destination_key *key,
                                    uint64_t hash)
{
	struct table_node *node = table_first(&compiler->keys, hash);

	for (; node; node = table_next(node))
		if (!destination_key_compare(&key_of(node)->key, key))
			return key_of(node);
	return NULL;
}

struct key_node *find_key(const struct compiler *compiler, const struct postern_destination_key *key)
{
	return find_hashed(compiler, key, destination_hash(key));
}

struct key_node *get_key(struct compiler *compiler, const struct postern_destination_key *key)
{
	uint64_t hash = destination_hash(key);
	struct key_node *node = find_hashed(compiler, key, hash);

	if (node)
		return node;
	if (table_reserve(&compiler->keys) < 0)
		return NULL;
	node = calloc(1, sizeof(*node));
	if (!node)
		return NULL;
	node->key = *key;
	node->watched = NOT_WATCHED;
	table_insert(&compiler->keys, &node->node, hash);
	compiler->any_port_count += !key->port;
	return node;
}

int touch_key(struct compiler *compiler, struct key_node *key)
{
	if (key->dirty)
		return 0;
	if (vector_reserve(&compiler->dirty_keys, compiler->dirty_key_count, &compiler->dirty_key_capacity,
	                   sizeof(struct key_node *)) < 0)
		return -ENOMEM;
	compiler->dirty_keys[compiler->dirty_key_count++] = key;
	key->dirty = true;
	return 0;
}

int watch_key(struct compiler *compiler, struct key_node *key)
{
	if (key->watched != NOT_WATCHED)
		return 0;
	if (vector_reserve(&compiler->watched, compiler->watched_count, &compiler->watched_capacity,
	                   sizeof(struct key_node *)) < 0)
		return -ENOMEM;
	key->watched = compiler->watched_count;
	compiler->watched[compiler->watched_count++] = key;
	return 0;
}

/* The last one takes its place. */
void unwatch_key(struct compiler *compiler, struct key_node *key)
{
	struct key_node *last;

	if (key->watched == NOT_WATCHED)
		return;
	last = compiler->watched[--compiler->watched_count];
	compiler->watched[key->watched] = last;
	last->watched = key->watched;
	key->watched = NOT_WATCHED;
}

struct key_node *find_any_port(const struct compiler *compiler, const struct key_node *key)
{
	struct postern_destination_key any_port = key->key;

	if (!any_port.port || !compiler->any_port_count)
		return NULL;
	any_port.port = 0;
	return find_key(compiler, &any_port);
}

int for_each_port(const struct compiler *compiler, const struct destination_list *list,
                  const struct postern_address *address, int (*each)(const struct key_node *key, void *context),
                  void *context)
{
	struct postern_destination_key first = destination_key(address, 1);
	int result = 0;

	for (size_t i = destination_list_lower_bound(list, &first); result == 0 && i < list->count; i++) {
		const struct destination *destination = destination_list_at(list, i);
		const struct key_node *key;

		if (!address_equal(&destination->key.address, address))
			break;
		key = find_key(compiler, &destination->key);
		if (key)
			result = each(key, context);
	}
	return result;
}

/* ---- which of them are to be judged again ---- */

static int compare_names(const void *left, const void *right)
{
	const struct object *const *left_object = left, *const *right_object = right;

	return object_compare(*left_object, *right_object);
}

static bool same_addresses(const struct pod *left, const struct pod *right)
{
	if (left->address_count != right->address_count)
		return false;
	for (size_t i = 0; i < left->address_count; i++)
		if (!address_equal(&left->addresses[i], &right->addresses[i]))
			return false;
	return true;
}

/* Those that came, went or changed their addresses. *pods is the caller's; sorted. */
static int collect_moved_pods(const struct compiler *compiler, const struct object ***pods, size_t *count)
{
	const struct changes *changes = &compiler->changes[OBJECT_POD];

	*count = 0;
	*pods = changes->count ? calloc(changes->count, sizeof(**pods)) : NULL;
	if (changes->count && !*pods)
		return -ENOMEM;
	for (size_t i = 0; i < changes->count; i++) {
		const struct object_change *change = &changes->items[i];

		if (!change->old || !change->new || !same_addresses(&change->old->pod, &change->new->pod))
			(*pods)[(*count)++] = change->new ? change->new : change->old;
	}
	sort_list(*pods, *count, sizeof(**pods), compare_names);
	return 0;
}

static bool names_any(const struct key_node *key, const struct object **pods, size_t count)
{
	for (const struct claim *claim = key ? key->claims : NULL; claim; claim = claim->next) {
		const struct object named = {.namespace_ = claim->service->namespace_,
		                             .name = claim->endpoint ? claim->endpoint->pod : ""};
		const struct object *wanted = &named;

		if ((claim->flags & CLAIM_TRUSTED) && claim->endpoint &&
		    find_sorted(&wanted, pods, count, sizeof(*pods), compare_names))
			return true;
	}
	return false;
}

int wake_watched_keys(struct compiler *compiler)
{
	const struct object **pods;
	size_t count;
	int result = collect_moved_pods(compiler, &pods, &count);

	for (size_t i = 0; result == 0 && i < compiler->watched_count; i++) {
		struct key_node *key = compiler->watched[i];
		bool ends = key->tombstone_until_ns && key->tombstone_until_ns <= compiler->now_ns;

		if (ends || (count && key->contested &&
		             (names_any(key, pods, count) || names_any(find_any_port(compiler, key), pods, count))))
			result = touch_key(compiler, key);
	}
	free(pods);
	return result;
}

/* ---- Pods that decide ---- */

struct pod_names {
	struct object_name *items;
	size_t count, most;
};

static int compare_pod_names(const void *left_pointer, const void *right_pointer)
{
	const struct object_name *left = left_pointer, *right = right_pointer;
	int order = strcmp(left->namespace_, right->namespace_);

	return order ? order : strcmp(left->name, right->name);
}

static void add_pods(struct pod_names *names, const struct key_node *key)
{
	for (const struct claim *claim = key ? key->claims : NULL; claim && names->count < names->most;
	     claim = claim->next)
		if ((claim->flags & CLAIM_TRUSTED) && claim->endpoint && *claim->endpoint->pod)
			names->items[names->count++] = (struct object_name){
			        .namespace_ = (char *)claim->service->namespace_, .name = (char *)claim->endpoint->pod};
}

size_t compiler_contested_pods(const struct compiler *compiler, struct object_name *pods, size_t most)
{
	struct pod_names names = {pods, 0, most};
	size_t kept = 0;

	for (size_t i = 0; i < compiler->watched_count; i++) {
		if (!compiler->watched[i]->contested)
			continue;
		add_pods(&names, compiler->watched[i]);
		add_pods(&names, find_any_port(compiler, compiler->watched[i]));
	}
	sort_list(pods, names.count, sizeof(*pods), compare_pod_names);
	for (size_t i = 0; i < names.count; i++)
		if (!kept || compare_pod_names(&pods[kept - 1], &pods[i]) != 0)
			pods[kept++] = pods[i];
	return kept;
}

static int touch_port(const struct key_node *key, void *context)
{
	return touch_key(context, (struct key_node *)key);
}

int spread_any_ports(struct compiler *compiler)
{
	size_t count = compiler->dirty_key_count; /* what is added are ports */

	for (size_t i = 0; compiler->last && i < count; i++) {
		const struct key_node *key = compiler->dirty_keys[i];

		if (!key->key.port &&
		    for_each_port(compiler, &compiler->last->destinations, &key->key.address, touch_port, compiler) < 0)
			return -ENOMEM;
	}
	return 0;
}

int touch_last_keys(struct compiler *compiler)
{
	size_t count = compiler->last ? compiler->last->destinations.count : 0;

	for (size_t i = 0; i < count; i++) {
		struct key_node *key = get_key(compiler, &destination_list_at(&compiler->last->destinations, i)->key);

		if (!key || touch_key(compiler, key) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* ---- endings ---- */

static void free_key(struct table_node *node)
{
	free(key_of(node)->note);
	free(key_of(node));
}

void drop_idle_keys(struct compiler *compiler)
{
	for (size_t i = 0; i < compiler->dirty_key_count; i++) {
		struct key_node *key = compiler->dirty_keys[i];

		key->dirty = false;
		if (key->claims || key->tombstone_until_ns)
			continue;
		unwatch_key(compiler, key);
		compiler->any_port_count -= !key->key.port;
		table_remove(&compiler->keys, &key->node);
		free_key(&key->node);
	}
	compiler->dirty_key_count = 0;
}

void free_keys(struct compiler *compiler)
{
	table_free(&compiler->keys, free_key);
	free(compiler->dirty_keys);
	free(compiler->watched);
	compiler->dirty_keys = NULL;
	compiler->watched = NULL;
	compiler->dirty_key_count = compiler->dirty_key_capacity = 0;
	compiler->watched_count = compiler->watched_capacity = compiler->any_port_count = 0;
}
