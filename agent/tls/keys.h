/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * keys.h: traffic keys: derived from what OpenSSL gives (RFC 8446 7.3 by HKDF-Expand-Label, RFC 5246 6.3 by the PRF),
 * and handed to the kernel (Documentation/networking/tls.rst, include/uapi/linux/tls.h). Pure but for keys_install().
 *
 * Whoever holds a struct traffic_keys or tls_rekey_secrets wipes it with OPENSSL_cleanse() after use.
 */
#ifndef POSTERN_TLS_KEYS_H
#define POSTERN_TLS_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum tls_version {
	TLS_VERSION_1_2,
	TLS_VERSION_1_3,
};

enum tls_cipher {
	TLS_CIPHER_AES_128,
	TLS_CIPHER_AES_256,
	TLS_CIPHER_CHACHA20,
	TLS_CIPHER_OTHER, /* not for the kernel */
};
#define TLS_KERNEL_CIPHERS 3

enum tls_direction {
	TLS_DIRECTION_TRANSMIT, /* client write keys */
	TLS_DIRECTION_RECEIVE,  /* server write keys */
};

#define TLS_SECRET_MAX 48

struct traffic_keys {
	enum tls_version version;
	enum tls_cipher cipher;
	uint8_t key[32];
	uint8_t iv[12];           /* TLS 1.2 AES-GCM: the first four bytes are the salt, the rest is not used */
	uint64_t record_sequence; /* of the next record */
};

struct tls_rekey_secrets { /* client_application_traffic_secret_N and server_..._N */
	enum tls_cipher cipher;
	size_t length;
	uint8_t transmit[TLS_SECRET_MAX];
	uint8_t receive[TLS_SECRET_MAX];
};

size_t tls_cipher_key_length(enum tls_cipher cipher);
const char *tls_version_name(enum tls_version version); /* "TLSv1.3" */
const char *tls_cipher_name(enum tls_cipher cipher);    /* "AES-128-GCM" */

/*
 * RFC 8446 7.3: key and iv of one direction from its traffic secret; record_sequence 0. 0; -EINVAL if the secret is not
 * as long as the suite's digest or the cipher is none of the kernel's (for all three functions); -EIO.
 */
int keys_derive_1_3(enum tls_cipher cipher, const uint8_t *secret, size_t length, struct traffic_keys *keys);
/* RFC 8446 7.2: application_traffic_secret_N+1, in place. */
int keys_next_secret(enum tls_cipher cipher, uint8_t *secret, size_t length);
/* RFC 5246 6.3, both directions; record_sequence 1 (Finished was 0). */
int keys_derive_1_2(enum tls_cipher cipher, const uint8_t master[static 48], const uint8_t client_random[static 32],
                    const uint8_t server_random[static 32], struct traffic_keys *transmit,
                    struct traffic_keys *receive);

/* setsockopt(TCP_ULP, "tls"). 0 or negative errno (-ENOENT: the kernel has no TLS). */
int keys_attach_ulp(int fd);
/* setsockopt(SOL_TLS, TLS_TX or TLS_RX); the kernel's copy is wiped from the stack. 0 or negative errno. */
int keys_install(int fd, enum tls_direction direction, const struct traffic_keys *keys);
/* The same by a setsockopt() of the caller's (datapath/kernel_io.h). */
typedef int (*keys_setsockopt)(int fd, int level, int name, const void *value, socklen_t length);
int keys_install_by(keys_setsockopt set, int fd, enum tls_direction direction, const struct traffic_keys *keys);

#endif
