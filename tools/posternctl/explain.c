/* SPDX-License-Identifier: GPL-2.0-only */
#include "explain.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
		explain_by_agent(explain);
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
