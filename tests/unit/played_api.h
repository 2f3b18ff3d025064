/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * played_api.h: the API server's client as a test plays it: requests are kept until the test answers them. One at a
 * time, since kubernetes_send() has no other state than its client.
 */
#ifndef POSTERN_TESTS_PLAYED_API_H
#define POSTERN_TESTS_PLAYED_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "kubernetes/client.h"

struct kubernetes_request {
	struct kubernetes_request *next;
	char *method, *path, *content_type;
	json_t *body; /* NULL: none */
	void (*on_answer)(void *context, const struct kubernetes_answer *answer);
	void *context;
};

struct played_api {
	struct kubernetes_request *first;
	size_t open, sent, cancelled;
	bool leads; /* for leads() */
};

/* The client of options: a played_api goes by its name. */
struct kubernetes_client *played_client(struct played_api *api);
struct kubernetes_request *played_send(struct kubernetes_client *client, const struct kubernetes_call *call);
void played_cancel(struct kubernetes_request *request);

/* The first request of this method whose path ends so; the test fails if there is none. */
struct kubernetes_request *played_find(struct played_api *api, const char *method, const char *path_end);
/* Answers and forgets it. body is taken over; NULL: none. From 300 on, and for 0, error is set. */
void played_answer(struct kubernetes_request *request, int status, json_t *body);
void played_end(struct played_api *api);

#endif
