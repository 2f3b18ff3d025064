/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * mock_kernel_private.h: what the parts of the mock kernel share: mock_kernel_io.c (calls that move bytes),
 * mock_kernel_options.c (calls that look at a socket or change it) and mock_kernel_world.c (what a test feeds, and
 * poll).
 */
#ifndef POSTERN_TESTS_MOCK_KERNEL_PRIVATE_H
#define POSTERN_TESTS_MOCK_KERNEL_PRIVATE_H

#include "mock_kernel_io.h"

/* The seam's functions have no context argument: the one mock kernel there is. */
extern struct mock_kernel *mock_current;

/* Kept for the test to see, if it is the first one. */
void mock_misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* -1, with errno. */
ssize_t mock_fail(int error);
/* NULL, and a misuse, if it is neither A nor B or closed. */
struct mock_socket *mock_socket_of(int fd, const char *call);

/* The first item that was fed and not read to its end; NULL: none. */
struct mock_item *mock_front(struct mock_socket *socket);
void mock_pop(struct mock_socket *socket);

/* mock_kernel_options.c: members of the seam's table. */
int mock_getsockopt(int fd, int level, int name, void *value, socklen_t *length);
int mock_setsockopt(int fd, int level, int name, const void *value, socklen_t length);
int mock_input_size(int fd, int *size);
int mock_shutdown(int fd, int how);
int mock_close(int fd);

#endif
