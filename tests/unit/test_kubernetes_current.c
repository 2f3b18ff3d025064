// SPDX-License-Identifier: GPL-2.0-only
/*
 * As of now, where the cluster was put back to an earlier state (a backup of etcd): its watches, asked to go on from
 * what is yet to come, are silent, and what they have shown once is not there any more.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api_server.h"
#include "base/cleanup.h"
#include "base/loop.h"
#include "kubernetes/client.h"
#include "kubernetes/credentials.h"
#include "kubernetes/metadata_list.h"
#include "policy/store.h"
#include "source/kubernetes.h"
#include "source/source.h"

#define PATIENCE_NS  120000000000ull /* it ends a hang, and judges no speed */
#define ASK_AGAIN_NS 1000000000ull   /* as who waits does: each question has its own limit */

struct world {
	atomic_int resource_version;
	_Atomic char service; /* its name, which has one letter */
	struct loop *loop;
	struct api_server *server;
	struct kubernetes_credentials *credentials;
	struct kubernetes_client *client;
	struct source *source;
	uint64_t current_ns; /* as of when the state is known */
};

/* ---- the server ---- */

struct message {
	char bytes[128];
	size_t length;
};

/* A field of bytes; nothing here is longer than a varint of one byte says. */
static void put(struct message *message, unsigned int number, const void *bytes, size_t size)
{
	message->bytes[message->length++] = (char)(number << 3 | 2);
	message->bytes[message->length++] = (char)size;
	memcpy(message->bytes + message->length, bytes, size);
	message->length += size;
}

static void put_message(struct message *message, unsigned int number, const struct message *field)
{
	put(message, number, field->bytes, field->length);
}

/* A PartialObjectMetadataList (metadata_list.h), with one item or none. */
static struct message list_of_names(const char *version, const char *name)
{
	static const char kind[] = "PartialObjectMetadataList";
	struct message whole = {.bytes = "k8s", .length = 4}, type = {0}, list = {0}, list_meta = {0}, item = {0},
	               item_meta = {0};

	put(&type, 2, kind, strlen(kind));
	put(&list_meta, 2, version, strlen(version));
	put_message(&list, 1, &list_meta);
	if (*name) {
		put(&item_meta, 1, name, strlen(name));
		put(&item_meta, 3, "n", 1);
		put(&item_meta, 6, version, strlen(version));
		put_message(&item, 1, &item_meta);
		put_message(&list, 2, &item);
	}
	put_message(&whole, 1, &type);
	put_message(&whole, 2, &list);
	return whole;
}

static void answer_names(struct api_connection *connection, const char *version, const char *name)
{
	const struct message message = list_of_names(version, name);
	char head[200];
	int length = snprintf(head, sizeof(head),
	                      "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.kubernetes.protobuf\r\n"
	                      "Content-Length: %zu\r\n\r\n",
	                      message.length);

	api_send_raw(connection, head, (size_t)length);
	api_send_raw(connection, message.bytes, message.length);
}

static void answer_list(struct api_connection *connection, const char *version, const char *name)
{
	char item[300] = "", body[600];

	if (*name)
		(void)snprintf(item, sizeof(item),
		               "{\"metadata\":{\"namespace\":\"n\",\"name\":\"%s\",\"resourceVersion\":\"%s\"},"
		               "\"spec\":{\"clusterIP\":\"10.0.0.1\",\"ports\":[{\"port\":80}]}}",
		               name, version);
	(void)snprintf(body, sizeof(body),
	               "{\"kind\":\"ServiceList\",\"apiVersion\":\"v1\",\"metadata\":{\"resourceVersion\":\"%s\"},"
	               "\"items\":[%s]}",
	               version, item);
	api_answer(connection, 200, NULL, body);
}

static void serve(void *context, struct api_connection *connection, const struct api_request *request)
{
	struct world *world = context;
	const char name[] = {world->service, '\0'};
	bool services = strncmp(request->target, "/api/v1/services?", 17) == 0 ||
	                strcmp(request->target, "/api/v1/services") == 0;
	char version[16], buffer[512];

	(void)snprintf(version, sizeof(version), "%d", world->resource_version);
	if (*api_query(request, "watch", buffer)) {
		api_stream(connection);
		api_wait_for_end(connection);
	} else if (api_has_header(request, "Accept: " METADATA_LIST_ACCEPT)) {
		answer_names(connection, version, services ? name : "");
	} else {
		answer_list(connection, version, services ? name : "");
	}
}

/* ---- the source ---- */

static void on_changed(void *context)
{
	(void)context;
}

static void on_current(void *context, uint64_t as_of_ns, enum source_scope scope)
{
	struct world *world = context;

	(void)scope;
	world->current_ns = as_of_ns;
}

static void start(struct world *world)
{
	struct kubernetes_source_options options = {
	        .node_name = "here", .events = {.changed = on_changed, .current = on_current, .context = world}};
	char error[256] = "";

	assert_int_equal(loop_new(&world->loop), 0);
	world->server = api_server_start(serve, world);
	if (kubernetes_credentials_open("", api_server_account(world->server), &world->credentials, error,
	                                sizeof(error)))
		fail_msg("%s", error);
	assert_int_equal(kubernetes_client_new(world->loop, world->credentials, &world->client), 0);
	options.loop = world->loop;
	options.client = world->client;
	assert_int_equal(kubernetes_source_open(&options, &world->source), 0);
}

static void stop(struct world *world)
{
	source_close(world->source);
	kubernetes_client_free(world->client);
	kubernetes_credentials_close(world->credentials);
	loop_free(world->loop);
	api_server_stop(world->server);
}

static void step(struct world *world, uint64_t limit_ns, const char *what)
{
	assert_int_equal(loop_step(world->loop, 20), 0);
	if (monotonic_ns() > limit_ns)
		fail_msg("not in time: %s", what);
}

static void wait_until_synced(struct world *world)
{
	uint64_t limit = monotonic_ns() + PATIENCE_NS;

	while (!source_synced(world->source))
		step(world, limit, "synced");
}

/* The store as it is now or later, as the source says. */
static const struct object_store *ask(struct world *world)
{
	uint64_t asked = monotonic_ns(), limit = asked + PATIENCE_NS, last = 0;

	while (world->current_ns < asked) {
		uint64_t now = monotonic_ns();

		if (now - last > ASK_AGAIN_NS) {
			source_make_current(world->source, now, SOURCE_ALL);
			last = now;
		}
		step(world, limit, "the state as of now");
	}
	(void)source_refresh(world->source, false);
	return source_store(world->source);
}

static void the_cluster_went_back(void **state)
{
	struct world world = {.resource_version = 100, .service = 'a'};
	const struct object_store *store;

	(void)state;
	start(&world);
	wait_until_synced(&world);
	store = ask(&world);
	assert_non_null(object_store_find(store, OBJECT_SERVICE, "n", "a"));

	/* Fewer digits, so that the numbers are compared and not the texts. */
	world.resource_version = 50;
	world.service = 'b';
	store = ask(&world);
	assert_non_null(object_store_find(store, OBJECT_SERVICE, "n", "b"));
	assert_null(object_store_find(store, OBJECT_SERVICE, "n", "a"));

	/* And from there it is asked as ever. */
	store = ask(&world);
	assert_non_null(object_store_find(store, OBJECT_SERVICE, "n", "b"));
	stop(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(the_cluster_went_back)};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
