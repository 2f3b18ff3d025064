/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/shadow.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/loop.h"
#include "datapath/context_table.h"
#include "datapath/dial_reason.h"
#include "datapath/gateway.h"
#include "datapath/hooks.h"
#include "policy/client_certificate.h"
#include "policy/gateway_identity.h"
#include "policy/snapshot.h"
#include "tls/context.h"

#define QUEUE_MAX   32
#define RESULTS_MAX 4096 /* as many as would_map has entries */
#define BUCKETS     1024 /* a power of two */
#define PAUSE_MS    100
#define TRIES_KEPT  16
#define LAST_WORD   1000000000ull /* ns after the handshake, for a backend that does not like the client certificate */

/* It owns all that it needs: gateway and snapshot may be gone before it is done. */
struct job {
	struct job *next;
	uint64_t ticket; /* 0: nobody waits for it */
	bool identity_unusable;
	uint32_t gateway_id;  /* 0: it is gone; under the lock */
	uint32_t enrolled_id; /* what it was when this was asked */
	struct postern_destination_key key;
	int netns_fd, agent_netns_fd;
	struct snapshot *snapshot;
	const struct tls_settings *settings; /* of the snapshot */
	struct tls_context *context;
	struct client_certificate *certificate; /* NULL: none is shown */
};

struct entry {
	struct entry *next;
	uint32_t gateway_id;
	struct postern_destination_key key;
	struct shadow_result result;
};

struct shadow {
	struct shadow_options options;
	pthread_t thread;
	bool thread_runs;
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t changed;
	bool stop;
	struct job *head, *tail;
	size_t queued;
	struct job *current;
	uint64_t last_ticket;
	struct {
		uint64_t ticket;
		bool done;
		struct shadow_report report;
	} tries[TRIES_KEPT];
	struct entry *buckets[BUCKETS];
	size_t results;
};

/* ---- results ---- */

static size_t bucket_of(uint32_t gateway_id, const struct postern_destination_key *key)
{
	uint32_t hash = 2166136261u ^ gateway_id;

	for (size_t i = 0; i < sizeof(key->address.byte); i++)
		hash = (hash ^ key->address.byte[i]) * 16777619u;
	hash = (hash ^ key->port) * 16777619u;
	return hash & (BUCKETS - 1);
}

static bool is_of(uint32_t left_id, const struct postern_destination_key *left, uint32_t id,
                  const struct postern_destination_key *key)
{
	return left_id == id && left->port == key->port && address_equal(&left->address, &key->address);
}

static struct entry *find(struct shadow *shadow, uint32_t gateway_id, const struct postern_destination_key *key)
{
	struct entry *entry = shadow->buckets[bucket_of(gateway_id, key)];

	while (entry && !is_of(entry->gateway_id, &entry->key, gateway_id, key))
		entry = entry->next;
	return entry;
}

static void keep(struct shadow *shadow, const struct job *job, const struct shadow_result *result)
{
	struct entry *entry = find(shadow, job->gateway_id, &job->key);
	size_t bucket = bucket_of(job->gateway_id, &job->key);

	if (!entry) {
		entry = shadow->results < RESULTS_MAX ? calloc(1, sizeof(*entry)) : NULL;
		if (!entry)
			return; /* it is tried again, and may find room then */
		entry->gateway_id = job->gateway_id;
		entry->key = job->key;
		entry->next = shadow->buckets[bucket];
		shadow->buckets[bucket] = entry;
		shadow->results++;
	}
	entry->result = *result;
}

/* gateway_id 0: every one's. */
static void forget(struct shadow *shadow, uint32_t gateway_id)
{
	for (size_t i = 0; i < BUCKETS; i++) {
		for (struct entry **place = &shadow->buckets[i]; *place;) {
			struct entry *entry = *place;

			if (gateway_id && entry->gateway_id != gateway_id) {
				place = &entry->next;
				continue;
			}
			*place = entry->next;
			free(entry);
			shadow->results--;
		}
	}
}

static void answer(struct shadow *shadow, uint64_t ticket, const struct shadow_report *report)
{
	size_t place = ticket % TRIES_KEPT;

	if (shadow->tries[place].ticket != ticket)
		return; /* nobody came for it, and others have asked since */
	shadow->tries[place].done = true;
	shadow->tries[place].report = *report;
}

int shadow_report(struct shadow *shadow, uint64_t ticket, struct shadow_report *report)
{
	size_t place = ticket % TRIES_KEPT;
	int error = 0;

	pthread_mutex_lock(&shadow->lock);
	if (ticket == 0 || shadow->tries[place].ticket != ticket)
		error = -ENOENT;
	else if (!shadow->tries[place].done)
		error = -EAGAIN;
	else
		*report = shadow->tries[place].report;
	pthread_mutex_unlock(&shadow->lock);
	return error;
}

bool shadow_find(struct shadow *shadow, uint32_t gateway_id, const struct postern_destination_key *key,
                 struct shadow_result *result)
{
	const struct entry *entry;

	pthread_mutex_lock(&shadow->lock);
	entry = find(shadow, gateway_id, key);
	if (entry)
		*result = entry->result;
	pthread_mutex_unlock(&shadow->lock);
	return entry != NULL;
}

/* ---- one handshake ---- */

static void free_job(struct job *job)
{
	if (!job)
		return;
	if (job->netns_fd >= 0)
		close(job->netns_fd);
	if (job->agent_netns_fd >= 0)
		close(job->agent_netns_fd);
	client_certificate_unref(job->certificate);
	tls_context_unref(job->context);
	snapshot_unref(job->snapshot);
	free(job);
}

static void fail(struct shadow_result *result, enum postern_reason reason, const char *what, int error)
{
	result->reason = reason;
	snprintf(result->detail, sizeof(result->detail), "%s%s%s", what, error ? ": " : "",
	         error ? strerror(error) : "");
}

/* 0; ETIMEDOUT when the limit has passed; or an errno. */
static int wait_for(int fd, short events, uint64_t until_ns)
{
	uint64_t now = monotonic_ns();
	struct pollfd poll_fd = {.fd = fd, .events = events};
	int count;

	if (now >= until_ns)
		return ETIMEDOUT;
	count = poll(&poll_fd, 1, (int)((until_ns - now) / 1000000) + 1);
	if (count == -1)
		return errno == EINTR ? 0 : errno;
	return count ? 0 : ETIMEDOUT;
}

/* Connected, or -1 with the result. The witness looks at it as at any B. */
static int dial(const struct shadow *shadow, const struct job *job, struct shadow_result *result)
{
	const struct gateway where = {.netns_fd = job->netns_fd, .agent_netns_fd = job->agent_netns_fd};
	const struct postern_backend_socket witnessed = {
	        .destination = job->key,
	        .phase = POSTERN_B_HANDSHAKE,
	        .gateway_id = job->enrolled_id,
	};
	const struct linger reset = {.l_onoff = 1, .l_linger = 0};
	bool v4 = address_is_v4(&job->key.address);
	struct sockaddr_storage address;
	socklen_t length = address_to_sockaddr(&job->key.address, ntohs(job->key.port), &address);
	_cleanup_close_ int fd = gateway_socket(&where, v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK,
	                                        IPPROTO_TCP);
	int error = 0;
	socklen_t size = sizeof(error);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) == -1 ||
	    hooks_set_backend(shadow->options.hooks, fd, &witnessed) != 0) {
		fail(result, REASON_INTERNAL, "the socket could not be made", 0);
		return -1;
	}
	if (connect(fd, (const struct sockaddr *)&address, length) == -1)
		error = errno;
	if (error == EINPROGRESS) {
		error = wait_for(fd, POLLOUT, monotonic_ns() + shadow->options.dial_limit_ns);
		if (!error && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == -1)
			error = errno;
	}
	if (error) {
		fail(result, dial_reason(error), "connect", error);
		return -1;
	}
	return TAKE_FD(fd);
}

/* A backend that is content says nothing, or sends tickets; one that is not, an alert. */
static void hear_last_word(struct tls_session *session, int fd, struct shadow_result *result)
{
	uint64_t until = monotonic_ns() + LAST_WORD;
	char byte;

	for (;;) {
		ssize_t got = tls_session_read(session, &byte, sizeof(byte));

		if (got >= 0)
			return;
		if (got != -EAGAIN) {
			fail(result, tls_session_reason(session), tls_session_detail(session), 0);
			return;
		}
		if (wait_for(fd, POLLIN, until) != 0)
			return;
	}
}

static void describe(const struct tls_session_info *info, struct shadow_report *report)
{
	report->handshake_done = true;
	report->version = info->version;
	snprintf(report->cipher, sizeof(report->cipher), "%s", info->cipher_name);
	snprintf(report->alpn, sizeof(report->alpn), "%s", info->alpn);
}

static void handshake(const struct shadow *shadow, const struct job *job, struct tls_session *session, int fd,
                      struct shadow_report *report)
{
	struct shadow_result *result = &report->result;
	uint64_t until = monotonic_ns() + shadow->options.handshake_limit_ns;

	for (;;) {
		enum tls_step step = tls_session_handshake(session);
		struct tls_session_info info;
		int error;

		if (step == TLS_STEP_FAILED) {
			fail(result, tls_session_reason(session), tls_session_detail(session), 0);
			return;
		}
		if (step == TLS_STEP_DONE) {
			const struct linger in_order = {0};

			tls_session_info(session, &info);
			describe(&info, report);
			snprintf(result->detail, sizeof(result->detail), "%s", info.peer_identity);
			if (job->ticket)
				hear_last_word(session, fd, result);
			(void)tls_session_shutdown(session);
			(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &in_order, sizeof(in_order));
			return;
		}
		error = wait_for(fd, step == TLS_STEP_WANT_READ ? POLLIN : POLLOUT, until);
		if (error) {
			fail(result, error == ETIMEDOUT ? REASON_HANDSHAKE_TIMEOUT : REASON_INTERNAL, "handshake",
			     error);
			return;
		}
	}
}

static void try_job(const struct shadow *shadow, struct job *job, struct shadow_report *report)
{
	struct shadow_result *result = &report->result;
	/* What the backend shows now is what is asked for: a resumed session would show nothing. */
	const struct tls_session_owner owner = {
	        .backend = job->key, .client_certificate = job->certificate, .anew = true};
	struct tls_session *session = NULL;
	_cleanup_close_ int fd = -1;

	*report = (struct shadow_report){
	        .result.settings_id = job->settings->id,
	        .client_certificate = job->certificate != NULL,
	};
	if (job->identity_unusable) {
		fail(result, REASON_CLIENT_CERTIFICATE_UNUSABLE, "the Gateway's client certificate", 0);
		return;
	}
	/* Made by whoever needs it first. It goes with its settings, and then there is nothing to try. */
	job->context = context_table_get(shadow->options.contexts, job->settings->id);
	if (!job->context) {
		fail(result, REASON_POLICY_CHANGED, "its settings are no more", 0);
		return;
	}
	fd = dial(shadow, job, result);
	if (fd < 0)
		return;
	if (tls_session_new(job->context, fd, &owner, &session) != 0) {
		fail(result, REASON_NO_MEMORY, "TLS session", 0);
		return;
	}
	handshake(shadow, job, session, fd, report);
	tls_session_free(session);
}

/* ---- the thread ---- */

static struct job *next_job(struct shadow *shadow)
{
	struct job *job;

	pthread_mutex_lock(&shadow->lock);
	while (!shadow->head && !shadow->stop)
		pthread_cond_wait(&shadow->changed, &shadow->lock);
	job = shadow->stop ? NULL : shadow->head;
	if (job) {
		shadow->head = job->next;
		if (!shadow->head)
			shadow->tail = NULL;
		shadow->queued--;
		shadow->current = job;
	}
	pthread_mutex_unlock(&shadow->lock);
	return job;
}

/* True: it is to end. */
static bool rest(struct shadow *shadow)
{
	struct timespec until;
	bool stop;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += PAUSE_MS * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&shadow->lock);
	while (!shadow->stop && pthread_cond_timedwait(&shadow->changed, &shadow->lock, &until) == 0)
		;
	stop = shadow->stop;
	pthread_mutex_unlock(&shadow->lock);
	return stop;
}

static void *run(void *argument)
{
	struct shadow *shadow = argument;
	struct shadow_report report;
	struct job *job;

	while ((job = next_job(shadow))) {
		try_job(shadow, job, &report);
		report.result.at_ns = monotonic_ns();
		pthread_mutex_lock(&shadow->lock);
		/* Its gateway may have gone meanwhile: shadow_forget_gateway() has taken the job's id then. */
		if (job->ticket)
			answer(shadow, job->ticket, &report);
		else if (job->gateway_id)
			keep(shadow, job, &report.result);
		shadow->current = NULL;
		pthread_mutex_unlock(&shadow->lock);
		free_job(job);
		if (rest(shadow))
			break;
	}
	return NULL;
}

int shadow_start(const struct shadow_options *options, struct shadow **result)
{
	struct shadow *shadow = calloc(1, sizeof(*shadow));
	pthread_condattr_t attributes;
	sigset_t all, before;
	int error;

	if (!shadow)
		return -ENOMEM;
	shadow->options = *options;
	pthread_mutex_init(&shadow->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&shadow->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = -pthread_create(&shadow->thread, NULL, run, shadow);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	shadow->thread_runs = error == 0;
	if (error) {
		shadow_stop(shadow);
		return error;
	}
	*result = shadow;
	return 0;
}

void shadow_stop(struct shadow *shadow)
{
	if (!shadow)
		return;
	pthread_mutex_lock(&shadow->lock);
	shadow->stop = true;
	pthread_cond_signal(&shadow->changed);
	pthread_mutex_unlock(&shadow->lock);
	if (shadow->thread_runs)
		pthread_join(shadow->thread, NULL);
	while (shadow->head) {
		struct job *job = shadow->head;

		shadow->head = job->next;
		free_job(job);
	}
	forget(shadow, 0);
	pthread_cond_destroy(&shadow->changed);
	pthread_mutex_destroy(&shadow->lock);
	free(shadow);
}

/* ---- asking ---- */

static struct job *make_job(const struct gateway *gateway, struct snapshot *snapshot,
                            const struct destination *destination, const struct postern_destination_key *key)
{
	const struct gateway_refs *refs = gateway_refs(gateway);
	struct job *job = calloc(1, sizeof(*job));
	struct gateway_identity identity;

	if (!job)
		return NULL;
	job->gateway_id = job->enrolled_id = gateway->id;
	job->key = *key;
	job->agent_netns_fd = -1;
	job->netns_fd = fcntl(gateway->netns_fd, F_DUPFD_CLOEXEC, 0);
	if (gateway->agent_netns_fd >= 0)
		job->agent_netns_fd = fcntl(gateway->agent_netns_fd, F_DUPFD_CLOEXEC, 0);
	job->snapshot = snapshot_ref(snapshot);
	job->settings = snapshot_settings(snapshot, destination->settings_id);
	if (job->netns_fd < 0 || (gateway->agent_netns_fd >= 0 && job->agent_netns_fd < 0) || !job->settings) {
		free_job(job);
		return NULL;
	}
	gateway_identity_find(snapshot, refs->at, refs->count, job->settings, &identity);
	job->identity_unusable = identity.unusable != NULL;
	if (identity.certificate && !identity.unusable)
		job->certificate = client_certificate_ref(identity.certificate);
	return job;
}

static bool is_under_way(const struct shadow *shadow, uint32_t gateway_id, const struct postern_destination_key *key)
{
	if (shadow->current && is_of(shadow->current->gateway_id, &shadow->current->key, gateway_id, key))
		return true;
	for (const struct job *job = shadow->head; job; job = job->next) {
		if (is_of(job->gateway_id, &job->key, gateway_id, key))
			return true;
	}
	return false;
}

bool shadow_ask(struct shadow *shadow, const struct gateway *gateway, struct snapshot *snapshot,
                const struct postern_destination_key *key)
{
	const struct destination *destination = snapshot_find(snapshot, key);
	struct job *job;
	bool full;

	if (!destination || destination->verdict != POSTERN_VERDICT_TLS || gateway->state != GATEWAY_READY)
		return false;
	pthread_mutex_lock(&shadow->lock);
	full = shadow->queued >= QUEUE_MAX || is_under_way(shadow, gateway->id, key);
	pthread_mutex_unlock(&shadow->lock);
	job = full ? NULL : make_job(gateway, snapshot, destination, key);
	if (!job)
		return false;
	pthread_mutex_lock(&shadow->lock);
	if (shadow->tail)
		shadow->tail->next = job;
	else
		shadow->head = job;
	shadow->tail = job;
	shadow->queued++;
	pthread_cond_signal(&shadow->changed);
	pthread_mutex_unlock(&shadow->lock);
	return true;
}

uint64_t shadow_try(struct shadow *shadow, const struct gateway *gateway, struct snapshot *snapshot,
                    const struct postern_destination_key *key)
{
	const struct destination *destination = snapshot_find(snapshot, key);
	uint64_t ticket;
	struct job *job;
	size_t place;

	if (!destination || destination->verdict != POSTERN_VERDICT_TLS || gateway->state != GATEWAY_READY)
		return 0;
	job = make_job(gateway, snapshot, destination, key);
	if (!job)
		return 0;
	pthread_mutex_lock(&shadow->lock);
	ticket = ++shadow->last_ticket;
	place = ticket % TRIES_KEPT;
	job->ticket = ticket;
	if (shadow->queued < QUEUE_MAX + TRIES_KEPT) {
		shadow->tries[place].ticket = ticket;
		shadow->tries[place].done = false;
		job->next = shadow->head; /* somebody waits for this one */
		shadow->head = job;
		shadow->tail = shadow->tail ? shadow->tail : job;
		shadow->queued++;
		pthread_cond_signal(&shadow->changed);
		job = NULL;
	}
	pthread_mutex_unlock(&shadow->lock);
	if (!job)
		return ticket;
	free_job(job);
	return 0;
}

void shadow_forget_gateway(struct shadow *shadow, uint32_t gateway_id)
{
	if (!shadow)
		return;
	pthread_mutex_lock(&shadow->lock);
	/* Those that wait end without a result; each is a handshake at most, and its descriptors go with it. */
	for (struct job *job = shadow->head; job; job = job->next) {
		if (job->gateway_id == gateway_id)
			job->gateway_id = 0;
	}
	if (shadow->current && shadow->current->gateway_id == gateway_id)
		shadow->current->gateway_id = 0;
	forget(shadow, gateway_id);
	pthread_mutex_unlock(&shadow->lock);
}
