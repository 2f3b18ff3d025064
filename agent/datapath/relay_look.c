/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Looking for what epoll does not tell. A kernel that can rekey (6.14 and later) reports no EPOLLIN once it has
 * decrypted a KeyUpdate (tls_sk_poll(), key_update_pending), and recvmsg() decrypts ahead: it may bring data, and have
 * put aside the KeyUpdate that ended it. Nobody would ever be told. So what recvmsg() joined is looked behind:
 *
 *   behind a small message  RELAY_LOOK_ALL_NS after it at the latest, by one timer of the worker for all its
 *                           connections. At once would be one more recvmsg() behind each answer, and a request is small
 *   in a stream             LOOK_STREAM_NS after a read at the latest, unless another read comes anyway
 * (relay_stream.c)
 *
 * A KeyUpdate may so be late, and with it what follows it; the backend sends one in 2^24.5 records or so.
 */
#include "datapath/relay_internal.h"

#include "base/cleanup.h"

#define SMALL_MESSAGE  (16u << 10)
#define LOOKS_MAX      2
#define LOOK_STREAM_NS UINT64_C(5000000)
/* Of a worker's connections so many at once, that none of them waits long for the others. */
#define LOOK_SLICE    64
#define LOOK_SLICE_NS UINT64_C(1000000)

static void set_timer(struct relay *relay, struct loop_timer *timer, uint64_t delay_ns)
{
	if (timer->due_ns)
		return;
	if (loop_timer_set(relay->worker->loop, timer, delay_ns))
		relay_fail(relay, REASON_NO_MEMORY, "no timer");
}

static void leave_all(struct relay *relay)
{
	if (!relay->look_link)
		return;
	*relay->look_link = relay->look_next;
	if (relay->look_next)
		relay->look_next->look_link = relay->look_link;
	else
		relay->worker->looks_end = relay->look_link;
	relay->look_link = NULL;
}

static void on_look_at_all(struct loop_timer *timer)
{
	struct relay_worker *worker = container_of(timer, struct relay_worker, look_timer);

	for (int i = 0; i < LOOK_SLICE && worker->looks; i++) {
		struct relay *relay = worker->looks;

		leave_all(relay);
		relay_look(relay);
		relay_ask_for_events(relay);
	}
	if (worker->looks)
		set_timer(worker->looks, timer, LOOK_SLICE_NS);
}

static void join_all(struct relay *relay)
{
	struct relay_worker *worker = relay->worker;

	if (relay->look_link)
		return;
	relay->look_next = NULL;
	relay->look_link = worker->looks_end;
	*relay->look_link = relay;
	worker->looks_end = &relay->look_next;
	worker->look_timer.on_expire = on_look_at_all;
	set_timer(relay, &worker->look_timer, RELAY_LOOK_ALL_NS);
}

void relay_look_later(struct relay *relay)
{
	if (!relay->hides_key_update || relay->joined == -1 || !relay_receive_reads(relay))
		return;
	if (relay->joined < SMALL_MESSAGE)
		join_all(relay);
	else if (!relay->tail_timer.due_ns)
		set_timer(relay, &relay->look_timer, LOOK_STREAM_NS);
}

void relay_look(struct relay *relay)
{
	for (int i = 0; i < LOOKS_MAX && !relay->ended && relay_receive_reads(relay); i++) {
		if (!relay_receive_step(relay) || relay->joined == -1)
			return;
	}
	if (!relay->ended && relay_receive_reads(relay))
		set_timer(relay, &relay->look_timer, LOOK_STREAM_NS);
}

void relay_look_forget(struct relay *relay)
{
	leave_all(relay);
	loop_timer_cancel(relay->worker->loop, &relay->look_timer);
}
