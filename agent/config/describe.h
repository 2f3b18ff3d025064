/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * describe.h: the configuration in force, setting by setting: defaults, file and command line taken together. One
 * configuration has one description, whatever way it was given. It holds no secret: files that do are named only.
 */
#ifndef POSTERN_CONFIG_DESCRIBE_H
#define POSTERN_CONFIG_DESCRIBE_H

#include <stdint.h>

#include "config/config.h"

#define CONFIG_DIGEST_SIZE 32 /* SHA-256 */

/* Each setting in the order of --help: its key in the YAML file and its value as a text. 0 or -ENOMEM. */
int config_describe(const struct config *config, void (*each)(void *context, const char *key, const char *value),
                    void *context);
/* Over all of it: equal digests are equal settings. 0 or -ENOMEM. */
int config_digest(const struct config *config, uint8_t digest[static CONFIG_DIGEST_SIZE]);

#endif
