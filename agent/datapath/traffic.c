/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/traffic.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A row's place stays the same while it is in use, and its cells are those of the same index. */
struct row_key {
	bool used;
	bool gone; /* its gateway is */
	enum traffic_mode mode;
	char gateway[TRAFFIC_NAME_MAX];
	char policy[TRAFFIC_NAME_MAX];
};

struct gateway_key {
	bool used;
	char gateway[TRAFFIC_NAME_MAX];
};

struct traffic {
	pthread_mutex_t lock; /* of the keys; cells need none */
	unsigned int worker_count;
	uint64_t folded;
	struct row_key rows[TRAFFIC_ROWS_SHOWN]; /* the last ones are "other", one for each mode */
	struct gateway_key gateways[TRAFFIC_GATEWAYS_SHOWN];
	struct traffic_connections *connections; /* [row][worker] */
	struct traffic_handshakes *handshakes;   /* [gateway][worker] */
};

const uint32_t traffic_bucket_us[TRAFFIC_BUCKETS] = {
        500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 5000000,
};

const char *traffic_mode_name(enum traffic_mode mode)
{
	switch (mode) {
	case TRAFFIC_KERNEL_TLS:
		return "kernel_tls";
	case TRAFFIC_USER_TLS:
		return "user_tls";
	case TRAFFIC_PLAIN:
		return "plain";
	case TRAFFIC_MODES:
		break;
	}
	return "unknown";
}

struct traffic *traffic_new(unsigned int worker_count)
{
	struct traffic *traffic = calloc(1, sizeof(*traffic));

	if (!traffic)
		return NULL;
	traffic->worker_count = worker_count;
	traffic->connections = calloc((size_t)TRAFFIC_ROWS_SHOWN * worker_count, sizeof(*traffic->connections));
	traffic->handshakes = calloc((size_t)TRAFFIC_GATEWAYS_SHOWN * worker_count, sizeof(*traffic->handshakes));
	if (!traffic->connections || !traffic->handshakes) {
		free(traffic->connections);
		free(traffic->handshakes);
		free(traffic);
		return NULL;
	}
	pthread_mutex_init(&traffic->lock, NULL);
	for (unsigned int mode = 0; mode < TRAFFIC_MODES; mode++) {
		traffic->rows[TRAFFIC_ROWS + mode] = (struct row_key){
		        .mode = (enum traffic_mode)mode,
		        .gateway = TRAFFIC_OTHER,
		        .policy = TRAFFIC_OTHER,
		};
	}
	traffic->gateways[TRAFFIC_GATEWAYS] = (struct gateway_key){.gateway = TRAFFIC_OTHER};
	return traffic;
}

void traffic_free(struct traffic *traffic)
{
	if (!traffic)
		return;
	pthread_mutex_destroy(&traffic->lock);
	free(traffic->connections);
	free(traffic->handshakes);
	free(traffic);
}

static struct traffic_connections *connections_of(struct traffic *traffic, size_t row)
{
	return &traffic->connections[row * traffic->worker_count];
}

static struct traffic_handshakes *handshakes_of(struct traffic *traffic, size_t gateway)
{
	return &traffic->handshakes[gateway * traffic->worker_count];
}

static bool has_live(struct traffic *traffic, size_t row)
{
	const struct traffic_connections *cells = connections_of(traffic, row);

	for (unsigned int i = 0; i < traffic->worker_count; i++) {
		if (atomic_load_explicit(&cells[i].live, memory_order_relaxed))
			return true;
	}
	return false;
}

static void clear(_Atomic uint64_t *cell)
{
	atomic_store_explicit(cell, 0, memory_order_relaxed);
}

static void clear_row(struct traffic *traffic, size_t row)
{
	struct traffic_connections *cells = connections_of(traffic, row);

	for (unsigned int i = 0; i < traffic->worker_count; i++) {
		clear(&cells[i].begun);
		clear(&cells[i].bytes_to_backend);
		clear(&cells[i].bytes_to_gateway);
		clear(&cells[i].cpu_ns);
		clear(&cells[i].stalls_to_backend);
		clear(&cells[i].stalls_to_gateway);
	}
}

static void clear_gateway(struct traffic *traffic, size_t gateway)
{
	struct traffic_handshakes *cells = handshakes_of(traffic, gateway);

	for (unsigned int i = 0; i < traffic->worker_count; i++) {
		for (size_t bucket = 0; bucket <= TRAFFIC_BUCKETS; bucket++)
			clear(&cells[i].bucket[bucket]);
		clear(&cells[i].sum_ns);
		clear(&cells[i].cpu_ns);
	}
}

static bool is_row(const struct row_key *row, const char *gateway, const char *policy, enum traffic_mode mode)
{
	return row->used && row->mode == mode && strcmp(row->policy, policy) == 0 && strcmp(row->gateway, gateway) == 0;
}

/* A place that nobody counts in: one that never was used, else one of a gateway that is gone. TRAFFIC_ROWS: none. */
static size_t free_row(struct traffic *traffic)
{
	for (size_t i = 0; i < TRAFFIC_ROWS; i++) {
		if (!traffic->rows[i].used)
			return i;
	}
	for (size_t i = 0; i < TRAFFIC_ROWS; i++) {
		if (!traffic->rows[i].gone || has_live(traffic, i))
			continue;
		clear_row(traffic, i);
		return i;
	}
	return TRAFFIC_ROWS;
}

/* Under the lock. The index of the row, or of the "other" one. */
static size_t find_row(struct traffic *traffic, const char *gateway, const char *policy, enum traffic_mode mode)
{
	size_t place;

	for (size_t i = 0; i < TRAFFIC_ROWS; i++) {
		if (is_row(&traffic->rows[i], gateway, policy, mode)) {
			traffic->rows[i].gone = false;
			return i;
		}
	}
	place = free_row(traffic);
	if (place == TRAFFIC_ROWS) {
		traffic->folded++;
		traffic->rows[TRAFFIC_ROWS + mode].used = true;
		return TRAFFIC_ROWS + mode;
	}
	traffic->rows[place] = (struct row_key){.used = true, .mode = mode};
	(void)snprintf(traffic->rows[place].gateway, TRAFFIC_NAME_MAX, "%s", gateway);
	(void)snprintf(traffic->rows[place].policy, TRAFFIC_NAME_MAX, "%s", policy);
	return place;
}

struct traffic_connections *traffic_begin(struct traffic *traffic, unsigned int worker, const char *gateway,
                                          const char *policy, enum traffic_mode mode)
{
	struct traffic_connections *cells;

	if (!traffic)
		return NULL;
	pthread_mutex_lock(&traffic->lock);
	cells = &connections_of(traffic, find_row(traffic, gateway, policy, mode))[worker];
	traffic_add(&cells->begun, 1);
	traffic_add(&cells->live, 1);
	pthread_mutex_unlock(&traffic->lock);
	return cells;
}

void traffic_end(struct traffic_connections *connections)
{
	if (connections)
		traffic_add(&connections->live, (uint64_t)-1);
}

struct traffic_handshakes *traffic_of_gateway(struct traffic *traffic, unsigned int worker, const char *gateway)
{
	size_t place = TRAFFIC_GATEWAYS;
	struct traffic_handshakes *cells;

	if (!traffic)
		return NULL;
	pthread_mutex_lock(&traffic->lock);
	for (size_t i = TRAFFIC_GATEWAYS; i-- > 0;) {
		if (!traffic->gateways[i].used) {
			place = i;
		} else if (strcmp(traffic->gateways[i].gateway, gateway) == 0) {
			place = i;
			break;
		}
	}
	if (place == TRAFFIC_GATEWAYS)
		traffic->folded++;
	else
		(void)snprintf(traffic->gateways[place].gateway, TRAFFIC_NAME_MAX, "%s", gateway);
	traffic->gateways[place].used = true;
	cells = &handshakes_of(traffic, place)[worker];
	pthread_mutex_unlock(&traffic->lock);
	return cells;
}

void traffic_handshake(struct traffic_handshakes *handshakes, uint64_t duration_ns)
{
	size_t bucket = 0;

	if (!handshakes)
		return;
	while (bucket < TRAFFIC_BUCKETS && duration_ns > traffic_bucket_us[bucket] * 1000ull)
		bucket++;
	traffic_add(&handshakes->bucket[bucket], 1);
	traffic_add(&handshakes->sum_ns, duration_ns);
}

void traffic_forget_gateway(struct traffic *traffic, const char *gateway)
{
	if (!traffic)
		return;
	pthread_mutex_lock(&traffic->lock);
	for (size_t i = 0; i < TRAFFIC_ROWS; i++) {
		if (traffic->rows[i].used && strcmp(traffic->rows[i].gateway, gateway) == 0)
			traffic->rows[i].gone = true;
	}
	for (size_t i = 0; i < TRAFFIC_GATEWAYS; i++) {
		if (!traffic->gateways[i].used || strcmp(traffic->gateways[i].gateway, gateway) != 0)
			continue;
		traffic->gateways[i].used = false;
		clear_gateway(traffic, i);
	}
	pthread_mutex_unlock(&traffic->lock);
}

uint64_t traffic_cpu_ns(void)
{
	struct timespec time;

	if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) == -1)
		return 0;
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static uint64_t read_cell(const _Atomic uint64_t *cell)
{
	return atomic_load_explicit(cell, memory_order_relaxed);
}

size_t traffic_rows(struct traffic *traffic, struct traffic_row rows[static TRAFFIC_ROWS_SHOWN])
{
	size_t count = 0;

	pthread_mutex_lock(&traffic->lock);
	for (size_t i = 0; i < TRAFFIC_ROWS_SHOWN; i++) {
		const struct traffic_connections *cells = connections_of(traffic, i);
		struct traffic_row *row = &rows[count];

		if (!traffic->rows[i].used)
			continue;
		*row = (struct traffic_row){.mode = traffic->rows[i].mode};
		memcpy(row->gateway, traffic->rows[i].gateway, sizeof(row->gateway));
		memcpy(row->policy, traffic->rows[i].policy, sizeof(row->policy));
		for (unsigned int worker = 0; worker < traffic->worker_count; worker++) {
			row->begun += read_cell(&cells[worker].begun);
			row->live += read_cell(&cells[worker].live);
			row->bytes_to_backend += read_cell(&cells[worker].bytes_to_backend);
			row->bytes_to_gateway += read_cell(&cells[worker].bytes_to_gateway);
			row->stalls_to_backend += read_cell(&cells[worker].stalls_to_backend);
			row->stalls_to_gateway += read_cell(&cells[worker].stalls_to_gateway);
		}
		count++;
	}
	pthread_mutex_unlock(&traffic->lock);
	return count;
}

/* Under the lock. Of all rows of the gateway; of those that have no place of their own for "other". */
static uint64_t relay_cpu_of(struct traffic *traffic, const char *gateway)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < TRAFFIC_ROWS_SHOWN; i++) {
		const struct traffic_connections *cells = connections_of(traffic, i);

		if (!traffic->rows[i].used || strcmp(traffic->rows[i].gateway, gateway) != 0)
			continue;
		for (unsigned int worker = 0; worker < traffic->worker_count; worker++)
			sum += read_cell(&cells[worker].cpu_ns);
	}
	return sum;
}

size_t traffic_gateway_rows(struct traffic *traffic, struct traffic_gateway_row rows[static TRAFFIC_GATEWAYS_SHOWN])
{
	size_t count = 0;

	pthread_mutex_lock(&traffic->lock);
	for (size_t i = 0; i < TRAFFIC_GATEWAYS_SHOWN; i++) {
		const struct traffic_handshakes *cells = handshakes_of(traffic, i);
		struct traffic_gateway_row *row = &rows[count];

		if (!traffic->gateways[i].used)
			continue;
		*row = (struct traffic_gateway_row){
		        .relay_cpu_ns = relay_cpu_of(traffic, traffic->gateways[i].gateway)};
		memcpy(row->gateway, traffic->gateways[i].gateway, sizeof(row->gateway));
		for (unsigned int worker = 0; worker < traffic->worker_count; worker++) {
			for (size_t bucket = 0; bucket <= TRAFFIC_BUCKETS; bucket++)
				row->bucket[bucket] += read_cell(&cells[worker].bucket[bucket]);
			row->sum_ns += read_cell(&cells[worker].sum_ns);
			row->handshake_cpu_ns += read_cell(&cells[worker].cpu_ns);
		}
		count++;
	}
	pthread_mutex_unlock(&traffic->lock);
	return count;
}

uint64_t traffic_folded(struct traffic *traffic)
{
	uint64_t folded;

	pthread_mutex_lock(&traffic->lock);
	folded = traffic->folded;
	pthread_mutex_unlock(&traffic->lock);
	return folded;
}
