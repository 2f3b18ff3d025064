/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * client_internal.h: what client.c (requests as they end), request.c (one request) and answer.c (what the server
 * said) share.
 *
 * libcurl calls back into request.c from inside curl_multi_socket_action(), where nothing may be removed: there, bytes
 * are kept and the request becomes ready. Callbacks to whoever sent it come after libcurl has returned, from
 * client_deliver() alone.
 */
#ifndef POSTERN_KUBERNETES_CLIENT_INTERNAL_H
#define POSTERN_KUBERNETES_CLIENT_INTERNAL_H

#include <curl/curl.h>

#include "base/loop.h"
#include "kubernetes/client.h"
#include "kubernetes/curl_loop.h"

struct kubernetes_client {
	struct loop *loop;
	struct kubernetes_credentials *credentials;
	struct curl_loop curl;
	struct kubernetes_request *requests;
	struct kubernetes_request *ready, **ready_end;
	/* The last answer that was awaited did not come: the next request does not trust its connection. */
	bool distrusts;
	struct kubernetes_client_statistics statistics;
};

struct bytes { /* all zero = empty; wiped when it goes */
	char *data;
	size_t length, capacity;
};

struct kubernetes_request {
	struct kubernetes_client *client;
	struct kubernetes_request *next, **place; /* of the client's */
	struct kubernetes_request *next_ready;
	bool is_ready;
	bool wants_bytes;
	bool added;      /* to the multi handle */
	bool finished;   /* nothing more will come: result and problem say how it went */
	bool delivering; /* inside one of its callbacks: freed after it */
	bool cancelled;
	CURL *easy;
	struct curl_slist *headers;
	char *body; /* what is sent; freed by jansson's allocator */
	struct bytes received;
	size_t searched; /* of a stream's bytes: no line ends before */
	size_t header_bytes;
	long status; /* 0: no answer has begun */
	uint64_t retry_after_ns;
	struct loop_timer timer;
	CURLcode result;
	char problem[160]; /* ours; "": libcurl's */
	char curl_error[CURL_ERROR_SIZE];
	uint64_t idle_timeout_ns;
	void (*on_answer)(void *context, const struct kubernetes_answer *answer);
	void (*on_line)(void *context, json_t *line);
	void (*on_open)(void *context); /* NULL: told, or nobody wants to know */
	void *context;
};

/* client.c */
void client_make_ready(struct kubernetes_request *request);
void client_forget_ready(struct kubernetes_request *request);
void client_deliver(struct kubernetes_client *client);

/* request.c */
void request_deliver(struct kubernetes_request *request);

/* answer.c: the JSON of a body; NULL with a message. */
json_t *answer_parse(const char *bytes, size_t length, char *error, size_t error_size);
/* "403 Forbidden: ..." of a status that is no success; fit for a log line. */
void answer_describe(long status, const json_t *body, char *error, size_t error_size);

#endif
