// SPDX-License-Identifier: GPL-2.0-only
/*
 * test_first_bytes.c: what a gateway sends in the instant in which its connect() succeeds arrives (bpf/await_peer.h).
 * The gateway is a process that sleeps never; this one plays the worker. It takes two CPUs to see the fault.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "hooks_fixture.h"

#define TARGET_V4 "198.51.100.10"
#define TARGET_V6 "fd00:99::10"
#define AT_ONCE   16
#define PLACES    (4 * AT_ONCE) /* of A: G's next connect may come before its last end */
#define STUCK_NS  UINT64_C(10000000000)

struct tally { /* shared with the gateway's process */
	size_t wanted, done, refused, reset, other;
	int error; /* the last of them */
};

struct call {
	int fd;
	bool sent;
};

static void prepare(struct fixture *fixture)
{
	fixture_start(fixture, NULL);
	set_destination(fixture, TARGET_V4, 443, POSTERN_VERDICT_TLS, 1);
	set_destination(fixture, TARGET_V6, 443, POSTERN_VERDICT_TLS, 1);
}

/* ---- the gateway ---- */

static void begin(struct fixture *fixture, int epoll, struct call *call, const char *address, struct tally *tally)
{
	struct epoll_event event = {.events = EPOLLOUT, .data.ptr = call};

	call->fd = g_socket(fixture, strchr(address, ':') ? AF_INET6 : AF_INET);
	call->sent = false;
	if (dial(call->fd, address, 443) != EINPROGRESS || epoll_ctl(epoll, EPOLL_CTL_ADD, call->fd, &event) == -1)
		tally->other++;
}

static void note(struct tally *tally, int error)
{
	tally->error = error;
	if (error == ECONNRESET || error == EPIPE)
		tally->reset++;
	else if (error == ECONNREFUSED)
		tally->refused++;
	else
		tally->other++;
}

/* True: it is over. */
static bool go_on(int epoll, struct call *call, struct tally *tally)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = call};
	char byte = 'b';

	if (!call->sent && send(call->fd, &byte, 1, MSG_NOSIGNAL) == 1) {
		call->sent = true;
		epoll_ctl(epoll, EPOLL_CTL_MOD, call->fd, &event);
		return false;
	}
	if (!call->sent || recv(call->fd, &byte, 1, 0) != 1)
		note(tally, errno);
	tally->done++;
	close(call->fd);
	return true;
}

static void call_all(struct fixture *fixture, const char *address, struct tally *tally)
{
	struct call calls[AT_ONCE];
	struct epoll_event events[AT_ONCE];
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	size_t begun = 0;

	while (begun < AT_ONCE)
		begin(fixture, epoll, &calls[begun++], address, tally);
	while (tally->done < tally->wanted) {
		int count = epoll_wait(epoll, events, AT_ONCE, 0);

		for (int i = 0; i < count; i++) {
			struct call *call = events[i].data.ptr;

			if (go_on(epoll, call, tally) && begun++ < tally->wanted)
				begin(fixture, epoll, call, address, tally);
		}
	}
}

/* ---- the worker ---- */

/* Echoes one byte, and ends after G has. */
static void serve(int a[PLACES])
{
	for (size_t i = 0; i < PLACES; i++) {
		char byte;
		ssize_t size = a[i] < 0 ? -1 : recv(a[i], &byte, 1, MSG_DONTWAIT);

		if (a[i] < 0 || (size == -1 && errno == EAGAIN) ||
		    (size == 1 && send(a[i], &byte, 1, MSG_NOSIGNAL) == 1))
			continue;
		close(a[i]);
		a[i] = -1;
	}
}

/*
 * A gateway that waited for a second, on a machine that does other things, has sent its SYN again; that one's record is
 * read after the connect was completed, and brings no other A.
 */
static bool is_copy(const struct postern_syn_record *syn)
{
	static uint64_t released[UINT16_MAX + 1]; /* by G's port: the ISN, and that there was one */
	uint64_t this = UINT64_C(1) << 32 | syn->header.isn;
	bool copy = released[syn->header.tuple.local_port] == this;

	released[syn->header.tuple.local_port] = this;
	return copy;
}

static void take(struct fixture *fixture, const struct postern_syn_record *syn, int a[PLACES])
{
	size_t i = 0;

	if (is_copy(syn))
		return;
	while (i < PLACES && a[i] >= 0)
		i++;
	if (!expect_number(fixture, "a place for A", true, i < PLACES))
		return;
	send_syn_again(fixture, syn);
	a[i] = await_accept(listener_of(fixture, syn), PATIENCE_MS);
	expect_number(fixture, "A is accepted", true, a[i] >= 0);
}

static void release_all(struct fixture *fixture, const struct tally *tally)
{
	uint64_t moved_ns = monotonic_ns();
	int a[PLACES];
	size_t done = 0;

	memset(a, -1, sizeof(a));
	while (*(volatile const size_t *)&tally->done < tally->wanted && monotonic_ns() - moved_ns < STUCK_NS) {
		read_records(fixture, 0);
		for (size_t i = 0; i < fixture->syn_count; i++)
			take(fixture, &fixture->syns[i], a);
		fixture->syn_count = fixture->connect_count = 0;
		serve(a);
		if (tally->done != done)
			moved_ns = monotonic_ns();
		done = tally->done;
	}
	for (size_t i = 0; i < PLACES; i++)
		if (a[i] >= 0)
			close(a[i]);
}

static void first_bytes(struct fixture *fixture, const char *address)
{
	struct tally *tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t gateway;

	if (tally == MAP_FAILED) {
		expect_error(fixture, "mmap()", 0, errno);
		return;
	}
	tally->wanted = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 12000 : 500;
	gateway = fork();
	if (gateway == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		call_all(fixture, address, tally);
		_exit(0);
	}
	release_all(fixture, tally);
	kill(gateway, SIGKILL);
	waitpid(gateway, NULL, 0);
	expect_number(fixture, "connections that ended", (long long)tally->wanted, (long long)tally->done);
	expect_number(fixture, "reset behind connect()", 0, (long long)tally->reset);
	expect_number(fixture, "refused", 0, (long long)tally->refused);
	expect_number(fixture, "failed otherwise", 0, (long long)tally->other);
	expect_error(fixture, "the last error", 0, tally->error);
	printf("first bytes that waited for TCP to send them again: %lld\n",
	       counter(fixture, POSTERN_COUNT_GUARD_PEER_LATE));
	(void)munmap(tally, sizeof(*tally));
}

static void v4(struct fixture *fixture)
{
	first_bytes(fixture, TARGET_V4);
}

static void v6(struct fixture *fixture)
{
	first_bytes(fixture, TARGET_V6);
}

int main(int argc, char **argv)
{
	static const struct row rows[] = {{"IPv4", v4}, {"IPv6", v6}};

	return fixture_main(argc, argv, rows, ARRAY_SIZE(rows), prepare);
}
