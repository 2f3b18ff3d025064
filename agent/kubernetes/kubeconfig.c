// SPDX-License-Identifier: GPL-2.0-only
/* A kubeconfig: the current context's cluster, user and namespace. What postern does not do is refused by its name. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/wiping.h"
#include "base/yaml.h"
#include "kubernetes/credentials_internal.h"

#define SHOWN_MAX 96

struct reading {
	const char *path;
	struct kubernetes_credentials *credentials;
	struct credentials_error *error;
};

/* One entry of clusters, users or contexts. */
struct entry {
	const char *list, *key; /* "clusters", "cluster" */
	const char *name;
	const json_t *value;
};

static void decref(json_t **value)
{
	json_decref(*value);
}
#define _cleanup_json_ _cleanup_(decref)

static int refuse_entry(const struct reading *reading, const struct entry *entry, const char *field, const char *why)
{
	char shown[SHOWN_MAX];

	return credentials_refuse(reading->error, -EINVAL, "%s: %s[%s].%s%s%s: %s", reading->path, entry->list,
	                          log_quote(entry->name, shown, sizeof(shown)), entry->key, *field ? "." : "", field,
	                          why);
}

/* 0 with NULL if it is absent or empty. */
static int string_of(const struct reading *reading, const struct entry *entry, const char *field, const char **text)
{
	const json_t *value = json_object_get(entry->value, field);

	*text = NULL;
	if (!value || json_is_null(value))
		return 0;
	if (!json_is_string(value))
		return refuse_entry(reading, entry, field, "must be a string");
	if (json_string_length(value))
		*text = json_string_value(value);
	return 0;
}

static int find_entry(const struct reading *reading, const json_t *document, struct entry *entry)
{
	const json_t *list = json_object_get(document, entry->list), *item;
	char shown[SHOWN_MAX];
	size_t index;

	json_array_foreach (list, index, item) {
		const char *name = json_string_value(json_object_get(item, "name"));

		if (!name || !entry->name || strcmp(name, entry->name) != 0)
			continue;
		entry->value = json_object_get(item, entry->key);
		if (json_is_object(entry->value))
			return 0;
		return refuse_entry(reading, entry, "", "must be a map");
	}
	return credentials_refuse(reading->error, -ENOENT, "%s: %s: there is none named %s", reading->path, entry->list,
	                          log_quote(entry->name, shown, sizeof(shown)));
}

/* Present, and neither null, false nor empty. */
static bool is_set(const json_t *value)
{
	if (!value || json_is_null(value) || json_is_false(value))
		return false;
	if (json_is_string(value))
		return json_string_length(value) != 0;
	return true;
}

static int refuse_unsupported(const struct reading *reading, const struct entry *entry, const char *const fields[])
{
	for (size_t i = 0; fields[i]; i++)
		if (is_set(json_object_get(entry->value, fields[i])))
			return refuse_entry(reading, entry, fields[i], "is not supported");
	return 0;
}

static int resolve_path(const struct reading *reading, const char *name, char **path)
{
	const char *slash = strrchr(reading->path, '/');
	int length = name[0] == '/' || !slash
	                     ? asprintf(path, "%s", name)
	                     : asprintf(path, "%.*s/%s", (int)(slash - reading->path), reading->path, name);

	if (length != -1)
		return 0;
	*path = NULL;
	return -ENOMEM;
}

/* FIELD-data in base64, or else the file that FIELD names, which is read later. */
static int data_or_path(const struct reading *reading, const struct entry *entry, const char *field, char **data,
                        char **path)
{
	char data_field[64];
	const char *text, *name;
	size_t length;
	int result;

	(void)snprintf(data_field, sizeof(data_field), "%s-data", field);
	if ((result = string_of(reading, entry, data_field, &text)) < 0 ||
	    (result = string_of(reading, entry, field, &name)) < 0)
		return result;
	if (!text)
		return name ? resolve_path(reading, name, path) : 0;
	result = base64_decode(text, strlen(text), data, &length);
	if (result == -EINVAL || (result == 0 && strlen(*data) != length))
		return refuse_entry(reading, entry, data_field, "is not PEM in base64");
	return result;
}

static bool is_url(const char *server)
{
	size_t length = strlen(server);

	if (strncmp(server, "https://", 8) != 0 || length == 8 || server[8] == '/')
		return false;
	for (size_t i = 0; i < length; i++)
		if (server[i] <= 0x20 || server[i] >= 0x7f)
			return false;
	return server[strcspn(server, "@?#\\")] == '\0';
}

static int read_cluster(const struct reading *reading, const struct entry *entry)
{
	static const char *const unsupported[] = {"insecure-skip-tls-verify", "proxy-url", "tls-server-name", NULL};
	struct kubernetes_credentials *credentials = reading->credentials;
	const char *server;
	size_t length;
	int result;

	if ((result = refuse_unsupported(reading, entry, unsupported)) < 0 ||
	    (result = string_of(reading, entry, "server", &server)) < 0)
		return result;
	if (!server)
		return refuse_entry(reading, entry, "server", "is required");
	if (!is_url(server))
		return refuse_entry(reading, entry, "server", "must be a URL that begins with https://");
	credentials->server = strdup(server);
	if (!credentials->server)
		return -ENOMEM;
	for (length = strlen(server); server[length - 1] == '/';)
		credentials->server[--length] = '\0';
	return data_or_path(reading, entry, "certificate-authority", &credentials->ca, &credentials->ca_path);
}

static int read_user_token(const struct reading *reading, const struct entry *entry)
{
	struct kubernetes_credentials *credentials = reading->credentials;
	const char *token, *file;
	char *copy;
	int result;

	if ((result = string_of(reading, entry, "token", &token)) < 0 ||
	    (result = string_of(reading, entry, "tokenFile", &file)) < 0)
		return result;
	if (file) /* it wins, as in kubectl */
		return resolve_path(reading, file, &credentials->token_path);
	if (!token)
		return 0;
	copy = strdup(token);
	if (!copy)
		return -ENOMEM;
	result = credentials_set_token(&credentials->token, copy);
	return result < 0 ? refuse_entry(reading, entry, "token", "has a character that no token has") : 0;
}

static int read_user(const struct reading *reading, const struct entry *entry)
{
	static const char *const unsupported[] = {"exec",   "auth-provider", "username",      "password", "as",
	                                          "as-uid", "as-groups",     "as-user-extra", "asUser",   NULL};
	struct kubernetes_credentials *credentials = reading->credentials;
	int result;

	if ((result = refuse_unsupported(reading, entry, unsupported)) < 0 ||
	    (result = data_or_path(reading, entry, "client-certificate", &credentials->certificate,
	                           &credentials->certificate_path)) < 0 ||
	    (result = data_or_path(reading, entry, "client-key", &credentials->key, &credentials->key_path)) < 0 ||
	    (result = read_user_token(reading, entry)) < 0)
		return result;
	if ((credentials->certificate || credentials->certificate_path) != (credentials->key || credentials->key_path))
		return refuse_entry(reading, entry, "", "client-certificate and client-key belong together");
	return 0;
}

static int read_context(const struct reading *reading, const struct entry *context, struct entry *cluster,
                        struct entry *user)
{
	const char *namespace_;
	int result;

	if ((result = string_of(reading, context, "cluster", &cluster->name)) < 0 ||
	    (result = string_of(reading, context, "user", &user->name)) < 0 ||
	    (result = string_of(reading, context, "namespace", &namespace_)) < 0)
		return result;
	if (!cluster->name || !user->name)
		return refuse_entry(reading, context, cluster->name ? "user" : "cluster", "is required");
	if (!namespace_)
		return 0;
	reading->credentials->namespace_ = strdup(namespace_);
	return reading->credentials->namespace_ ? 0 : -ENOMEM;
}

static int read_document(const struct reading *reading, const json_t *document)
{
	struct entry context = {.list = "contexts", .key = "context"}, cluster = {.list = "clusters", .key = "cluster"},
	             user = {.list = "users", .key = "user"};
	int result;

	if (!json_is_object(document))
		return credentials_refuse(reading->error, -EINVAL, "%s: is no kubeconfig", reading->path);
	context.name = json_string_value(json_object_get(document, "current-context"));
	if (!context.name || !*context.name)
		return credentials_refuse(reading->error, -EINVAL, "%s: current-context: is required", reading->path);
	if ((result = find_entry(reading, document, &context)) < 0 ||
	    (result = read_context(reading, &context, &cluster, &user)) < 0 ||
	    (result = find_entry(reading, document, &cluster)) < 0 ||
	    (result = find_entry(reading, document, &user)) < 0 || (result = read_cluster(reading, &cluster)) < 0 ||
	    (result = read_user(reading, &user)) < 0)
		return result;
	return credentials_read_files(reading->credentials, reading->error);
}

int kubeconfig_read(const char *path, struct kubernetes_credentials *credentials, struct credentials_error *error)
{
	const struct reading reading = {path, credentials, error};
	_cleanup_wiping_free_ char *text = NULL;
	_cleanup_json_ json_t *documents = NULL;
	char message[256];
	int result = credentials_read_file(path, CREDENTIALS_PEM_MAX, &text);

	if (result == -ENOMEM)
		return result;
	if (result)
		return credentials_refuse(error, result, "%s: %s", path, strerror(-result));
	result = yaml_load(text, strlen(text), &documents, message, sizeof(message));
	if (result == -ENOMEM)
		return result;
	if (result)
		return credentials_refuse(error, -EINVAL, "%s: %s", path, message);
	return read_document(&reading, json_array_get(documents, 0));
}
