/* SPDX-License-Identifier: GPL-2.0-only */
#include "base/trace.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "base/sorted.h"

struct reader {
	uint64_t number; /* 0: free */
	uint64_t until_ns;
	uint64_t lost;      /* of trace.lost: what it was told */
	uint64_t unwatched; /* of trace.unwatched, and of the programs' count, at its last look */
	uint64_t counted;
	struct trace_filter filter;
};

struct trace {
	_Atomic uint64_t active_until_ns; /* the latest of the readers'; 0: nobody looked ever */
	_Atomic uint64_t unwatched;       /* events of the agent that no reader got, but for its staying away */
	uint64_t look_ns;
	pthread_mutex_t lock; /* recursive: trace_programs.read() adds, too */
	uint64_t last;        /* number of the newest event */
	uint64_t lost;        /* by trace_lost() */
	uint64_t losses[TRACE_LOSSES];
	struct reader readers[TRACE_READERS];
	struct trace_event ring[TRACE_KEPT];
};

const char *trace_kind_name(enum trace_kind kind)
{
	static const char *const names[TRACE_KINDS] = {
	        [TRACE_CONNECT] = "connect",     [TRACE_DIAL] = "dial",   [TRACE_HANDSHAKE] = "handshake",
	        [TRACE_OPEN] = "open",           [TRACE_CLOSE] = "close", [TRACE_FAIL] = "fail",
	        [TRACE_INTERCEPT] = "intercept", [TRACE_SYN] = "syn",     [TRACE_GUARD] = "guard",
	        [TRACE_WITNESS] = "witness",
	};

	return (unsigned int)kind < TRACE_KINDS ? names[kind] : "unknown";
}

const char *trace_loss_name(enum trace_loss loss)
{
	static const char *const names[TRACE_LOSSES] = {
	        [TRACE_LOST_RING] = "ring",
	        [TRACE_LOST_OVERWRITTEN] = "overwritten",
	        [TRACE_LOST_AWAY] = "away",
	};

	return (unsigned int)loss < TRACE_LOSSES ? names[loss] : "unknown";
}

struct trace *trace_new(uint64_t look_ns)
{
	struct trace *trace = calloc(1, sizeof(*trace));
	pthread_mutexattr_t recursive;

	if (!trace)
		return NULL;
	pthread_mutexattr_init(&recursive);
	pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&trace->lock, &recursive);
	pthread_mutexattr_destroy(&recursive);
	trace->look_ns = look_ns;
	return trace;
}

void trace_free(struct trace *trace)
{
	if (!trace)
		return;
	pthread_mutex_destroy(&trace->lock);
	free(trace);
}

static void count_unwatched(struct trace *trace)
{
	atomic_fetch_add_explicit(&trace->unwatched, 1, memory_order_relaxed);
}

bool trace_active(struct trace *trace)
{
	uint64_t until = trace ? atomic_load_explicit(&trace->active_until_ns, memory_order_relaxed) : 0;

	if (!until)
		return false;
	if (monotonic_ns() < until)
		return true;
	count_unwatched(trace);
	return false;
}

static bool address_is_any(const struct postern_address *address)
{
	static const struct postern_address any;

	return memcmp(address, &any, sizeof(any)) == 0;
}

bool trace_gateway_fits(const struct trace_filter *filter, const char *name)
{
	const char *slash = strrchr(name, '/');

	return !filter->gateway[0] || strcmp(filter->gateway, name) == 0 ||
	       (slash && strcmp(filter->gateway, slash + 1) == 0);
}

static bool fits(const struct trace_filter *filter, const struct trace_event *event)
{
	return trace_gateway_fits(filter, event->gateway) &&
	       (!filter->verdicts || event->verdict == TRACE_NO_VERDICT ||
	        filter->verdicts >> (event->verdict & 31) & 1) &&
	       (!filter->port || filter->port == event->destination.port) &&
	       (address_is_any(&filter->address) ||
	        memcmp(&filter->address, &event->destination.address, sizeof(filter->address)) == 0);
}

/* By who looks, or by who stayed away. */
static bool is_wanted(const struct trace *trace, const struct trace_event *event, uint64_t now, bool away)
{
	for (size_t i = 0; i < TRACE_READERS; i++) {
		const struct reader *reader = &trace->readers[i];

		if (reader->number && (reader->until_ns <= now) == away && fits(&reader->filter, event))
			return true;
	}
	return false;
}

void trace_add(struct trace *trace, const struct trace_event *event)
{
	uint64_t now = monotonic_ns();

	pthread_mutex_lock(&trace->lock);
	if (is_wanted(trace, event, now, false)) {
		struct trace_event *kept = &trace->ring[++trace->last % TRACE_KEPT];

		*kept = *event;
		kept->number = trace->last;
		if (kept->time.tv_sec == 0)
			clock_gettime(CLOCK_REALTIME, &kept->time);
	} else if (event->counter == TRACE_NO_COUNTER && is_wanted(trace, event, now, true)) {
		count_unwatched(trace); /* what the programs tell they count themselves */
	}
	pthread_mutex_unlock(&trace->lock);
}

/* Its own place, or one of a reader that is gone. */
static struct reader *place_of(struct trace *trace, uint64_t number, uint64_t now)
{
	struct reader *free_place = NULL;

	for (size_t i = 0; i < TRACE_READERS; i++) {
		struct reader *reader = &trace->readers[i];

		if (reader->number == number)
			return reader;
		if (!reader->number || reader->until_ns <= now)
			free_place = reader;
	}
	return free_place;
}

static void copy(struct trace *trace, const struct trace_filter *filter, uint64_t after, struct trace_event *events,
                 size_t size, struct trace_answer *answer)
{
	uint64_t oldest = trace->last >= TRACE_KEPT ? trace->last - TRACE_KEPT + 1 : 1;
	uint64_t number = after + 1;

	if (number < oldest) {
		answer->lost += oldest - number;
		trace->losses[TRACE_LOST_OVERWRITTEN] += oldest - number;
		number = oldest;
	}
	for (; number <= trace->last && answer->count < size; number++) {
		const struct trace_event *event = &trace->ring[number % TRACE_KEPT];

		if (fits(filter, event))
			events[answer->count++] = *event;
	}
	answer->last = number - 1;
}

/* What the programs and the agent counted since its last look, without what it has now or is told of otherwise. */
static void count_absence(struct trace *trace, const struct reader *reader, uint64_t counted,
                          const struct trace_event *events, struct trace_answer *answer)
{
	uint64_t of_programs = counted > reader->counted ? counted - reader->counted : 0;
	uint64_t had = answer->lost;
	uint64_t away = atomic_load_explicit(&trace->unwatched, memory_order_relaxed) - reader->unwatched;

	for (size_t i = 0; i < answer->count; i++)
		had += events[i].counter != TRACE_NO_COUNTER;
	away += of_programs > had ? of_programs - had : 0;
	answer->lost += away;
	trace->losses[TRACE_LOST_AWAY] += away;
}

/* What the programs tell comes by another way than what the workers do. */
static int compare_times(const void *left, const void *right)
{
	const struct trace_event *a = left, *b = right;

	if (a->time.tv_sec != b->time.tv_sec)
		return a->time.tv_sec < b->time.tv_sec ? -1 : 1;
	if (a->time.tv_nsec != b->time.tv_nsec)
		return a->time.tv_nsec < b->time.tv_nsec ? -1 : 1;
	return a->number < b->number ? -1 : a->number > b->number;
}

int trace_look(struct trace *trace, uint64_t reader, const struct trace_filter *filter, uint64_t after,
               const struct trace_programs *programs, struct trace_event *events, size_t size,
               struct trace_answer *answer)
{
	uint64_t counted, now;
	struct reader *place;

	*answer = (struct trace_answer){.last = after};
	pthread_mutex_lock(&trace->lock);
	counted = programs->read(programs->context);
	now = monotonic_ns();
	place = place_of(trace, reader, now);
	if (!place) {
		pthread_mutex_unlock(&trace->lock);
		return -ENOSPC;
	}
	answer->known = place->number == reader;
	if (!answer->known || after > trace->last) { /* what others looked at is not its business */
		answer->last = trace->last;
	} else {
		answer->lost = trace->lost - place->lost;
		trace->losses[TRACE_LOST_RING] += answer->lost;
		copy(trace, filter, after, events, size, answer);
		if (place->until_ns <= now) {
			answer->away_ns = now - place->until_ns + 1;
			count_absence(trace, place, counted, events, answer);
		}
	}
	*place = (struct reader){
	        .number = reader,
	        .until_ns = now + trace->look_ns,
	        .lost = trace->lost,
	        .unwatched = atomic_load_explicit(&trace->unwatched, memory_order_relaxed),
	        .counted = counted,
	        .filter = *filter,
	};
	atomic_store_explicit(&trace->active_until_ns, place->until_ns, memory_order_relaxed);
	pthread_mutex_unlock(&trace->lock);
	sort_list(events, answer->count, sizeof(*events), compare_times);
	return 0;
}

/* What both want is kept; of what they differ in, anything. */
static void widen(struct trace_filter *filter, const struct trace_filter *other)
{
	if (strcmp(filter->gateway, other->gateway) != 0)
		filter->gateway[0] = '\0';
	if (memcmp(&filter->address, &other->address, sizeof(filter->address)) != 0)
		memset(&filter->address, 0, sizeof(filter->address));
	if (filter->port != other->port)
		filter->port = 0;
	filter->verdicts = filter->verdicts && other->verdicts ? filter->verdicts | other->verdicts : 0;
}

bool trace_wanted(struct trace *trace, struct trace_filter *filter, uint64_t *until_ns)
{
	uint64_t now = monotonic_ns();
	bool any = false;

	*until_ns = 0;
	pthread_mutex_lock(&trace->lock);
	for (size_t i = 0; i < TRACE_READERS; i++) {
		const struct reader *reader = &trace->readers[i];

		if (!reader->number || reader->until_ns <= now)
			continue;
		if (any)
			widen(filter, &reader->filter);
		else
			*filter = reader->filter;
		*until_ns = reader->until_ns > *until_ns ? reader->until_ns : *until_ns;
		any = true;
	}
	pthread_mutex_unlock(&trace->lock);
	return any;
}

void trace_lost(struct trace *trace, uint64_t count)
{
	pthread_mutex_lock(&trace->lock);
	trace->lost += count;
	pthread_mutex_unlock(&trace->lock);
}

void trace_losses(struct trace *trace, uint64_t losses[static TRACE_LOSSES])
{
	pthread_mutex_lock(&trace->lock);
	memcpy(losses, trace->losses, sizeof(trace->losses));
	pthread_mutex_unlock(&trace->lock);
}
