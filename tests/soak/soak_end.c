/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "soak.h"

static const struct soak_side *side_of(const struct soak_end_state *end)
{
	return &end->plan->side[end->side];
}

bool soak_end_is_over(const struct soak_end_state *end)
{
	return end->fd == -1 || end->error || end->wrong || (end->ended && end->peer_ended);
}

/* Of an SSL call that moved nothing. True: it is a matter of waiting. */
static bool ssl_waits(struct soak_end_state *end, int r)
{
	switch (SSL_get_error(end->ssl, r)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return true;
	case SSL_ERROR_ZERO_RETURN:
		end->peer_ended = true;
		return false;
	default:
		end->error = errno ? errno : EPROTO;
		return false;
	}
}

static size_t read_some(struct soak_end_state *end, uint8_t *buffer)
{
	size_t size = side_of(end)->read_step;
	unsigned int sender = !end->side;
	ssize_t got;

	errno = 0;
	if (end->ssl) {
		ERR_clear_error();
		got = SSL_read(end->ssl, buffer, (int)size);
		if (got <= 0)
			(void)ssl_waits(end, (int)got);
	} else {
		got = recv(end->fd, buffer, size, MSG_DONTWAIT);
		if (got == 0)
			end->peer_ended = true;
		else if (got == -1 && errno != EAGAIN)
			end->error = errno;
	}
	if (got <= 0)
		return 0;
	if (end->received + (size_t)got > end->plan->side[sender].send ||
	    memcmp(buffer, soak_noise(end->plan, sender, end->received), (size_t)got) != 0) {
		end->wrong = true;
		soak_print_wrong(end->plan, sender, end->received, buffer, (size_t)got);
		return 0;
	}
	end->received += (size_t)got;
	return (size_t)got;
}

static size_t write_some(struct soak_end_state *end)
{
	size_t left = side_of(end)->send - end->sent;
	size_t size = left < side_of(end)->write_step ? left : side_of(end)->write_step;
	const uint8_t *bytes = soak_noise(end->plan, end->side, end->sent);
	ssize_t taken;

	errno = 0;
	if (end->ssl) {
		ERR_clear_error();
		taken = SSL_write(end->ssl, bytes, (int)size);
		if (taken <= 0)
			(void)ssl_waits(end, (int)taken);
	} else {
		taken = send(end->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (taken == -1 && errno != EAGAIN)
			end->error = errno;
	}
	if (taken <= 0)
		return 0;
	end->sent += (size_t)taken;
	return (size_t)taken;
}

static bool may_end(const struct soak_end_state *end)
{
	if (end->ended || end->sent < side_of(end)->send)
		return false;
	switch (side_of(end)->end) {
	case SOAK_END_WHEN_DONE:
		return end->received >= end->plan->side[!end->side].send;
	case SOAK_END_AFTER_PEER:
		return end->peer_ended;
	default:
		return true;
	}
}

static void say_end(struct soak_end_state *end)
{
	if (side_of(end)->end == SOAK_END_BY_RESET) {
		setsockopt(end->fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
		close(end->fd);
		end->fd = -1;
		end->ended = true;
		return;
	}
	if (end->ssl) {
		int r;

		ERR_clear_error();
		errno = 0;
		r = SSL_shutdown(end->ssl);
		if (r < 0 && ssl_waits(end, r))
			return; /* once more */
		if (r < 0)
			return;
	}
	(void)shutdown(end->fd, SHUT_WR);
	end->ended = true;
}

static void rest_now_and_then(struct soak_end_state *end, uint64_t now_ns)
{
	const struct soak_side *side = side_of(end);

	if (!side->pause_us || end->sent + end->received < end->next_pause)
		return;
	end->next_pause = end->sent + end->received + side->pause_every;
	end->paused_until_ns = now_ns + side->pause_us * UINT64_C(1000);
}

size_t soak_end_step(struct soak_end_state *end, uint64_t now_ns, uint8_t *buffer, short *wants)
{
	size_t moved = 0;

	*wants = 0;
	if (soak_end_is_over(end) || now_ns < end->paused_until_ns)
		return 0;
	if (!end->peer_ended)
		moved += read_some(end, buffer);
	if (!soak_end_is_over(end) && !end->ended && end->sent < side_of(end)->send)
		moved += write_some(end);
	if (!end->error && !end->wrong && may_end(end))
		say_end(end);
	if (soak_end_is_over(end))
		return moved;
	rest_now_and_then(end, now_ns);
	*wants = (short)((end->peer_ended ? 0 : POLLIN) |
	                 (end->ended || end->sent == side_of(end)->send ? 0 : POLLOUT));
	return moved;
}
