/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * credentials.h: which API server, and as whom: from a pod's service account, or from a kubeconfig.
 *
 * In a cluster: KUBERNETES_SERVICE_HOST and _PORT, and ca.crt and token below
 * /var/run/secrets/kubernetes.io/serviceaccount. The kubelet rotates the token (a new ..data symlink): it is read again
 * when a minute has passed or the server said 401, never kept longer than its file. From a kubeconfig: cluster, user
 * and namespace of the current context; certificate-authority, client-certificate, client-key and token, each
 * as data or as a file; tokenFile. exec plug-ins, auth-provider, insecure-skip-tls-verify, proxies and basic
 * authentication are refused by name: nothing is talked to unverified, and nothing is executed.
 *
 * Tokens and keys are wiped after use and in no message. Control thread of posternd, or the one thread of
 * postern-controller and posternctl.
 */
#ifndef POSTERN_KUBERNETES_CREDENTIALS_H
#define POSTERN_KUBERNETES_CREDENTIALS_H

#include <stddef.h>
#include <stdint.h>

struct kubernetes_credentials;

/*
 * kubeconfig: a file, or "" for the service account of this pod. directory: where the service account's files are, NULL
 * for the usual place. 0; -EINVAL, -ENOENT, -ENOMEM or another negative errno with a one-line message that names file
 * and field.
 */
int kubernetes_credentials_open(const char *kubeconfig, const char *directory,
                                struct kubernetes_credentials **credentials, char *error, size_t error_size);
void kubernetes_credentials_close(struct kubernetes_credentials *credentials); /* NULL-safe; wipes */

/* "https://10.96.0.1:443", without a slash at the end. */
const char *kubernetes_credentials_server(const struct kubernetes_credentials *credentials);
/* That of the context or of the service account; "default" if none is named. */
const char *kubernetes_credentials_namespace(const struct kubernetes_credentials *credentials);
/* PEM; NULL: the system's CAs. */
const char *kubernetes_credentials_ca(const struct kubernetes_credentials *credentials);
/* PEM of certificate and key, both or neither. */
const char *kubernetes_credentials_certificate(const struct kubernetes_credentials *credentials);
const char *kubernetes_credentials_key(const struct kubernetes_credentials *credentials);
/*
 * The bearer token as of now; NULL: none. When it is due, everything that comes from a file is read again, CA and
 * certificate too: what these functions returned is valid until the next call of this one.
 */
const char *kubernetes_credentials_token(struct kubernetes_credentials *credentials, uint64_t now_ns);
/* The server said 401: whatever comes from a file is read at the next use. */
void kubernetes_credentials_expire(struct kubernetes_credentials *credentials);

#endif
