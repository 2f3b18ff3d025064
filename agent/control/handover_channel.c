/* SPDX-License-Identifier: GPL-2.0-only */
#include "control/handover_channel.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "base/loop.h"
#include "datapath/connection_state.h"

#define MAGIC           0x726f7664u
#define SEND_TIMEOUT_MS 5000
#define NO_DESCRIPTORS                                                                                                 \
	{                                                                                                              \
		-1, -1                                                                                                 \
	}

struct header {
	uint32_t magic;
	uint16_t type;
	uint16_t descriptors; /* 0 or 2 */
	uint64_t size;        /* of the body */
};
_Static_assert(sizeof(struct header) == sizeof(((struct handover_reader *)NULL)->header), "one size");

union rights {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(2 * sizeof(int))];
};

/* ---- sending ---- */

static bool wait_for_room(int socket)
{
	struct pollfd room = {.fd = socket, .events = POLLOUT};

	return poll(&room, 1, SEND_TIMEOUT_MS) == 1 && !(room.revents & (POLLERR | POLLHUP));
}

/* What was taken, or -1 and nothing. */
static ssize_t send_some(int socket, struct msghdr *message)
{
	for (;;) {
		ssize_t sent = sendmsg(socket, message, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent > 0)
			return sent;
		if (sent == -1 && errno == EINTR)
			continue;
		if (sent == -1 && errno == EAGAIN && wait_for_room(socket))
			continue;
		return -1;
	}
}

static void attach(struct msghdr *message, union rights *rights, const int *fds)
{
	struct cmsghdr *control;

	message->msg_control = rights;
	message->msg_controllen = sizeof(*rights);
	control = CMSG_FIRSTHDR(message);
	control->cmsg_level = SOL_SOCKET;
	control->cmsg_type = SCM_RIGHTS;
	control->cmsg_len = CMSG_LEN(2 * sizeof(int));
	memcpy(CMSG_DATA(control), fds, 2 * sizeof(int));
}

int handover_send(int socket, enum handover_type type, const void *bytes, size_t size, const int *fds)
{
	struct header header = {.magic = MAGIC, .type = (uint16_t)type, .descriptors = fds ? 2 : 0, .size = size};
	struct iovec parts[2] = {{&header, sizeof(header)}, {(void *)bytes, size}};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
	union rights rights = {0};
	size_t left = sizeof(header) + size;
	bool begun = false;

	if (fds)
		attach(&message, &rights, fds);
	while (left > 0) {
		ssize_t sent = send_some(socket, &message);

		if (sent < 0)
			return begun ? -EPIPE : -EAGAIN;
		begun = true;
		message.msg_control = NULL; /* they go with the first byte */
		message.msg_controllen = 0;
		left -= (size_t)sent;
		for (size_t i = 0; i < 2; i++) {
			size_t step = (size_t)sent < parts[i].iov_len ? (size_t)sent : parts[i].iov_len;

			parts[i].iov_base = (uint8_t *)parts[i].iov_base + step;
			parts[i].iov_len -= step;
			sent -= (ssize_t)step;
		}
	}
	return 0;
}

/* ---- receiving ---- */

void handover_frame_release(struct handover_frame *frame)
{
	OPENSSL_clear_free(frame->bytes, frame->size);
	for (size_t i = 0; i < 2; i++) {
		if (frame->fds[i] >= 0)
			close(frame->fds[i]);
	}
	*frame = (struct handover_frame){.fds = NO_DESCRIPTORS};
}

void handover_reader_init(struct handover_reader *reader)
{
	*reader = (struct handover_reader){.frame.fds = NO_DESCRIPTORS};
}

void handover_reader_release(struct handover_reader *reader)
{
	handover_frame_release(&reader->frame);
	handover_reader_init(reader);
}

/* Two are wanted, and only with a frame's first bytes; anything else is closed. */
static bool take_descriptors(struct handover_reader *reader, struct msghdr *message)
{
	bool right = !(message->msg_flags & MSG_CTRUNC);

	for (struct cmsghdr *control = CMSG_FIRSTHDR(message); control; control = CMSG_NXTHDR(message, control)) {
		size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		int fds[2];

		if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(fds, CMSG_DATA(control), (count > 2 ? 2 : count) * sizeof(int));
		if (right && count == 2 && reader->frame.fds[0] == -1) {
			memcpy(reader->frame.fds, fds, sizeof(fds));
			continue;
		}
		for (size_t i = 0; i < count && i < 2; i++)
			close(fds[i]);
		right = false;
	}
	return right;
}

/* > 0, 0: nothing now, or negative errno. */
static ssize_t receive_some(struct handover_reader *reader, int socket, void *bytes, size_t size)
{
	union rights rights;
	struct iovec part = {bytes, size};
	struct msghdr message = {
	        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof(rights)};
	ssize_t got;

	do {
		got = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (got == -1 && errno == EINTR);
	if (got == -1)
		return errno == EAGAIN ? 0 : -ECONNRESET;
	if (!take_descriptors(reader, &message))
		return -EBADMSG;
	return got == 0 ? -ECONNRESET : got;
}

static int check_header(struct handover_reader *reader)
{
	struct header header;

	memcpy(&header, reader->header, sizeof(header));
	if (header.magic != MAGIC || header.type < HANDOVER_HELLO || header.type > HANDOVER_CONNECTION ||
	    header.size > CONNECTION_STATE_MAX || header.descriptors != (header.type == HANDOVER_CONNECTION ? 2 : 0) ||
	    (header.descriptors == 2) != (reader->frame.fds[0] != -1))
		return -EBADMSG;
	reader->frame.type = (enum handover_type)header.type;
	if (header.size == 0)
		return 0;
	reader->frame.bytes = OPENSSL_zalloc(header.size);
	if (!reader->frame.bytes)
		return -ENOMEM;
	reader->frame.size = header.size;
	return 0;
}

int handover_read(struct handover_reader *reader, int socket, struct handover_frame *frame)
{
	while (reader->header_used < sizeof(reader->header)) {
		ssize_t got = receive_some(reader, socket, reader->header + reader->header_used,
		                           sizeof(reader->header) - reader->header_used);

		if (got <= 0)
			return (int)got;
		reader->header_used += (size_t)got;
		if (reader->header_used == sizeof(reader->header)) {
			int error = check_header(reader);

			if (error)
				return error;
		}
	}
	while (reader->body_used < reader->frame.size) {
		ssize_t got = receive_some(reader, socket, reader->frame.bytes + reader->body_used,
		                           reader->frame.size - reader->body_used);

		if (got <= 0)
			return (int)got;
		reader->body_used += (size_t)got;
	}
	*frame = reader->frame;
	handover_reader_init(reader);
	return 1;
}

int handover_expect(struct handover_reader *reader, int socket, enum handover_type type, int timeout_ms,
                    struct handover_frame *frame)
{
	uint64_t end = monotonic_ns() + (uint64_t)timeout_ms * 1000000;

	for (;;) {
		int result = handover_read(reader, socket, frame);
		uint64_t now = monotonic_ns();
		struct pollfd readable = {.fd = socket, .events = POLLIN};

		if (result < 0)
			return result;
		if (result == 1 && frame->type == type)
			return 0;
		if (result == 1) {
			handover_frame_release(frame);
			return -EBADMSG;
		}
		if (now >= end)
			return -ETIMEDOUT;
		(void)poll(&readable, 1, (int)((end - now) / 1000000) + 1);
	}
}

bool handover_peer_is_trusted(int socket)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
	       (peer.uid == 0 || peer.uid == geteuid());
}
