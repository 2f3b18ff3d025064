/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * TCP and TLS from the gateway's network namespace, in a child of its own, twice: once by OpenSSL with everything
 * allowed, to see what the backend shows; once by the agent's own session code and the policy's settings, which judges.
 */
#include "explain.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent_client.h"
#include "base/cleanup.h"
#include "base/reason.h"
#include "observe/json.h"
#include "policy/snapshot.h"
#include "tls/context.h"
#include "tls/session.h"

#define DIAL_SECONDS 8
#define PINS_MAX     32

static void fail(struct explain_dial *result, enum postern_reason reason, const char *detail)
{
	(void)snprintf(result->reason, sizeof(result->reason), "%s", reason_name(reason));
	(void)snprintf(result->problem, sizeof(result->problem), "%.250s", detail);
}

static enum postern_reason dial_reason(int error)
{
	switch (error) {
	case ECONNREFUSED:
		return REASON_BACKEND_REFUSED;
	case EHOSTUNREACH:
	case ENETUNREACH:
		return REASON_BACKEND_UNREACHABLE;
	case ECONNRESET:
		return REASON_BACKEND_RESET;
	default:
		return REASON_BACKEND_SILENT;
	}
}

static int dial(const struct postern_destination_key *key, struct explain_dial *result)
{
	const struct timeval limit = {.tv_sec = DIAL_SECONDS};
	struct sockaddr_storage address;
	socklen_t size = address_to_sockaddr(&key->address, ntohs(key->port), &address);
	int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char text[200];

	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) == 0 &&
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0 &&
	    connect(fd, (struct sockaddr *)&address, size) == 0)
		return fd;
	(void)snprintf(text, sizeof(text), "TCP: %s", errno == EINPROGRESS ? "no answer" : strerror(errno));
	fail(result, dial_reason(errno), text);
	if (fd >= 0)
		close(fd);
	return -1;
}

/* ---- what the backend shows ---- */

static void free_bio(BIO **bio)
{
	BIO_free(*bio);
}

static json_t *bio_text(BIO *bio)
{
	char *data;
	long size = BIO_get_mem_data(bio, &data);
	json_t *text = size > 0 ? json_stringn(data, (size_t)size) : json_string("");

	return text ? text : json_string("?");
}

static json_t *name_text(const X509_NAME *name)
{
	_cleanup_(free_bio) BIO *bio = BIO_new(BIO_s_mem());

	if (bio)
		(void)X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253);
	return bio ? bio_text(bio) : NULL;
}

static json_t *alternative_names(X509 *certificate)
{
	_cleanup_(free_bio) BIO *bio = BIO_new(BIO_s_mem());
	int place = X509_get_ext_by_NID(certificate, NID_subject_alt_name, -1);

	if (bio && place >= 0)
		(void)X509V3_EXT_print(bio, X509_get_ext(certificate, place), 0, 0);
	return bio ? bio_text(bio) : NULL;
}

static json_t *date_text(const ASN1_TIME *date)
{
	struct tm parts;
	struct timespec at = {0};

	if (!ASN1_TIME_to_tm(date, &parts))
		return json_string("unreadable");
	at.tv_sec = timegm(&parts);
	return json_time(&at);
}

static json_t *chain_of(STACK_OF(X509) * certificates)
{
	json_t *chain = json_array();

	for (int i = 0; i < sk_X509_num(certificates); i++) {
		X509 *certificate = sk_X509_value(certificates, i);

		json_append(&chain, json_pack("{s:o, s:o, s:o, s:o, s:o}", "subject",
		                              name_text(X509_get_subject_name(certificate)), "issuer",
		                              name_text(X509_get_issuer_name(certificate)), "names",
		                              alternative_names(certificate), "not_before",
		                              date_text(X509_get0_notBefore(certificate)), "not_after",
		                              date_text(X509_get0_notAfter(certificate))));
	}
	return chain;
}

/* Nothing is judged here: the weakest version is good enough to see who it is. */
static void look(const struct postern_destination_key *key, const char *sni, struct explain_dial *result)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	SSL *ssl = NULL;
	int fd = dial(key, result);

	if (context && fd >= 0) {
		SSL_CTX_set_security_level(context, 0);
		(void)SSL_CTX_set_min_proto_version(context, TLS1_VERSION);
		SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
		ssl = SSL_new(context);
	}
	if (ssl && SSL_set_fd(ssl, fd) == 1 && (!sni[0] || SSL_set_tlsext_host_name(ssl, sni) == 1)) {
		(void)SSL_connect(ssl);
		result->chain = chain_of(SSL_get_peer_cert_chain(ssl));
		(void)snprintf(result->version, sizeof(result->version), "%s", SSL_get_version(ssl));
	}
	SSL_free(ssl);
	SSL_CTX_free(context);
	if (fd >= 0)
		close(fd);
}

/* ---- what the policy says of it ---- */

static const char *text_or_null(const json_t *object, const char *key)
{
	const char *text = text_of(object, key);

	return text[0] ? text : NULL;
}

static int version_of(const char *name, int otherwise)
{
	return strcmp(name, "TLSv1.3") == 0   ? TLS1_3_VERSION
	       : strcmp(name, "TLSv1.2") == 0 ? TLS1_2_VERSION
	                                      : otherwise;
}

static size_t read_names(const json_t *rows, struct subject_alt_name *names, size_t size)
{
	size_t count = 0;
	size_t index;
	json_t *row;

	json_array_foreach (rows, index, row) {
		if (count == size)
			break;
		names[count].type = strcmp(text_of(row, "type"), "URI") == 0 ? SUBJECT_ALT_NAME_URI
		                                                             : SUBJECT_ALT_NAME_HOSTNAME;
		names[count++].value = (char *)text_of(row, "value");
	}
	return count;
}

static size_t read_pins(const json_t *rows, uint8_t pins[][32], size_t size)
{
	size_t count = 0;
	size_t index;
	json_t *row;

	json_array_foreach (rows, index, row) {
		const char *hex = json_string_value(row);

		if (!hex || strlen(hex) != 64 || count == size)
			continue;
		for (size_t i = 0; i < 32; i++) {
			char digits[3] = {hex[2 * i], hex[2 * i + 1], '\0'};

			pins[count][i] = (uint8_t)strtoul(digits, NULL, 16);
		}
		count++;
	}
	return count;
}

/* Everything borrows from the document. */
static void fill_settings(const json_t *document, struct tls_settings *settings, struct subject_alt_name *names,
                          uint8_t pins[][32])
{
	const char *alpn = text_of(document, "alpn");

	*settings = (struct tls_settings){
	        .id = 1,
	        .policy_namespace = (char *)"",
	        .policy_name = (char *)text_of(document, "policy"),
	        .hostname = (char *)text_of(document, "hostname"),
	        .subject_alt_names = names,
	        .subject_alt_name_count = read_names(json_object_get(document, "subject_alt_names"), names, PINS_MAX),
	        .ca_pem = text_of(document, "ca_pem"),
	        .system_ca = truth_of(document, "system_ca"),
	        .min_version = version_of(text_of(document, "min_version"), TLS1_2_VERSION),
	        .max_version = version_of(text_of(document, "max_version"), TLS1_3_VERSION),
	        .alpn = strcmp(alpn, "h2") == 0         ? ALPN_H2
	                : strcmp(alpn, "http/1.1") == 0 ? ALPN_HTTP_1_1
	                                                : ALPN_NONE,
	        .cipher_suites = (char *)text_or_null(document, "cipher_suites"),
	        .ciphers = (char *)text_or_null(document, "ciphers"),
	        .groups = (char *)text_or_null(document, "groups"),
	        .signature_algorithms = (char *)text_or_null(document, "signature_algorithms"),
	        .verify_depth = (int)number_of(document, "verify_depth"),
	        .partial_chain = truth_of(document, "partial_chain"),
	        .crl_pem = text_or_null(document, "crl_pem"),
	        .pins = pins,
	};
	settings->pin_count = read_pins(json_object_get(document, "pins"), pins, PINS_MAX);
}

static enum tls_step shake_hands(struct tls_session *session, int fd)
{
	time_t deadline = time(NULL) + DIAL_SECONDS;

	for (;;) {
		enum tls_step step = tls_session_handshake(session);
		struct pollfd event = {.fd = fd,
		                       .events = step == TLS_STEP_WANT_WRITE ? (short)POLLOUT : (short)POLLIN};

		if ((step != TLS_STEP_WANT_READ && step != TLS_STEP_WANT_WRITE) || time(NULL) >= deadline)
			return step;
		(void)poll(&event, 1, 1000);
	}
}

static void judge(const struct postern_destination_key *key, const json_t *document, struct explain_dial *result)
{
	struct subject_alt_name names[PINS_MAX];
	uint8_t pins[PINS_MAX][32];
	struct tls_settings settings;
	struct tls_context *context = NULL;
	struct tls_session *session = NULL;
	struct tls_session_info info;
	char error[256] = "out of memory";
	int fd = dial(key, result);

	if (fd < 0)
		return;
	fill_settings(document, &settings, names, pins);
	if (tls_context_new(&settings, &context, error, sizeof(error)) != 0 ||
	    tls_session_new(context, fd, NULL, &session) != 0) {
		fail(result, REASON_NO_VALID_CA, error);
	} else {
		enum tls_step step = shake_hands(session, fd);

		if (step == TLS_STEP_FAILED)
			fail(result, tls_session_reason(session), tls_session_detail(session));
		else if (step != TLS_STEP_DONE)
			fail(result, REASON_HANDSHAKE_TIMEOUT, "the handshake does not end");
		if (step == TLS_STEP_DONE) {
			tls_session_info(session, &info);
			(void)snprintf(result->version, sizeof(result->version), "%s", tls_version_name(info.version));
			(void)snprintf(result->cipher, sizeof(result->cipher), "%s", info.cipher_name);
			(void)snprintf(result->alpn, sizeof(result->alpn), "%s", info.alpn);
			(void)snprintf(result->identity, sizeof(result->identity), "%.255s", info.peer_identity);
		}
	}
	tls_session_free(session);
	tls_context_unref(context);
	close(fd);
}

/* ---- the child ---- */

static void dial_there(const char *netns, const struct postern_destination_key *key, const json_t *settings,
                       bool with_judgement, struct explain_dial *result)
{
	_cleanup_close_ int namespace = open(netns, O_RDONLY | O_CLOEXEC);

	if (namespace == -1 || setns(namespace, CLONE_NEWNET) == -1) {
		fail(result, REASON_INTERNAL, strerror(errno));
		return;
	}
	if (!settings) {
		int fd = dial(key, result);

		if (fd >= 0)
			close(fd);
		return;
	}
	look(key, text_of(settings, "hostname"), result);
	if (!result->problem[0] && with_judgement)
		judge(key, settings, result);
}

static int tell(int fd, const struct explain_dial *result)
{
	json_t *document = json_pack(
	        "{s:o, s:s, s:s, s:o, s:s, s:o, s:o}", "problem", json_text(result->problem), "reason", result->reason,
	        "version", result->version, "cipher", json_text(result->cipher), "alpn", result->alpn, "identity",
	        json_text(result->identity), "chain", result->chain ? result->chain : json_array());

	return document && json_dumpfd(document, fd, JSON_COMPACT) == 0 ? 0 : 1;
}

static void hear(int fd, struct explain_dial *result)
{
	json_t *document = json_loadfd(fd, 0, NULL);

	if (!document)
		fail(result, REASON_INTERNAL, "the child that dials said nothing");
#define COPY(member) (void)snprintf(result->member, sizeof(result->member), "%s", text_of(document, #member))
	if (document) {
		COPY(problem);
		COPY(reason);
		COPY(version);
		COPY(cipher);
		COPY(alpn);
		COPY(identity);
		result->chain = json_incref(json_object_get(document, "chain"));
	}
#undef COPY
	json_decref(document);
}

int explain_dial(const char *netns, const struct postern_destination_key *key, const json_t *settings,
                 bool with_judgement, struct explain_dial *result)
{
	int ends[2];
	pid_t child;

	*result = (struct explain_dial){0};
	if (pipe2(ends, O_CLOEXEC) == -1)
		return -errno;
	(void)fflush(NULL);
	child = fork();
	if (child == 0) {
		struct explain_dial own = {0};

		(void)signal(SIGPIPE, SIG_IGN);
		if (tls_global_init() == 0)
			dial_there(netns, key, settings, with_judgement, &own);
		_exit(tell(ends[1], &own));
	}
	close(ends[1]);
	if (child > 0) {
		hear(ends[0], result);
		(void)waitpid(child, NULL, 0);
	}
	close(ends[0]);
	return child > 0 ? 0 : -EAGAIN;
}
