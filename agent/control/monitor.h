/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * monitor.h: /metrics, /livez and /readyz of the agent. Control thread.
 *
 * /livez is 200 while the control thread turns. /readyz is 200 while the promise is kept and a connection through the
 * hooks to the built-in TLS peer has passed in the last seconds (path_probe.h); else 503 with the reason.
 */
#ifndef POSTERN_CONTROL_MONITOR_H
#define POSTERN_CONTROL_MONITOR_H

#include "base/loop.h"
#include "control/path_probe.h"
#include "observe/metric_snapshot.h"

struct agent;
struct http_server;

struct monitor {
	struct agent *agent;
	struct http_server *server; /* NULL: it does not listen (yet) */
	struct loop_timer retry;    /* the address was taken */
	struct metric_snapshot figures;
	struct path_probe probe;
	double started; /* Unix time */
	bool told;      /* that the address is taken */
};

/*
 * Listens where the configuration says. An address that is taken is tried again, and no reason not to start: the agent
 * before this one may have it still. Idempotent.
 */
void monitor_start(struct agent *agent);
void monitor_stop(struct agent *agent);
/* The text of /metrics, whether somebody listens there or not; free() it. NULL: no memory. */
char *monitor_metrics(struct agent *agent, bool openmetrics, size_t *length);

#endif
