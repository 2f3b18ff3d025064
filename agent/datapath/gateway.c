// SPDX-License-Identifier: GPL-2.0-only
/*
 * gateway.c: the life of one enrolled gateway: its rules, its states, its way into READY and out of it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "datapath/gateway.h"
#include "datapath/gateway_internal.h"
#include "datapath/hooks.h"
#include "policy/snapshot.h"

const char *gateway_state_name(enum gateway_state state)
{
	static const char *const names[] = {
	        [GATEWAY_CONFIGURED] = "configured",
	        [GATEWAY_ATTACHED] = "attached",
	        [GATEWAY_READY] = "ready",
	        [GATEWAY_LOST] = "lost",
	};

	return state < ARRAY_SIZE(names) ? names[state] : "unknown";
}

__attribute__((format(printf, 2, 3))) static void set_reason(struct gateway *gateway, const char *format, ...)
{
	char before[sizeof(gateway->reason)];
	va_list arguments;

	memcpy(before, gateway->reason, sizeof(before));
	va_start(arguments, format);
	vsnprintf(gateway->reason, sizeof(gateway->reason), format, arguments);
	va_end(arguments);
	/* A try comes every second or so; the same reason is said once. */
	if (gateway->reason[0] && strcmp(before, gateway->reason) != 0)
		log_warning("gateway is not ready", "gateway=%s state=%s reason=\"%s\"", gateway->name,
		            gateway_state_name(gateway->state), gateway->reason);
}

/* ---- rules of enrolment ---- */

/* Is `path` the directory `above`, or below it? */
static bool is_same_or_below(const char *path, const char *above)
{
	size_t length = strlen(above);

	return strncmp(path, above, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

/* One form for comparisons: absolute, below the mount, no "." or "..", no double or trailing slash. */
static int absolute_cgroup_path(const char *mount, const char *path, char **absolute)
{
	bool below_mount = is_same_or_below(path, mount);
	_cleanup_free_ char *copy = strdup(below_mount ? path + strlen(mount) : path);
	_cleanup_free_ char *joined = calloc(1, strlen(mount) + strlen(path) + 2);
	char *rest = copy, *used = joined;

	if (!copy || !joined)
		return -ENOMEM;
	used = stpcpy(used, mount);
	for (char *part = strsep(&rest, "/"); part; part = strsep(&rest, "/")) {
		if (strcmp(part, ".") == 0 || strcmp(part, "..") == 0)
			return -EINVAL;
		if (part[0]) {
			*used++ = '/';
			used = stpcpy(used, part);
		}
	}
	*absolute = TAKE_PTR(joined);
	return 0;
}

static bool is_cgroup2(const char *path)
{
	struct statfs filesystem;

	return statfs(path, &filesystem) == 0 && filesystem.f_type == CGROUP2_SUPER_MAGIC;
}

static int check_agent_cgroup(const char *mount, const char *cgroup, const char *agent_cgroup, char *error,
                              size_t error_size)
{
	_cleanup_free_ char *agent = NULL;
	int result;

	if (!agent_cgroup || !agent_cgroup[0])
		return 0;
	result = absolute_cgroup_path(mount, agent_cgroup, &agent);
	if (result) {
		snprintf(error, error_size, "the agent's own cgroup '%s' is no cgroup path", agent_cgroup);
		return result;
	}
	if (is_same_or_below(agent, cgroup) || is_same_or_below(cgroup, agent)) {
		snprintf(error, error_size,
		         "cgroup %s holds the agent or is inside the agent's own (%s): its backend connections would "
		         "loop",
		         cgroup, agent);
		return -EINVAL;
	}
	return 0;
}

static int check_nesting(const char *cgroup, const struct gateway *const *others, size_t other_count, char *error,
                         size_t error_size)
{
	for (size_t i = 0; i < other_count; i++) {
		if (!is_same_or_below(cgroup, others[i]->cgroup_path) &&
		    !is_same_or_below(others[i]->cgroup_path, cgroup))
			continue;
		snprintf(error, error_size, "cgroup %s is the cgroup of gateway %s (%s), or is nested with it", cgroup,
		         others[i]->name, others[i]->cgroup_path);
		return -EINVAL;
	}
	return 0;
}

static int check_options(const struct gateway_options *options, char *error, size_t error_size)
{
	if (!options->name || !options->name[0] || options->id == 0) {
		snprintf(error, error_size, "a gateway needs a name and an id that is not 0");
		return -EINVAL;
	}
	if (!options->cgroup || !options->cgroup[0]) {
		snprintf(error, error_size, "gateway %s has no cgroup", options->name);
		return -EINVAL;
	}
	if (options->worker_count == 0 || options->ports_per_worker == 0 ||
	    options->worker_count * options->ports_per_worker > POSTERN_MAX_PORTS) {
		snprintf(error, error_size, "%u workers of %u ports each are more than the %d ports of a gateway",
		         options->worker_count, options->ports_per_worker, POSTERN_MAX_PORTS);
		return -EINVAL;
	}
	if (options->first_port == 0 || options->last_port < options->first_port) {
		snprintf(error, error_size, "%u-%u is no range of ports", options->first_port, options->last_port);
		return -EINVAL;
	}
	return 0;
}

static int check_cgroup(const struct gateway_options *options, const char *cgroup, const char *mount,
                        const struct gateway *const *others, size_t other_count, char *error, size_t error_size)
{
	int result;

	if (strcmp(cgroup, mount) == 0) {
		snprintf(error, error_size, "the root of the cgroup tree is no gateway");
		return -EINVAL;
	}
	if (access(cgroup, F_OK) == 0 && !is_cgroup2(cgroup)) {
		snprintf(error, error_size, "%s is not in the cgroup2 hierarchy", cgroup);
		return -EINVAL;
	}
	result = check_agent_cgroup(mount, cgroup, options->agent_cgroup, error, error_size);
	return result ? result : check_nesting(cgroup, others, other_count, error, error_size);
}

static void free_refs(struct gateway_refs *refs)
{
	while (refs) {
		struct gateway_refs *before = refs->before;

		for (size_t i = 0; i < refs->count; i++) {
			free(refs->at[i].namespace_);
			free(refs->at[i].name);
		}
		free(refs->at);
		free(refs);
		refs = before;
	}
}

int gateway_set_refs(struct gateway *gateway, const struct object_name *names, size_t count)
{
	struct gateway_refs *refs = calloc(1, sizeof(*refs));
	bool complete;

	if (!refs)
		return -ENOMEM;
	refs->at = calloc(count ? count : 1, sizeof(*refs->at));
	complete = refs->at != NULL;
	for (size_t i = 0; i < count && complete; i++) {
		refs->at[i].namespace_ = strdup(names[i].namespace_);
		refs->at[i].name = strdup(names[i].name);
		refs->count++;
		complete = refs->at[i].namespace_ && refs->at[i].name;
	}
	if (!complete) {
		free_refs(refs);
		return -ENOMEM;
	}
	refs->before = (struct gateway_refs *)atomic_load(&gateway->refs);
	atomic_store_explicit(&gateway->refs, refs, memory_order_release);
	return 0;
}

static struct gateway *allocate_gateway(const struct gateway_options *options)
{
	struct gateway *gateway = calloc(1, sizeof(*gateway));

	if (!gateway)
		return NULL;
	gateway->id = options->id;
	gateway->probe = options->probe;
	gateway->mode = options->mode;
	gateway->beside = options->beside;
	gateway->netns_fd = gateway->agent_netns_fd = gateway->raw_v4 = gateway->raw_v6 = -1;
	if (gateway_set_refs(gateway, options->refs, options->ref_count) != 0) {
		gateway_free(gateway);
		return NULL;
	}
	gateway->name = strdup(options->name);
	if (options->netns && options->netns[0])
		gateway->netns_path = strdup(options->netns);
	if (!gateway->name || (options->netns && options->netns[0] && !gateway->netns_path)) {
		gateway_free(gateway);
		return NULL;
	}
	return gateway;
}

int gateway_new(const struct gateway_options *options, const struct gateway *const *others, size_t other_count,
                struct gateway **gateway_out, char *error, size_t error_size)
{
	const char *mount = cgroup2_mount();
	_cleanup_free_ char *cgroup = NULL;
	struct gateway *gateway;
	int result = check_options(options, error, error_size);

	if (result)
		return result;
	if (!mount) {
		snprintf(error, error_size, "no cgroup2 hierarchy is mounted");
		return -EINVAL;
	}
	result = absolute_cgroup_path(mount, options->cgroup, &cgroup);
	if (result) {
		snprintf(error, error_size, "'%s' is no cgroup path", options->cgroup);
		return result;
	}
	result = check_cgroup(options, cgroup, mount, others, other_count, error, error_size);
	if (result)
		return result;
	gateway = allocate_gateway(options);
	if (!gateway) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	gateway->cgroup_path = TAKE_PTR(cgroup);
	*gateway_out = gateway;
	return 0;
}

void gateway_free(struct gateway *gateway)
{
	if (!gateway)
		return;
	gateway_leave_namespace(gateway, NULL);
	free_refs((struct gateway_refs *)atomic_load(&gateway->refs));
	free(gateway->name);
	free(gateway->cgroup_path);
	free(gateway->netns_path);
	free(gateway);
}

/* ---- forward ---- */

/* The map's entry without a listener: covered connects are refused. Its ports stay, for whoever looks for them next. */
static int write_entry(struct gateway *gateway, struct hooks *hooks, bool ready)
{
	struct postern_gateway entry = {0};
	int error = hooks_get_gateway(hooks, gateway->id, &entry);

	if (error && error != -ENOENT)
		return error;
	entry.netns_cookie = gateway->netns_cookie;
	entry.mode = gateway->mode;
	entry.port_count = 0;
	if (ready) {
		memset(entry.port, 0, sizeof(entry.port));
		for (size_t i = 0; i < gateway->listener_count; i++)
			entry.port[i] = htons(gateway->listeners[i].port);
		entry.port_count = (uint32_t)gateway->listener_count;
	}
	return hooks_set_gateway(hooks, gateway->id, &entry);
}

bool gateway_attach(struct gateway *gateway, struct hooks *hooks)
{
	int error;

	if (gateway->state == GATEWAY_READY)
		return true;
	if (gateway->state == GATEWAY_ATTACHED && cgroup_id(gateway->cgroup_path) == gateway->cgroup)
		return true;
	gateway->state = GATEWAY_CONFIGURED; /* its cgroup came anew, or went */
	gateway->cgroup = cgroup_id(gateway->cgroup_path);
	if (gateway->cgroup == 0) {
		set_reason(gateway, "cgroup %s does not exist yet", gateway->cgroup_path);
		return false;
	}
	/* The entry first: an id without an entry and an entry without an id both mean "not ready". */
	error = gateway->beside ? 0 : write_entry(gateway, hooks, false);
	if (!error)
		error = hooks_attach_gateway(hooks, gateway->name, gateway->cgroup_path, gateway->id);
	if (error) {
		set_reason(gateway, "the hooks cannot be attached to %s: %s", gateway->cgroup_path, strerror(-error));
		return false;
	}
	gateway->state = GATEWAY_ATTACHED;
	log_info("gateway's hooks are on", "gateway=%s id=%u cgroup=%s", gateway->name, gateway->id,
	         gateway->cgroup_path);
	return true;
}

/* First who accepts, then the map: a connect that comes in between would wait for its SYN's retransmit. */
static int open_to_gateway(struct gateway *gateway, struct hooks *hooks, const struct gateway_options *options,
                           char *problem, size_t problem_size)
{
	int error = options->serve ? options->serve(options->context, gateway) : 0;

	if (error) {
		snprintf(problem, problem_size, "the workers cannot serve it: %s", strerror(-error));
		return error;
	}
	error = write_entry(gateway, hooks, true);
	if (!error)
		return 0;
	snprintf(problem, problem_size, "the kernel's gateway map: %s", strerror(-error));
	if (options->unserve)
		options->unserve(options->context, gateway);
	return error;
}

static bool enter(struct gateway *gateway, struct hooks *hooks, const struct gateway_options *options)
{
	struct postern_gateway entry = {0};
	char problem[sizeof(gateway->reason)];
	int error;

	gateway->netns_fd = options->find_namespace
	                            ? options->find_namespace(options->context, problem, sizeof(problem))
	                            : gateway_find_namespace(gateway, problem, sizeof(problem));
	if (gateway->netns_fd < 0) {
		gateway->netns_fd = -1;
		set_reason(gateway, "%s", problem);
		return false;
	}
	error = hooks_get_gateway(hooks, gateway->id, &entry);
	if (!error)
		error = gateway_enter_namespace(gateway, hooks, options, entry.port, problem, sizeof(problem));
	else
		snprintf(problem, sizeof(problem), "no entry in the kernel's gateway map: %s", strerror(-error));
	if (!error)
		error = open_to_gateway(gateway, hooks, options, problem, sizeof(problem));
	if (error) {
		gateway_leave_namespace(gateway, hooks);
		set_reason(gateway, "%s", problem);
		return false;
	}
	gateway->state = GATEWAY_READY;
	gateway->reason[0] = '\0';
	log_info("gateway is ready", "gateway=%s id=%u mode=%s ports=%zu first_port=%u ipv6=%s", gateway->name,
	         gateway->id, gateway->mode == POSTERN_MODE_OBSERVE ? "observe" : "enforce", gateway->listener_count,
	         gateway->listeners[0].port, gateway->raw_v6 >= 0 ? "yes" : "no");
	return true;
}

bool gateway_advance(struct gateway *gateway, struct hooks *hooks, const struct gateway_options *options)
{
	if (gateway->state == GATEWAY_READY)
		return false;
	if (gateway->state == GATEWAY_LOST) /* until now workers may have had the descriptors */
		gateway_leave_namespace(gateway, hooks);
	return gateway_attach(gateway, hooks) && enter(gateway, hooks, options);
}

/* ---- back ---- */

static bool lose(struct gateway *gateway, struct hooks *hooks, const char *why)
{
	int error;

	gateway->state = GATEWAY_LOST;
	error = write_entry(gateway, hooks, false);
	if (error)
		log_error("cannot empty the gateway's entry", "gateway=%s error=\"%s\"", gateway->name,
		          strerror(-error));
	set_reason(gateway, "%s", why);
	return true;
}

/* Somebody detached a program by hand: what it protects against was possible until now. */
static void attach_again(struct gateway *gateway, struct hooks *hooks)
{
	int error;

	if (hooks_gateway_attached(hooks, gateway->name))
		return;
	error = hooks_attach_gateway(hooks, gateway->name, gateway->cgroup_path, gateway->id);
	log_error("the gateway's hooks were detached", "gateway=%s cgroup=%s attached_again=%s", gateway->name,
	          gateway->cgroup_path, error ? strerror(-error) : "yes");
}

int gateway_reopen(struct gateway *gateway, struct hooks *hooks)
{
	return gateway->state == GATEWAY_READY ? write_entry(gateway, hooks, true) : 0;
}

void gateway_forget_listeners(const struct gateway *gateway, struct hooks *hooks)
{
	for (size_t i = 0; i < gateway->listener_count; i++) {
		(void)hooks_detach_listener(hooks, gateway->listeners[i].cookie_v4);
		if (gateway->listeners[i].fd_v6 >= 0)
			(void)hooks_detach_listener(hooks, gateway->listeners[i].cookie_v6);
	}
}

bool gateway_check(struct gateway *gateway, struct hooks *hooks)
{
	if (gateway->state != GATEWAY_READY)
		return false;
	if (cgroup_id(gateway->cgroup_path) != gateway->cgroup)
		return lose(gateway, hooks, "its cgroup is gone");
	if (gateway_namespace_is_gone(gateway))
		return lose(gateway, hooks, "it left its network namespace");
	attach_again(gateway, hooks);
	return false;
}

int gateway_set_mode(struct gateway *gateway, struct hooks *hooks, enum postern_gateway_mode mode)
{
	int error;

	if (gateway->mode == mode)
		return 0;
	gateway->mode = mode;
	if (gateway->state == GATEWAY_CONFIGURED)
		return 0; /* written with its entry */
	error = write_entry(gateway, hooks, gateway->state == GATEWAY_READY);
	log_info("gateway's mode", "gateway=%s mode=%s written=%s", gateway->name,
	         mode == POSTERN_MODE_OBSERVE ? "observe" : "enforce", error ? strerror(-error) : "yes");
	return error;
}

int gateway_detach(struct gateway *gateway, struct hooks *hooks)
{
	int error, first_error;

	gateway_leave_namespace(gateway, hooks);
	first_error = hooks_detach_gateway(hooks, gateway->name, gateway->cgroup_path);
	error = hooks_delete_gateway(hooks, gateway->id);
	if (error && error != -ENOENT && !first_error)
		first_error = error;
	error = hooks_forget_would(hooks, gateway->id);
	if (error && !first_error)
		first_error = error;
	gateway->state = GATEWAY_LOST;
	if (first_error)
		log_error("a gateway's hooks are not taken away wholly", "gateway=%s error=\"%s\"", gateway->name,
		          strerror(-first_error));
	else
		log_info("gateway's hooks are off", "gateway=%s id=%u", gateway->name, gateway->id);
	return first_error;
}
