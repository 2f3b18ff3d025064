// SPDX-License-Identifier: GPL-2.0-only
/* Names and resourceVersions out of protobuf: what is read, what is passed over, and what is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "kubernetes/metadata_list.h"

#define GOOD_KIND "PartialObjectMetadataList"
#define HEAD      "k8s\0\x0a\x1b\x12\x19" GOOD_KIND
#define LIST_META                                                                                                      \
	"\x0a\x05\x12\x03"                                                                                             \
	"120"

struct row {
	const char *name;
	const char *bytes;
	size_t length;
	int result;
	const char *seen; /* "version: namespace/name@version ..." */
};

#define BYTES(text) text, sizeof(text) - 1

static const struct row rows[] = {
        {"no items", BYTES(HEAD "\x12\x07" LIST_META), 0, "120:"},
        {"an item",
         BYTES(HEAD "\x12\x15" LIST_META "\x12\x0c\x0a\x0a\x0a\x01"
                    "a"
                    "\x1a\x01"
                    "n"
                    "\x32\x02"
                    "17"),
         0, "120: n/a@17"},
        {"two, one without a namespace",
         BYTES(HEAD "\x12\x20" LIST_META "\x12\x0c\x0a\x0a\x0a\x01"
                    "a"
                    "\x1a\x01"
                    "n"
                    "\x32\x02"
                    "17"
                    "\x12\x09\x0a\x07\x0a\x01"
                    "b"
                    "\x32\x02"
                    "18"),
         0, "120: n/a@17 /b@18"},
        {"fields that nobody reads: a varint, bytes, 32 and 64 bits",
         BYTES(HEAD "\x12\x29" LIST_META "\x12\x20\x0a\x1e\x0a\x01"
                    "a"
                    "\x2a\x02"
                    "ui"
                    "\x32\x02"
                    "17"
                    "\x38\xff\x01"
                    "\x4d"
                    "1234"
                    "\x51"
                    "12345678"
                    "\x62\x00"),
         0, "120: /a@17"},
        {"the list's metadata after the items",
         BYTES(HEAD "\x12\x12"
                    "\x12\x09\x0a\x07\x0a\x01"
                    "a"
                    "\x32\x02"
                    "17" LIST_META),
         0, "120: /a@17"},
        {"more pages",
         BYTES(HEAD "\x12\x0a"
                    "\x0a\x08\x12\x03"
                    "120"
                    "\x1a\x01"
                    "c"),
         0, "120+:"},
        {"no resourceVersion of the list", BYTES(HEAD "\x12\x00"), 0, ":"},
        {"no list at all", BYTES(HEAD), 0, ":"},
        {"nothing", BYTES(""), -EINVAL, NULL},
        {"JSON", BYTES("{\"kind\":\"PartialObjectMetadataList\"}"), -EINVAL, NULL},
        {"no magic", BYTES("k8t\0\x0a\x1b\x12\x19" GOOD_KIND), -EINVAL, NULL},
        {"another kind",
         BYTES("k8s\0\x0a\x08\x12\x06"
               "Status"
               "\x12\x07" LIST_META),
         -EINVAL, NULL},
        {"no kind", BYTES("k8s\0\x12\x07" LIST_META), -EINVAL, NULL},
        {"an item without a name", BYTES(HEAD "\x12\x0d" LIST_META "\x12\x04\x0a\x02\x32\x00"), -EINVAL, NULL},
        {"an item without a resourceVersion",
         BYTES(HEAD "\x12\x0e" LIST_META "\x12\x05\x0a\x03\x0a\x01"
                    "a"),
         -EINVAL, NULL},
        {"an item without metadata", BYTES(HEAD "\x12\x09" LIST_META "\x12\x00"), -EINVAL, NULL},
        {"a NUL in a name",
         BYTES(HEAD "\x12\x13" LIST_META "\x12\x0a\x0a\x08\x0a\x02"
                    "a\0"
                    "\x32\x02"
                    "17"),
         -EINVAL, NULL},
        {"a resourceVersion of 24 bytes",
         BYTES(HEAD "\x12\x28" LIST_META "\x12\x1f\x0a\x1d\x0a\x01"
                    "a"
                    "\x32\x18"
                    "123456789012345678901234"),
         -EINVAL, NULL},
        {"a name that is a number",
         BYTES(HEAD "\x12\x11" LIST_META "\x12\x08\x0a\x06\x08\x01"
                    "\x32\x02"
                    "17"),
         -EINVAL, NULL},
        {"an item that is a number", BYTES(HEAD "\x12\x09" LIST_META "\x10\x01"), -EINVAL, NULL},
        {"a group", BYTES(HEAD "\x12\x09" LIST_META "\x13\x14"), -EINVAL, NULL},
        {"field number 0", BYTES(HEAD "\x12\x09" LIST_META "\x00\x01"), -EINVAL, NULL},
        {"a varint without an end", BYTES(HEAD "\x12\x13" LIST_META "\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
         -EINVAL, NULL},
        {"a length that goes beyond the message", BYTES(HEAD "\x12\x09" LIST_META "\x12\x7f"), -EINVAL, NULL},
        {"a length of nearly 2^64", BYTES(HEAD "\x12\x12" LIST_META "\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
         -EINVAL, NULL},
        {"a message that is longer than all", BYTES(HEAD "\x12\x08" LIST_META), -EINVAL, NULL},
};

struct seen {
	char text[256];
	int result;
};

static int see(void *context, const struct metadata_item *item)
{
	struct seen *seen = context;
	size_t length = strlen(seen->text);

	(void)snprintf(seen->text + length, sizeof(seen->text) - length, " %s/%s@%s", item->namespace_, item->name,
	               item->resource_version);
	return seen->result;
}

static void table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct metadata_list list;
		struct seen items = {0};
		char seen[400];
		int result = metadata_list_read(rows[i].bytes, rows[i].length, &list, see, &items);

		(void)snprintf(seen, sizeof(seen), "%s%s:%s", list.resource_version, list.continues ? "+" : "",
		               items.text);
		if (result != rows[i].result || (rows[i].seen && strcmp(seen, rows[i].seen) != 0))
			fail_msg("%s: expected %d \"%s\", saw %d \"%s\"", rows[i].name, rows[i].result,
			         rows[i].seen ? rows[i].seen : "", result, seen);
	}
}

/* In a block of its own size, so that a byte too far is seen by the sanitizer. */
static int read_copy(const char *bytes, size_t length)
{
	_cleanup_free_ char *copy = malloc(length ? length : 1);
	struct metadata_list list;
	struct seen items = {0};

	assert_non_null(copy);
	memcpy(copy, bytes, length);
	return metadata_list_read(copy, length, &list, see, &items);
}

/* Cut anywhere, or with any byte another: read or refused. */
static void damage(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char bytes[256];

		assert_in_range(rows[i].length, 0, sizeof(bytes));
		memcpy(bytes, rows[i].bytes, rows[i].length);
		for (size_t at = 0; at < rows[i].length; at++) {
			int cut = read_copy(bytes, at);

			assert_true(cut == 0 || cut == -EINVAL);
			for (unsigned int value = 0; value < 256; value++) {
				int result;

				bytes[at] = (char)value;
				result = read_copy(bytes, rows[i].length);
				assert_true(result == 0 || result == -EINVAL);
			}
			bytes[at] = rows[i].bytes[at];
		}
	}
}

static void whoever_reads_may_end_it(void **state)
{
	const struct row *two = &rows[2];
	struct metadata_list list;
	struct seen items = {.result = -ENOMEM};

	(void)state;
	assert_int_equal(metadata_list_read(two->bytes, two->length, &list, see, &items), -ENOMEM);
	assert_string_equal(items.text, " n/a@17");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(table),
	        cmocka_unit_test(damage),
	        cmocka_unit_test(whoever_reads_may_end_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
