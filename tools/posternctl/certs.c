/* SPDX-License-Identifier: GPL-2.0-only */
/* posternctl certs: every CA, CRL and client certificate in force: how long it is good, and who uses it. */
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent_client.h"
#include "base/cleanup.h"
#include "observe/json.h"
#include "posternctl.h"
#include "print.h"
#include "terminal.h"

#define SECONDS_PER_DAY 86400
#define NOTICE_DAYS     30
#define USERS_SHOWN     3

static void free_bio(BIO **bio)
{
	BIO_free(*bio);
}

static json_t *name_text(const X509_NAME *name)
{
	_cleanup_(free_bio) BIO *bio = BIO_new(BIO_s_mem());
	char *data;
	long size;

	if (!bio || X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) < 0)
		return json_string("");
	size = BIO_get_mem_data(bio, &data);
	return json_stringn(data, (size_t)size);
}

/* Unix time; 0: there is none. */
static long long time_of(const ASN1_TIME *time)
{
	struct tm parts;

	return time && ASN1_TIME_to_tm(time, &parts) ? (long long)timegm(&parts) : 0;
}

static json_t *time_text(const ASN1_TIME *time)
{
	const struct timespec at = {.tv_sec = (time_t)time_of(time)};

	return at.tv_sec ? json_time(&at) : json_string("");
}

static const char *state_of(long long from, long long until, long long now)
{
	if (from > now)
		return "not yet valid";
	if (until && until < now)
		return "expired";
	if (until && until - now < (long long)NOTICE_DAYS * SECONDS_PER_DAY)
		return "expires soon";
	return "valid";
}

static void add(json_t **rows, const json_t *source, json_t *subject, const ASN1_TIME *from, const ASN1_TIME *until)
{
	long long now = (long long)time(NULL);
	long long end = time_of(until);

	json_append(rows, json_pack("{s:s, s:o, s:o, s:o, s:I, s:s, s:O}", "kind", text_of(source, "kind"), "subject",
	                            subject, "not_before", time_text(from), "not_after", time_text(until), "days_left",
	                            (json_int_t)(end ? (end - now) / SECONDS_PER_DAY : 0), "state",
	                            state_of(time_of(from), end, now), "used_by", json_object_get(source, "used_by")));
}

static void add_certificates(json_t **rows, const json_t *source, BIO *bio)
{
	X509 *certificate;

	while ((certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		add(rows, source, name_text(X509_get_subject_name(certificate)), X509_get0_notBefore(certificate),
		    X509_get0_notAfter(certificate));
		X509_free(certificate);
	}
}

static void add_crls(json_t **rows, const json_t *source, BIO *bio)
{
	X509_CRL *crl;

	while ((crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL))) {
		add(rows, source, name_text(X509_CRL_get_issuer(crl)), X509_CRL_get0_lastUpdate(crl),
		    X509_CRL_get0_nextUpdate(crl));
		X509_CRL_free(crl);
	}
}

static json_t *describe(const json_t *sources)
{
	json_t *rows = json_array();
	size_t index;
	json_t *source;

	json_array_foreach (sources, index, source) {
		const char *pem = text_of(source, "pem");
		_cleanup_(free_bio) BIO *bio = BIO_new_mem_buf(pem, -1);

		if (!json_object_get(source, "used_by") || !bio)
			continue;
		if (strcmp(text_of(source, "kind"), "system-ca") == 0)
			add(&rows, source, json_string("the system's CA certificates"), NULL, NULL);
		else if (strcmp(text_of(source, "kind"), "crl") == 0)
			add_crls(&rows, source, bio);
		else
			add_certificates(&rows, source, bio);
	}
	return rows;
}

static bool is_good(const json_t *row)
{
	return strcmp(text_of(row, "state"), "expired") != 0 && strcmp(text_of(row, "state"), "not yet valid") != 0;
}

static void add_row(struct table *table, const json_t *row)
{
	const json_t *users = json_object_get(row, "used_by");
	size_t count = json_array_size(users);
	const char *state = text_of(row, "state");

	table_cell(table, COLOUR_NONE, "%s", text_of(row, "kind"));
	table_cell(table, COLOUR_BOLD, "%s", text_of(row, "subject"));
	table_cell(table,
	           !is_good(row)                 ? COLOUR_BAD
	           : strcmp(state, "valid") == 0 ? COLOUR_GOOD
	                                         : COLOUR_WARN,
	           "%s", state);
	table_cell(table, COLOUR_NONE, "%s", text_of(row, "not_before"));
	table_cell(table, COLOUR_NONE, "%s", text_of(row, "not_after"));
	table_cell(table, COLOUR_NONE, "%lld", number_of(row, "days_left"));
	for (size_t i = 0; i < count && i < USERS_SHOWN; i++)
		table_note(table, COLOUR_DIM, "used by %s",
		           json_string_value(json_array_get(users, i)) ? json_string_value(json_array_get(users, i))
		                                                       : "");
	if (count > USERS_SHOWN)
		table_note(table, COLOUR_DIM, "and by %zu more", count - USERS_SHOWN);
	if (!is_good(row))
		table_note(table, COLOUR_BAD,
		           "remedy: put a valid one into the ConfigMap or Secret that it comes from");
}

int command_certs(const struct options *options)
{
	static const char *const headings[] = {"KIND", "SUBJECT", "STATE", "NOT BEFORE", "NOT AFTER", "DAYS", NULL};
	json_t *sources = NULL;
	struct table *table;
	json_t *rows;
	size_t index;
	json_t *row;
	int status = ask_or_complain(options, "certificates", JSON_ARRAY, &sources);

	if (status)
		return status;
	rows = describe(sources);
	json_decref(sources);
	json_array_foreach (rows, index, row)
		status = is_good(row) ? status : EXIT_WRONG;
	if (options->json)
		return print_json(options, rows) == EXIT_FINE ? status : EXIT_WRONG;
	table = table_new(headings);
	json_array_foreach (rows, index, row)
		add_row(table, row);
	table_print_or(table, "no policy uses a certificate");
	json_decref(rows);
	return status;
}
