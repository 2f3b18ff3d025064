/* SPDX-License-Identifier: GPL-2.0-only */
/* What the agent believes about B against what the kernel says, and the counters of /proc/net/tls_stat. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <linux/tls.h>
#include <string.h>

#include "base/cleanup.h"
#include "control/ulp_watch.h"
#include "datapath/ulp_info.h"
#include "datapath/worker_backends.h"

static void beliefs(void **state)
{
#define BOTH  .kernel_transmit = true, .kernel_receive = true, .version = TLS_VERSION_1_3, .cipher = TLS_CIPHER_AES_128
#define KEYS  .is_tls = true, .version = TLS_1_3_VERSION, .cipher = TLS_CIPHER_AES_GCM_128
#define SENDS .kernel_transmit = true, .version = TLS_VERSION_1_3, .cipher = TLS_CIPHER_AES_128
	static const struct {
		const char *name;
		struct backend_view believed;
		struct ulp_info seen; /* is_tls false and all zero: nothing was seen */
		const char *wrong;    /* NULL: as believed */
	} rows[] = {
	        {"both in the kernel", {BOTH}, {KEYS, .transmit = TLS_CONF_SW, .receive = TLS_CONF_SW}, NULL},
	        {"both on a device", {BOTH}, {KEYS, .transmit = TLS_CONF_HW, .receive = TLS_CONF_HW}, NULL},
	        {"tickets come yet", {SENDS}, {KEYS, .transmit = TLS_CONF_SW, .receive = TLS_CONF_BASE}, NULL},
	        {"user space", {.version = TLS_VERSION_1_3}, {.text = ""}, NULL},
	        {"plain", {.kernel_transmit = false}, {.text = ""}, NULL},
	        {"no ULP at all", {BOTH}, {.text = ""}, "TLS_TX is not there; the kernel says: no ULP"},
	        {"no keys to send with",
	         {BOTH},
	         {KEYS, .transmit = TLS_CONF_BASE, .receive = TLS_CONF_SW, .text = "x"},
	         "TLS_TX is not there; the kernel says: x"},
	        {"no keys to receive with",
	         {BOTH},
	         {KEYS, .transmit = TLS_CONF_SW, .receive = TLS_CONF_BASE},
	         "TLS_RX is not there"},
	        {"receives too early",
	         {SENDS},
	         {KEYS, .transmit = TLS_CONF_SW, .receive = TLS_CONF_SW},
	         "TLS_RX is there, and should not be"},
	        {"keys where there are none",
	         {.version = TLS_VERSION_1_3},
	         {KEYS, .transmit = TLS_CONF_SW},
	         "TLS_TX is there, and should not be"},
	        {"another version",
	         {BOTH},
	         {.is_tls = true,
	          .version = TLS_1_2_VERSION,
	          .cipher = TLS_CIPHER_AES_GCM_128,
	          .transmit = TLS_CONF_SW,
	          .receive = TLS_CONF_SW},
	         "another TLS version"},
	        {"another cipher",
	         {BOTH},
	         {.is_tls = true,
	          .version = TLS_1_3_VERSION,
	          .cipher = TLS_CIPHER_CHACHA20_POLY1305,
	          .transmit = TLS_CONF_SW,
	          .receive = TLS_CONF_SW},
	         "another cipher"},
	};
	char text[ULP_WATCH_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		bool nothing = !rows[i].seen.is_tls;
		bool right = ulp_watch_compare(&rows[i].believed, nothing ? NULL : &rows[i].seen, text);

		if (right != (rows[i].wrong == NULL) ||
		    (rows[i].wrong && strncmp(text, rows[i].wrong, strlen(rows[i].wrong)) != 0))
			fail_msg("%s: expected %s, seen %s", rows[i].name, rows[i].wrong ? rows[i].wrong : "no fault",
			         right ? "no fault" : text);
	}
}

static void counters(void **state)
{
	/* As 6.18 prints it. */
	static const char text[] = "TlsCurrTxSw                     \t2\n"
	                           "TlsCurrRxSw                     \t1\n"
	                           "TlsTxSw                         \t7\n"
	                           "TlsDecryptError                 \t12\n"
	                           "TlsDecryptErrorOfAnother        \t99\n"
	                           "TlsRxNoPadViolation             \t3\n";

	(void)state;
	assert_int_equal(ulp_watch_stat(text, "TlsDecryptError"), 12);
	assert_int_equal(ulp_watch_stat(text, "TlsCurrTxSw"), 2);
	assert_int_equal(ulp_watch_stat(text, "TlsRxNoPadViolation"), 3);
	assert_int_equal(ulp_watch_stat(text, "TlsDecrypt"), 0);
	assert_int_equal(ulp_watch_stat("", "TlsDecryptError"), 0);
	assert_int_equal(ulp_watch_stat("TlsDecryptError", "TlsDecryptError"), 0);
	assert_int_equal(ulp_watch_stat("TlsDecryptError \t", "TlsDecryptError"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(beliefs),
	        cmocka_unit_test(counters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
