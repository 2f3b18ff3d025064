/* SPDX-License-Identifier: GPL-2.0-only */
#include "tar.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 512

struct header { /* POSIX.1-1988, ustar: numbers are octal text */
	char name[100];
	char mode[8];
	char owner[8];
	char group[8];
	char size[12];
	char modified[12];
	char checksum[8];
	char type;
	char link[100];
	char magic[6];
	char version[2];
	char owner_name[32];
	char group_name[32];
	char major[8];
	char minor[8];
	char prefix[155];
	char padding[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "ustar");

static int write_all(int fd, const void *data, size_t size)
{
	const char *bytes = data;

	while (size) {
		ssize_t written = write(fd, bytes, size);

		if (written == -1 && errno == EINTR)
			continue;
		if (written <= 0)
			return written == -1 ? -errno : -EIO;
		bytes += written;
		size -= (size_t)written;
	}
	return 0;
}

int tar_add(int fd, const char *name, const void *data, size_t size)
{
	static const char zeros[BLOCK];
	struct header header = {.type = '0', .magic = "ustar", .version = {'0', '0'}};
	const unsigned char *bytes = (const unsigned char *)&header;
	unsigned int sum = 0;
	int result;

	if (strlen(name) >= sizeof(header.name) || size > 077777777777)
		return -ENAMETOOLONG;
	(void)snprintf(header.name, sizeof(header.name), "%s", name);
	(void)snprintf(header.mode, sizeof(header.mode), "%07o", 0600);
	(void)snprintf(header.owner, sizeof(header.owner), "%07o", 0);
	(void)snprintf(header.group, sizeof(header.group), "%07o", 0);
	(void)snprintf(header.size, sizeof(header.size), "%011zo", size);
	(void)snprintf(header.modified, sizeof(header.modified), "%011llo",
	               (unsigned long long)time(NULL) & 077777777777);
	memset(header.checksum, ' ', sizeof(header.checksum));
	for (size_t i = 0; i < sizeof(header); i++)
		sum += bytes[i];
	(void)snprintf(header.checksum, sizeof(header.checksum), "%06o", sum);
	header.checksum[7] = ' ';
	result = write_all(fd, &header, sizeof(header));
	if (!result)
		result = write_all(fd, data, size);
	if (!result && size % BLOCK)
		result = write_all(fd, zeros, BLOCK - size % BLOCK);
	return result;
}

int tar_end(int fd)
{
	static const char zeros[2 * BLOCK];

	return write_all(fd, zeros, sizeof(zeros));
}
