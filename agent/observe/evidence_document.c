/* SPDX-License-Identifier: GPL-2.0-only */
#include "observe/evidence_document.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "base/evidence.h"
#include "base/failures.h"
#include "base/version.h"
#include "config/describe.h"
#include "datapath/hooks.h"
#include "observe/json.h"
#include "policy/snapshot.h"
#include "policy/snapshot_holder.h"

struct lists {
	json_t *rows;
	json_t *intervals;
};

static json_t *unix_time(int64_t seconds)
{
	const struct timespec time = {.tv_sec = (time_t)seconds};

	return json_time(&time);
}

static void add_row(void *context, const struct evidence_row *row)
{
	struct lists *lists = context;

	json_append(&lists->rows,
	            json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I}", "hour", unix_time(row->hour * 3600),
	                      "gateway", json_text(row->gateway), "policy", json_text(row->policy), "version",
	                      json_text(row->version), "cipher", json_text(row->cipher), "peer", json_text(row->peer),
	                      "connections", (json_int_t)row->connections, "resumed", (json_int_t)row->resumed));
}

static void add_interval(void *context, const struct evidence_interval *interval)
{
	struct lists *lists = context;

	json_append(&lists->intervals, json_pack("{s:o, s:s, s:o, s:o, s:b}", "gateway", json_text(interval->gateway),
	                                         "mode", interval->mode, "from", unix_time(interval->from), "until",
	                                         unix_time(interval->until), "open", !interval->closed));
}

static json_t *hex(const unsigned char *bytes, unsigned int size)
{
	char text[2 * EVP_MAX_MD_SIZE + 1] = "";

	for (unsigned int i = 0; i < size && i < EVP_MAX_MD_SIZE; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return json_string(text);
}

/* Over every destination with its verdict, and the digest of its settings: equal digests are equal policy. */
static json_t *policy_digest(const struct status_sources *sources)
{
	struct snapshot *snapshot = sources->snapshots ? snapshot_holder_get(sources->snapshots) : NULL;
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int size = 0;

	if (context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1) {
		for (size_t i = 0; snapshot && i < snapshot_destination_count(snapshot); i++) {
			const struct destination *destination = snapshot_destination_at(snapshot, i);
			const struct tls_settings *settings = snapshot_settings(snapshot, destination->settings_id);
			uint32_t verdict = destination->verdict;

			(void)EVP_DigestUpdate(context, &destination->key, sizeof(destination->key));
			(void)EVP_DigestUpdate(context, &verdict, sizeof(verdict));
			if (settings)
				(void)EVP_DigestUpdate(context, settings->digest, sizeof(settings->digest));
		}
		(void)EVP_DigestFinal_ex(context, digest, &size);
	}
	EVP_MD_CTX_free(context);
	snapshot_unref(snapshot);
	return hex(digest, size);
}

static void add_setting(void *context, const char *key, const char *value)
{
	json_set(context, key, json_text(value));
}

/* Every setting in force, by its key in the YAML file: what a reader can compare from day to day. */
static json_t *configuration(const struct config *config)
{
	json_t *document = json_object();

	if (config_describe(config, add_setting, &document) == 0)
		return document;
	json_decref(document);
	return NULL;
}

static json_t *configuration_digest(const struct config *config)
{
	uint8_t digest[CONFIG_DIGEST_SIZE];

	return config_digest(config, digest) == 0 ? hex(digest, sizeof(digest)) : json_string("");
}

static void add_counters(const struct status_sources *sources, json_t **document)
{
	static const unsigned int shown[] = {POSTERN_COUNT_WIRE_NOT_TLS, POSTERN_COUNT_WITNESS_PLAIN_DROPPED,
	                                     POSTERN_COUNT_GUARD_SYN_DROPPED, POSTERN_COUNT_GUARD_PAYLOAD_DROPPED};
	uint64_t values[POSTERN_COUNTERS] = {0};

	if (sources->hooks)
		(void)hooks_counters(sources->hooks, values);
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
		json_set(document, counter_name(shown[i]), json_integer((json_int_t)values[shown[i]]));
	json_set(document, "escaped", json_integer((json_int_t)failures_total(sources->failures, REASON_ESCAPED)));
}

json_t *evidence_document(const struct status_sources *sources, struct evidence *evidence, const char *problem,
                          const char *argument)
{
	struct lists lists = {json_array(), json_array()};
	int64_t since = strtoll(argument, NULL, 10);
	json_t *document = json_object();
	struct utsname kernel;

	evidence_for_each(evidence, since, add_row, add_interval, &lists);
	json_set(&document, "version", json_text(postern_version));
	json_set(&document, "kernel", json_text(uname(&kernel) == 0 ? kernel.release : ""));
	json_set(&document, "configuration", configuration(sources->config));
	json_set(&document, "configuration_digest", configuration_digest(sources->config));
	json_set(&document, "policy_digest", policy_digest(sources));
	json_set(&document, "since", unix_time(since));
	json_set(&document, "now", unix_time((int64_t)time(NULL)));
	json_set(&document, "problem", json_text(problem));
	json_set(&document, "intervals", lists.intervals);
	json_set(&document, "connections", lists.rows);
	add_counters(sources, &document);
	json_set(&document, "proof", status_proof(sources->proof));
	return document;
}

/* ---- the file ---- */

static void save_row(void *context, const struct evidence_row *row)
{
	struct lists *lists = context;

	json_append(&lists->rows,
	            json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:I, s:I}", "hour", (json_int_t)row->hour, "gateway",
	                      json_text(row->gateway), "policy", json_text(row->policy), "version",
	                      json_text(row->version), "cipher", json_text(row->cipher), "peer", json_text(row->peer),
	                      "connections", (json_int_t)row->connections, "resumed", (json_int_t)row->resumed));
}

static void save_interval(void *context, const struct evidence_interval *interval)
{
	struct lists *lists = context;

	json_append(&lists->intervals, json_pack("{s:o, s:s, s:I, s:I, s:b}", "gateway", json_text(interval->gateway),
	                                         "mode", interval->mode, "from", (json_int_t)interval->from, "until",
	                                         (json_int_t)interval->until, "closed", (int)interval->closed));
}

json_t *evidence_save(struct evidence *evidence)
{
	struct lists lists = {json_array(), json_array()};

	evidence_for_each(evidence, 0, save_row, save_interval, &lists);
	return json_pack("{s:o, s:o}", "intervals", lists.intervals, "connections", lists.rows);
}

static bool take_text(const json_t *object, const char *key, char *text, size_t size)
{
	const char *value = json_string_value(json_object_get(object, key));

	return value && (size_t)snprintf(text, size, "%s", value) < size;
}

static bool take_number(const json_t *object, const char *key, int64_t *number)
{
	const json_t *value = json_object_get(object, key);

	*number = (int64_t)json_integer_value(value);
	return json_is_integer(value) && *number >= 0;
}

static bool load_row(struct evidence *evidence, const json_t *object)
{
	struct evidence_row row = {0};
	int64_t connections, resumed;

	if (!take_number(object, "hour", &row.hour) || !take_number(object, "connections", &connections) ||
	    !take_number(object, "resumed", &resumed) || resumed > connections || row.hour > INT64_MAX / 7200 ||
	    !take_text(object, "gateway", row.gateway, sizeof(row.gateway)) ||
	    !take_text(object, "policy", row.policy, sizeof(row.policy)) ||
	    !take_text(object, "version", row.version, sizeof(row.version)) ||
	    !take_text(object, "cipher", row.cipher, sizeof(row.cipher)) ||
	    !take_text(object, "peer", row.peer, sizeof(row.peer)))
		return false;
	row.connections = (uint64_t)connections;
	row.resumed = (uint64_t)resumed;
	return evidence_restore_row(evidence, &row) == 0;
}

static bool load_interval(struct evidence *evidence, const json_t *object)
{
	struct evidence_interval interval = {.closed = json_is_true(json_object_get(object, "closed"))};

	return take_number(object, "from", &interval.from) && take_number(object, "until", &interval.until) &&
	       interval.from <= interval.until &&
	       take_text(object, "gateway", interval.gateway, sizeof(interval.gateway)) &&
	       take_text(object, "mode", interval.mode, sizeof(interval.mode)) &&
	       evidence_restore_interval(evidence, &interval) == 0;
}

size_t evidence_load(struct evidence *evidence, const json_t *document)
{
	size_t left_out = 0;
	size_t index;
	json_t *object;

	json_array_foreach (json_object_get(document, "intervals"), index, object)
		left_out += !load_interval(evidence, object);
	json_array_foreach (json_object_get(document, "connections"), index, object)
		left_out += !load_row(evidence, object);
	return left_out;
}
