/* SPDX-License-Identifier: GPL-2.0-only */
/* The mock kernel's calls that move bytes: recv, recvmsg, send, sendmsg, splice and the pipe's read. */
#include "mock_kernel_private.h"

#include <errno.h>
#include <linux/tls.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tls/record.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

static bool is_pipe(int fd, int end)
{
	return fd != -1 && fd == mock_current->worker->pipe[end];
}

/* -1 and errno when the queue does not begin with bytes; 0 at FIN, 1 at bytes. */
static int at_bytes(struct mock_socket *socket)
{
	struct mock_item *item = mock_front(socket);
	int error;

	if (!item) {
		if (socket->reset && !socket->reset_read) {
			socket->reset_read = true;
			return (int)mock_fail(socket->reset);
		}
		return socket->reset ? 0 : (int)mock_fail(EAGAIN);
	}
	if (item->kind == MOCK_ERROR) {
		error = item->error;
		mock_pop(socket);
		return (int)mock_fail(error);
	}
	return item->kind == MOCK_BYTES;
}

static size_t take(struct mock_item *item, void *buffer, size_t size)
{
	size_t step = item->size - item->taken < size ? item->size - item->taken : size;

	if (step)
		memcpy(buffer, item->bytes + item->taken, step);
	item->taken += step;
	return step;
}

static ssize_t take_stream(struct mock_socket *socket, void *buffer, size_t size)
{
	size_t done = 0;
	int at = at_bytes(socket);

	if (at <= 0)
		return at;
	while (done < size && mock_front(socket) && mock_front(socket)->kind == MOCK_BYTES) {
		done += take(mock_front(socket), (uint8_t *)buffer + done, size - done);
		if (mock_front(socket)->taken < mock_front(socket)->size)
			break;
		mock_pop(socket);
	}
	return (ssize_t)done;
}

static ssize_t mock_recv(int fd, void *buffer, size_t size, int flags)
{
	struct mock_socket *socket = mock_socket_of(fd, "recv");

	if (!socket)
		return mock_fail(EBADF);
	if (!(flags & MSG_DONTWAIT))
		mock_misuse("recv without MSG_DONTWAIT");
	if (socket->kernel_tls)
		mock_misuse("recv on a kTLS socket: control records would be EIO");
	socket->recv_calls++;
	return take_stream(socket, buffer, size);
}

/* recvmsg() decrypts the next record to learn its type, before it puts it aside. */
static void decrypt_ahead(struct mock_socket *socket)
{
	const struct mock_item *next = mock_front(socket);

	if (socket->hides_key_update && next && next->type == TLS_CONTENT_HANDSHAKE && next->size > 0 &&
	    next->bytes[0] == 24)
		socket->key_update_pending = true;
}

static ssize_t mock_recvmsg(int fd, struct msghdr *message, int flags)
{
	struct mock_socket *socket = mock_socket_of(fd, "recvmsg");
	uint8_t *buffer = message->msg_iov[0].iov_base;
	size_t size = message->msg_iov[0].iov_len;
	struct cmsghdr *control = CMSG_FIRSTHDR(message);
	size_t done = 0;
	unsigned int type;
	int at;

	if (!socket)
		return mock_fail(EBADF);
	if (!(flags & MSG_DONTWAIT))
		mock_misuse("recvmsg without MSG_DONTWAIT");
	if (!control || message->msg_controllen < CMSG_SPACE(1))
		mock_misuse("recvmsg without room for a cmsg");
	socket->recvmsg_calls++;
	message->msg_flags = 0;
	at = at_bytes(socket);
	if (at <= 0) {
		message->msg_controllen = 0;
		return at;
	}
	type = mock_front(socket)->type;
	while (done < size && mock_front(socket) && mock_front(socket)->kind == MOCK_BYTES &&
	       mock_front(socket)->type == type) {
		done += take(mock_front(socket), buffer + done, size - done);
		if (mock_front(socket)->taken < mock_front(socket)->size)
			break;
		mock_pop(socket);
		if (type != TLS_CONTENT_APPLICATION_DATA)
			break;
	}
	if (type == TLS_CONTENT_APPLICATION_DATA && done < size)
		decrypt_ahead(socket);
	if (socket->no_record_types) {
		message->msg_controllen = 0;
		return (ssize_t)done;
	}
	control->cmsg_level = SOL_TLS;
	control->cmsg_type = TLS_GET_RECORD_TYPE;
	control->cmsg_len = CMSG_LEN(1);
	*CMSG_DATA(control) = (uint8_t)type;
	message->msg_controllen = CMSG_SPACE(1);
	return (ssize_t)done;
}

static void append_out(struct mock_socket *socket, const uint8_t *bytes, size_t size)
{
	if (socket->out_size + size > socket->out_capacity) {
		socket->out_capacity = 2 * (socket->out_size + size);
		socket->out = realloc(socket->out, socket->out_capacity);
		if (!socket->out)
			abort();
	}
	memcpy(socket->out + socket->out_size, bytes, size);
	socket->out_size += size;
}

static void use_room(struct mock_socket *socket, size_t *waiting)
{
	size_t step = *waiting < socket->room ? *waiting : socket->room;

	*waiting -= step;
	if (socket->room != SIZE_MAX)
		socket->room -= step;
}

/* What a write of size bytes may take now; -1 and errno. */
static ssize_t may_write(struct mock_socket *socket, size_t size)
{
	if (socket->write_error) {
		int error = socket->write_error;

		socket->write_error = 0;
		return mock_fail(error);
	}
	if (socket->reset)
		return mock_fail(socket->reset_read ? EPIPE : socket->reset);
	if (socket->shut_for_writing)
		return mock_fail(EPIPE);
	use_room(socket, &socket->withheld);
	if (socket->room == 0)
		return mock_fail(EAGAIN);
	if (socket->call_limit && size > socket->call_limit)
		size = socket->call_limit;
	if (socket->kernel_transmit) {
		/* Records are taken whole while there is any room. */
		size_t records = socket->room / TLS_RECORD_PLAIN_MAX + 1;

		if (socket->room != SIZE_MAX && size > records * TLS_RECORD_PLAIN_MAX)
			size = records * TLS_RECORD_PLAIN_MAX;
	} else if (size > socket->room) {
		size = socket->room;
	}
	return (ssize_t)size;
}

static ssize_t write_bytes(struct mock_socket *socket, const uint8_t *bytes, size_t size)
{
	ssize_t step = may_write(socket, size);
	size_t waiting;

	if (step == -1)
		return -1;
	append_out(socket, bytes, (size_t)step);
	waiting = (size_t)step;
	use_room(socket, &waiting);
	socket->withheld += waiting;
	return step;
}

ssize_t mock_write_through(struct mock_socket *socket, const void *bytes, size_t size)
{
	return write_bytes(socket, bytes, size);
}

static ssize_t mock_send(int fd, const void *buffer, size_t size, int flags)
{
	struct mock_socket *socket = mock_socket_of(fd, "send");

	if (!socket)
		return mock_fail(EBADF);
	if ((flags & (MSG_DONTWAIT | MSG_NOSIGNAL)) != (MSG_DONTWAIT | MSG_NOSIGNAL) || (flags & MSG_MORE))
		mock_misuse("send with flags %#x", (unsigned int)flags);
	if (size == 0)
		mock_misuse("send of nothing");
	socket->send_calls++;
	socket->holds_back = false;
	return write_bytes(socket, buffer, size);
}

static ssize_t mock_sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct mock_socket *socket = mock_socket_of(fd, "sendmsg");
	const struct cmsghdr *header = CMSG_FIRSTHDR(message);
	struct mock_control *control;
	size_t waiting = message->msg_iov[0].iov_len;

	if (!socket)
		return mock_fail(EBADF);
	if (!socket->kernel_transmit || (flags & MSG_MORE) || !header || header->cmsg_level != SOL_TLS ||
	    header->cmsg_type != TLS_SET_RECORD_TYPE || header->cmsg_len != CMSG_LEN(1) ||
	    waiting > sizeof(control->bytes) || socket->control_count == MOCK_CONTROLS_MAX) {
		mock_misuse("sendmsg: not one control record");
		return mock_fail(EINVAL);
	}
	socket->send_calls++;
	if (may_write(socket, waiting) == -1)
		return -1;
	control = &socket->controls[socket->control_count++];
	control->type = *CMSG_DATA(header);
	control->size = waiting;
	control->at = socket->out_size;
	memcpy(control->bytes, message->msg_iov[0].iov_base, waiting);
	use_room(socket, &waiting);
	socket->withheld += waiting;
	return (ssize_t)control->size;
}

static ssize_t splice_in(struct mock_socket *socket, size_t size)
{
	struct mock_item *item;
	ssize_t got;
	int at;

	socket->splice_in_calls++;
	if (mock_current->pipe_size)
		mock_misuse("splice into a pipe that holds %zu bytes", mock_current->pipe_size);
	if (size > mock_current->worker->pipe_size)
		mock_misuse("splice of %zu bytes, the pipe takes %zu", size, mock_current->worker->pipe_size);
	if (socket->splice_in_error)
		return mock_fail(socket->splice_in_error);
	if (!socket->kernel_tls) {
		got = take_stream(socket, mock_current->pipe, size);
		if (got > 0)
			mock_current->pipe_size = (size_t)got;
		return got;
	}
	at = at_bytes(socket);
	if (at <= 0)
		return at;
	item = mock_front(socket);
	if (item->type != TLS_CONTENT_APPLICATION_DATA)
		return mock_fail(EINVAL);
	got = (ssize_t)take(item, mock_current->pipe, size);
	if (item->taken == item->size)
		mock_pop(socket);
	mock_current->pipe_size = (size_t)got;
	return got;
}

static ssize_t splice_out(struct mock_socket *socket, size_t size)
{
	ssize_t moved;

	socket->splice_out_calls++;
	if (size > mock_current->pipe_size)
		mock_misuse("splice of %zu bytes out of a pipe of %zu", size, mock_current->pipe_size);
	if (socket->splice_out_error)
		return mock_fail(socket->splice_out_error);
	moved = write_bytes(socket, mock_current->pipe,
	                    size < mock_current->pipe_size ? size : mock_current->pipe_size);
	if (moved > 0) {
		mock_current->pipe_size -= (size_t)moved;
		memmove(mock_current->pipe, mock_current->pipe + moved, mock_current->pipe_size);
		socket->holds_back = mock_current->pipe_size > 0;
	}
	return moved;
}

static ssize_t mock_splice(int in, int out, size_t size, unsigned int flags)
{
	struct mock_socket *socket = mock_socket_of(is_pipe(out, 1) ? in : out, "splice");

	if (!socket)
		return mock_fail(EBADF);
	if (flags != 2 /* SPLICE_F_NONBLOCK */)
		mock_misuse("splice with flags %#x", flags);
	if (is_pipe(out, 1))
		return splice_in(socket, size);
	if (is_pipe(in, 0))
		return splice_out(socket, size);
	mock_misuse("splice without the pipe");
	return mock_fail(EINVAL);
}

static ssize_t mock_read(int fd, void *buffer, size_t size)
{
	if (!is_pipe(fd, 0)) {
		mock_misuse("read of something else than the pipe");
		return mock_fail(EBADF);
	}
	if (mock_current->pipe_read_error) {
		int error = mock_current->pipe_read_error;

		mock_current->pipe_read_error = 0;
		mock_current->pipe_size = 0; /* the relay replaces the pipe: its bytes are gone with it */
		return mock_fail(error);
	}
	if (mock_current->pipe_size == 0)
		return mock_fail(EAGAIN);
	if (size > mock_current->pipe_size)
		size = mock_current->pipe_size;
	memcpy(buffer, mock_current->pipe, size);
	mock_current->pipe_size -= size;
	memmove(mock_current->pipe, mock_current->pipe + size, mock_current->pipe_size);
	return (ssize_t)size;
}

/* After a success errno is unspecified (POSIX): here it is nonsense, so that nobody relies on it. */
static ssize_t spoil(ssize_t result)
{
	if (result >= 0)
		errno = EDOM;
	return result;
}

static ssize_t spoiled_recv(int fd, void *buffer, size_t size, int flags)
{
	return spoil(mock_recv(fd, buffer, size, flags));
}

static ssize_t spoiled_send(int fd, const void *buffer, size_t size, int flags)
{
	return spoil(mock_send(fd, buffer, size, flags));
}

static ssize_t spoiled_recvmsg(int fd, struct msghdr *message, int flags)
{
	return spoil(mock_recvmsg(fd, message, flags));
}

static ssize_t spoiled_sendmsg(int fd, const struct msghdr *message, int flags)
{
	return spoil(mock_sendmsg(fd, message, flags));
}

static ssize_t spoiled_splice(int in, int out, size_t size, unsigned int flags)
{
	return spoil(mock_splice(in, out, size, flags));
}

static ssize_t spoiled_read(int fd, void *buffer, size_t size)
{
	return spoil(mock_read(fd, buffer, size));
}

const struct kernel_io mock_kernel_io = {
        .recv = spoiled_recv,
        .send = spoiled_send,
        .recvmsg = spoiled_recvmsg,
        .sendmsg = spoiled_sendmsg,
        .splice = spoiled_splice,
        .read = spoiled_read,
        .getsockopt = mock_getsockopt,
        .setsockopt = mock_setsockopt,
        .input_size = mock_input_size,
        .shutdown = mock_shutdown,
        .close = mock_close,
};
