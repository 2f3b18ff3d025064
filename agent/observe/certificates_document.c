/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Every certificate that the agent trusts or shows, as PEM. Policies often share a CA: what is the same text (by its
 * pointer: shared_text.h) is told once, with all who use it.
 */
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "observe/json.h"
#include "observe/policy_documents.h"
#include "policy/client_certificate.h"
#include "policy/snapshot.h"
#include "policy/snapshot_holder.h"

static void cleanup_snapshot(struct snapshot **snapshot)
{
	snapshot_unref(*snapshot);
}

static void free_bio(BIO **bio)
{
	BIO_free(*bio);
}

struct list {
	json_t *rows;
	json_t *by_text; /* "kind pointer" -> row, borrowed from rows */
};

/* The row of a text, made when it is new. NULL: no memory. */
static json_t *row_of(struct list *list, const char *kind, const void *identity, json_t *pem)
{
	char key[64];
	json_t *row;

	(void)snprintf(key, sizeof(key), "%s %p", kind, identity);
	row = json_object_get(list->by_text, key);
	if (row) {
		json_decref(pem);
		return row;
	}
	row = json_pack("{s:s, s:o, s:[]}", "kind", kind, "pem", pem, "used_by");
	json_set(&list->by_text, key, json_incref(row));
	json_append(&list->rows, row);
	return json_object_get(list->by_text, key);
}

__attribute__((format(printf, 2, 3))) static void add_user(json_t *row, const char *format, ...)
{
	json_t *users = json_object_get(row, "used_by");
	_cleanup_free_ char *text = NULL;
	va_list arguments;

	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) == -1)
		text = NULL;
	va_end(arguments);
	if (text && users)
		(void)json_array_append_new(users, json_text(text));
}

/* The leaf and its chain; the key stays where it is. */
static json_t *certificate_pem(const struct client_certificate *certificate)
{
	_cleanup_(free_bio) BIO *bio = BIO_new(BIO_s_mem());
	bool whole = bio && PEM_write_bio_X509(bio, certificate->leaf) == 1;
	char *data;
	long size;

	for (int i = 0; whole && i < sk_X509_num(certificate->chain); i++)
		whole = PEM_write_bio_X509(bio, sk_X509_value(certificate->chain, i)) == 1;
	if (!whole)
		return NULL;
	size = BIO_get_mem_data(bio, &data);
	return json_stringn(data, (size_t)size);
}

static void add_settings(struct list *list, const struct tls_settings *settings)
{
	const char *kind = settings->system_ca ? "system-ca" : "ca";
	const char *namespace_ = settings->policy_namespace;
	const char *name = settings->policy_name;

	if (settings->ca_pem)
		add_user(row_of(list, kind, settings->ca_pem, json_text(settings->system_ca ? "" : settings->ca_pem)),
		         "policy %s/%s", namespace_, name);
	if (settings->crl_pem)
		add_user(row_of(list, "crl", settings->crl_pem, json_text(settings->crl_pem)), "policy %s/%s",
		         namespace_, name);
	if (settings->client_certificate)
		add_user(row_of(list, "client", settings->client_certificate,
		                certificate_pem(settings->client_certificate)),
		         "policy %s/%s", namespace_, name);
}

json_t *certificates_document(const struct status_sources *sources)
{
	_cleanup_(cleanup_snapshot) struct snapshot *snapshot = sources->snapshots
	                                                                ? snapshot_holder_get(sources->snapshots)
	                                                                : NULL;
	struct list list = {.rows = json_array(), .by_text = json_object()};

	for (size_t i = 0; snapshot && i < snapshot_settings_count(snapshot); i++)
		add_settings(&list, snapshot_settings_at(snapshot, i));
	for (size_t i = 0; snapshot && i < snapshot_gateway_count(snapshot); i++) {
		const struct gateway_status *gateway = snapshot_gateway_at(snapshot, i);

		if (gateway->client_certificate)
			add_user(row_of(&list, "client", gateway->client_certificate,
			                certificate_pem(gateway->client_certificate)),
			         "Gateway %s/%s", gateway->namespace_, gateway->name);
	}
	json_decref(list.by_text);
	return list.rows;
}
