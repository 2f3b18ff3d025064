/* SPDX-License-Identifier: GPL-2.0-only */
/* The keys of the destination map. Its guards (ports, CIDRs) are in kernel_guards.c. */
#include "control/kernel_maps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "control/kernel_guards.h"

#define RETRY_NS       1000000000ull
#define MAX_PLAIN_KEYS 65536

static bool is_covered(enum postern_verdict verdict)
{
	return verdict == POSTERN_VERDICT_TLS || verdict == POSTERN_VERDICT_DENY;
}

static bool same_key(const struct postern_destination_key *left, const struct postern_destination_key *right)
{
	return memcmp(left, right, sizeof(*left)) == 0;
}

/* In the order of the snapshot. */
static int compare_keys(const struct postern_destination_key *left, const struct postern_destination_key *right)
{
	int order = memcmp(&left->address, &right->address, sizeof(left->address));

	/* Network byte order compares as bytes. */
	return order ? order : memcmp(&left->port, &right->port, sizeof(left->port));
}

/* The destination of this very key: not the one of any port of its address. */
static const struct destination *find_exact(const struct snapshot *snapshot, const struct postern_destination_key *key)
{
	const struct destination *destination = snapshot_find(snapshot, key);

	return destination && same_key(&destination->key, key) ? destination : NULL;
}

/* ---- single keys ---- */

static void set_covered(struct kernel_maps *maps, const struct destination *destination)
{
	const struct postern_destination value = {
	        .verdict = destination->verdict,
	        .settings_id = destination->verdict == POSTERN_VERDICT_TLS ? destination->settings_id : 0,
	};
	int error = hooks_set_destination(maps->hooks, &destination->key, &value);
	char text[DESTINATION_TEXT_MAX];

	if (!error) {
		(void)key_table_remove(&maps->overflow, &destination->key);
		return;
	}
	if (!key_table_find(&maps->overflow, &destination->key))
		log_error("destination map refused a key", "destination=%s error=\"%s\" instead=hold",
		          destination_format(&destination->key, text), strerror(-error));
	if (key_table_set(&maps->overflow, &destination->key, 0) != 0)
		maps->incomplete = true;
}

/* A covered key was refused, and there was no memory to remember that: all are written again. */
static void complete(struct kernel_maps *maps)
{
	maps->incomplete = false;
	for (size_t i = 0; i < snapshot_destination_count(maps->applied); i++) {
		const struct destination *destination = snapshot_destination_at(maps->applied, i);

		if (is_covered(destination->verdict))
			set_covered(maps, destination);
	}
}

static int set_plain(struct kernel_maps *maps, const struct postern_destination_key *key)
{
	const struct postern_destination plain = {.verdict = POSTERN_VERDICT_PLAIN};

	return hooks_set_destination(maps->hooks, key, &plain);
}

/* 0 if the key is not in the map any more. */
static int delete_key(struct kernel_maps *maps, const struct postern_destination_key *key)
{
	int error = hooks_delete_destination(maps->hooks, key);

	return error == -ENOENT ? 0 : error;
}

/* Without memory to remember it the key stays as it is until something changes it: the safe side. */
static void let_leave(struct kernel_maps *maps, const struct postern_destination_key *key, uint64_t due_ns)
{
	if (!key_table_find(&maps->leaving, key) && key_table_set(&maps->leaving, key, due_ns) != 0)
		log_error("no memory", "what=\"a key that leaves the destination map\"");
}

/* ---- what an earlier life left ---- */

struct earlier {
	struct kernel_maps *maps;
	const struct snapshot *snapshot;
	uint64_t now_ns;
	struct key_table covered; /* keys that are covered in the map */
	size_t kept;
};

static void note_earlier(void *context, const struct postern_destination_key *key,
                         const struct postern_destination *value)
{
	struct earlier *earlier = context;
	struct kernel_maps *maps = earlier->maps;
	const struct postern_destination denied = {.verdict = POSTERN_VERDICT_DENY};
	const struct destination *named = snapshot_find(earlier->snapshot, key);

	if (named && same_key(&named->key, key)) {
		if (is_covered(value->verdict) && key_table_set(&earlier->covered, key, 0) != 0)
			log_error("no memory", "what=\"a key of an earlier life\"");
		return;
	}
	if (!is_covered(value->verdict)) {
		let_leave(maps, key, earlier->now_ns + KERNEL_MAPS_DELAY_NS);
		return;
	}
	/* Its settings were another life's: all that can be said of it is no. */
	if (hooks_set_destination(maps->hooks, key, &denied) != 0 ||
	    key_table_set(&maps->kept, key, earlier->now_ns + maps->keep_ns) != 0)
		return;
	earlier->kept++;
}

static void take_over(struct kernel_maps *maps, const struct snapshot *snapshot, uint64_t now_ns,
                      struct earlier *earlier)
{
	int error;

	*earlier = (struct earlier){.maps = maps, .snapshot = snapshot, .now_ns = now_ns};
	error = hooks_for_each_destination(maps->hooks, note_earlier, earlier);
	if (error)
		log_error("destination map unreadable", "error=\"%s\"", strerror(-error));
	if (earlier->kept)
		log_info("destinations of an earlier life are refused", "count=%zu seconds=%llu", earlier->kept,
		         (unsigned long long)(maps->keep_ns / 1000000000));
}

/* ---- from one snapshot to the next ---- */

struct passage {
	struct kernel_maps *maps;
	const struct snapshot *new;
	uint64_t now_ns;
	const struct key_table *covered_earlier; /* the first time; then empty */
	struct kernel_maps_change change;
};

static void pass_covered(struct passage *passage, const struct destination *new, const struct destination *old)
{
	struct kernel_maps *maps = passage->maps;

	(void)key_table_remove(&maps->leaving, &new->key);
	(void)key_table_remove(&maps->kept, &new->key);
	if (old && old->verdict == new->verdict && old->settings_id == new->settings_id)
		return;
	if (!old || !is_covered(old->verdict))
		passage->change.grew = true;
	passage->change.tightened = true;
	set_covered(maps, new);
}

static void pass_plain(struct passage *passage, const struct destination *new, const struct destination *old)
{
	struct kernel_maps *maps = passage->maps;
	bool was_covered = (old && is_covered(old->verdict)) || key_table_find(&maps->leaving, &new->key) ||
	                   key_table_find(passage->covered_earlier, &new->key);

	/* An object names it: what an earlier life said of it is over, in the usual time. */
	if (key_table_remove(&maps->kept, &new->key))
		was_covered = true;
	if (was_covered)
		let_leave(maps, &new->key, passage->now_ns + KERNEL_MAPS_DELAY_NS);
	else if (!old) /* no room: its miss is a HOLD or passes, both are right */
		(void)set_plain(maps, &new->key);
}

/* Both come in one order: one walk over both. "Any port" of an address comes before its ports. */
static void walk(struct passage *passage, const struct snapshot *old)
{
	size_t old_count = old ? snapshot_destination_count(old) : 0;
	size_t new_count = snapshot_destination_count(passage->new);
	size_t i = 0, j = 0;

	while (i < old_count || j < new_count) {
		const struct destination *before = i < old_count ? snapshot_destination_at(old, i) : NULL;
		const struct destination *after = j < new_count ? snapshot_destination_at(passage->new, j) : NULL;
		int order = !before ? 1 : !after ? -1 : compare_keys(&before->key, &after->key);

		i += order <= 0;
		j += order >= 0;
		if (order < 0)
			let_leave(passage->maps, &before->key, passage->now_ns + KERNEL_MAPS_DELAY_NS);
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): without an `after` the order is -1 */
		else if (is_covered(after->verdict))
			pass_covered(passage, after, order == 0 ? before : NULL);
		else
			pass_plain(passage, after, order == 0 ? before : NULL);
	}
}

/* Remembered as nobody's: as long as nobody names it. */
static bool keep_plain(void *context, const struct postern_destination_key *key, uint64_t *value)
{
	struct passage *passage = context;
	const struct destination *named = snapshot_find(passage->new, key);

	(void)value;
	if (!named)
		return true;
	if (!same_key(&named->key, key))
		let_leave(passage->maps, key, passage->now_ns + KERNEL_MAPS_DELAY_NS);
	return false;
}

/* It leaves at once if it stands in front of what is covered now by any port of its address. */
static bool keep_unless_in_front(void *context, const struct postern_destination_key *key, uint64_t *value)
{
	struct passage *passage = context;
	const struct destination *named = snapshot_find(passage->new, key);

	(void)value;
	return !named || !is_covered(named->verdict) || delete_key(passage->maps, key) != 0;
}

static bool keep_overflow(void *context, const struct postern_destination_key *key, uint64_t *value)
{
	struct passage *passage = context;
	const struct destination *named = find_exact(passage->new, key);

	(void)value;
	return named && is_covered(named->verdict);
}

void kernel_maps_apply(struct kernel_maps *maps, struct snapshot *snapshot, uint64_t now_ns,
                       struct kernel_maps_change *change)
{
	struct snapshot *old = maps->applied;
	struct earlier earlier = {0};
	struct passage passage = {
	        .maps = maps,
	        .new = snapshot,
	        .now_ns = now_ns,
	        .covered_earlier = &earlier.covered,
	};

	kernel_guards_grow(maps, snapshot, now_ns);
	if (!old)
		take_over(maps, snapshot, now_ns, &earlier);
	walk(&passage, old);
	key_table_filter(&maps->plain, keep_plain, &passage);
	key_table_filter(&maps->leaving, keep_unless_in_front, &passage);
	key_table_filter(&maps->kept, keep_unless_in_front, &passage);
	key_table_filter(&maps->overflow, keep_overflow, &passage);
	kernel_guards_grow(maps, snapshot, now_ns); /* for those that found no room */
	maps->applied = snapshot_ref(snapshot);
	snapshot_unref(old);
	key_table_free(&earlier.covered);
	*change = passage.change;
}

/* ---- what is due ---- */

struct settlement {
	struct kernel_maps *maps;
	uint64_t now_ns;
	uint64_t next_ns;
	bool in_order;
};

static void wait_until(struct settlement *settlement, uint64_t due_ns)
{
	if (!settlement->next_ns || due_ns < settlement->next_ns)
		settlement->next_ns = due_ns;
}

/* Its verdict ends: the key becomes what the snapshot says now. */
static bool keep_leaving(void *context, const struct postern_destination_key *key, uint64_t *due_ns)
{
	struct settlement *settlement = context;
	struct kernel_maps *maps = settlement->maps;
	const struct destination *named = find_exact(maps->applied, key);
	char text[DESTINATION_TEXT_MAX];
	int error = 0;

	if (*due_ns > settlement->now_ns) {
		wait_until(settlement, *due_ns);
		return true;
	}
	if (named && is_covered(named->verdict))
		return false;
	if (named || key_table_find(&maps->plain, key))
		error = set_plain(maps, key);
	else
		error = delete_key(maps, key);
	if (!error || error == -E2BIG) /* no room for PLAIN: its miss is right, too */
		return false;
	log_error("destination map not tidied", "destination=%s error=\"%s\"", destination_format(key, text),
	          strerror(-error));
	*due_ns = settlement->now_ns + RETRY_NS;
	wait_until(settlement, *due_ns);
	return true;
}

static bool keep_earlier(void *context, const struct postern_destination_key *key, uint64_t *until_ns)
{
	struct settlement *settlement = context;

	if (*until_ns <= settlement->now_ns && settlement->in_order && delete_key(settlement->maps, key) == 0)
		return false;
	if (*until_ns <= settlement->now_ns)
		*until_ns = settlement->now_ns + RETRY_NS;
	wait_until(settlement, *until_ns);
	return true;
}

static bool still_overflows(void *context, const struct postern_destination_key *key, uint64_t *value)
{
	struct settlement *settlement = context;
	const struct destination *named = find_exact(settlement->maps->applied, key);
	struct postern_destination wanted;

	(void)value;
	if (!named || !is_covered(named->verdict))
		return false;
	wanted.verdict = named->verdict;
	wanted.settings_id = named->verdict == POSTERN_VERDICT_TLS ? named->settings_id : 0;
	return hooks_set_destination(settlement->maps->hooks, key, &wanted) != 0;
}

uint64_t kernel_maps_settle(struct kernel_maps *maps, uint64_t now_ns, bool in_order)
{
	struct settlement settlement = {.maps = maps, .now_ns = now_ns, .in_order = in_order};

	if (!maps->applied)
		return 0;
	key_table_filter(&maps->leaving, keep_leaving, &settlement);
	key_table_filter(&maps->kept, keep_earlier, &settlement);
	if (maps->incomplete)
		complete(maps);
	if (maps->overflow.count || kernel_maps_broken(maps)) {
		key_table_filter(&maps->overflow, still_overflows, &settlement);
		kernel_guards_grow(maps, maps->applied, now_ns);
	}
	if (maps->guards_due_ns && maps->guards_due_ns <= now_ns) {
		if (!in_order || !kernel_guards_shrink(maps))
			maps->guards_due_ns = now_ns + RETRY_NS;
	}
	if (maps->guards_due_ns)
		wait_until(&settlement, maps->guards_due_ns);
	if (kernel_maps_broken(maps))
		wait_until(&settlement, now_ns + RETRY_NS);
	return settlement.next_ns;
}

bool kernel_maps_broken(const struct kernel_maps *maps)
{
	return maps->incomplete || maps->unguarded;
}

/* ---- HOLD ---- */

bool kernel_maps_is_leaving(const struct kernel_maps *maps, const struct postern_destination_key *key)
{
	const struct postern_destination_key any_port = {.address = key->address};

	return key_table_find(&maps->leaving, key) || key_table_find(&maps->leaving, &any_port);
}

int kernel_maps_let_pass(struct kernel_maps *maps, const struct postern_destination_key *key)
{
	const struct destination *named = snapshot_find(maps->applied, key);
	int error;

	if (named)
		return is_covered(named->verdict) ? -EPERM : set_plain(maps, &named->key);
	if (!key_table_find(&maps->plain, key)) {
		if (maps->plain.count >= MAX_PLAIN_KEYS)
			return -E2BIG;
		error = key_table_set(&maps->plain, key, 0);
		if (error)
			return error;
	}
	error = set_plain(maps, key);
	if (error)
		(void)key_table_remove(&maps->plain, key);
	return error;
}

/* ---- life ---- */

int kernel_maps_start(struct kernel_maps *maps, struct hooks *hooks, const struct postern_runtime_config *runtime,
                      uint64_t keep_ns)
{
	maps->hooks = hooks;
	maps->runtime = *runtime;
	maps->keep_ns = keep_ns;
	return kernel_guards_start(maps);
}

void kernel_maps_stop(struct kernel_maps *maps)
{
	snapshot_unref(maps->applied);
	maps->applied = NULL;
	key_table_free(&maps->leaving);
	key_table_free(&maps->kept);
	key_table_free(&maps->plain);
	key_table_free(&maps->overflow);
	free(maps->cidrs);
	maps->cidrs = NULL;
	maps->cidr_count = maps->cidr_capacity = 0;
}
