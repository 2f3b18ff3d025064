// SPDX-License-Identifier: GPL-2.0-only
#include "api_server.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <cmocka.h>

#include "certificates.h"

#define REQUEST_MAX 65536

struct api_connection {
	struct api_server *server;
	struct api_connection *next;
	pthread_t thread;
	int fd;
	SSL *ssl;
	bool over;
	char buffer[REQUEST_MAX];
	size_t length;
};

struct api_server {
	api_serve serve;
	void *context;
	int listener, go;
	SSL_CTX *contexts;
	struct certificate *authority, *certificate;
	char *ca;
	char url[64], port[16], account[64];
	pthread_t thread;
	pthread_mutex_t lock;
	struct api_connection *connections;
	unsigned int requests;
	bool stopping;
};

/* ---- one connection ---- */

/* False: the client is gone. */
static bool read_more(struct api_connection *connection)
{
	int got;

	if (connection->length + 1 >= sizeof(connection->buffer))
		return false;
	got = SSL_read(connection->ssl, connection->buffer + connection->length,
	               (int)(sizeof(connection->buffer) - connection->length - 1));
	if (got <= 0)
		return false;
	connection->length += (size_t)got;
	connection->buffer[connection->length] = '\0';
	return true;
}

void api_send_raw(struct api_connection *connection, const char *bytes, size_t size)
{
	size_t sent = 0, written;

	while (sent < size && !connection->over) {
		if (SSL_write_ex(connection->ssl, bytes + sent, size - sent, &written) != 1)
			connection->over = true;
		else
			sent += written;
	}
}

void api_answer(struct api_connection *connection, int status, const char *headers, const char *body)
{
	char head[512];
	int length = snprintf(head, sizeof(head),
	                      "HTTP/1.1 %d Answer\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n%s\r\n",
	                      status, strlen(body), headers ? headers : "");

	api_send_raw(connection, head, (size_t)length);
	api_send_raw(connection, body, strlen(body));
}

void api_stream(struct api_connection *connection)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	                           "Transfer-Encoding: chunked\r\n\r\n";

	api_send_raw(connection, head, sizeof(head) - 1);
}

void api_send(struct api_connection *connection, const char *text)
{
	char size[16];
	int length = snprintf(size, sizeof(size), "%zx\r\n", strlen(text));

	api_send_raw(connection, size, (size_t)length);
	api_send_raw(connection, text, strlen(text));
	api_send_raw(connection, "\r\n", 2);
}

void api_send_end(struct api_connection *connection)
{
	api_send_raw(connection, "0\r\n\r\n", 5);
}

void api_cut(struct api_connection *connection)
{
	const struct linger reset = {.l_onoff = 1};

	(void)setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	connection->over = true;
}

void api_wait_for_end(struct api_connection *connection)
{
	char byte;

	while (SSL_read(connection->ssl, &byte, 1) > 0)
		;
	connection->over = true;
}

void api_wait_for_go(struct api_connection *connection)
{
	uint64_t count;

	if (read(connection->server->go, &count, sizeof(count)) == -1)
		connection->over = true;
}

void api_server_go(struct api_server *server)
{
	const uint64_t one = 1;

	assert_int_equal(write(server->go, &one, sizeof(one)), sizeof(one));
}

static size_t content_length(const char *head)
{
	const char *found = strcasestr(head, "\r\nContent-Length:");

	return found ? strtoul(found + strlen("\r\nContent-Length:"), NULL, 10) : 0;
}

/* The next request, whole; what follows it stays in the buffer. False: the client is gone. */
static bool read_request(struct api_connection *connection, struct api_request *request)
{
	size_t head_length, body_length;
	char *end;

	while (!(end = strstr(connection->buffer, "\r\n\r\n")))
		if (!read_more(connection))
			return false;
	head_length = (size_t)(end - connection->buffer) + 4;
	*end = '\0';
	request->head = strdup(connection->buffer);
	body_length = content_length(connection->buffer);
	while (connection->length < head_length + body_length)
		if (!read_more(connection))
			return false;
	request->body = strndup(connection->buffer + head_length, body_length);
	connection->length -= head_length + body_length;
	memmove(connection->buffer, connection->buffer + head_length + body_length, connection->length);
	connection->buffer[connection->length] = '\0';
	return true;
}

/* "GET /target HTTP/1.1" in pieces. */
static void answer_request(struct api_connection *connection, struct api_request *request)
{
	struct api_server *server = connection->server;
	char *method = strdup(request->head), *target = strchr(method, ' '), *end;

	if (!target)
		abort();
	*target++ = '\0';
	end = strchr(target, ' ');
	if (!end)
		abort();
	*end = '\0';
	request->method = method;
	request->target = target;
	pthread_mutex_lock(&server->lock);
	request->number = server->requests++;
	pthread_mutex_unlock(&server->lock);
	server->serve(server->context, connection, request);
	free(method);
}

static void *run_connection(void *argument)
{
	struct api_connection *connection = argument;

	if (SSL_accept(connection->ssl) != 1)
		connection->over = true;
	while (!connection->over) {
		struct api_request request = {0};

		if (read_request(connection, &request))
			answer_request(connection, &request);
		else
			connection->over = true;
		free(request.head);
		free(request.body);
	}
	pthread_mutex_lock(&connection->server->lock);
	close(connection->fd);
	connection->fd = -1;
	pthread_mutex_unlock(&connection->server->lock);
	return NULL;
}

static void *run_listener(void *argument)
{
	struct api_server *server = argument;

	for (;;) {
		struct api_connection *connection;
		int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd == -1)
			return NULL;
		connection = calloc(1, sizeof(*connection));
		if (!connection)
			abort();
		connection->server = server;
		connection->fd = fd;
		connection->ssl = SSL_new(server->contexts);
		if (!connection->ssl || SSL_set_fd(connection->ssl, fd) != 1)
			abort();
		pthread_mutex_lock(&server->lock);
		connection->next = server->connections;
		server->connections = connection;
		if (server->stopping)
			shutdown(fd, SHUT_RDWR);
		if (pthread_create(&connection->thread, NULL, run_connection, connection))
			abort();
		pthread_mutex_unlock(&server->lock);
	}
}

/* ---- the server ---- */

static void write_file(const char *directory, const char *name, const char *text)
{
	char path[128];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void make_certificates(struct api_server *server)
{
	static const unsigned char loopback[] = {127, 0, 0, 1};
	const struct certificate_options authority = {.common_name = "api server's CA", .authority = true};
	struct certificate_options own = {.common_name = "api server"};

	server->authority = certificate_new(&authority);
	own.issuer = server->authority;
	own.names[0] = (struct certificate_name){GEN_IPADD, (const char *)loopback, sizeof(loopback)};
	server->certificate = certificate_new(&own);
	server->ca = certificate_pem((const struct certificate *const[]){server->authority, NULL});
	server->contexts = SSL_CTX_new(TLS_server_method());
	assert_non_null(server->contexts);
	assert_int_equal(SSL_CTX_use_certificate(server->contexts, server->certificate->x509), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(server->contexts, server->certificate->key), 1);
}

static void make_account(struct api_server *server)
{
	strcpy(server->account, "/tmp/postern-test-account-XXXXXX");
	assert_non_null(mkdtemp(server->account));
	write_file(server->account, "ca.crt", server->ca);
	write_file(server->account, "token", "first-token\n");
	write_file(server->account, "namespace", "postern-system");
	assert_int_equal(setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1", 1), 0);
	assert_int_equal(setenv("KUBERNETES_SERVICE_PORT", server->port, 1), 0);
}

struct api_server *api_server_start(api_serve serve, void *context)
{
	struct api_server *server = calloc(1, sizeof(*server));
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);

	assert_non_null(server);
	server->serve = serve;
	server->context = context;
	assert_int_equal(pthread_mutex_init(&server->lock, NULL), 0);
	make_certificates(server);
	server->go = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
	assert_true(server->go != -1);
	server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(server->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(server->listener, 64), 0);
	assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &length), 0);
	(void)snprintf(server->port, sizeof(server->port), "%u", ntohs(address.sin_port));
	(void)snprintf(server->url, sizeof(server->url), "https://127.0.0.1:%s", server->port);
	make_account(server);
	assert_int_equal(pthread_create(&server->thread, NULL, run_listener, server), 0);
	return server;
}

static void remove_account(const struct api_server *server)
{
	static const char *const names[] = {"ca.crt", "token", "namespace"};
	char path[128];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", server->account, names[i]);
		(void)unlink(path);
	}
	assert_int_equal(rmdir(server->account), 0);
}

void api_server_stop(struct api_server *server)
{
	const uint64_t many = 1000;

	if (!server)
		return;
	shutdown(server->listener, SHUT_RDWR); /* ends accept4() */
	pthread_join(server->thread, NULL);
	assert_int_equal(write(server->go, &many, sizeof(many)), sizeof(many));
	pthread_mutex_lock(&server->lock);
	server->stopping = true;
	for (struct api_connection *connection = server->connections; connection; connection = connection->next)
		if (connection->fd != -1)
			shutdown(connection->fd, SHUT_RDWR);
	pthread_mutex_unlock(&server->lock);
	while (server->connections) {
		struct api_connection *connection = server->connections;

		server->connections = connection->next;
		pthread_join(connection->thread, NULL);
		SSL_free(connection->ssl);
		free(connection);
	}
	close(server->listener);
	close(server->go);
	SSL_CTX_free(server->contexts);
	certificate_free(server->certificate);
	certificate_free(server->authority);
	remove_account(server);
	free(server->ca);
	pthread_mutex_destroy(&server->lock);
	free(server);
}

const char *api_server_url(const struct api_server *server)
{
	return server->url;
}

const char *api_server_ca(const struct api_server *server)
{
	return server->ca;
}

const char *api_server_account(const struct api_server *server)
{
	return server->account;
}

const char *api_query(const struct api_request *request, const char *key, char buffer[static 512])
{
	const char *place = strchr(request->target, '?');
	size_t length = strlen(key);

	buffer[0] = '\0';
	while (place) {
		place++;
		if (strncmp(place, key, length) == 0 && place[length] == '=') {
			(void)snprintf(buffer, 512, "%.*s", (int)strcspn(place + length + 1, "&"), place + length + 1);
			break;
		}
		place = strchr(place, '&');
	}
	return buffer;
}

bool api_has_header(const struct api_request *request, const char *line)
{
	const char *found = strcasestr(request->head, line);

	return found && found[-1] == '\n' && strchr("\r", found[strlen(line)]);
}
