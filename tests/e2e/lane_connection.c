/* SPDX-License-Identifier: GPL-2.0-only */
#include "lane_connection.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

static uint8_t scratch[1 << 20];
static int pattern_file;

uint8_t lane_pattern(uint64_t position)
{
	uint64_t mixed = (position + 1) * 0x9e3779b97f4a7c15u;

	return (uint8_t)(mixed >> 56);
}

int lane_make_pattern(void)
{
	pattern_file = memfd_create("pattern", MFD_CLOEXEC);
	for (uint64_t position = 0; position < LANE_PATTERN_SIZE; position += sizeof(scratch)) {
		for (size_t i = 0; i < sizeof(scratch); i++)
			scratch[i] = lane_pattern(position + i);
		if (write(pattern_file, scratch, sizeof(scratch)) != (ssize_t)sizeof(scratch))
			_exit(1);
	}
	return pattern_file;
}

void lane_close(struct lane *lane)
{
	if (lane->g >= 0)
		close(lane->g);
	if (lane->a >= 0)
		close(lane->a);
}

void lane_offer(struct fixture *fixture, struct lane *lane)
{
	const struct postern_connect_record *connect = await_record(fixture, POSTERN_RECORD_CONNECT, lane->port, 0,
	                                                            PATIENCE_MS);

	if (!expect_number(fixture, "a CONNECT record", 1, connect != NULL))
		return;
	lane->cookie = connect->socket.cookie;
	lane->slot = &hooks_lane_slots(fixture->hooks)[LANE_SLOT];
	memset(lane->slot, 0, sizeof(*lane->slot));
	expect_error(fixture, "hooks_lane_offer()", 0, -hooks_lane_offer(fixture->hooks, lane->cookie, LANE_SLOT));
}

void lane_join(struct fixture *fixture, struct lane *lane)
{
	expect_error(fixture, "hooks_lane_join_agent()", 0,
	             -hooks_lane_join_agent(fixture->hooks, lane->cookie, lane->a));
}

struct lane lane_start(struct fixture *fixture, int g)
{
	struct lane lane = {.g = g, .a = -1};

	forget_records(fixture); /* of one before that had the same port */
	dial(g, LANE_TARGET, 443);
	lane.port = local_port(g);
	lane_offer(fixture, &lane);
	lane.a = establish(fixture, g);
	fcntl(lane.a, F_SETFL, O_NONBLOCK);
	return lane;
}

size_t lane_send(struct lane *lane, size_t size)
{
	size = size < sizeof(scratch) ? size : sizeof(scratch);
	for (size_t i = 0; i < size; i++)
		scratch[i] = lane_pattern(lane->sent + i);
	ssize_t sent = send(lane->g, scratch, size, MSG_NOSIGNAL);
	lane->sent += sent > 0 ? (size_t)sent : 0;
	return sent > 0 ? (size_t)sent : 0;
}

size_t lane_sendfile(struct lane *lane, size_t size)
{
	off_t offset = (off_t)lane->sent;
	ssize_t sent = sendfile(lane->g, pattern_file, &offset, size);

	lane->sent += sent > 0 ? (size_t)sent : 0;
	return sent > 0 ? (size_t)sent : 0;
}

size_t lane_splice(struct lane *lane, size_t size)
{
	int ends[2];
	ssize_t sent = 0;

	if (pipe2(ends, O_CLOEXEC) == -1)
		return 0;
	size = size < 4096 ? size : 4096;
	for (size_t i = 0; i < size; i++)
		scratch[i] = lane_pattern(lane->sent + i);
	if (write(ends[1], scratch, size) == (ssize_t)size)
		sent = splice(ends[0], NULL, lane->g, NULL, size, SPLICE_F_NONBLOCK);
	close(ends[0]);
	close(ends[1]);
	lane->sent += sent > 0 ? (size_t)sent : 0;
	return sent > 0 ? (size_t)sent : 0;
}

long lane_receive(struct fixture *fixture, struct lane *lane, size_t size)
{
	ssize_t length = recv(lane->a, scratch, size < sizeof(scratch) ? size : sizeof(scratch), MSG_DONTWAIT);

	if (length == 0)
		return -1;
	if (length < 0)
		return 0;
	for (ssize_t i = 0; i < length; i++) {
		uint64_t position = lane->received + (uint64_t)i;

		if (scratch[i] == lane_pattern(position))
			continue;
		printf("     byte %llu: expected %u, seen %u\n", (unsigned long long)position, lane_pattern(position),
		       scratch[i]);
		expect_number(fixture, "bytes in their place", 1, 0);
		_exit(1);
	}
	lane->received += (uint64_t)length;
	__atomic_fetch_add(&lane->slot->agent_read, (uint64_t)length, __ATOMIC_SEQ_CST);
	return length;
}

void lane_receive_all(struct fixture *fixture, struct lane *lane)
{
	while (lane->received < lane->sent) {
		struct pollfd wait = {.fd = lane->a, .events = POLLIN};

		if (lane_receive(fixture, lane, sizeof(scratch)) <= 0 && poll(&wait, 1, PATIENCE_MS) != 1)
			break;
	}
	expect_number(fixture, "bytes received", (long long)lane->sent, (long long)lane->received);
}
