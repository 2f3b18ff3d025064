/* SPDX-License-Identifier: GPL-2.0-only */
#include "controller/agent_reader.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "controller/json_cleanup.h"
#include "kubernetes/curl_loop.h"

#define CONNECT_TIMEOUT_MS 2000L
#define HTTP_OK            200

struct question {
	struct agent_reader *reader;
	struct question *next, **place;
	char *agent;
	CURL *easy;
	char *body;
	size_t length;
	char error[CURL_ERROR_SIZE];
};

struct agent_reader {
	struct agent_reader_options options;
	struct curl_loop curl;
	struct question *questions;
	size_t count;
};

/* ---- questions ---- */

static void end_question(struct question *question)
{
	struct agent_reader *reader = question->reader;

	if (question->place) {
		*question->place = question->next;
		if (question->next)
			question->next->place = question->place;
		reader->count--;
		(void)curl_multi_remove_handle(reader->curl.multi, question->easy);
	}
	curl_easy_cleanup(question->easy);
	free(question->agent);
	free(question->body);
	free(question);
}

static size_t on_body(char *data, size_t unit, size_t count, void *context)
{
	struct question *question = context;
	size_t size = unit * count;
	char *larger;

	if (size > AGENT_READER_BODY_MAX - question->length)
		return 0; /* libcurl ends it */
	larger = realloc(question->body, question->length + size + 1);
	if (!larger)
		return 0;
	memcpy(larger + question->length, data, size);
	question->body = larger;
	question->length += size;
	return size;
}

static void answer(struct question *question, CURLcode result)
{
	const struct agent_reader_options *options = &question->reader->options;
	_cleanup_json_ json_t *body = NULL;
	char error[CURL_ERROR_SIZE + 64] = "";
	long status = 0;

	(void)curl_easy_getinfo(question->easy, CURLINFO_RESPONSE_CODE, &status);
	if (result != CURLE_OK)
		(void)snprintf(error, sizeof(error), "%s",
		               *question->error ? question->error : curl_easy_strerror(result));
	else if (status != HTTP_OK)
		(void)snprintf(error, sizeof(error), "HTTP status %ld", status);
	else if (!(body = json_loadb(question->body ? question->body : "", question->length, JSON_REJECT_DUPLICATES,
	                             NULL)) ||
	         !json_is_object(body))
		(void)snprintf(error, sizeof(error), "the answer is no JSON object");
	options->on_answer(options->context, question->agent, *error ? NULL : body, error);
	end_question(question);
}

/* Outside of libcurl, which allows no handle to be removed from inside it. */
static void on_acted(void *context)
{
	struct agent_reader *reader = context;
	struct question *question;
	const CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(reader->curl.multi, &left))) {
		CURLcode result = message->data.result;

		if (message->msg == CURLMSG_DONE &&
		    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&question) == CURLE_OK)
			answer(question, result);
	}
}

/* ---- from outside ---- */

static int make_url(const char *address, uint16_t port, char *url, size_t size)
{
	unsigned char binary[sizeof(struct in6_addr)];

	if (inet_pton(AF_INET, address, binary) == 1)
		(void)snprintf(url, size, "http://%s:%u/enrolled", address, port);
	else if (inet_pton(AF_INET6, address, binary) == 1)
		(void)snprintf(url, size, "http://[%s]:%u/enrolled", address, port);
	else
		return -EINVAL;
	return 0;
}

static int set_options(struct question *question, const char *url)
{
	CURL *easy = question->easy;

	/* No proxy of the environment, no redirect, no other protocol. */
	if (curl_easy_setopt(easy, CURLOPT_URL, url) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http") != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_PROXY, "") != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*") != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, AGENT_READER_TIMEOUT) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_WRITEDATA, question) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, question->error) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_PRIVATE, question) != CURLE_OK)
		return -ENOMEM;
	return 0;
}

static bool is_asked(const struct agent_reader *reader, const char *agent)
{
	for (const struct question *each = reader->questions; each; each = each->next)
		if (!strcmp(each->agent, agent))
			return true;
	return false;
}

int agent_reader_ask(struct agent_reader *reader, const char *agent, const char *address)
{
	struct question *question;
	char url[128];

	if (is_asked(reader, agent))
		return -EALREADY;
	if (reader->count >= AGENT_READER_PARALLEL)
		return -EBUSY;
	if (make_url(address, reader->options.port, url, sizeof(url)) < 0)
		return -EINVAL;
	question = calloc(1, sizeof(*question));
	if (!question)
		return -ENOMEM;
	question->reader = reader;
	question->agent = strdup(agent);
	question->easy = curl_easy_init();
	if (!question->agent || !question->easy || set_options(question, url) < 0 ||
	    curl_multi_add_handle(reader->curl.multi, question->easy) != CURLM_OK) {
		end_question(question);
		return -ENOMEM;
	}
	question->next = reader->questions;
	question->place = &reader->questions;
	if (question->next)
		question->next->place = &question->next;
	reader->questions = question;
	reader->count++;
	return 0;
}

int agent_reader_new(const struct agent_reader_options *options, struct agent_reader **result)
{
	struct agent_reader *reader = calloc(1, sizeof(*reader));
	int error;

	if (!reader)
		return -ENOMEM;
	reader->options = *options;
	error = curl_loop_open(&reader->curl, options->loop, on_acted, reader);
	if (error) {
		free(reader);
		return error;
	}
	*result = reader;
	return 0;
}

void agent_reader_free(struct agent_reader *reader)
{
	if (!reader)
		return;
	while (reader->questions)
		end_question(reader->questions);
	curl_loop_close(&reader->curl);
	free(reader);
}
