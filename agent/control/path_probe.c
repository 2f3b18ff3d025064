/* SPDX-License-Identifier: GPL-2.0-only */
#include "control/path_probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "control/agent.h"
#include "control/path_probe_key.h"
#include "datapath/hooks.h"
#include "tls/context.h"

#define PORTS_PER_WORKER 2
#define ID_BIT           0x80000000u /* gateways of the configuration count from 1 */
#define WHOLE_LIMIT_NS   ((uint64_t)PATH_PROBE_LIMIT_MS * 3 * 1000000)

__attribute__((format(printf, 2, 3))) static void set_reason(struct path_probe *probe, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(probe->reason, sizeof(probe->reason), format, arguments);
	va_end(arguments);
}

/* ---- the scene ---- */

static void unserve(void *context, const struct gateway *gateway)
{
	struct path_probe *probe = context;

	agent_unserve_gateway(probe->agent, gateway);
	probe->served = false;
}

static int serve(void *context, const struct gateway *gateway)
{
	struct path_probe *probe = context;
	int error = agent_serve_gateway(probe->agent, gateway);

	probe->served = !error;
	return error;
}

static void strike(struct path_probe *probe)
{
	struct agent *agent = probe->agent;

	loop_remove(agent->loop, &probe->child_event);
	loop_timer_cancel(agent->loop, &probe->limit);
	probe_peer_free(&probe->peer);
	if (probe->gateway) {
		if (probe->served)
			unserve(probe, probe->gateway);
		gateway_forget_listeners(probe->gateway, agent->hooks);
		(void)hooks_detach_gateway(agent->hooks, probe->name, probe->gateway->cgroup_path);
		(void)hooks_delete_gateway(agent->hooks, probe->gateway->id);
		gateway_free(probe->gateway);
		probe->gateway = NULL;
	}
	tls_context_unref(probe->gateway_probe.context);
	probe->gateway_probe.context = NULL;
	proof_child_stop(&probe->child);
	if (probe->cgroup_fd >= 0)
		close(probe->cgroup_fd);
	probe->cgroup_fd = -1;
	if (probe->cgroup)
		(void)rmdir(probe->cgroup); /* what stays behind is removed by the next agent's proof */
	free(probe->cgroup);
	probe->cgroup = NULL;
	probe->set_up = false;
}

/* Beside the agent's own; the prefix is that of the proof, which removes what dead agents left. */
static int make_cgroup(struct path_probe *probe, uint32_t number)
{
	const char *agent_cgroup = probe->agent->agent_cgroup;
	const char *slash = strrchr(agent_cgroup, '/');

	if (!slash)
		return -EINVAL;
	if (asprintf(&probe->cgroup, "%.*s/postern-proof.%08x-path", (int)(slash - agent_cgroup), agent_cgroup,
	             number) == -1) {
		probe->cgroup = NULL;
		return -ENOMEM;
	}
	if (mkdir(probe->cgroup, 0755) == -1)
		return -errno;
	probe->cgroup_fd = open(probe->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return probe->cgroup_fd == -1 ? -errno : 0;
}

static int make_settings(struct path_probe *probe, char *error, size_t error_size)
{
	static char hostname[] = PROBE_PEER_NAME;
	static char nobody[] = "";

	probe->settings = (struct tls_settings){
	        .policy_namespace = nobody,
	        .policy_name = nobody,
	        .hostname = hostname,
	        .ca_pem = probe->peer.certificate_pem,
	        .min_version = TLS1_3_VERSION,
	        .max_version = TLS1_3_VERSION,
	        .verify_depth = -1,
	};
	probe->destination = (struct destination){
	        .key = path_probe_key(),
	        .verdict = POSTERN_VERDICT_TLS,
	        .policy = SNAPSHOT_NO_POLICY,
	};
	probe->gateway_probe = (struct gateway_probe){
	        .destination = &probe->destination,
	        .settings = &probe->settings,
	};
	return tls_context_new(&probe->settings, &probe->gateway_probe.context, error, error_size);
}

static int enrol(struct path_probe *probe, uint32_t number, char *error, size_t error_size)
{
	struct agent *agent = probe->agent;
	char netns[64];
	int result;

	(void)snprintf(netns, sizeof(netns), "/proc/%d/ns/net", (int)probe->child.pid);
	probe->options = (struct gateway_options){
	        .name = probe->name,
	        .cgroup = probe->cgroup,
	        .netns = netns,
	        .probe = &probe->gateway_probe,
	        .mode = POSTERN_MODE_ENFORCE,
	        .id = ID_BIT | number,
	        .worker_count = agent->worker_count,
	        .ports_per_worker = PORTS_PER_WORKER,
	        .first_port = agent->config.ports.first,
	        .last_port = agent->config.ports.last,
	        .agent_cgroup = agent->agent_cgroup,
	        .serve = serve,
	        .unserve = unserve,
	        .context = probe,
	};
	result = gateway_new(&probe->options, NULL, 0, &probe->gateway, error, error_size);
	if (result)
		return result;
	if (!gateway_attach(probe->gateway, agent->hooks) ||
	    !gateway_advance(probe->gateway, agent->hooks, &probe->options)) {
		(void)snprintf(error, error_size, "%s", probe->gateway->reason);
		return -EAGAIN;
	}
	return 0;
}

static int listen_in_namespace(struct path_probe *probe)
{
	_cleanup_close_ int fd = gateway_socket(probe->gateway, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	const struct sockaddr_in address = {
	        .sin_family = AF_INET,
	        .sin_port = htons(PATH_PROBE_PORT),
	        .sin_addr.s_addr = htonl(PATH_PROBE_ADDRESS),
	};
	int error;

	if (fd < 0)
		return fd;
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) == -1 || listen(fd, 8) == -1)
		return -errno;
	error = probe_peer_listen(&probe->peer, fd);
	if (!error)
		(void)TAKE_FD(fd);
	return error;
}

static void on_child(struct loop_source *source, uint32_t events);

static int set_scene(struct path_probe *probe, char *error, size_t error_size)
{
	uint32_t number;
	int result;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return -errno;
	number &= ~ID_BIT;
	(void)snprintf(probe->name, sizeof(probe->name), PROBE_PEER_NAME ".%08x", number);
	result = make_cgroup(probe, number);
	if (!result)
		result = proof_child_start(probe->cgroup_fd, &probe->child);
	if (!result)
		result = probe_peer_make(&probe->peer, probe->agent->loop);
	if (!result)
		result = make_settings(probe, error, error_size);
	if (!result)
		result = enrol(probe, number, error, error_size);
	if (!result)
		result = listen_in_namespace(probe);
	probe->child_event.on_event = on_child;
	if (!result)
		result = loop_add(probe->agent->loop, &probe->child_event, probe->child.commands, EPOLLIN);
	return result;
}

static bool set_up(struct path_probe *probe)
{
	char error[160] = "";
	int result;

	if (probe->set_up)
		return true;
	result = set_scene(probe, error, sizeof(error));
	if (!result) {
		probe->set_up = true;
		return true;
	}
	set_reason(probe, "the probe of the path cannot be set up: %s", error[0] ? error : strerror(-result));
	log_warning("path probe not set up", "reason=\"%s\"", probe->reason);
	strike(probe);
	return false;
}

/* ---- one probe ---- */

static void conclude(struct path_probe *probe, bool passed)
{
	void *waiting[PATH_PROBE_WAITING];
	size_t count = probe->waiting_count;

	loop_timer_cancel(probe->agent->loop, &probe->limit);
	if (!passed) /* else the two ends are about to part in order */
		probe_peer_hang_up(&probe->peer);
	if (probe->known_ns == 0 || passed != probe->passed)
		log_info("path probe", "result=%s reason=\"%s\"", passed ? "passed" : "failed",
		         passed ? "" : probe->reason);
	probe->runs = false;
	probe->passed = passed;
	probe->known_ns = monotonic_ns();
	*(passed ? &probe->passes : &probe->failures) += 1;
	if (passed)
		probe->reason[0] = '\0';
	memcpy(waiting, probe->waiting, sizeof(waiting));
	probe->waiting_count = 0;
	for (size_t i = 0; i < count; i++)
		probe->answer(probe->context, waiting[i], passed, probe->reason);
}

/* The child does not come back, or its place is gone: the next one who asks gets a new scene. */
static void give_up(struct path_probe *probe)
{
	strike(probe);
	conclude(probe, false);
}

static const char *const stages[] = {
        [PROOF_TRIP_SOCKET] = "socket()",
        [PROOF_TRIP_CONNECT] = "connect()",
        [PROOF_TRIP_SEND] = "send()",
        [PROOF_TRIP_ANSWER] = "the answer",
};

static void on_child(struct loop_source *source, uint32_t events)
{
	struct path_probe *probe = container_of(source, struct path_probe, child_event);
	enum proof_trip stage;
	int result = proof_child_end_round_trip(&probe->child, &stage);

	(void)events;
	if (result == -EPIPE && stage == PROOF_TRIP_SOCKET) {
		set_reason(probe, "the process that plays the gateway is gone");
		if (probe->runs)
			give_up(probe);
		else
			strike(probe);
		return;
	}
	if (!probe->runs)
		return;
	if (result)
		set_reason(probe, "a connection through the hooks to the built-in TLS peer failed: %s: %s",
		           (size_t)stage < ARRAY_SIZE(stages) ? stages[stage] : "?", strerror(-result));
	conclude(probe, result == 0);
}

static void on_limit(struct loop_timer *timer)
{
	struct path_probe *probe = container_of(timer, struct path_probe, limit);

	set_reason(probe, "a connection through the hooks to the built-in TLS peer got no answer");
	give_up(probe);
}

/* False: it could not be begun, and probe->reason says why. */
static bool begin(struct path_probe *probe)
{
	const struct postern_destination covered = {.verdict = POSTERN_VERDICT_TLS, .settings_id = 1};
	struct agent *agent = probe->agent;
	uint64_t nonce;
	int error;

	if (!set_up(probe))
		return false;
	/* Whatever happened to hooks or map entry in the meantime. */
	if (gateway_check(probe->gateway, agent->hooks)) {
		set_reason(probe, "the probe's own namespace is gone");
		strike(probe);
		return false;
	}
	error = getrandom(&nonce, sizeof(nonce), 0) == sizeof(nonce) ? 0 : -errno;
	if (!error)
		error = hooks_set_destination(agent->hooks, &probe->destination.key, &covered);
	if (!error)
		error = loop_timer_set(agent->loop, &probe->limit, WHOLE_LIMIT_NS);
	if (!error)
		error = proof_child_begin_round_trip(&probe->child, PATH_PROBE_ADDRESS, PATH_PROBE_PORT, nonce,
		                                     PATH_PROBE_LIMIT_MS);
	if (error) {
		set_reason(probe, "a probe could not be begun: %s", strerror(-error));
		strike(probe);
		return false;
	}
	probe->runs = true;
	return true;
}

bool path_probe_ask(struct path_probe *probe, void *asker, bool *passed, const char **reason)
{
	uint64_t good_for = probe->passed ? PATH_PROBE_GOOD_NS : PATH_PROBE_BAD_NS;
	bool known = probe->known_ns && monotonic_ns() - probe->known_ns < good_for;

	*passed = probe->passed;
	*reason = probe->reason;
	if (known)
		return true;
	if (!probe->runs && !begin(probe)) {
		*passed = false;
		probe->passed = false;
		probe->failures++;
		probe->known_ns = monotonic_ns();
		return true;
	}
	if (probe->waiting_count == PATH_PROBE_WAITING) {
		*passed = false;
		*reason = "too many ask at a time";
		return true;
	}
	probe->waiting[probe->waiting_count++] = asker;
	return false;
}

void path_probe_forget(struct path_probe *probe, const void *asker)
{
	for (size_t i = 0; i < probe->waiting_count; i++) {
		if (probe->waiting[i] != asker)
			continue;
		probe->waiting[i] = probe->waiting[--probe->waiting_count];
		return;
	}
}

void path_probe_init(struct path_probe *probe, struct agent *agent, path_probe_answer answer, void *context)
{
	*probe = (struct path_probe){
	        .agent = agent,
	        .answer = answer,
	        .context = context,
	        .cgroup_fd = -1,
	        .child = {.pid = -1, .commands = -1},
	        .limit.on_expire = on_limit,
	};
}

void path_probe_stop(struct path_probe *probe)
{
	if (!probe->agent)
		return;
	strike(probe);
	set_reason(probe, "the agent stops");
	if (probe->runs)
		conclude(probe, false);
	probe->agent = NULL;
}
