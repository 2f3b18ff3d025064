/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tls_link.h: a session that is through its handshake, its far end, and a kernel that keeps the keys it is given. The
 * test does the kernel's part with record_seal() and record_open(), so a wrong key, nonce or sequence number is a
 * record that does not open. A program that uses it has a setsockopt() of its own:
 *
 *   int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
 *   {
 *           return fake_kernel_setsockopt(fd, level, name, value, length);
 *   }
 */
#ifndef POSTERN_TESTS_TLS_LINK_H
#define POSTERN_TESTS_TLS_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "tls/record.h"
#include "tls_client.h"

struct fake_kernel {
	int ulp_error; /* errno that the next calls give; 0: success */
	int keys_error;
	bool ulp;
	bool has[2]; /* by enum tls_direction */
	struct traffic_keys keys[2];
};
extern struct fake_kernel fake_kernel; /* emptied by link_connect() */
int fake_kernel_setsockopt(int fd, int level, int name, const void *value, socklen_t length);

extern const char *const link_suites_1_2[TLS_KERNEL_CIPHERS]; /* by enum tls_cipher */
extern const char *const link_suites_1_3[TLS_KERNEL_CIPHERS];

/* For cmocka's groups: the process-wide set-up, and the server's certificate. */
int link_set_up(void **state);
int link_tear_down(void **state);
extern struct certificate *link_certificate;
extern char *link_pem;

struct tls_link {
	struct tls_client client;
	struct far_end *far_end;
};

/* The handshake done on both sides, or the test has failed. options.leaf is filled in. */
void link_connect(struct tls_link *link, struct far_end_options options, bool tcp);
void link_disconnect(struct tls_link *link);

void far_end_says(struct tls_link *link, const char *text);
void far_end_hears(struct tls_link *link, const char *text);
void client_hears(struct tls_link *link, const char *text);
/* The next read fails for this reason, and all that follow. */
void client_fails(struct tls_link *link, enum postern_reason expected);

/* A cipher with the keys that the kernel has; record_cipher_free(). */
struct record_cipher *fake_kernel_cipher(enum tls_direction direction);
/* What a kernel with these keys would make of the next record on the client's socket. */
ssize_t fake_kernel_receives(struct tls_link *link, struct record_cipher *cipher, uint8_t *plain,
                             enum tls_content_type *type);
/* The kernel's part in both directions, three records each way. */
void link_check_armed(struct tls_link *link, const char *row);
void link_arm_both(struct tls_link *link);

/* TLS 1.3: the far end's own records cannot be made odd; these are sealed by hand with its key. */
struct record_cipher *far_end_cipher(struct tls_link *link);
void far_end_seals(struct tls_link *link, struct record_cipher *cipher, enum tls_content_type type, const void *plain,
                   size_t size, size_t padding);

#endif
