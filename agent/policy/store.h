/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * store.h: the objects of all kinds that a source has, keyed by kind, namespace and name. Sources fill it, the compile
 * step reads it. Control thread only.
 *
 * The store has a second room, the quarantine: objects from a manifest that is not in force because something in it is
 * broken, or from a duplicate. They can only deny: a destination that only the quarantine claims for a policy is
 * refused, so that a broken file never turns a covered Service into plaintext. They never permit anything, and never
 * overrule an object that is in force.
 */
#ifndef POSTERN_POLICY_STORE_H
#define POSTERN_POLICY_STORE_H

#include <stddef.h>

#include "policy/object.h"

struct object_store;

struct quarantined {
	struct object *object;
	char *why; /* "backend.yaml: Service default/echo: spec.ports[0].port: ..." */
};

struct object_store *object_store_new(void);
void object_store_free(struct object_store *store); /* NULL-safe */
void object_store_clear(struct object_store *store);
/* Each gets the other's content. */
void object_store_swap(struct object_store *left, struct object_store *right);

/*
 * Takes a reference. An object of the same kind, namespace and name is replaced. Cheapest in ascending order. 0 or
 * -ENOMEM.
 */
int object_store_put(struct object_store *store, struct object *object);
/* Returns true if there was one. */
bool object_store_remove(struct object_store *store, enum object_kind kind, const char *namespace_, const char *name);
/* Whatever of this name is in quarantine. True if there was something. */
bool object_store_release(struct object_store *store, enum object_kind kind, const char *namespace_, const char *name);
int object_store_quarantine(struct object_store *store, struct object *object, const char *why);

const struct object *object_store_find(const struct object_store *store, enum object_kind kind, const char *namespace_,
                                       const char *name);
/* In order of namespace and name. */
size_t object_store_count(const struct object_store *store, enum object_kind kind);
const struct object *object_store_at(const struct object_store *store, enum object_kind kind, size_t index);
/* The index of the namespace's first object, if it has one; else of the first behind it. */
size_t object_store_first_of(const struct object_store *store, enum object_kind kind, const char *namespace_);

/* In the order in which they came; any number of the same name. */
size_t object_store_quarantined_count(const struct object_store *store, enum object_kind kind);
const struct quarantined *object_store_quarantined_at(const struct object_store *store, enum object_kind kind,
                                                      size_t index);

#endif
