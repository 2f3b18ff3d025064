// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>

#include "policy/ca_bundle.h"
#include "policy/decode_kinds.h"

typedef int (*bundle_parser)(const char *text, size_t size, struct shared_text **bundle, char *error,
                             size_t error_size);

static int decode_bundle(struct decoder *decoder, const char *text, size_t size, bundle_parser parse,
                         struct pem_value *value)
{
	char problem[160];
	int result;

	value->present = true;
	result = parse(text, size, &value->pem, problem, sizeof(problem));
	if (result != -EINVAL)
		return result;
	value->problem = arena_strdup(decoder->arena, problem);
	return value->problem ? 0 : -ENOMEM;
}

int decode_ca(struct decoder *decoder, const char *text, size_t size, struct pem_value *value)
{
	return decode_bundle(decoder, text, size, ca_bundle_parse, value);
}

int decode_crl(struct decoder *decoder, const char *text, size_t size, struct pem_value *value)
{
	return decode_bundle(decoder, text, size, crl_bundle_parse, value);
}
