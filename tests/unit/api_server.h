/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * api_server.h: an HTTP/1.1 server with TLS in the test's own hands, one thread a connection, that answers what the
 * test says, wrong answers included. For the tests of the Kubernetes client, watch and source.
 */
#ifndef POSTERN_TESTS_API_SERVER_H
#define POSTERN_TESTS_API_SERVER_H

#include <stdbool.h>
#include <stddef.h>

struct api_server;
struct api_connection;

struct api_request {
	unsigned int number; /* of all that this server got, from 0 */
	char *head;          /* request line and headers */
	const char *method;  /* "GET" */
	const char *target;  /* "/api/v1/services?limit=100" */
	char *body;          /* "" if there is none */
};

/* In the connection's thread. Returning keeps the connection for the next request. */
typedef void (*api_serve)(void *context, struct api_connection *connection, const struct api_request *request);

struct api_server *api_server_start(api_serve serve, void *context);
/* Its connections are cut. */
void api_server_stop(struct api_server *server);
const char *api_server_url(const struct api_server *server); /* https://127.0.0.1:PORT */
const char *api_server_ca(const struct api_server *server);  /* PEM */
/* Reads KUBERNETES_SERVICE_HOST and _PORT, a directory with ca.crt, token and namespace: as in a pod. */
const char *api_server_account(const struct api_server *server);

/* A whole answer; headers: NULL, or lines that each end with CRLF. */
void api_answer(struct api_connection *connection, int status, const char *headers, const char *body);
/* A 200 in chunks: each text as it is; the end in order. */
void api_stream(struct api_connection *connection);
void api_send(struct api_connection *connection, const char *text);
void api_send_end(struct api_connection *connection);
/* Bytes outside of HTTP. */
void api_send_raw(struct api_connection *connection, const char *bytes, size_t size);
/* The connection is reset, without TLS's or TCP's end. */
void api_cut(struct api_connection *connection);
/* Until the client ends the connection. */
void api_wait_for_end(struct api_connection *connection);
/* Until the test says so; it may say so before. */
void api_wait_for_go(struct api_connection *connection);
void api_server_go(struct api_server *server);

/* The value of key in the request's query, "" if there is none, as it stands there. */
const char *api_query(const struct api_request *request, const char *key, char buffer[static 512]);
bool api_has_header(const struct api_request *request, const char *line); /* "Authorization: Bearer x" */

#endif
