// SPDX-License-Identifier: GPL-2.0-only
/* The kernel's word about B: answers built by hand, hostile ones, and real dumps of sockets on loopback. */
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "datapath/gateway.h"
#include "datapath/ulp_info.h"
#include "tls/keys.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static struct postern_destination_key key_of(const char *address, uint16_t port)
{
	struct postern_address parsed;

	assert_int_equal(address_parse(address, &parsed), 0);
	return destination_key(&parsed, port);
}

/* An answer for 10.0.0.5:40000 -> 10.0.0.9:8443, without attributes yet. */
static struct nl_msg *answer_for(uint8_t family)
{
	struct nl_msg *message = nlmsg_alloc_simple(SOCK_DIAG_BY_FAMILY, 0);
	struct inet_diag_msg diag = {.idiag_family = family};

	assert_non_null(message);
	diag.id.idiag_sport = htons(40000);
	diag.id.idiag_dport = htons(8443);
	if (family == AF_INET)
		diag.id.idiag_dst[0] = htonl(0x0a000009);
	else
		diag.id.idiag_dst[0] = htonl(0xfd000000), diag.id.idiag_dst[3] = htonl(9);
	assert_int_equal(nlmsg_append(message, &diag, sizeof(diag), NLMSG_ALIGNTO), 0);
	return message;
}

struct tls_row {
	int version; /* -1: no such attribute */
	int cipher;
	int transmit;
	int receive;
	bool zero_copy;
	bool no_pad;
	const char *text;
};

static void add_tls(struct nl_msg *message, const struct tls_row *row)
{
	struct nlattr *ulp = nla_nest_start(message, INET_DIAG_ULP_INFO);
	struct nlattr *tls;

	nla_put_string(message, INET_ULP_INFO_NAME, "tls");
	tls = nla_nest_start(message, INET_ULP_INFO_TLS);
	if (row->version != -1)
		nla_put_u16(message, TLS_INFO_VERSION, (uint16_t)row->version);
	if (row->cipher != -1)
		nla_put_u16(message, TLS_INFO_CIPHER, (uint16_t)row->cipher);
	if (row->transmit != -1)
		nla_put_u16(message, TLS_INFO_TXCONF, (uint16_t)row->transmit);
	if (row->receive != -1)
		nla_put_u16(message, TLS_INFO_RXCONF, (uint16_t)row->receive);
	if (row->zero_copy)
		nla_put_flag(message, TLS_INFO_ZC_RO_TX);
	if (row->no_pad)
		nla_put_flag(message, TLS_INFO_RX_NO_PAD);
	nla_nest_end(message, tls);
	nla_nest_end(message, ulp);
}

static void reads_what_the_kernel_says(void **state)
{
	static const struct tls_row rows[] = {
	        {TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, TLS_CONF_SW, TLS_CONF_SW, false, false,
	         "tcp-ulp-tls version: 1.3 cipher: aes-gcm-128 rxconf: sw txconf: sw"},
	        {TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_256, TLS_CONF_HW, TLS_CONF_HW_RECORD, false, false,
	         "tcp-ulp-tls version: 1.2 cipher: aes-gcm-256 rxconf: hw-record txconf: hw"},
	        {TLS_1_3_VERSION, TLS_CIPHER_CHACHA20_POLY1305, TLS_CONF_SW, TLS_CONF_BASE, true, true,
	         "tcp-ulp-tls version: 1.3 cipher: chacha20-poly1305 rxconf: none txconf: sw zc_ro_tx no_pad_rx"},
	        {-1, -1, TLS_CONF_BASE, TLS_CONF_BASE, false, false, "tcp-ulp-tls rxconf: none txconf: none"},
	        {0x0305, 99, 77, -1, false, false,
	         "tcp-ulp-tls version: unknown(0x305) cipher: unknown(99) txconf: unknown"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct nl_msg *message = answer_for(i % 2 ? AF_INET6 : AF_INET);
		struct postern_destination_key remote = key_of(i % 2 ? "fd00::9" : "10.0.0.9", 8443);
		struct ulp_info info;

		add_tls(message, &rows[i]);
		assert_int_equal(ulp_info_parse(nlmsg_hdr(message), &info), 1);
		assert_string_equal(info.text, rows[i].text);
		assert_int_equal(info.local_port, 40000);
		assert_memory_equal(&info.remote, &remote, sizeof(remote));
		nlmsg_free(message);
	}
}

static void plain_sockets_have_none(void **state)
{
	struct nl_msg *message = answer_for(AF_INET);
	struct ulp_info info;

	(void)state;
	assert_int_equal(ulp_info_parse(nlmsg_hdr(message), &info), 0);
	nla_put_u8(message, INET_DIAG_SHUTDOWN, 0);
	assert_int_equal(ulp_info_parse(nlmsg_hdr(message), &info), 0);
	nlmsg_free(message);
}

static void hostile_answers(void **state)
{
	struct nl_msg *message = answer_for(AF_INET);
	const struct tls_row row = {TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, TLS_CONF_SW, TLS_CONF_SW, true, true, ""};
	struct ulp_info info;
	struct nlattr *ulp;
	char long_name[64];

	(void)state;
	add_tls(message, &row);
	/* Every truncation, with a copy of just that size so that ASan sees a read beyond it. */
	for (uint32_t length = sizeof(struct nlmsghdr); length < nlmsg_hdr(message)->nlmsg_len; length++) {
		struct nlmsghdr *copy = malloc(length);

		assert_non_null(copy);
		memcpy(copy, nlmsg_hdr(message), length);
		copy->nlmsg_len = length;
		if (ulp_info_parse(copy, &info) == 1 && memchr(info.text, '\0', sizeof(info.text)) == NULL)
			fail_msg("length %u: the text has no end", length);
		free(copy);
	}
	/* Every single byte of the attributes replaced. */
	for (size_t offset = NLMSG_HDRLEN; offset < nlmsg_hdr(message)->nlmsg_len; offset++) {
		unsigned char *byte = (unsigned char *)nlmsg_hdr(message) + offset;
		unsigned char before = *byte;

		for (int value = 0; value < 256; value += 51) {
			*byte = (unsigned char)value;
			if (ulp_info_parse(nlmsg_hdr(message), &info) == 1)
				assert_non_null(memchr(info.text, '\0', sizeof(info.text)));
		}
		*byte = before;
	}
	nlmsg_hdr(message)->nlmsg_type = NLMSG_MIN_TYPE;
	assert_int_equal(ulp_info_parse(nlmsg_hdr(message), &info), -EBADMSG);
	nlmsg_free(message);

	message = answer_for(AF_UNIX);
	assert_int_equal(ulp_info_parse(nlmsg_hdr(message), &info), -EBADMSG);
	nlmsg_free(message);

	/* A name without an end, longer than any. */
	message = answer_for(AF_INET);
	memset(long_name, 'x', sizeof(long_name));
	ulp = nla_nest_start(message, INET_DIAG_ULP_INFO);
	nla_put(message, INET_ULP_INFO_NAME, sizeof(long_name), long_name);
	nla_nest_end(message, ulp);
	assert_int_equal(ulp_info_parse(nlmsg_hdr(message), &info), -EBADMSG);
	nlmsg_free(message);
}

static void finds_by_port_and_remote(void **state)
{
	struct ulp_info list[] = {
	        {.local_port = 1000, .text = "a"}, {.local_port = 2000, .text = "b"}, {.local_port = 2000, .text = "c"},
	        {.local_port = 2000, .text = "d"}, {.local_port = 3000, .text = "e"},
	};
	static const struct {
		uint16_t port;
		const char *remote;
		const char *text; /* NULL: nothing */
	} rows[] = {
	        {1000, "10.0.0.1", "a"}, {1000, "10.0.0.77", "a"}, /* the only one with the port: its remote was
	                                                              rewritten */
	        {2000, "10.0.0.2", "b"}, {2000, "10.0.0.4", "d"},  {2000, "10.0.0.77", NULL}, /* which of the three? */
	        {3000, "10.0.0.5", "e"}, {4000, "10.0.0.1", NULL}, {999, "10.0.0.1", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(list); i++) {
		char remote[] = "10.0.0.1";

		remote[7] = (char)('1' + i);
		list[i].remote = key_of(remote, 443);
	}
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct postern_destination_key remote = key_of(rows[i].remote, 443);
		const struct ulp_info *seen = ulp_info_find(list, ARRAY_SIZE(list), rows[i].port, &remote);

		if ((seen ? seen->text[0] : '-') != (rows[i].text ? rows[i].text[0] : '-'))
			fail_msg("row %zu: expected %s, seen %s", i, rows[i].text ? rows[i].text : "nothing",
			         seen ? seen->text : "nothing");
	}
	assert_null(ulp_info_find(NULL, 0, 1, &list[0].remote));
}

struct connection {
	int client;
	int server;
	uint16_t client_port;
	struct postern_destination_key remote; /* as the client sees it */
};

/* A TCP or MPTCP connection on loopback. False: no such protocol here. */
static bool connect_loopback(int protocol, struct connection *connection)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	_cleanup_close_ int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, protocol);
	socklen_t length = sizeof(address);

	if (listener == -1)
		return false;
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
	connection->client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, protocol);
	assert_int_equal(connect(connection->client, (struct sockaddr *)&address, sizeof(address)), 0);
	connection->server = accept(listener, NULL, NULL);
	assert_true(connection->server >= 0);
	connection->remote = key_of("127.0.0.1", ntohs(address.sin_port));
	assert_int_equal(getsockname(connection->client, (struct sockaddr *)&address, &length), 0);
	connection->client_port = ntohs(address.sin_port);
	return true;
}

/* What the kernel says of the client's socket, through a gateway whose namespace is this one. */
static void assert_kernel_says(const struct connection *connection, const char *text)
{
	_cleanup_close_ int netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	_cleanup_free_ struct ulp_info *list = NULL;
	struct gateway gateway = {.state = GATEWAY_READY, .netns_fd = netns, .agent_netns_fd = own};
	const struct ulp_info *seen;
	size_t count = 0;

	assert_int_equal(ulp_info_list(&gateway, &list, &count), 0);
	for (size_t i = 1; i < count; i++)
		assert_true(list[i - 1].local_port <= list[i].local_port);
	seen = ulp_info_find(list, count, connection->client_port, &connection->remote);
	if (!seen || strcmp(seen->text, text) != 0)
		fail_msg("expected \"%s\", seen \"%s\"", text, seen ? seen->text : "nothing");
	assert_memory_equal(&seen->remote, &connection->remote, sizeof(connection->remote));
}

/* The one ULP that every kernel has that has MPTCP: its subflows are TCP sockets with it. */
static void real_mptcp(void **state)
{
	struct connection connection;

	(void)state;
	if (geteuid() != 0 || !connect_loopback(IPPROTO_MPTCP, &connection)) {
		print_message("[  SKIP    ] needs root and MPTCP\n");
		skip();
	}
	assert_kernel_says(&connection, "tcp-ulp-mptcp");
	close(connection.client);
	close(connection.server);
}

static void real_kernel_tls(void **state)
{
	static const struct {
		enum tls_version version;
		enum tls_cipher cipher;
		bool receive;
		const char *text;
	} rows[] = {
	        {TLS_VERSION_1_3, TLS_CIPHER_AES_128, true,
	         "tcp-ulp-tls version: 1.3 cipher: aes-gcm-128 rxconf: sw txconf: sw"},
	        {TLS_VERSION_1_2, TLS_CIPHER_AES_256, true,
	         "tcp-ulp-tls version: 1.2 cipher: aes-gcm-256 rxconf: sw txconf: sw"},
	        {TLS_VERSION_1_3, TLS_CIPHER_CHACHA20, false,
	         "tcp-ulp-tls version: 1.3 cipher: chacha20-poly1305 rxconf: none txconf: sw"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct traffic_keys keys = {.version = rows[i].version, .cipher = rows[i].cipher, .key = "test"};
		struct connection connection;

		if (geteuid() != 0 || !connect_loopback(0, &connection) || keys_attach_ulp(connection.client) != 0) {
			print_message("[  SKIP    ] needs root and kernel TLS\n");
			skip();
		}
		assert_int_equal(keys_install(connection.client, TLS_DIRECTION_TRANSMIT, &keys), 0);
		if (rows[i].receive)
			assert_int_equal(keys_install(connection.client, TLS_DIRECTION_RECEIVE, &keys), 0);
		assert_kernel_says(&connection, rows[i].text);
		close(connection.client);
		close(connection.server);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(reads_what_the_kernel_says),
	        cmocka_unit_test(plain_sockets_have_none),
	        cmocka_unit_test(hostile_answers),
	        cmocka_unit_test(finds_by_port_and_remote),
	        cmocka_unit_test(real_mptcp),
	        cmocka_unit_test(real_kernel_tls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
