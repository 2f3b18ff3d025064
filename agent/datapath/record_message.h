/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * record_message.h: one sendmsg() or recvmsg() on a kernel TLS socket with the record's type beside it
 * (Documentation/networking/tls.rst, "Sending TLS control messages" and "Receiving TLS control messages"). The relay
 * and the start-up proof both speak to the kernel with these, so that what is proved is what is used. Pure: the call
 * itself is the caller's. Any thread.
 */
#ifndef POSTERN_DATAPATH_RECORD_MESSAGE_H
#define POSTERN_DATAPATH_RECORD_MESSAGE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "tls/record.h"

#define RECORD_TYPE_NONE 0 /* the kernel named none: end of stream, or a socket that does not decrypt */

/* It points into itself: never copied, and alive until the call has returned. */
struct record_message {
	struct msghdr header;
	struct iovec bytes;
	union {
		struct cmsghdr align;
		uint8_t room[CMSG_SPACE(1)];
	} control;
};

/* For sendmsg(): one record of this type. */
void record_message_to_send(struct record_message *message, enum tls_content_type type, const void *bytes, size_t size);
/* For recvmsg(): room for the data and for the type. */
void record_message_to_receive(struct record_message *message, void *buffer, size_t size);
/* After recvmsg() succeeded: the type, RECORD_TYPE_NONE if there is none. */
unsigned int record_message_type(struct record_message *message);

#endif
