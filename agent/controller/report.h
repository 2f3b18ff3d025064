/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * report.h: what postern-controller tells over HTTP (observe/http_server.h): /livez (the loop runs), /readyz (the
 * cluster was seen), /metrics, and /status, which is JSON for people: who leads, what was written, findings. One
 * thread: the loop's.
 */
#ifndef POSTERN_CONTROLLER_REPORT_H
#define POSTERN_CONTROLLER_REPORT_H

struct controller;
struct report;

/* Listens where the options say; *report is NULL where they say nowhere. 0 or negative errno, with a line in the log.
 */
int report_open(struct controller *controller, struct report **report);
void report_close(struct report *report); /* NULL-safe */

#endif
