// SPDX-License-Identifier: GPL-2.0-only
#include "kubernetes/curl_loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/cleanup.h"

struct curl_loop_socket {
	struct curl_loop *curl;
	struct loop_source source;
	struct curl_loop_socket *next, **place;
};

static void act(struct curl_loop *curl, curl_socket_t fd, int what)
{
	int running;

	(void)curl_multi_socket_action(curl->multi, fd, what, &running);
	curl->acted(curl->context);
}

static void on_socket(struct loop_source *source, uint32_t events)
{
	struct curl_loop_socket *socket = container_of(source, struct curl_loop_socket, source);
	int what = 0;

	if (events & (EPOLLIN | EPOLLRDHUP))
		what |= CURL_CSELECT_IN;
	if (events & EPOLLOUT)
		what |= CURL_CSELECT_OUT;
	if (events & (EPOLLERR | EPOLLHUP))
		what |= CURL_CSELECT_ERR;
	act(socket->curl, source->fd, what);
}

static void on_timer(struct loop_timer *timer)
{
	act(container_of(timer, struct curl_loop, timer), CURL_SOCKET_TIMEOUT, 0);
}

static void forget_socket(struct curl_loop_socket *socket)
{
	struct loop *loop = socket->curl->loop;

	loop_remove(loop, &socket->source);
	*socket->place = socket->next;
	if (socket->next)
		socket->next->place = socket->place;
	loop_defer_free(loop, socket);
}

static int add_socket(struct curl_loop *curl, curl_socket_t fd, uint32_t events)
{
	struct curl_loop_socket *socket = calloc(1, sizeof(*socket));

	if (!socket)
		return -1;
	socket->curl = curl;
	socket->source.on_event = on_socket;
	if (loop_add(curl->loop, &socket->source, fd, events) < 0) {
		free(socket);
		return -1;
	}
	socket->next = curl->sockets;
	socket->place = &curl->sockets;
	if (socket->next)
		socket->next->place = &socket->next;
	curl->sockets = socket;
	(void)curl_multi_assign(curl->multi, fd, socket);
	return 0;
}

/* What libcurl waits for. A socket that cannot be waited for leaves its requests to their time limits. */
static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *socket_context)
{
	struct curl_loop *curl = context;
	struct curl_loop_socket *socket = socket_context;
	uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (socket)
			forget_socket(socket);
		return 0;
	}
	if (!socket)
		return add_socket(curl, fd, events);
	return loop_set_events(curl->loop, &socket->source, events) == 0 ? 0 : -1;
}

static int set_timer(CURLM *multi, long milliseconds, void *context)
{
	struct curl_loop *curl = context;

	(void)multi;
	if (milliseconds < 0) {
		loop_timer_cancel(curl->loop, &curl->timer);
		return 0;
	}
	return loop_timer_set(curl->loop, &curl->timer, (uint64_t)milliseconds * 1000000) == 0 ? 0 : -1;
}

int curl_loop_open(struct curl_loop *curl, struct loop *loop, void (*acted)(void *context), void *context)
{
	*curl = (struct curl_loop){.loop = loop,
	                           .multi = curl_multi_init(),
	                           .timer = {.on_expire = on_timer},
	                           .acted = acted,
	                           .context = context};
	if (!curl->multi)
		return -ENOMEM;
	if (curl_multi_setopt(curl->multi, CURLMOPT_SOCKETFUNCTION, watch_socket) != CURLM_OK ||
	    curl_multi_setopt(curl->multi, CURLMOPT_SOCKETDATA, curl) != CURLM_OK ||
	    curl_multi_setopt(curl->multi, CURLMOPT_TIMERFUNCTION, set_timer) != CURLM_OK ||
	    curl_multi_setopt(curl->multi, CURLMOPT_TIMERDATA, curl) != CURLM_OK) {
		curl_loop_close(curl);
		return -EIO;
	}
	return 0;
}

void curl_loop_close(struct curl_loop *curl)
{
	if (!curl->multi)
		return;
	(void)curl_multi_setopt(curl->multi, CURLMOPT_SOCKETFUNCTION, NULL);
	(void)curl_multi_setopt(curl->multi, CURLMOPT_TIMERFUNCTION, NULL);
	while (curl->sockets) /* before libcurl closes them */
		forget_socket(curl->sockets);
	curl_multi_cleanup(curl->multi);
	curl->multi = NULL;
	loop_timer_cancel(curl->loop, &curl->timer);
}
