/* SPDX-License-Identifier: GPL-2.0-only */
#include "control/predecessor.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/failures.h"
#include "base/log.h"
#include "base/version.h"
#include "control/agent.h"
#include "control/handover_channel.h"
#include "datapath/hooks.h"
#include "datapath/worker_handover.h"
#include "tls/peer_bytes.h"

#define HELLO_TIMEOUT_MS   5000
#define FREEZE_TIMEOUT_MS  10000
#define COMMIT_TIMEOUT_MS  10000
#define DISMISS_TIMEOUT_MS 2000
#define LIVES_MS           200
#define FRAMES_PER_TURN    64

struct predecessor {
	struct agent *agent;
	int fd;
	struct handover_reader reader;
	struct loop_source source;
	json_t *welcome;
	unsigned int abi;
	bool hands_over; /* it speaks of connections as this agent does; else it drains all of its own */
	size_t taken;
	size_t refused;
};

static int connect_to(const char *run_dir)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd == -1)
		return -errno;
	if (snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", run_dir, HANDOVER_SOCKET_NAME) >=
	    (int)sizeof(address.sun_path))
		return -ENAMETOOLONG;
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == -1)
		return -errno;
	return TAKE_FD(fd);
}

static int send_hello(int fd)
{
	json_t *hello = json_pack("{s:i, s:i, s:s}", "protocol", HANDOVER_PROTOCOL, "abi", (int)postern_abi_version,
	                          "version", postern_version);
	_cleanup_free_ char *text = hello ? json_dumps(hello, JSON_COMPACT) : NULL;

	json_decref(hello);
	return text ? handover_send(fd, HANDOVER_HELLO, text, strlen(text), NULL) : -ENOMEM;
}

/* Another protocol, or another ABI: it hands nothing over. The frames up to COMMITTED are the same for ever. */
static int read_welcome(struct predecessor *predecessor)
{
	struct handover_frame frame;
	const char *version = "";
	int protocol = 0, abi = 0;
	int error = handover_expect(&predecessor->reader, predecessor->fd, HANDOVER_WELCOME, HELLO_TIMEOUT_MS, &frame);

	if (error == -ECONNRESET)
		return error; /* it ends, or another one was before us */
	if (error) {
		log_error("the running agent does not answer", "error=\"%s\" effect=\"it is left alone\"",
		          strerror(-error));
		return error;
	}
	predecessor->welcome = json_loadb((const char *)frame.bytes, frame.size, JSON_REJECT_DUPLICATES, NULL);
	handover_frame_release(&frame);
	if (json_unpack(predecessor->welcome, "{s:i, s:i, s:s}", "protocol", &protocol, "abi", &abi, "version",
	                &version) != 0 ||
	    abi <= 0 || !json_is_array(json_object_get(predecessor->welcome, "gateways"))) {
		log_error("the running agent talks nonsense", "effect=\"it is left alone\"");
		return -EBADMSG;
	}
	predecessor->abi = (unsigned int)abi;
	predecessor->hands_over = protocol == HANDOVER_PROTOCOL && predecessor->abi == postern_abi_version;
	if (!predecessor->hands_over)
		log_info("the running agent hands no connection over",
		         "its_protocol=%d protocol=%d its_abi=%d abi=%u plan=\"it drains its own\"", protocol,
		         HANDOVER_PROTOCOL, abi, postern_abi_version);
	return 0;
}

static void forget(struct agent *agent)
{
	predecessor_free(agent);
	agent->predecessor = NULL;
}

/* Who is dying may close its listener after the channel, and whom it had not accepted with it: who stays, lives. */
static bool somebody_listens(const struct agent *agent)
{
	for (unsigned int try = 0; try < 5; try++) {
		_cleanup_close_ int fd = connect_to(agent->config.run_dir);
		struct pollfd end = {.fd = fd, .events = POLLIN};

		if (fd < 0)
			return fd == -EAGAIN;
		if (poll(&end, 1, LIVES_MS) == 0)
			return true;
	}
	return true;
}

/* It is gone, or has given this agent up: somebody who listens there goes on. */
static int lost(struct agent *agent, int error, const char *when)
{
	if (error == -ETIMEDOUT || error == -EBADMSG || somebody_listens(agent)) {
		log_error("the running agent goes on", "when=\"%s\" error=\"%s\"", when, strerror(-error));
		return error;
	}
	log_warning("the running agent died", "when=\"%s\" effect=\"this one serves alone\"", when);
	forget(agent);
	return 0;
}

int predecessor_find(struct agent *agent)
{
	struct predecessor *predecessor;
	char quoted[256];
	int fd = connect_to(agent->config.run_dir);
	int error;

	if (fd == -ENOENT || fd == -ECONNREFUSED)
		return 0;
	if (fd < 0) {
		log_error("the running agent cannot be asked", "socket=%s/%s error=\"%s\"", agent->config.run_dir,
		          HANDOVER_SOCKET_NAME, strerror(-fd));
		return fd;
	}
	predecessor = calloc(1, sizeof(*predecessor));
	if (!predecessor) {
		close(fd);
		return -ENOMEM;
	}
	predecessor->agent = agent;
	predecessor->fd = fd;
	handover_reader_init(&predecessor->reader);
	agent->predecessor = predecessor;
	error = handover_peer_is_trusted(fd) ? send_hello(fd) : -EPERM;
	if (!error)
		error = read_welcome(predecessor);
	if (error)
		return error == -ECONNRESET ? lost(agent, error, "greeted") : error;
	log_info(
	        "an agent runs", "its_version=%s plan=\"take over when this one is proved\"",
	        log_quote(json_string_value(json_object_get(predecessor->welcome, "version")), quoted, sizeof(quoted)));
	return 0;
}

static int ask(struct agent *agent, enum handover_type question, enum handover_type answer, int timeout_ms,
               const char *when)
{
	struct predecessor *predecessor = agent->predecessor;
	struct handover_frame frame = {.fds = {-1, -1}};
	int error;

	if (!predecessor)
		return 0;
	error = handover_send(predecessor->fd, question, NULL, 0, NULL) ? -EPIPE : 0; /* it has given this agent up */
	if (!error)
		error = handover_expect(&predecessor->reader, predecessor->fd, answer, timeout_ms, &frame);
	handover_frame_release(&frame);
	return error ? lost(agent, error, when) : 0;
}

int predecessor_freeze(struct agent *agent)
{
	return ask(agent, HANDOVER_FREEZE, HANDOVER_FROZEN, FREEZE_TIMEOUT_MS, "asked to write no map any more");
}

int predecessor_switch(struct agent *agent)
{
	return ask(agent, HANDOVER_SWITCHED, HANDOVER_COMMITTED, COMMIT_TIMEOUT_MS, "told that connects come here");
}

bool predecessor_shares_maps(const struct agent *agent)
{
	return agent->predecessor && agent->predecessor->abi == postern_abi_version;
}

/* ---- its gateways ---- */

static const json_t *gateway_of(const struct agent *agent, const char *name)
{
	const json_t *gateways;
	const json_t *gateway;
	size_t i;

	if (!agent->predecessor)
		return NULL;
	gateways = json_object_get(agent->predecessor->welcome, "gateways");
	json_array_foreach (gateways, i, gateway) {
		const char *other = json_string_value(json_object_get(gateway, "name"));

		if (other && strcmp(other, name) == 0)
			return gateway;
	}
	return NULL;
}

uint32_t predecessor_gateway_id(const struct agent *agent, const char *name)
{
	json_int_t id = json_integer_value(json_object_get(gateway_of(agent, name), "id"));

	return id > 0 && id <= UINT32_MAX ? (uint32_t)id : 0;
}

bool predecessor_spares_id(const struct agent *agent, uint32_t id)
{
	const json_t *gateways;
	const json_t *gateway;
	size_t i;

	if (!agent->predecessor)
		return true;
	gateways = json_object_get(agent->predecessor->welcome, "gateways");
	json_array_foreach (gateways, i, gateway) {
		if (json_integer_value(json_object_get(gateway, "id")) == (json_int_t)id)
			return false;
	}
	return true;
}

bool predecessor_serves(const struct agent *agent, const char *name)
{
	return json_is_true(json_object_get(gateway_of(agent, name), "ready"));
}

/* ---- its connections ---- */

/* The worker that G's records come to, if it is one of ours: it has the lane slot's state. */
static struct worker *worker_for(const struct agent *agent, uint32_t ring)
{
	unsigned int index = ring - agent->claim.first;

	return agent->workers[ring >= agent->claim.first && index < agent->worker_count ? index
	                                                                                : ring % agent->worker_count];
}

static int take_connection(struct agent *agent, struct handover_frame *frame)
{
	struct arrival arrival = {
	        .bytes = frame->bytes, .size = frame->size, .a_fd = frame->fds[0], .b_fd = frame->fds[1]};
	int error;

	*frame = (struct handover_frame){.fds = {-1, -1}};
	error = agent->predecessor->hands_over ? connection_state_decode(arrival.bytes, arrival.size, &arrival.state)
	                                       : -EPROTO;
	if (!error && arrival.state.chain_size)
		error = tls_peer_decode(arrival.state.chain, arrival.state.chain_size, &arrival.peer);
	/* The witness lets a plain B send only while the map says PLAIN. */
	if (!error && !arrival.state.relay.kernel_tls)
		error = kernel_maps_let_pass(&agent->maps, &arrival.state.destination);
	if (!error)
		error = worker_take_over(worker_for(agent, arrival.state.ring), &arrival);
	if (error)
		arrival_release(&arrival);
	relay_state_wipe(&arrival.state.relay); /* the worker has its own copy */
	return error;
}

static void on_end(struct predecessor *predecessor, int error)
{
	struct agent *agent = predecessor->agent;

	log_info("the former agent has ended", "connections=%zu refused=%zu end=\"%s\"", predecessor->taken,
	         predecessor->refused, error == -ECONNRESET ? "closed" : strerror(-error));
	kernel_maps_adopt(&agent->maps);
	forget(agent);
	error = hooks_adopt_rings(agent->hooks, worker_claim_others(&agent->claim));
	if (error)
		log_warning("rings of the former agent not adopted", "error=\"%s\"", strerror(-error));
}

static void on_event(struct loop_source *source, uint32_t events)
{
	struct predecessor *predecessor = container_of(source, struct predecessor, source);
	struct agent *agent = predecessor->agent;
	struct handover_frame frame;

	(void)events;
	for (int i = 0; i < FRAMES_PER_TURN; i++) {
		int result = handover_read(&predecessor->reader, predecessor->fd, &frame);
		int error;

		if (result == 0)
			return;
		if (result < 0) {
			on_end(predecessor, result);
			return;
		}
		error = frame.type == HANDOVER_CONNECTION ? take_connection(agent, &frame) : -EBADMSG;
		handover_frame_release(&frame);
		if (!error) {
			predecessor->taken++;
			continue;
		}
		predecessor->refused++;
		failures_count(agent->failures, REASON_HANDOVER_FAILED);
		log_warning("a connection was not taken over", "error=\"%s\"", strerror(-error));
	}
}

void predecessor_dismiss(struct agent *agent, unsigned int abi)
{
	struct predecessor *predecessor = agent->predecessor;
	struct handover_frame frame = {.fds = {-1, -1}};
	int error;

	if (!predecessor || predecessor->abi != abi || predecessor->abi == postern_abi_version)
		return;
	(void)shutdown(predecessor->fd, SHUT_WR);
	error = handover_expect(&predecessor->reader, predecessor->fd, HANDOVER_COMMITTED, DISMISS_TIMEOUT_MS, &frame);
	handover_frame_release(&frame);
	if (error != -ECONNRESET)
		log_warning("the former agent does not let go of its maps", "error=\"%s\"", strerror(-error));
	on_end(predecessor, error);
}

int predecessor_follow(struct agent *agent)
{
	struct predecessor *predecessor = agent->predecessor;

	if (!predecessor)
		return 0;
	predecessor->source.on_event = on_event;
	return loop_add(agent->loop, &predecessor->source, predecessor->fd, EPOLLIN);
}

void predecessor_free(struct agent *agent)
{
	struct predecessor *predecessor = agent->predecessor;

	if (!predecessor)
		return;
	loop_remove(agent->loop, &predecessor->source);
	close(predecessor->fd);
	handover_reader_release(&predecessor->reader);
	json_decref(predecessor->welcome);
	loop_defer_free(agent->loop, predecessor);
	agent->predecessor = NULL;
}
