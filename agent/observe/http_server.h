/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * http_server.h: the HTTP endpoint of agent and controller: GET and HEAD of a few paths (libmicrohttpd).
 *
 * It runs in the control thread: its epoll descriptor is a source of the loop. A thread of its own would need locks
 * around all that the answers are made of, which the control thread owns; nothing here waits, and what takes longer
 * (the probe of /readyz) keeps the request and answers it later. The price is that an answer waits for a compile that
 * is under way, so probes want a timeout of some seconds.
 *
 * Everything is bounded: connections at a time, in all and from one address; memory of a connection, and with it the
 * size of its headers; the time without a byte, and the time for one request. Control thread.
 */
#ifndef POSTERN_OBSERVE_HTTP_SERVER_H
#define POSTERN_OBSERVE_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"

#define HTTP_CONNECTIONS_MAX         32 /* more wait in the backlog */
#define HTTP_CONNECTIONS_OF_ADDRESS  16
#define HTTP_CONNECTION_MEMORY       (16u << 10)
#define HTTP_DEFAULT_TIMEOUT_SECONDS 10 /* without a byte */
#define HTTP_DEFAULT_REQUEST_SECONDS 30 /* for a request as a whole, from the connection or the one before */

struct http_request;
struct http_server;
struct loop;

struct http_options {
	struct postern_address address; /* unspecified ("::"): every address, of both families */
	uint16_t port;                  /* host byte order; 0: the kernel chooses (tests) */
	/*
	 * A GET of this path. accept is the header, or NULL. To be answered by http_reply(), in here or later. False:
	 * there is nothing by this name.
	 */
	bool (*answer)(void *context, struct http_request *request, const char *path, const char *accept);
	/* The client is gone, or the server is: a request that was kept must not be answered any more. May be NULL. */
	void (*forget)(void *context, struct http_request *request);
	void *context;
	unsigned int timeout_seconds; /* 0: the defaults above */
	unsigned int request_seconds;
};

/* 0, or negative errno (-EADDRINUSE: somebody listens there). */
int http_server_open(struct loop *loop, const struct http_options *options, struct http_server **server);
/* NULL-safe. */
void http_server_close(struct http_server *server);
/* Where it listens, in host byte order. */
uint16_t http_server_port(const struct http_server *server);

/* Once for each request. body is taken over (free()); NULL: no memory, the client gets a 500. type is copied. */
void http_reply(struct http_request *request, unsigned int status, const char *type, char *body, size_t length);
/* The same for a text of ours, which is copied. */
void http_reply_text(struct http_request *request, unsigned int status, const char *text);

#endif
