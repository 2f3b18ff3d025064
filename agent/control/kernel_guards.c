/* SPDX-License-Identifier: GPL-2.0-only */
#include "control/kernel_guards.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "control/kernel_maps.h"

/* One is kept free, so that ::/0 can always stand for all that have no room. */
#define MAX_WANTED_CIDRS (POSTERN_MAX_CIDRS - 1)

struct wanted {
	uint64_t guarded[HOOKS_GUARDED_WORDS];
	struct cidr cidrs[POSTERN_MAX_CIDRS];
	size_t cidr_count;
	bool strict;
	bool everything; /* there are more CIDRs than the trie takes */
};

static bool same_cidr(const struct cidr *left, const struct cidr *right)
{
	return left->prefix_length == right->prefix_length && address_equal(&left->address, &right->address);
}

static bool has_cidr(const struct cidr *cidrs, size_t count, const struct cidr *cidr)
{
	for (size_t i = 0; i < count; i++) {
		if (same_cidr(&cidrs[i], cidr))
			return true;
	}
	return false;
}

static void want_cidr(struct wanted *wanted, const struct cidr *cidr)
{
	static const struct cidr everything;

	if (has_cidr(wanted->cidrs, wanted->cidr_count, cidr))
		return;
	if (wanted->cidr_count < MAX_WANTED_CIDRS) {
		wanted->cidrs[wanted->cidr_count++] = *cidr;
	} else if (!wanted->everything) {
		wanted->everything = true;
		wanted->cidrs[wanted->cidr_count++] = everything;
	}
}

static bool in_cidrs(const struct wanted *wanted, const struct postern_address *address)
{
	for (size_t i = 0; i < wanted->cidr_count; i++) {
		if (cidr_contains(&wanted->cidrs[i], address))
			return true;
	}
	return false;
}

/* A covered key that is not in the map: its miss must be a HOLD. No port stands for "any port" but strict mode. */
static bool want_hold(void *context, const struct postern_destination_key *key, uint64_t *value)
{
	struct wanted *wanted = context;
	const struct cidr host = {.address = key->address, .prefix_length = 128};
	uint16_t port = ntohs(key->port);

	(void)value;
	if (!in_cidrs(wanted, &key->address))
		want_cidr(wanted, &host);
	if (port)
		wanted->guarded[port / 64] |= UINT64_C(1) << (port % 64);
	else
		wanted->strict = true;
	return true;
}

static void find_wanted(struct kernel_maps *maps, const struct snapshot *snapshot, struct wanted *wanted)
{
	memset(wanted, 0, sizeof(*wanted));
	wanted->strict = maps->runtime.strict;
	for (unsigned int port = 1; port <= UINT16_MAX; port++) {
		if (snapshot_port_guarded(snapshot, (uint16_t)port))
			wanted->guarded[port / 64] |= UINT64_C(1) << (port % 64);
	}
	for (size_t i = 0; i < snapshot_cidr_count(snapshot); i++)
		want_cidr(wanted, snapshot_cidr_at(snapshot, i));
	key_table_filter(&maps->overflow, want_hold, wanted);
}

static int note_cidr(struct kernel_maps *maps, const struct cidr *cidr)
{
	if (maps->cidr_count == maps->cidr_capacity) {
		size_t capacity = maps->cidr_capacity ? 2 * maps->cidr_capacity : 16;
		struct cidr *cidrs = reallocarray(maps->cidrs, capacity, sizeof(*cidrs));

		if (!cidrs)
			return -ENOMEM;
		maps->cidrs = cidrs;
		maps->cidr_capacity = capacity;
	}
	maps->cidrs[maps->cidr_count++] = *cidr;
	return 0;
}

static int set_strict(struct kernel_maps *maps, bool strict)
{
	struct postern_runtime_config runtime = maps->runtime;
	int error;

	runtime.strict = strict;
	error = hooks_set_runtime_config(maps->hooks, &runtime);
	if (!error)
		maps->strict = strict;
	return error;
}

static int add_cidr(struct kernel_maps *maps, const struct cidr *cidr)
{
	int error = note_cidr(maps, cidr);

	if (error)
		return error;
	error = hooks_set_cidr(maps->hooks, cidr, true);
	if (error)
		maps->cidr_count--;
	return error;
}

static int set_word(struct kernel_maps *maps, unsigned int index, uint64_t word)
{
	int error = hooks_set_guarded_word(maps->hooks, index, word);

	if (!error)
		maps->guarded[index] = word;
	return error;
}

static int add_wanted_cidrs(struct kernel_maps *maps, const struct wanted *wanted)
{
	int first_error = 0;

	for (size_t i = 0; i < wanted->cidr_count; i++) {
		int error = 0;

		if (!has_cidr(maps->cidrs, maps->cidr_count, &wanted->cidrs[i]))
			error = add_cidr(maps, &wanted->cidrs[i]);
		first_error = first_error ? first_error : error;
	}
	return first_error;
}

static int add_wanted_ports(struct kernel_maps *maps, const struct wanted *wanted)
{
	int first_error = 0;

	for (unsigned int i = 0; i < HOOKS_GUARDED_WORDS; i++) {
		int error = 0;

		if (wanted->guarded[i] & ~maps->guarded[i])
			error = set_word(maps, i, maps->guarded[i] | wanted->guarded[i]);
		first_error = first_error ? first_error : error;
	}
	return first_error;
}

/* Note what is there and not wanted. True if any of it was wanted the last time: its time begins now. */
static bool note_unwanted(struct kernel_maps *maps, const struct wanted *wanted)
{
	bool strict = maps->strict && !wanted->strict;
	size_t cidrs = 0;
	bool new;

	for (size_t i = 0; i < maps->cidr_count; i++)
		cidrs += !has_cidr(wanted->cidrs, wanted->cidr_count, &maps->cidrs[i]);
	new = cidrs > maps->unwanted.cidrs || (strict && !maps->unwanted.strict);
	maps->unwanted.cidrs = cidrs;
	maps->unwanted.strict = strict;
	for (unsigned int i = 0; i < HOOKS_GUARDED_WORDS; i++) {
		uint64_t ports = maps->guarded[i] & ~wanted->guarded[i];

		new |= (ports & ~maps->unwanted.ports[i]) != 0;
		maps->unwanted.ports[i] = ports;
	}
	return new;
}

void kernel_guards_grow(struct kernel_maps *maps, const struct snapshot *snapshot, uint64_t now_ns)
{
	struct wanted wanted;
	int first_error, error;

	find_wanted(maps, snapshot, &wanted);
	first_error = add_wanted_cidrs(maps, &wanted);
	error = add_wanted_ports(maps, &wanted);
	first_error = first_error ? first_error : error;
	if (wanted.strict && !maps->strict && !first_error)
		first_error = set_strict(maps, true);
	if (first_error && !maps->unguarded)
		log_error("guard maps refused a key", "error=\"%s\"", strerror(-first_error));
	maps->unguarded = first_error != 0;
	if (note_unwanted(maps, &wanted))
		maps->guards_due_ns = now_ns + KERNEL_MAPS_DELAY_NS;
}

bool kernel_guards_shrink(struct kernel_maps *maps)
{
	struct wanted wanted;
	int first_error = 0;
	size_t kept = 0;

	find_wanted(maps, maps->applied, &wanted);
	for (size_t i = 0; i < maps->cidr_count; i++) {
		int error = 0;

		if (!has_cidr(wanted.cidrs, wanted.cidr_count, &maps->cidrs[i])) {
			error = hooks_set_cidr(maps->hooks, &maps->cidrs[i], false);
			if (!error || error == -ENOENT)
				continue;
		}
		maps->cidrs[kept++] = maps->cidrs[i];
		first_error = first_error ? first_error : error;
	}
	maps->cidr_count = kept;
	for (unsigned int i = 0; i < HOOKS_GUARDED_WORDS; i++) {
		int error = 0;

		if (maps->guarded[i] & ~wanted.guarded[i])
			error = set_word(maps, i, maps->guarded[i] & wanted.guarded[i]);
		first_error = first_error ? first_error : error;
	}
	if (maps->strict && !wanted.strict && !first_error)
		first_error = set_strict(maps, false);
	if (first_error) {
		log_error("guard maps not tidied", "error=\"%s\"", strerror(-first_error));
		return false;
	}
	(void)note_unwanted(maps, &wanted);
	maps->guards_due_ns = 0;
	return true;
}

struct reading {
	struct kernel_maps *maps;
	int error;
};

static void read_cidr(void *context, const struct cidr *cidr)
{
	struct reading *reading = context;
	int error = note_cidr(reading->maps, cidr);

	reading->error = reading->error ? reading->error : error;
}

int kernel_guards_start(struct kernel_maps *maps)
{
	struct reading reading = {.maps = maps};
	struct postern_runtime_config earlier = {0};
	int error = hooks_for_each_cidr(maps->hooks, read_cidr, &reading);

	if (!error)
		error = reading.error;
	for (unsigned int i = 0; i < HOOKS_GUARDED_WORDS && !error; i++)
		error = hooks_get_guarded_word(maps->hooks, i, &maps->guarded[i]);
	if (!error)
		error = hooks_get_runtime_config(maps->hooks, &earlier);
	/* An earlier life may have been strict for keys that had no room: until it is known that nothing needs it. */
	return error ? error : set_strict(maps, earlier.strict || maps->runtime.strict);
}
