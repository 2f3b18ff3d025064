/* SPDX-License-Identifier: GPL-2.0-only */
#include "controller/controller.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/version.h"
#include "control/system_ca.h"
#include "controller/agent_reader.h"
#include "controller/enrolments.h"
#include "controller/policy_status.h"
#include "controller/report.h"
#include "kubernetes/client.h"
#include "kubernetes/credentials.h"
#include "source/kubernetes.h"

#define COMPILE_INTERVAL_NS 200000000ull

/* ---- what tells us something ---- */

static void plan_sync(struct controller *controller)
{
	uint64_t passed = monotonic_ns() - controller->compiled_ns;

	if (controller->ending || controller->compile_timer.due_ns)
		return;
	(void)loop_timer_set(controller->loop, &controller->compile_timer,
	                     passed < COMPILE_INTERVAL_NS ? COMPILE_INTERVAL_NS - passed : 0);
}

static void on_source_changed(void *context)
{
	plan_sync(context);
}

static void on_source_current(void *context, uint64_t as_of_ns, enum source_scope scope)
{
	(void)context; /* nobody is held here */
	(void)as_of_ns;
	(void)scope;
}

static void on_compile_due(struct loop_timer *timer)
{
	struct controller *controller = container_of(timer, struct controller, compile_timer);

	controller_sync(controller);
	controller->compiled_ns = monotonic_ns();
}

static void on_findings_due(struct loop_timer *timer)
{
	controller_look_at_pods(container_of(timer, struct controller, findings_timer));
}

static void on_system_ca_due(struct loop_timer *timer)
{
	struct controller *controller = container_of(timer, struct controller, system_ca_timer);

	(void)loop_timer_set(controller->loop, timer, SYSTEM_CA_INTERVAL_NS);
	if (!system_ca_refresh(controller->system_ca))
		return;
	compiler_set_system_ca(controller->compiler, controller->system_ca->bundle);
	plan_sync(controller);
}

static void on_fleet_changed(void *context)
{
	struct controller *controller = context;

	/* The watch itself may be in the middle of a list: in a round of its own. */
	(void)loop_timer_set(controller->loop, &controller->findings_timer, 0);
	if (controller->enrolments)
		(void)loop_timer_set(controller->loop, &controller->enrolments_timer, 0);
	if (controller->options->startup_taint || controller->enrolments)
		plan_sync(controller);
}

static void on_enrolments_due(struct loop_timer *timer)
{
	controller_ask_agents(container_of(timer, struct controller, enrolments_timer));
}

static void on_enrolments_changed(void *context)
{
	plan_sync(context);
}

static void on_agent_answer(void *context, const char *agent, const json_t *answer, const char *error)
{
	enrolments_answer(((struct controller *)context)->enrolments, agent, answer, error);
}

static int ask_agent(void *context, const char *agent, const char *address)
{
	return agent_reader_ask(((struct controller *)context)->reader, agent, address);
}

static size_t agents_of(void *context, const char *node, struct fleet_agent *at, size_t max)
{
	return fleet_agents_of(((struct controller *)context)->fleet, node, at, max);
}

static bool leads(void *context)
{
	const struct controller *controller = context;

	return !controller->ending && controller->lease && lease_leads(controller->lease);
}

static void on_lease_changed(void *context, bool leading)
{
	struct controller *controller = context;

	if (!leading)
		events_stop(controller->events);
	status_writer_lead(controller->writer, leading);
	if (!leading)
		return;
	json_object_clear(controller->untold);
	if (controller->enrolments)
		enrolments_forget(controller->enrolments);
	pod_findings_tell_again(controller->findings);
	plan_sync(controller);
}

/* ---- the end ---- */

static void on_released(void *context)
{
	struct controller *controller = context;

	loop_stop(controller->loop);
}

static void on_signal(struct loop_source *source, uint32_t events)
{
	struct controller *controller = container_of(source, struct controller, signals);
	struct signalfd_siginfo info;

	(void)events;
	if (read(controller->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	log_info("stopping", "signal=%u", info.ssi_signo);
	if (controller->ending) {
		loop_stop(controller->loop);
		return;
	}
	controller->ending = true;
	status_writer_lead(controller->writer, false);
	events_stop(controller->events);
	lease_release(controller->lease, on_released);
}

static int watch_signals(struct controller *controller)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	if (sigprocmask(SIG_BLOCK, &signals, NULL) == -1)
		return -errno;
	signal(SIGPIPE, SIG_IGN);
	controller->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (controller->signal_fd == -1)
		return -errno;
	controller->signals.on_event = on_signal;
	return loop_add(controller->loop, &controller->signals, controller->signal_fd, EPOLLIN);
}

/* ---- the beginning ---- */

/* Unlike every other holder, a former life of this pod included: its term is not ours. */
static void set_identity(struct controller *controller)
{
	char name[64] = "postern-controller";
	uint32_t random = 0;

	(void)gethostname(name, sizeof(name) - 1);
	(void)getrandom(&random, sizeof(random), 0);
	snprintf(controller->identity, sizeof(controller->identity), "%.100s_%08x",
	         *controller->options->identity ? controller->options->identity : name, random);
}

static int open_client(struct controller *controller)
{
	const struct controller_options *options = controller->options;
	char error[256] = "";
	int result = kubernetes_credentials_open(options->kubeconfig, options->service_account,
	                                         &controller->credentials, error, sizeof(error));

	if (result < 0) {
		log_error("no credentials for the API server", "error=\"%s\"", error);
		return result;
	}
	controller->namespace_ = *options->namespace_ ? options->namespace_
	                                              : kubernetes_credentials_namespace(controller->credentials);
	return kubernetes_client_new(controller->loop, controller->credentials, &controller->client);
}

static int open_compiler(struct controller *controller)
{
	struct compile_options options = {.now_ns = monotonic_ns()};

	controller->system_ca = calloc(1, sizeof(*controller->system_ca));
	controller->registry = settings_registry_new();
	if (!controller->system_ca || !controller->registry)
		return -ENOMEM;
	system_ca_init(controller->system_ca, controller->options->system_ca);
	(void)system_ca_refresh(controller->system_ca);
	options.registry = controller->registry;
	options.system_ca = controller->system_ca->bundle;
	controller->compiler = compiler_new(&options);
	return controller->compiler ? 0 : -ENOMEM;
}

static void tell_finding(void *context, enum finding_reason reason, const char *kind, const char *namespace_,
                         const char *name, const char *uid, const char *message)
{
	struct controller *controller = context;
	const struct event_regarding regarding = {
	        .api_version = strcmp(kind, "Pod") ? "gateway.networking.k8s.io/v1" : "v1",
	        .kind = kind,
	        .namespace_ = namespace_,
	        .name = name,
	        .uid = uid,
	};

	log_info("finding", "reason=%s kind=%s namespace=%s name=%s", finding_reason_name(reason), kind, namespace_,
	         name);
	events_tell(controller->events, &regarding, true, finding_reason_name(reason), "Enrol", message);
}

static bool node_is_ready(void *context, const char *node)
{
	return fleet_node_is_ready(((struct controller *)context)->fleet, node);
}

/* Who only answers when asked. */
static int open_parts(struct controller *controller)
{
	const struct status_writer_options writer = {
	        .loop = controller->loop,
	        .client = controller->client,
	        .send = kubernetes_send,
	        .cancel = kubernetes_cancel,
	        .leads = leads,
	        .on_written = controller_on_written,
	        .context = controller,
	};
	const struct events_options events = {
	        .loop = controller->loop,
	        .client = controller->client,
	        .send = kubernetes_send,
	        .cancel = kubernetes_cancel,
	        .leads = leads,
	        .context = controller,
	        .controller = POSTERN_CONTROLLER_NAME,
	        .instance = controller->identity,
	};
	const struct pod_findings_options findings = {
	        .grace_ns = controller->options->grace_ns,
	        .node_is_ready = node_is_ready,
	        .tell = tell_finding,
	        .context = controller,
	};
	int result = status_writer_new(&writer, &controller->writer);

	if (result == 0)
		result = events_new(&events, &controller->events);
	controller->findings = pod_findings_new(&findings);
	controller->untold = json_object();
	return result < 0 || (controller->findings && controller->untold) ? result : -ENOMEM;
}

static int open_enrolments(struct controller *controller)
{
	const struct agent_reader_options reader = {
	        .loop = controller->loop,
	        .port = controller->options->agent_port,
	        .on_answer = on_agent_answer,
	        .context = controller,
	};
	const struct enrolments_options enrolments = {
	        .grace_ns = controller->options->grace_ns,
	        .agents_of = agents_of,
	        .ask = ask_agent,
	        .on_change = on_enrolments_changed,
	        .context = controller,
	};

	if (!controller->options->readiness_gate)
		return 0;
	controller->enrolments = enrolments_new(&enrolments);
	return controller->enrolments ? agent_reader_new(&reader, &controller->reader) : -ENOMEM;
}

/* Who begins to talk to the API server. */
static int open_watches(struct controller *controller)
{
	const struct fleet_options fleet = {
	        .loop = controller->loop,
	        .client = controller->client,
	        .namespace_ = controller->namespace_,
	        .selector = controller->options->agents,
	        .on_change = on_fleet_changed,
	        .context = controller,
	};
	const struct kubernetes_source_options source = {
	        .loop = controller->loop,
	        .client = controller->client,
	        .node_name = "",
	        .events = {.changed = on_source_changed, .current = on_source_current, .context = controller},
	};
	const struct lease_options lease = {
	        .loop = controller->loop,
	        .client = controller->client,
	        .namespace_ = controller->namespace_,
	        .name = controller->options->lease,
	        .identity = controller->identity,
	        .on_change = on_lease_changed,
	        .context = controller,
	};
	int result = fleet_new(&fleet, &controller->fleet);

	if (result == 0)
		result = kubernetes_source_open(&source, &controller->source);
	if (result == 0)
		result = lease_new(&lease, &controller->lease);
	return result;
}

static void close_all(struct controller *controller)
{
	controller->ending = true;
	report_close(controller->report);
	lease_free(controller->lease);
	status_writer_free(controller->writer);
	events_free(controller->events);
	pod_findings_free(controller->findings);
	agent_reader_free(controller->reader);
	enrolments_free(controller->enrolments);
	fleet_free(controller->fleet);
	source_close(controller->source);
	kubernetes_client_free(controller->client);
	kubernetes_credentials_close(controller->credentials);
	compiler_free(controller->compiler);
	snapshot_unref(controller->snapshot);
	settings_registry_free(controller->registry);
	if (controller->system_ca)
		system_ca_free(controller->system_ca);
	free(controller->system_ca);
	json_decref(controller->untold);
	if (controller->loop) {
		loop_remove(controller->loop, &controller->signals);
		loop_timer_cancel(controller->loop, &controller->compile_timer);
		loop_timer_cancel(controller->loop, &controller->findings_timer);
		loop_timer_cancel(controller->loop, &controller->enrolments_timer);
		loop_timer_cancel(controller->loop, &controller->system_ca_timer);
	}
	if (controller->signal_fd >= 0)
		close(controller->signal_fd);
	loop_free(controller->loop);
}

static int open_all(struct controller *controller)
{
	int result = loop_new(&controller->loop);

	if (result == 0)
		result = watch_signals(controller);
	if (result == 0)
		result = open_client(controller);
	if (result == 0)
		result = open_compiler(controller);
	if (result == 0)
		result = open_parts(controller);
	if (result == 0)
		result = open_enrolments(controller);
	if (result == 0)
		result = report_open(controller, &controller->report);
	if (result == 0)
		result = open_watches(controller);
	return result < 0 ? result
	                  : loop_timer_set(controller->loop, &controller->system_ca_timer, SYSTEM_CA_INTERVAL_NS);
}

int controller_run(const struct controller_options *options)
{
	struct controller controller = {
	        .options = options,
	        .signal_fd = -1,
	        .compile_timer = {.on_expire = on_compile_due},
	        .findings_timer = {.on_expire = on_findings_due},
	        .enrolments_timer = {.on_expire = on_enrolments_due},
	        .system_ca_timer = {.on_expire = on_system_ca_due},
	};
	int result;

	set_identity(&controller);
	result = open_all(&controller);
	if (result == 0) {
		log_info("started", "version=%s identity=%s server=%s namespace=%s", postern_version,
		         controller.identity, kubernetes_credentials_server(controller.credentials),
		         controller.namespace_);
		result = loop_run(controller.loop);
	}
	if (result < 0)
		log_error("ended", "error=\"%s\"", strerror(-result));
	close_all(&controller);
	return result;
}
