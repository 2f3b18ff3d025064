/* SPDX-License-Identifier: GPL-2.0-only */
#include "control/path_probe_key.h"

#include <string.h>

#include "base/address.h"

struct postern_destination_key path_probe_key(void)
{
	struct postern_address address = {{0}};

	(void)address_parse(PATH_PROBE_ADDRESS_TEXT, &address);
	return destination_key(&address, PATH_PROBE_PORT);
}

bool path_probe_is_key(const struct postern_destination_key *key)
{
	const struct postern_destination_key own = path_probe_key();

	return memcmp(key, &own, sizeof(own)) == 0;
}
