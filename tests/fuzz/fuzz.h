/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * fuzz.h: what the fuzz targets share. A target is one file fuzz_NAME.c with LLVMFuzzerTestOneInput(): it says at its
 * top what its input means and what must hold for every input. tests/fuzz/run builds and runs them all.
 */
#ifndef POSTERN_TESTS_FUZZ_H
#define POSTERN_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

/* Of libFuzzer, and what it calls. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* A find: said, and the end of the process. */
#define FUZZ_CHECK(condition, ...)                                                                                     \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: must hold: %s: ", __FILE__, __LINE__, #condition);                     \
			fprintf(stderr, __VA_ARGS__);                                                                  \
			fputc('\n', stderr);                                                                           \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* A copy with a NUL behind it; free(). */
char *fuzz_text(const uint8_t *data, size_t size);
/* Like strsep() for bytes: what stands before the first separator, NUL-terminated; NULL when nothing is left. free() */
char *fuzz_take(const uint8_t **data, size_t *size, char separator);

/* Is it a message that can be shown: UTF-8, not empty, one line, no control characters, below limit bytes? */
bool fuzz_is_message(const char *text, size_t limit);

/*
 * A mutator for YAML of any number of documents, for LLVMFuzzerCustomMutator(): most often it changes one value, key or
 * element of the tree, sometimes bytes of the text. The first kept bytes are changed as bytes only.
 */
size_t fuzz_mutate_yaml(uint8_t *data, size_t size, size_t max_size, unsigned int seed, size_t kept);

#endif
