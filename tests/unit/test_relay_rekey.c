/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KeyUpdate with the keys in the kernel, on the mock: what is sent, in which order, and what happens when there is no
 * room. That the keys are right is for test_peer_script.c to see, on kernels that can rekey.
 */
#include <errno.h>

#include "relay_fixture.h"

#define KEY_UPDATE      "\30\0\0\1\0"
#define KEY_UPDATE_ASKS "\30\0\0\1\1"
#define TRANSMIT        0
#define RECEIVE         1

static const enum relay_mode kernel_modes[] = {RELAY_KTLS_COPY, RELAY_KTLS_SPLICE};

static struct fixture *rekeying(enum relay_mode mode, bool transmit)
{
	struct fixture *f = fixture_new(mode, TLS_VERSION_1_3);

	f->options.kernel_rekey = true;
	f->options.kernel_rekey_transmit = transmit;
	f->session.has_secrets = true;
	f->kernel.b.hides_key_update = true;
	fixture_start(f);
	return f;
}

static void assert_sent(const struct fixture *f, size_t number, const char *message, size_t at)
{
	const struct mock_control *control = &f->kernel.b.controls[number];

	if (f->kernel.b.control_count <= number)
		fail_msg("expected %zu control records, seen %zu", number + 1, f->kernel.b.control_count);
	assert_int_equal(control->type, TLS_CONTENT_HANDSHAKE);
	assert_int_equal(control->size, 5);
	assert_memory_equal(control->bytes, message, 5);
	assert_int_equal(control->at, at);
}

/* What a KeyUpdate behind data holds back comes with the look. */
static void wait_for(struct fixture *f, uint64_t key_updates)
{
	uint64_t deadline = monotonic_ns() + FIXTURE_PATIENCE_NS;
	struct relay_stats stats = {0};

	while (f->ends == 0 && stats.key_updates < key_updates && monotonic_ns() < deadline) {
		fixture_run(f);
		fixture_wait(f, 1);
		if (f->ends == 0)
			relay_stats(f->relay, &stats);
	}
}

static void a_key_update_is_followed(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kernel_modes); i++) {
		struct fixture *f = rekeying(kernel_modes[i], false);
		struct relay_stats stats;

		mock_feed(&f->kernel.b, "before", 6);
		mock_feed_record(&f->kernel.b, 22, KEY_UPDATE, 5);
		mock_feed(&f->kernel.b, "after", 5);
		mock_feed_record(&f->kernel.b, 22, KEY_UPDATE, 5);
		mock_feed_record(&f->kernel.b, 22, KEY_UPDATE, 5);
		wait_for(f, 3);
		assert_alive(f);
		assert_out(&f->kernel.a, "beforeafter", 11);
		relay_stats(f->relay, &stats);
		assert_int_equal(stats.key_updates, 3);
		assert_int_equal(f->kernel.b.rekeys[RECEIVE], 3);
		assert_int_equal(f->kernel.b.rekeys[TRANSMIT], 0);
		assert_int_equal(f->kernel.b.control_count, 0);
		fixture_free(f);
	}
}

/* No event tells of a KeyUpdate that recvmsg() has put aside: the look behind data finds it, and what follows it. */
static void a_hidden_key_update_is_followed(void **state)
{
	static const size_t sizes[] = {100, 100000};
	uint8_t *sent = pattern(100000);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes) * ARRAY_SIZE(kernel_modes); i++) {
		struct fixture *f = rekeying(kernel_modes[i % 2], true);
		uint64_t deadline = monotonic_ns() + FIXTURE_PATIENCE_NS;
		size_t size = sizes[i / 2];

		mock_feed(&f->kernel.b, sent, size);
		mock_feed_record(&f->kernel.b, 22, KEY_UPDATE_ASKS, 5);
		mock_feed(&f->kernel.b, "after", 5);
		while (f->kernel.a.out_size < size + 5 && monotonic_ns() < deadline) {
			fixture_run(f);
			fixture_wait(f, 1);
		}
		assert_alive(f);
		assert_int_equal(f->kernel.a.out_size, size + 5);
		assert_memory_equal(f->kernel.a.out + size, "after", 5);
		assert_sent(f, 0, KEY_UPDATE, 0);
		fixture_free(f);
	}
	free(sent);
}

/* That kernel takes the first byte of a record for the whole message, and reads no further: nobody would be told. */
static void what_begins_like_one_is_a_reset(void **state)
{
	static const struct {
		const char *first;
		size_t first_size;
		const char *second;
		size_t second_size;
	} rows[] = {
	        {"\30", 1, "\0\0\1\0", 4},
	        {"\30\0\0\1", 4, "\0", 1},
	        {"\4\0\0\2.", 5, "\30", 1}, /* the end of a ticket */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows) * ARRAY_SIZE(kernel_modes); i++) {
		struct fixture *f = rekeying(kernel_modes[i % 2], true);

		mock_feed_record(&f->kernel.b, 22, rows[i / 2].first, rows[i / 2].first_size);
		fixture_run(f);
		mock_feed_record(&f->kernel.b, 22, rows[i / 2].second, rows[i / 2].second_size);
		mock_feed(&f->kernel.b, "after", 5);
		fixture_run(f);
		assert_reset(f, REASON_KEY_UPDATE);
		assert_int_equal(f->kernel.a.out_size, 0);
		fixture_free(f);
	}
}

static void one_that_asks_is_answered(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kernel_modes); i++) {
		struct fixture *f = rekeying(kernel_modes[i], true);

		mock_feed(&f->kernel.a, "request", 7);
		fixture_run(f);
		mock_feed_record(&f->kernel.b, 22, KEY_UPDATE_ASKS, 5);
		fixture_run(f);
		mock_feed(&f->kernel.a, "more", 4);
		fixture_run(f);
		assert_alive(f);
		assert_out(&f->kernel.b, "requestmore", 11);
		assert_int_equal(f->kernel.b.control_count, 1);
		assert_sent(f, 0, KEY_UPDATE, 7);
		assert_int_equal(f->kernel.b.rekeys[TRANSMIT], 1);
		assert_int_equal(f->kernel.b.transmit_rekeyed_at, 7);
		fixture_free(f);
	}
}

/* Without room on B the answer waits, and what G sends waits behind it: one that is sent, and one that was read. */
static void the_answer_waits_for_room(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kernel_modes) * 2; i++) {
		struct fixture *f = rekeying(kernel_modes[i % 2], true);
		bool blocked = i / 2;
		size_t before = 0;

		f->kernel.b.kernel_transmit = false; /* short writes, so that a rest is left */
		f->kernel.b.room = blocked ? 3 : 0;
		if (blocked) {
			mock_feed(&f->kernel.a, "request", 7);
			fixture_run(f);
			before = 3;
		}
		f->kernel.b.kernel_transmit = true;
		mock_feed_record(&f->kernel.b, 22, KEY_UPDATE_ASKS, 5);
		mock_feed(&f->kernel.b, "answer", 6);
		fixture_run(f);
		mock_feed(&f->kernel.a, "more", 4);
		fixture_run(f);
		assert_alive(f);
		assert_int_equal(f->kernel.b.out_size, before);
		assert_int_equal(f->kernel.b.control_count, 0);
		assert_out(&f->kernel.a, "answer", 6);
		f->kernel.b.room = SIZE_MAX;
		fixture_run(f);
		assert_alive(f);
		assert_out(&f->kernel.b, blocked ? "requestmore" : "more", blocked ? 11 : 4);
		assert_sent(f, 0, KEY_UPDATE, before);
		assert_int_equal(f->kernel.b.control_count, 1);
		assert_int_equal(f->kernel.b.transmit_rekeyed_at, before);
		fixture_free(f);
	}
}

/* Nothing may follow close_notify. */
static void no_answer_after_the_end(void **state)
{
	(void)state;
	for (int late = 0; late < 2; late++) {
		struct fixture *f = rekeying(RELAY_KTLS_COPY, true);

		f->kernel.b.send_buffer_error = EPERM;
		f->kernel.b.room = 0;
		if (!late)
			mock_feed_record(&f->kernel.b, 22, KEY_UPDATE_ASKS, 5);
		fixture_run(f);
		mock_feed_fin(&f->kernel.a);
		fixture_run(f);
		if (late)
			mock_feed_record(&f->kernel.b, 22, KEY_UPDATE_ASKS, 5);
		fixture_run(f);
		f->kernel.b.room = SIZE_MAX;
		fixture_run(f);
		mock_feed_record(&f->kernel.b, 22, KEY_UPDATE_ASKS, 5);
		mock_feed(&f->kernel.b, "answer", 6);
		mock_feed_record(&f->kernel.b, 21, "\1\0", 2);
		fixture_run(f);
		assert_graceful(f);
		assert_close_notify(&f->kernel.b);
		assert_out(&f->kernel.a, "answer", 6);
		fixture_free(f);
	}
}

static void what_the_kernel_refuses_is_a_reset(void **state)
{
	static const struct {
		const char *name;
		const char *message;
		bool transmit;
		int rekey_error;
		int write_error;
		enum postern_reason reason;
	} rows[] = {
	        {"TLS_RX refused", KEY_UPDATE, true, EBUSY, 0, REASON_KEY_UPDATE},
	        {"no memory", KEY_UPDATE, true, ENOMEM, 0, REASON_NO_MEMORY},
	        {"TLS_TX cannot be set again", KEY_UPDATE_ASKS, false, 0, 0, REASON_KEY_UPDATE},
	        {"B broken", KEY_UPDATE_ASKS, true, 0, ECONNRESET, REASON_BACKEND_RESET},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct fixture *f = rekeying(RELAY_KTLS_COPY, rows[i].transmit);

		f->kernel.b.rekey_error = rows[i].rekey_error;
		f->kernel.b.write_error = rows[i].write_error;
		mock_feed(&f->kernel.b, "before", 6);
		mock_feed_record(&f->kernel.b, 22, rows[i].message, 5);
		mock_feed(&f->kernel.b, "after", 5);
		wait_for(f, 2);
		if (f->ends != 1)
			fail_msg("%s: it lives", rows[i].name);
		assert_reset(f, rows[i].reason);
		assert_out(&f->kernel.a, "before", 6);
		fixture_free(f);
	}
}

/* OpenSSL reads, the kernel writes. */
static void an_answer_while_tickets_are_awaited(void **state)
{
	(void)state;
	for (int can = 0; can < 2; can++) {
		struct fixture *f = fixture_new(RELAY_TICKETS, TLS_VERSION_1_3);

		f->options.kernel_rekey = f->options.kernel_rekey_transmit = can != 0;
		fixture_start(f);
		f->session.update_requested = true;
		f->session.reads[f->session.read_count++] = (struct fake_read){-EAGAIN, NULL, true};
		mock_feed(&f->kernel.b, "r", 1);
		fixture_run(f);
		if (can) {
			assert_alive(f);
			assert_sent(f, 0, KEY_UPDATE, 0);
			assert_int_equal(f->kernel.b.rekeys[TRANSMIT], 1);
		} else {
			assert_reset(f, REASON_KEY_UPDATE);
		}
		fixture_free(f);
	}
}

/* RFC 8446 5.5: our own key changes before it has sealed too much. 1000 bytes are 65 blocks. */
static void a_write_key_at_its_limit_is_changed(void **state)
{
	uint8_t *sent = pattern(1000);

	(void)state;
	for (int can = 0; can < 2; can++) {
		struct fixture *f = rekeying(RELAY_KTLS_COPY, can != 0);

		f->worker.aead_limit_blocks = 200;
		for (int i = 0; i < 10 && !f->ends; i++) {
			mock_feed(&f->kernel.a, sent, 1000);
			fixture_run(f);
		}
		if (can) {
			assert_alive(f);
			assert_int_equal(f->kernel.b.out_size, 10000);
			assert_int_equal(f->kernel.b.control_count, 3);
			for (size_t i = 0; i < 3; i++)
				assert_sent(f, i, KEY_UPDATE, 3000 * (i + 1));
			assert_int_equal(f->kernel.b.rekeys[TRANSMIT], 3);
		} else {
			assert_reset(f, REASON_KEY_LIMIT);
			assert_int_equal(f->kernel.b.out_size, 3000);
		}
		fixture_free(f);
	}
	free(sent);
}

/* The backend's key: it is asked in time, and the connection ends if it does not hear. */
static void a_read_key_near_its_limit_is_asked_for(void **state)
{
	uint8_t *sent = pattern(1000);

	(void)state;
	for (int hears = 0; hears < 2; hears++) {
		struct fixture *f = rekeying(RELAY_KTLS_COPY, true);

		f->worker.aead_limit_blocks = 400;
		for (int i = 0; i < 20 && !f->ends; i++) {
			size_t asked = f->kernel.b.control_count;

			mock_feed(&f->kernel.b, sent, 1000);
			fixture_run(f);
			if (hears && f->kernel.b.control_count > asked) {
				mock_feed_record(&f->kernel.b, 22, KEY_UPDATE, 5);
				fixture_run(f);
			}
		}
		assert_sent(f, 0, KEY_UPDATE_ASKS, 0);
		if (hears) {
			assert_alive(f);
			assert_int_equal(f->kernel.a.out_size, 20000);
			assert_int_equal(f->kernel.b.control_count, 3); /* 6 reads of 67 blocks are more than 350 */
		} else {
			assert_reset(f, REASON_KEY_LIMIT);
			assert_int_equal(f->kernel.b.control_count, 1);
		}
		fixture_free(f);
	}
	free(sent);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(a_key_update_is_followed),
	        cmocka_unit_test(a_hidden_key_update_is_followed),
	        cmocka_unit_test(what_begins_like_one_is_a_reset),
	        cmocka_unit_test(one_that_asks_is_answered),
	        cmocka_unit_test(the_answer_waits_for_room),
	        cmocka_unit_test(no_answer_after_the_end),
	        cmocka_unit_test(what_the_kernel_refuses_is_a_reset),
	        cmocka_unit_test(an_answer_while_tickets_are_awaited),
	        cmocka_unit_test(a_write_key_at_its_limit_is_changed),
	        cmocka_unit_test(a_read_key_near_its_limit_is_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
