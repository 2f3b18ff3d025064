/* SPDX-License-Identifier: GPL-2.0-only */
/* The keys of the destination map. Its guards (ports, CIDRs) are in kernel_guards.c. */
#include "control/kernel_maps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "control/kernel_guards.h"
#include "control/path_probe_key.h"

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

/* 0 if the key is not in the map any more. */
static int delete_key(struct kernel_maps *maps, const struct postern_destination_key *key)
{
	int error = hooks_delete_destination(maps->hooks, key);

	return error == -ENOENT ? 0 : error;
}

struct address_search {
	const struct postern_address *address;
	bool found;
};

static bool note_address(void *context, const struct postern_destination_key *key, uint64_t *value)
{
	struct address_search *search = context;

	(void)value;
	search->found |= address_equal(&key->address, search->address);
	return true;
}

/* "Any port" would answer for a covered port of the address that found no room: without it that miss is a HOLD. */
static bool hides_overflow(struct kernel_maps *maps, const struct postern_destination_key *key)
{
	struct address_search search = {.address = &key->address};

	if (!key->port && maps->overflow.count)
		key_table_filter(&maps->overflow, note_address, &search);
	return search.found;
}

/* -E2BIG: there is no room, and its miss is right, too. */
static int set_plain(struct kernel_maps *maps, const struct postern_destination_key *key)
{
	const struct postern_destination plain = {.verdict = POSTERN_VERDICT_PLAIN};

	if (hides_overflow(maps, key)) {
		int error = delete_key(maps, key);

		return error ? error : -E2BIG;
	}
	return hooks_set_destination(maps->hooks, key, &plain);
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

	if (path_probe_is_key(key)) /* nobody's but the probe's, which writes it before each use */
		return;
	if (named && same_key(&named->key, key)) {
		if (is_covered(value->verdict) && key_table_set(&earlier->covered, key, 0) != 0)
			log_error("no memory", "what=\"a key of an earlier life\"");
		return;
	}
	if (!is_covered(value->verdict)) {
		if (maps->inherits && maps->plain.count < MAX_PLAIN_KEYS && key_table_set(&maps->plain, key, 0) == 0)
			return;
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

static void pass_gone(struct passage *passage, const struct destination *old)
{
	const struct destination *instead = snapshot_find(passage->new, &old->key);

	/* "Any port" of its address decides about its live connections from now on. */
	if (instead && is_covered(instead->verdict))
		passage->change.tightened = true;
	let_leave(passage->maps, &old->key, passage->now_ns + KERNEL_MAPS_DELAY_NS);
}

/* "Any port" of an address comes before its ports. */
static void pass(void *context, const struct destination *old, const struct destination *new)
{
	struct passage *passage = context;

	if (!new)
		pass_gone(passage, old);
	else if (is_covered(new->verdict))
		pass_covered(passage, new, old);
	else
		pass_plain(passage, new, old);
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

/* See hides_overflow(): a PLAIN "any port" that was there before. What leaves or is kept is covered still. */
static void take_any_port_away(struct passage *passage, const struct postern_destination_key *key)
{
	const struct postern_destination_key any_port = {.address = key->address};
	const struct destination *named = find_exact(passage->new, &any_port);
	struct kernel_maps *maps = passage->maps;

	if (!key->port || !named || is_covered(named->verdict) || key_table_find(&maps->leaving, &any_port))
		return;
	if (delete_key(maps, &any_port) != 0)
		maps->incomplete = true;
}

static bool keep_overflow(void *context, const struct postern_destination_key *key, uint64_t *value)
{
	struct passage *passage = context;
	const struct destination *named = find_exact(passage->new, key);

	(void)value;
	if (!named || !is_covered(named->verdict))
		return false;
	take_any_port_away(passage, key);
	return true;
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

	bool overflowed = maps->overflow.count > 0;

	if (maps->retired) {
		maps->applied = snapshot_ref(snapshot);
		snapshot_unref(old);
		*change = (struct kernel_maps_change){.tightened = true};
		return;
	}
	kernel_guards_grow(maps, snapshot, now_ns);
	if (!old)
		take_over(maps, snapshot, now_ns, &earlier);
	snapshot_diff(old, snapshot, pass, &passage);
	key_table_filter(&maps->plain, keep_plain, &passage);
	key_table_filter(&maps->leaving, keep_unless_in_front, &passage);
	key_table_filter(&maps->kept, keep_unless_in_front, &passage);
	key_table_filter(&maps->overflow, keep_overflow, &passage);
	if (overflowed || maps->overflow.count) /* for those that found no room, or need none any more */
		kernel_guards_grow(maps, snapshot, now_ns);
	maps->applied = snapshot_ref(snapshot);
	snapshot_unref(old);
	key_table_free(&earlier.covered);
	*change = passage.change;
}

static void adopt(void *context, const struct postern_destination_key *key, const struct postern_destination *value)
{
	struct kernel_maps *maps = context;
	const struct destination *named = snapshot_find(maps->applied, key);

	if (is_covered(value->verdict) || (named && same_key(&named->key, key)) || key_table_find(&maps->plain, key) ||
	    key_table_find(&maps->leaving, key) || key_table_find(&maps->kept, key))
		return;
	if (named && is_covered(named->verdict))
		(void)delete_key(maps, key);
	else if (maps->plain.count >= MAX_PLAIN_KEYS || key_table_set(&maps->plain, key, 0) != 0)
		(void)delete_key(maps, key); /* its miss is a HOLD, or passes: both are right */
}

void kernel_maps_adopt(struct kernel_maps *maps)
{
	int error;

	if (!maps->applied || maps->retired)
		return;
	error = hooks_for_each_destination(maps->hooks, adopt, maps);
	if (error)
		log_error("destination map unreadable", "error=\"%s\"", strerror(-error));
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

	if (!maps->applied || maps->retired)
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

/* By its own key or by "any port" of its address. */
static bool is_kept(const struct kernel_maps *maps, const struct postern_destination_key *key)
{
	const struct postern_destination_key any_port = {.address = key->address};

	return key_table_find(&maps->kept, key) || key_table_find(&maps->kept, &any_port);
}

int kernel_maps_let_pass(struct kernel_maps *maps, const struct postern_destination_key *key)
{
	const struct destination *named = maps->applied ? snapshot_find(maps->applied, key) : NULL;
	int error;

	/* Nobody's but the probe's; and before a snapshot could be applied nothing is known to be plain. */
	if (path_probe_is_key(key) || !maps->applied)
		return -EPERM;
	if (!(named && same_key(&named->key, key)) && is_kept(maps, key))
		return -EPERM;
	if (maps->retired)
		return named && is_covered(named->verdict) ? -EPERM : hooks_let_pass_unless_known(maps->hooks, key);
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

static void free_tables(struct kernel_maps *maps)
{
	key_table_free(&maps->leaving);
	key_table_free(&maps->kept);
	key_table_free(&maps->plain);
	key_table_free(&maps->overflow);
}

void kernel_maps_retire(struct kernel_maps *maps)
{
	free_tables(maps);
	maps->incomplete = maps->unguarded = false;
	maps->guards_due_ns = 0;
	maps->retired = true;
}

void kernel_maps_stop(struct kernel_maps *maps)
{
	snapshot_unref(maps->applied);
	maps->applied = NULL;
	free_tables(maps);
	free(maps->cidrs);
	maps->cidrs = NULL;
	maps->cidr_count = maps->cidr_capacity = 0;
}
