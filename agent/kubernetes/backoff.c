// SPDX-License-Identifier: GPL-2.0-only
#include "kubernetes/backoff.h"

#include <sys/random.h>

#define BACKOFF_FIRST_NS 1000000000ull

uint64_t kubernetes_with_jitter(uint64_t delay_ns)
{
	uint32_t random = 0;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) == -1)
		return delay_ns;
	return delay_ns / 2 + delay_ns / 2 * (random >> 16) / 0xffff;
}

uint64_t kubernetes_backoff_ns(unsigned int attempt, uint64_t most)
{
	uint64_t delay = BACKOFF_FIRST_NS;

	while (--attempt && delay < most)
		delay *= 2;
	return kubernetes_with_jitter(delay < most ? delay : most);
}
