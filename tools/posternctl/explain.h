/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * explain.h: posternctl explain GATEWAY ADDRESS:PORT: the way that a connect takes, step by step, and the first step
 * that is wrong.
 *
 *   explain.c        the command, what the kernel says, and whether the agent answers
 *   explain_policy.c what the agent says: verdict, policy, settings, CA, and what happened lately
 *   explain_try.c    --try: the steps that make connections
 *   explain_dial.c   TCP and TLS from the gateway's network namespace, by the policy's own settings
 *   explain_child.c  a connect from the gateway's cgroup and namespace, through the hooks
 *   explain_page.c   the steps for people
 */
#ifndef POSTERNCTL_EXPLAIN_H
#define POSTERNCTL_EXPLAIN_H

#include <jansson.h>
#include <stdbool.h>

#include "base/address.h"

struct options;

enum explain_state {
	EXPLAIN_OK,
	EXPLAIN_NOTE,  /* works, and worth knowing */
	EXPLAIN_WRONG, /* the connect fails, or does not do what somebody expects */
};

struct explain {
	const struct options *options;
	json_t *steps; /* [{"step", "state": "ok" | "note" | "wrong", "says", "remedy"}] */
	json_t *chain; /* what the backend showed: [{"subject", "issuer", "names", "not_before", "not_after"}] */
	json_t *kernel;
	json_t *agent; /* its status; NULL: dead */
	bool dead;
	bool disagree;
	bool wrong;   /* a step was */
	bool passes;  /* nothing of postern is in its way */
	bool unknown; /* the kernel cannot be read, and nobody else knows the gateway */
	const char *gateway;
	const json_t *hooks;  /* the kernel's row of the gateway */
	const json_t *served; /* the agent's */
	struct postern_destination_key key;
	char destination[DESTINATION_TEXT_MAX];
	char verdict[8];  /* the kernel's: "tls", "plain", "deny", "hold", "none" */
	json_t *settings; /* in full; NULL: none */
	char netns[512];
	char cgroup[512];
};

/* remedy "" where there is nothing to do. Only the first wrong step's remedy counts for the page's last line. */
void explain_step(struct explain *explain, const char *step, enum explain_state state, const char *remedy,
                  const char *format, ...) __attribute__((format(printf, 5, 6)));

/* Every step of which the agent alone knows; it is alive, and the gateway known. */
void explain_by_agent(struct explain *explain);

/* Every step of --try; the agent is alive, and the gateway known to both. */
void explain_try(struct explain *explain);

/*
 * A TCP connection from a network namespace (path), and what came of it. In a child: this process stays where it is,
 * and shows no client certificate. with_judgement false: only what the backend shows is asked for.
 */
struct explain_dial {
	char problem[256]; /* "" = verified, or connected if there are no settings */
	char reason[64];   /* of base/reason.h */
	char version[16];
	char cipher[64];
	char alpn[16];
	char identity[256];
	json_t *chain; /* a new reference, or NULL */
};
int explain_dial(const char *netns, const struct postern_destination_key *key, const json_t *settings,
                 bool with_judgement, struct explain_dial *result);

/* A connect() as the gateway would make it. */
struct explain_connect {
	int error;        /* of connect(): 0, ECONNREFUSED, ... */
	uint16_t port;    /* G's own */
	int milliseconds; /* that it took */
	int hold_fd;      /* close it, and the connection ends */
	int child;
};
/* 0, or negative errno: the child could not get there. */
int explain_connect(const char *netns, const char *cgroup, const struct postern_destination_key *key,
                    struct explain_connect *result);
void explain_connect_end(struct explain_connect *result);

void print_explain_page(const json_t *document);

#endif
