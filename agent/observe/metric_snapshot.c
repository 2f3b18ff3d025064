/* SPDX-License-Identifier: GPL-2.0-only */
#include "observe/metric_snapshot.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/sorted.h"
#include "policy/snapshot.h"

static int64_t unix_time(const ASN1_TIME *time)
{
	struct tm parts;

	return ASN1_TIME_to_tm(time, &parts) == 1 ? (int64_t)timegm(&parts) : INT64_MAX;
}

int64_t ca_bundle_expiry(const char *pem, int64_t now)
{
	BIO *reader = BIO_new_mem_buf(pem, -1);
	int64_t earliest = INT64_MAX;
	X509 *certificate;

	if (!reader)
		return earliest;
	while ((certificate = PEM_read_bio_X509(reader, NULL, NULL, NULL)) != NULL) {
		int64_t end = unix_time(X509_get0_notAfter(certificate));

		if (end > now && end < earliest)
			earliest = end;
		X509_free(certificate);
	}
	ERR_clear_error(); /* "no start line" is how it ends */
	BIO_free(reader);
	return earliest;
}

static void count_destinations(struct metric_snapshot *figures, const struct snapshot *snapshot)
{
	memset(figures->destinations, 0, sizeof(figures->destinations));
	figures->ambiguous = 0;
	for (size_t i = 0; i < snapshot_destination_count(snapshot); i++) {
		const struct destination *destination = snapshot_destination_at(snapshot, i);

		figures->destinations[0] += destination->verdict == POSTERN_VERDICT_TLS;
		figures->destinations[1] += destination->verdict == POSTERN_VERDICT_PLAIN;
		figures->destinations[2] += destination->verdict == POSTERN_VERDICT_DENY;
		figures->ambiguous += destination->verdict == POSTERN_VERDICT_DENY &&
		                      destination->reason == REASON_AMBIGUOUS_ENDPOINT;
	}
}

static void count_policies(struct metric_snapshot *figures, const struct snapshot *snapshot)
{
	figures->policies_accepted = figures->policies_refused = 0;
	for (size_t i = 0; i < snapshot_policy_count(snapshot); i++) {
		const struct policy_status *policy = snapshot_policy_at(snapshot, i);
		bool good = policy->accepted.status && policy->resolved_refs.status;

		figures->policies_accepted += good;
		figures->policies_refused += !good;
	}
}

static int by_id(const void *left, const void *right)
{
	uint32_t one = ((const struct ca_expiry *)left)->settings_id;
	uint32_t other = ((const struct ca_expiry *)right)->settings_id;

	return one < other ? -1 : one > other;
}

const struct ca_expiry *metric_snapshot_expiry(const struct metric_snapshot *figures, uint32_t settings_id)
{
	const struct ca_expiry key = {.settings_id = settings_id};

	return find_sorted(&key, figures->expiries, figures->expiry_count, sizeof(key), by_id);
}

/* What is known goes on into a new list of the snapshot's settings; what is not is parsed, as far as there is time. */
static void refresh_expiries(struct metric_snapshot *figures, const struct snapshot *snapshot, int64_t now)
{
	size_t settings_count = snapshot_settings_count(snapshot);
	struct ca_expiry *list = calloc(settings_count ? settings_count : 1, sizeof(*list));
	size_t count = 0;
	size_t parsed = 0;

	if (!list)
		return;
	figures->expiries_missing = 0;
	for (size_t i = 0; i < settings_count; i++) {
		const struct tls_settings *settings = snapshot_settings_at(snapshot, i);
		const struct ca_expiry *known = metric_snapshot_expiry(figures, settings->id);

		if (settings->system_ca || !settings->ca_pem)
			continue;
		/* One that has passed since makes way for the next. */
		if (known && known->at > now)
			list[count++] = *known;
		else if (parsed++ < METRIC_CA_BUNDLES)
			list[count++] = (struct ca_expiry){settings->id, ca_bundle_expiry(settings->ca_pem, now)};
		else
			figures->expiries_missing++;
	}
	sort_list(list, count, sizeof(*list), by_id);
	free(figures->expiries);
	figures->expiries = list;
	figures->expiry_count = count;
}

void metric_snapshot_update(struct metric_snapshot *figures, const struct snapshot *snapshot, int64_t now)
{
	if (!snapshot)
		return;
	if (snapshot_generation(snapshot) != figures->generation) {
		count_destinations(figures, snapshot);
		count_policies(figures, snapshot);
		figures->generation = snapshot_generation(snapshot);
	}
	refresh_expiries(figures, snapshot, now);
}

void metric_snapshot_free(struct metric_snapshot *figures)
{
	free(figures->expiries);
	*figures = (struct metric_snapshot){0};
}
