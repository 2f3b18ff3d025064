/* SPDX-License-Identifier: GPL-2.0-only */
#include "control/worker_claim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "postern/abi.h"

/* Locks of the open file, not of the process: a thread that closes another descriptor of it must not lose them. */
static bool lock(int fd, unsigned int first, unsigned int count)
{
	struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = first, .l_len = count};

	return fcntl(fd, F_OFD_SETLK, &range) == 0;
}

int worker_claim(const char *run_dir, unsigned int wanted, struct worker_claim *claim)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -1;

	*claim = (struct worker_claim){.fd = -1};
	if (mkdir(run_dir, 0755) == -1 && errno != EEXIST)
		return -errno;
	if (asprintf(&path, "%s/posternd.workers", run_dir) == -1) {
		path = NULL;
		return -ENOMEM;
	}
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd == -1)
		return -errno;
	for (unsigned int count = wanted; count > 0; count--) {
		for (unsigned int first = 0; first + count <= POSTERN_MAX_RINGS; first++) {
			if (!lock(fd, first, count))
				continue;
			*claim = (struct worker_claim){.fd = TAKE_FD(fd), .first = first, .count = count};
			return 0;
		}
	}
	return -EBUSY;
}

uint64_t worker_claim_others(const struct worker_claim *claim)
{
	uint64_t others = 0;

	for (unsigned int number = 0; number < POSTERN_MAX_RINGS; number++) {
		struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = number, .l_len = 1};

		/* One that cannot be asked about is left alone. */
		if (fcntl(claim->fd, F_OFD_GETLK, &range) == -1 || range.l_type != F_UNLCK)
			others |= UINT64_C(1) << number;
	}
	return others;
}

void worker_claim_release(struct worker_claim *claim)
{
	if (claim->fd >= 0)
		close(claim->fd);
	claim->fd = -1;
}
