// SPDX-License-Identifier: GPL-2.0-only
#include "policy/settings.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/sorted.h"
#include "policy/client_certificate.h"
#include "policy/tls_names.h"

struct settings_entry *settings_entry_ref(struct settings_entry *entry)
{
	atomic_fetch_add_explicit(&entry->references, 1, memory_order_relaxed);
	return entry;
}

void settings_entry_unref(struct settings_entry *entry)
{
	struct tls_settings *settings;

	if (!entry || atomic_fetch_sub_explicit(&entry->references, 1, memory_order_acq_rel) != 1)
		return;
	settings = &entry->settings;
	for (size_t i = 0; i < settings->subject_alt_name_count; i++)
		free(settings->subject_alt_names[i].value);
	free(settings->subject_alt_names);
	free(settings->policy_namespace);
	free(settings->policy_name);
	free(settings->hostname);
	free(settings->cipher_suites);
	free(settings->ciphers);
	free(settings->groups);
	free(settings->signature_algorithms);
	free(entry->pins);
	client_certificate_unref(settings->client_certificate);
	shared_text_unref(entry->crl);
	shared_text_unref(entry->ca);
	free(entry);
}

static void free_digest_context(EVP_MD_CTX **context)
{
	EVP_MD_CTX_free(*context);
}

static bool add_number(EVP_MD_CTX *context, uint64_t number)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(number >> (56 - 8 * i));
	return EVP_DigestUpdate(context, bytes, sizeof(bytes));
}

/* Length first: no two lists of strings give the same bytes. */
static bool add_string(EVP_MD_CTX *context, const char *text)
{
	return add_number(context, strlen(text)) && EVP_DigestUpdate(context, text, strlen(text));
}

static enum subject_alt_name_type name_type(const struct subject_alt_name_value *name)
{
	return strcmp(name->type, "URI") ? SUBJECT_ALT_NAME_HOSTNAME : SUBJECT_ALT_NAME_URI;
}

static const char *name_value(const struct subject_alt_name_value *name)
{
	return name_type(name) == SUBJECT_ALT_NAME_URI ? name->uri : name->hostname;
}

static int compare_names(const void *left_pointer, const void *right_pointer)
{
	const struct subject_alt_name_value *left = left_pointer, *right = right_pointer;

	if (name_type(left) != name_type(right))
		return name_type(left) < name_type(right) ? -1 : 1;
	return strcmp(name_value(left), name_value(right));
}

/* The order of subjectAltNames means nothing, and neither does a repetition. */
static int sort_names(const struct backend_tls_policy *policy, struct subject_alt_name_value **names, size_t *count)
{
	*count = 0;
	*names = calloc(policy->subject_alt_name_count + 1, sizeof(**names));
	if (!*names)
		return -ENOMEM;
	for (size_t i = 0; i < policy->subject_alt_name_count; i++)
		(*names)[i] = policy->subject_alt_names[i];
	sort_list(*names, policy->subject_alt_name_count, sizeof(**names), compare_names);
	for (size_t i = 0; i < policy->subject_alt_name_count; i++)
		if (!*count || compare_names(&(*names)[*count - 1], &(*names)[i]))
			(*names)[(*count)++] = (*names)[i];
	return 0;
}

static bool add_names(EVP_MD_CTX *context, const struct subject_alt_name_value *names, size_t count)
{
	bool done = add_number(context, count);

	for (size_t i = 0; done && i < count; i++)
		done = add_number(context, name_type(&names[i])) && add_string(context, name_value(&names[i]));
	return done;
}

static bool add_digest(EVP_MD_CTX *context, const uint8_t digest[static 32])
{
	return EVP_DigestUpdate(context, digest, 32);
}

/* In OpenSSL's own names, in the order of preference: another spelling is the same list, another order is not. */
static bool add_list(EVP_MD_CTX *context, enum tls_list list, const char *value)
{
	_cleanup_(text_free) struct text why = {0};
	char canonical[TLS_LIST_MAX] = "";

	return (!value || tls_list_canonical(list, value, canonical, &why)) && add_string(context, canonical);
}

static bool add_options(EVP_MD_CTX *context, const struct tls_options *options)
{
	const uint64_t numbers[] = {
	        (uint64_t)options->min_version,
	        (uint64_t)options->max_version,
	        options->ktls,
	        options->connect_timeout_ms,
	        options->handshake_timeout_ms,
	        options->idle_timeout_ms,
	        (uint64_t)(options->verify_depth + 1),
	        options->partial_chain,
	        options->resumption_off,
	        options->pin_count,
	};

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (!add_number(context, numbers[i]))
			return false;
	return add_list(context, TLS_LIST_CIPHER_SUITES, options->cipher_suites) &&
	       add_list(context, TLS_LIST_CIPHERS, options->ciphers) &&
	       add_list(context, TLS_LIST_GROUPS, options->groups) &&
	       add_list(context, TLS_LIST_SIGNATURE_ALGORITHMS, options->signature_algorithms) &&
	       EVP_DigestUpdate(context, options->pins, options->pin_count * sizeof(options->pins[0]));
}

/* What other objects hold, by the digests of what it is and not by the names of the objects. */
static bool add_material(EVP_MD_CTX *context, const struct settings_input *input)
{
	static const uint8_t none[32];
	const struct client_certificate *certificate = input->client_certificate;

	return add_number(context, input->system_ca) && add_digest(context, input->ca ? input->ca->digest : none) &&
	       add_digest(context, input->crl ? input->crl->digest : none) &&
	       add_digest(context, certificate ? certificate->digest : none);
}

int settings_digest(const struct settings_input *input, uint8_t digest[static 32])
{
	const struct backend_tls_policy *policy = &input->policy->backend_tls_policy;
	_cleanup_(free_digest_context) EVP_MD_CTX *context = EVP_MD_CTX_new();
	_cleanup_free_ struct subject_alt_name_value *names = NULL;
	size_t count;

	if (!context || sort_names(policy, &names, &count) < 0)
		return -ENOMEM;
	return EVP_DigestInit_ex(context, EVP_sha256(), NULL) && add_string(context, policy->hostname) &&
	                       add_names(context, names, count) && add_material(context, input) &&
	                       add_number(context, input->alpn) && add_options(context, input->options) &&
	                       EVP_DigestFinal_ex(context, digest, NULL)
	               ? 0
	               : -ENOMEM;
}

static bool copy_names(const struct backend_tls_policy *policy, struct tls_settings *settings)
{
	_cleanup_free_ struct subject_alt_name_value *names = NULL;
	size_t count;

	if (sort_names(policy, &names, &count) < 0)
		return false;
	if (!count)
		return true;
	settings->subject_alt_names = calloc(count, sizeof(*settings->subject_alt_names));
	if (!settings->subject_alt_names)
		return false;
	for (; settings->subject_alt_name_count < count; settings->subject_alt_name_count++) {
		const struct subject_alt_name_value *name = &names[settings->subject_alt_name_count];
		struct subject_alt_name *copy = &settings->subject_alt_names[settings->subject_alt_name_count];

		copy->type = name_type(name);
		copy->value = strdup(name_value(name));
		if (!copy->value)
			return false;
	}
	return true;
}

/* False: no memory. */
static bool copy_list(enum tls_list list, const char *value, char **copy)
{
	_cleanup_(text_free) struct text why = {0};
	char canonical[TLS_LIST_MAX];

	if (!value)
		return true;
	*copy = tls_list_canonical(list, value, canonical, &why) ? strdup(canonical) : NULL;
	return *copy;
}

static bool copy_options(const struct tls_options *options, struct settings_entry *entry)
{
	struct tls_settings *settings = &entry->settings;

	settings->min_version = options->min_version;
	settings->max_version = options->max_version;
	settings->ktls = options->ktls;
	settings->connect_timeout_ms = options->connect_timeout_ms;
	settings->handshake_timeout_ms = options->handshake_timeout_ms;
	settings->idle_timeout_ms = options->idle_timeout_ms;
	settings->verify_depth = options->verify_depth;
	settings->partial_chain = options->partial_chain;
	settings->resumption = !options->resumption_off;
	if (options->pin_count) {
		size_t size = options->pin_count * sizeof(options->pins[0]);

		entry->pins = malloc(size);
		if (!entry->pins)
			return false;
		memcpy(entry->pins, options->pins, size);
		settings->pins = (const uint8_t(*)[OPTION_PIN_BYTES])entry->pins;
		settings->pin_count = options->pin_count;
	}
	return copy_list(TLS_LIST_CIPHER_SUITES, options->cipher_suites, &settings->cipher_suites) &&
	       copy_list(TLS_LIST_CIPHERS, options->ciphers, &settings->ciphers) &&
	       copy_list(TLS_LIST_GROUPS, options->groups, &settings->groups) &&
	       copy_list(TLS_LIST_SIGNATURE_ALGORITHMS, options->signature_algorithms, &settings->signature_algorithms);
}

static void share_material(const struct settings_input *input, struct settings_entry *entry)
{
	struct tls_settings *settings = &entry->settings;

	settings->system_ca = input->system_ca;
	if (input->ca) {
		entry->ca = shared_text_ref(input->ca);
		settings->ca_pem = entry->ca->text;
	}
	if (input->crl) {
		entry->crl = shared_text_ref(input->crl);
		settings->crl_pem = entry->crl->text;
	}
	if (input->client_certificate)
		settings->client_certificate = client_certificate_ref(input->client_certificate);
}

struct settings_entry *settings_entry_new(const struct settings_input *input, const uint8_t digest[static 32],
                                          uint32_t id)
{
	const struct backend_tls_policy *policy = &input->policy->backend_tls_policy;
	struct settings_entry *entry = calloc(1, sizeof(*entry));
	struct tls_settings *settings;

	if (!entry)
		return NULL;
	atomic_init(&entry->references, 1);
	settings = &entry->settings;
	settings->id = id;
	memcpy(settings->digest, digest, sizeof(settings->digest));
	settings->policy_namespace = strdup(input->policy->namespace_);
	settings->policy_name = strdup(input->policy->name);
	settings->hostname = strdup(policy->hostname);
	settings->alpn = input->alpn;
	share_material(input, entry);
	if (!settings->policy_namespace || !settings->policy_name || !settings->hostname ||
	    !copy_names(policy, settings) || !copy_options(input->options, entry)) {
		settings_entry_unref(entry);
		return NULL;
	}
	return entry;
}
