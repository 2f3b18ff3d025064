/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * control_socket.h: the UNIX stream socket <run-dir>/posternd.sock that posternctl asks. A client sends one line, a
 * command; the answer is one JSON document, then the connection is closed. Mode 0600: root only.
 *
 * Everything is bounded: clients at a time, the length of a command, the time that a client may take. No client can
 * block the control thread. Control thread.
 */
#ifndef POSTERN_OBSERVE_CONTROL_SOCKET_H
#define POSTERN_OBSERVE_CONTROL_SOCKET_H

#include <jansson.h>
#include <stddef.h>

struct control_socket;
struct loop;

#define CONTROL_SOCKET_NAME "posternd.sock"
#define CONTROL_COMMAND_MAX 384 /* bytes of a command, without its line break */
#define CONTROL_CLIENTS_MAX 16  /* more wait in the backlog */

struct control_socket_options {
	const char *run_dir; /* made with mode 0755 if it is missing; its parent must exist */
	/* The document for a command (printable ASCII), a new reference; NULL = no such command. Must not block long.
	 */
	json_t *(*answer)(void *context, const char *command);
	void *context;
	unsigned int timeout_ms; /* for a client that neither sends its command nor reads its answer; 0 = 5,000 */
};

/*
 * 0; -EADDRINUSE if another agent listens there (a stale socket is replaced); another negative errno. A message for the
 * operator is in error.
 */
int control_socket_open(struct loop *loop, const struct control_socket_options *options, struct control_socket **socket,
                        char *error, size_t error_size);
/* Closes every client, removes the socket from the file system if it is still ours. NULL-safe. */
void control_socket_close(struct control_socket *socket);

#endif
