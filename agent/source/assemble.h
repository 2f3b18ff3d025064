/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * assemble.h: all files of the directory -> one object store, with the errors and notes for the operator. Control
 * thread.
 */
#ifndef POSTERN_SOURCE_ASSEMBLE_H
#define POSTERN_SOURCE_ASSEMBLE_H

#include <stddef.h>

#include "policy/store.h"
#include "source/files.h"
#include "source/manifest_file.h"

#define MAX_SOURCE_ERRORS 1000 /* and as many notes */

struct findings { /* all zero = empty */
	struct source_error *errors;
	size_t error_count, error_capacity;
	char **notes;
	size_t note_count, note_capacity;
};

void findings_free(struct findings *findings);
/* Copies both texts. 0 or -ENOMEM; beyond MAX_SOURCE_ERRORS nothing is added. */
int findings_add_error(struct findings *findings, const char *object, const char *message);
int findings_add_note(struct findings *findings, const char *note);

/*
 * Empties the store and fills it: what is in force, sorted; of several objects of one name the first one (files in the
 * order given, which is that of their names; those of files that are missing last, and without a word: a file may have
 * been renamed); the others and everything from broken versions into the quarantine. 0 or -ENOMEM, then the store and
 * the findings are incomplete.
 */
int assemble_store(struct manifest_file *const *files, size_t count, struct object_store *store,
                   struct findings *findings);

#endif
