/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * pod_selector.h: the label selector by which an adopted Gateway names its pods: annotation postern.dev/pod-selector,
 * as kubectl writes selectors on its command line:
 *
 *   app.kubernetes.io/name=ingress-nginx,app.kubernetes.io/component=controller
 *   KEY=VALUE  KEY==VALUE  KEY!=VALUE  KEY  !KEY  KEY in (A,B)  KEY notin (A,B)
 *
 * All terms must hold; != and notin hold, too, where the key is absent, as in Kubernetes. A selector without a term
 * selects nothing: nothing is enrolled by guess. Pure; any thread.
 */
#ifndef POSTERN_NODE_POD_SELECTOR_H
#define POSTERN_NODE_POD_SELECTOR_H

#include <stdbool.h>
#include <stddef.h>

struct pod;

#define POD_SELECTOR_MAX 4096 /* bytes */

/* Is it well-formed? If not, why, in words that quote nothing but printable parts of it. */
bool pod_selector_valid(const char *selector, char *problem, size_t size);
/* Does it select this pod? A selector that is not well-formed selects nothing. */
bool pod_selector_selects(const char *selector, const struct pod *pod);

#endif
