// SPDX-License-Identifier: GPL-2.0-only
/* Which Services do Routes refer to, and through which Gateways? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "policy/route_index.h"
#include "policy/store.h"
#include "policy_fixture.h"

#define GATEWAY_GROUP "gateway.networking.k8s.io"

/* Ends of lists are entries without a name. */
struct route_row {
	enum object_kind kind;
	const char *namespace_, *name;
	struct parent_reference parents[4];
	struct backend_reference backends[4];
};

struct gateway_row {
	const char *namespace_, *name;
	struct listener listeners[4];
};

struct grant_row {
	const char *namespace_, *name;
	struct grant_from from[2];
	struct grant_to to[2];
};

struct row {
	const char *title;
	struct gateway_row gateways[4];
	struct route_row routes[4];
	struct grant_row grants[2];
	const char *expected; /* see show() */
};

#define HTTP                                                                                                           \
	{                                                                                                              \
		.name = "http", .protocol = "HTTP", .port = 80                                                         \
	}
#define HTTP_FOR_ALL                                                                                                   \
	{                                                                                                              \
		.name = "all", .protocol = "HTTP", .port = 8080, .from_all_namespaces = true                           \
	}
#define TLS_THROUGH                                                                                                    \
	{                                                                                                              \
		.name = "through", .protocol = "TLS", .port = 443, .passthrough = true                                 \
	}
#define TLS_TERMINATE                                                                                                  \
	{                                                                                                              \
		.name = "terminate", .protocol = "TLS", .port = 8443                                                   \
	}
#define GATEWAY(...)                                                                                                   \
	{                                                                                                              \
		"n", "g",                                                                                              \
		{                                                                                                      \
			__VA_ARGS__                                                                                    \
		}                                                                                                      \
	}
#define TO(gateway)                                                                                                    \
	{                                                                                                              \
		.namespace_ = "n", .name = gateway, .section_name = ""                                                 \
	}
#define SECTION(text)                                                                                                  \
	{                                                                                                              \
		.namespace_ = "n", .name = "g", .section_name = text                                                   \
	}
#define PORT(number)                                                                                                   \
	{                                                                                                              \
		.namespace_ = "n", .name = "g", .section_name = "", .port = number                                     \
	}
#define GRANT_TO(name)                                                                                                 \
	{                                                                                                              \
		"other", "grant", {{GATEWAY_GROUP, "HTTPRoute", "n"}},                                                 \
		{                                                                                                      \
			{                                                                                              \
				"", "Service", name                                                                    \
			}                                                                                              \
		}                                                                                                      \
	}

static const struct row rows[] = {
        {"nothing", .expected = ""},
        {"a Route",
         {GATEWAY(HTTP)},
         {{OBJECT_HTTP_ROUTE, "n", "r", {TO("g")}, {{"n", "s", 80}}}},
         .expected = "n/s HTTPRoute:80 by n/g\n"},
        {"a reference without a port means every port",
         {GATEWAY(HTTP)},
         {{OBJECT_HTTP_ROUTE, "n", "r", {TO("g")}, {{"n", "s", 0}}}},
         .expected = "n/s HTTPRoute:* by n/g\n"},
        {"several backends, each once, Services in order",
         {GATEWAY(HTTP)},
         {{OBJECT_HTTP_ROUTE, "n", "r", {TO("g")}, {{"n", "t", 90}, {"n", "s", 81}, {"n", "s", 80}, {"n", "t", 90}}},
          {OBJECT_GRPC_ROUTE, "n", "r", {TO("g")}, {{"n", "s", 80}}}},
         .expected = "n/s HTTPRoute:80 GRPCRoute:80 HTTPRoute:81 by n/g\n"
                     "n/t HTTPRoute:90 by n/g\n"},
        {"two Gateways by two Routes and by one, each once and in order",
         {GATEWAY(HTTP), {"n", "a", {HTTP}}, {"m", "z", {HTTP_FOR_ALL}}},
         {{OBJECT_HTTP_ROUTE, "n", "r", {TO("g"), TO("a"), TO("g")}, {{"n", "s", 80}}},
          {OBJECT_HTTP_ROUTE, "n", "q", {TO("g"), {"m", "z", "", 0}}, {{"n", "s", 80}}}},
         .expected = "n/s HTTPRoute:80 by m/z n/a n/g\n"},
        {"Services of one name in two namespaces",
         {GATEWAY(HTTP)},
         {{OBJECT_HTTP_ROUTE, "n", "r", {TO("g")}, {{"other", "s", 80}, {"n", "s", 80}}}},
         {GRANT_TO(NULL)},
         .expected = "n/s HTTPRoute:80 by n/g\nother/s HTTPRoute:80 by n/g\n"},

        /* ReferenceGrant */
        {"another namespace without a grant",
         {GATEWAY(HTTP)},
         {{OBJECT_HTTP_ROUTE, "n", "r", {TO("g")}, {{"other", "s", 80}, {"n", "t", 80}}}},
         .expected = "n/t HTTPRoute:80 by n/g\n"},
        {"a grant by name",
         {GATEWAY(HTTP)},
         {{OBJECT_HTTP_ROUTE, "n", "r", {TO("g")}, {{"other", "s", 80}, {"other", "t", 80}}}},
         {GRANT_TO("s")},
         .expected = "other/s HTTPRoute:80 by n/g\n"},
        {"a grant for another kind of Route",
         {GATEWAY(HTTP)},
         {{OBJECT_GRPC_ROUTE, "n", "r", {TO("g")}, {{"other", "s", 80}}}},
         {GRANT_TO(NULL)},
         .expected = ""},

        /* parentRefs */
        {"no such Gateway",
         {GATEWAY(HTTP)},
         {{OBJECT_HTTP_ROUTE, "n", "r", {TO("nobody")}, {{"n", "s", 80}}}},
         .expected = ""},
        {"no parent", {GATEWAY(HTTP)}, {{OBJECT_HTTP_ROUTE, "n", "r", {{0}}, {{"n", "s", 80}}}}, .expected = ""},
        {"no Gateway at all: every Route counts",
         {{0}},
         {{OBJECT_GRPC_ROUTE, "n", "r", {TO("nobody")}, {{"n", "s", 80}}},
          {OBJECT_TLS_ROUTE, "n", "r", {{0}}, {{"n", "s", 0}}}},
         .expected = "n/s TLSRoute:* GRPCRoute:80\n"},
        {"a listener by name",
         {GATEWAY(HTTP)},
         {{OBJECT_HTTP_ROUTE, "n", "r", {SECTION("http")}, {{"n", "s", 80}}}},
         .expected = "n/s HTTPRoute:80 by n/g\n"},
        {"no listener of this name",
         {GATEWAY(HTTP)},
         {{OBJECT_HTTP_ROUTE, "n", "r", {SECTION("https")}, {{"n", "s", 80}}}},
         .expected = ""},
        {"a listener by port",
         {GATEWAY(HTTP)},
         {{OBJECT_HTTP_ROUTE, "n", "r", {PORT(80)}, {{"n", "s", 80}}}},
         .expected = "n/s HTTPRoute:80 by n/g\n"},
        {"no listener on this port",
         {GATEWAY(HTTP)},
         {{OBJECT_HTTP_ROUTE, "n", "r", {PORT(81)}, {{"n", "s", 80}}}},
         .expected = ""},
        {"a Gateway without listeners",
         {GATEWAY({0})},
         {{OBJECT_HTTP_ROUTE, "n", "r", {TO("g")}, {{"n", "s", 80}}}},
         .expected = ""},
        {"a Route of another namespace that no listener lets in",
         {GATEWAY(HTTP)},
         {{OBJECT_HTTP_ROUTE, "other", "r", {TO("g")}, {{"other", "s", 80}}}},
         .expected = ""},
        {"a Route of another namespace that one listener lets in",
         {GATEWAY(HTTP, HTTP_FOR_ALL)},
         {{OBJECT_HTTP_ROUTE, "other", "r", {TO("g")}, {{"other", "s", 80}}}},
         .expected = "other/s HTTPRoute:80 by n/g\n"},
        {"the listener that it names does not let it in, another one would",
         {GATEWAY(HTTP, HTTP_FOR_ALL)},
         {{OBJECT_HTTP_ROUTE, "other", "r", {SECTION("http")}, {{"other", "s", 80}}}},
         .expected = ""},
        {"a listener of a protocol that does not take the Route",
         {GATEWAY(HTTP, {.name = "udp", .protocol = "UDP", .port = 53})},
         {{OBJECT_TCP_ROUTE, "n", "r", {TO("g")}, {{"n", "s", 80}}}},
         .expected = ""},
        {"an implementation's own protocol",
         {GATEWAY({.name = "x", .protocol = "example.com/x", .port = 1})},
         {{OBJECT_TCP_ROUTE, "n", "r", {TO("g")}, {{"n", "s", 80}}}},
         .expected = "n/s TCPRoute:80 by n/g\n"},

        /* passthrough */
        {"a TLSRoute on a listener that passes through",
         {GATEWAY(HTTP, TLS_THROUGH)},
         {{OBJECT_TLS_ROUTE, "n", "r", {TO("g")}, {{"n", "s", 443}}}},
         .expected = "n/s TLSRoute:443(passthrough) by n/g\n"},
        {"a TLSRoute on a listener that terminates",
         {GATEWAY(HTTP, TLS_TERMINATE)},
         {{OBJECT_TLS_ROUTE, "n", "r", {TO("g")}, {{"n", "s", 443}}}},
         .expected = "n/s TLSRoute:443 by n/g\n"},
        {"a TLSRoute on both",
         {GATEWAY(TLS_THROUGH, TLS_TERMINATE)},
         {{OBJECT_TLS_ROUTE, "n", "r", {TO("g")}, {{"n", "s", 443}}}},
         .expected = "n/s TLSRoute:443 TLSRoute:443(passthrough) by n/g\n"},
        {"a TLSRoute that names the one that terminates",
         {GATEWAY(TLS_THROUGH, TLS_TERMINATE)},
         {{OBJECT_TLS_ROUTE, "n", "r", {SECTION("terminate")}, {{"n", "s", 443}}}},
         .expected = "n/s TLSRoute:443 by n/g\n"},
        {"a TCPRoute on a TLS listener: only where it terminates",
         {GATEWAY(TLS_THROUGH), {"n", "h", {TLS_TERMINATE}}},
         {{OBJECT_TCP_ROUTE, "n", "r", {TO("g"), TO("h")}, {{"n", "s", 443}}}},
         .expected = "n/s TCPRoute:443 by n/h\n"},
};

static void put_gateway(struct object_store *store, const struct gateway_row *row)
{
	struct object *object = fixture_object(OBJECT_GATEWAY, row->namespace_, row->name);

	object->gateway.class_name = "class";
	object->gateway.listeners = row->listeners;
	while (row->listeners[object->gateway.listener_count].name)
		object->gateway.listener_count++;
	fixture_put(store, object);
}

static void put_route(struct object_store *store, const struct route_row *row)
{
	struct object *object = fixture_object(row->kind, row->namespace_, row->name);

	object->route.parents = row->parents;
	while (row->parents[object->route.parent_count].name)
		object->route.parent_count++;
	object->route.backends = row->backends;
	while (object->route.backend_count < ARRAY_SIZE(row->backends) &&
	       row->backends[object->route.backend_count].name)
		object->route.backend_count++;
	fixture_put(store, object);
}

static void put_grant(struct object_store *store, const struct grant_row *row)
{
	struct object *object = fixture_object(OBJECT_REFERENCE_GRANT, row->namespace_, row->name);

	object->reference_grant = (struct reference_grant){row->from, 1, row->to, 1};
	fixture_put(store, object);
}

static struct route_index *make_index(const struct row *row)
{
	struct object_store *store = object_store_new();
	struct route_index *index = NULL;

	assert_non_null(store);
	for (size_t i = 0; i < ARRAY_SIZE(row->gateways) && row->gateways[i].name; i++)
		put_gateway(store, &row->gateways[i]);
	for (size_t i = 0; i < ARRAY_SIZE(row->routes) && row->routes[i].name; i++)
		put_route(store, &row->routes[i]);
	for (size_t i = 0; i < ARRAY_SIZE(row->grants) && row->grants[i].name; i++)
		put_grant(store, &row->grants[i]);
	assert_int_equal(route_index_new(store, &index), 0);
	object_store_free(store); /* the index holds what it needs */
	return index;
}

/* "namespace/service KIND:PORT[(passthrough)]... [by namespace/gateway...]", a line a Service. */
static char *show(const struct route_index *index)
{
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	assert_non_null(stream);
	for (size_t i = 0; i < route_index_count(index); i++) {
		const struct service_routes *service = route_index_at(index, i);

		fprintf(stream, "%s/%s", service->namespace_, service->service);
		for (size_t j = 0; j < service->use_count; j++) {
			const struct route_use *use = &service->uses[j];

			fprintf(stream, " %s:", object_kind_name(use->kind));
			if (use->port)
				fprintf(stream, "%u", use->port);
			else
				fputc('*', stream);
			if (use->passthrough)
				fputs("(passthrough)", stream);
		}
		for (size_t j = 0; j < service->gateway_count; j++)
			fprintf(stream, "%s %s/%s", j ? "" : " by", service->gateways[j]->namespace_,
			        service->gateways[j]->name);
		fputc('\n', stream);
		assert_ptr_equal(route_index_find(index, service->namespace_, service->service), service);
	}
	fclose(stream);
	return text;
}

static void table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct route_index *index = make_index(&rows[i]);
		_cleanup_free_ char *seen = show(index);

		if (strcmp(seen, rows[i].expected))
			fail_msg("%s: expected\n%sseen\n%s", rows[i].title, rows[i].expected, seen);
		assert_null(route_index_find(index, "n", "nobody"));
		assert_null(route_index_find(index, "", ""));
		route_index_free(index);
	}
}

static void equality(void **state)
{
	static const struct row variants[] = {
	        {"", {GATEWAY(HTTP)}, {{OBJECT_HTTP_ROUTE, "n", "r", {TO("g")}, {{"n", "s", 80}}}}, .expected = ""},
	        {"port", {GATEWAY(HTTP)}, {{OBJECT_HTTP_ROUTE, "n", "r", {TO("g")}, {{"n", "s", 81}}}}, .expected = ""},
	        {"kind", {GATEWAY(HTTP)}, {{OBJECT_GRPC_ROUTE, "n", "r", {TO("g")}, {{"n", "s", 80}}}}, .expected = ""},
	        {"gateway",
	         {GATEWAY(HTTP), {"n", "h", {HTTP}}},
	         {{OBJECT_HTTP_ROUTE, "n", "r", {TO("h")}, {{"n", "s", 80}}}},
	         .expected = ""},
	        {"more gateways",
	         {GATEWAY(HTTP), {"n", "h", {HTTP}}},
	         {{OBJECT_HTTP_ROUTE, "n", "r", {TO("g"), TO("h")}, {{"n", "s", 80}}}},
	         .expected = ""},
	        {"more ports",
	         {GATEWAY(HTTP)},
	         {{OBJECT_HTTP_ROUTE, "n", "r", {TO("g")}, {{"n", "s", 80}, {"n", "s", 81}}}},
	         .expected = ""},
	        {"through",
	         {GATEWAY(TLS_THROUGH)},
	         {{OBJECT_TLS_ROUTE, "n", "r", {TO("g")}, {{"n", "s", 80}}}},
	         .expected = ""},
	        {"ends",
	         {GATEWAY(TLS_TERMINATE)},
	         {{OBJECT_TLS_ROUTE, "n", "r", {TO("g")}, {{"n", "s", 80}}}},
	         .expected = ""},
	        /* Another Route, the same thing said. */
	        {"same",
	         {GATEWAY(HTTP)},
	         {{OBJECT_HTTP_ROUTE, "n", "q", {SECTION("http")}, {{"n", "s", 80}}}},
	         .expected = ""},
	};
	struct route_index *indexes[ARRAY_SIZE(variants)];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++)
		indexes[i] = make_index(&variants[i]);
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(variants); j++) {
			bool same = i == j || (i + j == ARRAY_SIZE(variants) - 1 && !(i && j));

			if (service_routes_equal(route_index_find(indexes[i], "n", "s"),
			                         route_index_find(indexes[j], "n", "s")) != same)
				fail_msg("\"%s\" and \"%s\": expected %sequal", variants[i].title, variants[j].title,
				         same ? "" : "not ");
		}
		assert_false(service_routes_equal(route_index_find(indexes[i], "n", "s"), NULL));
		assert_false(service_routes_equal(NULL, route_index_find(indexes[i], "n", "s")));
	}
	assert_true(service_routes_equal(NULL, NULL));
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++)
		route_index_free(indexes[i]);
}

#define ROUTES   20000
#define GATEWAYS 200
#define SERVICES 5000

/* Worst for a bad algorithm: everything in the wrong order, all Routes alike. */
static void scale(void **state)
{
	static const struct listener listener = HTTP_FOR_ALL;
	struct object_store *store = object_store_new();
	struct route_index *index;
	struct timespec start, end;
	char name[32];

	(void)state;
	for (size_t i = 0; i < GATEWAYS; i++) {
		snprintf(name, sizeof(name), "g%03zu", i);
		struct object *object = fixture_object(OBJECT_GATEWAY, "n", name);

		object->gateway.class_name = "";
		object->gateway.listeners = &listener;
		object->gateway.listener_count = 1;
		fixture_put(store, object);
	}
	for (size_t i = 0; i < ROUTES; i++) {
		snprintf(name, sizeof(name), "r%05zu", i);
		struct object *object = fixture_object(OBJECT_HTTP_ROUTE, "n", name);
		struct parent_reference *parents = arena_alloc(&object->arena, 2, sizeof(*parents));
		struct backend_reference *backends = arena_alloc(&object->arena, 2, sizeof(*backends));

		for (size_t j = 0; j < 2; j++) {
			snprintf(name, sizeof(name), "g%03zu", (i * 7 + j) % GATEWAYS);
			parents[j] = (struct parent_reference){"n", arena_strdup(&object->arena, name), "", 0};
			snprintf(name, sizeof(name), "s%05zu", (ROUTES - i + j) % SERVICES);
			backends[j] = (struct backend_reference){"n", arena_strdup(&object->arena, name), 80};
		}
		object->route =
		        (struct route){.parents = parents, .parent_count = 2, .backends = backends, .backend_count = 2};
		fixture_put(store, object);
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
	assert_int_equal(route_index_new(store, &index), 0);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	print_message("%d Routes: %.0f ms\n", ROUTES,
	              (double)(end.tv_sec - start.tv_sec) * 1e3 + (double)(end.tv_nsec - start.tv_nsec) / 1e6);
	/* Seconds would be a square somewhere; this is 50 ms without sanitizers. */
	assert_true(end.tv_sec - start.tv_sec < 5);
	assert_int_equal(route_index_count(index), SERVICES);
	for (size_t i = 0; i < SERVICES; i++) {
		assert_int_equal(route_index_at(index, i)->use_count, 1);
		assert_true(route_index_at(index, i)->gateway_count >= 2);
	}
	object_store_free(store);
	route_index_free(index);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(table),
	        cmocka_unit_test(equality),
	        cmocka_unit_test(scale),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
