/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/record_message.h"

#include <linux/tls.h>
#include <string.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

void record_message_to_receive(struct record_message *message, void *buffer, size_t size)
{
	memset(message, 0, sizeof(*message));
	message->bytes = (struct iovec){.iov_base = buffer, .iov_len = size};
	message->header.msg_iov = &message->bytes;
	message->header.msg_iovlen = 1;
	message->header.msg_control = message->control.room;
	message->header.msg_controllen = sizeof(message->control.room);
}

void record_message_to_send(struct record_message *message, enum tls_content_type type, const void *bytes, size_t size)
{
	struct cmsghdr *control;

	record_message_to_receive(message, (void *)bytes, size);
	control = CMSG_FIRSTHDR(&message->header);
	control->cmsg_level = SOL_TLS;
	control->cmsg_type = TLS_SET_RECORD_TYPE;
	control->cmsg_len = CMSG_LEN(1);
	*CMSG_DATA(control) = (uint8_t)type;
}

unsigned int record_message_type(struct record_message *message)
{
	struct cmsghdr *control = CMSG_FIRSTHDR(&message->header);

	if (!control || (message->header.msg_flags & MSG_CTRUNC) || control->cmsg_level != SOL_TLS ||
	    control->cmsg_type != TLS_GET_RECORD_TYPE || control->cmsg_len < CMSG_LEN(1))
		return RECORD_TYPE_NONE;
	return *CMSG_DATA(control);
}
