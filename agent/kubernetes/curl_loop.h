/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * curl_loop.h: libcurl's multi interface inside the loop: its sockets are sources, its timer is a timer. For the client
 * of the API server and for whoever else speaks HTTP. One thread: the loop's.
 */
#ifndef POSTERN_KUBERNETES_CURL_LOOP_H
#define POSTERN_KUBERNETES_CURL_LOOP_H

#include <curl/curl.h>

#include "base/loop.h"

struct curl_loop_socket;

struct curl_loop { /* all zero: closed */
	struct loop *loop;
	CURLM *multi;
	struct loop_timer timer;
	struct curl_loop_socket *sockets;
	/* libcurl has done something and has returned: handles may be removed now, as they may not inside of it. */
	void (*acted)(void *context);
	void *context;
};

/* 0, -ENOMEM, or -EIO; closed then. */
int curl_loop_open(struct curl_loop *curl, struct loop *loop, void (*acted)(void *context), void *context);
/* When every handle has been removed. Idempotent. */
void curl_loop_close(struct curl_loop *curl);

#endif
