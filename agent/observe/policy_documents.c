/* SPDX-License-Identifier: GPL-2.0-only */
#include "observe/policy_documents.h"

#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "observe/json.h"
#include "policy/client_certificate.h"
#include "policy/snapshot.h"
#include "policy/snapshot_holder.h"

static void cleanup_snapshot(struct snapshot **snapshot)
{
	snapshot_unref(*snapshot);
}

static struct snapshot *current(const struct status_sources *sources)
{
	return sources->snapshots ? snapshot_holder_get(sources->snapshots) : NULL;
}

static json_t *json_hex(const uint8_t *bytes, size_t size)
{
	char text[2 * 64 + 1] = "";

	for (size_t i = 0; i < size && i < 64; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return json_string(text);
}

static const char *version_name(int version)
{
	return version == TLS1_3_VERSION ? "TLSv1.3" : version == TLS1_2_VERSION ? "TLSv1.2" : "";
}

static const char *alpn_name(enum alpn_protocol alpn)
{
	return alpn == ALPN_H2 ? "h2" : alpn == ALPN_HTTP_1_1 ? "http/1.1" : "";
}

static const char *switch_name(enum switch_setting setting)
{
	return setting == SWITCH_OFF ? "off" : setting == SWITCH_REQUIRE ? "require" : "auto";
}

static json_t *subject_alt_names(const struct tls_settings *settings)
{
	json_t *array = json_array();

	for (size_t i = 0; i < settings->subject_alt_name_count; i++) {
		const struct subject_alt_name *name = &settings->subject_alt_names[i];

		json_append(&array,
		            json_pack("{s:s, s:o}", "type", name->type == SUBJECT_ALT_NAME_URI ? "URI" : "Hostname",
		                      "value", json_text(name->value)));
	}
	return array;
}

static json_t *pins(const struct tls_settings *settings)
{
	json_t *array = json_array();

	for (size_t i = 0; i < settings->pin_count; i++)
		json_append(&array, json_hex(settings->pins[i], sizeof(settings->pins[i])));
	return array;
}

static json_t *policy_name(const char *namespace_, const char *name)
{
	_cleanup_free_ char *text = NULL;

	if (asprintf(&text, "%s/%s", namespace_, name) == -1) {
		text = NULL;
		return NULL;
	}
	return json_text(text);
}

json_t *settings_row(const struct tls_settings *settings, bool with_pem)
{
	const struct client_certificate *client = settings->client_certificate;
	json_t *row = json_object();

	json_set(&row, "id", json_integer(settings->id));
	json_set(&row, "digest", json_hex(settings->digest, sizeof(settings->digest)));
	json_set(&row, "policy", policy_name(settings->policy_namespace, settings->policy_name));
	json_set(&row, "hostname", json_text(settings->hostname));
	json_set(&row, "subject_alt_names", subject_alt_names(settings));
	json_set(&row, "system_ca", json_boolean(settings->system_ca));
	json_set(&row, "min_version", json_string(version_name(settings->min_version)));
	json_set(&row, "max_version", json_string(version_name(settings->max_version)));
	json_set(&row, "alpn", json_string(alpn_name(settings->alpn)));
	json_set(&row, "ktls", json_string(switch_name(settings->ktls)));
	json_set(&row, "cipher_suites", json_text(settings->cipher_suites));
	json_set(&row, "ciphers", json_text(settings->ciphers));
	json_set(&row, "groups", json_text(settings->groups));
	json_set(&row, "signature_algorithms", json_text(settings->signature_algorithms));
	json_set(&row, "verify_depth", json_integer(settings->verify_depth));
	json_set(&row, "partial_chain", json_boolean(settings->partial_chain));
	json_set(&row, "resumption", json_boolean(settings->resumption));
	json_set(&row, "pins", pins(settings));
	json_set(&row, "crl", json_boolean(settings->crl_pem != NULL));
	json_set(&row, "client_certificate",
	         client ? json_hex(client->digest, sizeof(client->digest)) : json_string(""));
	json_set(&row, "connect_timeout_ms", json_integer(settings->connect_timeout_ms));
	json_set(&row, "handshake_timeout_ms", json_integer(settings->handshake_timeout_ms));
	json_set(&row, "idle_timeout_ms", json_integer(settings->idle_timeout_ms));
	if (with_pem) {
		json_set(&row, "ca_pem", json_text(settings->ca_pem));
		json_set(&row, "crl_pem", json_text(settings->crl_pem));
	}
	return row;
}

json_t *settings_document(const struct status_sources *sources, const char *argument)
{
	_cleanup_(cleanup_snapshot) struct snapshot *snapshot = current(sources);
	unsigned long id = strtoul(argument, NULL, 10);
	const struct tls_settings *settings = snapshot && id <= UINT32_MAX ? snapshot_settings(snapshot, (uint32_t)id)
	                                                                   : NULL;

	return settings ? settings_row(settings, true) : json_pack("{s:s}", "error", "no such settings");
}

json_t *policies_document(const struct status_sources *sources)
{
	_cleanup_(cleanup_snapshot) struct snapshot *snapshot = current(sources);
	json_t *array = json_array();

	for (size_t i = 0; snapshot && i < snapshot_policy_count(snapshot); i++) {
		const struct policy_status *policy = snapshot_policy_at(snapshot, i);
		const struct tls_settings *settings = snapshot_settings(snapshot, policy->settings_id);
		json_t *row = status_policy(policy);

		json_set(&row, "settings", settings ? settings_row(settings, false) : json_object());
		json_append(&array, row);
	}
	return array;
}

static json_t *destination_row(const struct snapshot *snapshot, const struct destination *destination)
{
	const struct policy_status *policy = destination->policy != SNAPSHOT_NO_POLICY
	                                             ? snapshot_policy_at(snapshot, destination->policy)
	                                             : NULL;

	return json_pack("{s:o, s:s, s:s, s:o, s:I, s:s, s:s, s:b, s:b}", "destination",
	                 json_destination(&destination->key), "class",
	                 destination->class == DESTINATION_VIP ? "vip" : "endpoint", "verdict",
	                 verdict_name(destination->verdict), "policy",
	                 policy ? policy_name(policy->namespace_, policy->name) : json_string(""), "settings_id",
	                 (json_int_t)destination->settings_id, "reason", reason_name(destination->reason), "remedy",
	                 reason_remedy(destination->reason), "trusted", (int)destination->trusted, "tombstone",
	                 (int)destination->tombstone);
}

json_t *destinations_document(const struct status_sources *sources)
{
	_cleanup_(cleanup_snapshot) struct snapshot *snapshot = current(sources);
	json_t *array = json_array();

	for (size_t i = 0; snapshot && i < snapshot_destination_count(snapshot); i++)
		json_append(&array, destination_row(snapshot, snapshot_destination_at(snapshot, i)));
	return array;
}
