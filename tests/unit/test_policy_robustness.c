// SPDX-License-Identifier: GPL-2.0-only
/*
 * Truncations, flipped bits and swapped lines of good manifests, through YAML, decoding, store, quarantine and compile:
 * nothing crashes (run it under ASan), and nothing turns a covered destination into a plain one unless the text that is
 * left really says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "policy_fixture.h"
#include "source/manifest.h"

static const char manifest[] =
        "apiVersion: v1\n"
        "kind: Service\n"
        "metadata: {name: echo, namespace: default, creationTimestamp: '2024-01-01T00:00:00Z', generation: 3}\n"
        "spec:\n"
        "  clusterIPs: [10.96.0.1, 'fd00::1']\n"
        "  ports:\n"
        "  - {name: a, port: 443, targetPort: 8443, nodePort: 30443, appProtocol: HTTPS}\n"
        "  - {name: u, port: 53, protocol: UDP}\n"
        "---\n"
        "apiVersion: discovery.k8s.io/v1\n"
        "kind: EndpointSlice\n"
        "metadata:\n"
        "  name: echo-1\n"
        "  labels: {kubernetes.io/service-name: echo,"
        " endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io}\n"
        "addressType: IPv4\n"
        "endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, namespace: default, name: x}}]\n"
        "ports: [{name: a, port: 8443}, {name: 'n', port: null}]\n"
        "---\n"
        "apiVersion: v1\n"
        "kind: List\n"
        "items:\n"
        "- apiVersion: gateway.networking.k8s.io/v1\n"
        "  kind: BackendTLSPolicy\n"
        "  metadata: {name: p}\n"
        "  spec:\n"
        "    targetRefs: [{group: '', kind: Service, name: echo, sectionName: a}]\n"
        "    options: {postern.dev/alpn: h2, postern.dev/idle-timeout: 1m30s, example.com/x: 'y'}\n"
        "    validation:\n"
        "      hostname: echo.example.com\n"
        "      subjectAltNames: [{type: URI, uri: 'spiffe://example.org/a'}, {type: Hostname, hostname: a.b}]\n"
        "      caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]\n"
        "- apiVersion: gateway.networking.k8s.io/v1\n"
        "  kind: GRPCRoute\n"
        "  metadata: {name: r}\n"
        "  spec: {rules: [{backendRefs: [{name: echo, port: 443}]}]}\n"
        "- apiVersion: networking.k8s.io/v1\n"
        "  kind: ServiceCIDR\n"
        "  metadata: {name: c}\n"
        "  spec: {cidrs: [10.96.0.0/12]}\n";

/* What files.c does with one file: in force if it is sound, else all of it in quarantine. */
static void apply(struct policy_fixture *fixture, const char *text, size_t size)
{
	struct manifest *parsed = manifest_new("damaged.yaml", text, size);
	const struct decoded *decoded;

	assert_non_null(parsed);
	decoded = &parsed->decoded;
	for (size_t i = 0; i < decoded->object_count; i++) {
		if (manifest_is_broken(parsed))
			assert_int_equal(object_store_quarantine(fixture->store, decoded->objects[i], "broken"), 0);
		else
			assert_int_equal(object_store_put(fixture->store, decoded->objects[i]), 0);
	}
	for (size_t i = 0; i < decoded->visible_count; i++)
		assert_int_equal(object_store_quarantine(fixture->store, decoded->visible[i], "broken"), 0);
	manifest_free(parsed);
}

static void compile_and_look(struct policy_fixture *fixture)
{
	fixture_compile(fixture);
	for (size_t i = 0; i < snapshot_policy_count(fixture->snapshot); i++) {
		const struct policy_status *policy = snapshot_policy_at(fixture->snapshot, i);

		assert_true(strlen(policy->accepted.message) && strlen(policy->resolved_refs.message));
		assert_true(strlen(policy->accepted.reason) && strlen(policy->resolved_refs.reason));
	}
	for (size_t i = 0; i < snapshot_destination_count(fixture->snapshot); i++) {
		const struct destination *destination = snapshot_destination_at(fixture->snapshot, i);

		if (i)
			assert_true(memcmp(&snapshot_destination_at(fixture->snapshot, i - 1)->key, &destination->key,
			                   18) < 0);
		if (destination->verdict == POSTERN_VERDICT_TLS)
			assert_non_null(snapshot_settings(fixture->snapshot, destination->settings_id));
		if (destination->verdict == POSTERN_VERDICT_DENY)
			assert_int_not_equal(destination->reason, REASON_NONE);
		if (destination->policy != SNAPSHOT_NO_POLICY)
			assert_true(destination->policy < snapshot_policy_count(fixture->snapshot));
	}
}

static struct policy_fixture *judge(const char *text, size_t size)
{
	struct policy_fixture *fixture = policy_fixture_new();

	apply(fixture, text, size);
	compile_and_look(fixture);
	return fixture;
}

static void truncations(void **state)
{
	(void)state;
	for (size_t size = 0; size < sizeof(manifest); size++)
		policy_fixture_free(judge(manifest, size));
}

static void flipped_bits(void **state)
{
	char text[sizeof(manifest)];

	(void)state;
	for (size_t i = 0; i < sizeof(manifest) - 1; i++) {
		for (int bit = (int)(i % 4); bit < 8; bit += 4) {
			memcpy(text, manifest, sizeof(manifest));
			text[i] ^= (char)(1 << bit);
			policy_fixture_free(judge(text, sizeof(manifest) - 1));
		}
	}
}

/* A small generator of its own: the same sequence everywhere. */
static uint32_t next_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

/* A piece of the manifest, put in anywhere. */
static size_t splice(char *text, size_t size, size_t capacity, uint32_t *seed)
{
	size_t length = next_random(seed) % 64, from = next_random(seed) % (sizeof(manifest) - 64);
	size_t to = next_random(seed) % size;

	if (length > capacity - size)
		length = capacity - size;
	memmove(text + to + length, text + to, size - to);
	memcpy(text + to, manifest + from, length);
	return size + length;
}

/* Pieces of the text put elsewhere, several times over; the fixture lives on, so states pile up. */
static void spliced(void **state)
{
	char text[2 * sizeof(manifest)];
	uint32_t seed = 20240501;

	(void)state;
	for (int round = 0; round < 60; round++) {
		struct policy_fixture *fixture = policy_fixture_new();

		for (int version = 0; version < 10; version++) {
			size_t size = sizeof(manifest) - 1;

			memcpy(text, manifest, sizeof(manifest));
			for (uint32_t cuts = next_random(&seed) % 4; cuts > 0; cuts--)
				size = splice(text, size, sizeof(text), &seed);
			apply(fixture, text, size);
			fixture->options.now_ns += 100000000000ull;
			compile_and_look(fixture);
		}
		policy_fixture_free(fixture);
	}
}

static const char service[] =
        "{apiVersion: v1, kind: Service, metadata: {name: echo}, spec: {clusterIP: 10.96.0.1, ports: [{port: 443}]}}";
static const char head[] = "apiVersion: gateway.networking.k8s.io/v1\n"
                           "kind: BackendTLSPolicy\n"
                           "metadata: {name: p}\n"
                           "spec:\n";
static const char targets[] = "  targetRefs: [{group: '', kind: Service, name: echo}]\n";
static const char rest[] = "  options: {postern.dev/alpn: h2}\n"
                           "  validation:\n"
                           "    hostname: echo.example.com\n"
                           "    subjectAltNames: [{type: Hostname, hostname: a.b}]\n"
                           "    caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]\n";

/* Flip each bit of text from start to end; the Service is sound, in a file of its own. Returns how often it was plain.
 */
static size_t flip_and_judge(const char *good, size_t start, size_t end)
{
	size_t plain = 0, unreadable = 0, size = strlen(good);
	char text[sizeof(head) + sizeof(targets) + sizeof(rest)];

	for (size_t i = start; i < end; i++) {
		for (int bit = 0; bit < 7; bit++) { /* the eighth makes it no ASCII: like the control characters */
			struct policy_fixture *fixture = policy_fixture_new();
			struct manifest *parsed;

			snprintf(text, sizeof(text), "%s", good);
			text[i] ^= (char)(1 << bit);
			parsed = manifest_new("damaged.yaml", text, size);
			unreadable += parsed->unreadable != NULL;
			manifest_free(parsed);
			apply(fixture, text, size);
			fixture_add(fixture, service);
			compile_and_look(fixture);
			if (!strcmp(fixture_verdict(fixture, "10.96.0.1", 443), "PLAIN")) {
				plain++;
				print_message("plain after byte %zu bit %d:\n%s\n", i, bit, text);
			}
			policy_fixture_free(fixture);
		}
	}
	print_message("%zu damages, %zu of them no YAML any more, %zu times plain\n", 7 * (end - start), unreadable,
	              plain);
	return plain;
}

/* Damage beside the targets, which are still there to be seen: the Service is not plain. */
static void damage_after_the_targets_never_uncovers(void **state)
{
	char good[sizeof(head) + sizeof(targets) + sizeof(rest)];

	(void)state;
	snprintf(good, sizeof(good), "%s%s%s", head, targets, rest);
	assert_int_equal(flip_and_judge(good, strlen(good) - strlen(rest), strlen(good)), 0);
}

static void damage_before_the_targets_never_uncovers(void **state)
{
	char good[sizeof(head) + sizeof(targets) + sizeof(rest)];

	(void)state;
	snprintf(good, sizeof(good), "%s%s%s", head, rest, targets);
	assert_int_equal(flip_and_judge(good, strlen(head), strlen(head) + strlen(rest)), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(truncations),
	        cmocka_unit_test(flipped_bits),
	        cmocka_unit_test(spliced),
	        cmocka_unit_test(damage_after_the_targets_never_uncovers),
	        cmocka_unit_test(damage_before_the_targets_never_uncovers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
