/* SPDX-License-Identifier: GPL-2.0-only */
/* What control records mean after the handshake: a table, and handshake messages that span records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "datapath/relay_record.h"

enum outcome {
	OUTCOME_GOES_ON,
	OUTCOME_END,
	OUTCOME_WARNING,
	OUTCOME_TICKETS_1,
	OUTCOME_TICKETS_2,
	OUTCOME_KEY_UPDATE,
	OUTCOME_RESET,
};

#define NST     "\4\0\0\3abc"
#define V12     TLS_VERSION_1_2
#define V13     TLS_VERSION_1_3
#define B(text) text, sizeof(text) - 1

static const struct {
	const char *name;
	enum tls_version version;
	unsigned int type;
	const char *bytes;
	size_t size;
	enum outcome outcome;
	enum postern_reason reason;
} cases[] = {
        {"close_notify, level warning", V13, 21, B("\1\0"), OUTCOME_END, REASON_NONE},
        {"close_notify, level fatal", V13, 21, B("\2\0"), OUTCOME_END, REASON_NONE},
        {"close_notify of 1.2", V12, 21, B("\1\0"), OUTCOME_END, REASON_NONE},
        {"user_canceled", V13, 21, B("\1\132"), OUTCOME_GOES_ON, REASON_NONE},
        {"internal_error", V13, 21, B("\2\120"), OUTCOME_RESET, REASON_PEER_ALERT},
        {"any alert of 1.3 is fatal", V13, 21, B("\1\120"), OUTCOME_RESET, REASON_PEER_ALERT},
        {"a warning of 1.2", V12, 21, B("\1\144"), OUTCOME_WARNING, REASON_NONE},
        {"a fatal alert of 1.2", V12, 21, B("\2\24"), OUTCOME_RESET, REASON_PEER_ALERT},
        {"an empty alert", V13, 21, B(""), OUTCOME_RESET, REASON_UNEXPECTED_RECORD},
        {"half an alert", V13, 21, B("\1"), OUTCOME_RESET, REASON_UNEXPECTED_RECORD},
        {"two alerts in one record", V13, 21, B("\1\0\1\0"), OUTCOME_RESET, REASON_UNEXPECTED_RECORD},
        {"a ticket", V13, 22, B(NST), OUTCOME_TICKETS_1, REASON_NONE},
        {"two tickets in one record", V13, 22, B(NST NST), OUTCOME_TICKETS_2, REASON_NONE},
        {"a ticket of 1.2", V12, 22, B(NST), OUTCOME_RESET, REASON_UNEXPECTED_RECORD},
        {"a ticket that is too long", V13, 22, B("\4\2\2\2abc"), OUTCOME_RESET, REASON_UNEXPECTED_RECORD},
        {"KeyUpdate", V13, 22, B("\30\0\0\1\0"), OUTCOME_KEY_UPDATE, REASON_NONE},
        {"KeyUpdate, update requested", V13, 22, B("\30\0\0\1\1"), OUTCOME_KEY_UPDATE, REASON_NONE},
        {"KeyUpdate 2", V13, 22, B("\30\0\0\1\2"), OUTCOME_RESET, REASON_UNEXPECTED_RECORD},
        {"KeyUpdate of no bytes", V13, 22, B("\30\0\0\0"), OUTCOME_RESET, REASON_UNEXPECTED_RECORD},
        {"KeyUpdate of two bytes", V13, 22, B("\30\0\0\2\0\0"), OUTCOME_RESET, REASON_UNEXPECTED_RECORD},
        {"a ticket behind KeyUpdate", V13, 22, B("\30\0\0\1\0" NST), OUTCOME_RESET, REASON_UNEXPECTED_RECORD},
        {"KeyUpdate after a ticket", V13, 22, B(NST "\30\0\0\1\0"), OUTCOME_KEY_UPDATE, REASON_NONE},
        {"KeyUpdate has no place in 1.2", V12, 22, B("\30\0\0\1\0"), OUTCOME_RESET, REASON_UNEXPECTED_RECORD},
        {"CertificateRequest", V13, 22, B("\15\0\0\3abc"), OUTCOME_RESET, REASON_RENEGOTIATION},
        {"HelloRequest", V12, 22, B("\0\0\0\0"), OUTCOME_RESET, REASON_RENEGOTIATION},
        {"HelloRequest has no place in 1.3", V13, 22, B("\0\0\0\0"), OUTCOME_RESET, REASON_UNEXPECTED_RECORD},
        {"ServerHello", V13, 22, B("\2\0\0\1a"), OUTCOME_RESET, REASON_UNEXPECTED_RECORD},
        {"an empty handshake record", V13, 22, B(""), OUTCOME_RESET, REASON_UNEXPECTED_RECORD},
        {"change_cipher_spec of 1.3", V13, 20, B("\1"), OUTCOME_RESET, REASON_UNEXPECTED_RECORD},
        {"change_cipher_spec of 1.2", V12, 20, B("\1"), OUTCOME_RESET, REASON_UNEXPECTED_RECORD},
        {"heartbeat", V13, 24, B("\1\0\1"), OUTCOME_RESET, REASON_UNEXPECTED_RECORD},
        {"type 0", V13, 0, B(""), OUTCOME_RESET, REASON_UNEXPECTED_RECORD},
        {"type 255", V12, 255, B("abc"), OUTCOME_RESET, REASON_UNEXPECTED_RECORD},
};

static enum outcome outcome_of(const struct relay_record_verdict *verdict)
{
	if (verdict->reason != REASON_NONE)
		return OUTCOME_RESET;
	if (verdict->close_notify)
		return OUTCOME_END;
	if (verdict->key_update)
		return OUTCOME_KEY_UPDATE;
	if (verdict->warning)
		return OUTCOME_WARNING;
	if (verdict->tickets)
		return verdict->tickets == 1 ? OUTCOME_TICKETS_1 : OUTCOME_TICKETS_2;
	return OUTCOME_GOES_ON;
}

static void each_record_has_its_meaning(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct relay_handshake_reader reader = {0};
		struct relay_record_verdict verdict;

		relay_record_judge(&reader, cases[i].version, cases[i].type, (const uint8_t *)cases[i].bytes,
		                   cases[i].size, &verdict);
		if (outcome_of(&verdict) != cases[i].outcome || verdict.reason != cases[i].reason)
			fail_msg("%s: expected outcome %d, %s; seen %d, %s", cases[i].name, (int)cases[i].outcome,
			         reason_name(cases[i].reason), (int)outcome_of(&verdict), reason_name(verdict.reason));
		if ((verdict.detail[0] != 0) != (verdict.reason != REASON_NONE))
			fail_msg("%s: the detail \"%s\" does not fit", cases[i].name, verdict.detail);
	}
}

/* Three tickets and a KeyUpdate, cut into records at every place. */
static void messages_may_span_records(void **state)
{
	static const char stream[] = NST "\4\0\1\0"
	                                 "................................................................"
	                                 "................................................................"
	                                 "................................................................"
	                                 "................................................................" NST
	                                 "\30\0\0\1\0";
	const size_t size = sizeof(stream) - 1;

	(void)state;
	for (size_t step = 1; step <= size; step++) {
		struct relay_handshake_reader reader = {0};
		unsigned int tickets = 0;
		bool updated = false;

		for (size_t at = 0; at < size && !updated; at += step) {
			struct relay_record_verdict verdict;

			relay_record_judge(&reader, V13, 22, (const uint8_t *)stream + at,
			                   size - at < step ? size - at : step, &verdict);
			if (verdict.reason != REASON_NONE)
				fail_msg("cut every %zu bytes, at %zu: %s (%s)", step, at, reason_name(verdict.reason),
				         verdict.detail);
			tickets += verdict.tickets;
			updated = verdict.key_update;
		}
		if (tickets != 3 || !updated)
			fail_msg("cut every %zu bytes: expected 3 tickets and KeyUpdate, seen %u, %d", step, tickets,
			         updated);
	}
}

static void nothing_may_come_within_a_message(void **state)
{
	static const unsigned int types[] = {21, 23};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		for (size_t cut = 1; cut < sizeof(NST) - 1; cut++) {
			struct relay_handshake_reader reader = {0};
			struct relay_record_verdict verdict;

			relay_record_judge(&reader, V13, 22, (const uint8_t *)NST, cut, &verdict);
			assert_int_equal(verdict.reason, REASON_NONE);
			assert_false(relay_handshake_complete(&reader));
			relay_record_judge(&reader, V13, types[i], (const uint8_t *)"\1\0", 2, &verdict);
			assert_int_equal(verdict.reason, REASON_UNEXPECTED_RECORD);
			assert_false(verdict.close_notify);
		}
	}
}

static void whole_messages_leave_nothing(void **state)
{
	struct relay_handshake_reader reader = {0};
	struct relay_record_verdict verdict;

	(void)state;
	assert_true(relay_handshake_complete(&reader));
	relay_record_judge(&reader, V13, 22, (const uint8_t *)NST NST, 2 * (sizeof(NST) - 1), &verdict);
	assert_true(relay_handshake_complete(&reader));
	relay_record_judge(&reader, V13, 21, (const uint8_t *)"\1\0", 2, &verdict);
	assert_true(verdict.close_notify);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(each_record_has_its_meaning),
	        cmocka_unit_test(messages_may_span_records),
	        cmocka_unit_test(nothing_may_come_within_a_message),
	        cmocka_unit_test(whole_messages_leave_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
