/* SPDX-License-Identifier: GPL-2.0-only */
/* dial_reason.h: what a dial to a backend failed with, in the operator's words. Pure; any thread. */
#ifndef POSTERN_DATAPATH_DIAL_REASON_H
#define POSTERN_DATAPATH_DIAL_REASON_H

#include "base/reason.h"

/* error: of socket(), bind() or connect(), positive. */
enum postern_reason dial_reason(int error);

#endif
