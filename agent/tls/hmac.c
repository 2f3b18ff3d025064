// SPDX-License-Identifier: GPL-2.0-only
#include "tls/hmac.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/cleanup.h"

/*
 * From a digest, by RFC 2104: OpenSSL's own HMAC makes, copies and frees contexts worth several times the hashing of
 * what a key schedule needs. Fetching an algorithm costs more than the MAC itself, and so does making a context: each
 * thread makes one per digest. They end with their thread.
 */
struct hmac_hash {
	EVP_MD *algorithm;
	EVP_MD_CTX *context;
};

struct kept {
	struct hmac_hash *hashes[HMAC_DIGESTS]; /* NULL: not made yet, or in use */
};

#define INNER_PAD 0x36
#define OUTER_PAD 0x5c
#define LABEL_MAX 255

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t kept_key; /* each thread's own struct kept */
static bool kept_key_made;

static const struct {
	const char *name;
	size_t length;
	size_t block;
} digests[HMAC_DIGESTS] = {
        [HMAC_SHA256] = {"SHA256", 32, 64},
        [HMAC_SHA384] = {"SHA384", 48, 128},
};

static void free_hash(struct hmac_hash *hash)
{
	if (!hash)
		return;
	EVP_MD_CTX_free(hash->context);
	EVP_MD_free(hash->algorithm);
	free(hash);
}

static void free_kept(void *argument)
{
	struct kept *kept = argument;

	for (size_t i = 0; i < HMAC_DIGESTS; i++)
		free_hash(kept->hashes[i]);
	free(kept);
}

static void make_key(void)
{
	kept_key_made = pthread_key_create(&kept_key, free_kept) == 0;
}

/* NULL: this thread keeps nothing, for want of memory. */
static struct kept *kept_by_thread(void)
{
	struct kept *kept;

	pthread_once(&key_once, make_key);
	if (!kept_key_made)
		return NULL;
	kept = pthread_getspecific(kept_key);
	if (kept)
		return kept;
	kept = calloc(1, sizeof(*kept));
	if (kept && pthread_setspecific(kept_key, kept) != 0) {
		free(kept);
		kept = NULL;
	}
	return kept;
}

static struct hmac_hash *new_hash(enum hmac_digest digest)
{
	struct hmac_hash *hash = calloc(1, sizeof(*hash));

	if (!hash)
		return NULL;
	hash->algorithm = EVP_MD_fetch(NULL, digests[digest].name, NULL);
	hash->context = EVP_MD_CTX_new();
	if (hash->algorithm && hash->context)
		return hash;
	free_hash(hash);
	return NULL;
}

int hmac_begin(struct hmac *hmac, enum hmac_digest digest, const uint8_t *key, size_t key_length)
{
	struct kept *kept = kept_by_thread();

	if (key_length > digests[HMAC_SHA256].block)
		return -EINVAL;
	*hmac = (struct hmac){.digest = digest};
	memcpy(hmac->key, key, key_length);
	hmac->hash = kept ? TAKE_PTR(kept->hashes[digest]) : NULL;
	if (!hmac->hash)
		hmac->hash = new_hash(digest);
	return hmac->hash ? 0 : -EIO;
}

void hmac_end(struct hmac *hmac)
{
	struct kept *kept = kept_by_thread();
	struct hmac_hash *hash = TAKE_PTR(hmac->hash);

	OPENSSL_cleanse(hmac->key, sizeof(hmac->key));
	/* What it hashed last is overwritten; to free the context would cleanse it, too. */
	if (hash && kept && !kept->hashes[hmac->digest] && EVP_DigestInit_ex2(hash->context, hash->algorithm, NULL))
		kept->hashes[hmac->digest] = TAKE_PTR(hash);
	free_hash(hash);
}

/* H((key ^ pad) | pieces) */
static bool hash_padded(const struct hmac *hmac, uint8_t pad, const struct hmac_piece *pieces, size_t count,
                        uint8_t result[static HMAC_LENGTH_MAX])
{
	size_t block = digests[hmac->digest].block;
	EVP_MD_CTX *context = hmac->hash->context;
	uint8_t padded[HMAC_KEY_MAX];
	bool done;

	for (size_t i = 0; i < block; i++)
		padded[i] = hmac->key[i] ^ pad;
	done = EVP_DigestInit_ex2(context, hmac->hash->algorithm, NULL) && EVP_DigestUpdate(context, padded, block);
	OPENSSL_cleanse(padded, sizeof(padded));
	for (size_t i = 0; i < count && done; i++)
		done = EVP_DigestUpdate(context, pieces[i].bytes, pieces[i].length);
	return done && EVP_DigestFinal_ex(context, result, NULL);
}

int hmac_compute(struct hmac *hmac, const struct hmac_piece *pieces, size_t count,
                 uint8_t result[static HMAC_LENGTH_MAX])
{
	uint8_t inner[HMAC_LENGTH_MAX];
	const struct hmac_piece piece = {inner, digests[hmac->digest].length};
	bool done = hash_padded(hmac, INNER_PAD, pieces, count, inner) &&
	            hash_padded(hmac, OUTER_PAD, &piece, 1, result);

	OPENSSL_cleanse(inner, sizeof(inner));
	return done ? 0 : -EIO;
}

size_t hmac_length(enum hmac_digest digest)
{
	return digests[digest].length;
}

/*
 * Nothing here is longer than the digest, so HKDF-Expand is its first block: HMAC(secret, HkdfLabel | 0x01) (RFC 5869
 * 2.3).
 */
int hmac_expand_label(struct hmac *secret, const struct hmac_piece *label, const struct hmac_piece *context,
                      uint8_t *output, size_t length)
{
	static const char prefix[] = "tls13 ";
	const uint8_t one = 1; /* the block's number */
	uint8_t block[HMAC_LENGTH_MAX];
	uint8_t hkdf_label[2 + 1 + LABEL_MAX + 1 + LABEL_MAX];
	size_t prefix_length = strlen(prefix), used = 0;
	struct hmac_piece pieces[2];
	int r;

	if (length > hmac_length(secret->digest) || label->length > LABEL_MAX - prefix_length ||
	    context->length > LABEL_MAX)
		return -EINVAL;
	hkdf_label[used++] = 0;
	hkdf_label[used++] = (uint8_t)length;
	hkdf_label[used++] = (uint8_t)(prefix_length + label->length);
	memcpy(hkdf_label + used, prefix, prefix_length);
	used += prefix_length;
	memcpy(hkdf_label + used, label->bytes, label->length);
	used += label->length;
	hkdf_label[used++] = (uint8_t)context->length;
	if (context->length)
		memcpy(hkdf_label + used, context->bytes, context->length);
	used += context->length;
	pieces[0] = (struct hmac_piece){hkdf_label, used};
	pieces[1] = (struct hmac_piece){&one, 1};
	r = hmac_compute(secret, pieces, ARRAY_SIZE(pieces), block);
	if (r == 0)
		memcpy(output, block, length);
	OPENSSL_cleanse(block, sizeof(block));
	return r;
}
