/* SPDX-License-Identifier: GPL-2.0-only */
/* The mock kernel's calls that look at a socket or change it: options, FIONREAD, shutdown, close. */
#include "mock_kernel_private.h"

#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "tls/record.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

int mock_getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
	struct mock_socket *socket = mock_socket_of(fd, "getsockopt");
	int error;

	if (!socket)
		return (int)mock_fail(EBADF);
	if (level == SOL_SOCKET && name == SO_SNDBUF && *length == sizeof(int)) {
		memcpy(value, &socket->send_buffer, sizeof(int));
		return 0;
	}
	if (level != SOL_SOCKET || name != SO_ERROR || *length != sizeof(error)) {
		mock_misuse("getsockopt(%d, %d)", level, name);
		return (int)mock_fail(ENOPROTOOPT);
	}
	error = socket->reset_read ? 0 : socket->reset;
	socket->reset_read = socket->reset != 0;
	memcpy(value, &error, sizeof(error));
	return 0;
}

static int raise_send_buffer(struct mock_socket *socket, int size)
{
	if (socket->send_buffer_error)
		return (int)mock_fail(socket->send_buffer_error);
	if (size < socket->send_buffer)
		mock_misuse("the send buffer shrinks from %d to %d", socket->send_buffer, size);
	else if (socket->room != SIZE_MAX)
		socket->room += (size_t)(size - socket->send_buffer);
	socket->send_buffer = size;
	return 0;
}

int mock_setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
	struct mock_socket *socket = mock_socket_of(fd, "setsockopt");

	if (!socket)
		return (int)mock_fail(EBADF);
	if (level == SOL_SOCKET && name == SO_LINGER && length == sizeof(struct linger)) {
		socket->lingers_reset = ((const struct linger *)value)->l_onoff != 0;
		return 0;
	}
	if (level == SOL_TLS && name == 4 /* TLS_RX_EXPECT_NO_PAD */ && length == sizeof(int)) {
		if (mock_current->no_pad_error)
			return (int)mock_fail(mock_current->no_pad_error);
		socket->no_pad = *(const int *)value != 0;
		return 0;
	}
	if (level == SOL_TLS && (name == 1 || name == 2) /* TLS_TX, TLS_RX: set again */) {
		if (socket->rekey_error)
			return (int)mock_fail(socket->rekey_error);
		if (name == 1)
			socket->transmit_rekeyed_at = socket->out_size;
		else
			socket->key_update_pending = false;
		socket->rekeys[name - 1]++;
		return 0;
	}
	if (level == SOL_SOCKET && name == SO_RCVLOWAT && length == sizeof(int)) {
		if (*(const int *)value < 1)
			mock_misuse("SO_RCVLOWAT %d", *(const int *)value);
		mock_current->low_water_calls++;
		if (mock_current->low_water_error)
			return (int)mock_fail(mock_current->low_water_error);
		socket->receive_low_water = *(const int *)value;
		return 0;
	}
	if (level == IPPROTO_TCP && name == TCP_NODELAY && length == sizeof(int) && *(const int *)value == 1) {
		socket->holds_back = false;
		return 0;
	}
	if (level == SOL_SOCKET && name == SO_SNDBUFFORCE && length == sizeof(int))
		return raise_send_buffer(socket, 2 * *(const int *)value);
	mock_misuse("setsockopt(%d, %d)", level, name);
	return (int)mock_fail(ENOPROTOOPT);
}

int mock_input_size(int fd, int *size)
{
	struct mock_socket *socket = mock_socket_of(fd, "SIOCINQ");

	if (!socket)
		return (int)mock_fail(EBADF);
	*size = (int)(mock_unread(socket) + socket->partial);
	return 0;
}

int mock_shutdown(int fd, int how)
{
	struct mock_socket *socket = mock_socket_of(fd, "shutdown");

	if (!socket)
		return (int)mock_fail(EBADF);
	if (how != SHUT_WR)
		mock_misuse("shutdown(%d)", how);
	if (socket->reset)
		return (int)mock_fail(ENOTCONN);
	socket->shut_for_writing = true;
	socket->lost = socket->withheld;
	return 0;
}

int mock_close(int fd)
{
	struct mock_socket *socket = mock_socket_of(fd, "close");

	if (!socket)
		return (int)mock_fail(EBADF);
	socket->closed = true;
	return close(fd);
}
