/* SPDX-License-Identifier: GPL-2.0-only */
#include "control/try_command.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/trace.h"
#include "control/agent.h"
#include "datapath/shadow.h"
#include "observe/json.h"
#include "policy/snapshot.h"

static json_t *refuse(const char *message)
{
	return json_pack("{s:s}", "error", message);
}

json_t *try_begin(struct agent *agent, const char *arguments)
{
	char name[TRACE_NAME_MAX], address[ADDRESS_TEXT_MAX];
	struct postern_destination_key key = {0};
	const struct enrolment *enrolment;
	struct shadow *shadow;
	unsigned int port;
	uint64_t ticket;

	if (sscanf(arguments, "%127s %47s %u", name, address, &port) != 3 || port == 0 || port > 65535 ||
	    address_parse(address, &key.address) != 0)
		return refuse("try GATEWAY ADDRESS PORT");
	key.port = htons((uint16_t)port);
	enrolment = enrol_find(agent, name);
	if (!enrolment || !enrolment->gateway || enrolment->gateway->state != GATEWAY_READY)
		return refuse("no such gateway is ready");
	if (!agent->maps.applied || agent->enrolment_paused)
		return refuse("there is no policy in force, or another agent serves now");
	shadow = shadow_watch_need(agent);
	ticket = shadow ? shadow_try(shadow, enrolment->gateway, agent->maps.applied, &key) : 0;
	return ticket ? json_pack("{s:I}", "ticket", (json_int_t)ticket)
	              : refuse("it is no TLS destination now, or too much is being tried");
}

json_t *try_end(struct agent *agent, const char *arguments)
{
	struct shadow_report report;
	char *end;
	uint64_t ticket = strtoull(arguments, &end, 10);
	int error = *end || !agent->shadow ? -ENOENT : shadow_report(agent->shadow, ticket, &report);
	bool verified;

	if (error == -EAGAIN)
		return json_pack("{s:b}", "pending", 1);
	if (error)
		return refuse("there is no such ticket");
	verified = report.result.reason == REASON_NONE;
	return json_pack("{s:b, s:b, s:s, s:s, s:o, s:s, s:o, s:o, s:b}", "pending", 0, "verified", verified, "reason",
	                 verified ? "" : reason_name(report.result.reason), "remedy",
	                 verified ? "" : reason_remedy(report.result.reason), "detail", json_text(report.result.detail),
	                 "version", report.handshake_done ? tls_version_name(report.version) : "", "cipher",
	                 json_text(report.cipher), "alpn", json_text(report.alpn), "client_certificate",
	                 report.client_certificate);
}
