/* SPDX-License-Identifier: GPL-2.0-only */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent_client.h"
#include "base/cgroup.h"
#include "explain.h"
#include "observe/control_socket.h"
#include "posternctl.h"
#include "print.h"

#define LOOKS        20
#define BETWEEN_NS   50000000
#define AGENT_LOOKS  600 /* its own limits of dial and handshake are shorter */
#define PROCESS_PATH "/proc/%d/ns/net"

/* The first that has a number here. */
static bool take_one(void *context, pid_t process)
{
	*(pid_t *)context = process;
	return process <= 0;
}

/* The agent's path; else that of a process of the cgroup. */
static bool find_netns(struct explain *explain)
{
	const char *path = text_of(explain->served, "netns");
	pid_t process = 0;

	(void)snprintf(explain->cgroup, sizeof(explain->cgroup), "%.500s", text_of(explain->served, "cgroup"));
	if (path[0]) {
		(void)snprintf(explain->netns, sizeof(explain->netns), "%.500s", path);
		return true;
	}
	if (cgroup_for_each_process(explain->cgroup, take_one, &process))
		return false;
	(void)snprintf(explain->netns, sizeof(explain->netns), PROCESS_PATH, process);
	return true;
}

static bool names_client_certificate(const struct explain *explain)
{
	return text_of(explain->settings, "client_certificate")[0] ||
	       strcmp(text_of(json_object_get(explain->served, "client_certificate"), "state"), "shown") == 0;
}

/* The agent's answer to one question; NULL: none that is of use. */
static json_t *ask(const struct explain *explain, const char *command)
{
	json_t *answer = NULL;
	char error[256];

	return agent_ask(explain->options->run_dir, command, JSON_OBJECT, &answer, error, sizeof(error)) ==
	                       AGENT_ANSWERED
	               ? answer
	               : NULL;
}

/* The handshake as the agent would make it, by itself: it alone has the client certificate's key. NULL: it did not. */
static json_t *try_by_agent(const struct explain *explain)
{
	static const struct timespec pause = {.tv_nsec = BETWEEN_NS};
	char command[CONTROL_COMMAND_MAX];
	char address[ADDRESS_TEXT_MAX];
	json_t *answer;

	(void)snprintf(command, sizeof(command), "try %.127s %s %u", text_of(explain->served, "name"),
	               address_format(&explain->key.address, address), ntohs(explain->key.port));
	answer = explain->settings ? ask(explain, command) : NULL;
	if (!answer)
		return NULL;
	(void)snprintf(command, sizeof(command), "tried %lld", number_of(answer, "ticket"));
	json_decref(answer);
	for (unsigned int look = 0; look < AGENT_LOOKS; look++) {
		answer = ask(explain, command);
		if (!answer || !truth_of(answer, "pending"))
			return answer;
		json_decref(answer);
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	}
	return NULL;
}

static void take_from_agent(const json_t *answer, struct explain_dial *result)
{
	bool verified = truth_of(answer, "verified");

	/* Both failed alike: the child's words stay; and so does what the backend speaks, if nothing was agreed on. */
	if (!verified && result->problem[0] && strcmp(result->reason, text_of(answer, "reason")) == 0)
		return;
	if (text_of(answer, "version")[0])
		(void)snprintf(result->version, sizeof(result->version), "%s", text_of(answer, "version"));
	(void)snprintf(result->cipher, sizeof(result->cipher), "%s", text_of(answer, "cipher"));
	(void)snprintf(result->alpn, sizeof(result->alpn), "%s", text_of(answer, "alpn"));
	(void)snprintf(result->reason, sizeof(result->reason), "%s", text_of(answer, "reason"));
	(void)snprintf(result->identity, sizeof(result->identity), "%.255s", verified ? text_of(answer, "detail") : "");
	(void)snprintf(result->problem, sizeof(result->problem), "%.250s",
	               verified                       ? ""
	               : text_of(answer, "detail")[0] ? text_of(answer, "detail")
	                                              : "it failed");
}

static void try_directly(struct explain *explain)
{
	struct explain_dial result;
	const char *hostname = text_of(explain->settings, "hostname");
	json_t *answer = try_by_agent(explain);
	const char *with = answer && truth_of(answer, "client_certificate")
	                           ? "; the gateway's client certificate is shown to who asks"
	                           : "";
	int error;

	if (!answer && names_client_certificate(explain))
		explain_step(explain, "client certificate", EXPLAIN_NOTE, "",
		             "the dial below goes without it: its key does not leave the agent, which did not try it");
	error = explain_dial(explain->netns, &explain->key, explain->settings, !answer, &result);
	if (answer)
		take_from_agent(answer, &result);
	json_decref(answer);
	if (error)
		return;
	if (result.chain) {
		json_decref(explain->chain);
		explain->chain = result.chain;
	}
	if (result.problem[0])
		explain_step(explain, "dial and handshake", EXPLAIN_WRONG, remedy_of(result.reason), "%s: %s%s%s",
		             result.reason, result.problem, result.version[0] ? "; the backend speaks " : "",
		             result.version);
	else if (!explain->settings)
		explain_step(explain, "dial", EXPLAIN_OK, "", "TCP connects from the gateway's network namespace");
	else
		explain_step(explain, "dial and handshake", EXPLAIN_OK, "",
		             "%s %s, ALPN %s; asked for %s, verified as %s%s", result.version, result.cipher,
		             result.alpn[0] ? result.alpn : "none", hostname, result.identity, with);
}

/* What the agent wrote down of G's port; the newest first. */
static json_t *find_row(const struct explain *explain, const char *command, uint16_t port)
{
	static const struct timespec pause = {.tv_nsec = BETWEEN_NS};

	for (unsigned int look = 0; look < LOOKS; look++) {
		json_t *rows = NULL;
		char error[256];
		size_t index;
		json_t *row;

		if (agent_ask(explain->options->run_dir, command, JSON_ARRAY, &rows, error, sizeof(error)))
			return NULL;
		json_array_foreach (rows, index, row) {
			if (number_of(row, "gateway_port") != port ||
			    strcmp(text_of(row, "destination"), explain->destination) != 0)
				continue;
			row = json_incref(row);
			json_decref(rows);
			return row;
		}
		json_decref(rows);
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	}
	return NULL;
}

static void explain_refusal(struct explain *explain, const struct explain_connect *connect)
{
	json_t *row = connect->port ? find_row(explain, "failures", connect->port) : NULL;

	if (row)
		explain_step(explain, "connect as the gateway", EXPLAIN_WRONG, text_of(row, "remedy"),
		             "%s after %d ms (port %u): %s%s%s", strerror(connect->error), connect->milliseconds,
		             connect->port, text_of(row, "reason"), text_of(row, "detail")[0] ? ": " : "",
		             text_of(row, "detail"));
	else
		explain_step(explain, "connect as the gateway", EXPLAIN_WRONG, "", "%s after %d ms (port %u)",
		             strerror(connect->error), connect->milliseconds, connect->port);
	json_decref(row);
}

static void explain_success(struct explain *explain, const struct explain_connect *connect)
{
	json_t *row = strcmp(explain->verdict, "tls") == 0 || strcmp(explain->verdict, "hold") == 0
	                      ? find_row(explain, "connections", connect->port)
	                      : NULL;
	const char *reason = text_of(row, "mode_reason");

	if (!row)
		explain_step(explain, "connect as the gateway", EXPLAIN_OK, "", "connected after %d ms (port %u)",
		             connect->milliseconds, connect->port);
	else
		explain_step(explain, "connect as the gateway", EXPLAIN_OK, "",
		             "connected after %d ms (port %u): %s %s%s, %s to the backend, %s to the gateway%s%s",
		             connect->milliseconds, connect->port, text_of(row, "tls_version"), text_of(row, "cipher"),
		             truth_of(row, "resumed") ? " resumed" : "", text_of(row, "to_backend"),
		             text_of(row, "to_gateway"), reason[0] && strcmp(reason, "none") != 0 ? ": " : "",
		             strcmp(reason, "none") != 0 ? reason : "");
	json_decref(row);
}

static void try_as_gateway(struct explain *explain)
{
	struct explain_connect connect;
	int error = explain_connect(explain->netns, explain->cgroup, &explain->key, &connect);

	if (error) {
		explain_step(explain, "connect as the gateway", EXPLAIN_NOTE,
		             "run it where the gateway's cgroup can be written: on the node, as root",
		             "not tried: no process can be put into %s: %s", explain->cgroup, strerror(-error));
		return;
	}
	if (connect.error)
		explain_refusal(explain, &connect);
	else
		explain_success(explain, &connect);
	explain_connect_end(&connect);
}

void explain_try(struct explain *explain)
{
	if (!explain->served || !find_netns(explain)) {
		explain_step(explain, "try", EXPLAIN_WRONG, "start the gateway",
		             "there is no process of the gateway whose network namespace could be entered");
		return;
	}
	if (strcmp(explain->verdict, "deny") != 0)
		try_directly(explain);
	try_as_gateway(explain);
}
