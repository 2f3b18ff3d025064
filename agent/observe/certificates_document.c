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
	json_t *by_text; /* "kind pointer" -> row, which rows has, too */
	json_t *told;    /* "kind pointer user": who stands in its row already */
};

static json_t *text_pem(const void *text)
{
	return json_text(text);
}

/* The system's bundle is not told. */
static json_t *no_pem(const void *text)
{
	(void)text;
	return json_string("");
}

/* The leaf and its chain; the key stays where it is. */
static json_t *certificate_pem(const void *data_of)
{
	const struct client_certificate *certificate = data_of;
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

/* That this text, by its pointer, is used by `format`; its row is made when it is new. */
__attribute__((format(printf, 5, 6))) static void add_use(struct list *list, const char *kind, const void *identity,
                                                          json_t *(*pem_of)(const void *identity), const char *format,
                                                          ...)
{
	_cleanup_free_ char *user = NULL;
	_cleanup_free_ char *told = NULL;
	char key[64];
	json_t *row;
	va_list arguments;

	va_start(arguments, format);
	if (vasprintf(&user, format, arguments) == -1)
		user = NULL;
	va_end(arguments);
	(void)snprintf(key, sizeof(key), "%s %p", kind, identity);
	if (!user || asprintf(&told, "%s %s", key, user) == -1) {
		told = NULL;
		return;
	}
	row = json_object_get(list->by_text, key);
	if (!row) {
		row = json_pack("{s:s, s:o, s:[]}", "kind", kind, "pem", pem_of(identity), "used_by");
		json_set(&list->by_text, key, json_incref(row));
		json_append(&list->rows, row);
	}
	if (!row || json_object_get(list->told, told))
		return;
	(void)json_array_append_new(json_object_get(row, "used_by"), json_text(user));
	json_set(&list->told, told, json_true());
}

/* Policies with the same settings share them: each is a user of what is in them. */
static void add_settings(struct list *list, const struct tls_settings *settings, const char *namespace_,
                         const char *name)
{
	if (settings->ca_pem && settings->system_ca)
		add_use(list, "system-ca", settings->ca_pem, no_pem, "policy %s/%s", namespace_, name);
	else if (settings->ca_pem)
		add_use(list, "ca", settings->ca_pem, text_pem, "policy %s/%s", namespace_, name);
	if (settings->crl_pem)
		add_use(list, "crl", settings->crl_pem, text_pem, "policy %s/%s", namespace_, name);
	if (settings->client_certificate)
		add_use(list, "client", settings->client_certificate, certificate_pem, "policy %s/%s", namespace_,
		        name);
}

json_t *certificates_document(const struct status_sources *sources)
{
	_cleanup_(cleanup_snapshot) struct snapshot *snapshot = sources->snapshots
	                                                                ? snapshot_holder_get(sources->snapshots)
	                                                                : NULL;
	struct list list = {.rows = json_array(), .by_text = json_object(), .told = json_object()};

	for (size_t i = 0; snapshot && i < snapshot_settings_count(snapshot); i++) {
		const struct tls_settings *settings = snapshot_settings_at(snapshot, i);

		add_settings(&list, settings, settings->policy_namespace, settings->policy_name);
	}
	for (size_t i = 0; snapshot && i < snapshot_policy_count(snapshot); i++) {
		const struct policy_status *policy = snapshot_policy_at(snapshot, i);
		const struct tls_settings *settings = snapshot_settings(snapshot, policy->settings_id);

		if (settings)
			add_settings(&list, settings, policy->namespace_, policy->name);
	}
	for (size_t i = 0; snapshot && i < snapshot_gateway_count(snapshot); i++) {
		const struct gateway_status *gateway = snapshot_gateway_at(snapshot, i);

		if (gateway->client_certificate)
			add_use(&list, "client", gateway->client_certificate, certificate_pem, "Gateway %s/%s",
			        gateway->namespace_, gateway->name);
	}
	json_decref(list.by_text);
	json_decref(list.told);
	return list.rows;
}
