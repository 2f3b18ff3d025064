/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How much G has to send before a wake-up is worth it. (relay_stream.c is the other direction, whose records set the
 * measure.)
 *
 *           RUNNING bytes within RUNNING_NS, in several reads
 *   EACH ----------------------------------------------------------> GATHER   TARGET bytes a wake-up, or gather_timer
 *    ^                                                                 |
 *    +-- a read shorter than SHORT, nothing to read, B blocked, -------+
 *        or (in the lane) messages that passed it
 *
 * A gateway that writes in small pieces wakes the worker for each of them, and on loopback that costs both sides more
 * than moving the bytes does (4 KB pieces, 6.18: three quarters of all CPU time). In GATHER the worker looks when about
 * TARGET bytes should be there at the pace of the stream so far, and after GATHER_MAX_NS at the latest:
 *
 *   TCP        SO_RCVLOWAT of A, so that a faster stream, or a receive buffer that is full, is announced at once;
 *              the timer reads what the kernel will not announce, after twice the time that TARGET bytes take.
 *   the lane   SO_RCVLOWAT does not count what is redirected, and each message would be announced: A's EPOLLIN is not
 *              asked for, and only the timer reads. What a window holds is far above TARGET. Where messages go by TCP
 *              instead (large ones, or the window is full) its receive buffer might be less: then back to EACH.
 *
 * FIN and a reset of G come as EPOLLHUP in either case, or with the timer.
 */
#include "datapath/relay_internal.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"

#define RUNNING       (64u << 10)
#define RUNNING_NS    UINT64_C(1000000)
#define TARGET        (128 << 10) /* the kernel makes it fit the receive buffer */
#define SHORT         (16u << 10)
#define GATHER_MIN_NS UINT64_C(50000) /* by so much a timer of the kernel may be late */

static bool set_low_water(struct relay *relay, int size)
{
	if (relay->worker->io->setsockopt(relay->a_fd, SOL_SOCKET, SO_RCVLOWAT, &size, sizeof(size)) == 0)
		return true;
	log_debug("SO_RCVLOWAT refused", "error=\"%s\"", strerror(errno));
	return false;
}

static uint64_t bounded(const struct relay *relay, uint64_t delay_ns)
{
	uint64_t most = relay->worker->timeouts.gather_ns;

	if (delay_ns < GATHER_MIN_NS)
		delay_ns = GATHER_MIN_NS;
	return delay_ns < most ? delay_ns : most;
}

/* How long TARGET bytes take. */
static uint64_t pace(const struct relay *relay, uint64_t elapsed_ns, size_t size)
{
	return bounded(relay, elapsed_ns * TARGET / size);
}

static void set_timer(struct relay *relay)
{
	const struct relay_gathering *gathering = &relay->gathering;
	uint64_t delay = gathering->in_lane ? gathering->delay_ns : bounded(relay, 2 * gathering->delay_ns);

	if (loop_timer_set(relay->worker->loop, &relay->gather_timer, delay))
		relay_fail(relay, REASON_NO_MEMORY, "no timer");
}

void relay_gather_stop(struct relay *relay)
{
	struct relay_gathering *gathering = &relay->gathering;

	gathering->size = 0;
	gathering->since_ns = 0;
	if (gathering->state == GATHER_EACH || relay->ended)
		return;
	gathering->state = GATHER_EACH;
	loop_timer_cancel(relay->worker->loop, &relay->gather_timer);
	if (!gathering->in_lane)
		(void)set_low_water(relay, 1);
}

static void begin(struct relay *relay, uint64_t now)
{
	struct relay_gathering *gathering = &relay->gathering;

	gathering->in_lane = relay->lane_slot != NULL;
	if (!gathering->in_lane && !set_low_water(relay, TARGET))
		return;
	gathering->delay_ns = pace(relay, now - gathering->since_ns, gathering->size);
	gathering->since_ns = now;
	gathering->state = GATHER_GATHERING;
	set_timer(relay);
}

/* Since the last look; the first one counts what passed before. */
static bool some_passed(struct relay *relay)
{
	uint64_t passed = __atomic_load_n(&relay->lane_slot->passed, __ATOMIC_RELAXED);
	bool some = passed != relay->gathering.passed;

	relay->gathering.passed = passed;
	return some;
}

static void read_each(struct relay *relay, size_t size, uint64_t now)
{
	struct relay_gathering *gathering = &relay->gathering;

	/*
	 * What the first read brought was sent before: the pace is that of what follows. Where single reads bring as
	 * much, nothing is to be gained.
	 */
	if (gathering->since_ns == 0 || now - gathering->since_ns > RUNNING_NS || size >= RUNNING) {
		gathering->since_ns = now;
		gathering->size = 0;
		return;
	}
	gathering->size += size;
	if (gathering->size >= RUNNING)
		begin(relay, now);
}

static void read_gathered(struct relay *relay, size_t size, uint64_t now)
{
	struct relay_gathering *gathering = &relay->gathering;

	if (size < SHORT || gathering->in_lane != (relay->lane_slot != NULL)) {
		relay_gather_stop(relay);
		return;
	}
	/* Half of what was, half of what is. */
	gathering->delay_ns = (gathering->delay_ns + pace(relay, now - gathering->since_ns, size)) / 2;
	gathering->since_ns = now;
	set_timer(relay);
}

void relay_gather_read(struct relay *relay, size_t size)
{
	uint64_t now = loop_now_ns(relay->worker->loop);

	if (relay->worker->timeouts.gather_ns == 0)
		return;
	if (!relay_transmit_reads(relay) || (relay->lane_slot && some_passed(relay))) {
		relay_gather_stop(relay);
		return;
	}
	if (relay->gathering.state == GATHER_EACH)
		read_each(relay, size, now);
	else
		read_gathered(relay, size, now);
}

bool relay_gather_awaits_event(const struct relay *relay)
{
	return relay->gathering.state == GATHER_EACH || !relay->gathering.in_lane;
}

int relay_gather_low_water(const struct relay *relay)
{
	return relay->gathering.state == GATHER_GATHERING && !relay->gathering.in_lane ? TARGET : 1;
}
