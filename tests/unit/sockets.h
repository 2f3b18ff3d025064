/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * sockets.h: connected pairs of stream sockets. Failures end the test (cmocka).
 */
#ifndef POSTERN_TESTS_SOCKETS_H
#define POSTERN_TESTS_SOCKETS_H

/* Of AF_UNIX streams that do not block. */
void stream_pair(int pair[2]);

/*
 * Over TCP on loopback, so that there are resets and the kernel's buffers; neither blocks or delays. pair[0] has
 * connected, with that receive buffer (0: the kernel's own); pair[1] was accepted.
 */
void tcp_pair(int pair[2], int receive_buffer);

#endif
