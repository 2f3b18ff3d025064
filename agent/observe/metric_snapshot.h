/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * metric_snapshot.h: what the metrics say of a snapshot. It is counted once for each snapshot, and a CA bundle is
 * parsed once for each TLS settings: a scrape of an unchanged agent looks at neither. Control thread.
 */
#ifndef POSTERN_OBSERVE_METRIC_SNAPSHOT_H
#define POSTERN_OBSERVE_METRIC_SNAPSHOT_H

#include <stddef.h>
#include <stdint.h>

struct snapshot;

struct ca_expiry {
	uint32_t settings_id;
	int64_t at; /* Unix time of the first CA that expires and has not yet; INT64_MAX: none will */
};

struct metric_snapshot {     /* zero at first */
	uint64_t generation; /* of the snapshot that the counts are of; 0: none */
	size_t policies_accepted;
	size_t policies_refused;
	size_t destinations[3]; /* TLS, PLAIN, DENY */
	size_t ambiguous;
	struct ca_expiry *expiries; /* sorted by id */
	size_t expiry_count;
	size_t expiries_missing; /* settings whose bundles were not looked at yet */
};

/* So many bundles are parsed in one call, so that it does not take long; the others with the next one. */
#define METRIC_CA_BUNDLES 200

/* Brings it up to date; without memory it stays as far as it came. */
void metric_snapshot_update(struct metric_snapshot *figures, const struct snapshot *snapshot, int64_t now);
/* The settings' entry, or NULL. */
const struct ca_expiry *metric_snapshot_expiry(const struct metric_snapshot *figures, uint32_t settings_id);
void metric_snapshot_free(struct metric_snapshot *figures);

/* The earliest end of a certificate of this PEM text that is after now; INT64_MAX: there is none. Pure. */
int64_t ca_bundle_expiry(const char *pem, int64_t now);

#endif
