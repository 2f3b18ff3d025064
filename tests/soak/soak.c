/* SPDX-License-Identifier: GPL-2.0-only */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "certificates.h"
#include "datapath/relay.h"
#include "soak.h"
#include "tls/context.h"
#include "tls_client.h"
#include "tls_far_end.h"

#define AT_ONCE_MAX 256
#define PROGRESS_NS UINT64_C(5000000000)
#define STUCK_NS    UINT64_C(60000000000)

static const char *const suites_1_2[] = {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
                                         "ECDHE-ECDSA-CHACHA20-POLY1305"};
static const char *const suites_1_3[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                         "TLS_CHACHA20_POLY1305_SHA256"};

struct connection {
	struct soak_plan plan;
	struct soak_end_state end[2];
	struct relay_options options;
	struct relay *relay; /* of the relay's thread, as all that follows until over is set */
	enum postern_reason reason;
	char detail[TLS_DETAIL_MAX];
	struct relay_stats stats;
	atomic_bool over;
	struct connection *next; /* of those that wait to be started */
};

struct soak {
	uint64_t seed;
	uint64_t bytes; /* so many are enough */
	bool only;
	uint64_t first;
	unsigned int at_once; /* of each lane */
	struct tls_context *context;
	SSL_CTX *servers[2][TLS_KERNEL_CIPHERS];
	_Atomic uint64_t next_number;
	_Atomic uint64_t moved[2]; /* plain, TLS: received by both ends */
	_Atomic uint64_t done;
	atomic_bool stop;
	atomic_bool failed;
};

struct lane {
	struct soak *soak;
	struct loop *loop;
	struct relay_worker worker;
	pthread_mutex_t lock;
	struct connection *waiting;
	struct connection *live[AT_ONCE_MAX];
	pthread_t relay_thread;
	pthread_t ends_thread;
};

static void on_end(void *context, enum postern_reason reason, const char *detail)
{
	struct connection *connection = context;

	connection->reason = reason;
	snprintf(connection->detail, sizeof(connection->detail), "%s", detail);
	relay_stats(connection->relay, &connection->stats);
	atomic_store(&connection->over, true);
}

/* The relay's thread. */
static void on_wake(void *context)
{
	struct lane *lane = context;
	struct connection *next;

	pthread_mutex_lock(&lane->lock);
	next = lane->waiting;
	lane->waiting = NULL;
	pthread_mutex_unlock(&lane->lock);
	while (next) {
		struct connection *connection = next;

		next = connection->next;
		/* The descriptors are the ends' thread's business no more; without a relay everything ends in a reset.
		 */
		if (relay_start(&lane->worker, &connection->options, &connection->relay) != 0)
			abort();
	}
	if (atomic_load(&lane->soak->stop))
		loop_stop(lane->loop);
}

static void *run_relay(void *argument)
{
	struct lane *lane = argument;

	if (loop_run(lane->loop) != 0)
		abort();
	return NULL;
}

/* Both sides of the handshake, in turns. */
static void shake(struct soak *soak, struct connection *connection, int b_fd)
{
	struct soak_end_state *backend = &connection->end[1];
	bool accepted = false;
	enum tls_step step = TLS_STEP_WANT_READ;

	if (tls_session_new(soak->context, b_fd, NULL, &connection->options.session) != 0)
		abort();
	backend->ssl = SSL_new(soak->servers[connection->plan.version == TLS_VERSION_1_3][connection->plan.suite]);
	SSL_set_fd(backend->ssl, backend->fd);
	SSL_set_accept_state(backend->ssl);
	while (!accepted || step != TLS_STEP_DONE) {
		if (step != TLS_STEP_DONE)
			step = tls_session_handshake(connection->options.session);
		if (step == TLS_STEP_FAILED) {
			printf("handshake: %s\n", tls_session_detail(connection->options.session));
			abort();
		}
		if (!accepted)
			accepted = SSL_accept(backend->ssl) == 1;
	}
	connection->options.user_mode_reason = REASON_KTLS_OFF;
}

static struct connection *connect_next(struct lane *lane)
{
	struct soak *soak = lane->soak;
	struct connection *connection = calloc(1, sizeof(*connection));
	uint64_t number = soak->only ? soak->first : atomic_fetch_add(&soak->next_number, 1);
	int a[2];
	int b[2];

	if (!connection)
		abort();
	soak_plan_make(&connection->plan, soak->seed, number);
	far_end_sockets(a, true);
	far_end_sockets(b, true);
	for (unsigned int side = 0; side < 2; side++)
		connection->end[side] =
		        (struct soak_end_state){.plan = &connection->plan, .side = side, .fd = side ? b[0] : a[0]};
	setsockopt(a[1], SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
	setsockopt(b[1], SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
	connection->options =
	        (struct relay_options){.a_fd = a[1], .b_fd = b[1], .on_end = on_end, .context = connection};
	if (connection->plan.tls)
		shake(soak, connection, b[1]);
	else
		connection->options.splice_to_backend = connection->options.splice_to_gateway = number % 2;
	pthread_mutex_lock(&lane->lock);
	connection->next = lane->waiting;
	lane->waiting = connection;
	pthread_mutex_unlock(&lane->lock);
	loop_wake(lane->loop);
	return connection;
}

static void print_connection(const struct connection *connection)
{
	soak_plan_print(&connection->plan);
	for (int side = 0; side < 2; side++) {
		const struct soak_end_state *end = &connection->end[side];

		printf("  %s: sent %zu, received %zu, %s, %s, errno %d (%s)\n", side ? "S" : "G", end->sent,
		       end->received, end->ended ? "has ended" : "has not ended",
		       end->peer_ended ? "saw the end" : "saw no end", end->error, strerror(end->error));
	}
	if (atomic_load(&connection->over))
		printf("  relay: ended, %s (%s); %llu bytes to the backend, %llu to the gateway\n",
		       reason_name(connection->reason), connection->detail,
		       (unsigned long long)connection->stats.bytes_to_backend,
		       (unsigned long long)connection->stats.bytes_to_gateway);
	else
		printf("  relay: lives\n");
}

static void give_up(struct soak *soak, const struct connection *connection, const char *what)
{
	if (atomic_exchange(&soak->failed, true))
		return;
	printf("FAIL: %s\n", what);
	print_connection(connection);
	printf("  alone: soak --seed %llu --only %llu\n", (unsigned long long)soak->seed,
	       (unsigned long long)connection->plan.number);
	fflush(stdout);
	atomic_store(&soak->stop, true);
}

static bool ends_right(const struct connection *connection)
{
	const struct soak_end_state *g = &connection->end[0];
	const struct soak_end_state *s = &connection->end[1];

	if (connection->plan.side[0].end == SOAK_END_BY_RESET)
		return connection->reason == REASON_GATEWAY_RESET;
	if (connection->plan.side[1].end == SOAK_END_BY_RESET)
		return connection->reason == REASON_BACKEND_RESET;
	return connection->reason == REASON_NONE && !g->error && !s->error && g->peer_ended && s->peer_ended &&
	       g->received == connection->plan.side[1].send && s->received == connection->plan.side[0].send;
}

static void retire(struct lane *lane, struct connection **place)
{
	struct connection *connection = *place;
	struct soak *soak = lane->soak;

	if (!ends_right(connection))
		give_up(soak, connection, "not the end that was planned");
	for (int side = 0; side < 2; side++) {
		struct soak_end_state *end = &connection->end[side];

		SSL_free(end->ssl);
		if (end->fd != -1)
			close(end->fd);
	}
	free(connection);
	*place = NULL;
	if (atomic_fetch_add(&soak->done, 1) + 1 >= 1 && soak->only)
		atomic_store(&soak->stop, true);
}

static size_t step(struct lane *lane, struct connection *connection, uint8_t *buffer, struct pollfd polled[2])
{
	uint64_t now = monotonic_ns();
	size_t moved = 0;

	for (int side = 0; side < 2; side++) {
		struct soak_end_state *end = &connection->end[side];
		size_t before = end->received;

		moved += soak_end_step(end, now, buffer, &polled[side].events);
		polled[side].fd = polled[side].events ? end->fd : -1;
		atomic_fetch_add(&lane->soak->moved[connection->plan.tls], end->received - before);
		if (end->wrong)
			give_up(lane->soak, connection, "a wrong byte");
	}
	return moved;
}

static void *run_ends(void *argument)
{
	struct lane *lane = argument;
	struct soak *soak = lane->soak;
	struct pollfd polled[2 * AT_ONCE_MAX];
	uint8_t *buffer = malloc(SOAK_CHUNK);
	uint64_t moved_ns = monotonic_ns();

	if (!buffer)
		abort();
	while (!atomic_load(&soak->stop)) {
		size_t moved = 0;

		for (unsigned int i = 0; i < soak->at_once; i++) {
			struct connection **place = &lane->live[i];

			polled[2 * i].fd = polled[2 * i + 1].fd = -1;
			if (!*place)
				*place = connect_next(lane);
			moved += step(lane, *place, buffer, &polled[2 * i]);
			if (atomic_load(&(*place)->over) && soak_end_is_over(&(*place)->end[0]) &&
			    soak_end_is_over(&(*place)->end[1])) {
				polled[2 * i].fd = polled[2 * i + 1].fd = -1;
				retire(lane, place);
				moved++;
			}
		}
		if (moved) {
			moved_ns = monotonic_ns();
			continue;
		}
		(void)poll(polled, 2 * soak->at_once, 5);
		if (monotonic_ns() - moved_ns > STUCK_NS && !atomic_load(&soak->stop)) {
			for (unsigned int i = 1; i < soak->at_once; i++)
				print_connection(lane->live[i]);
			give_up(soak, lane->live[0], "no byte for a minute");
		}
	}
	free(buffer);
	return NULL;
}

static void start_lane(struct soak *soak, struct lane *lane)
{
	lane->soak = soak;
	pthread_mutex_init(&lane->lock, NULL);
	if (loop_new(&lane->loop) != 0 || relay_worker_init(&lane->worker, lane->loop, &kernel_io_system) != 0)
		abort();
	loop_set_wake(lane->loop, on_wake, lane);
	if (pthread_create(&lane->relay_thread, NULL, run_relay, lane) != 0 ||
	    pthread_create(&lane->ends_thread, NULL, run_ends, lane) != 0)
		abort();
}

static void watch(struct soak *soak)
{
	uint64_t begun = monotonic_ns();
	uint64_t shown = begun;
	uint64_t shown_bytes = 0;

	for (;;) {
		uint64_t plain = atomic_load(&soak->moved[0]);
		uint64_t tls = atomic_load(&soak->moved[1]);
		uint64_t now = monotonic_ns();

		if (plain + tls >= soak->bytes && !soak->only)
			atomic_store(&soak->stop, true);
		if (now - shown >= PROGRESS_NS || atomic_load(&soak->stop)) {
			printf("%6.0f s  %8.2f GB of %.0f (plain %.2f, TLS %.2f)  %6.0f MB/s  %llu connections\n",
			       (double)(now - begun) / 1e9, (double)(plain + tls) / 1e9, (double)soak->bytes / 1e9,
			       (double)plain / 1e9, (double)tls / 1e9,
			       (double)(plain + tls - shown_bytes) * 1e3 / (double)(now - shown + 1),
			       (unsigned long long)atomic_load(&soak->done));
			fflush(stdout);
			shown = now;
			shown_bytes = plain + tls;
		}
		if (atomic_load(&soak->stop))
			return;
		(void)poll(NULL, 0, 20); /* the lanes stop it, too */
	}
}

static void make_contexts(struct soak *soak)
{
	struct certificate *leaf = certificate_new(
	        &(struct certificate_options){.common_name = "backend", .names = {{GEN_DNS, "backend.example", 0}}});
	char *pem = certificate_pem((const struct certificate *const[]){leaf, NULL});
	struct tls_settings settings = client_settings(pem);
	char error[200] = "";

	if (tls_global_init() < 0 || tls_context_new(&settings, &soak->context, error, sizeof(error)) != 0) {
		fprintf(stderr, "soak: settings: %s\n", error);
		exit(2);
	}
	for (int is_1_3 = 0; is_1_3 < 2; is_1_3++) {
		for (int suite = 0; suite < TLS_KERNEL_CIPHERS; suite++) {
			int version = is_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION;
			const struct far_end_options options = {.leaf = leaf,
			                                        .min_version = version,
			                                        .max_version = version,
			                                        .suites_1_2 = suites_1_2[suite],
			                                        .suites_1_3 = suites_1_3[suite]};
			SSL_CTX *server = far_end_new_ssl_ctx(&options);

			SSL_CTX_set_keylog_callback(server, NULL);
			SSL_CTX_set_mode(server, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
			soak->servers[is_1_3][suite] = server;
		}
	}
	certificate_free(leaf);
	free(pem);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
	        {"seed", 1, NULL, 's'}, {"gb", 1, NULL, 'g'}, {"only", 1, NULL, 'o'}, {"at-once", 1, NULL, 'a'}, {0}};
	const char *wanted = getenv("SOAK_GB");
	double gigabytes = wanted && *wanted ? strtod(wanted, NULL) : 100;
	unsigned int lanes = (unsigned int)sysconf(_SC_NPROCESSORS_ONLN);
	struct soak soak = {.seed = (uint64_t)time(NULL), .at_once = 32};
	_cleanup_free_ struct lane *lane = NULL;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 's':
			soak.seed = strtoull(optarg, NULL, 10);
			break;
		case 'g':
			gigabytes = strtod(optarg, NULL);
			break;
		case 'o':
			soak.only = true;
			soak.first = strtoull(optarg, NULL, 10);
			lanes = soak.at_once = 1;
			break;
		case 'a':
			soak.at_once = (unsigned int)strtoul(optarg, NULL, 10);
			break;
		default:
			return 2;
		}
	}
	if (soak.at_once < 1 || soak.at_once > AT_ONCE_MAX || !(gigabytes > 0)) {
		fprintf(stderr, "usage: soak [--seed N] [--gb N] [--at-once 1..%d] [--only CONNECTION]\n", AT_ONCE_MAX);
		return 2;
	}
	soak.bytes = (uint64_t)(gigabytes * 1e9);
	signal(SIGPIPE, SIG_IGN);
	soak_noise_make();
	make_contexts(&soak);
	printf("soak: %g GB, seed %llu, %u lanes of %u connections\n", gigabytes, (unsigned long long)soak.seed, lanes,
	       soak.at_once);
	lane = calloc(lanes, sizeof(*lane));
	if (!lane)
		return 2;
	for (unsigned int i = 0; i < lanes; i++)
		start_lane(&soak, &lane[i]);
	watch(&soak);
	for (unsigned int i = 0; i < lanes; i++) {
		loop_wake(lane[i].loop);
		pthread_join(lane[i].ends_thread, NULL);
		pthread_join(lane[i].relay_thread, NULL);
	}
	printf("soak: %llu connections, %s\n", (unsigned long long)atomic_load(&soak.done),
	       atomic_load(&soak.failed) ? "FAILED" : "every byte right");
	return atomic_load(&soak.failed);
}
