/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * pem_blocks.h: the blocks of a PEM text, one after the other (RFC 7468). What is decoded may be a private key by
 * mistake or on purpose: it is wiped when it is freed, and so is what the reader held of it. Pure.
 */
#ifndef POSTERN_POLICY_PEM_BLOCKS_H
#define POSTERN_POLICY_PEM_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>

#include <openssl/bio.h>

struct pem_block {    /* all zero = none */
	char *name;   /* "CERTIFICATE" */
	char *header; /* RFC 1421's, "" mostly */
	unsigned char *bytes;
	long length;
};

/* A reader over text, which must live as long. NULL: no memory, or larger than 2 GiB. */
BIO *pem_blocks_open(const char *text, size_t size);
void pem_blocks_close(BIO **reader);

/* The next block: 1; 0 when there is no more; -EINVAL: a block that is not readable; -ENOMEM. */
int pem_blocks_next(BIO *reader, struct pem_block *block);
void pem_block_clear(struct pem_block *block);

/* Is every line that begins or ends a block part of one of the count blocks that were read? OpenSSL skips others. */
bool pem_blocks_are_all(const char *text, size_t size, size_t count);

/* Empties OpenSSL's error queue. It says of want of memory what it says of bad input: it failed. */
bool openssl_ran_out_of_memory(void);

#endif
