// SPDX-License-Identifier: GPL-2.0-only
#include "datapath/worker.h"

void worker_totals(struct worker *const *workers, size_t count, struct worker_statistics *sum)
{
	*sum = (struct worker_statistics){0};
	for (size_t i = 0; i < count; i++) {
		struct worker_statistics one = {0};

		worker_statistics(workers[i], &one);
		sum->attempts += one.attempts;
		sum->attempts_live += one.attempts_live;
		sum->connections += one.connections;
		sum->connections_live += one.connections_live;
		sum->handshakes_full += one.handshakes_full;
		sum->handshakes_resumed += one.handshakes_resumed;
		sum->bytes_to_backend += one.bytes_to_backend;
		sum->bytes_to_gateway += one.bytes_to_gateway;
		sum->tickets_dropped += one.tickets_dropped;
		sum->lane_connections += one.lane_connections;
		sum->socket_memory += one.socket_memory;
		sum->verified_again += one.verified_again;
		sum->draining += one.draining;
		sum->handed_over += one.handed_over;
		sum->taken_over += one.taken_over;
	}
}
