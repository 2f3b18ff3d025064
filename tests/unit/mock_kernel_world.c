/* SPDX-License-Identifier: GPL-2.0-only */
/* The mock kernel around its calls: what a test feeds and takes, what poll says, and the loop that delivers it. */
#include "mock_kernel_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tls/record.h"

#define ROUNDS_MAX 20000 /* more than any test needs to come to rest */

struct mock_kernel *mock_current;

void mock_misuse(const char *format, ...)
{
	va_list arguments;

	if (mock_current->misuse[0])
		return;
	va_start(arguments, format);
	vsnprintf(mock_current->misuse, sizeof(mock_current->misuse), format, arguments);
	va_end(arguments);
}

ssize_t mock_fail(int error)
{
	errno = error;
	return -1;
}

struct mock_socket *mock_socket_of(int fd, const char *call)
{
	if (fd == mock_current->a.fd && !mock_current->a.closed)
		return &mock_current->a;
	if (fd == mock_current->b.fd && !mock_current->b.closed)
		return &mock_current->b;
	mock_misuse("%s(%d): not a socket of ours, or closed", call, fd);
	return NULL;
}

struct mock_item *mock_front(struct mock_socket *socket)
{
	return socket->count ? &socket->items[socket->first % MOCK_ITEMS_MAX] : NULL;
}

void mock_pop(struct mock_socket *socket)
{
	free(mock_front(socket)->bytes);
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
	if (mock_front(socket) && mock_front(socket)->kind == MOCK_BYTES)
		mock_pop(socket);
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
	mock_current = kernel;
}

static void destroy_socket(struct mock_socket *socket)
{
	while (socket->count)
		mock_pop(socket);
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
	mock_current = NULL;
}
