/* SPDX-License-Identifier: GPL-2.0-only */
#include "mock_kernel_io.h"

#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tls/record.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define ROUNDS_MAX 20000 /* more than any test needs to come to rest */

static struct mock_kernel *current;

static void misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void misuse(const char *format, ...)
{
	va_list arguments;

	if (current->misuse[0])
		return;
	va_start(arguments, format);
	vsnprintf(current->misuse, sizeof(current->misuse), format, arguments);
	va_end(arguments);
}

static ssize_t fail(int error)
{
	errno = error;
	return -1;
}

static struct mock_socket *socket_of(int fd, const char *call)
{
	if (fd == current->a.fd && !current->a.closed)
		return &current->a;
	if (fd == current->b.fd && !current->b.closed)
		return &current->b;
	misuse("%s(%d): not a socket of ours, or closed", call, fd);
	return NULL;
}

static bool is_pipe(int fd, int end)
{
	return fd != -1 && fd == current->worker->pipe[end];
}

static struct mock_item *front(struct mock_socket *socket)
{
	return socket->count ? &socket->items[socket->first % MOCK_ITEMS_MAX] : NULL;
}

static void pop(struct mock_socket *socket)
{
	free(front(socket)->bytes);
	socket->first++;
	socket->count--;
}

static struct mock_item *push(struct mock_socket *socket, enum mock_item_kind kind)
{
	struct mock_item *item = &socket->items[(socket->first + socket->count) % MOCK_ITEMS_MAX];

	if (socket->count == MOCK_ITEMS_MAX)
		abort();
	socket->count++;
	*item = (struct mock_item){.kind = kind};
	return item;
}

void mock_feed_record(struct mock_socket *socket, unsigned int type, const void *bytes, size_t size)
{
	struct mock_item *item = push(socket, MOCK_BYTES);

	item->type = type;
	item->bytes = malloc(size ? size : 1);
	if (!item->bytes)
		abort();
	if (size)
		memcpy(item->bytes, bytes, size);
	item->size = size;
}

void mock_feed(struct mock_socket *socket, const void *bytes, size_t size)
{
	mock_feed_record(socket, TLS_CONTENT_APPLICATION_DATA, bytes, size);
}

void mock_feed_fin(struct mock_socket *socket)
{
	(void)push(socket, MOCK_FIN);
}

void mock_feed_error(struct mock_socket *socket, int error)
{
	push(socket, MOCK_ERROR)->error = error;
}

void mock_reset(struct mock_socket *socket, int error)
{
	socket->reset = error;
}

void mock_take_one(struct mock_socket *socket)
{
	if (front(socket) && front(socket)->kind == MOCK_BYTES)
		pop(socket);
}

size_t mock_unread(const struct mock_socket *socket)
{
	size_t unread = 0;

	for (size_t i = 0; i < socket->count; i++) {
		const struct mock_item *item = &socket->items[(socket->first + i) % MOCK_ITEMS_MAX];

		unread += item->size - item->taken;
	}
	return unread;
}

/* -1 and errno when the queue does not begin with bytes; 0 at FIN, 1 at bytes. */
static int at_bytes(struct mock_socket *socket)
{
	struct mock_item *item = front(socket);
	int error;

	if (!item) {
		if (socket->reset && !socket->reset_read) {
			socket->reset_read = true;
			return (int)fail(socket->reset);
		}
		return socket->reset ? 0 : (int)fail(EAGAIN);
	}
	if (item->kind == MOCK_ERROR) {
		error = item->error;
		pop(socket);
		return (int)fail(error);
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
	while (done < size && front(socket) && front(socket)->kind == MOCK_BYTES) {
		done += take(front(socket), (uint8_t *)buffer + done, size - done);
		if (front(socket)->taken < front(socket)->size)
			break;
		pop(socket);
	}
	return (ssize_t)done;
}

static ssize_t mock_recv(int fd, void *buffer, size_t size, int flags)
{
	struct mock_socket *socket = socket_of(fd, "recv");

	if (!socket)
		return fail(EBADF);
	if (!(flags & MSG_DONTWAIT))
		misuse("recv without MSG_DONTWAIT");
	if (socket->kernel_tls)
		misuse("recv on a kTLS socket: control records would be EIO");
	socket->recv_calls++;
	return take_stream(socket, buffer, size);
}

/* recvmsg() decrypts the next record to learn its type, before it puts it aside. */
static void decrypt_ahead(struct mock_socket *socket)
{
	const struct mock_item *next = front(socket);

	if (socket->hides_key_update && next && next->type == TLS_CONTENT_HANDSHAKE && next->size > 0 &&
	    next->bytes[0] == 24)
		socket->key_update_pending = true;
}

static ssize_t mock_recvmsg(int fd, struct msghdr *message, int flags)
{
	struct mock_socket *socket = socket_of(fd, "recvmsg");
	uint8_t *buffer = message->msg_iov[0].iov_base;
	size_t size = message->msg_iov[0].iov_len;
	struct cmsghdr *control = CMSG_FIRSTHDR(message);
	size_t done = 0;
	unsigned int type;
	int at;

	if (!socket)
		return fail(EBADF);
	if (!(flags & MSG_DONTWAIT))
		misuse("recvmsg without MSG_DONTWAIT");
	if (!control || message->msg_controllen < CMSG_SPACE(1))
		misuse("recvmsg without room for a cmsg");
	socket->recvmsg_calls++;
	message->msg_flags = 0;
	at = at_bytes(socket);
	if (at <= 0) {
		message->msg_controllen = 0;
		return at;
	}
	type = front(socket)->type;
	while (done < size && front(socket) && front(socket)->kind == MOCK_BYTES && front(socket)->type == type) {
		done += take(front(socket), buffer + done, size - done);
		if (front(socket)->taken < front(socket)->size)
			break;
		pop(socket);
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
		return fail(error);
	}
	if (socket->reset)
		return fail(socket->reset_read ? EPIPE : socket->reset);
	if (socket->shut_for_writing)
		return fail(EPIPE);
	use_room(socket, &socket->withheld);
	if (socket->room == 0)
		return fail(EAGAIN);
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
	struct mock_socket *socket = socket_of(fd, "send");

	if (!socket)
		return fail(EBADF);
	if ((flags & (MSG_DONTWAIT | MSG_NOSIGNAL)) != (MSG_DONTWAIT | MSG_NOSIGNAL) || (flags & MSG_MORE))
		misuse("send with flags %#x", (unsigned int)flags);
	if (size == 0)
		misuse("send of nothing");
	socket->send_calls++;
	socket->holds_back = false;
	return write_bytes(socket, buffer, size);
}

static ssize_t mock_sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct mock_socket *socket = socket_of(fd, "sendmsg");
	const struct cmsghdr *header = CMSG_FIRSTHDR(message);
	struct mock_control *control;
	size_t waiting = message->msg_iov[0].iov_len;

	if (!socket)
		return fail(EBADF);
	if (!socket->kernel_transmit || (flags & MSG_MORE) || !header || header->cmsg_level != SOL_TLS ||
	    header->cmsg_type != TLS_SET_RECORD_TYPE || header->cmsg_len != CMSG_LEN(1) ||
	    waiting > sizeof(control->bytes) || socket->control_count == MOCK_CONTROLS_MAX) {
		misuse("sendmsg: not one control record");
		return fail(EINVAL);
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
	if (current->pipe_size)
		misuse("splice into a pipe that holds %zu bytes", current->pipe_size);
	if (size > current->worker->pipe_size)
		misuse("splice of %zu bytes, the pipe takes %zu", size, current->worker->pipe_size);
	if (socket->splice_in_error)
		return fail(socket->splice_in_error);
	if (!socket->kernel_tls) {
		got = take_stream(socket, current->pipe, size);
		if (got > 0)
			current->pipe_size = (size_t)got;
		return got;
	}
	at = at_bytes(socket);
	if (at <= 0)
		return at;
	item = front(socket);
	if (item->type != TLS_CONTENT_APPLICATION_DATA)
		return fail(EINVAL);
	got = (ssize_t)take(item, current->pipe, size);
	if (item->taken == item->size)
		pop(socket);
	current->pipe_size = (size_t)got;
	return got;
}

static ssize_t splice_out(struct mock_socket *socket, size_t size)
{
	ssize_t moved;

	socket->splice_out_calls++;
	if (size > current->pipe_size)
		misuse("splice of %zu bytes out of a pipe of %zu", size, current->pipe_size);
	if (socket->splice_out_error)
		return fail(socket->splice_out_error);
	moved = write_bytes(socket, current->pipe, size < current->pipe_size ? size : current->pipe_size);
	if (moved > 0) {
		current->pipe_size -= (size_t)moved;
		memmove(current->pipe, current->pipe + moved, current->pipe_size);
		socket->holds_back = current->pipe_size > 0;
	}
	return moved;
}

static ssize_t mock_splice(int in, int out, size_t size, unsigned int flags)
{
	struct mock_socket *socket = socket_of(is_pipe(out, 1) ? in : out, "splice");

	if (!socket)
		return fail(EBADF);
	if (flags != 2 /* SPLICE_F_NONBLOCK */)
		misuse("splice with flags %#x", flags);
	if (is_pipe(out, 1))
		return splice_in(socket, size);
	if (is_pipe(in, 0))
		return splice_out(socket, size);
	misuse("splice without the pipe");
	return fail(EINVAL);
}

static ssize_t mock_read(int fd, void *buffer, size_t size)
{
	if (!is_pipe(fd, 0)) {
		misuse("read of something else than the pipe");
		return fail(EBADF);
	}
	if (current->pipe_read_error) {
		int error = current->pipe_read_error;

		current->pipe_read_error = 0;
		current->pipe_size = 0; /* the relay replaces the pipe: its bytes are gone with it */
		return fail(error);
	}
	if (current->pipe_size == 0)
		return fail(EAGAIN);
	if (size > current->pipe_size)
		size = current->pipe_size;
	memcpy(buffer, current->pipe, size);
	current->pipe_size -= size;
	memmove(current->pipe, current->pipe + size, current->pipe_size);
	return (ssize_t)size;
}

static int mock_getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
	struct mock_socket *socket = socket_of(fd, "getsockopt");
	int error;

	if (!socket)
		return (int)fail(EBADF);
	if (level == SOL_SOCKET && name == SO_SNDBUF && *length == sizeof(int)) {
		memcpy(value, &socket->send_buffer, sizeof(int));
		return 0;
	}
	if (level != SOL_SOCKET || name != SO_ERROR || *length != sizeof(error)) {
		misuse("getsockopt(%d, %d)", level, name);
		return (int)fail(ENOPROTOOPT);
	}
	error = socket->reset_read ? 0 : socket->reset;
	socket->reset_read = socket->reset != 0;
	memcpy(value, &error, sizeof(error));
	return 0;
}

static int raise_send_buffer(struct mock_socket *socket, int size)
{
	if (socket->send_buffer_error)
		return (int)fail(socket->send_buffer_error);
	if (size < socket->send_buffer)
		misuse("the send buffer shrinks from %d to %d", socket->send_buffer, size);
	else if (socket->room != SIZE_MAX)
		socket->room += (size_t)(size - socket->send_buffer);
	socket->send_buffer = size;
	return 0;
}

static int mock_setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
	struct mock_socket *socket = socket_of(fd, "setsockopt");

	if (!socket)
		return (int)fail(EBADF);
	if (level == SOL_SOCKET && name == SO_LINGER && length == sizeof(struct linger)) {
		socket->lingers_reset = ((const struct linger *)value)->l_onoff != 0;
		return 0;
	}
	if (level == SOL_TLS && name == 4 /* TLS_RX_EXPECT_NO_PAD */ && length == sizeof(int)) {
		if (current->no_pad_error)
			return (int)fail(current->no_pad_error);
		socket->no_pad = *(const int *)value != 0;
		return 0;
	}
	if (level == SOL_TLS && (name == 1 || name == 2) /* TLS_TX, TLS_RX: set again */) {
		if (socket->rekey_error)
			return (int)fail(socket->rekey_error);
		if (name == 1)
			socket->transmit_rekeyed_at = socket->out_size;
		else
			socket->key_update_pending = false;
		socket->rekeys[name - 1]++;
		return 0;
	}
	if (level == SOL_SOCKET && name == SO_RCVLOWAT && length == sizeof(int)) {
		if (*(const int *)value < 1)
			misuse("SO_RCVLOWAT %d", *(const int *)value);
		current->low_water_calls++;
		if (current->low_water_error)
			return (int)fail(current->low_water_error);
		socket->receive_low_water = *(const int *)value;
		return 0;
	}
	if (level == IPPROTO_TCP && name == TCP_NODELAY && length == sizeof(int) && *(const int *)value == 1) {
		socket->holds_back = false;
		return 0;
	}
	if (level == SOL_SOCKET && name == SO_SNDBUFFORCE && length == sizeof(int))
		return raise_send_buffer(socket, 2 * *(const int *)value);
	misuse("setsockopt(%d, %d)", level, name);
	return (int)fail(ENOPROTOOPT);
}

static int mock_input_size(int fd, int *size)
{
	struct mock_socket *socket = socket_of(fd, "SIOCINQ");

	if (!socket)
		return (int)fail(EBADF);
	*size = (int)(mock_unread(socket) + socket->partial);
	return 0;
}

static int mock_shutdown(int fd, int how)
{
	struct mock_socket *socket = socket_of(fd, "shutdown");

	if (!socket)
		return (int)fail(EBADF);
	if (how != SHUT_WR)
		misuse("shutdown(%d)", how);
	if (socket->reset)
		return (int)fail(ENOTCONN);
	socket->shut_for_writing = true;
	socket->lost = socket->withheld;
	return 0;
}

static int mock_close(int fd)
{
	struct mock_socket *socket = socket_of(fd, "close");

	if (!socket)
		return (int)fail(EBADF);
	socket->closed = true;
	return close(fd);
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

static size_t input(const struct mock_socket *socket)
{
	return mock_unread(socket) + socket->partial;
}

static bool ends_or_fails(const struct mock_socket *socket)
{
	for (size_t i = 0; i < socket->count; i++) {
		if (socket->items[(socket->first + i) % MOCK_ITEMS_MAX].kind != MOCK_BYTES)
			return true;
	}
	return false;
}

/* Bytes that SO_RCVLOWAT holds back: a timer of the relay's has to read them. */
static bool held_back(const struct mock_socket *socket)
{
	return !socket->closed && socket->source && socket->source->registered && socket->source->events & EPOLLIN &&
	       socket->count && socket->receive_low_water > 1;
}

/* As tcp_poll() and tls_sk_poll() have it. */
static uint32_t poll_socket(const struct mock_socket *socket)
{
	uint32_t events = 0;
	bool fin = false;
	bool readable = socket->reset != 0;

	for (size_t i = 0; i < socket->count; i++)
		fin |= socket->items[(socket->first + i) % MOCK_ITEMS_MAX].kind == MOCK_FIN;
	readable |= ends_or_fails(socket) || (socket->count && socket->receive_low_water <= 1) ||
	            (input(socket) && input(socket) >= (size_t)socket->receive_low_water);
	if (readable && !socket->key_update_pending)
		events |= EPOLLIN;
	if (socket->shut_for_writing || socket->reset || (socket->room >= socket->low_water && !socket->holds_back))
		events |= EPOLLOUT;
	if (socket->reset && !socket->reset_read)
		events |= EPOLLERR;
	if (socket->reset || (fin && socket->shut_for_writing))
		events |= EPOLLHUP;
	return events;
}

static uint32_t deliverable(const struct mock_socket *socket)
{
	if (socket->closed || !socket->source || !socket->source->registered)
		return 0;
	return poll_socket(socket) & (socket->source->events | EPOLLERR | EPOLLHUP);
}

/* One round: both sockets' events as they were before the first is delivered, as epoll_wait() has them. */
static void drive(struct loop_source *driver, uint32_t events)
{
	struct mock_kernel *kernel = container_of(driver, struct mock_kernel, driver);
	uint32_t of_a = deliverable(&kernel->a);
	uint32_t of_b = deliverable(&kernel->b);

	(void)events;
	if (of_a)
		kernel->a.source->on_event(kernel->a.source, of_a);
	if (of_b && !kernel->b.closed && kernel->b.source->registered)
		kernel->b.source->on_event(kernel->b.source, of_b);
}

bool mock_run(struct mock_kernel *kernel)
{
	for (kernel->rounds = 0; kernel->rounds < ROUNDS_MAX; kernel->rounds++) {
		if (!deliverable(&kernel->a) && !deliverable(&kernel->b) && !held_back(&kernel->a) &&
		    !held_back(&kernel->b))
			return true;
		if (loop_step(kernel->loop, 0))
			abort();
	}
	return false;
}

static void init_socket(struct mock_socket *socket)
{
	int ends[2];

	/* The reading end of a pipe that stays empty and open: epoll reports nothing of it. */
	if (pipe(ends) == -1)
		abort();
	socket->fd = ends[0];
	socket->other_end = ends[1];
	socket->room = SIZE_MAX;
	socket->low_water = 1;
	socket->receive_low_water = 1;
	socket->send_buffer = 87040;
	socket->lingers_reset = true;
}

void mock_kernel_init(struct mock_kernel *kernel, struct loop *loop, struct relay_worker *worker)
{
	int fd;

	memset(kernel, 0, sizeof(*kernel));
	kernel->loop = loop;
	kernel->worker = worker;
	init_socket(&kernel->a);
	init_socket(&kernel->b);
	fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd == -1)
		abort();
	kernel->driver.on_event = drive;
	if (loop_add(loop, &kernel->driver, fd, EPOLLIN))
		abort();
	current = kernel;
}

static void destroy_socket(struct mock_socket *socket)
{
	while (socket->count)
		pop(socket);
	free(socket->out);
	close(socket->other_end);
	if (!socket->closed)
		close(socket->fd);
}

void mock_kernel_destroy(struct mock_kernel *kernel)
{
	int fd = kernel->driver.fd;

	destroy_socket(&kernel->a);
	destroy_socket(&kernel->b);
	loop_remove(kernel->loop, &kernel->driver);
	close(fd);
	current = NULL;
}
