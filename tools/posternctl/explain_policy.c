/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * explain_policy.c: the steps that only the agent knows: the gateway's state, which policy decided and what its
 * conditions say, by which settings and CA a backend is verified, and what failed here lately.
 */
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "agent_client.h"
#include "base/cleanup.h"
#include "explain.h"
#include "posternctl.h"
#include "rows.h"

static void explain_state(struct explain *explain)
{
	const char *state = text_of(explain->served, "state");

	if (!explain->served)
		return;
	if (strcmp(state, "ready") != 0)
		explain_step(explain, "gateway's state", EXPLAIN_WRONG,
		             "start the gateway, or see its cgroup and network namespace in the configuration",
		             "%s: %s", state, text_of(explain->served, "reason"));
	if (strcmp(text_of(json_object_get(explain->served, "client_certificate"), "state"), "unusable") == 0)
		explain_step(explain, "client certificate", EXPLAIN_WRONG,
		             "mend the Gateway's clientCertificateRef: see its ResolvedRefs condition",
		             "one of its Gateways names a client certificate that cannot be used");
}

static const json_t *find_destination(const struct explain *explain, const json_t *rows)
{
	char any[DESTINATION_TEXT_MAX];
	struct postern_destination_key key = explain->key;
	const json_t *found = NULL;
	size_t index;
	json_t *row;

	key.port = 0;
	(void)destination_format(&key, any);
	json_array_foreach (rows, index, row) {
		if (strcmp(text_of(row, "destination"), explain->destination) == 0)
			return row;
		if (strcmp(text_of(row, "destination"), any) == 0)
			found = row;
	}
	return found;
}

static bool is_covered(const char *verdict)
{
	return strcmp(verdict, "tls") == 0 || strcmp(verdict, "deny") == 0;
}

static void explain_verdict(struct explain *explain, const json_t *row)
{
	const char *verdict = text_of(row, "verdict");

	/* A kernel that cannot be read says nothing else. */
	if (explain->verdict[0] && is_covered(verdict) && strcmp(verdict, explain->verdict) != 0) {
		explain->disagree = true;
		explain_step(explain, "policy's verdict", EXPLAIN_WRONG,
		             "somebody changed the maps by hand: restart posternd, which writes them anew",
		             "KERNEL AND AGENT DISAGREE: the agent says %s by policy %s, the kernel says %s", verdict,
		             text_of(row, "policy"), explain->verdict);
		return;
	}
	if (!row)
		explain_step(explain, "policy's verdict", EXPLAIN_NOTE,
		             "does a Service or EndpointSlice name it? Does a BackendTLSPolicy target that Service and "
		             "port?",
		             "no object names this address and port");
	else if (strcmp(verdict, "tls") == 0)
		explain_step(explain, "policy's verdict", EXPLAIN_OK, "", "TLS by policy %s, as %s",
		             text_of(row, "policy"),
		             strcmp(text_of(row, "class"), "vip") == 0 ? "a Service's own address" : "an endpoint");
	else if (strcmp(verdict, "deny") == 0)
		explain_step(explain, "policy's verdict", EXPLAIN_WRONG, text_of(row, "remedy"), "DENY%s%s: %s",
		             text_of(row, "policy")[0] ? " by policy " : "", text_of(row, "policy"),
		             text_of(row, "reason"));
	else
		explain_step(explain, "policy's verdict", EXPLAIN_NOTE,
		             "if it should be TLS: write a BackendTLSPolicy for its Service (posternctl check)",
		             "PLAIN: no policy covers it; it is sent as the gateway makes it");
}

static void explain_conditions(struct explain *explain, const json_t *policy)
{
	static const struct {
		const char *member;
		const char *step;
	} conditions[] = {{"accepted", "Accepted"}, {"resolvedRefs", "ResolvedRefs"}};

	for (size_t i = 0; i < ARRAY_SIZE(conditions); i++) {
		const json_t *condition = json_object_get(policy, conditions[i].member);

		if (truth_of(condition, "status"))
			explain_step(explain, conditions[i].step, EXPLAIN_OK, "", "%s", text_of(condition, "message"));
		else
			explain_step(explain, conditions[i].step, EXPLAIN_WRONG,
			             "change the policy or what it refers to; posternctl check judges it before you "
			             "apply it",
			             "False (%s): %s", text_of(condition, "reason"), text_of(condition, "message"));
	}
}

static void explain_policy(struct explain *explain, const char *name)
{
	json_t *rows = NULL;
	char error[256];
	size_t index;
	json_t *row;

	if (!name[0] || agent_ask(explain->options->run_dir, "policies", JSON_ARRAY, &rows, error, sizeof(error)))
		return;
	json_array_foreach (rows, index, row) {
		char full[600];

		(void)snprintf(full, sizeof(full), "%.290s/%.290s", text_of(row, "namespace"), text_of(row, "name"));
		if (strcmp(full, name) == 0)
			explain_conditions(explain, row);
	}
	json_decref(rows);
}

/* How many certificates of the PEM are good now; *until: when the last of them ends. */
static unsigned int count_good(const char *pem, unsigned int *all, char until[static 64])
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	unsigned int good = 0;
	time_t last = 0;
	X509 *certificate;

	*all = 0;
	until[0] = '\0';
	while (bio && (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		struct tm parts;
		bool valid = X509_cmp_current_time(X509_get0_notBefore(certificate)) < 0 &&
		             X509_cmp_current_time(X509_get0_notAfter(certificate)) > 0;
		time_t end = ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &parts) ? timegm(&parts) : 0;

		(*all)++;
		good += valid;
		if (end >= last) {
			last = end;
			(void)strftime(until, 64, "%Y-%m-%dT%H:%M:%SZ", &parts);
		}
		X509_free(certificate);
	}
	BIO_free(bio);
	return good;
}

static void explain_trust(struct explain *explain)
{
	unsigned int all;
	char until[64];
	unsigned int good;

	if (truth_of(explain->settings, "system_ca")) {
		explain_step(explain, "CA", EXPLAIN_OK, "", "the system's");
		return;
	}
	good = count_good(text_of(explain->settings, "ca_pem"), &all, until);
	if (good == 0)
		explain_step(explain, "CA", EXPLAIN_WRONG,
		             "put the CA that signs the backend's certificate now into the ConfigMap that "
		             "caCertificateRefs names",
		             "no CA certificate of %u is valid now; the last one ends or ended %s", all, until);
	else
		explain_step(explain, "CA", EXPLAIN_OK, "", "%u certificates, %u valid now, the last until %s", all,
		             good, until);
}

static void explain_settings(struct explain *explain, long long id)
{
	char command[64];
	char error[256];
	json_t *settings = NULL;

	(void)snprintf(command, sizeof(command), "settings %lld", id);
	if (agent_ask(explain->options->run_dir, command, JSON_OBJECT, &settings, error, sizeof(error)))
		return;
	explain->settings = settings;
	explain_step(explain, "settings", EXPLAIN_OK, "", "SNI %s, %s to %s, ALPN %s%s", text_of(settings, "hostname"),
	             text_of(settings, "min_version"), text_of(settings, "max_version"),
	             text_of(settings, "alpn")[0] ? text_of(settings, "alpn") : "none",
	             text_of(settings, "client_certificate")[0] ? ", a client certificate of its own" : "");
	explain_trust(explain);
}

/* What went wrong here before is what will go wrong again. */
static void explain_history(struct explain *explain)
{
	json_t *rows = NULL;
	char error[256];
	size_t index;
	json_t *row;
	const json_t *last = NULL;
	size_t count = 0;

	if (agent_ask(explain->options->run_dir, "failures", JSON_ARRAY, &rows, error, sizeof(error)))
		return;
	json_array_foreach (rows, index, row) {
		if (strcmp(text_of(row, "destination"), explain->destination) != 0 ||
		    !name_fits(explain->gateway, text_of(row, "gateway")))
			continue;
		last = last ? last : row;
		count++;
	}
	if (last)
		explain_step(explain, "lately", EXPLAIN_NOTE, text_of(last, "remedy"),
		             "%zu of the last 1,000 failures were here; the last one at %s, from port %lld: %s%s%s",
		             count, text_of(last, "time"), number_of(last, "gateway_port"), text_of(last, "reason"),
		             text_of(last, "detail")[0] ? ": " : "", text_of(last, "detail"));
	json_decref(rows);
}

void explain_by_agent(struct explain *explain)
{
	json_t *rows = NULL;
	char error[256];
	const json_t *row;

	explain_state(explain);
	if (agent_ask(explain->options->run_dir, "destinations", JSON_ARRAY, &rows, error, sizeof(error))) {
		explain_step(explain, "policy's verdict", EXPLAIN_NOTE, "", "%s", error);
		return;
	}
	row = find_destination(explain, rows);
	explain_verdict(explain, row);
	explain_policy(explain, text_of(row, "policy"));
	if (number_of(row, "settings_id"))
		explain_settings(explain, number_of(row, "settings_id"));
	explain_history(explain);
	json_decref(rows);
}
