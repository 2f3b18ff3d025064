// SPDX-License-Identifier: GPL-2.0-only
#include "policy/pem_blocks.h"

#include <errno.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>

BIO *pem_blocks_open(const char *text, size_t size)
{
	return size <= INT_MAX ? BIO_new_mem_buf(text, (int)size) : NULL;
}

void pem_blocks_close(BIO **reader)
{
	BIO_free(*reader);
}

bool openssl_ran_out_of_memory(void)
{
	unsigned long code;
	bool found = false;

	while ((code = ERR_get_error()))
		found |= ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE;
	return found;
}

int pem_blocks_next(BIO *reader, struct pem_block *block)
{
	unsigned long code;

	/* Without a secure heap the flag means memory that is wiped, the reader's line buffer too. */
	if (PEM_read_bio_ex(reader, &block->name, &block->header, &block->bytes, &block->length, PEM_FLAG_SECURE))
		return 1;
	*block = (struct pem_block){0};
	code = ERR_peek_last_error();
	if (openssl_ran_out_of_memory())
		return -ENOMEM;
	return ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE ? 0 : -EINVAL;
}

void pem_block_clear(struct pem_block *block)
{
	OPENSSL_secure_free(block->name);
	OPENSSL_secure_free(block->header);
	OPENSSL_secure_clear_free(block->bytes, (size_t)block->length);
	*block = (struct pem_block){0};
}

/* Lines that are indented count, too: a block whose lines YAML left indented is one that OpenSSL does not see. */
static size_t count_lines(const char *text, size_t size, const char *prefix)
{
	size_t count = 0, length = strlen(prefix);
	const char *end = text + size;

	for (const char *line = text; line < end;) {
		const char *next = memchr(line, '\n', (size_t)(end - line));

		while (line < end && (*line == ' ' || *line == '\t'))
			line++;
		count += (size_t)(end - line) >= length && !memcmp(line, prefix, length);
		line = next ? next + 1 : end;
	}
	return count;
}

bool pem_blocks_are_all(const char *text, size_t size, size_t count)
{
	return count_lines(text, size, "-----BEGIN") == count && count_lines(text, size, "-----END") == count;
}
