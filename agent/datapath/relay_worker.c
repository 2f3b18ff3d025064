/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/relay_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "base/log.h"

#define PAGE_ALIGNMENT 4096

/* A pipe of RELAY_BUFFER_SIZE, or what the limits allow; pipe_size 0 means that nothing is spliced. */
static int make_pipe(struct relay_worker *worker)
{
	int size;

	if (pipe2(worker->pipe, O_NONBLOCK | O_CLOEXEC) == -1) {
		worker->pipe[0] = worker->pipe[1] = -1;
		worker->pipe_size = 0;
		return -errno;
	}
	size = fcntl(worker->pipe[1], F_SETPIPE_SZ, RELAY_BUFFER_SIZE);
	if (size == -1)
		size = fcntl(worker->pipe[1], F_GETPIPE_SZ);
	if (size < 0)
		size = 0;
	/* Never more than the buffer: what a blocked splice leaves is taken out of the pipe by one round of reads. */
	worker->pipe_size = (size_t)size < worker->buffer_size ? (size_t)size : worker->buffer_size;
	return 0;
}

static void close_pipe(struct relay_worker *worker)
{
	for (int i = 0; i < 2; i++) {
		if (worker->pipe[i] != -1)
			close(worker->pipe[i]);
		worker->pipe[i] = -1;
	}
	worker->pipe_size = 0;
}

int relay_worker_init(struct relay_worker *worker, struct loop *loop, const struct kernel_io *io)
{
	int error;

	*worker = (struct relay_worker){.loop = loop, .io = io, .pipe = {-1, -1}, .buffer_size = RELAY_BUFFER_SIZE};
	worker->looks_end = &worker->looks;
	slab_init(&worker->relays, sizeof(struct relay));
	worker->timeouts.ticket_window_ns = UINT64_C(1000000000);
	worker->timeouts.half_closed_ns = UINT64_C(30000000000);
	worker->timeouts.gather_ns = RELAY_GATHER_MAX_NS;
	error = make_pipe(worker);
	if (error)
		return error;
	worker->buffer = aligned_alloc(PAGE_ALIGNMENT, RELAY_BUFFER_SIZE);
	if (!worker->buffer) {
		close_pipe(worker);
		return -ENOMEM;
	}
	/* A short read of a control record must never leave unset memory to be judged. */
	memset(worker->buffer, 0, RELAY_BUFFER_SIZE);
	return 0;
}

void relay_worker_destroy(struct relay_worker *worker)
{
	if (!worker->buffer)
		return; /* never initialised: its descriptors mean nothing */
	loop_timer_cancel(worker->loop, &worker->look_timer);
	slab_destroy(&worker->relays);
	close_pipe(worker);
	OPENSSL_cleanse(worker->buffer, RELAY_BUFFER_SIZE);
	free(worker->buffer);
	worker->buffer = NULL;
	worker->buffer_size = 0;
}

void relay_worker_limit(struct relay_worker *worker, uint32_t size)
{
	int pipe_size = worker->pipe_size ? fcntl(worker->pipe[1], F_GETPIPE_SZ) : 0;

	worker->buffer_size = size && size < RELAY_BUFFER_SIZE ? size : RELAY_BUFFER_SIZE;
	if (pipe_size > 0)
		worker->pipe_size = (size_t)pipe_size < worker->buffer_size ? (size_t)pipe_size : worker->buffer_size;
}

bool relay_worker_empty_pipe(struct relay_worker *worker, size_t size)
{
	size_t taken = 0;
	int error;

	while (taken < size && size <= worker->buffer_size) {
		ssize_t got = worker->io->read(worker->pipe[0], worker->buffer + taken, size - taken);

		if (got <= 0)
			break;
		taken += (size_t)got;
	}
	if (taken == size)
		return true;
	close_pipe(worker);
	error = make_pipe(worker);
	if (error)
		log_error("pipe not replaced", "error=\"%s\" effect=\"nothing is spliced any more\"", strerror(-error));
	return false;
}
