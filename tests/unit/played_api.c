// SPDX-License-Identifier: GPL-2.0-only
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "played_api.h"

/* One is played at a time: cancel() is told a request and nothing else. */
static struct played_api *current;

struct kubernetes_client *played_client(struct played_api *api)
{
	current = api;
	return (struct kubernetes_client *)api;
}

struct kubernetes_request *played_send(struct kubernetes_client *client, const struct kubernetes_call *call)
{
	struct played_api *api = (struct played_api *)client;
	struct kubernetes_request *request = calloc(1, sizeof(*request)), **place = &api->first;

	assert_non_null(request);
	request->method = strdup(call->method);
	request->path = strdup(call->path);
	request->content_type = call->content_type ? strdup(call->content_type) : NULL;
	request->body = json_deep_copy(call->body);
	request->on_answer = call->on_answer;
	request->context = call->context;
	while (*place)
		place = &(*place)->next;
	*place = request;
	api->open++;
	api->sent++;
	return request;
}

static void forget(struct kubernetes_request *request)
{
	struct kubernetes_request **place = &current->first;

	while (*place && *place != request)
		place = &(*place)->next;
	assert_ptr_equal(*place, request);
	*place = request->next;
	current->open--;
}

static void free_request(struct kubernetes_request *request)
{
	free(request->method);
	free(request->path);
	free(request->content_type);
	json_decref(request->body);
	free(request);
}

void played_cancel(struct kubernetes_request *request)
{
	forget(request);
	free_request(request);
	current->cancelled++;
}

struct kubernetes_request *played_find(struct played_api *api, const char *method, const char *path_end)
{
	for (struct kubernetes_request *request = api->first; request; request = request->next) {
		size_t length = strlen(request->path), end = strlen(path_end);

		if (!strcmp(request->method, method) && length >= end &&
		    !strcmp(request->path + length - end, path_end))
			return request;
	}
	fail_msg("no %s ...%s among %zu requests, the first is %s %s", method, path_end, api->open,
	         api->first ? api->first->method : "none", api->first ? api->first->path : "");
	return NULL;
}

void played_answer(struct kubernetes_request *request, int status, json_t *body)
{
	const struct kubernetes_answer answer = {
	        .status = status,
	        .body = body,
	        .error = status >= 200 && status < 300 ? NULL : "played",
	};

	forget(request);
	request->on_answer(request->context, &answer);
	free_request(request);
	json_decref(body);
}

void played_end(struct played_api *api)
{
	while (api->first)
		played_cancel(api->first);
}
