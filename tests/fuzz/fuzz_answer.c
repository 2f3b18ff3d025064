// SPDX-License-Identifier: GPL-2.0-only
/*
 * answer: what an API server says, and what says how it is reached. The first byte says what the rest is:
 *
 *   w  a script for kubernetes/watch.c, a line a step, each about the request that is under way:
 *        + the stream's 200 has come       L JSON  a line of the stream
 *        A STATUS JSON  the answer: of a list, or the end of a watch       Z  nothing but a cut
 *        T the timer is due   H hasten     whatever is not possible now is passed over
 *   m  bytes -> kubernetes/metadata_list.c
 *   k  a kubeconfig    t  a file with a token
 *
 * A watch never dies (a request is under way, or a timer is set), has one request at most, shows an object only with a
 * name and a resourceVersion, begins each list that it ends, and its error is a message of one line. Names in a list of
 * metadata have no NUL and fit. A token fits into one header.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/wiping.h"
#include "fuzz.h"
#include "kubernetes/client_internal.h"
#include "kubernetes/credentials_internal.h"
#include "kubernetes/metadata_list.h"
#include "kubernetes/watch.h"

/* ---- the client and the loop, as watch.c sees them ---- */

struct world {
	struct kubernetes_call call; /* of the request that is under way */
	bool asked, opened;
	struct loop_timer *timer; /* that is set */
	struct kubernetes_watch *watch;
	bool listing;
	size_t lists;
};

static struct world world;

struct kubernetes_request *kubernetes_send(struct kubernetes_client *client, const struct kubernetes_call *call)
{
	FUZZ_CHECK(!world.asked, "two requests at once");
	world.call = *call;
	world.asked = true;
	world.opened = false;
	return (struct kubernetes_request *)client;
}

void kubernetes_cancel(struct kubernetes_request *request)
{
	FUZZ_CHECK(!request || world.asked, "a request is cancelled that is none");
	if (request)
		world.asked = false;
}

int loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t delay_ns)
{
	(void)loop;
	timer->due_ns = 1 + delay_ns;
	world.timer = timer;
	return 0;
}

void loop_timer_cancel(struct loop *loop, struct loop_timer *timer)
{
	(void)loop;
	timer->due_ns = 0;
	world.timer = NULL;
}

void loop_defer_free(struct loop *loop, void *pointer)
{
	(void)loop;
	free(pointer);
}

uint64_t monotonic_ns(void)
{
	static uint64_t now;

	return now += 1000000000;
}

/* ---- w ---- */

static void on_object(void *context, json_t *object)
{
	const json_t *metadata = json_object_get(object, "metadata");
	const char *name = json_string_value(json_object_get(metadata, "name"));
	const char *version = json_string_value(json_object_get(metadata, "resourceVersion"));

	(void)context;
	FUZZ_CHECK(name && *name && strlen(name) <= 512, "an object without a name");
	FUZZ_CHECK(version && *version && strlen(version) < 24, "an object without a resourceVersion");
	FUZZ_CHECK(world.listing || world.lists, "an object before any list");
}

static void on_removed(void *context, const char *namespace_, const char *name)
{
	(void)context;
	FUZZ_CHECK(world.lists && *name && strlen(namespace_) <= 512, "an object goes that has no name");
}

static void on_list(void *context, bool begins)
{
	(void)context;
	FUZZ_CHECK(begins || world.listing, "a list ends that has not begun");
	world.listing = begins;
	world.lists += !begins;
}

static void on_state(void *context)
{
	(void)context;
}

static void check_watch(const char *step)
{
	const struct kubernetes_watch_statistics *statistics = kubernetes_watch_statistics(world.watch);

	FUZZ_CHECK(world.asked || (world.timer && world.timer->due_ns), "nothing would ever happen again after \"%s\"",
	           step);
	FUZZ_CHECK(strlen(statistics->resource_version) < sizeof(statistics->resource_version), "a long version");
	FUZZ_CHECK(!*statistics->error || fuzz_is_message(statistics->error, sizeof(statistics->error)),
	           "the error \"%s\"", statistics->error);
	FUZZ_CHECK(kubernetes_watch_state_name(statistics->state) != NULL, "state %d", (int)statistics->state);
	FUZZ_CHECK(!kubernetes_watch_is_open(world.watch) || world.asked, "open without a request");
}

static void open_stream(void)
{
	if (!world.asked || !world.call.on_line || world.opened)
		return;
	world.opened = true;
	world.call.on_open(world.call.context);
}

static void tell_line(const char *text)
{
	char why[80];
	json_t *line;

	open_stream();
	if (!world.asked || !world.opened)
		return;
	line = answer_parse(text, strlen(text), why, sizeof(why));
	if (!line) {
		struct kubernetes_answer answer = {.status = 200, .error = why};

		world.asked = false;
		world.call.on_answer(world.call.context, &answer);
		return;
	}
	world.call.on_line(world.call.context, line);
	json_decref(line);
}

static void tell_answer(const char *text)
{
	struct kubernetes_answer answer = {0};
	char error[512] = "", why[80], *end;
	long status = strtol(text, &end, 10);
	bool whole_stream = world.call.on_line && status == 200;
	json_t *body = NULL;

	if (!world.asked || status < 100 || status > 599)
		return;
	if (whole_stream)
		open_stream();
	if (*end && !whole_stream && !(body = answer_parse(end, strlen(end), why, sizeof(why))))
		(void)snprintf(error, sizeof(error), "the answer %s", why);
	if (status >= 300)
		answer_describe(status, body, error, sizeof(error));
	FUZZ_CHECK(!*error || fuzz_is_message(error, sizeof(error)), "\"%s\"", error);
	answer = (struct kubernetes_answer){.status = (int)status, .body = body, .error = *error ? error : NULL};
	world.asked = false;
	world.call.on_answer(world.call.context, &answer);
	json_decref(body);
}

static void cut(void)
{
	const struct kubernetes_answer answer = {.error = "Recv failure: Connection reset by peer"};

	if (!world.asked)
		return;
	world.asked = false;
	world.call.on_answer(world.call.context, &answer);
}

static void expire(void)
{
	struct loop_timer *timer = world.timer;

	if (world.asked || !timer || !timer->due_ns)
		return;
	timer->due_ns = 0;
	timer->on_expire(timer);
}

static void play(const uint8_t *data, size_t size)
{
	const struct kubernetes_watch_options options = {
	        .group = "",
	        .version = "v1",
	        .namespace_ = "",
	        .resource = "services",
	        .name = "",
	        .label_selector = "",
	        .field_selector = "",
	        .on_object = on_object,
	        .on_removed = on_removed,
	        .on_list = on_list,
	        .on_state = on_state,
	};
	char *step;

	world = (struct world){0};
	world.watch = kubernetes_watch_new((struct loop *)&world, (struct kubernetes_client *)&world, &options);
	FUZZ_CHECK(world.watch, "no memory");
	while ((step = fuzz_take(&data, &size, '\n'))) {
		if (*step == '+')
			open_stream();
		else if (*step == 'L')
			tell_line(step + 1);
		else if (*step == 'A')
			tell_answer(step + 1);
		else if (*step == 'Z')
			cut();
		else if (*step == 'T')
			expire();
		else if (*step == 'H')
			kubernetes_watch_hasten(world.watch);
		check_watch(step);
		free(step);
	}
	kubernetes_watch_free(world.watch);
	FUZZ_CHECK(!world.asked, "a request outlives its watch");
}

/* ---- m ---- */

static int see(void *context, const struct metadata_item *item)
{
	(void)context;
	FUZZ_CHECK(*item->name && strnlen(item->name, sizeof(item->name)) < sizeof(item->name), "a name");
	FUZZ_CHECK(strnlen(item->namespace_, sizeof(item->namespace_)) < sizeof(item->namespace_), "a namespace");
	FUZZ_CHECK(*item->resource_version && strlen(item->resource_version) < sizeof(item->resource_version),
	           "a version");
	return 0;
}

static void read_metadata(const uint8_t *data, size_t size)
{
	struct metadata_list list;
	int result = metadata_list_read((const char *)data, size, &list, see, NULL);

	FUZZ_CHECK(result == 0 || result == -EINVAL, "result %d", result);
	FUZZ_CHECK(strnlen(list.resource_version, sizeof(list.resource_version)) < sizeof(list.resource_version),
	           "a version without an end");
}

/* ---- k, t ---- */

static bool is_header(const char *token)
{
	for (; *token; token++)
		if ((unsigned char)*token <= ' ' || (unsigned char)*token >= 0x7f)
			return false;
	return true;
}

static void read_kubeconfig(const uint8_t *data, size_t size)
{
	int fd = memfd_create("kubeconfig", MFD_CLOEXEC);
	struct kubernetes_credentials *credentials = NULL;
	char path[64], error[512] = "";
	const char *server, *token;
	int result;

	FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size, "no file");
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	result = kubernetes_credentials_open(path, NULL, &credentials, error, sizeof(error));
	close(fd);
	if (result) {
		FUZZ_CHECK(!credentials && fuzz_is_message(error, sizeof(error)), "%d, \"%s\"", result, error);
		return;
	}
	server = kubernetes_credentials_server(credentials);
	token = kubernetes_credentials_token(credentials, 1);
	FUZZ_CHECK(strncmp(server, "https://", 8) == 0 && is_header(server) && server[strlen(server) - 1] != '/', "%s",
	           server);
	FUZZ_CHECK(!token || (*token && is_header(token)), "a token that no header can carry");
	FUZZ_CHECK(!kubernetes_credentials_key(credentials) == !kubernetes_credentials_certificate(credentials),
	           "a key alone");
	kubernetes_credentials_close(credentials);
}

static void read_token(const uint8_t *data, size_t size)
{
	char *token = NULL, *text = fuzz_text(data, size);
	int result = credentials_set_token(&token, text);

	FUZZ_CHECK(result == 0 || result == -EINVAL, "result %d", result);
	FUZZ_CHECK((result == 0) == (token != NULL), "a token with an error, or none without");
	FUZZ_CHECK(!token || (*token && is_header(token)), "a token that no header can carry");
	wiping_free(token);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	switch (*data) {
	case 'w':
		play(data + 1, size - 1);
		break;
	case 'm':
		read_metadata(data + 1, size - 1);
		break;
	case 'k':
		read_kubeconfig(data + 1, size - 1);
		break;
	case 't':
		read_token(data + 1, size - 1);
		break;
	default:
		break;
	}
	return 0;
}
