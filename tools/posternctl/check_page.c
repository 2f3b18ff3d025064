/* SPDX-License-Identifier: GPL-2.0-only */
#include <stdio.h>
#include <string.h>

#include "agent_client.h"
#include "check.h"
#include "print.h"
#include "terminal.h"

#define LABEL_WIDTH      12
#define LISTED_ADDRESSES 6  /* of a port; the table has all */
#define LISTED_CAS       16 /* --json has all */
#define VALUE_MAX        200

/* "  label      ": the value follows. */
static void label(const char *text)
{
	printf("  %-*s ", LABEL_WIDTH, text);
}

static void line(const char *name, enum colour colour, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void line(const char *name, enum colour colour, const char *format, ...)
{
	char *text;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	label(name);
	terminal_put(colour, text ? text : "(out of memory)");
	putchar('\n');
	free(text);
}

/* Messages are sentences that "; " joins: a line for each, those after the first without the label. */
static void print_sentences(const char *name, enum colour colour, const char *text)
{
	for (const char *end; (end = strstr(text, "; ")); text = end + strlen("; "), name = "")
		line(name, colour, "%.*s", (int)(end - text), text);
	line(name, colour, "%s", text);
}

static const json_t *condition_of(const json_t *object, const char *type)
{
	size_t index;
	json_t *condition;

	json_array_foreach (json_object_get(object, "conditions"), index, condition)
		if (strcmp(text_of(condition, "type"), type) == 0)
			return condition;
	return NULL;
}

static bool is_false(const json_t *condition)
{
	return strcmp(text_of(condition, "status"), "False") == 0;
}

static void print_refusal(const json_t *object, const char *type)
{
	const json_t *condition = condition_of(object, type);

	if (!is_false(condition))
		return;
	line(type, COLOUR_BAD, "False (%s)", text_of(condition, "reason"));
	print_sentences("", COLOUR_NONE, text_of(condition, "message"));
}

static void print_texts(const json_t *texts, const char *name, enum colour colour, const char *told)
{
	size_t index;
	json_t *text;

	json_array_foreach (texts, index, text)
		if (!strstr(told, json_string_value(text)))
			print_sentences(name, colour, json_string_value(text));
}

static void print_title(const json_t *policy)
{
	const json_t *accepted = condition_of(policy, "Accepted");

	terminal_printf(COLOUR_BOLD, "%s/%s", text_of(policy, "namespace"), text_of(policy, "name"));
	printf(": ");
	if (is_false(accepted))
		terminal_put(COLOUR_BAD, "NOT ACCEPTED");
	else if (is_false(condition_of(policy, "ResolvedRefs")))
		terminal_put(COLOUR_BAD, "accepted, but references are NOT RESOLVED");
	else if (json_array_size(json_object_get(policy, "errors")))
		terminal_put(COLOUR_BAD, "accepted, but handshakes WILL FAIL");
	else
		terminal_put(COLOUR_GOOD, "accepted");
	putchar('\n');
}

static void print_gateways(const json_t *policy)
{
	const json_t *ancestors = json_object_get(policy, "ancestors");
	size_t index;
	json_t *ancestor;

	label("gateways");
	if (json_array_size(ancestors) == 0)
		printf("none has a Route to it");
	json_array_foreach (ancestors, index, ancestor) {
		if (text_of(ancestor, "name")[0])
			terminal_printf(COLOUR_NONE, "%s%s/%s", index ? ", " : "", text_of(ancestor, "namespace"),
			                text_of(ancestor, "name"));
		else
			printf("whichever dials (no Gateway is among the objects)");
	}
	putchar('\n');
}

/* As OpenSSL writes subjectAltNames. */
static const char *name_prefix(const json_t *name)
{
	return strcmp(text_of(name, "type"), "URI") == 0 ? "URI" : "DNS";
}

static void print_identity(const json_t *policy)
{
	const json_t *identity = json_object_get(policy, "identity");
	const json_t *names = json_object_get(identity, "subjectAltNames");
	size_t index;
	json_t *name;

	line("SNI", COLOUR_NONE, "%.*s", VALUE_MAX, text_of(policy, "sni"));
	label("identity");
	if (!names)
		terminal_printf(COLOUR_NONE, "DNS:%.*s (the hostname)", VALUE_MAX, text_of(identity, "hostname"));
	json_array_foreach (names, index, name)
		terminal_printf(COLOUR_NONE, "%s%s:%.*s", index ? " or " : "", name_prefix(name), VALUE_MAX,
		                text_of(name, "value"));
	puts(names ? " (subjectAltNames)" : "");
}

/* The day is enough for people. */
static void print_certificate(const char *name, const json_t *certificate)
{
	line(name, COLOUR_NONE, "%s, until %.10s (%s)", text_of(certificate, "subject"),
	     text_of(certificate, "notAfter"), text_of(certificate, "from"));
}

static void print_authorities(const json_t *ca)
{
	const json_t *certificates = json_object_get(ca, "certificates");
	size_t index;
	json_t *certificate;

	if (truth_of(ca, "system"))
		line("CA", COLOUR_NONE, "the system's: %lld certificates of %s", number_of(ca, "count"),
		     text_of(ca, "file"));
	json_array_foreach (certificates, index, certificate) {
		if (index < LISTED_CAS)
			print_certificate(index ? "" : "CA", certificate);
	}
	if (json_array_size(certificates) > LISTED_CAS)
		line("", COLOUR_NONE, "and %zu more (--json shows all)", json_array_size(certificates) - LISTED_CAS);
}

static void print_settings(const json_t *settings)
{
	const char *lowest = text_of(settings, "minTlsVersion"), *highest = text_of(settings, "maxTlsVersion");
	const char *key;
	json_t *value;
	size_t index;

	if (strcmp(lowest, highest) == 0)
		line("TLS", COLOUR_NONE, "%s only", lowest);
	else
		line("TLS", COLOUR_NONE, "%s or %s", lowest, highest);
	json_object_foreach (json_object_get(settings, "options"), key, value)
		line("option", COLOUR_NONE, "%.*s: %.*s", VALUE_MAX, key, VALUE_MAX, json_string_value(value));
	json_array_foreach (json_object_get(settings, "crls"), index, value)
		line("CRL", COLOUR_NONE, "of %s, next update %.10s (%s)", text_of(value, "issuer"),
		     text_of(value, "nextUpdate")[0] ? text_of(value, "nextUpdate") : "unknown",
		     text_of(value, "from"));
	if (json_object_get(settings, "clientCertificate"))
		print_certificate("client cert", json_object_get(settings, "clientCertificate"));
}

/* What all addresses have in common: "TLS", "DENY no_valid_ca"; "" if it differs. */
static void common_verdict(const json_t *addresses, char *text, size_t size)
{
	const json_t *first = json_array_get(addresses, 0);
	size_t index;
	json_t *address;

	text[0] = '\0';
	json_array_foreach (addresses, index, address)
		if (strcmp(text_of(address, "verdict"), text_of(first, "verdict")) != 0 ||
		    strcmp(text_of(address, "reason"), text_of(first, "reason")) != 0)
			return;
	(void)snprintf(text, size, "%s%s%s", text_of(first, "verdict"), text_of(first, "reason")[0] ? " " : "",
	               text_of(first, "reason"));
}

/* "10.0.0.1:443", "[fd00::1]:443", "10.0.0.1:any" */
static void print_address(const json_t *address, bool with_verdict)
{
	const char *text = text_of(address, "address"), *reason = text_of(address, "reason");
	bool v6 = strchr(text, ':');
	long long port = number_of(address, "port");

	terminal_printf(COLOUR_NONE, "%s%s%s:", v6 ? "[" : "", text, v6 ? "]" : "");
	if (port)
		printf("%lld", port);
	else
		printf("any");
	if (with_verdict)
		terminal_printf(reason[0] ? COLOUR_BAD : COLOUR_NONE, " %s%s%s", text_of(address, "verdict"),
		                reason[0] ? " " : "", reason);
}

static void print_addresses(const json_t *addresses, const char *class, const char *name, bool with_verdict)
{
	size_t index, count = 0;
	json_t *address;

	json_array_foreach (addresses, index, address) {
		if (strcmp(text_of(address, "class"), class) != 0 || ++count > LISTED_ADDRESSES)
			continue;
		if (count == 1)
			label("");
		printf(count == 1 ? "  %s " : ", ", name);
		print_address(address, with_verdict);
	}
	if (count > LISTED_ADDRESSES)
		printf(" and %zu more", count - LISTED_ADDRESSES);
	if (count)
		putchar('\n');
}

static void print_port(const json_t *service, const json_t *port)
{
	const json_t *addresses = json_object_get(port, "addresses");
	const char *name = text_of(port, "name"), *alpn = text_of(port, "alpn");
	char verdict[64];
	bool same;

	common_verdict(addresses, verdict, sizeof(verdict));
	same = verdict[0] != '\0';
	label("covers");
	if (number_of(port, "port"))
		terminal_printf(COLOUR_NONE, "Service %s port %lld%s%s%s", text_of(service, "name"),
		                number_of(port, "port"), name[0] ? " (" : "", name, name[0] ? ")" : "");
	else
		terminal_printf(COLOUR_NONE, "Service %s, other ports of its endpoints", text_of(service, "name"));
	if (same) {
		printf(": ");
		terminal_put(strcmp(verdict, "TLS") == 0 ? COLOUR_GOOD : COLOUR_BAD, verdict);
	}
	if (alpn[0])
		printf(", ALPN %s", strcmp(alpn, "none") == 0 ? "not offered" : alpn);
	putchar('\n');
	print_addresses(addresses, "vip", "ClusterIP", !same);
	print_addresses(addresses, "external", "external IP", !same);
	print_addresses(addresses, "endpoint", "endpoints", !same);
}

static void print_services(const json_t *services)
{
	size_t i, j;
	json_t *service, *port;

	json_array_foreach (services, i, service)
		json_array_foreach (json_object_get(service, "ports"), j, port)
			print_port(service, port);
}

static void print_policy(const json_t *policy)
{
	const json_t *accepted = condition_of(policy, "Accepted");

	print_title(policy);
	print_refusal(policy, "Accepted");
	print_refusal(policy, "ResolvedRefs");
	print_texts(json_object_get(policy, "errors"), "error", COLOUR_BAD, "");
	/* What a refusal's message says already is not said twice. */
	print_texts(json_object_get(policy, "warnings"), "warning", COLOUR_WARN,
	            is_false(accepted) ? text_of(accepted, "message") : "");
	print_gateways(policy);
	if (json_object_get(policy, "identity")) {
		print_identity(policy);
		print_authorities(json_object_get(policy, "ca"));
		print_settings(json_object_get(policy, "settings"));
		print_services(json_object_get(policy, "services"));
	}
	putchar('\n');
}

static void print_gateway(const json_t *gateway)
{
	const json_t *condition = condition_of(gateway, "ResolvedRefs");

	if (!condition && json_array_size(json_object_get(gateway, "warnings")) == 0)
		return;
	terminal_printf(COLOUR_BOLD, "Gateway %s/%s", text_of(gateway, "namespace"), text_of(gateway, "name"));
	printf(":\n");
	print_refusal(gateway, "ResolvedRefs");
	print_texts(json_object_get(gateway, "errors"), "error", COLOUR_BAD, "");
	print_texts(json_object_get(gateway, "warnings"), "warning", COLOUR_WARN, "");
	if (json_object_get(gateway, "clientCertificate"))
		print_certificate("client cert", json_object_get(gateway, "clientCertificate"));
	putchar('\n');
}

static void print_destinations(const json_t *destinations)
{
	static const char *const headings[] = {"DESTINATION", "PORT", "CLASS", "VERDICT", "POLICY", "REASON", NULL};
	struct table *table;
	size_t index;
	json_t *row;

	if (json_array_size(destinations) == 0)
		return;
	table = table_new(headings);
	json_array_foreach (destinations, index, row) {
		const char *verdict = text_of(row, "verdict");
		bool tls = strcmp(verdict, "TLS") == 0, deny = strcmp(verdict, "DENY") == 0;

		table_cell(table, COLOUR_NONE, "%s", text_of(row, "address"));
		if (number_of(row, "port"))
			table_cell(table, COLOUR_NONE, "%lld", number_of(row, "port"));
		else
			table_cell(table, COLOUR_NONE, "any");
		table_cell(table, COLOUR_NONE, "%s", text_of(row, "class"));
		table_cell(table, tls ? COLOUR_GOOD : deny ? COLOUR_BAD : COLOUR_NONE, "%s", verdict);
		table_cell(table, COLOUR_NONE, "%s", text_of(row, "policy"));
		table_cell(table, COLOUR_BAD, "%s", text_of(row, "reason"));
	}
	table_print(table, 0);
	putchar('\n');
}

static size_t count_verdict(const json_t *destinations, const char *verdict)
{
	size_t index, count = 0;
	json_t *row;

	json_array_foreach (destinations, index, row)
		count += strcmp(text_of(row, "verdict"), verdict) == 0;
	return count;
}

static void print_held(const json_t *held)
{
	const json_t *cidrs = json_object_get(held, "clusterCIDRs"), *ports = json_object_get(held, "ports");
	size_t index;
	json_t *value;

	if (json_array_size(cidrs) == 0 || json_array_size(ports) == 0)
		return;
	printf("held until the agent has read its source again: other addresses of ");
	json_array_foreach (cidrs, index, value)
		printf("%s%s", index ? ", " : "", json_string_value(value));
	printf(" on port%s ", json_array_size(ports) == 1 ? "" : "s");
	json_array_foreach (ports, index, value)
		printf("%s%lld", index ? ", " : "", (long long)json_integer_value(value));
	puts("\n");
}

static void print_summary(const json_t *document)
{
	const json_t *policies = json_object_get(document, "policies");
	const json_t *destinations = json_object_get(document, "destinations");
	size_t errors = json_array_size(json_object_get(document, "errors"));
	size_t index, good = 0, warned = 0, count = json_array_size(policies);
	json_t *policy;

	json_array_foreach (policies, index, policy) {
		good += check_passes(policy);
		warned += json_array_size(json_object_get(policy, "warnings")) != 0;
	}
	if (count)
		printf("%zu %s: %zu good, %zu bad", count, count == 1 ? "policy" : "policies", good, count - good);
	else
		printf("no BackendTLSPolicy is among the objects");
	if (warned)
		printf(", %zu with warnings", warned);
	printf("; %zu destinations: %zu TLS, %zu DENY, %zu PLAIN\n", json_array_size(destinations),
	       count_verdict(destinations, "TLS"), count_verdict(destinations, "DENY"),
	       count_verdict(destinations, "PLAIN"));
	if (errors)
		terminal_printf(COLOUR_BAD, "%zu error%s in the input: what is broken was left out", errors,
		                errors == 1 ? "" : "s");
	if (errors)
		putchar('\n');
}

void print_check_page(const json_t *document)
{
	size_t index;
	json_t *row;

	json_array_foreach (json_object_get(document, "policies"), index, row)
		print_policy(row);
	json_array_foreach (json_object_get(document, "gateways"), index, row)
		print_gateway(row);
	print_destinations(json_object_get(document, "destinations"));
	print_held(json_object_get(document, "held"));
	json_array_foreach (json_object_get(document, "notes"), index, row) {
		terminal_printf(COLOUR_DIM, "note: %s", json_string_value(row));
		putchar('\n');
	}
	print_summary(document);
}
