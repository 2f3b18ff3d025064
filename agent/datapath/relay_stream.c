/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How much has to lie in B before a wake-up is worth it: SO_RCVLOWAT.
 *
 *           STREAM_FROM bytes in reads of a whole record or more
 *   EACH ----------------------------------------------------------> STREAM   LOW_WATER bytes, or tail_timer
 *    ^ ^ \                                                             |
 *    | |  +-- B was reported, and nothing could be read --> PARTIAL    |      one byte more than there is
 *    | +---------------- anything was read ------------------/         |
 *    +------------------ a shorter read, or none ----------------------+
 *
 * STREAM: each wake-up takes many records (at best one without it, on 6.1: the dearest part of a download there), and
 * what the kernel will not announce, because less than LOW_WATER follows, is read by the timer. The timer runs while B
 * is read only: blocked on A, nothing waits for it.
 *
 * PARTIAL: 6.1 reports a kTLS socket that holds a part of a record, whoever asks (tcp_poll() looks at the bytes, not at
 * records): a backend that stops in mid-record would keep the worker busy for as long as it likes. Measured: 10 of 10
 * waits end at once; none with this. Later kernels do not, and then nothing is set here.
 */
#include "datapath/relay_internal.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/log.h"

#define FULL_READ   (16u << 10) /* one record of the largest size */
#define STREAM_FROM (256u << 10)
#define LOW_WATER   (128 << 10) /* the kernel makes it fit the receive buffer */
/* With the 50 us by which the kernel may be late, 1 ms. */
#define TAIL_NS UINT64_C(930000)
/* PARTIAL does not hang on the announcement alone. */
#define PARTIAL_NS UINT64_C(50000000)

static void set_low_water(struct relay *relay, int size)
{
	if (relay->low_water == size)
		return;
	if (relay->worker->io->setsockopt(relay->b_fd, SOL_SOCKET, SO_RCVLOWAT, &size, sizeof(size)) == -1) {
		log_debug("SO_RCVLOWAT refused", "error=\"%s\"", strerror(errno));
		return;
	}
	relay->low_water = size;
}

void relay_stream_watch(struct relay *relay)
{
	struct loop *loop = relay->worker->loop;

	if (relay->low_water <= 1 || relay->receive != RECEIVE_FLOWING)
		loop_timer_cancel(loop, &relay->tail_timer);
	else if (loop_timer_set(loop, &relay->tail_timer, relay->low_water == LOW_WATER ? TAIL_NS : PARTIAL_NS))
		relay_fail(relay, REASON_NO_MEMORY, "no timer");
}

void relay_stream_read(struct relay *relay, size_t size)
{
	if (size < FULL_READ)
		relay->streamed = 0;
	else if (relay->streamed < STREAM_FROM)
		relay->streamed += (uint32_t)size;
	set_low_water(relay, relay->streamed >= STREAM_FROM ? LOW_WATER : 1);
	relay_stream_watch(relay);
}

void relay_stream_starved(struct relay *relay)
{
	int size = 0;

	/* A failure leaves size at 0, and the socket reported as it was. */
	if (relay->to_gateway.mode == RELAY_KTLS_COPY)
		(void)relay->worker->io->input_size(relay->b_fd, &size);
	relay->streamed = 0;
	if (size > 0 && size < INT_MAX) {
		/* It was reported with less: whatever was set is not. */
		relay->low_water = 0;
		set_low_water(relay, size + 1);
	} else {
		set_low_water(relay, 1);
	}
	relay_stream_watch(relay);
}
