// SPDX-License-Identifier: GPL-2.0-only
/*
 * The proof proved: a kernel TLS that lives in this program, right at first and then wrong in one way at a time. The
 * right one must be found safe, every wrong one unsafe. This program's own setsockopt(), send(), sendmsg(), recvmsg()
 * and splice() play the kernel on socket B; all other sockets are real.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "datapath/proof_case.h"
#include "tls/context.h"

enum fault {
	RIGHT,
	/* transmit */
	PLAINTEXT,      /* keys accepted, nothing sealed: what a sockmap did to kTLS */
	PLAINTEXT_ONCE, /* one write goes out unsealed */
	LOST_BYTE,      /* sealed, with a valid MAC, but for its last byte */
	CHANGED_BYTE,   /* sealed with a valid MAC after it was changed */
	REORDERED,      /* two writes change places */
	REPEATED,       /* one write twice */
	BAD_MAC,
	SKIPPED_SEQUENCE,
	WRONG_TYPE,
	LOST_CLOSE_NOTIFY,
	DATA_AFTER_CLOSE_NOTIFY,
	WRITE_ERROR,
	STUCK,
	/* receive; some of the above, too */
	CIPHERTEXT,     /* given to the reader as it came, with a type */
	NO_TYPE,        /* plaintext without a cmsg */
	LOST_TAIL,      /* five bytes of one record (6.12.95's splice into a short pipe) */
	LEAKED_PADDING, /* a zero more than was sent */
	TICKET_AS_DATA,
	LOST_TICKET,
	LATE_TICKET,
	EARLY_END,
	READ_ERROR,
	FAULTS,
};

#define FAULTY_RECORD 7 /* the record that goes wrong, counted from 0 */

static struct {
	int b; /* the descriptor that has keys; -1: none */
	enum fault fault;
	struct record_cipher *cipher;
	unsigned int records; /* sealed or opened */

	uint8_t wire[2 * TLS_RECORD_MAX]; /* transmit: sealed, not yet in TCP */
	size_t wire_from, wire_size;
	uint8_t kept[TLS_RECORD_PLAIN_MAX]; /* transmit: the write that comes late */
	size_t kept_size;

	uint8_t record[TLS_RECORD_MAX]; /* receive: the present one, as far as it is here */
	size_t record_size;
	uint8_t plain[TLS_RECORD_PLAIN_MAX + 256 + 1];
	size_t plain_from, plain_size;
	unsigned int type; /* of plain; 0: nothing is there */
	bool ticket_kept;  /* receive: the ticket comes after the next record */
	uint8_t ticket[64];
	size_t ticket_size;
} kernel;

static bool now(enum fault fault)
{
	return kernel.fault == fault && kernel.records == FAULTY_RECORD;
}

/* Returns false while TCP has no room. */
static bool flush_wire(void)
{
	while (kernel.wire_from < kernel.wire_size) {
		ssize_t n = syscall(SYS_sendto, kernel.b, kernel.wire + kernel.wire_from,
		                    kernel.wire_size - kernel.wire_from, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);

		if (n == -1)
			return false;
		kernel.wire_from += (size_t)n;
	}
	kernel.wire_from = kernel.wire_size = 0;
	return true;
}

static void to_wire(enum tls_content_type type, const uint8_t *bytes, size_t size)
{
	uint8_t *record = kernel.wire + kernel.wire_size;
	ssize_t length = record_seal(kernel.cipher, type, bytes, size, 0, record);

	assert_true(length > 0);
	if (now(BAD_MAC))
		record[length - 1] ^= 1;
	if (kernel.fault == PLAINTEXT || now(PLAINTEXT_ONCE)) {
		memcpy(record, bytes, size);
		length = (ssize_t)size;
	}
	kernel.wire_size += (size_t)length;
	kernel.records++;
}

static void seal(const uint8_t *bytes, size_t size)
{
	uint8_t changed[TLS_RECORD_PLAIN_MAX];

	memcpy(changed, bytes, size);
	if (now(REORDERED)) {
		memcpy(kernel.kept, bytes, size);
		kernel.kept_size = size;
		kernel.records++;
		return;
	}
	if (now(CHANGED_BYTE))
		changed[size / 2] ^= 0x20;
	if (now(SKIPPED_SEQUENCE)) {
		uint8_t nowhere[TLS_RECORD_MAX];

		record_seal(kernel.cipher, TLS_CONTENT_APPLICATION_DATA, bytes, size, 0, nowhere);
	}
	if (now(REPEATED)) {
		kernel.records++;
		to_wire(TLS_CONTENT_APPLICATION_DATA, changed, size);
	}
	to_wire(now(WRONG_TYPE) ? TLS_CONTENT_HANDSHAKE : TLS_CONTENT_APPLICATION_DATA, changed,
	        now(LOST_BYTE) ? size - 1 : size);
	if (kernel.kept_size > 0)
		to_wire(TLS_CONTENT_APPLICATION_DATA, kernel.kept, kernel.kept_size);
	kernel.kept_size = 0;
}

static ssize_t refuse(int error)
{
	errno = error;
	return -1;
}

/* One record a call, as a kernel with little room does it. */
static ssize_t transmit(const void *bytes, size_t size)
{
	if ((kernel.fault == STUCK && kernel.records >= FAULTY_RECORD) || !flush_wire())
		return refuse(EAGAIN);
	if (now(WRITE_ERROR))
		return refuse(EIO);
	if (size > TLS_RECORD_PLAIN_MAX)
		size = TLS_RECORD_PLAIN_MAX;
	seal(bytes, size);
	(void)flush_wire();
	return (ssize_t)size;
}

static bool is_b(int fd)
{
	return kernel.b != -1 && fd == kernel.b;
}

ssize_t send(int fd, const void *bytes, size_t size, int flags)
{
	if (is_b(fd))
		return transmit(bytes, size);
	return syscall(SYS_sendto, fd, bytes, size, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	if (!is_b(fd))
		return syscall(SYS_sendmsg, fd, message, flags);
	if (!flush_wire())
		return refuse(EAGAIN);
	if (kernel.fault != LOST_CLOSE_NOTIFY)
		to_wire(*CMSG_DATA(CMSG_FIRSTHDR(message)), message->msg_iov->iov_base, message->msg_iov->iov_len);
	if (kernel.fault == DATA_AFTER_CLOSE_NOTIFY)
		to_wire(TLS_CONTENT_APPLICATION_DATA, (const uint8_t *)"x", 1);
	(void)flush_wire();
	return (ssize_t)message->msg_iov->iov_len;
}

/* 1: a record is there; 0: the end; -1 and errno. */
static int next_record(void)
{
	for (;;) {
		ssize_t length = record_length(kernel.record, kernel.record_size);
		size_t want = length > 0 ? (size_t)length : TLS_RECORD_HEADER;
		ssize_t n;

		assert_true(length >= 0);
		if (length > 0 && kernel.record_size == want)
			return 1;
		n = syscall(SYS_recvfrom, kernel.b, kernel.record + kernel.record_size, want - kernel.record_size,
		            MSG_DONTWAIT, NULL, NULL);
		if (n <= 0)
			return (int)n;
		kernel.record_size += (size_t)n;
	}
}

static void open_record(void)
{
	enum tls_content_type type;
	ssize_t size = record_open(kernel.cipher, kernel.record, kernel.record_size, kernel.plain, &type);

	assert_true(size >= 0);
	kernel.type = type;
	kernel.plain_from = 0;
	kernel.plain_size = (size_t)size;
	if (now(CIPHERTEXT)) {
		memcpy(kernel.plain, kernel.record, kernel.record_size);
		kernel.plain_size = kernel.record_size;
	}
	if (now(CHANGED_BYTE))
		kernel.plain[kernel.plain_size / 2] ^= 1;
	if (now(LOST_TAIL))
		kernel.plain_size -= kernel.plain_size < 5 ? kernel.plain_size : 5;
	if (now(LEAKED_PADDING))
		kernel.plain[kernel.plain_size++] = 0;
	if (kernel.fault == TICKET_AS_DATA && type == TLS_CONTENT_HANDSHAKE)
		kernel.type = TLS_CONTENT_APPLICATION_DATA;
	kernel.record_size = 0;
	kernel.records++;
}

/* Fills plain and type from the next record; -1 and errno; 0 at the end. */
static int fetch(void)
{
	if (kernel.type != 0)
		return 1;
	if (kernel.fault == STUCK && kernel.records >= FAULTY_RECORD)
		return (int)refuse(EAGAIN);
	if (now(READ_ERROR))
		return (int)refuse(EBADMSG);
	if (now(EARLY_END))
		return 0;
	for (;;) {
		int r = next_record();

		if (r <= 0)
			return r;
		open_record();
		if ((kernel.fault == LOST_TICKET && kernel.type == TLS_CONTENT_HANDSHAKE) ||
		    (kernel.fault == LOST_CLOSE_NOTIFY && kernel.type == TLS_CONTENT_ALERT) ||
		    (kernel.fault == LOST_BYTE && kernel.records == FAULTY_RECORD)) {
			kernel.type = 0;
			continue;
		}
		if (kernel.fault != LATE_TICKET || kernel.type != TLS_CONTENT_HANDSHAKE || kernel.ticket_kept)
			return 1;
		memcpy(kernel.ticket, kernel.plain, kernel.plain_size);
		kernel.ticket_size = kernel.plain_size;
		kernel.ticket_kept = true;
		kernel.type = 0;
	}
}

static void consume(size_t size)
{
	kernel.plain_from += size;
	if (kernel.plain_from < kernel.plain_size)
		return;
	kernel.type = 0;
	if (kernel.ticket_kept && kernel.ticket_size > 0) {
		memcpy(kernel.plain, kernel.ticket, kernel.ticket_size);
		kernel.plain_from = 0;
		kernel.plain_size = kernel.ticket_size;
		kernel.type = TLS_CONTENT_HANDSHAKE;
		kernel.ticket_size = 0;
	}
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	struct cmsghdr *header = CMSG_FIRSTHDR(message);
	size_t size;
	int r;

	if (!is_b(fd))
		return syscall(SYS_recvmsg, fd, message, flags);
	r = fetch();
	message->msg_controllen = 0;
	if (r <= 0)
		return r;
	if (!now(NO_TYPE)) {
		message->msg_controllen = CMSG_SPACE(1);
		header->cmsg_level = SOL_TLS;
		header->cmsg_type = TLS_GET_RECORD_TYPE;
		header->cmsg_len = CMSG_LEN(1);
		*CMSG_DATA(header) = (uint8_t)kernel.type;
	}
	size = kernel.plain_size - kernel.plain_from;
	assert_true(size <= message->msg_iov->iov_len);
	memcpy(message->msg_iov->iov_base, kernel.plain + kernel.plain_from, size);
	consume(size);
	return (ssize_t)size;
}

static ssize_t splice_from_b(int pipe)
{
	size_t size;
	int r = fetch();
	ssize_t n;

	if (r <= 0)
		return r;
	if (kernel.type != TLS_CONTENT_APPLICATION_DATA)
		return refuse(EINVAL);
	size = kernel.plain_size - kernel.plain_from;
	if (size == 0)
		return 0;
	n = write(pipe, kernel.plain + kernel.plain_from, size);
	if (n > 0)
		consume((size_t)n);
	return n;
}

ssize_t splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t size, unsigned int flags)
{
	uint8_t bytes[TLS_RECORD_PLAIN_MAX];
	ssize_t n;

	if (is_b(in))
		return splice_from_b(out);
	if (!is_b(out))
		return syscall(SYS_splice, in, in_offset, out, out_offset, size, flags);
	if ((kernel.fault == STUCK && kernel.records >= FAULTY_RECORD) || !flush_wire())
		return refuse(EAGAIN);
	if (now(WRITE_ERROR))
		return refuse(EIO);
	n = read(in, bytes, size < sizeof(bytes) ? size : sizeof(bytes));
	return n <= 0 ? n : transmit(bytes, (size_t)n);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
	if (level == IPPROTO_TCP && name == TCP_ULP)
		return 0;
	if (level != SOL_TLS)
		return (int)syscall(SYS_setsockopt, fd, level, name, value, length);
	if (name == TLS_TX || name == TLS_RX)
		kernel.b = fd;
	return 0;
}

static struct proof_case proof_case;

static void check_fault(enum proof_mode mode, enum tls_direction direction, enum tls_version version, enum fault fault,
                        const char *in_detail)
{
	static const enum tls_cipher ciphers[] = {TLS_CIPHER_AES_256, TLS_CIPHER_CHACHA20};
	struct proof_result result = {.verdict = PROOF_NOT_RUN};

	memset(&kernel, 0, sizeof(kernel));
	kernel.b = -1;
	kernel.fault = fault;
	proof_case.patience_ms = fault == STUCK ? 50 : PROOF_PATIENCE_MS;
	proof_case.mode = mode;
	proof_case.direction = direction;
	proof_case.result = &result;
	assert_true(proof_case_open(&proof_case, version, ciphers[version]));
	assert_int_equal(record_cipher_new(&proof_case.keys, &kernel.cipher), 0);
	assert_true(proof_case_arm(&proof_case));
	assert_int_equal(kernel.b, proof_case.b);
	if (direction == TLS_DIRECTION_TRANSMIT)
		proof_transmit(&proof_case);
	else
		proof_receive(&proof_case);
	kernel.b = -1;
	proof_case_close(&proof_case);
	record_cipher_free(kernel.cipher);
	if (result.verdict != (fault == RIGHT ? PROOF_SAFE : PROOF_UNSAFE) || !strstr(result.detail, in_detail))
		fail_msg("%s %s %s, fault %d: expected \"%s\", seen %s \"%s\"", proof_mode_name(mode),
		         direction == TLS_DIRECTION_TRANSMIT ? "transmit" : "receive", tls_version_name(version),
		         (int)fault, in_detail, proof_verdict_name(result.verdict), result.detail);
	if (fault != RIGHT)
		assert_true(kernel.records > 0 || fault == PLAINTEXT);
}

static void transmit_faults(void **state)
{
	(void)state;
	static const struct {
		enum fault fault;
		const char *in_detail;
	} table[] = {
	        {RIGHT, ""},
	        {PLAINTEXT, "on the wire"},
	        {PLAINTEXT_ONCE, "plaintext on the wire"},
	        {LOST_BYTE, "lost, changed or reordered"},
	        {CHANGED_BYTE, "lost, changed or reordered"},
	        {REORDERED, "lost, changed or reordered"},
	        {REPEATED, "lost, changed or reordered"},
	        {BAD_MAC, "does not open"},
	        {SKIPPED_SEQUENCE, "does not open"},
	        {WRONG_TYPE, "a record of type 22"},
	        {LOST_CLOSE_NOTIFY, "without close_notify"},
	        {DATA_AFTER_CLOSE_NOTIFY, "after close_notify"},
	        {WRITE_ERROR, "writing B: Input/output error"},
	        {STUCK, "stuck"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		for (enum tls_version version = 0; version < 2; version++)
			for (enum proof_mode mode = PROOF_COPY; mode <= PROOF_SPLICE; mode++)
				check_fault(mode, TLS_DIRECTION_TRANSMIT, version, table[i].fault, table[i].in_detail);
}

static void receive_faults(void **state)
{
	(void)state;
	static const struct {
		enum fault fault;
		bool copy_only; /* splice has no cmsg */
		const char *in_detail;
	} table[] = {
	        {RIGHT, false, ""},
	        {LOST_BYTE, false, "lost, changed or reordered"},
	        {CHANGED_BYTE, false, "lost, changed or reordered"},
	        {CIPHERTEXT, false, "lost, changed or reordered"},
	        {NO_TYPE, true, "without a record type"},
	        {LOST_TAIL, false, "after"},
	        {LEAKED_PADDING, false, "after"},
	        {TICKET_AS_DATA, false, "lost, changed or reordered"},
	        {LOST_TICKET, false, "control records arrived"},
	        {LATE_TICKET, false, "a control record came"},
	        {LOST_CLOSE_NOTIFY, false, "close_notify did not arrive"},
	        {EARLY_END, false, "bytes arrived"},
	        {READ_ERROR, false, "Bad message"},
	        {STUCK, false, "stuck"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		for (enum tls_version version = 0; version < 2; version++)
			for (enum proof_mode mode = PROOF_COPY; mode < PROOF_MODES; mode++)
				if (!table[i].copy_only || mode != PROOF_SPLICE)
					check_fault(mode, TLS_DIRECTION_RECEIVE, version, table[i].fault,
					            table[i].in_detail);
}

static int set_up(void **state)
{
	(void)state;
	return tls_global_init() < 0 ? -1 : proof_buffers_new(&proof_case);
}

static int tear_down(void **state)
{
	(void)state;
	proof_buffers_free(&proof_case);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(transmit_faults),
	        cmocka_unit_test(receive_faults),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
