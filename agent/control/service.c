/* SPDX-License-Identifier: GPL-2.0-only */
/* What the service manager (systemd) is told, and how it knows that the control thread is alive. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/service_manager.h"
#include "control/agent.h"
#include "control/successor.h"

/* As often as sd_watchdog_enabled(3) recommends. */
static void on_watchdog(struct loop_timer *timer)
{
	struct agent *agent = container_of(timer, struct agent, service_timer);

	/* From then on the successor is the main process, and speaks for the unit. */
	if (successor_has_taken_over(agent))
		return;
	(void)service_manager_notify("WATCHDOG=1");
	if (loop_timer_set(agent->loop, timer, service_manager_watchdog_ns() / 2) != 0)
		log_error("no memory", "what=\"timer of the service manager's watchdog\"");
}

void service_started(struct agent *agent)
{
	char state[64];
	int error;

	if (agent->notified)
		return;
	/* The process that it watches is the one that was replaced, if there was one. */
	(void)snprintf(state, sizeof(state), "MAINPID=%d\nREADY=1", (int)getpid());
	error = service_manager_notify(state);
	if (error == -EAGAIN) /* it does not read just now; without this word a start or an upgrade would have failed */
		return;
	agent->notified = true;
	if (error < 0)
		log_warning("service manager not told", "error=\"%s\"", strerror(-error));
	if (error <= 0 || service_manager_watchdog_ns() == 0)
		return;
	agent->service_timer.on_expire = on_watchdog;
	on_watchdog(&agent->service_timer);
}
