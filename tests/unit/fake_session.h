/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * fake_session.h: a tls_session of the tests' own, which plays a script: what each read brings, what writes take. It
 * defines the functions of tls/session.h themselves, so the library's are not linked: one program includes it once.
 *
 * Only relay tests use it. What OpenSSL really does is tested with OpenSSL (test_relay_user_tls.c, test_session*.c).
 */
#ifndef POSTERN_TESTS_FAKE_SESSION_H
#define POSTERN_TESTS_FAKE_SESSION_H

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "mock_kernel_io.h"
#include "tls/session.h"

#define FAKE_READS_MAX 64

struct fake_read {
	ssize_t result; /* > 0: that many bytes; 0 close_notify; -EAGAIN; -ECONNRESET */
	const char *bytes;
	bool at_boundary; /* afterwards */
};

struct tls_session {
	struct tls_session_info info;
	struct fake_read reads[FAKE_READS_MAX]; /* then -EAGAIN for ever */
	size_t read_count;
	size_t read_next;
	bool at_boundary;
	int arm_error;
	bool receive_armed;
	struct mock_socket *socket; /* B: its room is what writes take; becomes kernel_tls when receive is armed */
	enum postern_reason reason;
	const char *detail;

	int write_error;
	uint8_t *pending; /* of the write that said -EAGAIN: OpenSSL wants the same bytes again */
	size_t pending_size;
	bool changed_bytes;    /* they were others */
	bool update_requested; /* the next read brought a KeyUpdate that wants an answer */
	bool has_secrets;
	int shutdown_result;
	unsigned int shutdowns;
	bool freed; /* the memory is the test's */
};

void tls_session_free(struct tls_session *session)
{
	if (!session)
		return;
	free(session->pending);
	session->pending = NULL;
	session->freed = true;
}

enum postern_reason tls_session_reason(const struct tls_session *session)
{
	return session->reason;
}

const char *tls_session_detail(const struct tls_session *session)
{
	return session->detail ? session->detail : "";
}

void tls_session_info(const struct tls_session *session, struct tls_session_info *info)
{
	*info = session->info;
}

bool tls_session_at_boundary(const struct tls_session *session)
{
	return session->at_boundary;
}

int tls_session_arm_receive(struct tls_session *session)
{
	if (session->arm_error)
		return session->arm_error;
	session->receive_armed = true;
	session->socket->kernel_tls = true;
	return 0;
}

ssize_t tls_session_read(struct tls_session *session, void *buffer, size_t size)
{
	const struct fake_read *next = &session->reads[session->read_next];

	/* The mock's socket has one byte for each read of the script, so that it is readable as long as there is one.
	 */
	if (session->read_next == session->read_count)
		return -EAGAIN;
	session->read_next++;
	mock_take_one(session->socket);
	session->at_boundary = next->at_boundary;
	if (next->result <= 0)
		return next->result;
	if ((size_t)next->result > size)
		abort();
	memcpy(buffer, next->bytes, (size_t)next->result);
	return next->result;
}

ssize_t tls_session_write(struct tls_session *session, const void *buffer, size_t size)
{
	ssize_t taken;

	if (session->write_error)
		return session->write_error;
	if (session->pending && (size != session->pending_size || memcmp(buffer, session->pending, size) != 0))
		session->changed_bytes = true;
	free(session->pending);
	session->pending = NULL;
	taken = mock_write_through(session->socket, buffer, size);
	if (taken >= 0)
		return taken;
	session->pending = malloc(size);
	if (!session->pending)
		abort();
	memcpy(session->pending, buffer, size);
	session->pending_size = size;
	return -EAGAIN;
}

int tls_session_shutdown(struct tls_session *session)
{
	session->shutdowns++;
	return session->shutdown_result;
}

/* The relay does not call these; they are here so that the whole of session.h is the fake's. */
int tls_session_new(struct tls_context *context, int b_fd, const struct tls_session_owner *owner,
                    struct tls_session **session)
{
	(void)context;
	(void)b_fd;
	(void)owner;
	(void)session;
	return -ENOSYS;
}

enum tls_step tls_session_handshake(struct tls_session *session)
{
	(void)session;
	return TLS_STEP_FAILED;
}

int tls_session_arm_transmit(struct tls_session *session)
{
	(void)session;
	return -ENOSYS;
}

bool tls_session_take_update_request(struct tls_session *session)
{
	bool requested = session->update_requested;

	session->update_requested = false;
	return requested;
}

int tls_session_next_transmit_keys(struct tls_session *session, struct traffic_keys *keys)
{
	return keys_derive_1_3(session->info.cipher, (const uint8_t[32]){1}, 32, keys);
}

bool tls_session_take_rekey_secrets(struct tls_session *session, struct tls_rekey_secrets *secrets)
{
	*secrets = (struct tls_rekey_secrets){.cipher = session->info.cipher, .length = session->has_secrets ? 32 : 0};
	return session->has_secrets;
}

#endif
