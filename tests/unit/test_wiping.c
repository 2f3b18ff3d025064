// SPDX-License-Identifier: GPL-2.0-only
/*
 * After a Secret was read, is its private key still somewhere in the process? The key is made by a child, so that what
 * is found here is what reading it left behind.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/pem.h>

#include "base/cleanup.h"
#include "base/wiping.h"
#include "certificates.h"
#include "policy/object.h"
#include "source/manifest.h"
#include "source/stable_read.h"

#define MASK        0x5a
#define MARKER_SIZE 20
#define MARKERS     4

/* What to look for; masked, so that it is not found itself. Shared with the child. */
struct markers {
	unsigned char bytes[MARKERS][MARKER_SIZE];
};

static const char *const marker_names[MARKERS] = {"PEM of stringData", "base64 of data", "PEM of data",
                                                  "private scalar"};

static char *pem_of_key(EVP_PKEY *key)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *data, *text;
	long length;

	assert_int_equal(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), 1);
	length = BIO_get_mem_data(bio, &data);
	text = strndup(data, (size_t)length);
	BIO_free(bio);
	return text;
}

static void set_marker(struct markers *markers, size_t index, const void *bytes)
{
	for (size_t i = 0; i < MARKER_SIZE; i++)
		markers->bytes[index][i] = ((const unsigned char *)bytes)[i] ^ MASK;
}

/* As a YAML block scalar. */
static void write_block(FILE *file, const char *text)
{
	assert_non_null(text);
	fputs("    ", file);
	for (; *text; text++)
		fputs(*text == '\n' && text[1] ? "\n    " : (char[]){*text, '\0'}, file);
}

static void write_secret(int directory, unsigned int rsa_bits, struct markers *markers)
{
	struct certificate *certificate =
	        certificate_new(&(struct certificate_options){.common_name = "client", .rsa_bits = rsa_bits});
	char *certificate_text = certificate_pem((const struct certificate *const[]){certificate, NULL});
	char *key = pem_of_key(certificate->key), encoded[4096];
	int fd = openat(directory, "secret.yaml", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	FILE *file = fdopen(fd, "w");
	BIGNUM *scalar = NULL;
	unsigned char bytes[256];

	EVP_EncodeBlock((unsigned char *)encoded, (unsigned char *)key, (int)strlen(key));
	fprintf(file, "apiVersion: v1\nkind: Secret\nmetadata: {name: plain}\ntype: kubernetes.io/tls\nstringData:\n");
	fprintf(file, "  tls.crt: |\n");
	write_block(file, certificate_text);
	fprintf(file, "  tls.key: |\n");
	write_block(file, key);
	/* The second one does not belong to its certificate: refused after it was read. */
	fprintf(file,
	        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: encoded}\ndata: {tls.key: %s}\nstringData: "
	        "{tls.crt: junk}\n",
	        encoded);
	fclose(file);
	set_marker(markers, 0, key + 40);
	set_marker(markers, 1, encoded + 60);
	set_marker(markers, 2, key + 100);
	assert_int_equal(EVP_PKEY_get_bn_param(certificate->key,
	                                       rsa_bits ? OSSL_PKEY_PARAM_RSA_D : OSSL_PKEY_PARAM_PRIV_KEY, &scalar),
	                 1);
	assert_true(BN_bn2bin(scalar, bytes) >= 26);
	set_marker(markers, 3, bytes + 6);
}

/* How often the bytes stand in memory that can be written, in this order or reversed (a BIGNUM of OpenSSL). */
static size_t count_in(const unsigned char *memory, size_t size, const unsigned char masked[static MARKER_SIZE])
{
	size_t count = 0;

	for (size_t at = 0; at + MARKER_SIZE <= size; at++) {
		size_t forward = 0, backward = 0;

		while (forward < MARKER_SIZE && memory[at + forward] == (unsigned char)(masked[forward] ^ MASK))
			forward++;
		while (backward < MARKER_SIZE &&
		       memory[at + backward] == (unsigned char)(masked[MARKER_SIZE - 1 - backward] ^ MASK))
			backward++;
		count += forward == MARKER_SIZE || backward == MARKER_SIZE;
	}
	return count;
}

static size_t count_in_process(const unsigned char masked[static MARKER_SIZE])
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	size_t count = 0;

	while (fgets(line, sizeof(line), maps)) {
		uintptr_t start, end;
		char rights[5];

		if (sscanf(line, "%lx-%lx %4s", &start, &end, rights) == 3 && !strncmp(rights, "rw", 2) &&
		    !strstr(line, "shadow"))
			count += count_in((const unsigned char *)start, end - start, masked);
	}
	fclose(maps);
	return count;
}

static void expect_none(const struct markers *markers, size_t first, size_t end, const char *when)
{
	for (size_t i = first; i < end; i++) {
		size_t count = count_in_process(markers->bytes[i]);

		if (count)
			fail_msg("expected no trace %s, saw %s %zu times", when, marker_names[i], count);
	}
}

static void check_that_nothing_stays(unsigned int rsa_bits)
{
	struct markers *markers = mmap(NULL, sizeof(*markers), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
	                               0);
	char path[] = "/tmp/postern-wiping-XXXXXX";
	struct manifest *manifest;
	struct stat status;
	int directory, result;
	char *text = NULL;
	size_t size;
	pid_t child;

	assert_non_null(mkdtemp(path));
	directory = open(path, O_RDONLY | O_DIRECTORY);
	child = fork();
	if (!child) {
		write_secret(directory, rsa_bits, markers);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &result, 0), child);
	assert_int_equal(result, 0);
	expect_none(markers, 0, MARKERS, "before");

	assert_int_equal(stable_read(directory, "secret.yaml", 1 << 20, &text, &size, &status), 0);
	assert_int_equal(count_in_process(markers->bytes[0]), 1); /* the search finds what is there */
	manifest = manifest_new("secret.yaml", text, size);
	wiping_free(text);
	assert_non_null(manifest);
	assert_int_equal(manifest->decoded.object_count, 2);
	assert_non_null(manifest->decoded.objects[0]->secret.certificate);
	assert_string_equal(manifest->decoded.objects[1]->secret.certificate_problem, "tls.crt: holds no certificate");
	expect_none(markers, 0, 3, "of the text while the key is in use");
	manifest_free(manifest);
	expect_none(markers, 0, MARKERS, "afterwards");

	unlinkat(directory, "secret.yaml", 0);
	close(directory);
	rmdir(path);
	munmap(markers, sizeof(*markers));
}

static void nothing_of_a_private_key_stays(void **state)
{
	(void)state;
#ifdef __SANITIZE_ADDRESS__
	skip(); /* its shadow is terabytes to search, and it keeps what is freed */
#endif
	check_that_nothing_stays(0);
	check_that_nothing_stays(2048);
}

static void blocks_move_whole(void **state)
{
	char *text = wiping_realloc(NULL, 0);

	(void)state;
	assert_non_null(text);
	text = wiping_realloc(text, 8);
	memcpy(text, "abcdefg", 8);
	text = wiping_realloc(text, 100000);
	assert_string_equal(text, "abcdefg");
	text = wiping_realloc(text, 4);
	assert_memory_equal(text, "abcd", 4);
	wiping_free(text);
	wiping_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(nothing_of_a_private_key_stays),
	        cmocka_unit_test(blocks_move_whole),
	};

	wiping_use_for_json();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
