/* SPDX-License-Identifier: GPL-2.0-only */
/* listen_unix.h: a listening UNIX stream socket at a path, taken over from a dead owner only. Any thread. */
#ifndef POSTERN_OBSERVE_LISTEN_UNIX_H
#define POSTERN_OBSERVE_LISTEN_UNIX_H

#include <stddef.h>
#include <sys/stat.h>

/*
 * Makes directory (0755) if it is missing, then directory/name with mode 0600 from its first moment. Returns the
 * descriptor (non-blocking), with *identity the socket's inode; or negative errno and a message. -EADDRINUSE: somebody
 * listens there, or what lies there is no socket. directory/name.lock stays behind.
 */
int listen_unix(const char *directory, const char *name, struct stat *identity, char *error, size_t error_size);
/* Remove directory/name if it is still the socket of that identity. */
void unlink_unix(const char *directory, const char *name, const struct stat *identity);

#endif
