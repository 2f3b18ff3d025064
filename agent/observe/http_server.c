/* SPDX-License-Identifier: GPL-2.0-only */
#include "observe/http_server.h"

#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/loop.h"

#define BACKLOG         64
#define REAP_NS         1000000000ull
#define MILLISECOND     1000000ull
#define TYPE_PLAIN_TEXT "text/plain; charset=utf-8"

/* One connection, from accept() to close(). */
struct http_connection {
	struct http_connection *next;
	struct http_connection *previous;
	struct http_server *server;
	struct MHD_Connection *connection;
	uint64_t since_ns; /* its request began, or it is idle */
};

struct http_request {
	struct http_server *server;
	struct http_request *next; /* in the server's list while it is kept */
	struct MHD_Connection *connection;
	struct MHD_Response *response;
	unsigned int status;
	bool answering; /* inside answer() */
	bool kept;      /* its connection is suspended */
	bool replied;
};

struct http_server {
	struct loop *loop;
	struct http_options options;
	struct MHD_Daemon *daemon;
	struct loop_source source; /* the daemon's epoll descriptor */
	struct loop_timer timer;   /* what the daemon waits for */
	struct loop_timer reaper;
	struct http_connection *connections;
	struct http_request *kept;
	uint16_t port;
	bool closing;
};

/* ---- the loop ---- */

/* One turn of the daemon, without waiting; and when it wants the next. */
static void run(struct http_server *server)
{
	MHD_UNSIGNED_LONG_LONG wait_ms;

	if (MHD_run(server->daemon) != MHD_YES)
		log_warning("HTTP server cannot run", "%s", "");
	loop_timer_cancel(server->loop, &server->timer);
	if (MHD_get_timeout(server->daemon, &wait_ms) == MHD_YES &&
	    loop_timer_set(server->loop, &server->timer, wait_ms * MILLISECOND) != 0)
		log_error("no memory", "what=\"timer of the HTTP server\"");
}

static void on_event(struct loop_source *source, uint32_t events)
{
	(void)events;
	run(container_of(source, struct http_server, source));
}

static void on_timer(struct loop_timer *timer)
{
	run(container_of(timer, struct http_server, timer));
}

/* Who sends a byte now and then would never time out. */
static void on_reap(struct loop_timer *timer)
{
	struct http_server *server = container_of(timer, struct http_server, reaper);
	uint64_t limit = server->options.request_seconds * 1000000000ull;
	uint64_t now = monotonic_ns();

	for (struct http_connection *each = server->connections; each; each = each->next) {
		const union MHD_ConnectionInfo *info;

		if (now - each->since_ns < limit)
			continue;
		info = MHD_get_connection_info(each->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
		if (info)
			(void)shutdown(info->connect_fd, SHUT_RDWR); /* the daemon sees its end, and closes it */
		each->since_ns = now;
		log_debug("HTTP client ended", "reason=\"its request takes too long\"");
	}
	if (loop_timer_set(server->loop, timer, REAP_NS) != 0)
		log_error("no memory", "what=\"timer of the HTTP server\"");
}

/* ---- what the daemon calls ---- */

static void on_connection(void *context, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
	struct http_server *server = context;
	struct http_connection *mine = *socket_context;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		mine = calloc(1, sizeof(*mine));
		*socket_context = mine;
		if (!mine) /* it is served without a limit of its own: the time without a byte ends it */
			return;
		*mine = (struct http_connection){
		        .server = server,
		        .connection = connection,
		        .since_ns = monotonic_ns(),
		        .next = server->connections,
		};
		if (mine->next)
			mine->next->previous = mine;
		server->connections = mine;
		return;
	}
	if (!mine)
		return;
	if (mine->previous)
		mine->previous->next = mine->next;
	else
		server->connections = mine->next;
	if (mine->next)
		mine->next->previous = mine->previous;
	free(mine);
}

static void unkeep(struct http_request *request)
{
	for (struct http_request **link = &request->server->kept; *link; link = &(*link)->next) {
		if (*link != request)
			continue;
		*link = request->next;
		break;
	}
	request->kept = false;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **request_context,
                         enum MHD_RequestTerminationCode code)
{
	struct http_server *server = context;
	struct http_request *request = *request_context;
	const union MHD_ConnectionInfo *info;

	(void)code;
	info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	if (info && info->socket_context)
		((struct http_connection *)info->socket_context)->since_ns = monotonic_ns();
	if (!request)
		return;
	if (request->kept)
		unkeep(request);
	if (!request->replied && server->options.forget)
		server->options.forget(server->options.context, request);
	if (request->response)
		MHD_destroy_response(request->response);
	free(request);
	*request_context = NULL;
}

static enum MHD_Result queue_response(struct http_request *request, struct MHD_Connection *connection)
{
	if (!request->response)
		return MHD_NO; /* no memory: the connection is closed */
	return MHD_queue_response(connection, request->status, request->response);
}

static struct http_request *new_request(struct http_server *server, struct MHD_Connection *connection)
{
	struct http_request *request = calloc(1, sizeof(*request));

	if (request) {
		request->server = server;
		request->connection = connection;
	}
	return request;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *upload_data, size_t *upload_size,
                                  void **request_context)
{
	struct http_server *server = context;
	struct http_request *request = *request_context;
	bool is_get = strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;

	(void)version;
	(void)upload_data;
	if (!request) {
		request = new_request(server, connection);
		*request_context = request;
		if (!request)
			return MHD_NO;
		if (is_get)
			return MHD_YES; /* the headers are there; it is called again */
		http_reply_text(request, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
		if (request->response)
			(void)MHD_add_response_header(request->response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
		return queue_response(request, connection);
	}
	if (*upload_size) { /* nobody asked for a body */
		*upload_size = 0;
		return MHD_YES;
	}
	if (request->replied)
		return queue_response(request, connection);
	request->answering = true;
	if (!server->options.answer(server->options.context, request, url,
	                            MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT)))
		http_reply_text(request, MHD_HTTP_NOT_FOUND, "there are /metrics, /livez and /readyz\n");
	request->answering = false;
	if (request->replied)
		return queue_response(request, connection);
	request->kept = true;
	request->next = server->kept;
	server->kept = request;
	MHD_suspend_connection(connection);
	return MHD_YES;
}

__attribute__((format(printf, 2, 0))) static void on_log(void *context, const char *format, va_list arguments)
{
	char message[256];
	char quoted[512];

	(void)context;
	(void)vsnprintf(message, sizeof(message), format, arguments);
	message[strcspn(message, "\n")] = '\0';
	log_debug("HTTP client or server", "message=%s", log_quote(message, quoted, sizeof(quoted)));
}

/* ---- answers ---- */

void http_reply(struct http_request *request, unsigned int status, const char *type, char *body, size_t length)
{
	struct MHD_Response *response = NULL;

	request->replied = true;
	request->status = status;
	if (body)
		response = MHD_create_response_from_buffer(length, body, MHD_RESPMEM_MUST_FREE);
	if (body && !response)
		free(body);
	if (response && (MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type) != MHD_YES ||
	                 MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") != MHD_YES)) {
		MHD_destroy_response(response);
		response = NULL;
	}
	if (!response) {
		static char text[] = "out of memory\n";

		request->status = MHD_HTTP_INTERNAL_SERVER_ERROR;
		response = MHD_create_response_from_buffer(sizeof(text) - 1, text, MHD_RESPMEM_PERSISTENT);
	}
	request->response = response;
	if (!request->kept)
		return;
	unkeep(request);
	MHD_resume_connection(request->connection);
	/* Soon, and not from in here: who replies may be inside a turn of the daemon. */
	loop_timer_cancel(request->server->loop, &request->server->timer);
	if (loop_timer_set(request->server->loop, &request->server->timer, 0) != 0)
		log_error("no memory", "what=\"timer of the HTTP server\"");
}

void http_reply_text(struct http_request *request, unsigned int status, const char *text)
{
	char *copy = strdup(text);

	http_reply(request, status, TYPE_PLAIN_TEXT, copy, strlen(text));
}

/* ---- life ---- */

static bool is_unspecified(const struct postern_address *address)
{
	static const uint8_t v4[16] = {[10] = 0xff, [11] = 0xff};
	static const uint8_t v6[16];

	return memcmp(address->byte, v6, 16) == 0 || memcmp(address->byte, v4, 16) == 0;
}

static int listen_at(const struct postern_address *address, uint16_t port)
{
	struct sockaddr_storage storage;
	socklen_t length = address_to_sockaddr(address, port, &storage);
	_cleanup_close_ int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	const int on = 1;
	const int off = 0;

	if (fd == -1)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1)
		return -errno;
	if (storage.ss_family == AF_INET6 &&
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, is_unspecified(address) ? &off : &on, sizeof(on)) == -1)
		return -errno;
	if (bind(fd, (struct sockaddr *)&storage, length) == -1 || listen(fd, BACKLOG) == -1)
		return -errno;
	return TAKE_FD(fd);
}

/* "::" on a node without IPv6 is every address that there is. */
static int open_listener(const struct http_options *options)
{
	static const struct postern_address every_v4 = {.byte = {[10] = 0xff, [11] = 0xff}};
	int fd = listen_at(&options->address, options->port);

	if ((fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL) && is_unspecified(&options->address))
		fd = listen_at(&every_v4, options->port);
	return fd;
}

static uint16_t port_of(int fd)
{
	struct sockaddr_storage storage;
	socklen_t length = sizeof(storage);
	struct postern_address address;
	uint16_t port = 0;

	if (getsockname(fd, (struct sockaddr *)&storage, &length) == 0)
		(void)address_from_sockaddr(&storage, &address, &port);
	return port;
}

static int start_daemon(struct http_server *server, int listener)
{
	const union MHD_DaemonInfo *info;

	server->daemon = MHD_start_daemon(
	        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, server,
	        MHD_OPTION_LISTEN_SOCKET, listener, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
	        MHD_OPTION_CONNECTION_LIMIT, (unsigned int)HTTP_CONNECTIONS_MAX, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
	        (unsigned int)HTTP_CONNECTIONS_OF_ADDRESS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
	        (size_t)HTTP_CONNECTION_MEMORY, MHD_OPTION_CONNECTION_TIMEOUT, server->options.timeout_seconds,
	        MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_NOTIFY_COMPLETED, on_completed, server,
	        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
	if (!server->daemon)
		return -ENOMEM;
	info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (!info || info->epoll_fd < 0)
		return -ENOTSUP;
	server->source.on_event = on_event;
	server->timer.on_expire = on_timer;
	server->reaper.on_expire = on_reap;
	return loop_add(server->loop, &server->source, info->epoll_fd, EPOLLIN);
}

int http_server_open(struct loop *loop, const struct http_options *options, struct http_server **result)
{
	struct http_server *server = calloc(1, sizeof(*server));
	int listener;
	int error;

	if (!server)
		return -ENOMEM;
	server->loop = loop;
	server->options = *options;
	if (!options->timeout_seconds)
		server->options.timeout_seconds = HTTP_DEFAULT_TIMEOUT_SECONDS;
	if (!options->request_seconds)
		server->options.request_seconds = HTTP_DEFAULT_REQUEST_SECONDS;
	listener = open_listener(options);
	if (listener < 0) {
		free(server);
		return listener;
	}
	server->port = port_of(listener);
	error = start_daemon(server, listener);
	if (!server->daemon)
		close(listener); /* else it is the daemon's */
	if (!error)
		error = loop_timer_set(loop, &server->reaper, REAP_NS);
	if (error) {
		http_server_close(server);
		return error;
	}
	run(server);
	*result = server;
	return 0;
}

void http_server_close(struct http_server *server)
{
	if (!server)
		return;
	/* The daemon insists that nobody is suspended when it ends. */
	while (server->kept) {
		struct http_request *request = server->kept;

		if (server->options.forget)
			server->options.forget(server->options.context, request);
		http_reply_text(request, MHD_HTTP_SERVICE_UNAVAILABLE, "the agent stops\n");
	}
	if (server->daemon) {
		(void)MHD_run(server->daemon);
		loop_remove(server->loop, &server->source);
		MHD_stop_daemon(server->daemon);
	}
	loop_timer_cancel(server->loop, &server->timer);
	loop_timer_cancel(server->loop, &server->reaper);
	/* It may be closed from inside a round of its own loop. */
	loop_defer_free(server->loop, server);
}

uint16_t http_server_port(const struct http_server *server)
{
	return server->port;
}
