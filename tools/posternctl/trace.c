/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * posternctl trace: events as they happen, a line each, until it is ended. The kernel's programs and the agent make
 * events only while somebody looks, and only those that fit; what was lost is said.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent_client.h"
#include "base/address.h"
#include "base/loop.h"
#include "base/trace.h"
#include "observe/control_socket.h"
#include "observe/status.h"
#include "posternctl.h"
#include "print.h"
#include "rows.h"
#include "terminal.h"

#define LOOK_NS 200000000

const char trace_help[] =
        "A line each, by the time when it was:\n"
        "  intercept  a connect() of the gateway and what the hook decided, or why it was refused\n"
        "  syn        its SYN: sent to the agent's listener, held there, released, or dropped\n"
        "  connect, dial, handshake, open, close, fail\n"
        "             what the agent does with it\n"
        "  guard      a packet of the gateway that was dropped: it would have gone past the agent\n"
        "  witness    a packet of the agent that was dropped: it was no TLS\n"
        "  lost       so many events are missing here, and why: they came too fast, or the reader (a stopped\n"
        "             terminal, a full pipe) did not look for more than 10 s, after which nothing is kept for it\n"
        "#N is the kernel's number of the gateway's socket: the lines of one connection have the same.\n"
        "--gateway, --destination and --verdict filter in the kernel, so that a busy node is not slowed down by\n"
        "what you do not look at; --reason filters what is shown.\n";

static enum colour colour_of(const char *event)
{
	return strcmp(event, "fail") == 0 ? COLOUR_BAD : strcmp(event, "open") == 0 ? COLOUR_GOOD : COLOUR_NONE;
}

static void print_line(json_t *row)
{
	(void)json_dumpf(row, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
	putchar('\n');
}

static void print_event(const struct options *options, json_t *event)
{
	const char *reason = text_of(event, "reason");
	long long port = number_of(event, "gateway_port");

	if (options->json) {
		print_line(event);
		return;
	}
	terminal_printf(COLOUR_DIM, "%s ", text_of(event, "time"));
	terminal_printf(colour_of(text_of(event, "event")), "%-9s ", text_of(event, "event"));
	terminal_printf(COLOUR_NONE, "%s", text_of(event, "gateway")[0] ? text_of(event, "gateway") : "?");
	if (port)
		printf(":%lld", port);
	terminal_printf(COLOUR_NONE, " -> %s", text_of(event, "destination")[0] ? text_of(event, "destination") : "?");
	if (reason[0] && strcmp(reason, "none") != 0)
		terminal_printf(COLOUR_WARN, " %s", reason);
	if (text_of(event, "detail")[0])
		terminal_printf(COLOUR_NONE, ": %s", text_of(event, "detail"));
	if (text_of(event, "error")[0])
		terminal_printf(COLOUR_NONE, " (%s)", text_of(event, "error"));
	if (number_of(event, "cookie"))
		terminal_printf(COLOUR_DIM, " #%lld", number_of(event, "cookie"));
	putchar('\n');
}

/* In its place: between what was read before and after. seconds: for so long nothing was kept, or 0. */
static void print_lost(const struct options *options, long long lost, double seconds)
{
	json_t *row;

	if (!options->json) {
		if (seconds > 0)
			terminal_printf(COLOUR_WARN,
			                "up to %lld events lost: nobody read them, and for %.1f s none was kept", lost,
			                seconds);
		else
			terminal_printf(COLOUR_WARN, "%lld events lost: they came faster than they were read", lost);
		putchar('\n');
		return;
	}
	row = json_pack("{s:s, s:I, s:f}", "event", "lost", "lost", (json_int_t)lost, "seconds", seconds);
	if (row)
		print_line(row);
	json_decref(row);
}

static void print_events(const struct options *options, const json_t *answer, double since_last_look)
{
	double away = real_of(answer, "away_seconds");
	size_t index;
	json_t *event;

	/* The agent gave our place to another reader: it cannot say what we missed. */
	if (json_is_false(json_object_get(answer, "known")) && since_last_look > 0)
		away = since_last_look;
	if (number_of(answer, "lost") || away > 0)
		print_lost(options, number_of(answer, "lost"), away);
	json_array_foreach (json_object_get(answer, "events"), index, event)
		if (row_wanted(options, event))
			print_event(options, event);
}

/* ---- what is asked for ---- */

struct wanted {
	const char *gateway;
	char address[ADDRESS_TEXT_MAX];
	unsigned int port;
	unsigned int verdicts;
};

static bool read_port(const char *text, unsigned int *port)
{
	char *end;
	unsigned long number = strtoul(text, &end, 10);

	*port = (unsigned int)number;
	return text[0] >= '0' && text[0] <= '9' && !*end && number >= 1 && number <= 65535;
}

static bool read_address(const char *text, size_t length, struct wanted *wanted)
{
	struct postern_address address;

	if (length >= 2 && text[0] == '[' && text[length - 1] == ']') {
		text++;
		length -= 2;
	}
	(void)snprintf(wanted->address, sizeof(wanted->address), "%.*s", (int)length, text);
	return length < sizeof(wanted->address) && address_parse(wanted->address, &address) == 0;
}

/* As in rows.h: with or without brackets, either half may be missing. */
static bool read_destination(const char *text, struct wanted *wanted)
{
	const char *colon = strrchr(text, ':');
	bool port_only = colon == text;

	if (read_address(text, strlen(text), wanted))
		return true;
	(void)snprintf(wanted->address, sizeof(wanted->address), "-");
	return colon && read_port(colon + 1, &wanted->port) &&
	       (port_only || read_address(text, (size_t)(colon - text), wanted));
}

static bool read_verdicts(const char *text, struct wanted *wanted)
{
	while (*text) {
		size_t length = strcspn(text, ",");
		uint32_t verdict = 0;

		while (verdict <= POSTERN_VERDICT_HOLD &&
		       (strlen(verdict_name(verdict)) != length || strncmp(verdict_name(verdict), text, length) != 0))
			verdict++;
		if (verdict > POSTERN_VERDICT_HOLD)
			return false;
		wanted->verdicts |= 1u << verdict;
		text += length;
		text += *text == ',';
	}
	return wanted->verdicts;
}

static bool read_wanted(const struct options *options, struct wanted *wanted)
{
	*wanted = (struct wanted){.gateway = options->gateway ? options->gateway : "-", .address = "-"};
	/* The agent's words are divided by blanks, and no name has one. */
	if (!wanted->gateway[0] || strpbrk(wanted->gateway, " \t\n") || strlen(wanted->gateway) >= TRACE_NAME_MAX) {
		fprintf(stderr, "posternctl: --gateway: no gateway has such a name\n");
		return false;
	}
	if (options->destination && !read_destination(options->destination, wanted)) {
		fprintf(stderr, "posternctl: --destination: needs an address, :PORT, or both\n");
		return false;
	}
	if (options->verdict && !read_verdicts(options->verdict, wanted)) {
		fprintf(stderr, "posternctl: --verdict: needs tls, plain, deny, hold or none, with commas between\n");
		return false;
	}
	return true;
}

static uint64_t reader_number(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return ((uint64_t)now.tv_sec << 22 ^ (uint64_t)now.tv_nsec ^ (uint64_t)getpid() << 44) | 1;
}

int command_trace(const struct options *options)
{
	static const struct timespec pause = {.tv_nsec = LOOK_NS};
	uint64_t reader = reader_number() & INT64_MAX;
	long long last = 0;
	uint64_t last_look = 0;
	struct wanted wanted;
	int status;

	if (!read_wanted(options, &wanted))
		return EXIT_USAGE;
	do {
		char command[CONTROL_COMMAND_MAX];
		json_t *answer = NULL;
		uint64_t now = monotonic_ns();

		(void)snprintf(command, sizeof(command), "trace %" PRIu64 " %lld %s %s %u %u", reader, last,
		               wanted.gateway, wanted.address, wanted.port, wanted.verdicts);
		status = ask_or_complain(options, command, JSON_OBJECT, &answer);
		if (status)
			return status;
		print_events(options, answer, last_look ? (double)(now - last_look) / 1e9 : 0);
		last_look = now;
		last = number_of(answer, "last");
		json_decref(answer);
	} while (wait_while_read(&pause));
	return EXIT_FINE;
}
