/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * posternctl connections: the kernel's sockets first (kernel_sockets.h), then what the agent says of each. A direction
 * that the agent believes to be in kernel TLS, and whose B the kernel shows without keys, is a disagreement. Where the
 * agent cannot be asked, the kernel's sockets are the list.
 */
#include <stdio.h>
#include <string.h>

#include "agent_client.h"
#include "base/address.h"
#include "base/cleanup.h"
#include "both.h"
#include "datapath/worker.h"
#include "kernel_sockets.h"
#include "observe/json.h"
#include "observe/status.h"
#include "posternctl.h"
#include "print.h"
#include "terminal.h"

static bool is_kernel_mode(const char *mode)
{
	return strncmp(mode, "ktls", 4) == 0;
}

/* "rxconf: sw" or "rxconf: hw": there are keys; "none", or nothing: there are not. */
static bool has_keys(const char *ulp, const char *which)
{
	const char *place = strstr(ulp, which);

	return place && strncmp(place + strlen(which), "none", 4) != 0;
}

static bool differs(const json_t *row, const struct kernel_socket *b)
{
	if (!b)
		return false; /* it was made or closed between the two looks */
	return (is_kernel_mode(text_of(row, "to_backend")) && !has_keys(b->ulp, "txconf: ")) ||
	       (is_kernel_mode(text_of(row, "to_gateway")) && !has_keys(b->ulp, "rxconf: "));
}

/* The kernel's ULP line instead of what the agent read of it a moment before. */
static void add_kernel(json_t *row, const struct kernel_sockets *sockets, size_t *differences)
{
	const char *destination = text_of(row, "destination");
	const struct kernel_socket *b = kernel_socket_find(sockets, true, (uint16_t)number_of(row, "backend_port"),
	                                                   destination);
	const struct kernel_socket *g = kernel_socket_find(sockets, false, (uint16_t)number_of(row, "gateway_port"),
	                                                   destination);
	bool different = differs(row, b);

	*differences += different;
	if (b && b->ulp[0])
		(void)json_object_set_new(row, "ulp", json_string(b->ulp));
	(void)json_object_set_new(row, "kernel", json_string(b && g ? "both" : b ? "B" : g ? "G" : ""));
	(void)json_object_set_new(row, "differs", json_boolean(different));
}

static const char *gateway_name(const json_t *gateways, uint32_t id)
{
	size_t index;
	json_t *gateway;

	json_array_foreach (gateways, index, gateway)
		if (number_of(gateway, "id") == id)
			return text_of(gateway, "name");
	return "";
}

/* A row with the members of the agent's, of what the kernel alone knows of a G. */
static json_t *kernel_row(const struct kernel_socket *g, const json_t *gateways)
{
	struct connection_view view = {.gateway_port = g->local_port, .destination = g->destination};
	json_t *row = connection_row(&view);

	json_set(&row, "gateway", json_text(gateway_name(gateways, g->gateway_id)));
	json_set(&row, "to_backend", json_string("unknown"));
	json_set(&row, "to_gateway", json_string("unknown"));
	json_set(&row, "kernel", json_string("G"));
	json_set(&row, "differs", json_false());
	return row;
}

static json_t *kernel_rows(const struct kernel_sockets *sockets, const json_t *gateways)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < sockets->count; i++) {
		const struct kernel_socket *socket = &sockets->at[i];

		if (!socket->is_backend &&
		    (socket->verdict == POSTERN_VERDICT_TLS || socket->verdict == POSTERN_VERDICT_HOLD))
			json_append(&rows, kernel_row(socket, gateways));
	}
	return rows;
}

static void look(const struct options *options, struct both *result)
{
	_cleanup_(kernel_view_close) struct kernel_view view;
	struct kernel_sockets sockets = {0};
	json_t *gateways = NULL;
	json_t *status = NULL;
	size_t index;
	json_t *row;

	result->agent = agent_ask(options->run_dir, "status", JSON_OBJECT, &status, result->reason,
	                          sizeof(result->reason));
	result->pinned = kernel_view_open(&view, options);
	if (result->pinned) {
		gateways = kernel_gateways(&view);
		kernel_sockets_read(&view, gateways, status, &sockets);
	}
	(void)snprintf(result->kernel_error, sizeof(result->kernel_error), "%s",
	               view.error[0] ? view.error : sockets.error);
	/* One that is hung is not waited for twice. */
	if (result->agent == AGENT_ANSWERED || result->agent == AGENT_REFUSED)
		result->agent = agent_ask(options->run_dir, "connections", JSON_ARRAY, &result->rows, result->reason,
		                          sizeof(result->reason));
	if (result->agent == AGENT_ANSWERED) {
		json_array_foreach (result->rows, index, row)
			add_kernel(row, &sockets, &result->differences);
	} else {
		result->rows = kernel_rows(&sockets, gateways);
	}
	kernel_sockets_free(&sockets);
	json_decref(gateways);
	json_decref(status);
}

/* ---- the page ---- */

static enum colour mode_colour(const char *mode)
{
	if (is_kernel_mode(mode))
		return COLOUR_GOOD;
	return strcmp(mode, "plain") == 0 ? COLOUR_BAD : COLOUR_WARN;
}

static void add_notes(struct table *table, const json_t *row)
{
	const char *reason = text_of(row, "mode_reason");

	if (text_of(row, "sni")[0] || text_of(row, "peer")[0])
		table_note(table, COLOUR_DIM, "sni %s, verified as %s, %s", text_of(row, "sni"), text_of(row, "peer"),
		           truth_of(row, "resumed") ? "resumed session" : "full handshake");
	if (text_of(row, "ulp")[0])
		table_note(table, COLOUR_DIM, "kernel says: %s", text_of(row, "ulp"));
	if (truth_of(row, "differs"))
		table_note(
		        table, COLOUR_BAD,
		        "KERNEL AND AGENT DISAGREE: B has no keys in the kernel for a direction that is said to be in "
		        "kernel TLS. remedy: posternctl bugreport, then restart posternd");
	if (reason[0] && strcmp(reason, "none") != 0)
		table_note(table, COLOUR_WARN, "%s: %s", reason, remedy_of(reason));
}

static void add_row(struct table *table, const json_t *row)
{
	char sent[AMOUNT_TEXT_MAX] = "-";
	char received[AMOUNT_TEXT_MAX] = "-";
	char age[AMOUNT_TEXT_MAX] = "-";

	if (strcmp(text_of(row, "to_backend"), "unknown") != 0) { /* the kernel alone knows of it, and not how much */
		(void)format_bytes(number_of(row, "bytes_to_backend"), sent);
		(void)format_bytes(number_of(row, "bytes_to_gateway"), received);
		(void)format_age(real_of(row, "age_seconds"), age);
	}
	table_cell(table, COLOUR_BOLD, "%s", text_of(row, "gateway"));
	table_cell(table, COLOUR_NONE, "%lld", number_of(row, "gateway_port"));
	table_cell(table, COLOUR_NONE, "%s", text_of(row, "destination"));
	table_cell(table, COLOUR_NONE, "%s", text_of(row, "policy"));
	table_cell(table, COLOUR_NONE, "%s%s%s", text_of(row, "tls_version"), text_of(row, "cipher")[0] ? " " : "",
	           text_of(row, "cipher"));
	table_cell(table, COLOUR_NONE, "%s", text_of(row, "alpn"));
	table_cell(table, mode_colour(text_of(row, "to_backend")), "%s%s", truth_of(row, "lane") ? "lane+" : "",
	           text_of(row, "to_backend"));
	table_cell(table, mode_colour(text_of(row, "to_gateway")), "%s", text_of(row, "to_gateway"));
	table_cell(table, COLOUR_NONE, "%s", sent);
	table_cell(table, COLOUR_NONE, "%s", received);
	table_cell(table, COLOUR_NONE, "%s", age);
	add_notes(table, row);
}

int command_connections(const struct options *options)
{
	static const char *const headings[] = {"GATEWAY",    "PORT",       "DESTINATION", "POLICY",   "TLS", "ALPN",
	                                       "TO BACKEND", "TO GATEWAY", "SENT",        "RECEIVED", "AGE", NULL};
	static const struct both_list list = {look, headings, add_row, "no live connection"};

	return both_command(options, &list);
}
