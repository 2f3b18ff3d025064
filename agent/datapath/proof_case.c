// SPDX-License-Identifier: GPL-2.0-only
#include "datapath/proof_case.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "datapath/record_message.h"

/* In every block, so that any 31 bytes of plaintext on the wire show it; the number after it shows order and loss. */
static const char marker[8] = "PLAINTXT";
#define BLOCK 16

void proof_verdict(struct proof_case *proof_case, enum proof_verdict verdict, const char *format, ...)
{
	va_list arguments;

	if (proof_decided(proof_case))
		return;
	proof_case->result->verdict = verdict;
	va_start(arguments, format);
	vsnprintf(proof_case->result->detail, sizeof(proof_case->result->detail), format, arguments);
	va_end(arguments);
}

bool proof_decided(const struct proof_case *proof_case)
{
	return proof_case->result->verdict != PROOF_NOT_RUN;
}

int proof_buffers_new(struct proof_case *proof_case)
{
	proof_case->pattern = malloc(PROOF_BYTES + BLOCK);
	proof_case->buffer = malloc(PROOF_BUFFER);
	proof_case->raw = malloc(PROOF_RAW);
	if (!proof_case->pattern || !proof_case->buffer || !proof_case->raw) {
		proof_buffers_free(proof_case);
		return -ENOMEM;
	}
	for (size_t i = 0; i < PROOF_BYTES; i += BLOCK) {
		memcpy(proof_case->pattern + i, marker, sizeof(marker));
		snprintf((char *)proof_case->pattern + i + sizeof(marker), BLOCK - sizeof(marker) + 1, "%08zx", i);
	}
	return 0;
}

void proof_buffers_free(struct proof_case *proof_case)
{
	free(proof_case->pattern);
	free(proof_case->buffer);
	free(proof_case->raw);
	proof_case->pattern = proof_case->buffer = proof_case->raw = NULL;
}

bool proof_has_marker(const uint8_t *bytes, size_t size)
{
	return memmem(bytes, size, marker, sizeof(marker)) != NULL;
}

static int loopback_pair(int *client, int *server)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	_cleanup_close_ int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t length = sizeof(address);
	const int on = 1;
	struct sockaddr_in peer = {0};

	if (listener == -1 || bind(listener, (struct sockaddr *)&address, length) == -1 || listen(listener, 1) == -1 ||
	    getsockname(listener, (struct sockaddr *)&address, &length) == -1)
		return -errno;
	*client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*client == -1 || connect(*client, (struct sockaddr *)&address, length) == -1 ||
	    getsockname(*client, (struct sockaddr *)&address, &length) == -1)
		return -errno;
	*server = accept4(listener, (struct sockaddr *)&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (*server == -1)
		return -errno;
	/* Somebody else on this machine may have been quicker: then this is not our pair. */
	if (peer.sin_port != address.sin_port || peer.sin_addr.s_addr != address.sin_addr.s_addr)
		return -ECONNABORTED;
	if (fcntl(*client, F_SETFL, O_NONBLOCK) == -1 ||
	    setsockopt(*client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1 ||
	    setsockopt(*server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1)
		return -errno;
	return 0;
}

static int make_pipe(struct proof_case *proof_case)
{
	int size;

	if (pipe2(proof_case->pipe, O_NONBLOCK | O_CLOEXEC) == -1)
		return -errno;
	/* What an unprivileged limit refuses, the default of 64 KB replaces, as in the relay. */
	size = fcntl(proof_case->pipe[1], F_SETPIPE_SZ, (int)PROOF_BUFFER);
	if (size == -1)
		size = fcntl(proof_case->pipe[1], F_GETPIPE_SZ);
	if (size == -1)
		return -errno;
	proof_case->pipe_size = (size_t)size;
	return 0;
}

bool proof_case_open(struct proof_case *proof_case, enum tls_version version, enum tls_cipher cipher)
{
	int error;

	proof_case->g = proof_case->a = proof_case->b = proof_case->s = -1;
	proof_case->pipe[0] = proof_case->pipe[1] = -1;
	proof_case->far_end = NULL;
	proof_case->keys = (struct traffic_keys){version, cipher, .record_sequence = version == TLS_VERSION_1_2};
	if (RAND_bytes(proof_case->keys.key, sizeof(proof_case->keys.key)) != 1 ||
	    RAND_bytes(proof_case->keys.iv, sizeof(proof_case->keys.iv)) != 1)
		error = -EIO;
	else
		error = loopback_pair(&proof_case->g, &proof_case->a);
	if (!error)
		error = loopback_pair(&proof_case->b, &proof_case->s);
	if (!error)
		error = make_pipe(proof_case);
	if (!error)
		error = record_cipher_new(&proof_case->keys, &proof_case->far_end);
	if (error)
		proof_verdict(proof_case, PROOF_UNAVAILABLE, "no loopback pair to try it on: %s", strerror(-error));
	proof_progress(proof_case);
	return !error;
}

void proof_case_close(struct proof_case *proof_case)
{
	const int fds[] = {proof_case->g, proof_case->a,       proof_case->b,
	                   proof_case->s, proof_case->pipe[0], proof_case->pipe[1]};

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		if (fds[i] != -1)
			close(fds[i]);
	}
	record_cipher_free(proof_case->far_end);
	proof_case->far_end = NULL;
	OPENSSL_cleanse(&proof_case->keys, sizeof(proof_case->keys));
}

bool proof_case_arm(struct proof_case *proof_case)
{
	int error = keys_attach_ulp(proof_case->b);

	if (error) {
		proof_verdict(proof_case, PROOF_UNAVAILABLE, "TCP_ULP \"tls\": %s", strerror(-error));
		return false;
	}
	error = keys_install(proof_case->b, proof_case->direction, &proof_case->keys);
	if (error)
		proof_verdict(proof_case, PROOF_UNAVAILABLE, "%s: %s",
		              proof_case->direction == TLS_DIRECTION_TRANSMIT ? "TLS_TX" : "TLS_RX", strerror(-error));
	return !error;
}

void proof_progress(struct proof_case *proof_case)
{
	proof_case->progress_ns = monotonic_ns();
}

bool proof_wait(struct proof_case *proof_case, const short events[static 4])
{
	struct pollfd fds[] = {{proof_case->g, events[0], 0},
	                       {proof_case->a, events[1], 0},
	                       {proof_case->b, events[2], 0},
	                       {proof_case->s, events[3], 0}};
	uint64_t waited_ms = (monotonic_ns() - proof_case->progress_ns) / 1000000;

	/* A first part of a record makes B readable and gives nothing: then this returns at once, until the deadline.
	 */
	if (waited_ms < proof_case->patience_ms &&
	    poll(fds, ARRAY_SIZE(fds), (int)(proof_case->patience_ms - waited_ms)) != 0)
		return true;
	proof_verdict(proof_case, PROOF_UNSAFE, "stuck: no byte moved for %u ms", proof_case->patience_ms);
	return false;
}

int proof_send_control(int b, enum tls_content_type type, const void *bytes, size_t size)
{
	struct record_message message;

	record_message_to_send(&message, type, bytes, size);
	return sendmsg(b, &message.header, MSG_DONTWAIT | MSG_NOSIGNAL) == -1 ? -errno : 0;
}

ssize_t proof_receive_record(int b, void *buffer, size_t size, unsigned int *type)
{
	struct record_message message;
	ssize_t got;

	record_message_to_receive(&message, buffer, size);
	got = recvmsg(b, &message.header, MSG_DONTWAIT);
	*type = got == -1 ? RECORD_TYPE_NONE : record_message_type(&message);
	return got;
}
