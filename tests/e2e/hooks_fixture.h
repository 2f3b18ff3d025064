/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * hooks_fixture.h: what the tests of the BPF programs share. A test is a program of rows; each says what it expected
 * and saw. It plays all parts itself: gateway, agent and backend are sockets of one process, which steps into the
 * gateway's cgroup to make G (a socket belongs to the cgroup that its creator was in).
 *
 * Network namespace, mounts and cgroups are the program's own and gone at its end, even when it crashes. Status 0, 1,
 * or 77 where it cannot run; the last line counts.
 */
#ifndef POSTERN_TESTS_HOOKS_FIXTURE_H
#define POSTERN_TESTS_HOOKS_FIXTURE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "datapath/gateway.h"
#include "datapath/hooks.h"
#include "postern/abi.h"

#define PATIENCE_MS   5000 /* for an event that must come; an emulated machine is slow */
#define RETRANSMIT_MS 8000 /* a SYN is sent again after one second, or, if that one is lost, after three */
#define GATEWAY_ID    5
#define LANE_SLOT     3

struct ring_buffer;

struct fixture {
	char cgroup_root[PATH_MAX / 4];
	char gateway_cgroup[PATH_MAX / 2];
	char agent_cgroup[PATH_MAX / 2];
	char bpffs[PATH_MAX / 2]; /* a bpf file system of the program's own, with nothing in it */
	struct hooks *hooks;
	struct gateway *gateway; /* READY after fixture_start() */
	struct gateway_options options;
	struct ring_buffer *ring;

	struct postern_connect_record *connects; /* CONNECT, GONE, CLOSED in the order of arrival */
	size_t connect_count;
	struct postern_syn_record *syns;
	size_t syn_count;

	bool policy_unknown; /* fixture_start() leaves the maps as a new node's are */
	bool row_failed;
	bool row_skipped;
};

struct row {
	const char *name;
	void (*run)(struct fixture *fixture);
};

/* argv may name rows by a part of their names. `prepare` runs once before the rows, with nothing loaded. */
int fixture_main(int argc, char **argv, const struct row *rows, size_t count, void (*prepare)(struct fixture *));
void fixture_skip(struct fixture *fixture, const char *reason);

/* Load (pins below `bpffs`, NULL: none), attach the witness, enrol the gateway and make it READY. Ends the program. */
void fixture_start(struct fixture *fixture, const char *bpffs);
/* As an agent that is killed: closes everything and removes nothing that is pinned. */
void fixture_stop(struct fixture *fixture);

/* Each prints `what`, the expected and the seen value when they differ. */
bool expect_number(struct fixture *fixture, const char *what, long long expected, long long seen);
bool expect_at_least(struct fixture *fixture, const char *what, long long least, long long seen);
bool expect_error(struct fixture *fixture, const char *what, int expected,
                  int seen); /* errno values, printed as text */
bool expect_text(struct fixture *fixture, const char *what, const char *expected, const char *seen);

/* ---- sockets ---- */

void step_into(const char *cgroup);
/* In the gateway's cgroup, non-blocking unless `blocking`. */
int g_socket(struct fixture *fixture, int family);
int g_socket_of(struct fixture *fixture, int family, int type, int protocol);
/* "198.51.100.1", "fd00:99::1" or "::ffff:198.51.100.1" (then an AF_INET6 address). */
socklen_t socket_address(const char *text, uint16_t port, struct sockaddr_storage *address);
int dial(int fd, const char *address, uint16_t port); /* 0 or the errno of connect(), EINPROGRESS among them */
int await_connected(int fd, int milliseconds);        /* 0, or what connect() came to; ETIMEDOUT: nothing yet */
int server(uint16_t port);                            /* listens at all addresses, blocking accept */
int await_accept(int listener, int milliseconds);     /* descriptor or -1 */
uint16_t local_port(int fd);
const char *peer_name(int fd); /* "address port" by getpeername(), or the error; a static buffer */
/* How many bytes came: -1 = none within the time, 0 = end, -2 = reset. */
long await_bytes(int fd, void *buffer, size_t size, int milliseconds);
bool shell(const char *command); /* quiet; true: status 0 */

/* ---- policy ---- */

struct postern_destination_key key_of(const char *address, uint16_t port);
void set_destination(struct fixture *fixture, const char *address, uint16_t port, enum postern_verdict verdict,
                     uint32_t settings_id);
void delete_destination(struct fixture *fixture, const char *address, uint16_t port);
void set_cidr(struct fixture *fixture, const char *cidr, bool present);
void set_config(struct fixture *fixture, bool strict, bool lane);
long long counter(struct fixture *fixture, enum postern_counter counter);
/* Waits until the counter is at least that. Returns what it is. */
long long await_counter(struct fixture *fixture, enum postern_counter counter, long long least, int milliseconds);

/* ---- the worker's part ---- */

void fixture_open_rings(struct fixture *fixture);
void fixture_close_rings(struct fixture *fixture); /* and forget all records */

void forget_records(struct fixture *fixture); /* all that came until now; done before each row */
void read_records(struct fixture *fixture, int milliseconds);
/* Record number `nth` (0 = first) of that type and G's port. NULL: it did not come. */
const struct postern_connect_record *await_record(struct fixture *fixture, enum postern_record_type type, uint16_t port,
                                                  size_t nth, int milliseconds);
const struct postern_syn_record *await_syn(struct fixture *fixture, uint16_t port, size_t nth, int milliseconds);
/* By a raw socket: the SYN again, a RST, an ICMP unreachable. */
void send_syn_again(struct fixture *fixture, const struct postern_syn_record *syn);
void refuse_syn(struct fixture *fixture, const struct postern_syn_record *syn, bool unreachable);
int listener_of(struct fixture *fixture, const struct postern_syn_record *syn);
/* Waits for the records of G's connect, releases it, accepts A. -1: it failed, and that was said. */
int establish(struct fixture *fixture, int g);

#endif
