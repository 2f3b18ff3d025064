/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * path_probe_key.h: the one key of the kernel's destination map that no snapshot names and that is in order all the
 * same: what the probe of /readyz dials (path_probe.h). Pure.
 */
#ifndef POSTERN_CONTROL_PATH_PROBE_KEY_H
#define POSTERN_CONTROL_PATH_PROBE_KEY_H

#include <stdbool.h>

#include "postern/abi.h"

#define PATH_PROBE_ADDRESS_TEXT "192.0.2.2" /* PROOF_CHILD_ADDRESS; TEST-NET-1 of RFC 5737 */
#define PATH_PROBE_PORT         8443

struct postern_destination_key path_probe_key(void);
bool path_probe_is_key(const struct postern_destination_key *key);

#endif
