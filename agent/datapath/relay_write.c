/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Writing to a sink (B for the direction to the backend, A for the other), and the rest that a short write leaves.
 *
 * A rest is kept in memory of the connection, also when it was spliced: a blocked splice-out is followed by a read that
 * empties the worker's pipe into the worker's buffer. The other way would be to give the pipe to the connection and
 * make a new one: it saves one copy in the rare moment that the sink is full, and costs two descriptors and a quota of
 * pipe pages (fs.pipe-user-pages-soft) per slow reader, at the moment when a failure would lose bytes already taken.
 */
#include "datapath/relay_internal.h"
#include "datapath/traffic.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include <openssl/crypto.h>

#define AES_BLOCK 16
/* Per record: the tag's mask E(J0), and the block that the inner content type of TLS 1.3 may begin. */
#define BLOCKS_PER_RECORD 2
#define RECORD_PLAIN_MAX  (16u << 10)

static int sink_fd(const struct relay *relay, const struct relay_direction *direction)
{
	return direction->to_backend ? relay->b_fd : relay->a_fd;
}

static bool through_session(const struct relay_direction *direction)
{
	return direction->to_backend && direction->mode == RELAY_USER_TLS;
}

void relay_rest_free(struct relay_rest *rest)
{
	/* Plaintext of a connection whose other side is encrypted. */
	OPENSSL_clear_free(rest->bytes, rest->size);
	*rest = (struct relay_rest){0};
}

static void set_blocked(struct relay *relay, const struct relay_direction *direction, bool blocked)
{
	if (blocked && relay->traffic)
		traffic_add(direction->to_backend ? &relay->traffic->stalls_to_backend
		                                  : &relay->traffic->stalls_to_gateway,
		            1);
	if (direction->to_backend)
		relay->transmit = blocked ? TRANSMIT_BLOCKED : TRANSMIT_FLOWING;
	else
		relay->receive = blocked ? RECEIVE_BLOCKED : RECEIVE_FLOWING;
}

static void count_moved(struct relay *relay, struct relay_direction *direction, size_t size)
{
	direction->bytes += size;
	if (relay->traffic)
		traffic_add(direction->to_backend ? &relay->traffic->bytes_to_backend
		                                  : &relay->traffic->bytes_to_gateway,
		            size);
	direction->moved_ns = loop_now_ns(relay->worker->loop);
	relay->awaits_answer = direction->to_backend;
}

/* The write failed with a positive errno. */
static void sink_failed(struct relay *relay, const struct relay_direction *direction, const char *call, int error)
{
	/*
	 * A backend may answer early and close (an error page to a large upload): its reset follows its answer. What it
	 * said before is passed on, as the gateway would read it if it talked to the backend itself.
	 */
	if (direction->to_backend && !through_session(direction) && (error == ECONNRESET || error == EPIPE)) {
		relay_receive_last_words(relay);
		if (relay->ended)
			return;
	}
	relay_fail_call(relay, call, direction->to_backend, error);
}

/* One write: what was taken; 0: the sink is full; -1: the connection has ended. */
static ssize_t write_once(struct relay *relay, struct relay_direction *direction, const uint8_t *bytes, size_t size)
{
	ssize_t taken;

	if (through_session(direction)) {
		taken = tls_session_write(relay->session, bytes, size);
		if (taken >= 0 || taken == -EAGAIN)
			return taken > 0 ? taken : 0;
		relay_fail_session(relay);
		return -1;
	}
	do
		/* Never MSG_MORE: kTLS would hold the last record back. */
		taken = relay->worker->io->send(sink_fd(relay, direction), bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (taken == -1 && errno == EINTR);
	if (taken >= 0 || errno == EAGAIN)
		return taken > 0 ? taken : 0;
	sink_failed(relay, direction, "send", errno);
	return -1;
}

/*
 * Write until all is taken or the sink is full. Returns what was taken; -1: the connection has ended. The session wants
 * the same bytes again after -EAGAIN: a rest keeps them.
 */
static ssize_t write_some(struct relay *relay, struct relay_direction *direction, const uint8_t *bytes, size_t size)
{
	size_t done = 0;

	if (direction->to_backend && !relay_finish_key_update(relay))
		return relay->ended ? -1 : 0;
	while (done < size) {
		ssize_t taken = write_once(relay, direction, bytes + done, size - done);

		if (taken < 0)
			return -1;
		if (taken == 0)
			break;
		done += (size_t)taken;
		/* A short write means that the sink is full: the next one would say EAGAIN. OpenSSL goes by records. */
		if (!through_session(direction) && done < size)
			break;
	}
	if (done > 0)
		count_moved(relay, direction, done);
	return (ssize_t)done;
}

static bool keep_rest(struct relay *relay, struct relay_direction *direction, const uint8_t *bytes, size_t size)
{
	uint64_t stall_ns = relay->worker->timeouts.stall_ns;

	direction->rest.bytes = OPENSSL_malloc(size);
	if (!direction->rest.bytes) {
		relay_fail(relay, REASON_NO_MEMORY, "no buffer of %zu bytes for a blocked write", size);
		return false;
	}
	memcpy(direction->rest.bytes, bytes, size);
	direction->rest.size = size;
	direction->rest.offset = 0;
	set_blocked(relay, direction, true);
	/* The time in which nothing moved begins now, however long the connection was idle before. */
	direction->moved_ns = monotonic_ns();
	if (stall_ns && !relay->stall_timer.due_ns &&
	    loop_timer_set(relay->worker->loop, &relay->stall_timer, stall_ns)) {
		relay_fail(relay, REASON_NO_MEMORY, "no stall timer");
		return false;
	}
	return true;
}

bool relay_write(struct relay *relay, struct relay_direction *direction, const uint8_t *bytes, size_t size)
{
	ssize_t taken = write_some(relay, direction, bytes, size);

	if (taken < 0)
		return false;
	if ((size_t)taken == size)
		return true;
	return keep_rest(relay, direction, bytes + taken, size - (size_t)taken);
}

/*
 * A splice that leaves something in the pipe has said MSG_MORE of what it wrote, and TCP holds the last of that back
 * for what comes next. Where it fills the socket (6.1, SO_SNDBUF of 4 KB: one record), the socket is never writable
 * again, and what comes next never comes. Setting TCP_NODELAY pushes what is held (tcp_sock_set_nodelay()), set or not.
 */
static void push_held(const struct relay *relay, const struct relay_direction *direction)
{
	const int on = 1;

	(void)relay->worker->io->setsockopt(sink_fd(relay, direction), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

bool relay_write_pipe(struct relay *relay, struct relay_direction *direction, size_t size)
{
	struct relay_worker *worker = relay->worker;
	bool held = direction->to_backend && !relay_finish_key_update(relay);

	if (held && relay->ended) {
		(void)relay_worker_empty_pipe(worker, size);
		return false;
	}
	while (size > 0) {
		/* Never SPLICE_F_MORE, for the same reason as MSG_MORE. */
		ssize_t moved = held ? -1
		                     : worker->io->splice(worker->pipe[0], sink_fd(relay, direction), size,
		                                          SPLICE_F_NONBLOCK);
		int error = held ? EAGAIN : errno;

		if (moved > 0) {
			size -= (size_t)moved;
			count_moved(relay, direction, (size_t)moved);
			continue;
		}
		if (moved == -1 && error == EINTR)
			continue;
		if (!relay_worker_empty_pipe(worker, size)) {
			relay_fail(relay, REASON_RELAY_ERROR, "the pipe could not be emptied");
			return false;
		}
		if (moved == -1 && error == EAGAIN) {
			push_held(relay, direction);
			return keep_rest(relay, direction, worker->buffer, size);
		}
		if (moved == -1 && error == EINVAL) {
			/* The sink takes no splice: copy from now on. */
			direction->may_splice = direction->splicing = false;
			return relay_write(relay, direction, worker->buffer, size);
		}
		sink_failed(relay, direction, "splice", moved == 0 ? EIO : error);
		return false;
	}
	return true;
}

bool relay_flush(struct relay *relay, struct relay_direction *direction)
{
	struct relay_rest *rest = &direction->rest;
	ssize_t taken = write_some(relay, direction, rest->bytes + rest->offset, rest->size - rest->offset);

	if (taken < 0)
		return false;
	rest->offset += (size_t)taken;
	if (rest->offset < rest->size)
		return false;
	relay_rest_free(rest);
	set_blocked(relay, direction, false);
	return true;
}

/*
 * Our own key changes before these blocks are sealed; the backend is asked to change its key in good time. False: the
 * connection has ended.
 */
static bool change_key_in_time(struct relay *relay, struct relay_direction *direction, uint64_t blocks, uint64_t limit)
{
	if (!relay_can_rekey(relay, direction))
		return true;
	if (direction->to_backend) {
		if (direction->key_blocks <= limit)
			return true;
		direction->key_blocks = blocks;
		return relay_begin_key_update(relay, false);
	}
	if (relay->update_wanted || direction->key_blocks <= limit - limit / 8)
		return true;
	relay->update_wanted = true;
	return relay_begin_key_update(relay, true);
}

bool relay_count_blocks(struct relay *relay, struct relay_direction *direction, size_t size)
{
	uint64_t limit = relay->worker->aead_limit_blocks;
	uint64_t records = (size + RECORD_PLAIN_MAX - 1) / RECORD_PLAIN_MAX;
	uint64_t blocks = (size + AES_BLOCK - 1) / AES_BLOCK + records * BLOCKS_PER_RECORD;

	if (!relay->limits_key)
		return true;
	if (limit == 0)
		limit = RELAY_AEAD_LIMIT_BLOCKS;
	direction->key_blocks += blocks;
	if (!change_key_in_time(relay, direction, blocks, limit))
		return false;
	if (direction->key_blocks <= limit)
		return true;
	relay_fail(relay, REASON_KEY_LIMIT, "%s", direction->to_backend ? "write key" : "read key");
	return false;
}

void relay_choose_splice(struct relay_direction *direction, size_t size)
{
	if (!direction->may_splice)
		return;
	if (direction->splicing)
		direction->splicing = size >= RELAY_SPLICE_UNTIL;
	else
		direction->splicing = size >= RELAY_SPLICE_FROM;
}
