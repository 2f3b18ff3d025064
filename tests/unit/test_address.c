// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <arpa/inet.h>
#include <netinet/in.h>

#include <cmocka.h>

#include "base/address.h"
#include "base/cleanup.h"

static void parses_and_formats(void **state)
{
	static const struct {
		const char *text;
		int result;
		bool v4;
		bool loopback;
		const char *formatted;
	} rows[] = {
	        {"10.0.0.1", 0, true, false, "10.0.0.1"},
	        {"255.255.255.255", 0, true, false, "255.255.255.255"},
	        {"127.8.0.1", 0, true, true, "127.8.0.1"},
	        {"0.0.0.0", 0, true, false, "0.0.0.0"},
	        {"fd00::1", 0, false, false, "fd00::1"},
	        {"FD00:0:0:0:0:0:0:1", 0, false, false, "fd00::1"},
	        {"::1", 0, false, true, "::1"},
	        {"::", 0, false, false, "::"},
	        {"::ffff:10.0.0.1", 0, true, false, "10.0.0.1"},
	        {"::ffff:7f00:1", 0, true, true, "127.0.0.1"},
	        {"", -EINVAL, false, false, NULL},
	        {"10.0.0", -EINVAL, false, false, NULL},
	        {"10.0.0.01", -EINVAL, false, false, NULL},
	        {"10.0.0.256", -EINVAL, false, false, NULL},
	        {" 10.0.0.1", -EINVAL, false, false, NULL},
	        {"10.0.0.1 ", -EINVAL, false, false, NULL},
	        {"10.0.0.1:80", -EINVAL, false, false, NULL},
	        {"fe80::1%eth0", -EINVAL, false, false, NULL},
	        {"[fd00::1]", -EINVAL, false, false, NULL},
	        {"echo.default", -EINVAL, false, false, NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct postern_address address;
		char text[ADDRESS_TEXT_MAX];

		if (address_parse(rows[i].text, &address) != rows[i].result)
			fail_msg("\"%s\": expected %d", rows[i].text, rows[i].result);
		if (rows[i].result)
			continue;
		assert_string_equal(address_format(&address, text), rows[i].formatted);
		if (address_is_v4(&address) != rows[i].v4 || address_is_loopback(&address) != rows[i].loopback)
			fail_msg("\"%s\": expected v4 %d loopback %d", rows[i].text, rows[i].v4, rows[i].loopback);
	}
}

static void cidrs(void **state)
{
	static const struct {
		const char *cidr;
		int result;
		unsigned int prefix_length;
		const char *inside;
		const char *outside;
	} rows[] = {
	        {"10.0.0.0/8", 0, 104, "10.255.3.4", "11.0.0.0"},
	        {"10.96.0.0/12", 0, 108, "10.111.255.255", "10.112.0.0"},
	        {"10.0.0.1/32", 0, 128, "10.0.0.1", "10.0.0.2"},
	        {"0.0.0.0/0", 0, 96, "203.0.113.9", "fd00::1"},
	        {"fd00::/16", 0, 16, "fd00:ffff::1", "fd01::"},
	        {"fd00:10:96::/112", 0, 112, "fd00:10:96::ffff", "fd00:10:96::1:0"},
	        {"fd00::1/128", 0, 128, "fd00::1", "fd00::2"},
	        {"::/0", 0, 0, "fd00::1", NULL},
	        {"10.0.0.1/8", -EINVAL, 0, NULL, NULL},
	        {"fd00::1/64", -EINVAL, 0, NULL, NULL},
	        {"10.0.0.0/33", -EINVAL, 0, NULL, NULL},
	        {"fd00::/129", -EINVAL, 0, NULL, NULL},
	        {"10.0.0.0/", -EINVAL, 0, NULL, NULL},
	        {"10.0.0.0/+8", -EINVAL, 0, NULL, NULL},
	        {"10.0.0.0/08", -EINVAL, 0, NULL, NULL},
	        {"10.0.0.0/8 ", -EINVAL, 0, NULL, NULL},
	        {"10.0.0.0/8/8", -EINVAL, 0, NULL, NULL},
	        {"10.0.0.0/99999999999999999999", -EINVAL, 0, NULL, NULL},
	        {"10.0.0.0", -EINVAL, 0, NULL, NULL},
	        {"/8", -EINVAL, 0, NULL, NULL},
	        {"", -EINVAL, 0, NULL, NULL},
	        {"0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000/8", -EINVAL, 0, NULL, NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct cidr cidr;
		struct postern_address address;
		int result = cidr_parse(rows[i].cidr, &cidr);

		if (result != rows[i].result)
			fail_msg("\"%s\": expected %d, saw %d", rows[i].cidr, rows[i].result, result);
		if (result)
			continue;
		if (cidr.prefix_length != rows[i].prefix_length)
			fail_msg("\"%s\": expected prefix %u, saw %u", rows[i].cidr, rows[i].prefix_length,
			         cidr.prefix_length);
		assert_int_equal(address_parse(rows[i].inside, &address), 0);
		if (!cidr_contains(&cidr, &address))
			fail_msg("%s is inside %s", rows[i].inside, rows[i].cidr);
		if (!rows[i].outside)
			continue;
		assert_int_equal(address_parse(rows[i].outside, &address), 0);
		if (cidr_contains(&cidr, &address))
			fail_msg("%s is outside %s", rows[i].outside, rows[i].cidr);
	}
}

static void destinations(void **state)
{
	static const struct {
		const char *address;
		uint16_t port;
		const char *text;
		int family;
	} rows[] = {
	        {"10.0.0.1", 8443, "10.0.0.1:8443", AF_INET},
	        {"10.0.0.1", 0, "10.0.0.1:*", AF_INET},
	        {"fd00::1", 65535, "[fd00::1]:65535", AF_INET6},
	        {"1111:2222:3333:4444:5555:6666:7777:8888", 0, "[1111:2222:3333:4444:5555:6666:7777:8888]:*", AF_INET6},
	};
	static const struct postern_destination_key zero;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct postern_address address, back;
		struct postern_destination_key key;
		struct sockaddr_storage storage;
		char text[DESTINATION_TEXT_MAX];
		uint16_t port;
		socklen_t length;

		assert_int_equal(address_parse(rows[i].address, &address), 0);
		key = destination_key(&address, rows[i].port);
		assert_int_equal(key.padding, 0);
		assert_int_equal(key.port, htons(rows[i].port));
		assert_string_equal(destination_format(&key, text), rows[i].text);
		assert_true(destination_hash(&key) != destination_hash(&zero));

		length = address_to_sockaddr(&address, rows[i].port, &storage);
		assert_int_equal(storage.ss_family, rows[i].family);
		assert_int_equal(length,
		                 rows[i].family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
		assert_int_equal(address_from_sockaddr(&storage, &back, &port), 0);
		assert_true(address_equal(&address, &back));
		assert_int_equal(port, rows[i].port);
	}
}

static void foreign_families_are_refused(void **state)
{
	struct sockaddr_storage storage = {.ss_family = AF_UNIX};
	struct postern_address address;
	uint16_t port;

	(void)state;
	assert_int_equal(address_from_sockaddr(&storage, &address, &port), -EAFNOSUPPORT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(parses_and_formats),
	        cmocka_unit_test(cidrs),
	        cmocka_unit_test(destinations),
	        cmocka_unit_test(foreign_families_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
