/* SPDX-License-Identifier: GPL-2.0-only */
#include "disagree.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent_client.h"
#include "observe/json.h"
#include "posternctl.h"
#include "status.h"
#include "terminal.h"

#define TEXT_MAX 320

#define REMEDY_HOOKS                                                                                                   \
	"somebody detached or replaced hooks: the agent puts them back within a second; if not, restart posternd"
#define REMEDY_MAPS "somebody changed the maps: restart posternd, which writes them anew"

__attribute__((format(printf, 5, 6))) static void add(json_t **list, const char *what, const char *remedy,
                                                      const char *agent, const char *format, ...)
{
	char text[TEXT_MAX];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	json_append(list, json_pack("{s:o, s:o, s:o, s:s}", "what", json_text(what), "agent", json_text(agent),
	                            "kernel", json_text(text), "remedy", remedy));
}

static void join(const json_t *names, char text[static TEXT_MAX])
{
	size_t index;
	json_t *name;
	size_t used = 0;

	text[0] = '\0';
	json_array_foreach (names, index, name) {
		int written = snprintf(text + used, TEXT_MAX - used, "%s%.64s", index ? ", " : "",
		                       json_string_value(name) ? json_string_value(name) : "?");

		if (written < 0 || (size_t)written >= TEXT_MAX - used)
			break;
		used += (size_t)written;
	}
}

static bool is_enforced(const json_t *gateway)
{
	return strcmp(text_of(gateway, "state"), "ready") == 0;
}

static void compare_hooks(json_t **list, const char *what, const json_t *hooks)
{
	char missing[TEXT_MAX];
	char foreign[TEXT_MAX];

	join(json_object_get(hooks, "missing"), missing);
	join(json_object_get(hooks, "foreign"), foreign);
	if (foreign[0])
		add(list, what, REMEDY_HOOKS, "ready", "in the place of these hooks hangs another program: %s",
		    foreign);
	else if (missing[0])
		add(list, what, REMEDY_HOOKS, "ready", "these hooks are not attached: %s", missing);
}

static bool has_port(const json_t *ports, json_int_t wanted)
{
	size_t index;
	json_t *port;

	json_array_foreach (ports, index, port)
		if (json_integer_value(port) == wanted)
			return true;
	return false;
}

static bool same_ports(const json_t *one, const json_t *other)
{
	size_t index;
	json_t *port;

	json_array_foreach (one, index, port)
		if (!has_port(other, json_integer_value(port)))
			return false;
	return true;
}

/* An id of 0 or no entry: every covered connect is refused, whatever the agent says. */
static void compare_entry(json_t **list, const char *what, const json_t *gateway, const json_t *hooks)
{
	const char *mode = text_of(gateway, "mode");

	if (!truth_of(hooks, "intercepts"))
		return; /* said already */
	if (strcmp(text_of(hooks, "mode"), mode) != 0)
		add(list, what, REMEDY_MAPS, mode, "its mode is %s", text_of(hooks, "mode"));
	else if (!same_ports(json_object_get(gateway, "listeners"), json_object_get(hooks, "ports")))
		add(list, what, REMEDY_MAPS, "its listeners are up", "gateway_map names other ports");
	if (text_of(hooks, "cgroup")[0] && strcmp(text_of(hooks, "cgroup"), text_of(gateway, "cgroup")) != 0)
		add(list, what, REMEDY_HOOKS, text_of(gateway, "cgroup"), "its hooks are on %s",
		    text_of(hooks, "cgroup"));
}

static void compare_gateways(json_t **list, const json_t *status, const json_t *kernel)
{
	size_t index;
	json_t *gateway;

	json_array_foreach (json_object_get(status, "gateways"), index, gateway) {
		const char *name = text_of(gateway, "name");
		const json_t *hooks = kernel_gateway(kernel, name);
		char what[TEXT_MAX];

		if (!is_enforced(gateway))
			continue;
		(void)snprintf(what, sizeof(what), "gateway %.280s", name);
		if (!hooks) {
			add(list, what, REMEDY_HOOKS, "ready", "no hook of it is pinned: its connects pass");
			continue;
		}
		compare_hooks(list, what, hooks);
		compare_entry(list, what, gateway, hooks);
	}
}

static bool agent_has_gateway(const json_t *status, const char *name)
{
	size_t index;
	json_t *gateway;

	json_array_foreach (json_object_get(status, "gateways"), index, gateway)
		if (strcmp(text_of(gateway, "name"), name) == 0)
			return true;
	return false;
}

/* Before the agent has read its source it knows of no Pod; what is attached is then nobody's mistake. */
static bool source_was_read(const json_t *status)
{
	return number_of(json_object_get(status, "snapshot"), "generation") > 0;
}

/* hooks_former.c's place for the hooks of a gateway that is no more: no gateway could have this name. */
static bool was_set_aside(const json_t *hooks)
{
	return strncmp(text_of(hooks, "name"), "_x", 2) == 0;
}

static void add_set_aside(json_t **list, const json_t *hooks)
{
	char what[TEXT_MAX];

	(void)snprintf(what, sizeof(what), "deleted Pod's cgroup %.280s", text_of(hooks, "cgroup"));
	add(list, what, "end its processes (crictl ps, or cgroup.procs names them): the hooks go by themselves then",
	    "its Pod is gone", "it has processes, and %lld hooks: covered connects are refused until they end",
	    number_of(hooks, "attached"));
}

static void compare_strangers(json_t **list, const json_t *status, const json_t *kernel)
{
	bool read = source_was_read(status);
	size_t index;
	json_t *hooks;

	json_array_foreach (json_object_get(kernel, "gateways"), index, hooks) {
		char what[TEXT_MAX];

		if (agent_has_gateway(status, text_of(hooks, "name")) || number_of(hooks, "attached") == 0)
			continue;
		if (was_set_aside(hooks)) {
			add_set_aside(list, hooks);
			continue;
		}
		(void)snprintf(what, sizeof(what), "gateway %.280s", text_of(hooks, "name"));
		add(list, what,
		    read ? "an earlier agent's: restart posternd, or posternctl uninstall"
		         : "an earlier agent's: this one takes it over when it has read its source; its watches say "
		           "why it has not",
		    read ? "not enrolled" : "not known yet: its source was not read",
		    "%lld hooks are attached: its covered connects are refused", number_of(hooks, "attached"));
	}
}

/* Programs of this agent by name: the links must have these, not those of an agent that is gone. */
static const json_t *agent_program(const json_t *status, const char *name)
{
	size_t index;
	json_t *program;

	json_array_foreach (json_object_get(status, "programs"), index, program)
		if (strcmp(text_of(program, "name"), name) == 0)
			return program;
	return NULL;
}

static void compare_programs(json_t **list, const json_t *status, const json_t *kernel)
{
	size_t index;
	json_t *gateway;

	json_array_foreach (json_object_get(kernel, "gateways"), index, gateway) {
		size_t number;
		json_t *link;
		char what[TEXT_MAX];

		json_array_foreach (json_object_get(gateway, "links"), number, link) {
			const json_t *program = agent_program(status, text_of(link, "hook"));

			if (!program || !truth_of(link, "attached") ||
			    number_of(program, "id") == number_of(link, "program_id") ||
			    !agent_has_gateway(status, text_of(gateway, "name")))
				continue;
			(void)snprintf(what, sizeof(what), "hook %.32s of gateway %.240s", text_of(link, "hook"),
			               text_of(gateway, "name"));
			add(list, what, REMEDY_HOOKS, text_of(program, "tag"), "it runs program %lld, tag %s",
			    number_of(link, "program_id"), text_of(link, "tag"));
		}
	}
}

static void compare_maps(json_t **list, const json_t *status, const json_t *kernel)
{
	const json_t *expected = json_object_get(status, "expected");
	const json_t *seen = json_object_get(kernel, "destinations");
	long long wanted = number_of(expected, "tls") + number_of(expected, "deny") -
	                   number_of(expected, "without_room");
	long long there = number_of(seen, "tls") + number_of(seen, "deny");
	char text[TEXT_MAX];

	if (there < wanted) {
		(void)snprintf(text, sizeof(text), "%lld covered destinations", wanted);
		add(list, "destination_map", REMEDY_MAPS, text, "%lld are in the map: the others are not covered now",
		    there);
	}
	if (number_of(kernel, "guarded_ports") < number_of(expected, "guarded_ports")) {
		(void)snprintf(text, sizeof(text), "%lld guarded ports", number_of(expected, "guarded_ports"));
		add(list, "guarded_ports", REMEDY_MAPS, text, "%lld are in the map",
		    number_of(kernel, "guarded_ports"));
	}
	if (json_object_get(kernel, "witness") && json_array_size(json_object_get(status, "programs")) &&
	    !truth_of(json_object_get(kernel, "witness"), "attached"))
		add(list, "witness", REMEDY_HOOKS, "attached", "it is not attached to the agent's cgroup");
}

json_t *disagreements(const struct options *options, const json_t *status, const json_t *kernel)
{
	const char *bpffs = text_of(status, "bpffs");
	json_t *list = json_array();

	if (text_of(kernel, "error")[0])
		return list;
	if (bpffs[0] && strcmp(bpffs, options->bpffs) != 0 && !truth_of(kernel, "pinned")) {
		add(&list, "bpffs", "use --bpffs with the agent's directory", bpffs, "nothing is pinned in %.200s",
		    options->bpffs);
		return list;
	}
	/* An uninstall under a live agent. */
	if (!truth_of(kernel, "pinned")) {
		if (bpffs[0])
			add(&list, "pins", "somebody uninstalled it under a live agent: restart posternd",
			    "it has pinned its hooks", "nothing is pinned: connects pass");
		return list;
	}
	compare_gateways(&list, status, kernel);
	compare_strangers(&list, status, kernel);
	compare_programs(&list, status, kernel);
	compare_maps(&list, status, kernel);
	return list;
}

void print_disagreements(const json_t *list)
{
	size_t index;
	json_t *row;

	if (json_array_size(list) == 0)
		return;
	terminal_put(COLOUR_BAD, "KERNEL AND AGENT DISAGREE: believe the kernel");
	putchar('\n');
	json_array_foreach (list, index, row) {
		printf("  ");
		terminal_printf(COLOUR_BAD, "%s: the agent says: %s; the kernel says: %s", text_of(row, "what"),
		                text_of(row, "agent"), text_of(row, "kernel"));
		printf("\n    ");
		terminal_printf(COLOUR_DIM, "remedy: %s", text_of(row, "remedy"));
		putchar('\n');
	}
	putchar('\n');
}
