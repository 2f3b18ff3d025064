// SPDX-License-Identifier: GPL-2.0-only
#include "base/base64.h"

#include <errno.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/wiping.h"

#define BASE64_ALPHABET "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

static size_t copy_without_line_breaks(char *to, const char *from, size_t size)
{
	size_t length = 0;

	for (size_t i = 0; i < size; i++)
		if (from[i] != '\n' && from[i] != '\r')
			to[length++] = from[i];
	to[length] = '\0';
	return length;
}

/* EVP_DecodeBlock() alone takes more than that. */
static bool is_base64(const char *text, size_t length)
{
	size_t digits = strspn(text, BASE64_ALPHABET);

	return length % 4 == 0 && length - digits <= 2 && strspn(text + digits, "=") == length - digits;
}

int base64_decode(const char *text, size_t size, char **bytes, size_t *length)
{
	_cleanup_wiping_free_ char *digits = NULL, *decoded = NULL;
	size_t count;
	int result;

	if (size > INT_MAX / 2)
		return -ENOMEM;
	digits = malloc(size + 1);
	decoded = calloc(1, size + 1);
	if (!digits || !decoded)
		return -ENOMEM;
	count = copy_without_line_breaks(digits, text, size);
	if (!is_base64(digits, count))
		return -EINVAL;
	*length = 0;
	if (count) {
		result = EVP_DecodeBlock((unsigned char *)decoded, (unsigned char *)digits, (int)count);
		if (result < 0)
			return -EINVAL;
		/* Of the last four digits, padding takes a byte each; what EVP_DecodeBlock() returns counts them. */
		*length = (size_t)result - (digits[count - 1] == '=') - (digits[count - 2] == '=');
	}
	decoded[*length] = '\0';
	*bytes = TAKE_PTR(decoded);
	return 0;
}
