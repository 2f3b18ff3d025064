// SPDX-License-Identifier: GPL-2.0-only
/*
 * hooks_maps.c: what the agent writes into the programs' maps and reads out of them.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "datapath/hooks_internal.h"
#include "postern.skel.h"

#define MAP_FD(hooks, name) bpf_map__fd((hooks)->skeleton->maps.name)

static int map_update(int map_fd, const void *key, const void *value)
{
	return bpf_map_update_elem(map_fd, key, value, BPF_ANY) == 0 ? 0 : -errno;
}

static int map_lookup(int map_fd, const void *key, void *value)
{
	return bpf_map_lookup_elem(map_fd, key, value) == 0 ? 0 : -errno;
}

static int map_delete(int map_fd, const void *key)
{
	return bpf_map_delete_elem(map_fd, key) == 0 ? 0 : -errno;
}

void hooks_raise_generation(struct hooks *hooks)
{
	__atomic_add_fetch(hooks->policy_generation, 1, __ATOMIC_SEQ_CST);
}

/* What postern_judge() reads is written and deleted by these alone. Whatever came of it, the generation is another. */
static int judged_update(struct hooks *hooks, int map_fd, const void *key, const void *value)
{
	int error = map_update(map_fd, key, value);

	hooks_raise_generation(hooks);
	return error;
}

static int judged_delete(struct hooks *hooks, int map_fd, const void *key)
{
	int error = map_delete(map_fd, key);

	hooks_raise_generation(hooks);
	return error;
}

/* All keys, first, since a walk starts anew when the key that it stands on is deleted. free() *keys. */
static int collect_keys(int map_fd, size_t key_size, void **keys, size_t *count)
{
	_cleanup_free_ char *collected = NULL;
	size_t used = 0, capacity = 0;
	char *previous = NULL;

	for (;;) {
		if (used == capacity) {
			capacity = capacity ? 2 * capacity : 64;
			char *grown = realloc(collected, capacity * key_size);
			if (!grown)
				return -ENOMEM;
			collected = grown;
			previous = used ? collected + (used - 1) * key_size : NULL;
		}
		if (bpf_map_get_next_key(map_fd, previous, collected + used * key_size) != 0)
			break;
		previous = collected + used * key_size;
		used++;
	}
	if (errno != ENOENT)
		return -errno;
	*keys = TAKE_PTR(collected);
	*count = used;
	return 0;
}

/* ---- gateways ---- */

int hooks_set_gateway(struct hooks *hooks, uint32_t gateway_id, const struct postern_gateway *gateway)
{
	return map_update(MAP_FD(hooks, gateway_map), &gateway_id, gateway);
}

int hooks_get_gateway(struct hooks *hooks, uint32_t gateway_id, struct postern_gateway *gateway)
{
	return map_lookup(MAP_FD(hooks, gateway_map), &gateway_id, gateway);
}

int hooks_delete_gateway(struct hooks *hooks, uint32_t gateway_id)
{
	int error = hooks_detach_listeners(hooks, gateway_id);

	return error ? error : map_delete(MAP_FD(hooks, gateway_map), &gateway_id);
}

int hooks_keep_gateway_ids(struct hooks *hooks, bool (*keep)(void *context, uint32_t id), void *context)
{
	_cleanup_free_ void *keys = NULL;
	size_t count = 0;
	int error = collect_keys(MAP_FD(hooks, gateway_map), sizeof(uint32_t), &keys, &count);

	for (size_t i = 0; !error && i < count; i++) {
		uint32_t id = ((uint32_t *)keys)[i];

		if (!keep(context, id))
			error = hooks_delete_gateway(hooks, id);
	}
	return error;
}

/* ---- destinations ---- */

static bool is_covered(const struct postern_destination *destination)
{
	return destination->verdict == POSTERN_VERDICT_TLS || destination->verdict == POSTERN_VERDICT_DENY;
}

/* How many covered keys an address has. The agent is the only writer. */
static int count_address(struct hooks *hooks, const struct postern_address *address, int change)
{
	int fd = MAP_FD(hooks, covered_addresses);
	uint32_t keys = 0;
	int error = map_lookup(fd, address, &keys);

	if (error && error != -ENOENT)
		return error;
	if (change < 0 && keys <= 1)
		return error ? 0 : map_delete(fd, address);
	keys += (uint32_t)change;
	return map_update(fd, address, &keys);
}

static bool was_covered(struct hooks *hooks, const struct postern_destination_key *key)
{
	struct postern_destination destination;

	return map_lookup(MAP_FD(hooks, destination_map), key, &destination) == 0 && is_covered(&destination);
}

/*
 * An address is counted before its key is there and until after the key is gone, so that whatever ends this in between
 * leaves it counted rather than not: only what the guard cannot parse is judged by it.
 */
int hooks_set_destination(struct hooks *hooks, const struct postern_destination_key *key,
                          const struct postern_destination *destination)
{
	bool before = was_covered(hooks, key), after = is_covered(destination);
	int error = 0;

	if (after && !before)
		error = count_address(hooks, &key->address, 1);
	if (error)
		return error;
	error = judged_update(hooks, MAP_FD(hooks, destination_map), key, destination);
	if (error) {
		if (after && !before)
			count_address(hooks, &key->address, -1);
		return error;
	}
	return before && !after ? count_address(hooks, &key->address, -1) : 0;
}

int hooks_delete_destination(struct hooks *hooks, const struct postern_destination_key *key)
{
	bool before = was_covered(hooks, key);
	int error = judged_delete(hooks, MAP_FD(hooks, destination_map), key);

	if (error)
		return error;
	return before ? count_address(hooks, &key->address, -1) : 0;
}

int hooks_for_each_destination(struct hooks *hooks,
                               void (*each)(void *context, const struct postern_destination_key *key,
                                            const struct postern_destination *destination),
                               void *context)
{
	int fd = MAP_FD(hooks, destination_map);
	_cleanup_free_ void *keys = NULL;
	size_t count = 0;
	int error = collect_keys(fd, sizeof(struct postern_destination_key), &keys, &count);

	if (error)
		return error;
	for (size_t i = 0; i < count; i++) {
		const struct postern_destination_key *key = (struct postern_destination_key *)keys + i;
		struct postern_destination destination;

		if (map_lookup(fd, key, &destination) == 0)
			each(context, key, &destination);
	}
	return 0;
}

int hooks_set_guarded_port(struct hooks *hooks, uint16_t port, bool guarded)
{
	int fd = MAP_FD(hooks, guarded_ports);
	uint32_t index = port / 64;
	uint64_t bit = UINT64_C(1) << (port % 64), word;
	int error = map_lookup(fd, &index, &word);

	if (error)
		return error;
	word = guarded ? word | bit : word & ~bit;
	return judged_update(hooks, fd, &index, &word);
}

int hooks_get_guarded_word(struct hooks *hooks, unsigned int index, uint64_t *word)
{
	return map_lookup(MAP_FD(hooks, guarded_ports), &index, word);
}

int hooks_set_guarded_word(struct hooks *hooks, unsigned int index, uint64_t word)
{
	return judged_update(hooks, MAP_FD(hooks, guarded_ports), &index, &word);
}

int hooks_set_cidr(struct hooks *hooks, const struct cidr *cidr, bool present)
{
	const struct postern_cidr_key key = {.prefix_length = cidr->prefix_length, .address = cidr->address};
	int fd = MAP_FD(hooks, cluster_cidrs);
	uint32_t unused = 1;

	return present ? judged_update(hooks, fd, &key, &unused) : judged_delete(hooks, fd, &key);
}

int hooks_for_each_cidr(struct hooks *hooks, void (*each)(void *context, const struct cidr *cidr), void *context)
{
	_cleanup_free_ void *keys = NULL;
	size_t count = 0;
	int error = collect_keys(MAP_FD(hooks, cluster_cidrs), sizeof(struct postern_cidr_key), &keys, &count);

	for (size_t i = 0; !error && i < count; i++) {
		const struct postern_cidr_key *key = (struct postern_cidr_key *)keys + i;
		const struct cidr cidr = {.address = key->address, .prefix_length = key->prefix_length};

		each(context, &cidr);
	}
	return error;
}

int hooks_policy_is_known(struct hooks *hooks)
{
	int fd = MAP_FD(hooks, meta);
	struct postern_meta known;
	uint32_t index = 0;
	int error = map_lookup(fd, &index, &known);

	if (error || known.policy_known)
		return error;
	known.policy_known = 1;
	return judged_update(hooks, fd, &index, &known);
}

int hooks_set_runtime_config(struct hooks *hooks, const struct postern_runtime_config *config)
{
	uint32_t index = 0;

	return judged_update(hooks, MAP_FD(hooks, runtime_config), &index, config);
}

int hooks_get_runtime_config(struct hooks *hooks, struct postern_runtime_config *config)
{
	uint32_t index = 0;

	return map_lookup(MAP_FD(hooks, runtime_config), &index, config);
}

/* ---- listeners and B ---- */

int hooks_attach_listener(struct hooks *hooks, int listener_fd, const struct postern_listener_mark *wanted)
{
	int filter = bpf_program__fd(hooks->skeleton->progs.hold_listener);
	socklen_t length = sizeof(uint64_t);
	uint64_t cookie;
	struct postern_listener_mark mark = *wanted;
	int error;

	mark.worker = hooks_ring_number(hooks, wanted->worker);
	if (getsockopt(listener_fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) == -1)
		return -errno;
	if (setsockopt(listener_fd, SOL_SOCKET, SO_ATTACH_BPF, &filter, sizeof(filter)) == -1)
		return -errno;
	error = map_update(MAP_FD(hooks, listener_map), &cookie, &mark);
	if (error)
		return error;
	error = map_update(MAP_FD(hooks, listener_mark), &listener_fd, &mark);
	if (error)
		hooks_detach_listener(hooks, cookie);
	return error;
}

int hooks_detach_listener(struct hooks *hooks, uint64_t listener_cookie)
{
	return map_delete(MAP_FD(hooks, listener_map), &listener_cookie);
}

int hooks_detach_listeners(struct hooks *hooks, uint32_t gateway_id)
{
	int fd = MAP_FD(hooks, listener_map);
	_cleanup_free_ void *keys = NULL;
	size_t count = 0;
	int error = collect_keys(fd, sizeof(uint64_t), &keys, &count);

	for (size_t i = 0; !error && i < count; i++) {
		const uint64_t *cookie = (uint64_t *)keys + i;
		struct postern_listener_mark mark;

		if (map_lookup(fd, cookie, &mark) == 0 && mark.gateway_id == gateway_id)
			error = map_delete(fd, cookie);
	}
	return error;
}

/* It would stand in front of what the other says of every port of the address. */
static bool any_port_is_covered(int map_fd, const struct postern_destination_key *key)
{
	const struct postern_destination_key any_port = {.address = key->address};
	struct postern_destination known;

	return map_lookup(map_fd, &any_port, &known) == 0 && known.verdict != POSTERN_VERDICT_PLAIN;
}

/* Taken in one step, so that what the other has put there meanwhile is not lost: the address is covered either way. */
static void take_back(struct hooks *hooks, int map_fd, const struct postern_destination_key *key)
{
	struct postern_destination taken;

	if (bpf_map_lookup_and_delete_elem(map_fd, key, &taken) == 0 && taken.verdict != POSTERN_VERDICT_PLAIN)
		(void)bpf_map_update_elem(map_fd, key, &taken, BPF_NOEXIST);
	hooks_raise_generation(hooks);
}

int hooks_let_pass_unless_known(struct hooks *hooks, const struct postern_destination_key *key)
{
	const struct postern_destination plain = {.verdict = POSTERN_VERDICT_PLAIN};
	struct postern_destination known;
	int fd = MAP_FD(hooks, destination_map);

	if (any_port_is_covered(fd, key))
		return -EPERM;
	if (bpf_map_update_elem(fd, key, &plain, BPF_NOEXIST) == 0) {
		hooks_raise_generation(hooks);
		/* The other may have covered the address between our look and our word, and not have seen that. */
		if (!any_port_is_covered(fd, key))
			return 0;
		take_back(hooks, fd, key);
		return -EPERM;
	}
	if (errno != EEXIST)
		return -errno;
	return map_lookup(fd, key, &known) == 0 && known.verdict == POSTERN_VERDICT_PLAIN ? 0 : -EPERM;
}

uint32_t hooks_release_priority(const struct hooks *hooks)
{
	return hooks->release_priority;
}

int hooks_set_backend(struct hooks *hooks, int b_fd, const struct postern_backend_socket *state)
{
	return map_update(MAP_FD(hooks, backend_socket), &b_fd, state);
}

int hooks_ring_fd(const struct hooks *hooks, unsigned int worker)
{
	return worker < hooks->worker_count ? hooks->ring_fd[worker] : -EINVAL;
}

/* ---- lane ---- */

struct postern_lane_slot *hooks_lane_slots(const struct hooks *hooks)
{
	return hooks->lane_slots;
}

int hooks_lane_offer(struct hooks *hooks, uint64_t gateway_cookie, uint32_t slot)
{
	return map_update(MAP_FD(hooks, lane_slot_map), &gateway_cookie, &slot);
}

int hooks_lane_withdraw(struct hooks *hooks, uint64_t gateway_cookie)
{
	return map_delete(MAP_FD(hooks, lane_slot_map), &gateway_cookie);
}

int hooks_lane_forget_offers(struct hooks *hooks)
{
	int fd = MAP_FD(hooks, lane_slot_map);
	_cleanup_free_ void *keys = NULL;
	size_t count = 0;
	int error = collect_keys(fd, sizeof(uint64_t), &keys, &count);

	for (size_t i = 0; !error && i < count; i++) {
		error = map_delete(fd, (uint64_t *)keys + i);
		if (error == -ENOENT) /* its G took it just now */
			error = 0;
	}
	return error;
}

int hooks_lane_join_agent(struct hooks *hooks, uint64_t gateway_cookie, int a_fd)
{
	uint64_t socket = (uint64_t)a_fd;

	return map_update(MAP_FD(hooks, lane_agent), &gateway_cookie, &socket);
}

int hooks_lane_leave_agent(struct hooks *hooks, uint64_t gateway_cookie)
{
	return map_delete(MAP_FD(hooks, lane_agent), &gateway_cookie);
}

int hooks_lane_leave_gateway(struct hooks *hooks, uint64_t gateway_cookie)
{
	return map_delete(MAP_FD(hooks, lane_gateway), &gateway_cookie);
}

bool hooks_lane_has_gateway(struct hooks *hooks, uint64_t gateway_cookie)
{
	uint64_t cookie;

	return map_lookup(MAP_FD(hooks, lane_gateway), &gateway_cookie, &cookie) == 0;
}

int hooks_passed_socket_fd(const struct hooks *hooks)
{
	return MAP_FD(hooks, passed_socket);
}

int hooks_judged_socket_fd(const struct hooks *hooks)
{
	return MAP_FD(hooks, judged_socket);
}

int hooks_gateway_socket_fd(const struct hooks *hooks)
{
	return MAP_FD(hooks, gateway_socket);
}

/* ---- counts ---- */

int hooks_counters(struct hooks *hooks, uint64_t counters[static POSTERN_COUNTERS])
{
	int cpus = libbpf_num_possible_cpus();
	_cleanup_free_ uint64_t *values = NULL;

	if (cpus < 0)
		return cpus;
	values = calloc((size_t)cpus, sizeof(*values));
	if (!values)
		return -ENOMEM;
	for (uint32_t counter = 0; counter < POSTERN_COUNTERS; counter++) {
		int error = map_lookup(MAP_FD(hooks, counters), &counter, values);

		if (error)
			return error;
		counters[counter] = 0;
		for (int cpu = 0; cpu < cpus; cpu++)
			counters[counter] += values[cpu];
	}
	return 0;
}

int hooks_for_each_helper_error(struct hooks *hooks,
                                void (*each)(void *context, const struct postern_helper_error *error, uint64_t count),
                                void *context)
{
	int fd = MAP_FD(hooks, helper_errors);
	_cleanup_free_ void *keys = NULL;
	size_t count = 0;
	int error = collect_keys(fd, sizeof(struct postern_helper_error), &keys, &count);

	if (error)
		return error;
	for (size_t i = 0; i < count; i++) {
		const struct postern_helper_error *key = (struct postern_helper_error *)keys + i;
		uint64_t times;

		if (map_lookup(fd, key, &times) == 0)
			each(context, key, times);
	}
	return 0;
}

int hooks_for_each_would(struct hooks *hooks,
                         void (*each)(void *context, const struct postern_would_key *key, uint64_t count),
                         void *context)
{
	int fd = MAP_FD(hooks, would_map);
	_cleanup_free_ void *keys = NULL;
	size_t count = 0;
	int error = collect_keys(fd, sizeof(struct postern_would_key), &keys, &count);

	if (error)
		return error;
	for (size_t i = 0; i < count; i++) {
		const struct postern_would_key *key = (struct postern_would_key *)keys + i;
		uint64_t times;

		if (map_lookup(fd, key, &times) == 0)
			each(context, key, times);
	}
	return 0;
}

int hooks_forget_would(struct hooks *hooks, uint32_t gateway_id)
{
	int fd = MAP_FD(hooks, would_map);
	_cleanup_free_ void *keys = NULL;
	size_t count = 0;
	int error = collect_keys(fd, sizeof(struct postern_would_key), &keys, &count);

	for (size_t i = 0; !error && i < count; i++) {
		const struct postern_would_key *key = (struct postern_would_key *)keys + i;

		if (key->gateway_id == gateway_id)
			error = map_delete(fd, key);
		error = error == -ENOENT ? 0 : error;
	}
	return error;
}
