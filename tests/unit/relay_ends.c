/* SPDX-License-Identifier: GPL-2.0-only */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "certificates.h"
#include "policy/snapshot.h"
#include "relay_ends.h"
#include "sockets.h"
#include "tls/context.h"

#define HOSTNAME     "backend.example"
#define DEADLINE_NS  UINT64_C(60000000000)
#define CHUNK        (64u << 10)
#define RECORD_PLAIN 16384

static const struct linger reset_at_close = {.l_onoff = 1, .l_linger = 0};

static struct certificate *authority;
static struct certificate *leaf;
static char *ca_pem;

/*
 * What the gateway (1) and the backend (2) send: noise with a period that no size of a record, page or buffer divides,
 * so that a shifted, doubled or missing piece shows. From any offset CHUNK bytes can be taken in one piece.
 */
#define PERIOD 64007
static uint8_t noise[3][PERIOD + CHUNK];

static const uint8_t *content(unsigned int sender, size_t at)
{
	return &noise[sender][at % PERIOD];
}

static void make_noise(void)
{
	uint32_t x = 2463534242; /* xorshift32 */

	for (unsigned int sender = 1; sender <= 2; sender++) {
		for (size_t i = 0; i < PERIOD; i++) {
			x ^= x << 13;
			x ^= x >> 17;
			x ^= x << 5;
			noise[sender][i] = (uint8_t)x;
		}
		memcpy(&noise[sender][PERIOD], noise[sender], PERIOD);
		memcpy(&noise[sender][2 * PERIOD], noise[sender], sizeof(noise[sender]) - 2 * PERIOD);
	}
}

struct end {
	const struct end_options *options;
	struct end_result *result;
	unsigned int sender;
	unsigned int other;
	size_t expected;
	int fd;
	SSL *ssl; /* NULL: plain */
	bool ended;
	size_t next_ticket;
	bool updated;
	uint8_t *buffer;
};

enum progress {
	PROGRESS_MADE,
	PROGRESS_BLOCKED,
	PROGRESS_OVER,
};

static enum progress session_progress(struct end *end, int r)
{
	switch (SSL_get_error(end->ssl, r)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return PROGRESS_BLOCKED;
	case SSL_ERROR_ZERO_RETURN:
		end->result->clean_end = true;
		return PROGRESS_OVER;
	default:
		end->result->error = errno ? errno : EPROTO;
		return PROGRESS_OVER;
	}
}

/* What came instead: bytes of another place of the stream were lost, doubled or moved; others were damaged. */
static void describe_wrong(struct end *end, size_t got)
{
	struct end_result *result = end->result;
	const uint8_t *right = content(end->other, result->received);
	size_t at = 0;
	size_t alike = 0;

	result->content_right = false;
	while (end->buffer[at] == right[at])
		at++;
	while (at + alike < got && end->buffer[at + alike] != right[at + alike])
		alike++;
	snprintf(result->wrong, sizeof(result->wrong),
	         "wrong from byte %zu on, for %zu or more, in a read of %zu at %zu", result->received + at, alike, got,
	         result->received);
	for (size_t place = 0; got - at >= 16 && place < PERIOD; place++) {
		if (memcmp(&end->buffer[at], content(end->other, place), 16) == 0) {
			snprintf(result->wrong + strlen(result->wrong), sizeof(result->wrong) - strlen(result->wrong),
			         "; it is that of %zu modulo %d, instead of %zu", place, PERIOD,
			         (result->received + at) % PERIOD);
			return;
		}
	}
}

static enum progress end_read(struct end *end)
{
	size_t size = end->options->read_step ? end->options->read_step : CHUNK;
	ssize_t got;

	errno = 0;
	if (end->ssl) {
		ERR_clear_error();
		got = SSL_read(end->ssl, end->buffer, (int)size);
		if (got <= 0)
			return session_progress(end, (int)got);
	} else {
		got = recv(end->fd, end->buffer, size, MSG_DONTWAIT);
		if (got == -1 && (errno == EAGAIN || errno == EINTR))
			return PROGRESS_BLOCKED;
		if (got == -1)
			end->result->error = errno;
		if (got == 0)
			end->result->clean_end = true;
		if (got <= 0)
			return PROGRESS_OVER;
	}
	if (end->result->content_right &&
	    memcmp(end->buffer, content(end->other, end->result->received), (size_t)got) != 0)
		describe_wrong(end, (size_t)got);
	end->result->received += (size_t)got;
	return PROGRESS_MADE;
}

/* What OpenSSL sends along with the next write. */
static void between_records(struct end *end)
{
	const struct end_options *options = end->options;

	if (options->tickets_every && end->result->sent >= end->next_ticket) {
		end->next_ticket += options->tickets_every;
		if (SSL_new_session_ticket(end->ssl) != 1)
			end->result->error = EPROTO;
	}
	if (options->key_update_after && !end->updated && end->result->sent >= options->key_update_after) {
		end->updated = true;
		if (SSL_key_update(end->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1)
			end->result->error = EPROTO;
	}
}

static enum progress end_write(struct end *end)
{
	size_t left = end->options->send - end->result->sent;
	size_t size = end->options->write_step ? end->options->write_step : CHUNK;
	ssize_t taken;

	if (size > left)
		size = left;
	errno = 0;
	if (end->ssl) {
		ERR_clear_error();
		between_records(end);
		taken = SSL_write(end->ssl, content(end->sender, end->result->sent), (int)size);
		if (taken <= 0)
			return session_progress(end, (int)taken);
	} else {
		taken = send(end->fd, content(end->sender, end->result->sent), size, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (taken == -1 && (errno == EAGAIN || errno == EINTR))
			return PROGRESS_BLOCKED;
		if (taken == -1) {
			end->result->error = errno;
			return PROGRESS_OVER;
		}
	}
	end->result->sent += (size_t)taken;
	return PROGRESS_MADE;
}

/* Nothing may be held back on the way: the other end says nothing before it has this write. */
static bool its_turn(const struct end *end)
{
	const struct end_result *result = end->result;

	return !end->options->in_turns ||
	       (end->ssl ? result->sent < result->received : result->sent <= result->received);
}

static bool may_end(const struct end *end, bool peer_ended)
{
	if (end->ended || end->result->sent < end->options->send)
		return false;
	switch (end->options->end) {
	case END_WHEN_DONE:
		return end->result->received >= end->expected;
	case END_AFTER_PEER:
		return peer_ended;
	default:
		return true;
	}
}

static void send_close_notify(struct end *end)
{
	struct pollfd writable = {.fd = end->fd, .events = POLLOUT};

	for (;;) {
		int r;

		ERR_clear_error();
		r = SSL_shutdown(end->ssl);
		if (r >= 0 || SSL_get_error(end->ssl, r) != SSL_ERROR_WANT_WRITE)
			return; /* sent, or there is nobody to hear it: the read says so */
		(void)poll(&writable, 1, 1000);
	}
}

/* Returns false when the socket is closed. */
static bool end_now(struct end *end)
{
	end->ended = true;
	if (end->options->end == END_BY_RESET) {
		setsockopt(end->fd, SOL_SOCKET, SO_LINGER, &reset_at_close, sizeof(reset_at_close));
		close(end->fd);
		end->fd = -1;
		return false;
	}
	if (end->ssl && end->options->end != END_BY_TCP_FIN)
		send_close_notify(end);
	shutdown(end->fd, SHUT_WR);
	return true;
}

static void end_accept(struct end *end)
{
	int r;

	while ((r = SSL_accept(end->ssl)) != 1) {
		struct pollfd readable = {.fd = end->fd, .events = POLLIN};

		if (SSL_get_error(end->ssl, r) != SSL_ERROR_WANT_READ) {
			end->result->error = EPROTO;
			return;
		}
		(void)poll(&readable, 1, 1000);
	}
}

static void count_record(int is_sent, int version, int content_type, const void *bytes, size_t size, SSL *ssl,
                         void *argument)
{
	struct end *end = argument;

	(void)version;
	(void)ssl;
	/* TLS 1.3 gives each record this type on the wire; what follows the handshake is data, but for tickets. */
	if (!is_sent && content_type == SSL3_RT_HEADER && size >= 1 &&
	    *(const uint8_t *)bytes == SSL3_RT_APPLICATION_DATA && SSL_is_init_finished(ssl))
		end->result->records++;
}

static void *end_run(void *argument)
{
	struct end *end = argument;
	bool peer_ended = false;

	end->buffer = malloc(CHUNK);
	end->result->content_right = true;
	if (end->ssl)
		end_accept(end);
	while (!end->result->error && !(peer_ended && end->ended)) {
		bool may_write = end->result->sent < end->options->send && (!end->options->answer || peer_ended) &&
		                 its_turn(end);
		struct pollfd events = {.fd = end->fd,
		                        .events = (short)((peer_ended ? 0 : POLLIN) | (may_write ? POLLOUT : 0))};
		enum progress reading = peer_ended ? PROGRESS_OVER : end_read(end);
		enum progress writing = may_write && !end->result->error ? end_write(end) : PROGRESS_BLOCKED;

		if (!peer_ended && reading == PROGRESS_OVER)
			peer_ended = true;
		if (end->result->error)
			break;
		if (may_end(end, peer_ended) && !end_now(end))
			break;
		if (end->options->pause)
			usleep(end->options->pause);
		else if (reading != PROGRESS_MADE && writing != PROGRESS_MADE && !(peer_ended && end->ended))
			(void)poll(&events, 1, 100);
	}
	free(end->buffer);
	if (end->fd != -1)
		close(end->fd);
	return NULL;
}

/* The relay's end closes with a reset, unless it was shut down. */
static void connect_end(int *ours, int *theirs, int receive_buffer)
{
	int pair[2];

	tcp_pair(pair, receive_buffer);
	*theirs = pair[0];
	*ours = pair[1];
	assert_int_equal(setsockopt(*ours, SOL_SOCKET, SO_LINGER, &reset_at_close, sizeof(reset_at_close)), 0);
}

void relay_runs_begin(void)
{
	const struct certificate *chain[2] = {NULL, NULL};

	signal(SIGPIPE, SIG_IGN);
	make_noise();
	authority = certificate_new(&(struct certificate_options){.common_name = "authority", .authority = true});
	leaf = certificate_new(&(struct certificate_options){
	        .common_name = HOSTNAME, .names = {{GEN_DNS, HOSTNAME, 0}}, .issuer = authority});
	chain[0] = authority;
	ca_pem = certificate_pem(chain);
}

void relay_runs_end(void)
{
	free(ca_pem);
	certificate_free(leaf);
	certificate_free(authority);
}

static SSL_CTX *server_context(const struct relay_run *run)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	int version = run->version == TLS_VERSION_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION;

	assert_non_null(context);
	assert_int_equal(SSL_CTX_use_certificate(context, leaf->x509), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(context, leaf->key), 1);
	assert_int_equal(SSL_CTX_set_min_proto_version(context, version), 1);
	assert_int_equal(SSL_CTX_set_max_proto_version(context, version), 1);
	SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	assert_int_equal(SSL_CTX_set_num_tickets(context, run->tickets), 1);
	if (run->padding)
		assert_int_equal(SSL_CTX_set_block_padding(context, run->padding), 1);
	if (run->suite && run->version == TLS_VERSION_1_3)
		assert_int_equal(SSL_CTX_set_ciphersuites(context, run->suite), 1);
	else if (run->suite)
		assert_int_equal(SSL_CTX_set_cipher_list(context, run->suite), 1);
	return context;
}

/* Postern's own client on B, until the peer is verified. */
static struct tls_session *handshake(int fd)
{
	struct tls_settings settings = {
	        .id = 1,
	        .hostname = (char *)HOSTNAME,
	        .ca_pem = ca_pem,
	        .min_version = TLS1_2_VERSION,
	        .max_version = TLS1_3_VERSION,
	        .verify_depth = -1,
	};
	struct tls_context *context;
	struct tls_session *session;
	char error[256] = "";
	enum tls_step step;

	if (tls_context_new(&settings, &context, error, sizeof(error)))
		fail_msg("settings refused: %s", error);
	assert_int_equal(tls_session_new(context, fd, NULL, &session), 0);
	tls_context_unref(context);
	while ((step = tls_session_handshake(session)) != TLS_STEP_DONE) {
		struct pollfd wanted = {.fd = fd, .events = step == TLS_STEP_WANT_READ ? POLLIN : POLLOUT};

		if (step == TLS_STEP_FAILED)
			fail_msg("handshake: %s", tls_session_detail(session));
		assert_int_equal(poll(&wanted, 1, 10000), 1);
	}
	return session;
}

struct ending {
	struct relay_run *run;
	struct relay *relay;
	bool over;
};

static void on_end(void *context, enum postern_reason reason, const char *detail)
{
	struct ending *ending = context;

	ending->over = true;
	ending->run->reason = reason;
	snprintf(ending->run->detail, sizeof(ending->run->detail), "%s", detail);
	relay_stats(ending->relay, &ending->run->stats);
}

static void drive(struct loop *loop, struct relay_worker *worker, struct ending *ending)
{
	uint64_t deadline = monotonic_ns() + DEADLINE_NS;

	while (!ending->over) {
		struct relay_stats stats;
		char left;

		assert_int_equal(loop_step(loop, 100), 0);
		/* The pipe is the worker's: whatever happened, it is empty between two rounds. */
		assert_int_equal(read(worker->pipe[0], &left, 1), -1);
		if (ending->over)
			break;
		relay_stats(ending->relay, &stats);
		ending->run->saw_splice_to_backend |= stats.to_backend == RELAY_KTLS_SPLICE;
		ending->run->saw_splice_to_gateway |= stats.to_gateway == RELAY_KTLS_SPLICE;
		if (monotonic_ns() > deadline)
			fail_msg("no end: %llu bytes to the backend, %llu to the gateway, modes %s, %s",
			         (unsigned long long)stats.bytes_to_backend, (unsigned long long)stats.bytes_to_gateway,
			         relay_mode_name(stats.to_backend), relay_mode_name(stats.to_gateway));
	}
}

void relay_run(struct relay_run *run)
{
	struct end gateway = {.options = &run->gateway, .result = &run->gateway_result, .sender = 1, .other = 2};
	struct end backend = {.options = &run->backend, .result = &run->backend_result, .sender = 2, .other = 1};
	struct ending ending = {.run = run};
	struct relay_options options = {.on_end = on_end, .context = &ending};
	struct relay_worker worker;
	struct loop *loop;
	SSL_CTX *context = NULL;
	pthread_t threads[2];

	memset(&run->gateway_result, 0, sizeof(run->gateway_result));
	memset(&run->backend_result, 0, sizeof(run->backend_result));
	gateway.expected = run->backend.send;
	backend.expected = run->gateway.send;
	assert_int_equal(loop_new(&loop), 0);
	assert_int_equal(relay_worker_init(&worker, loop, &kernel_io_system), 0);
	if (run->timeouts.ticket_window_ns)
		worker.timeouts.ticket_window_ns = run->timeouts.ticket_window_ns;
	if (run->timeouts.half_closed_ns)
		worker.timeouts.half_closed_ns = run->timeouts.half_closed_ns;
	worker.timeouts.idle_ns = run->timeouts.idle_ns;
	worker.timeouts.stall_ns = run->timeouts.stall_ns;
	connect_end(&options.a_fd, &gateway.fd, 0);
	connect_end(&options.b_fd, &backend.fd, run->s_receive_buffer);
	if (run->b_send_buffer)
		assert_int_equal(setsockopt(options.b_fd, SOL_SOCKET, SO_SNDBUF, &run->b_send_buffer,
		                            sizeof(run->b_send_buffer)),
		                 0);
	if (run->tls) {
		context = server_context(run);
		backend.ssl = SSL_new(context);
		assert_non_null(backend.ssl);
		SSL_set_accept_state(backend.ssl);
		SSL_set_msg_callback(backend.ssl, count_record);
		SSL_set_msg_callback_arg(backend.ssl, &backend);
		assert_int_equal(SSL_set_fd(backend.ssl, backend.fd), 1);
	}
	assert_int_equal(pthread_create(&threads[0], NULL, end_run, &gateway), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, end_run, &backend), 0);
	if (run->tls) {
		options.session = handshake(options.b_fd);
		options.user_mode_reason = REASON_KTLS_OFF;
	}
	if (run->kernel) {
		int error = tls_session_arm_transmit(options.session);

		if (error)
			fail_msg("TLS_TX: %s", strerror(-error));
		options.transmit_armed = true;
		options.kernel_receive = true;
		options.user_mode_reason = REASON_NONE;
		run->used_kernel_transmit = true;
	}
	options.splice_to_backend = options.splice_to_gateway = run->splice;
	options.no_pad = run->no_pad;
	options.kernel_rekey = run->rekey;
	assert_int_equal(relay_start(&worker, &options, &ending.relay), 0);
	drive(loop, &worker, &ending);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	SSL_free(backend.ssl);
	SSL_CTX_free(context);
	relay_worker_destroy(&worker);
	loop_free(loop);
}

void assert_run_exact(const char *name, const struct relay_run *run)
{
	const struct end_result *gateway = &run->gateway_result;
	const struct end_result *backend = &run->backend_result;

	if (run->reason != REASON_NONE)
		fail_msg("%s: ended by %s (%s); gateway %zu of %zu bytes, errno %d; backend %zu of %zu, errno %d", name,
		         reason_name(run->reason), run->detail, gateway->received, run->backend.send, gateway->error,
		         backend->received, run->gateway.send, backend->error);
	if (gateway->received != run->backend.send || !gateway->content_right || !gateway->clean_end)
		fail_msg("%s: the gateway received %zu of %zu bytes, %s, %s (errno %d)", name, gateway->received,
		         run->backend.send, gateway->content_right ? "right" : gateway->wrong,
		         gateway->clean_end ? "clean end" : "no clean end", gateway->error);
	if (backend->received != run->gateway.send || !backend->content_right || !backend->clean_end)
		fail_msg("%s: the backend received %zu of %zu bytes, %s, %s (errno %d)", name, backend->received,
		         run->gateway.send, backend->content_right ? "right" : backend->wrong,
		         backend->clean_end ? "clean end" : "no clean end", backend->error);
	if (run->stats.bytes_to_backend != run->gateway.send || run->stats.bytes_to_gateway != run->backend.send)
		fail_msg("%s: counted %llu of %zu bytes to the backend, %llu of %zu to the gateway", name,
		         (unsigned long long)run->stats.bytes_to_backend, run->gateway.send,
		         (unsigned long long)run->stats.bytes_to_gateway, run->backend.send);
}

bool kernel_has_tls(void)
{
	int pair[2];
	bool has;

	tcp_pair(pair, 0);
	has = setsockopt(pair[0], IPPROTO_TCP, TCP_ULP, "tls", 3) == 0;
	close(pair[0]);
	close(pair[1]);
	return has;
}
