/* SPDX-License-Identifier: GPL-2.0-only */
/* backoff.h: how long to wait before the API server is asked again. Any thread. */
#ifndef POSTERN_KUBERNETES_BACKOFF_H
#define POSTERN_KUBERNETES_BACKOFF_H

#include <stdint.h>

/* Half of it to all of it: many agents that lost one server must not come back as one. */
uint64_t kubernetes_with_jitter(uint64_t delay_ns);
/* After so many failures in a row, from 1: 1 s, 2 s, 4 s ... most, with jitter. */
uint64_t kubernetes_backoff_ns(unsigned int attempt, uint64_t most);

#endif
