/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How many connections a gateway has, and how much memory each of them may hold.
 *
 * While the budget has ROOM_UNCAPPED for each connection, the kernel sizes the socket buffers by itself. Past that each
 * buffer gets an equal part, so that not even slow readers on all connections fill the budget: a stalled direction
 * holds the receive buffer of one socket and the send buffer of the other (the kernel doubles both sizes), and one read
 * of the worker. Sizes are powers of two of the number of connections, so that they change seldom; a change is carried
 * to the connections there are at the end of the round.
 */
#include "base/cleanup.h"
#include "datapath/worker_internal.h"

#define ROOM_UNCAPPED (16u << 20)
#define PARTS         5
#define BUFFER_MIN    (32u << 10)
#define BUFFER_MAX    (1u << 20)

#define SIZED_FOR_MIN 64

#define COUNT_PACE_NS      1000000000ull
#define COUNT_FAST_PACE_NS 100000000ull

static uint64_t share_of_budget(const struct worker *worker)
{
	return memory_budget_bytes(worker->options.budget) / worker->options.worker_count;
}

static uint64_t live(const struct worker *worker)
{
	return atomic_load_explicit(&worker->statistics.connections_live, memory_order_relaxed);
}

static uint32_t size_for(uint64_t share, uint64_t connections)
{
	uint64_t room = share / connections;

	if (share == 0 || room >= ROOM_UNCAPPED)
		return 0;
	if (room / PARTS > BUFFER_MAX)
		return BUFFER_MAX;
	return room / PARTS < BUFFER_MIN ? BUFFER_MIN : (uint32_t)(room / PARTS);
}

static bool counts_sockets(const struct worker *worker)
{
	const struct memory_budget *budget = worker->options.budget;

	return budget && atomic_load_explicit(&budget->counts_sockets, memory_order_relaxed);
}

static void arm(struct worker *worker, uint64_t delay_ns)
{
	/* Without memory for it: the next connection tries again. */
	(void)loop_timer_set(worker->loop, &worker->limits.timer, delay_ns);
}

/* A power of two from which `connections` is never far: four times too many before it falls. */
static void choose_size(struct worker *worker)
{
	struct connection_limits *limits = &worker->limits;
	uint64_t connections = live(worker);
	uint32_t size;

	while (connections > limits->sized_for)
		limits->sized_for *= 2;
	while (limits->sized_for > SIZED_FOR_MIN && connections < limits->sized_for / 4)
		limits->sized_for /= 2;
	size = size_for(share_of_budget(worker), limits->sized_for);
	if (size == limits->buffer_size)
		return;
	limits->buffer_size = size;
	relay_worker_limit(&worker->relay, size);
	arm(worker, 0);
}

static void on_timer(struct loop_timer *timer)
{
	struct worker *worker = container_of(timer, struct worker, limits.timer);
	struct connection_limits *limits = &worker->limits;
	bool counts = counts_sockets(worker);
	uint64_t memory = 0;

	for (struct connection *connection = worker->connections; connection; connection = connection->next) {
		if (!connection->relay)
			continue;
		if (connection->buffer_size != limits->buffer_size)
			connection_limits_apply(connection);
		if (counts)
			memory += relay_socket_memory(connection->relay);
	}
	atomic_store_explicit(&worker->statistics.socket_memory, memory, memory_order_relaxed);
	if (counts && worker->connections)
		arm(worker, memory > share_of_budget(worker) / 4 ? COUNT_FAST_PACE_NS : COUNT_PACE_NS);
}

void connection_limits_start(struct worker *worker)
{
	worker->limits.timer.on_expire = on_timer;
	worker->limits.sized_for = SIZED_FOR_MIN;
}

void connection_limits_apply(struct connection *connection)
{
	uint32_t size = connection->worker->limits.buffer_size;

	if (connection->buffer_size == size)
		return;
	connection->buffer_size = size;
	relay_limit_buffers(connection->relay, size);
}

void connection_limits_enter(struct connection *connection)
{
	struct worker *worker = connection->worker;

	connection->gateway->connections++;
	if (!worker->options.budget)
		return;
	choose_size(worker);
	if (!worker->limits.timer.heap_index && counts_sockets(worker))
		arm(worker, COUNT_FAST_PACE_NS);
}

void connection_limits_leave(struct connection *connection)
{
	connection->gateway->connections--;
	if (connection->worker->options.budget)
		choose_size(connection->worker);
}
