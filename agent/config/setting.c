/* SPDX-License-Identifier: GPL-2.0-only */
#include "config/setting.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "config/value.h"

static void *field_of(const struct setting *setting, struct config *config)
{
	return (char *)config + setting->offset;
}

/* Each field that a CHOICE may write. The table cannot hold an enum of another size by mistake. */
_Static_assert(sizeof(enum config_source) == sizeof(unsigned int), "setting_choice");
_Static_assert(sizeof(enum config_coverage) == sizeof(unsigned int), "setting_choice");
_Static_assert(sizeof(enum switch_setting) == sizeof(unsigned int), "setting_choice");
_Static_assert(sizeof(enum log_level) == sizeof(unsigned int), "setting_choice");
_Static_assert(sizeof(enum log_format) == sizeof(unsigned int), "setting_choice");
_Static_assert(sizeof(enum config_access_log) == sizeof(unsigned int), "setting_choice");

static int set_choice(const struct setting *setting, struct config *config, const char *text, char *error, size_t size)
{
	char shown[80];

	for (const struct setting_choice *choice = setting->choices; choice->name; choice++) {
		if (strcmp(choice->name, text) == 0) {
			memcpy(field_of(setting, config), &choice->value, sizeof(choice->value));
			return 0;
		}
	}
	(void)snprintf(error, size, "%s is not one of %s", log_quote(text, shown, sizeof(shown)), setting->placeholder);
	return -EINVAL;
}

static int set_path(const struct setting *setting, struct config *config, const char *text, char *error, size_t size)
{
	char **field = field_of(setting, config);
	int result = value_path(text, setting->absolute ? VALUE_PATH_ABSOLUTE : VALUE_PATH_ANY, setting->may_be_empty,
	                        error, size);
	char *copy;

	if (result)
		return result;
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

static int set_number(const struct setting *setting, struct config *config, const char *text, char *error, size_t size)
{
	uint64_t number;
	int result = value_number(text, setting->minimum, setting->maximum, &number, error, size);

	if (!result)
		*(uint32_t *)field_of(setting, config) = (uint32_t)number;
	return result;
}

int setting_set_text(const struct setting *setting, struct config *config, const char *text, char *error, size_t size)
{
	switch (setting->type) {
	case SETTING_PATH:
		return set_path(setting, config, text, error, size);
	case SETTING_NUMBER:
		return set_number(setting, config, text, error, size);
	case SETTING_DURATION:
		return value_duration(text, setting->minimum, setting->maximum, field_of(setting, config), error, size);
	case SETTING_SIZE:
		return value_size(text, setting->minimum, setting->maximum, field_of(setting, config), error, size);
	case SETTING_CHOICE:
		return set_choice(setting, config, text, error, size);
	case SETTING_PORTS:
		return value_ports(text, field_of(setting, config), error, size);
	case SETTING_ADDRESS:
		return value_address(text, field_of(setting, config), error, size);
	case SETTING_CIDRS:
		return value_add_cidr(field_of(setting, config), text, error, size);
	case SETTING_GATEWAYS:
		return value_add_gateway_text(field_of(setting, config), text, error, size);
	}
	return -EINVAL;
}
