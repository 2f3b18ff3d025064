/* SPDX-License-Identifier: GPL-2.0-only */
#include "kernel_view.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/reason.h"
#include "base/version.h"
#include "observe/json.h"
#include "posternctl.h"

void kernel_view_note(struct kernel_view *view, const char *what, int number)
{
	if (view->error[0])
		return;
	if (what)
		(void)snprintf(view->error, sizeof(view->error), "%.160s: %s%s", what, strerror(number),
		               number == EPERM || number == EACCES ? " (it takes root)" : "");
	else
		(void)snprintf(view->error, sizeof(view->error), "%.250s", view->reader.error);
}

int kernel_view_open(struct kernel_view *view, const struct options *options)
{
	int length;

	view->error[0] = '\0';
	kernel_reader_open(&view->reader, options->bpftool);
	length = snprintf(view->directory, sizeof(view->directory), "%s/v%u", options->bpffs, postern_abi_version);
	if (length < 0 || length > PATH_MAX - 100) {
		view->directory[0] = '\0';
		kernel_view_note(view, "--bpffs", ENAMETOOLONG);
		return 0;
	}
	if (access(view->directory, F_OK) == 0)
		return 1;
	if (errno != ENOENT)
		kernel_view_note(view, view->directory, errno);
	return 0;
}

void kernel_view_close(struct kernel_view *view)
{
	kernel_reader_close(&view->reader);
}

int kernel_view_each(struct kernel_view *view, const char *map, size_t key_size, size_t value_size, bool per_cpu,
                     kernel_each each, void *context)
{
	char path[PATH_MAX];
	int result;

	(void)snprintf(path, sizeof(path), "%.3990s/%s", view->directory, map);
	result = kernel_map_each(&view->reader, path, key_size, value_size, per_cpu, each, context);
	if (result)
		kernel_view_note(view, NULL, 0);
	return result;
}

/* ---- what is counted ---- */

static void count_verdict(void *context, const void *key, const void *value)
{
	unsigned int *counts = context;
	const struct postern_destination *destination = value;

	(void)key;
	if (destination->verdict <= POSTERN_VERDICT_HOLD)
		counts[destination->verdict]++;
}

static json_t *count_destinations(struct kernel_view *view, bool pinned)
{
	unsigned int counts[POSTERN_VERDICT_HOLD + 1] = {0};

	if (pinned)
		(void)kernel_view_each(view, "destination_map", sizeof(struct postern_destination_key),
		                       sizeof(struct postern_destination), false, count_verdict, counts);
	return json_pack("{s:i, s:i, s:i}", "tls", (int)counts[POSTERN_VERDICT_TLS], "plain",
	                 (int)counts[POSTERN_VERDICT_PLAIN], "deny", (int)counts[POSTERN_VERDICT_DENY]);
}

static void count_bits(void *context, const void *key, const void *value)
{
	(void)key;
	*(unsigned int *)context += (unsigned int)__builtin_popcountll(*(const uint64_t *)value);
}

static void count_one(void *context, const void *key, const void *value)
{
	(void)key;
	(void)value;
	(*(unsigned int *)context)++;
}

static void take_config(void *context, const void *key, const void *value)
{
	(void)key;
	memcpy(context, value, sizeof(struct postern_runtime_config));
}

static void take_counter(void *context, const void *key, const void *value)
{
	json_t **object = context;
	const char *name = counter_name(*(const uint32_t *)key);

	if (name)
		json_set(object, name, json_integer((json_int_t) * (const uint64_t *)value));
}

static json_t *read_counters(struct kernel_view *view)
{
	json_t *object = json_object();

	(void)kernel_view_each(view, "counters", sizeof(uint32_t), sizeof(uint64_t), true, take_counter, &object);
	return object;
}

static void add_maps(struct kernel_view *view, json_t **document)
{
	struct postern_runtime_config config = {0};
	unsigned int guarded = 0;
	unsigned int cidrs = 0;

	(void)kernel_view_each(view, "guarded_ports", sizeof(uint32_t), sizeof(uint64_t), false, count_bits, &guarded);
	(void)kernel_view_each(view, "cluster_cidrs", sizeof(struct postern_cidr_key), sizeof(uint32_t), false,
	                       count_one, &cidrs);
	(void)kernel_view_each(view, "runtime_config", sizeof(uint32_t), sizeof(config), false, take_config, &config);
	json_set(document, "witness", kernel_witness(view));
	json_set(document, "guarded_ports", json_integer(guarded));
	json_set(document, "cluster_cidrs", json_integer(cidrs));
	json_set(document, "strict", json_boolean(config.strict));
	json_set(document, "lane", json_boolean(config.lane_enabled));
	json_set(document, "counters", read_counters(view));
}

json_t *kernel_document(const struct options *options)
{
	_cleanup_(kernel_view_close) struct kernel_view view;
	bool pinned = kernel_view_open(&view, options);
	json_t *document = json_object();

	json_set(&document, "pinned", json_boolean(pinned));
	json_set(&document, "reader", json_string(kernel_reader_name(&view.reader)));
	json_set(&document, "gateways", pinned ? kernel_gateways(&view) : json_array());
	json_set(&document, "destinations", count_destinations(&view, pinned));
	if (pinned)
		add_maps(&view, &document);
	json_set(&document, "error", json_text(view.error));
	return document;
}

/* ---- what a connect would find ---- */

struct judge {
	const struct postern_destination_key *key;
	struct kernel_verdict *verdict;
	bool exact;
	bool found;
};

static void match_destination(void *context, const void *key, const void *value)
{
	struct judge *judge = context;
	const struct postern_destination_key *seen = key;
	const struct postern_destination *destination = value;
	bool exact = seen->port == judge->key->port;

	if (memcmp(&seen->address, &judge->key->address, sizeof(seen->address)) != 0 || (!exact && seen->port != 0) ||
	    judge->exact)
		return;
	judge->found = true;
	judge->exact = exact;
	judge->verdict->any_port = !exact;
	judge->verdict->verdict = (enum postern_verdict)destination->verdict;
	judge->verdict->settings_id = destination->settings_id;
}

static void match_cidr(void *context, const void *key, const void *value)
{
	struct judge *judge = context;
	const struct postern_cidr_key *cidr = key;
	unsigned int bits = cidr->prefix_length < 128 ? cidr->prefix_length : 128;
	unsigned int whole = bits / 8;
	unsigned int rest = bits % 8;

	(void)value;
	if (memcmp(cidr->address.byte, judge->key->address.byte, whole) != 0)
		return;
	if (rest && ((cidr->address.byte[whole] ^ judge->key->address.byte[whole]) >> (8 - rest)) != 0)
		return;
	judge->verdict->in_cluster = true;
}

static void match_port(void *context, const void *key, const void *value)
{
	struct judge *judge = context;
	uint16_t port = ntohs(judge->key->port);

	if (*(const uint32_t *)key == port / 64)
		judge->verdict->guarded = *(const uint64_t *)value >> (port % 64) & 1;
}

int kernel_view_judge(struct kernel_view *view, const struct postern_destination_key *key,
                      struct kernel_verdict *verdict)
{
	struct judge judge = {.key = key, .verdict = verdict};
	struct postern_runtime_config config = {0};
	int result;

	*verdict = (struct kernel_verdict){0};
	result = kernel_view_each(view, "destination_map", sizeof(*key), sizeof(struct postern_destination), false,
	                          match_destination, &judge);
	if (!result)
		result = kernel_view_each(view, "cluster_cidrs", sizeof(struct postern_cidr_key), sizeof(uint32_t),
		                          false, match_cidr, &judge);
	if (!result)
		result = kernel_view_each(view, "guarded_ports", sizeof(uint32_t), sizeof(uint64_t), false, match_port,
		                          &judge);
	if (!result)
		result = kernel_view_each(view, "runtime_config", sizeof(uint32_t), sizeof(config), false, take_config,
		                          &config);
	verdict->strict = config.strict;
	if (!judge.found && verdict->in_cluster && (verdict->strict || verdict->guarded))
		verdict->verdict = POSTERN_VERDICT_HOLD;
	return result;
}
