/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * agent_reader.h: asks an agent which gateway Pods it has enrolled: GET http://ADDRESS:PORT/enrolled, at the address of
 * the agent's Pod. Plain HTTP, as probes and scrapes are: no token and no other secret of the controller's goes there.
 * libcurl inside the loop; nothing blocks, and everything is bounded: time, size, requests under way. One thread: the
 * loop's.
 */
#ifndef POSTERN_CONTROLLER_AGENT_READER_H
#define POSTERN_CONTROLLER_AGENT_READER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define AGENT_READER_PARALLEL 64
#define AGENT_READER_BODY_MAX (1u << 20)
#define AGENT_READER_TIMEOUT  3000L /* ms */

struct agent_reader;
struct loop;

struct agent_reader_options {
	struct loop *loop;
	uint16_t port;
	/* Once for each question, in a round of the loop. answer is borrowed; NULL: error says why, in one line. */
	void (*on_answer)(void *context, const char *agent, const json_t *answer, const char *error);
	void *context;
};

/* After the client of the API server, which sets libcurl up for the process. 0, -ENOMEM, -EIO. */
int agent_reader_new(const struct agent_reader_options *options, struct agent_reader **reader);
void agent_reader_free(struct agent_reader *reader); /* NULL-safe; no callback comes any more */

/*
 * agent: name of its Pod, as on_answer() has it back; address: of the Pod, IPv4 or IPv6, as the API server has it. 0;
 * -EALREADY: it is being asked; -EBUSY: too many are; -EINVAL: no address; -ENOMEM.
 */
int agent_reader_ask(struct agent_reader *reader, const char *agent, const char *address);

#endif
