/* SPDX-License-Identifier: GPL-2.0-only */
/* The YAML file of settings: every value is checked by its type, then goes through the parser that the flags use. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/yaml.h"
#include "config/setting.h"
#include "config/value.h"

#define FILE_MAX_BYTES (1u << 20)
#define FIELD_MAX      128 /* "gateways[255].gatewayRefs[63]" */

struct report {
	const char *path;
	char *error;
	size_t size;
};

/* "FILE: field: reason"; the field may be "". */
__attribute__((format(printf, 3, 4))) static int report_bad(const struct report *report, const char *field,
                                                            const char *format, ...)
{
	char reason[VALUE_ERROR_MAX];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	(void)snprintf(report->error, report->size, "%.200s: %s%s%s", report->path, field, *field ? ": " : "", reason);
	return -EINVAL;
}

static const char *type_name(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "a mapping";
	case JSON_ARRAY:
		return "a list";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "an integer";
	case JSON_REAL:
		return "a fraction";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	case JSON_NULL:
		return "nothing";
	}
	return "unknown";
}

/* A string without NUL bytes inside, or NULL and an error. */
static const char *string_of(const struct report *report, const char *field, const json_t *value)
{
	const char *text = json_string_value(value);

	if (!text) {
		(void)report_bad(report, field, "must be a string, not %s", type_name(value));
		return NULL;
	}
	if (strlen(text) != json_string_length(value)) {
		(void)report_bad(report, field, "has a NUL byte in it");
		return NULL;
	}
	return text;
}

static int set_scalar(const struct report *report, struct config *config, const struct setting *setting,
                      const json_t *value)
{
	char reason[VALUE_ERROR_MAX];
	char number[32];
	const char *text = number;
	int result;

	if (setting->type == SETTING_NUMBER || (setting->type == SETTING_SIZE && json_is_integer(value))) {
		if (!json_is_integer(value))
			return report_bad(report, setting->key, "must be an integer, not %s", type_name(value));
		(void)snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	} else if (setting->type == SETTING_CHOICE && json_is_boolean(value)) {
		text = json_is_true(value) ? "on" : "off"; /* that is how YAML reads these words */
	} else {
		text = string_of(report, setting->key, value);
		if (!text)
			return -EINVAL;
	}
	result = setting_set_text(setting, config, text, reason, sizeof(reason));
	return result == -EINVAL ? report_bad(report, setting->key, "%s", reason) : result;
}

static int set_cidrs(const struct report *report, struct config *config, const struct setting *setting,
                     const json_t *value)
{
	size_t index;
	json_t *item;

	json_array_foreach (value, index, item) {
		char field[FIELD_MAX];
		char reason[VALUE_ERROR_MAX];
		const char *text;
		int result;

		(void)snprintf(field, sizeof(field), "%s[%zu]", setting->key, index);
		text = string_of(report, field, item);
		if (!text)
			return -EINVAL;
		result = setting_set_text(setting, config, text, reason, sizeof(reason));
		if (result)
			return result == -EINVAL ? report_bad(report, field, "%s", reason) : result;
	}
	return 0;
}

static int set_gateway_refs(const struct report *report, struct value_gateway *gateway, const char *field,
                            const json_t *value)
{
	size_t index;
	json_t *item;

	if (!json_is_array(value))
		return report_bad(report, field, "must be a list, not %s", type_name(value));
	if (json_array_size(value) > VALUE_GATEWAY_REFS_MAX)
		return report_bad(report, field, "holds more than %d", VALUE_GATEWAY_REFS_MAX);
	json_array_foreach (value, index, item) {
		char item_field[FIELD_MAX];

		(void)snprintf(item_field, sizeof(item_field), "%.60s[%zu]", field, index);
		gateway->refs[index] = string_of(report, item_field, item);
		if (!gateway->refs[index])
			return -EINVAL;
		gateway->ref_count++;
	}
	return 0;
}

static int set_gateway_key(const struct report *report, struct value_gateway *gateway, size_t index, const char *name,
                           const json_t *value)
{
	const struct {
		const char *key;
		const char **text;
	} parts[] = {
	        {"name", &gateway->name},
	        {"cgroup", &gateway->cgroup},
	        {"netns", &gateway->netns},
	        {"mode", &gateway->mode},
	};
	char field[FIELD_MAX];
	char shown[64];

	(void)snprintf(field, sizeof(field), "gateways[%zu].%.30s", index, name);
	if (strcmp(name, "gatewayRefs") == 0)
		return set_gateway_refs(report, gateway, field, value);
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		if (strcmp(parts[i].key, name) != 0)
			continue;
		*parts[i].text = string_of(report, field, value);
		return *parts[i].text ? 0 : -EINVAL;
	}
	(void)snprintf(field, sizeof(field), "gateways[%zu]", index);
	return report_bad(report, field, "unknown key %s; known are name, cgroup, netns, mode, gatewayRefs",
	                  log_quote(name, shown, sizeof(shown)));
}

static int set_gateway(const struct report *report, struct config *config, size_t index, json_t *item)
{
	struct value_gateway gateway = {0};
	char field[FIELD_MAX];
	char bad_field[VALUE_FIELD_MAX];
	char reason[VALUE_ERROR_MAX];
	const char *name;
	json_t *value;
	int result;

	(void)snprintf(field, sizeof(field), "gateways[%zu]", index);
	if (!json_is_object(item))
		return report_bad(report, field, "must be a mapping with name and cgroup, not %s", type_name(item));
	json_object_foreach (item, name, value) {
		result = set_gateway_key(report, &gateway, index, name, value);
		if (result)
			return result;
	}
	result = value_add_gateway(&config->gateways, &gateway, bad_field, reason, sizeof(reason));
	if (result != -EINVAL)
		return result;
	(void)snprintf(field, sizeof(field), "gateways[%zu]%s%s", index, *bad_field ? "." : "", bad_field);
	return report_bad(report, field, "%s", reason);
}

static int set_gateways(const struct report *report, struct config *config, const json_t *value)
{
	size_t index;
	json_t *item;

	json_array_foreach (value, index, item) {
		int result = set_gateway(report, config, index, item);

		if (result)
			return result;
	}
	return 0;
}

static int set_value(const struct report *report, struct config *config, const struct setting *setting,
                     const json_t *value)
{
	if (setting->type != SETTING_CIDRS && setting->type != SETTING_GATEWAYS)
		return set_scalar(report, config, setting, value);
	if (!json_is_array(value))
		return report_bad(report, setting->key, "must be a list, not %s", type_name(value));
	return setting->type == SETTING_CIDRS ? set_cidrs(report, config, setting, value)
	                                      : set_gateways(report, config, value);
}

static int set_document(const struct report *report, struct config *config, json_t *document)
{
	const char *key;
	json_t *value;
	char shown[64];

	if (json_is_null(document)) /* comments only */
		return 0;
	if (!json_is_object(document))
		return report_bad(report, "", "must be a mapping of settings, not %s", type_name(document));
	json_object_foreach (document, key, value) {
		const struct setting *setting = NULL;
		int result;

		for (size_t i = 0; i < setting_count && !setting; i++) {
			if (strcmp(settings[i].key, key) == 0)
				setting = &settings[i];
		}
		if (!setting)
			return report_bad(report, log_quote(key, shown, sizeof(shown)),
			                  "unknown key; `posternd --help` lists them");
		result = set_value(report, config, setting, value);
		if (result)
			return result;
	}
	return 0;
}

static int system_error(const struct report *report, int number)
{
	(void)snprintf(report->error, report->size, "%.200s: %s", report->path, strerror(number));
	return -number;
}

/* Whole file into memory. *text is NULL without error if the file is missing and need not be there. */
static int read_whole(const struct report *report, bool required, char **text, size_t *length)
{
	/* Non-blocking: a FIFO without a writer must not hang --check-config. */
	_cleanup_close_ int fd = open(report->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	_cleanup_free_ char *buffer = NULL;
	struct stat status;
	size_t used = 0;
	ssize_t got;

	*text = NULL;
	if (fd == -1)
		return errno == ENOENT && !required ? 0 : system_error(report, errno);
	if (fstat(fd, &status) == -1)
		return system_error(report, errno);
	if (!S_ISREG(status.st_mode))
		return report_bad(report, "", "is not a regular file");
	buffer = malloc(FILE_MAX_BYTES + 1);
	if (!buffer)
		return -ENOMEM;
	/* Read until the end, not by st_size: the file may change meanwhile. */
	while (used <= FILE_MAX_BYTES && (got = read(fd, buffer + used, FILE_MAX_BYTES + 1 - used)) != 0) {
		if (got == -1)
			return system_error(report, errno);
		used += (size_t)got;
	}
	if (used > FILE_MAX_BYTES)
		return report_bad(report, "", "is larger than %u bytes", FILE_MAX_BYTES);
	*length = used;
	*text = TAKE_PTR(buffer);
	return 0;
}

static void cleanup_json(json_t **value)
{
	json_decref(*value);
}

int setting_read_file(struct config *config, const char *path, bool required, char *error, size_t size)
{
	const struct report report = {.path = path, .error = error, .size = size};
	_cleanup_(cleanup_json) json_t *documents = NULL;
	_cleanup_free_ char *text = NULL;
	char reason[VALUE_ERROR_MAX] = "";
	size_t length = 0;
	int result = read_whole(&report, required, &text, &length);

	if (result || !text)
		return result;
	result = yaml_load(text, length, &documents, reason, sizeof(reason));
	if (result == -ENOMEM)
		return result;
	if (result)
		return report_bad(&report, "", "%s", *reason ? reason : strerror(-result));
	if (json_array_size(documents) > 1)
		return report_bad(&report, "", "holds %zu documents; one is meant", json_array_size(documents));
	if (json_array_size(documents) == 1) {
		result = set_document(&report, config, json_array_get(documents, 0));
		if (result)
			return result;
	}
	config->file = strdup(path);
	return config->file ? 0 : -ENOMEM;
}
