/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * refusals.h: what is worth an Event in the status of a BackendTLSPolicy that was just written. Pure.
 *
 * Each of our conditions that is False and says something else than before: told under its own reason. An Accepted
 * message that tells of ambiguous endpoints, and did not tell the same before: under AmbiguousEndpoint, also where the
 * policy is accepted; each policy that claims such an endpoint has it in its own message, so all of them get one.
 */
#ifndef POSTERN_CONTROLLER_REFUSALS_H
#define POSTERN_CONTROLLER_REFUSALS_H

#include <jansson.h>

#define REASON_WORD_AMBIGUOUS "AmbiguousEndpoint" /* as policy/verdicts.c begins its note */

/* before and after: the whole object. tell is called for each, in the order of the conditions. */
void refusals_find(const json_t *before, const json_t *after,
                   void (*tell)(void *context, const char *reason, const char *note), void *context);

#endif
