/* SPDX-License-Identifier: GPL-2.0-only */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "datapath/relay.h"
#include "scripted_run.h"
#include "scripted_wire.h"
#include "tls_client.h"

#define DEADLINE_NS UINT64_C(30000000000)

uint64_t script_aead_limit_blocks;

static struct certificate *certificate;
static char *pem;
static SSL_CTX *servers[2][TLS_KERNEL_CIPHERS]; /* [is TLS 1.3][cipher]; made when first needed */
static struct tls_context *client_context;      /* postern's own */

static SSL_CTX *server(const struct script_variant *variant)
{
	SSL_CTX **place = &servers[variant->version == TLS1_3_VERSION][variant->cipher];

	if (!*place)
		*place = scripted_peer_new_ssl_ctx(certificate, variant->version, variant->cipher);
	return *place;
}

struct run {
	const struct script_row *row;
	const struct script_variant *variant;
	const struct proof *proof;
	struct scripted_peer *peer;
	struct tls_client client;
	struct loop *loop;
	struct relay_worker worker;
	struct relay *relay;
	struct relay_stats stats;
	bool over;
	enum postern_reason reason;
	char detail[TLS_DETAIL_MAX];
	uint64_t deadline;
	jmp_buf failed; /* the outcome is not the row's */
	bool right;

	int g;
	size_t g_sent;
	size_t g_received;
	bool g_right;
	bool g_eof;
	int g_error;
	bool g_ended;

	struct scripted_wire wire;
	struct peer_key old_key; /* before the last KeyUpdate */
	bool no_rekey;           /* a KeyUpdate that this kernel cannot follow */
	bool sent_early;
	unsigned int requests; /* KeyUpdates that want an answer */
};

const char *script_variant_name(const struct script_variant *variant)
{
	static const char *const modes[] = {"user TLS", "tickets", "copy", "splice"};
	static const char *const cuts[] = {"at once", "by records", "by bytes", "by segments", "by threes"};
	static char name[128];

	snprintf(name, sizeof(name), "%s %s, %s, %s", variant->version == TLS1_3_VERSION ? "TLS 1.3" : "TLS 1.2",
	         tls_cipher_name(variant->cipher), modes[variant->mode], cuts[variant->cut]);
	return name;
}

static void wrong(const struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
static void wrong(const struct run *run, const char *format, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	print_error("\"%s\", %s: %s; G received %zu bytes of %zu%s, eof %d, errno %d; S heard %zu of %zu%s%s, %u "
	            "KeyUpdates, fault %s; the relay: %s, %s (%s)\n",
	            run->row->name, script_variant_name(run->variant), text, run->g_received, run->wire.data,
	            run->g_right ? "" : " WRONG", run->g_eof, run->g_error, run->peer->heard, run->g_sent,
	            run->peer->heard_right ? "" : " WRONG", run->peer->close_notify ? ", close_notify" : "",
	            run->peer->key_updates, run->peer->fault ? run->peer->fault : "none", run->over ? "ended" : "lives",
	            reason_name(run->reason), run->detail);
	longjmp(((struct run *)run)->failed, 1);
}

static void on_end(void *context, enum postern_reason reason, const char *detail)
{
	struct run *run = context;

	relay_stats(run->relay, &run->stats);
	run->over = true;
	run->reason = reason;
	snprintf(run->detail, sizeof(run->detail), "%s", detail);
}

static void g_listen(struct run *run)
{
	uint8_t buffer[1 << 16];

	while (!run->g_eof && !run->g_error) {
		ssize_t got = recv(run->g, buffer, sizeof(buffer), MSG_DONTWAIT);

		if (got == -1 && errno == EAGAIN)
			return;
		if (got == -1)
			run->g_error = errno;
		if (got == 0)
			run->g_eof = true;
		for (ssize_t i = 0; i < got; i++)
			run->g_right &= buffer[i] == scripted_byte(1, run->g_received++);
	}
}

/* One round of everything. */
static void pump(struct run *run, int timeout_ms)
{
	char left;

	assert_int_equal(loop_step(run->loop, timeout_ms), 0);
	assert_int_equal(read(run->worker.pipe[0], &left, 1), -1); /* empty between two rounds, always */
	g_listen(run);
	scripted_peer_listen(run->peer);
	if (run->g_eof && !run->g_ended) {
		run->g_ended = true;
		(void)shutdown(run->g, SHUT_WR);
	}
	if (monotonic_ns() > run->deadline)
		wrong(run, "it hangs");
}

static void peer_sends(struct run *run, const uint8_t *bytes, size_t size)
{
	while (size > 0 && !run->over) {
		ssize_t sent = send(run->peer->far_end->fd, bytes, size, MSG_NOSIGNAL);

		if (sent == -1 && (errno == EPIPE || errno == ECONNRESET))
			return; /* the relay has ended it: the row says whether it may */
		if (sent == -1)
			assert_int_equal(errno, EAGAIN);
		else {
			bytes += sent;
			size -= (size_t)sent;
		}
		pump(run, sent == -1 ? 1 : 0);
	}
}

static void flush(struct run *run)
{
	const struct scripted_wire *wire = &run->wire;
	size_t record = 0;

	for (size_t at = 0; at < wire->size && !run->over;) {
		size_t size = wire_segment(wire, run->variant->cut, at, &record);

		peer_sends(run, wire->bytes + at, size);
		at += size;
	}
	wire_clear(&run->wire);
}

/* Is it the kernel that decrypts what comes next? */
static bool by_kernel(const struct run *run)
{
	if (run->variant->mode == SCRIPT_USER_TLS)
		return false;
	return run->variant->mode != SCRIPT_TICKETS || run->variant->version == TLS1_2_VERSION || run->wire.data > 0;
}

static bool proved_rekey(const struct run *run, enum tls_direction direction)
{
	return run->proof->rekey[direction].verdict == PROOF_SAFE;
}

static void before_key_update(struct run *run, bool asks)
{
	bool user = run->variant->mode == SCRIPT_USER_TLS;

	if (by_kernel(run) && !proved_rekey(run, TLS_DIRECTION_RECEIVE))
		run->no_rekey = run->wire.withheld = true;
	if (asks && !user && !proved_rekey(run, TLS_DIRECTION_TRANSMIT))
		run->no_rekey = run->wire.withheld = true;
	run->requests += asks;
	run->old_key = run->peer->write;
}

static void wait_for(struct run *run, bool (*reached)(const struct run *))
{
	while (!run->over && !reached(run))
		pump(run, 5);
}

static bool g_has_all(const struct run *run)
{
	return run->g_received >= run->wire.data || run->g_error || run->g_eof;
}

static bool s_heard_all(const struct run *run)
{
	return run->peer->heard >= run->g_sent || run->peer->fault;
}

static bool s_heard_end(const struct run *run)
{
	return run->peer->close_notify || run->peer->fault;
}

static bool s_heard_update(const struct run *run)
{
	unsigned int wanted = run->requests > run->row->updates ? run->requests : run->row->updates;

	return run->peer->key_updates >= wanted || run->peer->fault;
}

static void g_sends(struct run *run, size_t size)
{
	size_t end = run->g_sent + size;

	while (run->g_sent < end && !run->over) {
		uint8_t piece[4096];
		size_t take = end - run->g_sent < sizeof(piece) ? end - run->g_sent : sizeof(piece);
		ssize_t sent;

		for (size_t i = 0; i < take; i++)
			piece[i] = scripted_byte(0, run->g_sent + i);
		sent = send(run->g, piece, take, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent == -1 && errno != EAGAIN)
			return;
		if (sent > 0)
			run->g_sent += (size_t)sent;
		pump(run, sent > 0 ? 0 : 5);
	}
	wait_for(run, s_heard_all);
}

static void add_key_update(struct run *run, const struct step *step)
{
	static const uint8_t ticket[] = {4, 0, 0, 14, 0, 0, 28, 32, 0, 0, 0, 0, 0, 0, 1, 99, 0, 0};
	uint8_t message[sizeof(ticket) + 5];
	size_t size = step->size ? sizeof(ticket) : 0;

	memcpy(message, ticket, size);
	memcpy(message + size, (const uint8_t[]){24, 0, 0, 1, (uint8_t)step->pieces}, 5);
	size += 5;
	if (step->padding)
		wire_add_record(&run->wire, 22, message, size - 2, 0);
	wire_add_record(&run->wire, 22, step->padding ? message + size - 2 : message, step->padding ? 2 : size, 0);
}

static void add_step(struct run *run, const struct step *step)
{
	struct scripted_peer *peer = run->peer;
	const uint8_t *bytes = (const uint8_t *)step->bytes;
	uint8_t plain[20000] = {0};
	struct peer_key now;

	switch (step->kind) {
	case STEP_DATA:
		wire_add_data(&run->wire, step->size, step->padding);
		break;
	case STEP_TICKET:
		wire_add_ticket(&run->wire, step->size, step->pieces);
		break;
	case STEP_KEY_UPDATE:
		before_key_update(run, step->pieces != 0);
		add_key_update(run, step);
		scripted_peer_next_write_key(peer);
		break;
	case STEP_RECORD:
		wire_add_record(&run->wire, step->type, bytes, step->size, 0);
		if (step->type == 21 && step->size == 2 && bytes[1] == 0)
			run->wire.closed = true;
		break;
	case STEP_RAW:
		wire_add_raw(&run->wire, bytes, step->size);
		break;
	case STEP_BAD_MAC:
		wire_add_record(&run->wire, 23, plain, step->size, 0);
		run->wire.bytes[run->wire.size - 1 - step->pieces] ^= 0x10;
		break;
	case STEP_REPLAY:
		wire_replay_last(&run->wire);
		break;
	case STEP_GAP:
		peer->write.sequence++;
		break;
	case STEP_OVERSIZE:
		wire_add_record(&run->wire, 23, plain, step->size, 0);
		break;
	case STEP_OLD_KEY:
		now = peer->write;
		peer->write = run->old_key;
		wire_add_record(&run->wire, 23, plain, step->size, 0);
		peer->write = now;
		break;
	case STEP_OFFENCE:
		run->wire.withheld = true;
		break;
	case STEP_SYNC:
		flush(run);
		wait_for(run, g_has_all);
		break;
	case STEP_G_SENDS:
		flush(run);
		g_sends(run, step->size);
		break;
	case STEP_G_ENDS:
		flush(run);
		run->g_ended = true;
		(void)shutdown(run->g, SHUT_WR);
		if (peer->is_1_3)
			wait_for(run, s_heard_end);
		break;
	case STEP_HEARS_KEY_UPDATE:
		flush(run);
		wait_for(run, s_heard_update);
		break;
	case STEP_FIN:
		flush(run);
		(void)shutdown(peer->far_end->fd, SHUT_WR);
		break;
	case STEP_RESET:
		flush(run);
		(void)setsockopt(peer->far_end->fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0},
		                 sizeof(struct linger));
		close(peer->far_end->fd);
		peer->far_end->fd = -1;
		break;
	default:
		break;
	}
}

/* Steps that only make bytes: what with_finished can put behind Finished. */
static bool only_makes_bytes(const struct step *step)
{
	return step->kind != STEP_END && step->kind < STEP_SYNC;
}

/* The handshake; what is left of the script. */
static const struct step *shake(struct run *run)
{
	const struct step *next = run->row->steps;
	struct far_end *far_end = run->peer->far_end;

	for (;;) {
		/* What either has said may be on its way still: loopback's other half may run later. */
		struct pollfd readable[] = {{.fd = run->client.fd, .events = POLLIN},
		                            {.fd = far_end->fd, .events = POLLIN}};
		enum tls_step step = tls_session_handshake(run->client.session);

		if (step == TLS_STEP_FAILED)
			wrong(run, "handshake: %s", tls_session_detail(run->client.session));
		scripted_peer_accept(run->peer);
		if (run->row->with_finished && run->peer->has_keys && !run->sent_early) {
			run->sent_early = true;
			while (only_makes_bytes(next))
				add_step(run, next++);
			assert_int_equal(BIO_write(far_end->out, run->wire.bytes, (int)run->wire.size), run->wire.size);
			wire_clear(&run->wire);
		}
		while (far_end_pending(far_end) > 0) {
			size_t most = run->variant->cut == CUT_AT_ONCE || run->variant->cut == CUT_RECORDS ? SIZE_MAX
			                                                                                   : 1;

			far_end_push(far_end, most);
			if (most == 1 && step != TLS_STEP_DONE)
				step = tls_session_handshake(run->client.session);
		}
		if (step == TLS_STEP_DONE && scripted_peer_is_accepted(run->peer))
			return next;
		if (monotonic_ns() > run->deadline)
			wrong(run, "the handshake hangs");
		(void)poll(readable, 2, 100);
	}
}

static void start_relay(struct run *run)
{
	struct relay_options options = {.on_end = on_end, .context = run, .session = run->client.session};
	enum tls_version version = run->variant->version == TLS1_3_VERSION ? TLS_VERSION_1_3 : TLS_VERSION_1_2;
	enum script_mode mode = run->variant->mode;
	int pair[2];

	far_end_sockets(pair, true);
	run->g = pair[0];
	options.a_fd = pair[1];
	options.b_fd = run->client.fd;
	assert_int_equal(setsockopt(options.a_fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)),
	                 0);
	assert_int_equal(setsockopt(options.b_fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)),
	                 0);
	options.user_mode_reason = REASON_KTLS_OFF;
	if (mode != SCRIPT_USER_TLS) {
		int error = tls_session_arm_transmit(run->client.session);

		if (error)
			wrong(run, "TLS_TX: %s", strerror(-error));
		options.transmit_armed = options.kernel_receive = true;
		options.user_mode_reason = REASON_NONE;
		options.splice_to_backend = options.splice_to_gateway = mode == SCRIPT_SPLICE;
		options.no_pad = mode == SCRIPT_COPY && proof_allows(run->proof, PROOF_NO_PAD, TLS_DIRECTION_RECEIVE,
		                                                     version, run->variant->cipher);
		options.kernel_rekey = proved_rekey(run, TLS_DIRECTION_RECEIVE);
		options.kernel_rekey_transmit = proved_rekey(run, TLS_DIRECTION_TRANSMIT);
		if (mode != SCRIPT_TICKETS)
			run->worker.timeouts.ticket_window_ns = 1;
	}
	assert_int_equal(relay_start(&run->worker, &options, &run->relay), 0);
	run->client.session = NULL;
	run->client.fd = -1;
}

static enum relay_mode mode_now(struct run *run)
{
	struct relay_stats stats = {0};

	if (!run->over)
		relay_stats(run->relay, &stats);
	return stats.to_gateway;
}

/* Before the script: the mode that the variant asks for is reached, by data if it takes some. */
static void reach_mode(struct run *run)
{
	if (run->variant->mode < SCRIPT_COPY)
		return;
	while (mode_now(run) == RELAY_TICKETS)
		pump(run, 5);
	if (mode_now(run) != RELAY_KTLS_COPY)
		wrong(run, "receive is not in the kernel: %s", relay_mode_name(mode_now(run)));
	for (int i = 0; run->variant->mode == SCRIPT_SPLICE && mode_now(run) != RELAY_KTLS_SPLICE; i++) {
		if (i == 64)
			wrong(run, "it never splices");
		for (int j = 0; j < 8; j++)
			wire_add_data(&run->wire, WIRE_RECORD_MAX, 0);
		peer_sends(run, run->wire.bytes, run->wire.size);
		wire_clear(&run->wire);
		wait_for(run, g_has_all);
	}
}

static enum postern_reason expected_reason(const struct run *run, bool kernel)
{
	if (run->no_rekey)
		return REASON_KEY_UPDATE;
	return kernel ? run->row->by_kernel : run->row->by_openssl;
}

static void judge(struct run *run, enum postern_reason expected)
{
	bool clean = expected == REASON_NONE;
	size_t want = clean ? run->wire.data : run->wire.deliver;

	if (run->reason != expected)
		wrong(run, "expected the reason %s", reason_name(expected));
	if (!run->g_right || (run->row->prefix ? run->g_received > want : run->g_received != want))
		wrong(run, "expected %zu bytes at G", want);
	if (clean ? !run->g_eof : run->g_error != ECONNRESET)
		wrong(run, "expected %s at G", clean ? "a clean end" : "a reset");
	if (!run->peer->heard_right || run->peer->fault)
		wrong(run, "what S heard is wrong");
	if (!clean)
		return;
	if (run->peer->heard != run->g_sent || !run->peer->close_notify)
		wrong(run, "expected all of G's bytes and close_notify at S");
	if (run->peer->key_updates < run->row->updates)
		wrong(run, "expected %u KeyUpdates of ours", run->row->updates);
}

static bool everybody_knows(const struct run *run)
{
	return (run->g_eof || run->g_error) &&
	       (run->peer->far_end->fd == -1 || run->peer->fin || run->peer->error || run->peer->fault);
}

static void play(struct run *run)
{
	enum postern_reason expected;
	const struct step *step;
	bool kernel;
	int pair[2];

	run->deadline = monotonic_ns() + DEADLINE_NS;
	far_end_sockets(pair, true);
	run->peer = scripted_peer_new(server(run->variant), pair[1], run->variant->version, run->variant->cipher);
	run->wire.peer = run->peer;
	run->client = (struct tls_client){.context = tls_context_ref(client_context), .fd = pair[0]};
	assert_int_equal(tls_session_new(client_context, pair[0], NULL, &run->client.session), 0);
	step = shake(run);
	assert_int_equal(loop_new(&run->loop), 0);
	assert_int_equal(relay_worker_init(&run->worker, run->loop, &kernel_io_system), 0);
	run->worker.aead_limit_blocks = script_aead_limit_blocks;
	start_relay(run);
	reach_mode(run);
	kernel = by_kernel(run);
	for (; step->kind != STEP_END; step++) {
		add_step(run, step);
		if (step->kind == STEP_OFFENCE)
			kernel = by_kernel(run);
	}
	flush(run);
	expected = expected_reason(run, kernel);
	while (!run->over)
		pump(run, 5);
	while (!everybody_knows(run))
		pump(run, 0);
	judge(run, expected);
}

static void take_down(struct run *run)
{
	if (run->relay && !run->over)
		relay_abort(run->relay, REASON_GATEWAY_REMOVED, "the run has failed");
	scripted_peer_free(run->peer);
	client_end(&run->client);
	if (run->g != -1)
		close(run->g);
	relay_worker_destroy(&run->worker);
	if (run->loop)
		loop_free(run->loop);
	wire_free(&run->wire);
	free(run);
}

bool script_run(const struct script_row *row, const struct script_variant *variant, const struct proof *proof)
{
	struct run *run = calloc(1, sizeof(*run));
	bool right;

	assert_non_null(run);
	run->row = row;
	run->variant = variant;
	run->proof = proof;
	run->g = -1;
	run->g_right = true;
	if (setjmp(run->failed) == 0) {
		play(run);
		run->right = true;
	}
	right = run->right;
	take_down(run);
	return right;
}

void script_runs_begin(void)
{
	struct tls_settings settings;
	char error[200];

	certificate = certificate_new(
	        &(struct certificate_options){.common_name = "backend", .names = {{GEN_DNS, "backend.example", 0}}});
	pem = certificate_pem((const struct certificate *const[]){certificate, NULL});
	settings = client_settings(pem);
	assert_int_equal(tls_context_new(&settings, &client_context, error, sizeof(error)), 0);
}

void script_runs_end(void)
{
	for (size_t i = 0; i < 2 * TLS_KERNEL_CIPHERS; i++)
		SSL_CTX_free(servers[i / TLS_KERNEL_CIPHERS][i % TLS_KERNEL_CIPHERS]);
	tls_context_unref(client_context);
	certificate_free(certificate);
	free(pem);
}
