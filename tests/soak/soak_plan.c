/* SPDX-License-Identifier: GPL-2.0-only */
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "soak.h"

/* No size of a record, page or buffer divides it, so that what is shifted, doubled or missing shows. */
#define PERIOD 1048573

static uint8_t noise[PERIOD + SOAK_CHUNK];

struct dice {
	uint64_t state;
};

static uint64_t roll(struct dice *dice) /* splitmix64 */
{
	uint64_t x = dice->state += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* 0 .. 2^bits, each power of two as likely as the others. */
static size_t roll_size(struct dice *dice, unsigned int bits)
{
	unsigned int power = (unsigned int)(roll(dice) % (bits + 1));

	return power == 0 ? roll(dice) % 2 : (size_t)1 << (power - 1) | roll(dice) % ((size_t)1 << (power - 1));
}

static size_t roll_step(struct dice *dice, size_t size)
{
	static const size_t steps[] = {SOAK_CHUNK, SOAK_CHUNK, SOAK_CHUNK, 16384, 16385, 16383,
	                               8192,       4096,       1447,       1000,  77,    1};
	size_t step = steps[roll(dice) % ARRAY_SIZE(steps)];

	/* Small steps cost as much as large ones: not for the many bytes. */
	return size / step > 4096 ? SOAK_CHUNK : step;
}

static void plan_side(struct dice *dice, struct soak_side *side)
{
	side->send = roll_size(dice, 27);
	side->write_step = roll_step(dice, side->send);
	side->read_step = roll(dice) % 2 ? SOAK_CHUNK : 1 + roll(dice) % SOAK_CHUNK;
	if (roll(dice) % 4 == 0) {
		side->pause_us = 1 + (unsigned int)(roll(dice) % 20000);
		side->pause_every = side->send / (1 + roll(dice) % 20) + 1;
	}
}

void soak_plan_make(struct soak_plan *plan, uint64_t seed, uint64_t number)
{
	struct dice dice = {.state = seed ^ number * UINT64_C(0xd1342543de82ef95)};
	struct soak_side *gateway = &plan->side[0];
	struct soak_side *backend = &plan->side[1];

	*plan = (struct soak_plan){.number = number, .tls = roll(&dice) % 2 != 0};
	plan->version = roll(&dice) % 2 ? TLS_VERSION_1_3 : TLS_VERSION_1_2;
	plan->suite = (int)(roll(&dice) % TLS_KERNEL_CIPHERS);
	plan->phase[0] = roll(&dice) % PERIOD;
	plan->phase[1] = roll(&dice) % PERIOD;
	plan_side(&dice, gateway);
	plan_side(&dice, backend);
	switch (roll(&dice) % 8) {
	case 0:
	case 1:
		gateway->end = SOAK_END_WHEN_SENT;
		/* TLS 1.2 holds close_notify back until the backend has ended. */
		backend->end = plan->tls && plan->version == TLS_VERSION_1_2 ? SOAK_END_WHEN_DONE : SOAK_END_AFTER_PEER;
		break;
	case 2:
		gateway->end = SOAK_END_AFTER_PEER;
		backend->end = SOAK_END_WHEN_SENT;
		break;
	case 3:
		gateway->end = SOAK_END_BY_RESET;
		backend->end = SOAK_END_AFTER_PEER;
		break;
	case 4:
		gateway->end = SOAK_END_AFTER_PEER;
		backend->end = SOAK_END_BY_RESET;
		break;
	default:
		gateway->end = SOAK_END_WHEN_SENT;
		backend->end = SOAK_END_WHEN_DONE;
		break;
	}
}

void soak_plan_print(const struct soak_plan *plan)
{
	static const char *const ends[] = {"half-closes when all is sent", "ends when done", "ends after its peer",
	                                   "resets"};
	static const char *const who[] = {"G", "S"};

	printf("connection %llu: %s%s%s\n", (unsigned long long)plan->number,
	       plan->tls ? tls_version_name(plan->version) : "plain", plan->tls ? " " : "",
	       plan->tls ? tls_cipher_name((enum tls_cipher)plan->suite) : "");
	for (int i = 0; i < 2; i++) {
		const struct soak_side *side = &plan->side[i];

		printf("  %s sends %zu bytes by %zu, reads by %zu, rests %u us every %zu bytes, %s\n", who[i],
		       side->send, side->write_step, side->read_step, side->pause_us, side->pause_every,
		       ends[side->end]);
	}
}

void soak_noise_make(void)
{
	struct dice dice = {.state = 1};

	for (size_t i = 0; i < PERIOD; i++)
		noise[i] = (uint8_t)roll(&dice);
	memcpy(noise + PERIOD, noise, SOAK_CHUNK);
}

const uint8_t *soak_noise(const struct soak_plan *plan, unsigned int sender, size_t at)
{
	return &noise[(plan->phase[sender] + at) % PERIOD];
}

static void print_bytes(const char *what, const uint8_t *bytes, size_t size)
{
	printf("  %s", what);
	for (size_t i = 0; i < size && i < 32; i++)
		printf(" %02x", bytes[i]);
	printf("\n");
}

void soak_print_wrong(const struct soak_plan *plan, unsigned int sender, size_t at, const uint8_t *seen, size_t size)
{
	const uint8_t *right = soak_noise(plan, sender, at);
	size_t first = 0;
	size_t unlike = 0;

	while (first < size && seen[first] == right[first])
		first++;
	for (size_t i = first; i < size; i++)
		unlike += seen[i] != right[i];
	printf("WRONG: %s's stream, byte %zu (in a read of %zu at %zu; %zu of the %zu behind it differ)\n",
	       sender ? "S" : "G", at + first, size, at, unlike, size - first);
	print_bytes("expected", right + first, size - first);
	print_bytes("seen    ", seen + first, size - first);
	for (size_t place = 0; size - first >= 16 && place < PERIOD; place++) {
		if (memcmp(seen + first, noise + place, 16) == 0) {
			size_t here = (plan->phase[sender] + at + first) % PERIOD;

			printf("  what was seen is the stream's own, %lld bytes away (modulo %d)\n",
			       (long long)place - (long long)here, PERIOD);
			return;
		}
	}
	printf("  what was seen is nowhere in the noise: damaged, or another's\n");
}
