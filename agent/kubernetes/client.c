// SPDX-License-Identifier: GPL-2.0-only
/* Requests as libcurl ends them: collected, then told. */
#include "kubernetes/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/wiping.h"
#include "kubernetes/client_internal.h"

void client_make_ready(struct kubernetes_request *request)
{
	struct kubernetes_client *client = request->client;

	if (request->is_ready)
		return;
	request->is_ready = true;
	request->next_ready = NULL;
	*client->ready_end = request;
	client->ready_end = &request->next_ready;
}

void client_forget_ready(struct kubernetes_request *request)
{
	struct kubernetes_client *client = request->client;
	struct kubernetes_request **place = &client->ready;

	if (!request->is_ready)
		return;
	while (*place != request)
		place = &(*place)->next_ready;
	*place = request->next_ready;
	if (client->ready_end == &request->next_ready)
		client->ready_end = place;
	request->is_ready = false;
}

void client_deliver(struct kubernetes_client *client)
{
	while (client->ready) {
		struct kubernetes_request *request = client->ready;

		client_forget_ready(request);
		request_deliver(request);
	}
}

static void collect_finished(struct kubernetes_client *client)
{
	struct kubernetes_request *request;
	const CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(client->curl.multi, &left))) {
		if (message->msg != CURLMSG_DONE ||
		    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&request) != CURLE_OK)
			continue;
		request->finished = true;
		request->result = message->data.result;
		client_make_ready(request);
	}
}

static void on_acted(void *context)
{
	struct kubernetes_client *client = context;

	collect_finished(client);
	client_deliver(client);
}

static int start_multi(struct kubernetes_client *client)
{
	int error = curl_loop_open(&client->curl, client->loop, on_acted, client);

	if (error)
		return error;
	return curl_multi_setopt(client->curl.multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX) == CURLM_OK ? 0 : -EIO;
}

int kubernetes_client_new(struct loop *loop, struct kubernetes_credentials *credentials,
                          struct kubernetes_client **result)
{
	struct kubernetes_client *client = calloc(1, sizeof(*client));
	int error;

	if (!client)
		return -ENOMEM;
	/* libcurl would write TLS secrets there. */
	if (unsetenv("SSLKEYLOGFILE") == -1 || curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, wiping_free,
	                                                            wiping_realloc, strdup, calloc) != CURLE_OK) {
		free(client);
		return -EIO;
	}
	client->loop = loop;
	client->credentials = credentials;
	client->ready_end = &client->ready;
	error = start_multi(client);
	if (error)
		kubernetes_client_free(client);
	else
		*result = client;
	return error;
}

void kubernetes_client_free(struct kubernetes_client *client)
{
	if (!client)
		return;
	while (client->requests)
		kubernetes_cancel(client->requests);
	curl_loop_close(&client->curl);
	free(client);
	curl_global_cleanup();
}

const struct kubernetes_client_statistics *kubernetes_client_statistics(const struct kubernetes_client *client)
{
	return &client->statistics;
}

void kubernetes_distrust(struct kubernetes_client *client)
{
	client->distrusts = true;
}
