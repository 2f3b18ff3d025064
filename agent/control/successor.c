/* SPDX-License-Identifier: GPL-2.0-only */
#include "control/successor.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/version.h"
#include "control/agent.h"
#include "control/handover_channel.h"
#include "control/predecessor.h"
#include "datapath/hooks.h"
#include "datapath/worker_handover.h"
#include "observe/listen_unix.h"

#define SECOND_NS 1000000000ull

#define HELLO_LIMIT_NS (10 * SECOND_NS)
/*
 * Its proof, and loading its programs. Nothing waits for it meanwhile, and a node that is short of CPU is slow at both
 * (seen: 278 s for the proof alone).
 */
#define PROOF_LIMIT_NS  (600 * SECOND_NS)
#define FREEZE_LIMIT_NS (60 * SECOND_NS) /* compiling, writing the maps, opening listeners */
#define DRAIN_TICK_NS   100000000ull
/* A connect() that had read the map before the switch sends its SYN at once; this is far more. */
#define DRAIN_LEAST_NS (2 * SECOND_NS)

enum successor_state {
	SUCCESSOR_LISTENING,
	SUCCESSOR_GREETED,
	SUCCESSOR_FROZEN,
	SUCCESSOR_DRAINING,
	SUCCESSOR_DONE, /* nothing is left; waiting for the end (afterHandover: wait) */
};

struct successor {
	struct agent *agent;
	enum successor_state state;
	struct loop_source listener;
	struct stat identity;
	struct loop_source client;
	struct handover_reader reader;
	struct loop_timer limit;
	struct loop_timer drain_timer;
	uint64_t committed_ns;
	bool end_asked;
	unsigned int abi; /* the successor's */
	bool hands_over;  /* it takes connections: the same protocol and ABI */

	pthread_mutex_t send_lock; /* workers send, one at a time */
	bool broken;               /* under the lock: nothing can be sent any more */
};

static void set_limit(struct successor *successor, uint64_t limit_ns)
{
	if (loop_timer_set(successor->agent->loop, &successor->limit, limit_ns) != 0)
		log_error("no memory", "what=\"limit of a handover\"");
}

static void close_client(struct successor *successor)
{
	if (!successor->client.registered)
		return;
	loop_remove(successor->agent->loop, &successor->client);
	pthread_mutex_lock(&successor->send_lock);
	successor->broken = true; /* no worker uses the descriptor after this */
	pthread_mutex_unlock(&successor->send_lock);
	close(successor->client.fd);
	handover_reader_release(&successor->reader);
	loop_timer_cancel(successor->agent->loop, &successor->limit);
}

/* As if it had never been: what it may have written is written again. */
static void thaw(struct agent *agent)
{
	int error = hooks_take_over(agent->hooks);

	if (error)
		log_error("programs not put back", "error=\"%s\"", strerror(-error));
	error = enrol_resume(agent);
	if (error)
		log_error("ports not put back", "error=\"%s\"", strerror(-error));
	error = sync_resume(agent);
	if (error)
		log_error("maps not put back", "error=\"%s\"", strerror(-error));
	enrol_clear_other_versions(agent);
}

static bool shares_maps(const struct successor *successor)
{
	return successor->abi == postern_abi_version;
}

static void give_up(struct successor *successor, const char *why)
{
	enum successor_state state = successor->state;

	/* Whoever comes after it may be of this agent's ABI, and must find the maps his own when the channel is closed.
	 */
	if (state == SUCCESSOR_DRAINING && !shares_maps(successor))
		sync_retire(successor->agent);
	close_client(successor);
	if (state == SUCCESSOR_DRAINING || state == SUCCESSOR_DONE) {
		log_warning("the successor is gone", "reason=\"%s\" effect=\"what is left is drained here\"", why);
		return;
	}
	successor->state = SUCCESSOR_LISTENING;
	if (state == SUCCESSOR_FROZEN)
		thaw(successor->agent);
	log_warning("the successor failed", "reason=\"%s\" effect=\"this agent goes on\"", why);
}

static void on_limit(struct loop_timer *timer)
{
	give_up(container_of(timer, struct successor, limit), "too slow");
}

/* ---- draining ---- */

static int send_connection(void *context, const uint8_t *bytes, size_t size, int a_fd, int b_fd)
{
	struct successor *successor = context;
	const int fds[2] = {a_fd, b_fd};
	int error = -EAGAIN;

	pthread_mutex_lock(&successor->send_lock);
	if (!successor->broken)
		error = handover_send(successor->client.fd, HANDOVER_CONNECTION, bytes, size, fds);
	successor->broken |= error != 0;
	pthread_mutex_unlock(&successor->send_lock);
	return error;
}

struct load {
	uint64_t attempts;
	uint64_t connections;
	uint64_t handed_over;
};

static struct load measure(const struct agent *agent)
{
	struct load load = {0};

	for (unsigned int i = 0; i < agent->worker_count; i++) {
		struct worker_statistics statistics;

		worker_statistics(agent->workers[i], &statistics);
		load.attempts += statistics.attempts_live;
		load.connections += statistics.connections_live;
		load.handed_over += statistics.handed_over;
	}
	return load;
}

static void done(struct successor *successor, const struct load *load)
{
	struct agent *agent = successor->agent;

	successor->state = SUCCESSOR_DONE;
	/* Before the successor sees the end: then our numbers are nobody's, and it reads what comes for them. */
	worker_claim_release(&agent->claim);
	close_client(successor);
	log_info("drained", "handed_over=%llu milliseconds=%llu", (unsigned long long)load->handed_over,
	         (unsigned long long)((monotonic_ns() - successor->committed_ns) / 1000000));
	if (agent->config.after_handover == AFTER_HANDOVER_EXIT || successor->end_asked)
		loop_stop(agent->loop);
}

static void on_drain(struct loop_timer *timer)
{
	struct successor *successor = container_of(timer, struct successor, drain_timer);
	struct agent *agent = successor->agent;
	uint64_t lasted = monotonic_ns() - successor->committed_ns;
	struct load load = measure(agent);

	if (lasted >= agent->config.drain_timeout_ns && load.connections + load.attempts) {
		log_warning("drain limit", "connections=%llu attempts=%llu effect=reset",
		            (unsigned long long)load.connections, (unsigned long long)load.attempts);
		for (unsigned int i = 0; i < agent->worker_count; i++)
			worker_end_all(agent->workers[i], REASON_DRAIN_TIMEOUT);
		load.connections = load.attempts = 0;
	}
	if (load.connections + load.attempts == 0 && lasted >= DRAIN_LEAST_NS) {
		done(successor, &load);
		return;
	}
	if (loop_timer_set(agent->loop, timer, DRAIN_TICK_NS) != 0)
		log_error("no memory", "what=\"drain timer\"");
}

/* Nobody is to find this agent any more; then the successor may make the same names. */
static void stop_listening(struct successor *successor)
{
	struct agent *agent = successor->agent;

	if (!successor->listener.registered)
		return;
	unlink_unix(agent->config.run_dir, HANDOVER_SOCKET_NAME, &successor->identity);
	loop_remove(agent->loop, &successor->listener);
	close(successor->listener.fd);
}

static void commit(struct successor *successor)
{
	struct agent *agent = successor->agent;

	successor->state = SUCCESSOR_DRAINING;
	successor->committed_ns = monotonic_ns();
	loop_timer_cancel(agent->loop, &successor->limit);
	report_stop(agent);
	/* Agents that drain write no map, and do not stand in the way of the one after the successor. */
	resources_unlock_pins(&agent->pins_lock);
	stop_listening(successor);
	log_info("handed over", "effect=\"new connects are the successor's; this agent drains\"");
	if (handover_send(successor->client.fd, HANDOVER_COMMITTED, NULL, 0, NULL) != 0)
		successor->broken = true; /* before any worker sends */
	/* The witness judges plain connections by the maps: somebody must write these. */
	if (!shares_maps(successor) && sync_resume(agent) != 0)
		log_error("maps not followed while draining", "effect=\"what becomes covered is reset\"");
	for (unsigned int i = 0; successor->hands_over && i < agent->worker_count; i++)
		worker_hand_over(agent->workers[i], send_connection, successor);
	on_drain(&successor->drain_timer);
}

/* ---- what it says ---- */

static json_t *welcome_document(const struct agent *agent)
{
	json_t *gateways = json_array();

	for (size_t i = 0; i < agent->enrolment_count; i++) {
		const struct enrolment *enrolment = &agent->enrolments[i];
		bool ready = enrolment->gateway && enrolment->gateway->state == GATEWAY_READY;

		if (!enrolment->name)
			continue;
		json_array_append_new(gateways, json_pack("{s:s, s:I, s:b}", "name", enrolment->name, "id",
		                                          (json_int_t)enrolment->options.id, "ready", ready));
	}
	return json_pack("{s:i, s:i, s:s, s:o}", "protocol", HANDOVER_PROTOCOL, "abi", (int)postern_abi_version,
	                 "version", postern_version, "gateways", gateways);
}

/* Whether the numbers fit is the newer one's to judge: it knows what it can do with ours. */
static bool greet(struct successor *successor, const struct handover_frame *frame)
{
	json_t *hello = json_loadb((const char *)frame->bytes, frame->size, JSON_REJECT_DUPLICATES, NULL);
	const char *version = json_string_value(json_object_get(hello, "version"));
	json_int_t abi = json_integer_value(json_object_get(hello, "abi"));
	json_int_t protocol = json_integer_value(json_object_get(hello, "protocol"));
	json_t *welcome = version && abi > 0 && abi <= INT_MAX ? welcome_document(successor->agent) : NULL;
	_cleanup_free_ char *text = welcome ? json_dumps(welcome, JSON_COMPACT) : NULL;
	char quoted[256];
	bool sent = text && handover_send(successor->client.fd, HANDOVER_WELCOME, text, strlen(text), NULL) == 0;

	if (sent)
		log_info("a successor starts", "its_version=%s its_abi=%lld abi=%u",
		         log_quote(version, quoted, sizeof(quoted)), (long long)abi, postern_abi_version);
	successor->abi = (unsigned int)abi;
	successor->hands_over = protocol == HANDOVER_PROTOCOL && successor->abi == postern_abi_version;
	json_decref(hello);
	json_decref(welcome);
	if (!sent)
		return false;
	successor->state = SUCCESSOR_GREETED;
	set_limit(successor, PROOF_LIMIT_NS);
	return true;
}

static bool freeze(struct successor *successor)
{
	struct agent *agent = successor->agent;

	predecessor_dismiss(agent, successor->abi);
	decide_pending(agent);
	enrol_pause(agent);
	sync_retire(agent);
	successor->state = SUCCESSOR_FROZEN;
	set_limit(successor, FREEZE_LIMIT_NS);
	return handover_send(successor->client.fd, HANDOVER_FROZEN, NULL, 0, NULL) == 0;
}

/* False: it has no place here, or could not be answered. */
static bool take_frame(struct successor *successor, const struct handover_frame *frame)
{
	if (frame->type == HANDOVER_HELLO && successor->state == SUCCESSOR_LISTENING)
		return greet(successor, frame);
	if (frame->type == HANDOVER_FREEZE && successor->state == SUCCESSOR_GREETED)
		return freeze(successor);
	if (frame->type != HANDOVER_SWITCHED || successor->state != SUCCESSOR_FROZEN)
		return false;
	commit(successor);
	return true;
}

static void on_client(struct loop_source *source, uint32_t events)
{
	struct successor *successor = container_of(source, struct successor, client);
	struct handover_frame frame;
	int result = handover_read(&successor->reader, source->fd, &frame);
	bool right;

	(void)events;
	if (result == 0)
		return;
	if (result < 0) {
		give_up(successor, result == -ECONNRESET ? "it is gone" : strerror(-result));
		return;
	}
	right = take_frame(successor, &frame);
	handover_frame_release(&frame);
	if (!right)
		give_up(successor, "a frame that has no place here");
}

static void on_listener(struct loop_source *source, uint32_t events)
{
	struct successor *successor = container_of(source, struct successor, listener);
	_cleanup_close_ int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd == -1)
		return;
	/* One at a time; who comes meanwhile sees its connection closed, and leaves this agent alone. */
	if (successor->client.registered || !handover_peer_is_trusted(fd)) {
		log_warning("a second successor refused", "peer_trusted=%s",
		            handover_peer_is_trusted(fd) ? "yes" : "no");
		return;
	}
	handover_reader_init(&successor->reader);
	successor->broken = false;
	if (loop_add(successor->agent->loop, &successor->client, fd, EPOLLIN) != 0)
		return;
	TAKE_FD(fd);
	set_limit(successor, HELLO_LIMIT_NS);
}

/* ---- life ---- */

void successor_listen(struct agent *agent)
{
	struct successor *successor = calloc(1, sizeof(*successor));
	char message[256] = "no memory";
	char quoted[512];
	int fd = -ENOMEM;

	if (successor) {
		successor->agent = agent;
		successor->client.on_event = on_client;
		successor->listener.on_event = on_listener;
		successor->limit.on_expire = on_limit;
		successor->drain_timer.on_expire = on_drain;
		pthread_mutex_init(&successor->send_lock, NULL);
		agent->successor = successor;
		fd = listen_unix(agent->config.run_dir, HANDOVER_SOCKET_NAME, &successor->identity, message,
		                 sizeof(message));
	}
	if (fd >= 0 && loop_add(agent->loop, &successor->listener, fd, EPOLLIN) == 0)
		return;
	if (fd >= 0)
		close(fd);
	log_error("handover socket not opened", "error=%s effect=\"this agent can be stopped, and not be upgraded\"",
	          log_quote(message, quoted, sizeof(quoted)));
}

bool successor_is_expected(const struct agent *agent)
{
	const struct successor *successor = agent->successor;

	return successor && (successor->client.registered || successor->state != SUCCESSOR_LISTENING);
}

bool successor_has_taken_over(const struct agent *agent)
{
	const struct successor *successor = agent->successor;

	return successor && successor->state >= SUCCESSOR_DRAINING;
}

bool successor_delays_end(struct agent *agent)
{
	struct successor *successor = agent->successor;

	if (!successor || successor->state != SUCCESSOR_DRAINING || successor->end_asked)
		return false;
	successor->end_asked = true;
	return true;
}

void successor_free(struct agent *agent)
{
	struct successor *successor = agent->successor;

	if (!successor)
		return;
	close_client(successor);
	stop_listening(successor);
	loop_timer_cancel(agent->loop, &successor->drain_timer);
	loop_timer_cancel(agent->loop, &successor->limit);
	pthread_mutex_destroy(&successor->send_lock);
	loop_defer_free(agent->loop, successor);
	agent->successor = NULL;
}
