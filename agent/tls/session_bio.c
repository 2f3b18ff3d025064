// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>

#include <openssl/bio.h>

#include "tls/session_private.h"

/* A flight of many certificates takes some turns; any other one. */
#define TURN_RECORDS 16
#define TURN_BYTES   (32u << 10)

/*
 * A record has been read whole. CHANGE_CIPHER_SPEC is where TLS 1.2 changes its read key; TLS 1.3 ignores it and
 * changes at Finished (session_on_message()).
 */
static void record_ended(struct record_reader *reader)
{
	reader->header_length = 0;
	reader->turn_records++;
	if (reader->header[0] == TLS_CONTENT_CHANGE_CIPHER_SPEC)
		reader->records = 0;
	else
		reader->records++;
}

/* False: no TLS record begins like this. */
static bool advance(struct record_reader *reader, const char *bytes, size_t length)
{
	ssize_t whole;

	if (reader->header_length == TLS_RECORD_HEADER) {
		reader->body_left -= length;
		if (reader->body_left == 0)
			record_ended(reader);
		return true;
	}
	memcpy(reader->header + reader->header_length, bytes, length);
	reader->header_length += length;
	if (reader->header_length < TLS_RECORD_HEADER)
		return true;
	whole = record_length(reader->header, TLS_RECORD_HEADER);
	if (whole < 0)
		return false;
	reader->any = true;
	reader->body_left = (size_t)whole - TLS_RECORD_HEADER;
	if (reader->body_left == 0)
		record_ended(reader);
	return true;
}

/* Takes from the socket what OpenSSL has taken from the window. It was seen there, so it is there. */
static bool take_seen(struct tls_session *session)
{
	struct record_window *window = session->window;
	size_t taken = window->taken;
	ssize_t n;

	window->seen = window->taken = 0;
	if (taken == 0)
		return true;
	n = recv(session->fd, window->bytes, taken, MSG_DONTWAIT);
	if (n == (ssize_t)taken)
		return true;
	session->socket_error = EIO;
	return false;
}

static ssize_t receive_window(struct tls_session *session, char *buffer, size_t want)
{
	struct record_window *window = session->window;
	ssize_t n;

	if (window->taken == window->seen) {
		if (!take_seen(session)) {
			errno = EIO;
			return -1;
		}
		n = recv(session->fd, window->bytes, sizeof(window->bytes), MSG_DONTWAIT | MSG_PEEK);
		if (n <= 0)
			return n;
		window->seen = (size_t)n;
	}
	if (want > window->seen - window->taken)
		want = window->seen - window->taken;
	memcpy(buffer, window->bytes + window->taken, want);
	window->taken += want;
	return (ssize_t)want;
}

void session_open_window(struct tls_session *session, struct record_window *window)
{
	window->seen = window->taken = 0;
	session->window = window;
}

bool session_close_window(struct tls_session *session)
{
	bool taken = !session->window || take_seen(session);

	session->window = NULL;
	return taken;
}

void session_begin_turn(struct tls_session *session)
{
	session->reader.turn_records = session->reader.turn_bytes = 0;
}

/* Between records only: what has begun is read on. */
static bool turn_is_over(const struct record_reader *reader)
{
	return reader->header_length == 0 && (reader->turn_records >= TURN_RECORDS || reader->turn_bytes >= TURN_BYTES);
}

/* The header, then exactly the body, whatever OpenSSL asks for: what follows is the kernel's to decrypt. */
static int bio_read(BIO *bio, char *buffer, int size)
{
	struct tls_session *session = BIO_get_data(bio);
	struct record_reader *reader = &session->reader;
	size_t want = reader->header_length < TLS_RECORD_HEADER ? TLS_RECORD_HEADER - reader->header_length
	                                                        : reader->body_left;
	ssize_t n;

	BIO_clear_retry_flags(bio);
	if (size <= 0 || session->receive_armed || reader->malformed)
		return -1;
	if (turn_is_over(reader)) {
		BIO_set_retry_read(bio);
		return -1;
	}
	if (want > (size_t)size)
		want = (size_t)size;
	n = session->window ? receive_window(session, buffer, want) : recv(session->fd, buffer, want, MSG_DONTWAIT);
	if (n > 0) {
		reader->turn_bytes += (size_t)n;
		if (advance(reader, buffer, (size_t)n))
			return (int)n;
		reader->malformed = true;
		return -1;
	}
	if (n == 0)
		reader->ended = true;
	else if (errno == EAGAIN || errno == EINTR)
		BIO_set_retry_read(bio);
	else
		session->socket_error = errno;
	return (int)n;
}

static int bio_write(BIO *bio, const char *buffer, int size)
{
	struct tls_session *session = BIO_get_data(bio);
	ssize_t n;

	BIO_clear_retry_flags(bio);
	if (session->transmit_armed && session->answer_expected) {
		/* Before it reads the next handshake message. The answer that counts is the caller's, by the kernel. */
		session->answer_expected = false;
		return size;
	}
	if (session->transmit_armed) {
		/* A record of OpenSSL's would be sealed once more by the kernel, with a sequence number used twice. */
		session->sink_hit = true;
		return -1;
	}
	if (session->handshake_done)
		session->written = true;
	n = send(session->fd, buffer, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		BIO_set_retry_write(bio);
	else if (n < 0)
		session->socket_error = errno;
	return (int)n;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static int bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

/* One method table for all sessions: made once, never changed. */
static pthread_once_t method_once = PTHREAD_ONCE_INIT;
static BIO_METHOD *method;

static void make_method(void)
{
	BIO_METHOD *new = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "backend");

	if (!new || !BIO_meth_set_read(new, bio_read) || !BIO_meth_set_write(new, bio_write) ||
	    !BIO_meth_set_ctrl(new, bio_control) || !BIO_meth_set_create(new, bio_create)) {
		BIO_meth_free(new);
		return;
	}
	method = new;
}

BIO *session_new_bio(struct tls_session *session)
{
	BIO *bio;

	pthread_once(&method_once, make_method);
	bio = method ? BIO_new(method) : NULL;
	if (bio)
		BIO_set_data(bio, session);
	return bio;
}
