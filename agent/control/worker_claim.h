/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * worker_claim.h: which ring numbers are this process's, among all agents that live. Each holds locks on bytes of
 * <run-dir>/posternd.workers, one for each of its workers; the kernel takes them back with the process. Control thread.
 */
#ifndef POSTERN_CONTROL_WORKER_CLAIM_H
#define POSTERN_CONTROL_WORKER_CLAIM_H

#include <stdint.h>

struct worker_claim { /* fd -1: none */
	int fd;
	unsigned int first;
	unsigned int count;
};

/*
 * wanted numbers in a row, or as many as there are. 0; -EBUSY: not one is free; another negative errno. The directory
 * is made if it is missing.
 */
int worker_claim(const char *run_dir, unsigned int wanted, struct worker_claim *claim);
/* Bit n: another process that lives has number n. */
uint64_t worker_claim_others(const struct worker_claim *claim);
void worker_claim_release(struct worker_claim *claim);

#endif
