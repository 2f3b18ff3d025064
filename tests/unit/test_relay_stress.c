/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The relay between real sockets in every mode that this kernel has, with random sizes, buffers, pauses and records,
 * byte for byte both ways: for two seconds, or POSTERN_RELAY_STRESS_SECONDS. The seed is printed, and
 * POSTERN_RELAY_STRESS_SEED runs it again and names each run before it begins.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "datapath/proof.h"
#include "relay_ends.h"

static uint64_t random_state;

static uint32_t random_below(uint32_t limit)
{
	random_state ^= random_state << 13; /* xorshift64 */
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)((random_state >> 20) % limit);
}

/* One of the values, or, as often, 0: the kernel's or the peer's own choice. */
static size_t one_of(const size_t *values, size_t count)
{
	return random_below(2) ? values[random_below((uint32_t)count)] : 0;
}

static void choose_end(struct end_options *end)
{
	static const size_t sends[] = {1, 5000, 70000, 600000, 3000000, 9000000};
	static const size_t steps[] = {1, 700, 4096, 16384, 16385, 40000};
	static const size_t reads[] = {512, 4000, 33333};
	static const size_t pauses[] = {20, 200, 1500};

	end->send = sends[random_below(ARRAY_SIZE(sends))] + random_below(3000);
	end->write_step = one_of(steps, ARRAY_SIZE(steps));
	if (random_below(2)) {
		end->read_step = one_of(reads, ARRAY_SIZE(reads));
		end->pause = (unsigned int)one_of(pauses, ARRAY_SIZE(pauses));
	}
	/* Each turn of an end moves this much and pauses: no run is to take minutes. */
	if (end->write_step == 1)
		end->send = end->send % 20000 + 1;
	else if (end->pause || end->read_step || (end->write_step && end->write_step < 4096))
		end->send = end->send % 300000 + 1;
}

static void choose_run(struct relay_run *run, const struct proof *proof, bool kernel)
{
	static const size_t buffers[] = {4096, 16384, 65536};
	static const size_t paddings[] = {64, 512};
	static const char *const suites[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"};

	*run = (struct relay_run){.tls = random_below(8) != 0};
	run->version = random_below(4) ? TLS_VERSION_1_3 : TLS_VERSION_1_2;
	run->kernel = run->tls && kernel && random_below(8);
	run->splice = random_below(2);
	run->tickets = random_below(3);
	if (run->version == TLS_VERSION_1_3) {
		uint32_t suite = random_below(ARRAY_SIZE(suites));

		run->suite = suites[suite];
		run->padding = run->tls ? one_of(paddings, ARRAY_SIZE(paddings)) : 0;
		run->no_pad = kernel && random_below(2) &&
		              proof_allows(proof, PROOF_NO_PAD, TLS_DIRECTION_RECEIVE, run->version,
		                           suite ? TLS_CIPHER_AES_256 : TLS_CIPHER_AES_128);
	}
	run->rekey = kernel && proof->rekey[TLS_DIRECTION_RECEIVE].verdict == PROOF_SAFE;
	run->b_send_buffer = (int)one_of(buffers, ARRAY_SIZE(buffers));
	run->s_receive_buffer = (int)one_of(buffers, ARRAY_SIZE(buffers));
	run->timeouts.half_closed_ns = 5000000;
	/* Data before, at and after the moment at which TLS_RX is armed without any. */
	run->timeouts.ticket_window_ns = 1 + random_below(3000000);
	choose_end(&run->gateway);
	choose_end(&run->backend);
	run->gateway.end = END_WHEN_SENT;
	run->backend.end = END_WHEN_DONE;
	if (run->tls && run->version == TLS_VERSION_1_3 && random_below(4) == 0)
		run->backend.tickets_every = 10000 + random_below(200000);
}

static void random_runs_are_exact(void **state)
{
	const char *wanted = getenv("POSTERN_RELAY_STRESS_SECONDS");
	const char *seed = getenv("POSTERN_RELAY_STRESS_SEED");
	uint64_t end = monotonic_ns() + (wanted ? strtoull(wanted, NULL, 10) : 2) * 1000000000;
	uint64_t bytes = 0;
	unsigned int runs = 0;
	struct proof *proof = calloc(1, sizeof(*proof));
	bool kernel = kernel_has_tls();

	(void)state;
	assert_non_null(proof);
	random_state = seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL) * 2654435761u + 1;
	print_message("seed %llu\n", (unsigned long long)random_state);
	if (kernel)
		proof_run_crypto(proof);
	do {
		struct relay_run run;
		char name[256];

		choose_run(&run, proof, kernel);
		snprintf(name, sizeof(name),
		         "run %u: tls %d kernel %d version %d splice %d no_pad %d, up %zu by %zu, down %zu by %zu, "
		         "buffers "
		         "%d %d, padding %zu",
		         runs, run.tls, run.kernel, (int)run.version, run.splice, run.no_pad, run.gateway.send,
		         run.gateway.write_step, run.backend.send, run.backend.write_step, run.b_send_buffer,
		         run.s_receive_buffer, run.padding);
		if (seed)
			print_message("%s\n", name);
		relay_run(&run);
		assert_run_exact(name, &run);
		bytes += run.gateway.send + run.backend.send;
		runs++;
	} while (monotonic_ns() < end);
	print_message("%u runs, %llu MB, %s TLS in the kernel\n", runs, (unsigned long long)(bytes >> 20),
	              kernel ? "with" : "without");
	free(proof);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(random_runs_are_exact),
	};
	int failed;

	relay_runs_begin();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	relay_runs_end();
	return failed;
}
