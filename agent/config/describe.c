// SPDX-License-Identifier: GPL-2.0-only
#include "config/describe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "config/setting.h"

static void put_number(FILE *stream, uint64_t number)
{
	fprintf(stream, "%llu", (unsigned long long)number);
}

static void put_choice(FILE *stream, const struct setting *setting, const void *field)
{
	unsigned int value;

	memcpy(&value, field, sizeof(value));
	for (const struct setting_choice *choice = setting->choices; choice->name; choice++) {
		if (choice->value == value)
			fputs(choice->name, stream);
	}
}

static void put_cidrs(FILE *stream, const struct config_cidrs *cidrs)
{
	char text[ADDRESS_TEXT_MAX];

	for (size_t i = 0; i < cidrs->count; i++) {
		const struct cidr *cidr = &cidrs->at[i];
		bool v4 = address_is_v4(&cidr->address) && cidr->prefix_length >= 96;

		fprintf(stream, "%s%s/%u", i ? "," : "", address_format(&cidr->address, text),
		        v4 ? cidr->prefix_length - 96 : cidr->prefix_length);
	}
}

/* As --gateway takes it. */
static void put_gateways(FILE *stream, const struct config_gateways *gateways)
{
	for (size_t i = 0; i < gateways->count; i++) {
		const struct config_gateway *gateway = &gateways->at[i];

		fprintf(stream, "%s%s,cgroup=%s", i ? " " : "", gateway->name, gateway->cgroup);
		if (gateway->netns)
			fprintf(stream, ",netns=%s", gateway->netns);
		fprintf(stream, ",mode=%s", config_gateway_mode_name(gateway->mode));
		for (size_t ref = 0; ref < gateway->ref_count; ref++)
			fprintf(stream, ",gatewayRef=%s/%s", gateway->refs[ref].namespace_, gateway->refs[ref].name);
	}
}

static void put_address(FILE *stream, const struct config_address *address)
{
	const struct postern_destination_key key = {.address = address->address, .port = htons(address->port)};
	char text[DESTINATION_TEXT_MAX];

	if (address->port)
		fputs(destination_format(&key, text), stream);
}

static void put_value(FILE *stream, const struct setting *setting, const void *field)
{
	switch (setting->type) {
	case SETTING_PATH:
		fputs(*(char *const *)field ? *(char *const *)field : "", stream);
		return;
	case SETTING_NUMBER:
		put_number(stream, *(const uint32_t *)field);
		return;
	case SETTING_DURATION:
		put_number(stream, *(const uint64_t *)field / 1000000);
		fputs("ms", stream);
		return;
	case SETTING_SIZE:
		put_number(stream, *(const uint64_t *)field);
		return;
	case SETTING_CHOICE:
		put_choice(stream, setting, field);
		return;
	case SETTING_PORTS: {
		const struct config_ports *ports = field;

		fprintf(stream, "%u-%u", ports->first, ports->last);
		return;
	}
	case SETTING_ADDRESS:
		put_address(stream, field);
		return;
	case SETTING_CIDRS:
		put_cidrs(stream, field);
		return;
	case SETTING_GATEWAYS:
		put_gateways(stream, field);
		return;
	}
}

int config_describe(const struct config *config, void (*each)(void *context, const char *key, const char *value),
                    void *context)
{
	for (size_t i = 0; i < setting_count; i++) {
		_cleanup_free_ char *text = NULL;
		size_t size;
		FILE *stream = open_memstream(&text, &size);

		if (!stream)
			return -ENOMEM;
		put_value(stream, &settings[i], (const char *)config + settings[i].offset);
		if (fclose(stream) == EOF)
			return -ENOMEM;
		each(context, settings[i].key, text);
	}
	return 0;
}

/* With the NUL of each, so that no value can look like two. */
static void add_to_digest(void *context, const char *key, const char *value)
{
	(void)EVP_DigestUpdate(context, key, strlen(key) + 1);
	(void)EVP_DigestUpdate(context, value, strlen(value) + 1);
}

int config_digest(const struct config *config, uint8_t digest[static CONFIG_DIGEST_SIZE])
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	int error = -ENOMEM;

	if (context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1) {
		error = config_describe(config, add_to_digest, context);
		if (!error && EVP_DigestFinal_ex(context, digest, NULL) != 1)
			error = -ENOMEM;
	}
	EVP_MD_CTX_free(context);
	return error;
}
