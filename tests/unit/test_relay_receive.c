/* SPDX-License-Identifier: GPL-2.0-only */
/* B->A->G on the mock kernel: records of every type, splice, short writes, the peer's faults. */
#include "relay_fixture.h"

#include <errno.h>

#define TICKET     "\4\0\0\3abc"
#define KEY_UPDATE "\30\0\0\1\0"

static const enum relay_mode kernel_modes[] = {RELAY_KTLS_COPY, RELAY_KTLS_SPLICE};

/* A connection that runs in mode; in RELAY_KTLS_SPLICE it is splicing already. */
static struct fixture *running(enum relay_mode mode, enum tls_version version)
{
	struct fixture *f = fixture_new(mode, version);

	fixture_start(f);
	if (mode == RELAY_KTLS_SPLICE)
		f->relay->to_gateway.splicing = true;
	return f;
}

/* Data that arrives; a connection that splices goes on splicing, although it is short. */
static void pass_data(struct fixture *f, enum relay_mode mode, const char *bytes)
{
	mock_feed(&f->kernel.b, bytes, strlen(bytes));
	fixture_run(f);
	f->relay->to_gateway.splicing = mode == RELAY_KTLS_SPLICE;
}

static void records_are_joined_in_order(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kernel_modes); i++) {
		struct fixture *f = running(kernel_modes[i], TLS_VERSION_1_3);

		mock_feed(&f->kernel.b, "HTTP/1.1", 8);
		mock_feed(&f->kernel.b, " 200", 4);
		mock_feed(&f->kernel.b, " OK", 3);
		fixture_run(f);
		assert_out(&f->kernel.a, "HTTP/1.1 200 OK", 15);
		assert_int_equal(f->relay->to_gateway.bytes, 15);
		assert_alive(f);
		fixture_free(f);
	}
}

static void short_writes_lose_nothing(void **state)
{
	static const enum relay_mode modes[] = {RELAY_PLAIN, RELAY_KTLS_COPY, RELAY_KTLS_SPLICE};
	static const size_t limits[] = {0, 1000, 16384};
	static const size_t rooms[] = {1, 4097, 100003};
	const size_t size = 500009;
	uint8_t *sent = pattern(size);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(modes) * ARRAY_SIZE(limits) * ARRAY_SIZE(rooms); i++) {
		enum relay_mode mode = modes[i % ARRAY_SIZE(modes)];
		size_t step = rooms[i / ARRAY_SIZE(modes) / ARRAY_SIZE(limits)];
		struct fixture *f = running(mode, TLS_VERSION_1_3);
		size_t given = 0;

		f->kernel.a.call_limit = limits[i / ARRAY_SIZE(modes) % ARRAY_SIZE(limits)];
		for (size_t at = 0; at < size; at += 16384)
			mock_feed(&f->kernel.b, sent + at, size - at < 16384 ? size - at : 16384);
		for (int round = 0; given < size; round++) {
			f->kernel.a.room = round < 3 ? step : step < 4097 ? 50021 : step;
			given += f->kernel.a.room;
			fixture_run(f);
			assert_alive(f);
		}
		f->kernel.a.room = SIZE_MAX;
		fixture_run(f);
		assert_out(&f->kernel.a, sent, size);
		assert_null(f->relay->to_gateway.rest.bytes);
		fixture_free(f);
	}
	free(sent);
}

static void slow_gateway_holds_the_backend_back(void **state)
{
	const size_t size = 1000000;
	uint8_t *sent = pattern(size);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kernel_modes); i++) {
		struct fixture *f = running(kernel_modes[i], TLS_VERSION_1_3);

		f->kernel.a.room = 10;
		for (size_t at = 0; at < size; at += 16000)
			mock_feed(&f->kernel.b, sent + at, size - at < 16000 ? size - at : 16000);
		mock_feed_record(&f->kernel.b, 21, "\1\0", 2);
		mock_feed_fin(&f->kernel.b);
		fixture_run(f);
		assert_true(mock_unread(&f->kernel.b) >= size - RELAY_BUFFER_SIZE);
		assert_int_equal(f->relay->receive, RECEIVE_BLOCKED);
		assert_int_equal(f->relay->b.events, 0);
		assert_int_equal(f->relay->a.events, EPOLLIN | EPOLLOUT);
		/* The end waits behind the data. */
		assert_false(f->kernel.a.shut_for_writing);
		f->kernel.a.room = SIZE_MAX;
		fixture_run(f);
		assert_out(&f->kernel.a, sent, size);
		assert_true(f->kernel.a.shut_for_writing);
		assert_alive(f);
		fixture_free(f);
	}
	free(sent);
}

static void control_records_are_judged_wherever_they_come(void **state)
{
	static const struct {
		const char *name;
		enum tls_version version;
		unsigned int type;
		const char *bytes;
		size_t size;
		enum postern_reason reason; /* NONE: lives on */
	} records[] = {
	        {"ticket", TLS_VERSION_1_3, 22, TICKET TICKET, 14, REASON_NONE},
	        {"user_canceled", TLS_VERSION_1_3, 21, "\1\132", 2, REASON_NONE},
	        {"empty record", TLS_VERSION_1_3, 23, "", 0, REASON_NONE},
	        {"warning of 1.2", TLS_VERSION_1_2, 21, "\1\144", 2, REASON_NONE},
	        {"KeyUpdate", TLS_VERSION_1_3, 22, KEY_UPDATE, 5, REASON_KEY_UPDATE},
	        {"fatal alert", TLS_VERSION_1_3, 21, "\2\24", 2, REASON_PEER_ALERT},
	        {"fatal alert of 1.2", TLS_VERSION_1_2, 21, "\2\24", 2, REASON_PEER_ALERT},
	        {"CertificateRequest", TLS_VERSION_1_3, 22, "\15\0\0\1a", 5, REASON_RENEGOTIATION},
	        {"HelloRequest", TLS_VERSION_1_2, 22, "\0\0\0\0", 4, REASON_RENEGOTIATION},
	        {"change_cipher_spec", TLS_VERSION_1_3, 20, "\1", 1, REASON_UNEXPECTED_RECORD},
	        {"empty alert", TLS_VERSION_1_3, 21, "", 0, REASON_UNEXPECTED_RECORD},
	        {"unknown type", TLS_VERSION_1_2, 99, "abc", 3, REASON_UNEXPECTED_RECORD},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(records); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(kernel_modes); j++) {
			struct fixture *f = running(kernel_modes[j], records[i].version);

			pass_data(f, kernel_modes[j], "before");
			mock_feed_record(&f->kernel.b, records[i].type, records[i].bytes, records[i].size);
			mock_feed(&f->kernel.b, " after", 6);
			fixture_run(f);
			if (records[i].reason == REASON_NONE) {
				assert_alive(f);
				assert_out(&f->kernel.a, "before after", 12);
			} else {
				if (f->ends != 1 || f->reason != records[i].reason)
					fail_msg("%s: expected %s, seen %u ends, %s", records[i].name,
					         reason_name(records[i].reason), f->ends, reason_name(f->reason));
				assert_reset(f, records[i].reason);
				assert_out(&f->kernel.a, "before", 6);
			}
			fixture_free(f);
		}
	}
}

static void tickets_and_key_updates_are_counted(void **state)
{
	struct fixture *f = running(RELAY_KTLS_COPY, TLS_VERSION_1_3);
	struct relay_stats stats;

	(void)state;
	for (int i = 0; i < 3; i++) {
		mock_feed_record(&f->kernel.b, 22, TICKET TICKET, 14);
		mock_feed(&f->kernel.b, "x", 1);
	}
	fixture_run(f);
	relay_stats(f->relay, &stats);
	assert_int_equal(stats.tickets_dropped, 6);
	assert_int_equal(stats.key_updates, 0);
	mock_feed_record(&f->kernel.b, 22, KEY_UPDATE, 5);
	fixture_run(f);
	assert_reset(f, REASON_KEY_UPDATE);
	assert_int_equal(f->last.tickets_dropped, 6);
	assert_int_equal(f->last.key_updates, 1);
	fixture_free(f);
}

static void a_ticket_may_span_records_but_not_data(void **state)
{
	struct fixture *f = running(RELAY_KTLS_COPY, TLS_VERSION_1_3);

	(void)state;
	mock_feed_record(&f->kernel.b, 22, "\4\0\0", 3);
	mock_feed_record(&f->kernel.b, 22, "\3a", 2);
	mock_feed_record(&f->kernel.b, 22, "bc", 2);
	mock_feed(&f->kernel.b, "data", 4);
	fixture_run(f);
	assert_alive(f);
	assert_out(&f->kernel.a, "data", 4);
	mock_feed_record(&f->kernel.b, 22, "\4\0\0", 3);
	mock_feed(&f->kernel.b, "data", 4);
	fixture_run(f);
	assert_reset(f, REASON_UNEXPECTED_RECORD);
	assert_out(&f->kernel.a, "data", 4);
	fixture_free(f);
}

static void warnings_without_end_end_the_connection(void **state)
{
	struct fixture *f = running(RELAY_KTLS_COPY, TLS_VERSION_1_2);

	(void)state;
	for (int i = 0; i < 5; i++)
		mock_feed_record(&f->kernel.b, 21, "\1\144", 2);
	fixture_run(f);
	assert_alive(f);
	mock_feed_record(&f->kernel.b, 21, "\1\144", 2);
	fixture_run(f);
	assert_reset(f, REASON_PEER_ALERT);
	fixture_free(f);
}

static void failed_read_ends_both(void **state)
{
	static const struct {
		int error;
		enum postern_reason reason;
	} errors[] = {
	        {EKEYEXPIRED, REASON_KEY_UPDATE},
	        {EBADMSG, REASON_DECRYPT_ERROR},
	        {EMSGSIZE, REASON_UNEXPECTED_RECORD},
	        {ECONNRESET, REASON_BACKEND_RESET},
	        {EPIPE, REASON_BACKEND_RESET},
	        {ETIMEDOUT, REASON_BACKEND_SILENT},
	        {EHOSTUNREACH, REASON_BACKEND_UNREACHABLE},
	        {ENOMEM, REASON_NO_MEMORY},
	        {EIO, REASON_KERNEL_TLS_FAILED},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(kernel_modes); j++) {
			struct fixture *f = running(kernel_modes[j], TLS_VERSION_1_3);

			pass_data(f, kernel_modes[j], "before");
			mock_feed_error(&f->kernel.b, errors[i].error);
			mock_feed(&f->kernel.b, "after", 5);
			fixture_run(f);
			assert_reset(f, errors[i].reason);
			assert_out(&f->kernel.a, "before", 6);
			assert_int_equal(f->last.key_updates, errors[i].error == EKEYEXPIRED);
			fixture_free(f);
		}
	}
}

/* In splice mode EINVAL means a control record; an EINVAL of recvmsg() itself is a record that is none. */
static void malformed_record_does_not_loop(void **state)
{
	struct fixture *f = running(RELAY_KTLS_SPLICE, TLS_VERSION_1_3);

	(void)state;
	f->kernel.b.splice_in_error = EINVAL;
	mock_feed_error(&f->kernel.b, EINVAL);
	fixture_run(f);
	assert_reset(f, REASON_UNEXPECTED_RECORD);
	fixture_free(f);
}

/* A kernel that splices no data at all still gives it to recvmsg(). */
static void data_behind_a_refused_splice_is_read(void **state)
{
	struct fixture *f = running(RELAY_KTLS_SPLICE, TLS_VERSION_1_3);

	(void)state;
	f->kernel.b.splice_in_error = EINVAL;
	mock_feed(&f->kernel.b, "data", 4);
	fixture_run(f);
	assert_alive(f);
	assert_out(&f->kernel.a, "data", 4);
	fixture_free(f);
}

static void bytes_without_a_type_are_not_passed_on(void **state)
{
	struct fixture *f = running(RELAY_KTLS_COPY, TLS_VERSION_1_3);

	(void)state;
	f->kernel.b.no_record_types = true;
	mock_feed(&f->kernel.b, "\27\3\3ciphertext", 13);
	fixture_run(f);
	assert_reset(f, REASON_KERNEL_TLS_FAILED);
	assert_out(&f->kernel.a, "", 0);
	fixture_free(f);
}

static void end_without_close_notify_is_a_reset(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kernel_modes); i++) {
		for (int empty_record = 0; empty_record < 2; empty_record++) {
			struct fixture *f = running(kernel_modes[i], TLS_VERSION_1_3);

			pass_data(f, kernel_modes[i], "half a body");
			if (empty_record)
				mock_feed(&f->kernel.b, "", 0);
			mock_feed_fin(&f->kernel.b);
			fixture_run(f);
			assert_reset(f, REASON_TRUNCATED);
			assert_out(&f->kernel.a, "half a body", 11);
			assert_false(f->kernel.a.shut_for_writing);
			fixture_free(f);
		}
	}
}

static void splice_begins_with_a_stream_and_ends_with_a_short_record(void **state)
{
	uint8_t *sent = pattern(5 * 16384);
	struct fixture *f = running(RELAY_KTLS_COPY, TLS_VERSION_1_3);
	struct relay_stats stats;

	(void)state;
	f->relay->to_gateway.may_splice = true;
	for (int i = 0; i < 4; i++)
		mock_feed(&f->kernel.b, sent + i * 16384, 16384);
	fixture_run(f);
	assert_int_equal(f->kernel.b.recvmsg_calls, 1);
	relay_stats(f->relay, &stats);
	assert_int_equal(stats.to_gateway, RELAY_KTLS_SPLICE);
	mock_feed(&f->kernel.b, sent, 16384);
	mock_feed(&f->kernel.b, sent, 16383);
	mock_feed(&f->kernel.b, sent, 100);
	fixture_run(f);
	assert_int_equal(f->kernel.b.splice_in_calls, 2);
	assert_int_equal(f->kernel.b.recvmsg_calls, 2);
	relay_stats(f->relay, &stats);
	assert_int_equal(stats.to_gateway, RELAY_KTLS_COPY);
	fixture_free(f);
	free(sent);
}

static void session_failure_gives_its_reason(void **state)
{
	static const enum relay_mode modes[] = {RELAY_USER_TLS, RELAY_TICKETS};
	static const enum postern_reason reasons[] = {REASON_TRUNCATED, REASON_DECRYPT_ERROR, REASON_PEER_ALERT,
	                                              REASON_KEY_UPDATE};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(modes) * ARRAY_SIZE(reasons); i++) {
		struct fixture *f = fixture_new(modes[i % 2], TLS_VERSION_1_3);

		fixture_start(f);
		f->session.reason = reasons[i / 2];
		f->session.detail = "what the session says";
		fixture_script(f, 4, "data", false);
		fixture_script(f, -ECONNRESET, NULL, false);
		fixture_run(f);
		assert_reset(f, reasons[i / 2]);
		assert_string_equal(f->detail, "what the session says");
		assert_out(&f->kernel.a, "data", 4);
		fixture_free(f);
	}
}

static void key_limit_counts_what_is_read(void **state)
{
	uint8_t *sent = pattern(16384);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kernel_modes); i++) {
		struct fixture *f = fixture_new(kernel_modes[i], TLS_VERSION_1_3);

		f->worker.aead_limit_blocks = 2 * (1024 + 2);
		fixture_start(f);
		if (kernel_modes[i] == RELAY_KTLS_SPLICE)
			f->relay->to_gateway.splicing = true;
		mock_feed(&f->kernel.b, sent, 16384);
		mock_feed(&f->kernel.b, sent, 16384);
		fixture_run(f);
		assert_alive(f);
		mock_feed(&f->kernel.b, sent, 16384);
		fixture_run(f);
		assert_reset(f, REASON_KEY_LIMIT);
		assert_int_equal(f->kernel.a.out_size, 2 * 16384);
		assert_false(f->kernel.a.shut_for_writing); /* never a clean end in mid-body */
		fixture_free(f);
	}
	free(sent);
}

static void gateway_that_takes_no_bytes_any_more_ends_both(void **state)
{
	static const struct {
		int error;
		enum postern_reason reason;
	} errors[] = {
	        {ECONNRESET, REASON_GATEWAY_RESET},
	        {EPIPE, REASON_GATEWAY_RESET},
	        {ENOMEM, REASON_NO_MEMORY},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(kernel_modes); j++) {
			struct fixture *f = running(kernel_modes[j], TLS_VERSION_1_3);

			f->kernel.a.write_error = errors[i].error;
			mock_feed(&f->kernel.b, "data", 4);
			fixture_run(f);
			assert_reset(f, errors[i].reason);
			fixture_free(f);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(records_are_joined_in_order),
	        cmocka_unit_test(short_writes_lose_nothing),
	        cmocka_unit_test(slow_gateway_holds_the_backend_back),
	        cmocka_unit_test(control_records_are_judged_wherever_they_come),
	        cmocka_unit_test(tickets_and_key_updates_are_counted),
	        cmocka_unit_test(a_ticket_may_span_records_but_not_data),
	        cmocka_unit_test(warnings_without_end_end_the_connection),
	        cmocka_unit_test(failed_read_ends_both),
	        cmocka_unit_test(malformed_record_does_not_loop),
	        cmocka_unit_test(data_behind_a_refused_splice_is_read),
	        cmocka_unit_test(bytes_without_a_type_are_not_passed_on),
	        cmocka_unit_test(end_without_close_notify_is_a_reset),
	        cmocka_unit_test(splice_begins_with_a_stream_and_ends_with_a_short_record),
	        cmocka_unit_test(session_failure_gives_its_reason),
	        cmocka_unit_test(key_limit_counts_what_is_read),
	        cmocka_unit_test(gateway_that_takes_no_bytes_any_more_ends_both),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
