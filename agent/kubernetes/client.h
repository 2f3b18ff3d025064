/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * client.h: requests to the API server, over libcurl, inside a loop: nothing blocks. HTTP/2 where libcurl can, so that
 * requests and watches share one connection; a bearer token as of now with each request. Bodies and headers are
 * bounded.
 *
 * Who calls: watch.h for lists and watches; the source for single objects and the quorum LIST; postern-controller for
 * what it writes. One thread: the loop's.
 */
#ifndef POSTERN_KUBERNETES_CLIENT_H
#define POSTERN_KUBERNETES_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kubernetes_client;
struct kubernetes_credentials;
struct kubernetes_request; /* one that is under way */
struct loop;

#define KUBERNETES_BODY_MAX  (64u << 20)                     /* of one answer, or of one line of a watch */
#define KUBERNETES_TOO_LARGE "an answer of more than 64 MiB" /* what error says then */

/*
 * Both must live as long as the client. After what sets OpenSSL up for the process (tls_global_init()): libcurl would
 * read openssl.cnf otherwise. What libcurl frees is wiped. 0 or -ENOMEM, -EIO (libcurl).
 */
int kubernetes_client_new(struct loop *loop, struct kubernetes_credentials *credentials,
                          struct kubernetes_client **client);
/* Every request under way is cancelled without a word. NULL-safe; not from inside a callback. */
void kubernetes_client_free(struct kubernetes_client *client);

struct kubernetes_answer {
	int status;        /* of HTTP; 0: there was none, or it was cut: see error */
	json_t *body;      /* borrowed; NULL if there was none, or if it is no JSON (error says so) */
	const char *bytes; /* of a call that asked for them, if it succeeded: borrowed */
	size_t length;
	const char *error;       /* one line: transport's, or reason and message of the server's Status; NULL: 2xx */
	uint64_t retry_after_ns; /* of 429 and 503; 0: nothing was said */
};

struct kubernetes_call {
	const char *method;       /* GET, POST, PUT, PATCH, DELETE */
	const char *path;         /* "/api/v1/..." with its query, percent-encoded (kubernetes_path_*()) */
	const char *content_type; /* of the body; NULL: application/json. Of PATCH: which kind of patch */
	const char *accept;       /* NULL: application/json */
	const json_t *body;       /* NULL: none; copied */
	bool wants_bytes;         /* the answer is no JSON: accept says what */
	uint64_t timeout_ns;      /* for all of it; of a stream: until its answer begins. 0: 30 s */
	/*
	 * Called once, in a round of the loop, never from inside kubernetes_send(). The request is gone afterwards.
	 */
	void (*on_answer)(void *context, const struct kubernetes_answer *answer);
	/*
	 * Not NULL: a stream (watch). Each line of a 200 answer as one JSON value, borrowed; on_answer at its end, with
	 * status 200, and error NULL if the server ended it in order. A line that is no JSON ends it, and one that is
	 * cut is none. A silent stream ends after idle_timeout_ns.
	 */
	void (*on_line)(void *context, json_t *line);
	void (*on_open)(void *context); /* the stream's 200 has come; may be NULL */
	uint64_t idle_timeout_ns;
	void *context;
};

/* NULL: no memory. The strings of call are copied. */
struct kubernetes_request *kubernetes_send(struct kubernetes_client *client, const struct kubernetes_call *call);
/* No callback will come. NULL-safe; also from inside its own callbacks. */
void kubernetes_cancel(struct kubernetes_request *request);

/* Something that was to come by the connection did not: requests from now on make one of their own, until one is
 * answered. Done at each timeout, too. */
void kubernetes_distrust(struct kubernetes_client *client);

/* How the server is reached: for status and metrics. */
struct kubernetes_client_statistics {
	uint64_t requests, failures; /* failures: no answer at all */
	uint64_t connections;        /* made */
	uint64_t bytes_read;
	uint64_t last_success_ns; /* CLOCK_MONOTONIC; 0: never */
	char last_error[256];     /* "" if the last request was answered */
};
const struct kubernetes_client_statistics *kubernetes_client_statistics(const struct kubernetes_client *client);

/*
 * "/apis/gateway.networking.k8s.io/v1/namespaces/NAMESPACE/RESOURCE/NAME/SUBRESOURCE", with "" for what is not there;
 * group "" is the core group. A segment with a character that a name cannot have gives -EINVAL. 0 or -ENOMEM; free().
 */
int kubernetes_path(const char *group, const char *version, const char *namespace_, const char *resource,
                    const char *name, const char *subresource, char **path);
/* Adds "?key=value" or "&key=value", percent-encoded. 0 or -ENOMEM. */
int kubernetes_path_add(char **path, const char *key, const char *value);

#endif
