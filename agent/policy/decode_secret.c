// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is decoded of a Secret is wiped before it is freed, whatever key it stands under. The JSON document that it
 * comes from is the caller's (base/wiping.h).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "base/wiping.h"
#include "policy/client_certificate.h"
#include "policy/decode_kinds.h"

struct secret_value { /* all zero = absent */
	bool present;
	bool undecodable; /* not base64 */
	const char *text; /* of the document, or the next */
	size_t size;
	char *owned;
};

static void secret_value_clear(struct secret_value *value)
{
	wiping_free(value->owned);
}
#define _cleanup_secret_ _cleanup_(secret_value_clear)

static int decode_value(const char *text, struct secret_value *value)
{
	int result = base64_decode(text, strlen(text), &value->owned, &value->size);

	value->undecodable = result == -EINVAL;
	if (result == 0)
		value->text = value->owned;
	return result == -EINVAL ? 0 : result;
}

struct secret_maps {
	const json_t *data, *string_data; /* NULL if absent */
};

/* stringData wins, as in the API server. */
static int read_value(struct decoder *decoder, const struct secret_maps *maps, const char *key,
                      struct secret_value *value)
{
	struct path root = {0}, data_path = path_key(&root, "data"), string_path = path_key(&root, "stringData");
	const char *text;
	int result = field_borrow(decoder, &string_path, maps->string_data, key, OPTIONAL, &text);

	if (result < 0)
		return result;
	if (text) {
		value->present = true;
		value->text = text;
		value->size = strlen(text);
		return 0;
	}
	result = field_borrow(decoder, &data_path, maps->data, key, OPTIONAL, &text);
	if (result < 0 || !text)
		return result;
	value->present = true;
	value->text = "";
	return decode_value(text, value);
}

static int decode_public(struct decoder *decoder, const struct secret_maps *maps, const char *key,
                         int (*decode)(struct decoder *decoder, const char *text, size_t size, struct pem_value *value),
                         struct pem_value *public)
{
	_cleanup_secret_ struct secret_value value = {0};
	int result = read_value(decoder, maps, key, &value);

	if (result < 0 || !value.present)
		return result;
	if (value.undecodable) {
		public->present = true;
		public->problem = "is not base64";
		return 0;
	}
	return decode(decoder, value.text, value.size, public);
}

static const char *unusable(const struct secret_value *certificate, const struct secret_value *key)
{
	if (!certificate->present)
		return "has no key tls.crt";
	if (!key->present)
		return "has no key tls.key";
	if (certificate->undecodable)
		return "tls.crt: is not base64";
	return key->undecodable ? "tls.key: is not base64" : NULL;
}

static int decode_certificate(struct decoder *decoder, const struct secret_maps *maps, struct secret *secret)
{
	_cleanup_secret_ struct secret_value certificate = {0}, key = {0};
	char problem[160];
	int result;

	if ((result = read_value(decoder, maps, "tls.crt", &certificate)) < 0 ||
	    (result = read_value(decoder, maps, "tls.key", &key)) < 0)
		return result;
	secret->certificate_problem = unusable(&certificate, &key);
	if (secret->certificate_problem)
		return 0;
	result = client_certificate_new(certificate.text, certificate.size, key.text, key.size, &secret->certificate,
	                                problem, sizeof(problem));
	if (result != -EINVAL)
		return result;
	secret->certificate_problem = arena_strdup(decoder->arena, problem);
	return secret->certificate_problem ? 0 : -ENOMEM;
}

int decode_secret(struct decoder *decoder, const json_t *document, struct object *object)
{
	struct secret *secret = &object->secret;
	struct secret_maps maps;
	struct path root = {0};
	int result;

	if ((result = field_string(decoder, &root, document, "type", OPTIONAL, &secret->type)) < 0 ||
	    (result = field_map(decoder, &root, document, "data", OPTIONAL, &maps.data)) < 0 ||
	    (result = field_map(decoder, &root, document, "stringData", OPTIONAL, &maps.string_data)) < 0)
		return result;
	secret->type = secret->type ? secret->type : "";
	if ((result = decode_public(decoder, &maps, "ca.crt", decode_ca, &secret->ca)) < 0 ||
	    (result = decode_public(decoder, &maps, "ca.crl", decode_crl, &secret->crl)) < 0)
		return result;
	return decode_certificate(decoder, &maps, secret);
}
