/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * conditions.h: a list of Kubernetes conditions (metav1.Condition), merged by type. Pure.
 *
 * What governs: API conventions, "Typical status properties", and GEP-713: types that are not ours stay as they are, to
 * the last unknown field; lastTransitionTime is when the status changed, not when a message did; a condition of a
 * greater observedGeneration than ours is never written over.
 *
 * What is wanted comes as JSON, since that is how it is kept and compared:
 *   {"generation": 3, "conditions": [{"type": "Accepted", "status": true, "reason": "...", "message": "..."}...],
 *    "absent": ["example.dev/Type"...]}
 */
#ifndef POSTERN_CONTROLLER_CONDITIONS_H
#define POSTERN_CONTROLLER_CONDITIONS_H

#include <jansson.h>
#include <stdbool.h>
#include <time.h>

#define TIME_TEXT_MAX 40
/* "2026-11-27T09:00:00Z" (metav1.Time), or with micros "...00.123456Z" (metav1.MicroTime). Returns the buffer. */
const char *condition_time(const struct timespec *time, bool micros, char text[static TIME_TEXT_MAX]);

/* A new reference, or NULL: no memory. A message that is no UTF-8 is made so. */
json_t *condition_wanted(const char *type, bool status, const char *reason, const char *message);

/* The first of this type, borrowed; NULL: there is none. conditions may be NULL or no list. */
json_t *condition_find(const json_t *conditions, const char *type);

/* Is one of the wanted types there with a greater observedGeneration? Then nothing may be written at all. */
bool conditions_are_newer(const json_t *conditions, const json_t *wanted);

/*
 * Change conditions (a list that the caller owns alone) to what is wanted. now is lastTransitionTime of what changes
 * its status. 1: something changed, 0: nothing, -ENOMEM. Nothing is done if conditions_are_newer().
 */
int conditions_merge(json_t *conditions, const json_t *wanted, const char *now);

/*
 * status.conditions of a whole object (a Gateway or a GatewayClass as GET gave it), in place. As above; and -ESTALE:
 * metadata.generation is not the wanted one, so what is wanted was made of another spec. A list that is not there and
 * would be empty is not made.
 */
int object_conditions_merge(json_t *object, const json_t *wanted, const char *now);

/* metadata.generation; 0 if there is none. */
json_int_t object_generation(const json_t *object);

#endif
