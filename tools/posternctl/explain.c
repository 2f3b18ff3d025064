/* SPDX-License-Identifier: GPL-2.0-only */
#include "explain.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent_client.h"
#include "base/cleanup.h"
#include "kernel_view.h"
#include "observe/json.h"
#include "observe/status.h"
#include "posternctl.h"
#include "print.h"
#include "rows.h"
#include "status.h"
#include "terminal.h"

#define SAYS_MAX 640

void explain_step(struct explain *explain, const char *step, enum explain_state state, const char *remedy,
                  const char *format, ...)
{
	static const char *const names[] = {"ok", "note", "wrong"};
	char text[SAYS_MAX];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	explain->wrong |= state == EXPLAIN_WRONG;
	json_append(&explain->steps, json_pack("{s:s, s:s, s:o, s:o}", "step", step, "state", names[state], "says",
	                                       json_text(text), "remedy", json_text(remedy)));
}

static const json_t *find_by_name(const json_t *rows, const char *wanted)
{
	size_t index;
	json_t *row;

	json_array_foreach (rows, index, row)
		if (name_fits(wanted, text_of(row, "name")))
			return row;
	return NULL;
}

/* ---- what the kernel says ---- */

static void explain_gateway(struct explain *explain)
{
	explain->hooks = find_by_name(json_object_get(explain->kernel, "gateways"), explain->gateway);
	explain->served = find_by_name(json_object_get(explain->agent, "gateways"), explain->gateway);
	if (explain->hooks || explain->served) {
		explain_step(explain, "gateway", EXPLAIN_OK, "", "%s%s",
		             text_of(explain->hooks ? explain->hooks : explain->served, "name"),
		             explain->served  ? ""
		             : explain->agent ? ": the kernel has hooks of it, the agent does not know it"
		                              : ": by the kernel's word");
		return;
	}
	if (text_of(explain->kernel, "error")[0]) {
		explain->unknown = true;
		explain_step(explain, "gateway", EXPLAIN_WRONG, "run it as root, on the gateway's node",
		             "whether %s is enrolled is not known: the kernel cannot be read: %s", explain->gateway,
		             text_of(explain->kernel, "error"));
		return;
	}
	explain->passes = true;
	explain_step(explain, "gateway", EXPLAIN_WRONG,
	             "is the name right (posternctl gateways)? Is it in posternd's configuration, or its pod labelled "
	             "gateway.networking.k8s.io/gateway-name?",
	             "no gateway %s is enrolled: its connects pass as it makes them", explain->gateway);
}

static void join_names(const json_t *names, char text[static 200])
{
	size_t index;
	json_t *name;

	text[0] = '\0';
	json_array_foreach (names, index, name)
		(void)snprintf(text + strlen(text), 200 - strlen(text), "%s%s", index ? ", " : "",
		               json_string_value(name) ? json_string_value(name) : "?");
}

static void explain_hooks(struct explain *explain)
{
	char missing[200];
	char foreign[200];

	join_names(json_object_get(explain->hooks, "missing"), missing);
	join_names(json_object_get(explain->hooks, "foreign"), foreign);
	if (!explain->hooks && text_of(explain->kernel, "error")[0]) {
		explain_step(explain, "hooks", EXPLAIN_NOTE, "run it as root, on the gateway's node",
		             "whether they are attached is not known: the kernel cannot be read: %s",
		             text_of(explain->kernel, "error"));
		return;
	}
	explain->passes = !explain->hooks;
	if (!explain->hooks)
		explain_step(explain, "hooks", EXPLAIN_WRONG, "see the gateway's reason in posternctl gateways",
		             "no hook is attached: its connects pass as it makes them");
	else if (foreign[0])
		explain_step(explain, "hooks", EXPLAIN_WRONG, "restart posternd, and find who replaced them",
		             "another program hangs in the place of %s", foreign);
	else if (missing[0])
		explain_step(explain, "hooks", EXPLAIN_WRONG,
		             "somebody detached them by hand: posternd puts them back within a second; is it running?",
		             "not attached: %s", missing);
	else
		explain_step(explain, "hooks", EXPLAIN_OK, "", "%lld of %lld are attached to %s",
		             number_of(explain->hooks, "attached"), number_of(explain->hooks, "hooks"),
		             text_of(explain->hooks, "cgroup"));
}

static void explain_mode(struct explain *explain)
{
	const char *mode = text_of(explain->hooks, "mode");

	if (!explain->hooks)
		return;
	if (strcmp(mode, "observe") == 0)
		explain_step(explain, "mode", EXPLAIN_NOTE, "set the gateway's mode to enforce when you are ready",
		             "observe: nothing is redirected or refused, only counted");
	else if (strcmp(mode, "enforce") == 0)
		explain_step(explain, "mode", EXPLAIN_OK, "", "enforce, %zu agent ports in its network namespace",
		             json_array_size(json_object_get(explain->hooks, "ports")));
	else
		explain_step(explain, "mode", EXPLAIN_WRONG, "see the gateway's reason in posternctl gateways",
		             "%s: covered connects are refused", mode);
}

static void explain_map(struct explain *explain, const struct kernel_verdict *kernel)
{
	(void)snprintf(explain->verdict, sizeof(explain->verdict), "%s", verdict_name(kernel->verdict));
	switch (kernel->verdict) {
	case POSTERN_VERDICT_TLS:
		explain_step(explain, "kernel's map", EXPLAIN_OK, "", "%s: TLS, settings %u%s", explain->destination,
		             kernel->settings_id, kernel->any_port ? " (any port of this address)" : "");
		return;
	case POSTERN_VERDICT_PLAIN:
		explain_step(explain, "kernel's map", EXPLAIN_NOTE, "", "%s: PLAIN: known, and no policy covers it",
		             explain->destination);
		return;
	case POSTERN_VERDICT_DENY:
		explain_step(explain, "kernel's map", EXPLAIN_WRONG, "", "%s: DENY: connects are refused",
		             explain->destination);
		return;
	case POSTERN_VERDICT_HOLD:
		explain_step(explain, "kernel's map", EXPLAIN_NOTE, "",
		             "%s is not in the map, its address is the cluster's and %s: HOLD, the agent decides",
		             explain->destination, kernel->guarded ? "its port is guarded" : "coverage is strict");
		return;
	case POSTERN_VERDICT_NONE:
		break;
	}
	explain_step(explain, "kernel's map", EXPLAIN_NOTE,
	             kernel->in_cluster ? "" : "if it is of the cluster: is it in clusterCIDRs?",
	             "%s is not in the map, %s: it is none of postern's business and passes", explain->destination,
	             kernel->in_cluster ? "its port is not guarded" : "its address is not the cluster's");
}

static void look_at_kernel(struct explain *explain)
{
	_cleanup_(kernel_view_close) struct kernel_view view;
	struct kernel_verdict verdict;

	if (kernel_view_open(&view, explain->options) && kernel_view_judge(&view, &explain->key, &verdict) == 0)
		explain_map(explain, &verdict);
	else
		explain_step(explain, "kernel's map", EXPLAIN_WRONG,
		             "is --bpffs right, do you have the rights of root, does bpftool run?",
		             "cannot be read: %s", view.error[0] ? view.error : "nothing is pinned");
}

/* ---- what the agent says ---- */

static bool is_in_hands(const struct explain *explain)
{
	return strcmp(explain->verdict, "tls") == 0 || strcmp(explain->verdict, "hold") == 0;
}

static void explain_agent(struct explain *explain, enum agent_answer answer, const char *why)
{
	const char *reason = text_of(explain->agent, "reason");

	if (!explain->agent && explain->unknown)
		explain_step(explain, "agent", EXPLAIN_NOTE, "", "%s (%s)",
		             answer == AGENT_DEAD ? "posternd is not running" : "posternd cannot be asked", why);
	else if (!explain->agent && !is_in_hands(explain))
		explain_step(explain, "agent", EXPLAIN_NOTE, "", "%s (%s): this connect does not need it",
		             answer == AGENT_DEAD ? "posternd is not running" : "posternd cannot be asked", why);
	else if (answer == AGENT_DEAD)
		explain_step(explain, "agent", EXPLAIN_WRONG, REMEDY_DEAD,
		             "posternd is not running (%s): this connect is refused at once (111: Connection refused)",
		             why);
	else if (!explain->agent)
		explain_step(explain, "agent", EXPLAIN_NOTE,
		             "ask as root; if it hangs, this connect waits until its watchdog has ended it",
		             "posternd cannot be asked (%s): what becomes of this connect is not known", why);
	else if (!truth_of(explain->agent, "ready"))
		explain_step(explain, "agent", EXPLAIN_NOTE, "see posternctl status", "not ready: %s", reason);
	else
		explain_step(explain, "agent", EXPLAIN_OK, "", "posternd %s, pid %lld, ready",
		             text_of(explain->agent, "version"), number_of(explain->agent, "pid"));
}

static void explain_state(struct explain *explain)
{
	const char *state = text_of(explain->served, "state");

	if (!explain->served)
		return;
	if (strcmp(state, "ready") != 0)
		explain_step(explain, "gateway's state", EXPLAIN_WRONG,
		             "start the gateway, or see its cgroup and network namespace in the configuration",
		             "%s: %s", state, text_of(explain->served, "reason"));
	if (strcmp(text_of(json_object_get(explain->served, "client_certificate"), "state"), "unusable") == 0)
		explain_step(explain, "client certificate", EXPLAIN_WRONG,
		             "mend the Gateway's clientCertificateRef: see its ResolvedRefs condition",
		             "one of its Gateways names a client certificate that cannot be used");
}

static const json_t *find_destination(const struct explain *explain, const json_t *rows)
{
	char any[DESTINATION_TEXT_MAX];
	struct postern_destination_key key = explain->key;
	const json_t *found = NULL;
	size_t index;
	json_t *row;

	key.port = 0;
	(void)destination_format(&key, any);
	json_array_foreach (rows, index, row) {
		if (strcmp(text_of(row, "destination"), explain->destination) == 0)
			return row;
		if (strcmp(text_of(row, "destination"), any) == 0)
			found = row;
	}
	return found;
}

static bool is_covered(const char *verdict)
{
	return strcmp(verdict, "tls") == 0 || strcmp(verdict, "deny") == 0;
}

static void explain_verdict(struct explain *explain, const json_t *row)
{
	const char *verdict = text_of(row, "verdict");

	/* A kernel that cannot be read says nothing else. */
	if (explain->verdict[0] && is_covered(verdict) && strcmp(verdict, explain->verdict) != 0) {
		explain->disagree = true;
		explain_step(explain, "policy's verdict", EXPLAIN_WRONG,
		             "somebody changed the maps by hand: restart posternd, which writes them anew",
		             "KERNEL AND AGENT DISAGREE: the agent says %s by policy %s, the kernel says %s", verdict,
		             text_of(row, "policy"), explain->verdict);
		return;
	}
	if (!row)
		explain_step(explain, "policy's verdict", EXPLAIN_NOTE,
		             "does a Service or EndpointSlice name it? Does a BackendTLSPolicy target that Service and "
		             "port?",
		             "no object names this address and port");
	else if (strcmp(verdict, "tls") == 0)
		explain_step(explain, "policy's verdict", EXPLAIN_OK, "", "TLS by policy %s, as %s",
		             text_of(row, "policy"),
		             strcmp(text_of(row, "class"), "vip") == 0 ? "a Service's own address" : "an endpoint");
	else if (strcmp(verdict, "deny") == 0)
		explain_step(explain, "policy's verdict", EXPLAIN_WRONG, text_of(row, "remedy"), "DENY%s%s: %s",
		             text_of(row, "policy")[0] ? " by policy " : "", text_of(row, "policy"),
		             text_of(row, "reason"));
	else
		explain_step(explain, "policy's verdict", EXPLAIN_NOTE,
		             "if it should be TLS: write a BackendTLSPolicy for its Service (posternctl check)",
		             "PLAIN: no policy covers it; it is sent as the gateway makes it");
}

static void explain_conditions(struct explain *explain, const json_t *policy)
{
	static const struct {
		const char *member;
		const char *step;
	} conditions[] = {{"accepted", "Accepted"}, {"resolvedRefs", "ResolvedRefs"}};

	for (size_t i = 0; i < ARRAY_SIZE(conditions); i++) {
		const json_t *condition = json_object_get(policy, conditions[i].member);

		if (truth_of(condition, "status"))
			explain_step(explain, conditions[i].step, EXPLAIN_OK, "", "%s", text_of(condition, "message"));
		else
			explain_step(explain, conditions[i].step, EXPLAIN_WRONG,
			             "change the policy or what it refers to; posternctl check judges it before you "
			             "apply it",
			             "False (%s): %s", text_of(condition, "reason"), text_of(condition, "message"));
	}
}

static void explain_policy(struct explain *explain, const char *name)
{
	json_t *rows = NULL;
	char error[256];
	size_t index;
	json_t *row;

	if (!name[0] || agent_ask(explain->options->run_dir, "policies", JSON_ARRAY, &rows, error, sizeof(error)))
		return;
	json_array_foreach (rows, index, row) {
		char full[600];

		(void)snprintf(full, sizeof(full), "%.290s/%.290s", text_of(row, "namespace"), text_of(row, "name"));
		if (strcmp(full, name) == 0)
			explain_conditions(explain, row);
	}
	json_decref(rows);
}

/* How many certificates of the PEM are good now; *until: when the last of them ends. */
static unsigned int count_good(const char *pem, unsigned int *all, char until[static 64])
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	unsigned int good = 0;
	time_t last = 0;
	X509 *certificate;

	*all = 0;
	until[0] = '\0';
	while (bio && (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		struct tm parts;
		bool valid = X509_cmp_current_time(X509_get0_notBefore(certificate)) < 0 &&
		             X509_cmp_current_time(X509_get0_notAfter(certificate)) > 0;
		time_t end = ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &parts) ? timegm(&parts) : 0;

		(*all)++;
		good += valid;
		if (end >= last) {
			last = end;
			(void)strftime(until, 64, "%Y-%m-%dT%H:%M:%SZ", &parts);
		}
		X509_free(certificate);
	}
	BIO_free(bio);
	return good;
}

static void explain_trust(struct explain *explain)
{
	unsigned int all;
	char until[64];
	unsigned int good;

	if (truth_of(explain->settings, "system_ca")) {
		explain_step(explain, "CA", EXPLAIN_OK, "", "the system's");
		return;
	}
	good = count_good(text_of(explain->settings, "ca_pem"), &all, until);
	if (good == 0)
		explain_step(explain, "CA", EXPLAIN_WRONG,
		             "put the CA that signs the backend's certificate now into the ConfigMap that "
		             "caCertificateRefs names",
		             "no CA certificate of %u is valid now; the last one ends or ended %s", all, until);
	else
		explain_step(explain, "CA", EXPLAIN_OK, "", "%u certificates, %u valid now, the last until %s", all,
		             good, until);
}

static void explain_settings(struct explain *explain, long long id)
{
	char command[64];
	char error[256];
	json_t *settings = NULL;

	(void)snprintf(command, sizeof(command), "settings %lld", id);
	if (agent_ask(explain->options->run_dir, command, JSON_OBJECT, &settings, error, sizeof(error)))
		return;
	explain->settings = settings;
	explain_step(explain, "settings", EXPLAIN_OK, "", "SNI %s, %s to %s, ALPN %s%s", text_of(settings, "hostname"),
	             text_of(settings, "min_version"), text_of(settings, "max_version"),
	             text_of(settings, "alpn")[0] ? text_of(settings, "alpn") : "none",
	             text_of(settings, "client_certificate")[0] ? ", a client certificate of its own" : "");
	explain_trust(explain);
}

/* What went wrong here before is what will go wrong again. */
static void explain_history(struct explain *explain)
{
	json_t *rows = NULL;
	char error[256];
	size_t index;
	json_t *row;
	const json_t *last = NULL;
	size_t count = 0;

	if (agent_ask(explain->options->run_dir, "failures", JSON_ARRAY, &rows, error, sizeof(error)))
		return;
	json_array_foreach (rows, index, row) {
		if (strcmp(text_of(row, "destination"), explain->destination) != 0 ||
		    !name_fits(explain->gateway, text_of(row, "gateway")))
			continue;
		last = last ? last : row;
		count++;
	}
	if (last)
		explain_step(explain, "lately", EXPLAIN_NOTE, text_of(last, "remedy"),
		             "%zu of the last 1,000 failures were here; the last one at %s, from port %lld: %s%s%s",
		             count, text_of(last, "time"), number_of(last, "gateway_port"), text_of(last, "reason"),
		             text_of(last, "detail")[0] ? ": " : "", text_of(last, "detail"));
	json_decref(rows);
}

static void look_at_agent(struct explain *explain)
{
	json_t *rows = NULL;
	char error[256];
	const json_t *row;

	explain_state(explain);
	if (agent_ask(explain->options->run_dir, "destinations", JSON_ARRAY, &rows, error, sizeof(error))) {
		explain_step(explain, "policy's verdict", EXPLAIN_NOTE, "", "%s", error);
		return;
	}
	row = find_destination(explain, rows);
	explain_verdict(explain, row);
	explain_policy(explain, text_of(row, "policy"));
	if (number_of(row, "settings_id"))
		explain_settings(explain, number_of(row, "settings_id"));
	explain_history(explain);
	json_decref(rows);
}

/* ---- the command ---- */

static const char *verdict_sentence(const struct explain *explain)
{
	if (explain->unknown)
		return "what becomes of it is not known: neither kernel nor agent can be asked";
	if (explain->passes)
		return "it is not protected: it passes as the gateway makes it, without TLS";
	if (explain->wrong)
		return "it does not work";
	if (explain->dead && is_in_hands(explain))
		return "what becomes of it is not known: the agent cannot be asked";
	if (strcmp(explain->verdict, "tls") == 0)
		return explain->options->try ? "it works, with TLS" : "it should work, with TLS (--try makes sure)";
	if (strcmp(explain->verdict, "hold") == 0)
		return "the agent decides when it is dialed";
	return "it passes as the gateway makes it, without TLS";
}

static json_t *document_of(struct explain *explain)
{
	return json_pack("{s:o, s:s, s:s, s:b, s:s, s:O, s:O}", "gateway", json_text(explain->gateway), "destination",
	                 explain->destination, "verdict", explain->verdict, "works",
	                 !explain->wrong && !(explain->dead && is_in_hands(explain)), "conclusion",
	                 verdict_sentence(explain), "steps", explain->steps, "chain", explain->chain);
}

/* "ADDRESS:PORT", "[ADDRESS]:PORT" */
static bool parse_destination(const char *text, struct postern_destination_key *key)
{
	const char *colon = strrchr(text, ':');
	struct postern_address address;
	char host[64];
	char *end;
	unsigned long port;
	size_t length;

	if (!colon || !colon[1])
		return false;
	port = strtoul(colon + 1, &end, 10);
	length = (size_t)(colon - text);
	if (text[0] == '[' && length > 2 && text[length - 1] == ']') {
		text++;
		length -= 2;
	}
	if (*end || port == 0 || port > 65535 || length >= sizeof(host))
		return false;
	(void)snprintf(host, sizeof(host), "%.*s", (int)length, text);
	if (address_parse(host, &address) != 0)
		return false;
	*key = destination_key(&address, (uint16_t)port);
	return true;
}

static int usage_error(const char *word)
{
	_cleanup_free_ char *safe = terminal_safe(word, NULL);

	fprintf(stderr, "posternctl: \"%s\" is no ADDRESS:PORT, such as 10.96.0.7:443 or [fd00::7]:443\n", safe);
	return EXIT_USAGE;
}

static void walk(struct explain *explain)
{
	char why[256] = "";
	json_t *agent = NULL;
	enum agent_answer answer = agent_ask(explain->options->run_dir, "status", JSON_OBJECT, &agent, why,
	                                     sizeof(why));

	explain->agent = agent;
	explain->dead = answer != AGENT_ANSWERED;
	explain->kernel = kernel_document(explain->options);
	explain_gateway(explain);
	if (!explain->hooks && !explain->served) {
		explain_agent(explain, answer, why);
		return;
	}
	explain_hooks(explain);
	explain_mode(explain);
	look_at_kernel(explain);
	explain_agent(explain, answer, why);
	if (!explain->dead)
		look_at_agent(explain);
	if (!explain->dead && explain->options->try)
		explain_try(explain);
}

int command_explain(const struct options *options)
{
	struct explain explain = {.options = options};
	json_t *document;
	int status;

	if (options->operand_count != 2) {
		fprintf(stderr,
		        "posternctl: explain needs a GATEWAY and an ADDRESS:PORT; see posternctl help explain\n");
		return EXIT_USAGE;
	}
	explain.gateway = options->operands[0];
	if (!parse_destination(options->operands[1], &explain.key))
		return usage_error(options->operands[1]);
	(void)destination_format(&explain.key, explain.destination);
	explain.steps = json_array();
	explain.chain = json_array();
	walk(&explain);
	document = document_of(&explain);
	status = explain.disagree ? EXIT_DISAGREE : explain.dead ? EXIT_DEAD : explain.wrong ? EXIT_WRONG : EXIT_FINE;
	json_decref(explain.steps);
	json_decref(explain.chain);
	json_decref(explain.kernel);
	json_decref(explain.agent);
	json_decref(explain.settings);
	if (options->json)
		return print_json(options, document) == EXIT_FINE ? status : EXIT_WRONG;
	print_explain_page(document);
	json_decref(document);
	return status;
}

const char explain_help[] =
        "It walks the way that a connect of this gateway takes: is the hook on, what does the kernel's map say, which\n"
        "policy decided, which CA counts, what failed here lately; and names the first thing that is wrong, with the\n"
        "remedy. --try dials: first TCP and TLS from the gateway's network namespace by the policy's own settings\n"
        "(by the agent, which has its client certificate), with the chain that the backend shows; then a connect\n"
        "from the gateway's own cgroup, through the hooks and the agent, as the gateway makes it.\n"
        "  posternctl explain default/edge 10.96.0.7:443 --try\n"
        "\n"
        "Exit status: 0 it works; 1 it does not; 3 the agent is not running; 4 kernel and agent disagree.\n";
