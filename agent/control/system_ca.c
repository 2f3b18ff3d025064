/* SPDX-License-Identifier: GPL-2.0-only */
#include "control/system_ca.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "policy/ca_bundle.h"
#include "policy/shared_text.h"
#include "source/stable_read.h"

#define MAX_BYTES (16u << 20) /* Debian's is 220 KB */

void system_ca_init(struct system_ca *ca, const char *path)
{
	*ca = (struct system_ca){.path = path};
}

void system_ca_free(struct system_ca *ca)
{
	shared_text_unref(ca->bundle);
	*ca = (struct system_ca){.path = ""};
}

static bool same_file(const struct stat *left, const struct stat *right)
{
	return left->st_dev == right->st_dev && left->st_ino == right->st_ino && left->st_size == right->st_size &&
	       left->st_mtim.tv_sec == right->st_mtim.tv_sec && left->st_mtim.tv_nsec == right->st_mtim.tv_nsec &&
	       left->st_ctim.tv_sec == right->st_ctim.tv_sec && left->st_ctim.tv_nsec == right->st_ctim.tv_nsec;
}

/* 0 with the bundle that the file holds, or an error with the reason. */
static int read_bundle(struct system_ca *ca, struct shared_text **bundle, char *problem, size_t size)
{
	_cleanup_free_ char *text = NULL;
	size_t length = 0;
	int error;

	error = stable_read(AT_FDCWD, ca->path, MAX_BYTES, &text, &length, &ca->seen);
	if (error == -EBUSY)
		snprintf(problem, size, "somebody is writing it");
	else if (error == -EFBIG)
		snprintf(problem, size, "it is larger than %u bytes", MAX_BYTES);
	else if (error == -EINVAL)
		snprintf(problem, size, "it is no regular file");
	else if (error)
		snprintf(problem, size, "%s", strerror(-error));
	if (error)
		return error;
	error = ca_bundle_parse_system(text, length, bundle, &ca->left_out, problem, size);
	if (error == -ENOMEM)
		snprintf(problem, size, "no memory");
	return error;
}

bool system_ca_refresh(struct system_ca *ca)
{
	struct shared_text *bundle = NULL;
	struct stat now = {0};
	bool changed;
	int error;

	if (ca->path[0] == '\0')
		return false;
	if (stat(ca->path, &now) == 0 && ca->looked && same_file(&now, &ca->seen))
		return false;
	ca->looked = true;
	memset(&ca->seen, 0, sizeof(ca->seen));
	ca->problem[0] = '\0';
	error = read_bundle(ca, &bundle, ca->problem, sizeof(ca->problem));
	/* What may be over by the next look is looked at then. */
	if (error == -EBUSY || error == -ENOMEM)
		ca->looked = false;
	if (error)
		return false;
	changed = !ca->bundle || memcmp(ca->bundle->digest, bundle->digest, sizeof(bundle->digest)) != 0;
	if (!changed) {
		shared_text_unref(bundle);
		return false;
	}
	shared_text_unref(ca->bundle);
	ca->bundle = bundle;
	return true;
}
