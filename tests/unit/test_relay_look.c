/* SPDX-License-Identifier: GPL-2.0-only */
/* A KeyUpdate that the kernel hides, on the mock kernel: it is found in bounded time, and looking costs next to
 * nothing. */
#include "relay_fixture.h"

#define KEY_UPDATE "\30\0\0\1\0"

static const enum relay_mode kernel_modes[] = {RELAY_KTLS_COPY, RELAY_KTLS_SPLICE};

/* A kernel that can rekey gives no event for a KeyUpdate that it decrypted while it joined the data before it. */
static void hidden_key_update_is_found(void **state)
{
	static const struct {
		const char *name;
		size_t size;
		bool blocked;
		bool at_once;
	} data[] = {
	        {"small message", 100, false, false},
	        {"empty record", 0, false, false},
	        {"stream", 100000, false, false},
	        {"small message to a slow gateway", 100, true, true},
	        {"stream to a slow gateway", 100000, true, true},
	};
	uint8_t *sent = pattern(100000);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(data); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(kernel_modes); j++) {
			struct fixture *f = fixture_new(kernel_modes[j], TLS_VERSION_1_3);
			uint64_t before = monotonic_ns();

			f->options.kernel_rekey = true;
			f->kernel.b.hides_key_update = true;
			fixture_start(f);
			if (data[i].blocked)
				f->kernel.a.room = 10;
			mock_feed(&f->kernel.b, sent, data[i].size);
			mock_feed_record(&f->kernel.b, 22, KEY_UPDATE, 5);
			fixture_run(f);
			assert_true(f->kernel.b.key_update_pending || f->ends);
			if (data[i].blocked) {
				assert_alive(f);
				f->kernel.a.room = SIZE_MAX;
				fixture_run(f);
			}
			/* The look was not at once, unless the machine was slower than a look is late. */
			if (f->ends != (data[i].at_once ? 1 : 0) && monotonic_ns() - before < 5 * MILLISECOND)
				fail_msg("%s: seen %u ends", data[i].name, f->ends);
			if (!data[i].at_once)
				fixture_wait_end(f);
			assert_reset(f, REASON_KEY_UPDATE);
			assert_out(&f->kernel.a, sent, data[i].size);
			fixture_free(f);
		}
	}
	free(sent);
}

/* It costs a call for all the small messages of RELAY_LOOK_ALL_NS, none in a stream, none where nothing is hidden. */
static void look_is_cheap(void **state)
{
	static const struct {
		enum tls_version version;
		bool kernel_rekey;
		size_t size;
		bool looks;
	} data[] = {
	        {TLS_VERSION_1_3, false, 100, false},
	        {TLS_VERSION_1_2, true, 100, false},
	        {TLS_VERSION_1_3, true, 100, true},
	        {TLS_VERSION_1_3, true, 50000, false},
	};
	uint8_t *sent = pattern(50000);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(data); i++) {
		struct fixture *f = fixture_new(RELAY_KTLS_COPY, data[i].version);

		f->options.kernel_rekey = data[i].kernel_rekey;
		fixture_start(f);
		for (unsigned int n = 1; n <= 4; n++) {
			mock_feed(&f->kernel.b, sent, data[i].size);
			fixture_run(f);
			if (n == 1 && f->worker.look_timer.due_ns)
				fixture_set_timer(f, &f->worker.look_timer, MINUTE);
			if (n == 1 && f->relay->look_timer.due_ns)
				fixture_set_timer(f, &f->relay->look_timer, MINUTE);
			if (f->kernel.b.recvmsg_calls != n)
				fail_msg("row %zu, message %u: expected %u calls, seen %u", i, n, n,
				         f->kernel.b.recvmsg_calls);
		}
		if ((f->worker.looks != NULL) != data[i].looks)
			fail_msg("row %zu: expected a look %d, seen %d", i, data[i].looks, f->worker.looks != NULL);
		fixture_free(f);
	}
	free(sent);
}

/* However many messages come, the look is not put off; when nothing was read since, none follows. */
static void the_look_comes_in_time(void **state)
{
	struct fixture *f = fixture_new(RELAY_KTLS_COPY, TLS_VERSION_1_3);
	uint64_t before, due;

	(void)state;
	f->options.kernel_rekey = true;
	fixture_start(f);
	before = monotonic_ns();
	mock_feed(&f->kernel.b, "x", 1);
	fixture_run(f);
	due = f->worker.look_timer.due_ns;
	assert_in_range(due, before + RELAY_LOOK_ALL_NS, monotonic_ns() + RELAY_LOOK_ALL_NS);
	fixture_set_timer(f, &f->worker.look_timer, MINUTE);
	due = f->worker.look_timer.due_ns;
	for (int i = 0; i < 10; i++) {
		mock_feed(&f->kernel.b, "x", 1);
		fixture_run(f);
		assert_int_equal(f->worker.look_timer.due_ns, due);
	}
	assert_int_equal(f->kernel.b.recvmsg_calls, 11);
	fixture_expire(f, &f->worker.look_timer);
	assert_int_equal(f->kernel.b.recvmsg_calls, 12);
	assert_null(f->worker.looks);
	assert_int_equal(f->worker.look_timer.due_ns, 0);
	mock_feed(&f->kernel.b, "x", 1);
	fixture_run(f);
	assert_int_not_equal(f->worker.look_timer.due_ns, 0);
	fixture_free(f);
}

#define MANY 200

/* Of many connections some at a time, the oldest first; one that ends meanwhile is not looked at. */
static void many_take_turns(void **state)
{
	static struct relay relays[MANY];
	struct fixture *f = fixture_new(RELAY_KTLS_COPY, TLS_VERSION_1_3);
	unsigned int turns = 0;
	size_t next = 1;

	(void)state;
	fixture_start(f);
	for (size_t i = 0; i < MANY; i++) {
		relays[i] = (struct relay){.worker = &f->worker, .hides_key_update = true, .joined = 1};
		relay_look_later(&relays[i]);
		assert_non_null(relays[i].look_link);
		relays[i].ended = true; /* a look at it does nothing */
	}
	relay_look_forget(&relays[0]);
	relay_look_forget(&relays[MANY / 2]);
	relay_look_forget(&relays[MANY - 1]);
	while (f->worker.looks) {
		uint64_t due = f->worker.look_timer.due_ns;
		size_t before = next;

		assert_int_not_equal(due, 0);
		while (f->worker.look_timer.due_ns == due)
			fixture_wait(f, 1);
		while (next < MANY && !relays[next].look_link)
			next++;
		for (size_t i = next; i < MANY; i++) {
			if (!relays[i].look_link && i != MANY / 2 && i != MANY - 1)
				fail_msg("relay %zu was looked at before relay %zu", i, next);
		}
		assert_true(next > before);
		turns++;
	}
	assert_int_equal(next, MANY);
	assert_true(turns > 1);
	assert_ptr_equal(f->worker.looks_end, &f->worker.looks);
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(hidden_key_update_is_found),
	        cmocka_unit_test(look_is_cheap),
	        cmocka_unit_test(the_look_comes_in_time),
	        cmocka_unit_test(many_take_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
