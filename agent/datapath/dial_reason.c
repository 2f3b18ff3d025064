// SPDX-License-Identifier: GPL-2.0-only
#include "datapath/dial_reason.h"

#include <errno.h>

enum postern_reason dial_reason(int error)
{
	switch (error) {
	case ECONNREFUSED:
		return REASON_BACKEND_REFUSED;
	case ECONNRESET:
		return REASON_BACKEND_RESET;
	case ETIMEDOUT:
		return REASON_BACKEND_SILENT;
	case ENETUNREACH:
	case EHOSTUNREACH:
	case ENETDOWN:
	case EHOSTDOWN:
	case EACCES: /* a prohibit route, or a firewall that rejects */
	case EPERM:
		return REASON_BACKEND_UNREACHABLE;
	case EADDRNOTAVAIL:
		return REASON_SOURCE_ADDRESS;
	default:
		return reason_of_errno(error, REASON_INTERNAL);
	}
}
