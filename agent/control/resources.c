/* SPDX-License-Identifier: GPL-2.0-only */
#include "control/resources.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

#define OF_A_CONNECTION 2 /* A and B */
/* The rest: programs, maps, files, clients of the status socket; loop, ring, timers and pipes of a worker; links,
 * namespaces and raw sockets of a gateway, and its listeners: two ports for each worker, two families. */
#define OF_THE_AGENT         512
#define OF_A_WORKER          64
#define OF_A_GATEWAY         16
#define OF_A_WORKERS_GATEWAY 4
#define GATEWAYS_EXPECTED    16 /* at least */

static uint64_t kernel_maximum(void)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/sys/fs/nr_open", "re");
	unsigned long long maximum = 0;

	return file && fscanf(file, "%llu", &maximum) == 1 ? maximum : 1u << 20;
}

static uint64_t raise_to(uint64_t needed)
{
	struct rlimit limit;
	struct rlimit wanted;

	if (getrlimit(RLIMIT_NOFILE, &limit) == -1)
		return 1024;
	wanted = limit;
	if (wanted.rlim_max < needed)
		wanted.rlim_max = needed < kernel_maximum() ? needed : kernel_maximum();
	wanted.rlim_cur = wanted.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &wanted) == 0)
		return wanted.rlim_cur;
	/* Only the privileged raise the hard limit. */
	wanted = (struct rlimit){.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
	if (setrlimit(RLIMIT_NOFILE, &wanted) == 0)
		return wanted.rlim_cur;
	log_warning("descriptor limit not raised", "error=\"%s\"", strerror(errno));
	return limit.rlim_cur;
}

void resources_raise_descriptors(uint32_t max_connections, size_t gateways, unsigned int workers,
                                 struct descriptor_limit *limit)
{
	uint64_t of_gateway = OF_A_GATEWAY + (uint64_t)workers * OF_A_WORKERS_GATEWAY;
	uint64_t rest = OF_THE_AGENT + (uint64_t)workers * OF_A_WORKER +
	                (gateways > GATEWAYS_EXPECTED ? gateways : GATEWAYS_EXPECTED) * of_gateway;

	limit->needed = (uint64_t)max_connections * OF_A_CONNECTION + rest;
	limit->limit = raise_to(limit->needed);
	/* However few there are, the rest has half of them. */
	limit->for_connections = limit->limit > 2 * rest ? limit->limit - rest : (limit->limit + 1) / 2;
	limit->max_connections = max_connections;
	if (limit->limit >= limit->needed)
		return;
	if (limit->for_connections / OF_A_CONNECTION < max_connections)
		limit->max_connections = (uint32_t)(limit->for_connections / OF_A_CONNECTION);
	log_warning(
	        "too few descriptors",
	        "limit=%" PRIu64 " needed=%" PRIu64 " max_connections=%u configured=%u "
	        "remedy=\"raise the hard limit of RLIMIT_NOFILE (LimitNOFILE= in systemd), or lower maxConnections\"",
	        limit->limit, limit->needed, limit->max_connections, max_connections);
}

int resources_lock_pins(const char *bpffs, bool beside)
{
	_cleanup_close_ int fd = -1;

	if (mkdir(bpffs, 0700) == -1 && errno != EEXIST)
		return -errno;
	fd = open(bpffs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd == -1)
		return -errno;
	/* Whoever starts alone must be alone for a moment; what is held then is shared, for a successor. */
	if (flock(fd, (beside ? LOCK_SH : LOCK_EX) | LOCK_NB) == -1) {
		int error = -errno;

		if (error == -EWOULDBLOCK)
			log_error("another agent lives",
			          "bpffs=%s remedy=\"two agents cannot share their pins: stop the other one "
			          "(posternctl status names its pid), or give this one a --bpffs of its own\"",
			          bpffs);
		return error;
	}
	if (!beside && flock(fd, LOCK_SH | LOCK_NB) == -1)
		return -errno;
	return TAKE_FD(fd);
}

void resources_unlock_pins(int *lock)
{
	if (*lock >= 0)
		close(*lock);
	*lock = -1;
}
