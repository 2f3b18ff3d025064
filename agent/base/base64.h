/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * base64.h: RFC 4648 section 4, padded, line breaks let be, as Kubernetes and kubeconfig files have it. What is decoded
 * may be a private key: it is wiped before it is freed. Pure.
 */
#ifndef POSTERN_BASE_BASE64_H
#define POSTERN_BASE_BASE64_H

#include <stddef.h>

/*
 * 0 with *bytes, which ends with a NUL that *length does not count, and is freed by wiping_free(); -EINVAL: it is no
 * base64; -ENOMEM, for more than 1 GB too.
 */
int base64_decode(const char *text, size_t size, char **bytes, size_t *length);

#endif
