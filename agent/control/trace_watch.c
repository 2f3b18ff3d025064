/* SPDX-License-Identifier: GPL-2.0-only */
#include "control/trace_watch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/trace.h"
#include "control/agent.h"
#include "datapath/hooks_trace.h"

#define NO_GATEWAY UINT32_MAX /* nobody's id */
#define SECOND     UINT64_C(1000000000)

/* ---- from a record to an event ---- */

static const char *const words[POSTERN_COUNTERS] = {
        [POSTERN_COUNT_CONNECT_TLS] = "TLS: to the agent",
        [POSTERN_COUNT_CONNECT_PLAIN] = "PLAIN: passes as it is",
        [POSTERN_COUNT_CONNECT_DENY] = "DENY: refused",
        [POSTERN_COUNT_CONNECT_HOLD] = "HOLD: to the agent, which decides",
        [POSTERN_COUNT_CONNECT_MISS] = "neither covered nor guarded: passes as it is",
        [POSTERN_COUNT_REFUSED_NOT_READY] = "refused: the gateway is not ready, or has no listener",
        [POSTERN_COUNT_REFUSED_NO_AGENT] = "refused: the agent listens on none of its ports",
        [POSTERN_COUNT_REFUSED_BOUND_DEVICE] = "refused: the socket is bound to a device (SO_BINDTODEVICE)",
        [POSTERN_COUNT_REFUSED_STORAGE] = "refused: no memory for the socket's storage",
        [POSTERN_COUNT_RING_FULL] = "the worker does not hear of it: its ring is full; heals when it is sent again",
        [POSTERN_COUNT_SYN_HELD] = "held",
        [POSTERN_COUNT_SYN_RELEASED] = "released",
        [POSTERN_COUNT_SYN_UNPARSED] = "dropped: no SYN that could be held",
        [POSTERN_COUNT_GUARD_SYN_DROPPED] = "dropped: a SYN that goes past connect()",
        [POSTERN_COUNT_GUARD_PAYLOAD_DROPPED] = "dropped: payload that goes past the agent",
        [POSTERN_COUNT_GUARD_UNPARSED_DROPPED] = "dropped: to a covered address, and its port cannot be read",
        [POSTERN_COUNT_WIRE_NOT_TLS] = "dropped: no TLS record",
        [POSTERN_COUNT_WITNESS_PLAIN_DROPPED] = "dropped: decided PLAIN, and covered now",
        [POSTERN_COUNT_WOULD_TLS] = "observed: would be TLS",
        [POSTERN_COUNT_WOULD_DENY] = "observed: would be refused",
        [POSTERN_COUNT_WOULD_HOLD] = "observed: would be held until the agent has decided",
};

static enum trace_kind kind_of(uint32_t place)
{
	switch (place) {
	case POSTERN_TRACE_CONNECT:
		return TRACE_INTERCEPT;
	case POSTERN_TRACE_GUARD:
		return TRACE_GUARD;
	case POSTERN_TRACE_WITNESS:
		return TRACE_WITNESS;
	default:
		return TRACE_SYN;
	}
}

static void announce(struct trace_watch *watch, const struct postern_trace_record *record)
{
	watch->announced[watch->announced_next++ % TRACE_ANNOUNCED] = (struct trace_announced){
	        .gateway_id = record->gateway_id,
	        .verdict = record->verdict,
	        .cookie = record->cookie,
	        .tuple = record->tuple,
	        .destination = record->destination,
	};
}

/* The newest: ports are used again. */
static const struct trace_announced *find_announced(const struct trace_watch *watch,
                                                    const struct postern_trace_record *record)
{
	for (size_t i = 1; i <= TRACE_ANNOUNCED; i++) {
		const struct trace_announced *each = &watch->announced[(watch->announced_next - i) % TRACE_ANNOUNCED];

		if (each->gateway_id == record->gateway_id && each->tuple.local_port == record->tuple.local_port &&
		    memcmp(&each->tuple.local, &record->tuple.local, sizeof(each->tuple.local)) == 0)
			return each->gateway_id ? each : NULL;
	}
	return NULL;
}

static void name_gateway(const struct agent *agent, uint32_t id, char name[static TRACE_NAME_MAX])
{
	name[0] = '\0';
	for (size_t i = 0; i < agent->enrolment_count; i++) {
		const struct enrolment *enrolment = &agent->enrolments[i];

		if (enrolment->gateway && enrolment->gateway->id == id)
			(void)snprintf(name, TRACE_NAME_MAX, "%s", enrolment->name);
	}
	if (agent->monitor.probe.gateway && agent->monitor.probe.gateway->id == id)
		(void)snprintf(name, TRACE_NAME_MAX, "%s", agent->monitor.probe.name);
}

/* CLOCK_REALTIME of when it was. */
static void time_of(uint64_t monotonic, struct timespec *time)
{
	uint64_t age = monotonic_ns() - monotonic, now;

	clock_gettime(CLOCK_REALTIME, time);
	now = (uint64_t)time->tv_sec * SECOND + (uint64_t)time->tv_nsec - age;
	time->tv_sec = (time_t)(now / SECOND);
	time->tv_nsec = (long)(now % SECOND);
}

static void on_record(void *context, const struct postern_trace_record *record)
{
	struct agent *agent = context;
	const char *says = record->counter < POSTERN_COUNTERS ? words[record->counter] : NULL;
	const struct trace_announced *announced = NULL;
	struct trace_event event = {
	        .kind = kind_of(record->place),
	        .gateway_port = record->tuple.local_port,
	        .destination = record->destination,
	        .counter = record->counter,
	        .verdict = record->verdict,
	        .cookie = record->cookie,
	        .tuple = record->tuple,
	        .error = -record->error,
	};

	if (record->place == POSTERN_TRACE_ANNOUNCE)
		announce(&agent->trace_watch, record);
	if (record->place == POSTERN_TRACE_SYN) {
		announced = find_announced(&agent->trace_watch, record);
		event.verdict = announced ? announced->verdict : TRACE_NO_VERDICT;
	}
	if (announced) {
		event.destination = announced->destination;
		event.cookie = announced->cookie;
	}
	if (record->place == POSTERN_TRACE_ANNOUNCE && !record->error)
		(void)snprintf(event.detail, sizeof(event.detail), "sent to the agent's port %u",
		               record->tuple.remote_port);
	else
		(void)snprintf(event.detail, sizeof(event.detail), "%s", says ? says : "");
	name_gateway(agent, record->gateway_id, event.gateway);
	time_of(record->time_ns, &event.time);
	trace_add(agent->trace, &event);
}

/* ---- reading ---- */

static void read_ring(struct trace_watch *watch)
{
	struct agent *agent = watch->agent;
	int result = hooks_trace_read(agent->hooks);
	uint64_t lost = hooks_trace_lost(agent->hooks);

	if (result < 0)
		log_error("the trace ring is unreadable", "error=\"%s\"", strerror(-result));
	if (lost != watch->lost)
		trace_lost(agent->trace, lost - watch->lost);
	watch->lost = lost;
}

static void on_ring(struct loop_source *source, uint32_t events)
{
	(void)events;
	read_ring(container_of(source, struct trace_watch, ring));
}

static void on_timer(struct loop_timer *timer)
{
	trace_watch_ask(container_of(timer, struct trace_watch, timer)->agent);
}

static bool open_watch(struct agent *agent)
{
	struct trace_watch *watch = &agent->trace_watch;
	int error;

	if (watch->agent)
		return true;
	watch->ring.on_event = on_ring;
	watch->timer.on_expire = on_timer;
	watch->lost = hooks_trace_lost(agent->hooks);
	error = hooks_trace_open(agent->hooks, on_record, agent);
	if (error >= 0)
		error = loop_add(agent->loop, &watch->ring, error, EPOLLIN);
	if (error) {
		log_error("no events of the kernel in the trace", "error=\"%s\"", strerror(-error));
		return false;
	}
	watch->agent = agent;
	return true;
}

void trace_watch_read(struct agent *agent)
{
	if (agent->trace_watch.agent)
		read_ring(&agent->trace_watch);
}

/* Each event has a counter; a connect that goes to the agent is told twice, as a connect and as its SYN. */
uint64_t trace_watch_counted(const struct agent *agent)
{
	uint64_t counters[POSTERN_COUNTERS];
	uint64_t sum = 0;

	if (!agent->hooks || hooks_counters(agent->hooks, counters) != 0)
		return 0;
	for (size_t i = 0; i < POSTERN_COUNTERS; i++)
		sum += words[i] ? counters[i] : 0;
	return sum + counters[POSTERN_COUNT_CONNECT_TLS] + counters[POSTERN_COUNT_CONNECT_HOLD];
}

/* ---- asking ---- */

/* One gateway can be compared by its id; several of that name, or all, cannot. */
static uint32_t gateway_wanted(const struct agent *agent, const struct trace_filter *filter, bool *one)
{
	uint32_t id = NO_GATEWAY;
	size_t count = 0;

	for (size_t i = 0; i < agent->enrolment_count; i++) {
		const struct enrolment *enrolment = &agent->enrolments[i];

		if (!enrolment->gateway || !trace_gateway_fits(filter, enrolment->name))
			continue;
		id = enrolment->gateway->id;
		count++;
	}
	*one = filter->gateway[0] && count <= 1;
	return id;
}

static bool has_address(const struct trace_filter *filter)
{
	static const struct postern_address any;

	return memcmp(&filter->address, &any, sizeof(any)) != 0;
}

void trace_watch_ask(struct agent *agent)
{
	struct trace_watch *watch = &agent->trace_watch;
	struct postern_trace_filter asked = {0};
	struct trace_filter wanted;
	uint64_t now = monotonic_ns(), until;
	bool one;

	if (!trace_wanted(agent->trace, &wanted, &until)) {
		if (watch->agent)
			hooks_trace_ask(agent->hooks, &asked);
		return;
	}
	if (!open_watch(agent))
		return;
	asked.until_ns = until;
	asked.gateway_id = gateway_wanted(agent, &wanted, &one);
	asked.destination = (struct postern_destination_key){.address = wanted.address, .port = wanted.port};
	asked.verdicts = wanted.verdicts;
	asked.match = (one ? POSTERN_TRACE_BY_GATEWAY : 0) | (has_address(&wanted) ? POSTERN_TRACE_BY_ADDRESS : 0) |
	              (wanted.port ? POSTERN_TRACE_BY_PORT : 0) | (wanted.verdicts ? POSTERN_TRACE_BY_VERDICT : 0);
	hooks_trace_ask(agent->hooks, &asked);
	/* Without it the programs stop by themselves, and cost a clock at each event until the next look. */
	if (loop_timer_set(agent->loop, &watch->timer, until > now ? until - now : 0) != 0)
		log_error("no memory", "what=\"timer of the trace\"");
}

void trace_watch_stop(struct agent *agent)
{
	struct trace_watch *watch = &agent->trace_watch;

	if (!watch->agent)
		return;
	loop_timer_cancel(agent->loop, &watch->timer);
	loop_remove(agent->loop, &watch->ring); /* the descriptor is the hooks' */
	watch->agent = NULL;
}
