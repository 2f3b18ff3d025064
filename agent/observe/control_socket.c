/* SPDX-License-Identifier: GPL-2.0-only */
#include "observe/control_socket.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/loop.h"
#include "observe/listen_unix.h"

#define DEFAULT_TIMEOUT_MS  5000
#define MILLISECOND         1000000ull
#define DEADLINE_TIMEOUTS   12 /* of a client, in all: one that reads a byte now and then is no reader */
#define ACCEPT_RETRY_NS     (100 * MILLISECOND)
#define SEND_BYTES_PER_TURN (256u << 10) /* of one client, before others have their turn */

/* A slot is free when its source is not registered. Clients live in an array: no memory is asked for by connecting. */
struct client {
	struct control_socket *owner;
	struct loop_source source;
	struct loop_timer timer;
	uint64_t deadline_ns;
	char command[CONTROL_COMMAND_MAX + 1];
	size_t command_used;
	char *answer; /* NULL until the command is whole */
	size_t answer_size;
	size_t answer_sent;
};

struct control_socket {
	struct loop *loop;
	json_t *(*answer)(void *context, const char *command);
	void *context;
	uint64_t timeout_ns;
	char *directory;
	struct stat identity;
	struct loop_source listener;
	struct loop_timer accept_timer; /* armed after accept4() failed for want of descriptors */
	struct client clients[CONTROL_CLIENTS_MAX];
};

static void listen_again(struct control_socket *socket)
{
	int error = loop_set_events(socket->loop, &socket->listener, EPOLLIN);

	if (error)
		log_error("status socket cannot accept", "errno=%d", -error);
}

static void end_client(struct client *client)
{
	struct control_socket *socket = client->owner;

	loop_timer_cancel(socket->loop, &client->timer);
	loop_remove(socket->loop, &client->source);
	close(client->source.fd);
	free(client->answer);
	client->answer = NULL;
	if (socket->accept_timer.due_ns == 0)
		listen_again(socket);
}

/* Progress gives a client its time anew. False: the client was ended. */
static bool restart_timer(struct client *client)
{
	uint64_t delay_ns = client->owner->timeout_ns;
	uint64_t now = monotonic_ns();

	if (now + delay_ns > client->deadline_ns)
		delay_ns = client->deadline_ns > now ? client->deadline_ns - now : 0;
	if (loop_timer_set(client->owner->loop, &client->timer, delay_ns) == 0)
		return true;
	end_client(client);
	return false;
}

static void send_answer(struct client *client)
{
	size_t budget = SEND_BYTES_PER_TURN;

	while (client->answer_sent < client->answer_size && budget) {
		size_t left = client->answer_size - client->answer_sent;
		ssize_t sent = send(client->source.fd, client->answer + client->answer_sent,
		                    left < budget ? left : budget, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent == -1 && errno == EINTR)
			continue;
		if (sent == -1 && errno == EAGAIN)
			break;
		if (sent == -1) {
			end_client(client);
			return;
		}
		client->answer_sent += (size_t)sent;
		budget -= (size_t)sent;
	}
	if (client->answer_sent == client->answer_size) {
		end_client(client);
		return;
	}
	if (!restart_timer(client))
		return;
	if (loop_set_events(client->owner->loop, &client->source, EPOLLOUT))
		end_client(client);
}

/* Makes the answer's text of a document (taken over) and begins to send it. */
static void answer_with(struct client *client, json_t *document)
{
	char *text = document ? json_dumps(document, JSON_COMPACT) : NULL;

	json_decref(document);
	if (!text) {
		log_error("status answer could not be made", "reason=\"out of memory\"");
		end_client(client);
		return;
	}
	client->answer_size = strlen(text);
	client->answer_sent = 0;
	text[client->answer_size++] = '\n'; /* in the place of the NUL: a line, for people with nc */
	client->answer = text;
	send_answer(client);
}

static void answer_error(struct client *client, const char *message)
{
	answer_with(client, json_pack("{s:s}", "error", message));
}

static void run_command(struct client *client)
{
	struct control_socket *socket = client->owner;
	json_t *document;

	for (const char *byte = client->command; *byte; byte++) {
		if (*byte < 0x20 || *byte > 0x7e) {
			answer_error(client, "a command is printable ASCII");
			return;
		}
	}
	document = socket->answer(socket->context, client->command);
	if (document)
		answer_with(client, document);
	else
		answer_error(client, "unknown command");
}

static void read_command(struct client *client)
{
	char *free_place = client->command + client->command_used;
	ssize_t got = recv(client->source.fd, free_place, sizeof(client->command) - client->command_used, MSG_DONTWAIT);
	char *line_break;

	if (got == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		end_client(client);
		return;
	}
	line_break = memchr(free_place, '\n', (size_t)got);
	client->command_used += (size_t)got;
	if (line_break) {
		*line_break = '\0';
		/* What follows the line is not ours to read; a NUL inside it would hide the rest. */
		if (strlen(client->command) != (size_t)(line_break - client->command))
			answer_error(client, "a command is printable ASCII");
		else
			run_command(client);
	} else if (client->command_used == sizeof(client->command)) {
		answer_error(client, "the command is too long");
	}
}

static void client_event(struct loop_source *source, uint32_t events)
{
	struct client *client = container_of(source, struct client, source);

	/* EPOLLHUP comes when the peer closed both ways: recv() or send() then says so. */
	(void)events;
	if (client->answer)
		send_answer(client);
	else
		read_command(client);
}

/*
 * The limit is the client's. If this thread stood still itself (a large compile, SIGSTOP), what the client did since
 * lies unseen, and has its turn first.
 */
static void client_timed_out(struct loop_timer *timer)
{
	struct client *client = container_of(timer, struct client, timer);
	bool asked = client->answer != NULL;
	size_t sent = client->answer_sent;

	if (monotonic_ns() < client->deadline_ns) {
		client_event(&client->source, 0);
		if (!client->source.registered || (asked ? client->answer_sent > sent : client->answer != NULL))
			return;
	}
	log_debug("status client timed out", "bytes_sent=%zu", client->answer_sent);
	end_client(client);
}

static struct client *free_slot(struct control_socket *socket)
{
	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		if (!socket->clients[i].source.registered)
			return &socket->clients[i];
	}
	return NULL;
}

static void stop_listening(struct control_socket *socket)
{
	int error = loop_set_events(socket->loop, &socket->listener, 0);

	if (error)
		log_error("status socket cannot pause", "errno=%d", -error);
}

static void accept_retry(struct loop_timer *timer)
{
	listen_again(container_of(timer, struct control_socket, accept_timer));
}

static void listener_event(struct loop_source *source, uint32_t events)
{
	struct control_socket *socket = container_of(source, struct control_socket, listener);
	struct client *client = free_slot(socket);
	int fd;
	int error;

	(void)events;
	if (!client) {
		stop_listening(socket); /* end_client() goes on */
		return;
	}
	fd = accept4(source->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd == -1) {
		if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
			return;
		/* No descriptors: a level-triggered listener would spin until there are. */
		log_warning("status socket cannot accept", "errno=%d", errno);
		if (loop_timer_set(socket->loop, &socket->accept_timer, ACCEPT_RETRY_NS) == 0)
			stop_listening(socket);
		return;
	}
	*client = (struct client){
	        .owner = socket,
	        .deadline_ns = monotonic_ns() + DEADLINE_TIMEOUTS * socket->timeout_ns,
	        .source.on_event = client_event,
	        .timer.on_expire = client_timed_out,
	};
	error = loop_add(socket->loop, &client->source, fd, EPOLLIN);
	if (error) {
		log_warning("status client cannot be served", "errno=%d", -error);
		close(fd);
		return;
	}
	(void)restart_timer(client);
}

int control_socket_open(struct loop *loop, const struct control_socket_options *options, struct control_socket **result,
                        char *error, size_t error_size)
{
	struct control_socket *socket = calloc(1, sizeof(*socket));
	int fd;
	int number;

	(void)snprintf(error, error_size, "status socket: out of memory");
	if (!socket)
		return -ENOMEM;
	socket->loop = loop;
	socket->answer = options->answer;
	socket->context = options->context;
	socket->timeout_ns = (options->timeout_ms ? options->timeout_ms : DEFAULT_TIMEOUT_MS) * MILLISECOND;
	socket->listener.on_event = listener_event;
	socket->accept_timer.on_expire = accept_retry;
	socket->directory = strdup(options->run_dir);
	if (!socket->directory) {
		free(socket);
		return -ENOMEM;
	}
	fd = listen_unix(options->run_dir, CONTROL_SOCKET_NAME, &socket->identity, error, error_size);
	number = fd < 0 ? fd : loop_add(loop, &socket->listener, fd, EPOLLIN);
	if (number) {
		if (fd >= 0) {
			(void)snprintf(error, error_size, "status socket: %s", strerror(-number));
			unlink_unix(socket->directory, CONTROL_SOCKET_NAME, &socket->identity);
			close(fd);
		}
		free(socket->directory);
		free(socket);
		return number;
	}
	*result = socket;
	return 0;
}

void control_socket_close(struct control_socket *socket)
{
	if (!socket)
		return;
	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		if (socket->clients[i].source.registered)
			end_client(&socket->clients[i]);
	}
	loop_timer_cancel(socket->loop, &socket->accept_timer);
	loop_remove(socket->loop, &socket->listener);
	unlink_unix(socket->directory, CONTROL_SOCKET_NAME, &socket->identity);
	close(socket->listener.fd);
	free(socket->directory);
	/* It may be closed from inside a round of its own loop. */
	loop_defer_free(socket->loop, socket);
}
