/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * alert.h: what a TLS alert of the backend means to postern (RFC 8446 6, RFC 5246 7.2). Also for alerts that arrive
 * through the kernel. Pure; any thread.
 */
#ifndef POSTERN_TLS_ALERT_H
#define POSTERN_TLS_ALERT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/reason.h"

enum tls_alert {
	TLS_ALERT_CLOSE_NOTIFY = 0,
	TLS_ALERT_USER_CANCELED = 90,
};

/* "handshake_failure"; "alert 77" is said as "unknown". Static. */
const char *alert_name(uint8_t description);
/*
 * The reason that an alert which ends the connection stands for. certificate_requested: the backend asked for a client
 * certificate in this handshake, so alerts about certificates are about ours.
 */
enum postern_reason alert_reason(uint8_t description, bool certificate_requested);

#endif
