/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * load.h: manifests read once, from whatever a command line names: files, directories, pipes and standard input. For
 * posternctl check; the agent watches a directory (files.h). What is read, refused and quarantined is the same, since
 * the pieces are: manifest_file.h and assemble.h. Any thread.
 */
#ifndef POSTERN_SOURCE_LOAD_H
#define POSTERN_SOURCE_LOAD_H

#include <stddef.h>

#include "source/assemble.h"

struct loaded_manifests { /* all zero = empty */
	struct object_store *store;
	struct findings findings; /* an error is named after its path, standard input "stdin" */
};

/*
 * Each path is
 *
 *   "-"             standard input, to its end
 *   a directory     its *.yaml, *.yml and *.json, in the order of their names, hidden ones and directories left out
 *   anything else   read to its end: a file whatever its name, a pipe such as bash's <(...)
 *
 * No file is read for two paths. More than YAML_MAX_BYTES of one, a path that cannot be read, a directory without
 * manifests and paths that give no document at all are errors among the findings. A FIFO without a writer is not waited
 * for. loaded must be empty; manifests_unload() frees what it holds whatever the result. 0 or -ENOMEM.
 */
int manifests_load(const char *const *paths, size_t count, struct loaded_manifests *loaded);
void manifests_unload(struct loaded_manifests *loaded);

#endif
