/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * credentials_internal.h: what credentials.c (service account, files that are read again) and kubeconfig.c share. Every
 * text of a secret is allocated for wiping_free().
 */
#ifndef POSTERN_KUBERNETES_CREDENTIALS_INTERNAL_H
#define POSTERN_KUBERNETES_CREDENTIALS_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kubernetes/credentials.h"

#define CREDENTIALS_TOKEN_MAX (64u << 10)
#define CREDENTIALS_PEM_MAX   (1u << 20)

struct kubernetes_credentials {
	char *server;
	char *namespace_;
	char *ca, *certificate, *key, *token;                     /* as they are now; NULL: none */
	char *ca_path, *certificate_path, *key_path, *token_path; /* where they are read again; NULL: nowhere */
	uint64_t read_ns;                                         /* CLOCK_MONOTONIC */
	bool expired;
};

struct credentials_error {
	char *text;
	size_t size;
};

/* Returns result. */
int credentials_refuse(struct credentials_error *error, int result, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* A regular file without a NUL, at most this large: 0 or negative errno. */
int credentials_read_file(const char *path, size_t most, char **text);
/* What paths name, at the first time. */
int credentials_read_files(struct kubernetes_credentials *credentials, struct credentials_error *error);
/* Takes text over. -EINVAL: it is none that a header could carry. */
int credentials_set_token(char **token, char *text);

/* kubeconfig.c */
int kubeconfig_read(const char *path, struct kubernetes_credentials *credentials, struct credentials_error *error);

#endif
