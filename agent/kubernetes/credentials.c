// SPDX-License-Identifier: GPL-2.0-only
#include "kubernetes/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "base/wiping.h"
#include "kubernetes/credentials_internal.h"

#define SERVICE_ACCOUNT_DIRECTORY "/var/run/secrets/kubernetes.io/serviceaccount"
#define READ_AGAIN_NS             60000000000ull

int credentials_refuse(struct credentials_error *error, int result, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(error->text, error->size, format, arguments);
	va_end(arguments);
	return result;
}

static int read_whole(int fd, size_t most, char **text)
{
	_cleanup_wiping_free_ char *content = NULL;
	struct stat status;
	size_t length = 0;

	if (fstat(fd, &status) == -1)
		return -errno;
	if (!S_ISREG(status.st_mode))
		return -EINVAL;
	content = malloc(most + 2);
	if (!content)
		return -ENOMEM;
	while (length <= most) {
		ssize_t got = read(fd, content + length, most + 1 - length);

		if (got == -1 && errno == EINTR)
			continue;
		if (got == -1)
			return -errno;
		if (got == 0)
			break;
		length += (size_t)got;
	}
	if (length > most)
		return -EFBIG;
	content[length] = '\0';
	if (strlen(content) != length)
		return -EINVAL;
	*text = TAKE_PTR(content);
	return 0;
}

int credentials_read_file(const char *path, size_t most, char **text)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	return fd == -1 ? -errno : read_whole(fd, most, text);
}

/* What a header can carry, and no more: a line break would begin a header of its own. */
static bool is_token(const char *text)
{
	for (size_t i = 0; text[i]; i++)
		if (text[i] <= 0x20 || text[i] >= 0x7f)
			return false;
	return text[0] != '\0';
}

int credentials_set_token(char **token, char *text)
{
	size_t length = strlen(text);

	while (length && strchr(" \t\r\n", text[length - 1]))
		text[--length] = '\0';
	if (!is_token(text)) {
		wiping_free(text);
		return -EINVAL;
	}
	wiping_free(*token);
	*token = text;
	return 0;
}

static int read_token(struct kubernetes_credentials *credentials)
{
	char *text = NULL;
	int result = credentials_read_file(credentials->token_path, CREDENTIALS_TOKEN_MAX, &text);

	return text ? credentials_set_token(&credentials->token, text) : result;
}

static int read_pem(const char *path, char **pem)
{
	char *text = NULL;
	int result = credentials_read_file(path, CREDENTIALS_PEM_MAX, &text);

	if (result)
		return result;
	wiping_free(*pem);
	*pem = text;
	return 0;
}

static int read_pair(struct kubernetes_credentials *credentials)
{
	_cleanup_wiping_free_ char *certificate = NULL, *key = NULL;
	int result = 0;

	if (credentials->certificate_path)
		result = read_pem(credentials->certificate_path, &certificate);
	if (result == 0 && credentials->key_path)
		result = read_pem(credentials->key_path, &key);
	if (result)
		return result;
	if (certificate) {
		wiping_free(credentials->certificate);
		credentials->certificate = TAKE_PTR(certificate);
	}
	if (key) {
		wiping_free(credentials->key);
		credentials->key = TAKE_PTR(key);
	}
	return 0;
}

/*
 * A token goes with its file. A CA or a certificate that cannot be read for the moment is kept: it is no permission
 * that somebody took back.
 */
static void read_again(struct kubernetes_credentials *credentials, uint64_t now_ns)
{
	if (!credentials->expired && now_ns - credentials->read_ns < READ_AGAIN_NS)
		return;
	credentials->expired = false;
	credentials->read_ns = now_ns;
	if (credentials->ca_path)
		(void)read_pem(credentials->ca_path, &credentials->ca);
	(void)read_pair(credentials);
	if (credentials->token_path && read_token(credentials) != 0) {
		wiping_free(credentials->token);
		credentials->token = NULL;
	}
}

/* Everything that stands in a file, at the first time: a failure is the operator's to mend. */
int credentials_read_files(struct kubernetes_credentials *credentials, struct credentials_error *error)
{
	int result;

	if (credentials->ca_path && (result = read_pem(credentials->ca_path, &credentials->ca)) < 0)
		return credentials_refuse(error, result, "%s: %s", credentials->ca_path, strerror(-result));
	if (credentials->certificate_path || credentials->key_path) {
		result = read_pair(credentials);
		if (result)
			return credentials_refuse(
			        error, result, "client certificate %s, key %s: %s",
			        credentials->certificate_path ? credentials->certificate_path : "(data)",
			        credentials->key_path ? credentials->key_path : "(data)", strerror(-result));
	}
	if (credentials->token_path && (result = read_token(credentials)) < 0)
		return credentials_refuse(error, result, "%s: %s", credentials->token_path,
		                          result == -EINVAL ? "holds no token" : strerror(-result));
	credentials->read_ns = monotonic_ns();
	return 0;
}

static int path_in(const char *directory, const char *name, char **path)
{
	if (asprintf(path, "%s/%s", directory, name) == -1) {
		*path = NULL;
		return -ENOMEM;
	}
	return 0;
}

static bool is_port(const char *text)
{
	return *text && strlen(text) <= 5 && strspn(text, "0123456789") == strlen(text);
}

static int set_server(struct kubernetes_credentials *credentials, struct credentials_error *error)
{
	const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
	bool brackets;

	if (!host || !*host || !port || !*port)
		return credentials_refuse(
		        error, -ENOENT,
		        "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: this is no pod "
		        "of a cluster (a kubeconfig would do)");
	if (!is_port(port) ||
	    strspn(host, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.:-_") != strlen(host))
		return credentials_refuse(error, -EINVAL,
		                          "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are no host and port");
	brackets = strchr(host, ':') != NULL;
	if (asprintf(&credentials->server, "https://%s%s%s:%s", brackets ? "[" : "", host, brackets ? "]" : "", port) ==
	    -1) {
		credentials->server = NULL;
		return -ENOMEM;
	}
	return 0;
}

/* The namespace is of no consequence to what is watched; it need not be there. */
static int set_namespace(struct kubernetes_credentials *credentials, const char *directory)
{
	_cleanup_free_ char *path = NULL;
	char *text = NULL;

	if (path_in(directory, "namespace", &path) < 0)
		return -ENOMEM;
	if (credentials_read_file(path, CREDENTIALS_TOKEN_MAX, &text) == 0 && text) {
		text[strcspn(text, " \t\r\n")] = '\0';
		credentials->namespace_ = text;
	}
	return 0;
}

static int open_service_account(struct kubernetes_credentials *credentials, const char *directory,
                                struct credentials_error *error)
{
	int result;

	if (!directory)
		directory = SERVICE_ACCOUNT_DIRECTORY;
	if ((result = set_server(credentials, error)) < 0 ||
	    (result = path_in(directory, "ca.crt", &credentials->ca_path)) < 0 ||
	    (result = path_in(directory, "token", &credentials->token_path)) < 0 ||
	    (result = set_namespace(credentials, directory)) < 0)
		return result;
	return credentials_read_files(credentials, error);
}

static int open_credentials(struct kubernetes_credentials *credentials, const char *kubeconfig, const char *directory,
                            struct credentials_error *error)
{
	int result = *kubeconfig ? kubeconfig_read(kubeconfig, credentials, error)
	                         : open_service_account(credentials, directory, error);

	if (result == 0 && !credentials->namespace_) {
		credentials->namespace_ = strdup("default");
		result = credentials->namespace_ ? 0 : -ENOMEM;
	}
	return result;
}

int kubernetes_credentials_open(const char *kubeconfig, const char *directory,
                                struct kubernetes_credentials **credentials, char *error, size_t error_size)
{
	struct kubernetes_credentials *opened = calloc(1, sizeof(*opened));
	struct credentials_error message = {error, error_size};
	int result;

	if (!opened)
		return credentials_refuse(&message, -ENOMEM, "no memory");
	result = open_credentials(opened, kubeconfig, directory, &message);
	if (result == -ENOMEM)
		(void)credentials_refuse(&message, result, "no memory");
	if (result)
		kubernetes_credentials_close(opened);
	else
		*credentials = opened;
	return result;
}

void kubernetes_credentials_close(struct kubernetes_credentials *credentials)
{
	if (!credentials)
		return;
	free(credentials->server);
	free(credentials->namespace_);
	free(credentials->ca_path);
	free(credentials->certificate_path);
	free(credentials->key_path);
	free(credentials->token_path);
	wiping_free(credentials->ca);
	wiping_free(credentials->certificate);
	wiping_free(credentials->key);
	wiping_free(credentials->token);
	free(credentials);
}

const char *kubernetes_credentials_server(const struct kubernetes_credentials *credentials)
{
	return credentials->server;
}

const char *kubernetes_credentials_namespace(const struct kubernetes_credentials *credentials)
{
	return credentials->namespace_;
}

const char *kubernetes_credentials_ca(const struct kubernetes_credentials *credentials)
{
	return credentials->ca;
}

const char *kubernetes_credentials_certificate(const struct kubernetes_credentials *credentials)
{
	return credentials->certificate;
}

const char *kubernetes_credentials_key(const struct kubernetes_credentials *credentials)
{
	return credentials->key;
}

const char *kubernetes_credentials_token(struct kubernetes_credentials *credentials, uint64_t now_ns)
{
	read_again(credentials, now_ns);
	return credentials->token;
}

void kubernetes_credentials_expire(struct kubernetes_credentials *credentials)
{
	credentials->expired = true;
}
