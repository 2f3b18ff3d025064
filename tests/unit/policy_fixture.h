/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * policy_fixture.h: YAML -> store -> snapshot, for tests. Failures end the test (cmocka).
 */
#ifndef POSTERN_TESTS_POLICY_FIXTURE_H
#define POSTERN_TESTS_POLICY_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/compile.h"
#include "policy/snapshot.h"
#include "policy/store.h"

/* Two CA certificates made once a process; PEM with a trailing newline. Same subject, different keys. */
const char *fixture_ca(void);
const char *fixture_other_ca(void);

/* A ConfigMap of this namespace and name that holds the PEM as ca.crt, as one YAML document; free(). */
char *fixture_config_map(const char *namespace_, const char *name, const char *pem);

/* "text" as a quoted YAML scalar on one line; free(). */
char *fixture_quoted(const char *text);

/* An object that has a name and nothing else; object_unref(). */
struct object *fixture_object(enum object_kind kind, const char *namespace_, const char *name);
/* The store's from now on. */
void fixture_put(struct object_store *store, struct object *object);

struct policy_fixture {
	struct object_store *store;
	struct settings_registry *registry;
	struct snapshot *snapshot;     /* of the last compile, NULL before */
	struct shared_text *system_ca; /* the other CA */
	struct compile_options options;
};

/* operators_own and the ConfigMaps default/ca (fixture_ca) and default/other-ca are there at first. */
struct policy_fixture *policy_fixture_new(void);
void policy_fixture_free(struct policy_fixture *fixture);

/* Put every object of the text in force; the text must be without fault. */
void fixture_add(struct policy_fixture *fixture, const char *yaml);
/* Objects and visible policies of the text into the quarantine; the text may be as broken as it likes. */
void fixture_quarantine(struct policy_fixture *fixture, const char *yaml);
void fixture_remove(struct policy_fixture *fixture, enum object_kind kind, const char *name);

/* Compile with the last snapshot as the previous one. */
void fixture_compile(struct policy_fixture *fixture);

/* "10.0.0.1" and a port; NULL if the snapshot does not know it (exactly). */
const struct destination *fixture_find(const struct policy_fixture *fixture, const char *address, uint16_t port);
/*
 * One line of what the snapshot says: "TLS default/p echo.example.com", "PLAIN", "DENY policy_invalid default/p",
 * "none". Static buffer.
 */
const char *fixture_verdict(const struct policy_fixture *fixture, const char *address, uint16_t port);
const struct policy_status *fixture_policy(const struct policy_fixture *fixture, const char *name); /* of default */

#endif
