/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * settings_refusal.h: how those who build a context from settings say that they cannot. Private to tls/; any thread.
 */
#ifndef POSTERN_TLS_SETTINGS_REFUSAL_H
#define POSTERN_TLS_SETTINGS_REFUSAL_H

#include <stddef.h>

/* The message into error, OpenSSL's error queue emptied, -EINVAL. */
int settings_refuse(char *error, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* OpenSSL's last word. Static. */
const char *openssl_reason(void);

#endif
