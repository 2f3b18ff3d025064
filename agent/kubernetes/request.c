// SPDX-License-Identifier: GPL-2.0-only
/* One request: what libcurl is told of it, what comes back, and who is told. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/printable.h"
#include "base/version.h"
#include "base/wiping.h"
#include "kubernetes/client_internal.h"
#include "kubernetes/credentials.h"

#define HEADERS_MAX_BYTES    (64u << 10)
#define CONNECT_TIMEOUT_MS   10000L
#define DEFAULT_TIMEOUT_NS   30000000000ull
#define RETRY_AFTER_MAX_S    300
#define KEEPALIVE_IDLE_S     15L
#define KEEPALIVE_INTERVAL_S 5L
/* A peer that acknowledges nothing for so long is gone: TCP alone would try for a quarter of an hour. */
#define TCP_USER_TIMEOUT_MS 30000
#define KEPT_CAPACITY       (64u << 10) /* of a stream between its lines */

/* ---- bytes ---- */

static void bytes_free(struct bytes *bytes)
{
	wiping_free(bytes->data);
	*bytes = (struct bytes){0};
}

static int bytes_add(struct bytes *bytes, const char *data, size_t size)
{
	size_t wanted = bytes->capacity ? bytes->capacity : 4096;
	char *larger;

	if (size > KUBERNETES_BODY_MAX || bytes->length + size > KUBERNETES_BODY_MAX)
		return -EFBIG;
	while (wanted < bytes->length + size)
		wanted *= 2;
	if (wanted != bytes->capacity) {
		larger = wiping_realloc(bytes->data, wanted);
		if (!larger)
			return -ENOMEM;
		bytes->data = larger;
		bytes->capacity = wanted;
	}
	memcpy(bytes->data + bytes->length, data, size);
	bytes->length += size;
	return 0;
}

static void bytes_drop(struct bytes *bytes, size_t size)
{
	bytes->length -= size;
	if (bytes->length == 0 && bytes->capacity > KEPT_CAPACITY)
		bytes_free(bytes);
	else
		memmove(bytes->data, bytes->data + size, bytes->length);
}

/* ---- from libcurl ---- */

static void wait_at_most(struct kubernetes_request *request, uint64_t timeout_ns)
{
	if (loop_timer_set(request->client->loop, &request->timer, timeout_ns) == 0)
		return;
	(void)snprintf(request->problem, sizeof(request->problem), "no memory");
	request->finished = true;
	client_make_ready(request);
}

static bool is_stream(const struct kubernetes_request *request)
{
	return request->on_line && request->status == 200;
}

static size_t on_body(char *data, size_t unit, size_t count, void *context)
{
	struct kubernetes_request *request = context;
	size_t size = unit * count;
	int error = bytes_add(&request->received, data, size);

	request->client->statistics.bytes_read += size;
	if (error) {
		(void)snprintf(request->problem, sizeof(request->problem), "%s",
		               error == -EFBIG ? KUBERNETES_TOO_LARGE : "no memory");
		return 0; /* libcurl ends it */
	}
	if (is_stream(request)) {
		wait_at_most(request, request->idle_timeout_ns);
		client_make_ready(request);
	}
	return size;
}

/* Seconds alone; a date would need a clock that agrees with the server's. */
static uint64_t parse_retry_after(const char *value, size_t length)
{
	uint64_t seconds = 0;
	size_t i = 0;

	while (i < length && (value[i] == ' ' || value[i] == '\t'))
		i++;
	for (; i < length && value[i] >= '0' && value[i] <= '9'; i++)
		if (seconds < RETRY_AFTER_MAX_S)
			seconds = seconds * 10 + (uint64_t)(value[i] - '0');
	return (seconds < RETRY_AFTER_MAX_S ? seconds : RETRY_AFTER_MAX_S) * 1000000000;
}

static void read_header(struct kubernetes_request *request, const char *line, size_t length)
{
	static const char retry_after[] = "retry-after:";
	long status = 0;

	if (length >= sizeof(retry_after) - 1 && strncasecmp(line, retry_after, sizeof(retry_after) - 1) == 0)
		request->retry_after_ns = parse_retry_after(line + sizeof(retry_after) - 1,
		                                            length - (sizeof(retry_after) - 1));
	if (length > 2 || (line[0] != '\r' && line[0] != '\n'))
		return;
	/* The headers' end; of an interim answer, perhaps. */
	(void)curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status < 200)
		return;
	request->status = status;
	if (!is_stream(request))
		return;
	wait_at_most(request, request->idle_timeout_ns);
	client_make_ready(request);
}

static size_t on_header(char *data, size_t unit, size_t count, void *context)
{
	struct kubernetes_request *request = context;
	size_t size = unit * count;

	request->client->statistics.bytes_read += size;
	request->header_bytes += size;
	if (request->header_bytes > HEADERS_MAX_BYTES) {
		(void)snprintf(request->problem, sizeof(request->problem), "headers of more than %u KiB",
		               HEADERS_MAX_BYTES >> 10);
		return 0;
	}
	if (size)
		read_header(request, data, size);
	return size;
}

static int on_connect(void *context, curl_socket_t fd, curlsocktype purpose)
{
	struct kubernetes_client *client = context;
	int milliseconds = TCP_USER_TIMEOUT_MS;

	(void)purpose;
	client->statistics.connections++;
	/* Without it dead connections are found later. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof(milliseconds));
	return CURL_SOCKOPT_OK;
}

static void on_timeout(struct loop_timer *timer)
{
	struct kubernetes_request *request = container_of(timer, struct kubernetes_request, timer);

	(void)snprintf(request->problem, sizeof(request->problem), "%s",
	               is_stream(request) ? "the stream was silent for too long" : "no answer in time");
	request->finished = true;
	request->result = CURLE_OPERATION_TIMEDOUT;
	client_make_ready(request);
	client_deliver(request->client);
}

/* ---- to whoever sent it ---- */

static void detach(struct kubernetes_request *request)
{
	client_forget_ready(request);
	loop_timer_cancel(request->client->loop, &request->timer);
	if (request->added)
		(void)curl_multi_remove_handle(request->client->curl.multi, request->easy);
	request->added = false;
	if (request->place) {
		*request->place = request->next;
		if (request->next)
			request->next->place = request->place;
	}
	request->place = NULL;
}

static void release(struct kubernetes_request *request)
{
	detach(request);
	curl_easy_cleanup(request->easy);
	curl_slist_free_all(request->headers); /* wiped, as all that libcurl frees */
	bytes_free(&request->received);
	wiping_free(request->body);
	free(request);
}

static void tell_line(struct kubernetes_request *request, const char *line, size_t length)
{
	char why[80];
	json_t *value = answer_parse(line, length, why, sizeof(why));

	if (!value) {
		(void)snprintf(request->problem, sizeof(request->problem), "a line of the stream %s", why);
		request->finished = true;
		return;
	}
	request->on_line(request->context, value);
	json_decref(value);
}

/* Every line that is whole. False: cancelled by its own callback. */
static bool tell_lines(struct kubernetes_request *request)
{
	struct bytes *received = &request->received;
	size_t start = 0;

	while (!request->problem[0] && !request->cancelled) {
		const char *from = received->data + request->searched;
		const char *end = received->length ? memchr(from, '\n', received->length - request->searched) : NULL;

		if (!end) {
			request->searched = received->length;
			break;
		}
		request->searched = (size_t)(end - received->data) + 1;
		if (request->searched - start > 1)
			tell_line(request, received->data + start, request->searched - 1 - start);
		start = request->searched;
	}
	if (start) {
		request->searched -= start;
		bytes_drop(received, start);
	}
	return !request->cancelled;
}

static void describe_failure(const struct kubernetes_request *request, char *error, size_t size)
{
	const char *curl = request->curl_error[0] ? request->curl_error : curl_easy_strerror(request->result);

	(void)snprintf(error, size, "%s", request->problem[0] ? request->problem : curl);
	printable_in_place(error);
}

static bool failed(const struct kubernetes_request *request)
{
	return request->problem[0] || request->result != CURLE_OK || request->status == 0;
}

static void count(struct kubernetes_request *request, const char *error)
{
	struct kubernetes_client *client = request->client;
	struct kubernetes_client_statistics *statistics = &client->statistics;

	if (request->status == 401)
		kubernetes_credentials_expire(client->credentials);
	if (!failed(request)) {
		statistics->last_success_ns = loop_now_ns(client->loop);
		statistics->last_error[0] = '\0';
		client->distrusts = false;
		return;
	}
	statistics->failures++;
	(void)snprintf(statistics->last_error, sizeof(statistics->last_error), "%s", error);
	client->distrusts |= request->result == CURLE_OPERATION_TIMEDOUT;
}

/* The JSON of the body, or NULL with the reason in error if it should be some. */
static json_t *parse_body(const struct kubernetes_request *request, char *error, size_t size)
{
	char why[80];
	json_t *body;

	if (request->received.length == 0)
		return NULL;
	body = answer_parse(request->received.data, request->received.length, why, sizeof(why));
	if (!body)
		(void)snprintf(error, size, "the answer %s", why);
	return body;
}

static void tell_answer(struct kubernetes_request *request)
{
	struct kubernetes_answer answer = {.status = (int)request->status};
	bool whole_stream = is_stream(request);
	char error[512] = "";
	json_t *body = NULL;

	if (whole_stream && !failed(request) && request->received.length)
		(void)snprintf(request->problem, sizeof(request->problem), "the stream ended in the middle of a line");
	if (failed(request)) {
		describe_failure(request, error, sizeof(error));
		if (!whole_stream)
			answer.status = 0;
	} else if (!whole_stream && request->wants_bytes && request->status < 300) {
		answer.bytes = request->received.data;
		answer.length = request->received.length;
	} else if (!whole_stream) {
		body = parse_body(request, error, sizeof(error));
		answer.retry_after_ns = request->retry_after_ns;
		if (request->status >= 300)
			answer_describe(request->status, body, error, sizeof(error));
	}
	if (!answer.bytes)
		bytes_free(&request->received); /* what is made of the answer needs the room */
	count(request, error);
	answer.body = body;
	answer.error = error[0] ? error : NULL;
	request->on_answer(request->context, &answer);
	json_decref(body);
}

void request_deliver(struct kubernetes_request *request)
{
	request->delivering = true;
	if (is_stream(request) && request->on_open) {
		void (*on_open)(void *context) = request->on_open;

		request->on_open = NULL;
		on_open(request->context);
	}
	if (is_stream(request) && tell_lines(request))
		request->client->statistics.last_success_ns = loop_now_ns(request->client->loop);
	if (!request->cancelled && request->finished) {
		detach(request);
		tell_answer(request);
		request->cancelled = true;
	}
	request->delivering = false;
	if (request->cancelled)
		release(request);
}

void kubernetes_cancel(struct kubernetes_request *request)
{
	if (!request)
		return;
	request->cancelled = true;
	if (request->delivering)
		detach(request); /* request_deliver() frees it */
	else
		release(request);
}

/* ---- to libcurl ---- */

static int add_header(struct kubernetes_request *request, const char *name, const char *value)
{
	_cleanup_wiping_free_ char *line = NULL;
	struct curl_slist *longer;

	if (asprintf(&line, "%s:%s%s", name, *value ? " " : "", value) == -1) {
		line = NULL;
		return -ENOMEM;
	}
	longer = curl_slist_append(request->headers, line);
	if (!longer)
		return -ENOMEM;
	request->headers = longer;
	return 0;
}

static int add_headers(struct kubernetes_request *request, const struct kubernetes_call *call)
{
	struct kubernetes_client *client = request->client;
	const char *token = kubernetes_credentials_token(client->credentials, loop_now_ns(client->loop));
	_cleanup_wiping_free_ char *bearer = NULL;

	if (token && asprintf(&bearer, "Bearer %s", token) == -1) {
		bearer = NULL;
		return -ENOMEM;
	}
	if (add_header(request, "Accept", call->accept ? call->accept : "application/json") < 0 ||
	    add_header(request, "Expect", "") < 0 || (bearer && add_header(request, "Authorization", bearer) < 0))
		return -ENOMEM;
	if (!call->body)
		return 0;
	return add_header(request, "Content-Type", call->content_type ? call->content_type : "application/json");
}

#define SET(option, value) (curl_easy_setopt(request->easy, option, value) == CURLE_OK)

static bool set_material(struct kubernetes_request *request)
{
	const struct kubernetes_credentials *credentials = request->client->credentials;
	const char *ca = kubernetes_credentials_ca(credentials);
	const char *certificate = kubernetes_credentials_certificate(credentials);
	const char *key = kubernetes_credentials_key(credentials);
	struct curl_blob blob = {.flags = CURL_BLOB_COPY};

	if (ca) {
		/* Debian's libcurl has a directory of the system's CAs built in, which would count beside it. */
		blob.data = (void *)ca;
		blob.len = strlen(ca);
		if (!SET(CURLOPT_CAINFO_BLOB, &blob) || !SET(CURLOPT_CAINFO, NULL) || !SET(CURLOPT_CAPATH, NULL))
			return false;
	}
	if (!certificate || !key)
		return true;
	blob.data = (void *)certificate;
	blob.len = strlen(certificate);
	if (!SET(CURLOPT_SSLCERT_BLOB, &blob))
		return false;
	blob.data = (void *)key;
	blob.len = strlen(key);
	return SET(CURLOPT_SSLKEY_BLOB, &blob);
}

static bool set_transport(struct kubernetes_request *request)
{
	return SET(CURLOPT_PROTOCOLS_STR, "https") && SET(CURLOPT_FOLLOWLOCATION, 0L) && SET(CURLOPT_PROXY, "") &&
	       SET(CURLOPT_NOPROXY, "*") && SET(CURLOPT_NOSIGNAL, 1L) && SET(CURLOPT_SSL_VERIFYPEER, 1L) &&
	       SET(CURLOPT_SSL_VERIFYHOST, 2L) && SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) &&
	       SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS) && SET(CURLOPT_PIPEWAIT, 1L) &&
	       SET(CURLOPT_FRESH_CONNECT, request->client->distrusts ? 1L : 0L) &&
	       SET(CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS) && SET(CURLOPT_TCP_KEEPALIVE, 1L) &&
	       SET(CURLOPT_TCP_KEEPIDLE, KEEPALIVE_IDLE_S) && SET(CURLOPT_TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S) &&
	       SET(CURLOPT_SOCKOPTFUNCTION, on_connect) && SET(CURLOPT_SOCKOPTDATA, request->client) &&
	       set_material(request);
}

static bool set_body(struct kubernetes_request *request, const struct kubernetes_call *call)
{
	bool bodiless = strcmp(call->method, "GET") == 0 || strcmp(call->method, "DELETE") == 0;

	if (!call->body)
		return bodiless || (SET(CURLOPT_POSTFIELDS, "") && SET(CURLOPT_POSTFIELDSIZE, 0L));
	request->body = json_dumps(call->body, JSON_COMPACT);
	return request->body && SET(CURLOPT_POSTFIELDS, request->body) &&
	       SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(request->body));
}

static bool set_up(struct kubernetes_request *request, const struct kubernetes_call *call)
{
	_cleanup_free_ char *url = NULL;
	char agent[128];

	if (asprintf(&url, "%s%s", kubernetes_credentials_server(request->client->credentials), call->path) == -1) {
		url = NULL;
		return false;
	}
	(void)snprintf(agent, sizeof(agent), "postern/%s", postern_version);
	return add_headers(request, call) == 0 && SET(CURLOPT_URL, url) && SET(CURLOPT_PRIVATE, request) &&
	       SET(CURLOPT_ERRORBUFFER, request->curl_error) && SET(CURLOPT_USERAGENT, agent) &&
	       set_transport(request) && set_body(request, call) && SET(CURLOPT_CUSTOMREQUEST, call->method) &&
	       SET(CURLOPT_HTTPHEADER, request->headers) && SET(CURLOPT_WRITEFUNCTION, on_body) &&
	       SET(CURLOPT_WRITEDATA, request) && SET(CURLOPT_HEADERFUNCTION, on_header) &&
	       SET(CURLOPT_HEADERDATA, request);
}

static void join(struct kubernetes_client *client, struct kubernetes_request *request)
{
	request->client = client;
	request->next = client->requests;
	request->place = &client->requests;
	if (request->next)
		request->next->place = &request->next;
	client->requests = request;
}

struct kubernetes_request *kubernetes_send(struct kubernetes_client *client, const struct kubernetes_call *call)
{
	struct kubernetes_request *request = calloc(1, sizeof(*request));
	uint64_t timeout_ns = call->timeout_ns ? call->timeout_ns : DEFAULT_TIMEOUT_NS;

	if (!request)
		return NULL;
	join(client, request);
	request->on_answer = call->on_answer;
	request->on_line = call->on_line;
	request->wants_bytes = call->wants_bytes;
	request->on_open = call->on_open;
	request->idle_timeout_ns = call->idle_timeout_ns ? call->idle_timeout_ns : timeout_ns;
	request->context = call->context;
	request->timer.on_expire = on_timeout;
	request->easy = curl_easy_init();
	if (!request->easy || !set_up(request, call) || loop_timer_set(client->loop, &request->timer, timeout_ns) < 0 ||
	    curl_multi_add_handle(client->curl.multi, request->easy) != CURLM_OK) {
		release(request);
		return NULL;
	}
	request->added = true;
	client->statistics.requests++;
	return request;
}
