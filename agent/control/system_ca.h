/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * system_ca.h: the bundle that wellKnownCACertificates: System stands for, read from a file (setting systemCA) and
 * again whenever the file is another one: updated packages and rotated images need no restart. Control thread.
 *
 * What was read once stays in force while the file is missing, unreadable or without a usable certificate: the last
 * good material counts until its own expiry. Before that there is none, and policies that ask for it are closed.
 */
#ifndef POSTERN_CONTROL_SYSTEM_CA_H
#define POSTERN_CONTROL_SYSTEM_CA_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

struct shared_text;

#define SYSTEM_CA_INTERVAL_NS 60000000000ull /* it is looked at so often at least */

struct system_ca {
	const char *path;           /* "" = there is none; borrowed */
	struct shared_text *bundle; /* NULL: none was ever read */
	size_t left_out;            /* blocks of the file that cannot be used */
	char problem[256];          /* why the file is not what is in force; "" if it is */
	bool looked;
	struct stat seen; /* the file as it was read last, good or bad; all zero: it could not be */
};

/* The path must live as long. Nothing is read yet. */
void system_ca_init(struct system_ca *ca, const char *path);
void system_ca_free(struct system_ca *ca);
/* Look at the file; read it if it is another one. True: bundle is another one now. */
bool system_ca_refresh(struct system_ca *ca);

#endif
