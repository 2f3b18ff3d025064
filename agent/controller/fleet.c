/* SPDX-License-Identifier: GPL-2.0-only */
#include "controller/fleet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "controller/conditions.h"
#include "controller/enrolments.h"
#include "controller/json_cleanup.h"
#include "kubernetes/watch.h"

struct fleet {
	struct fleet_options options;
	struct kubernetes_watch *watch;
	json_t *nodes;  /* name of the Pod -> [its node, its address]; the node is "" while it is not ready */
	json_t *listed; /* names in the list that is under way; NULL: none is */
};

static const char *text(const json_t *object, const char *part, const char *key)
{
	const char *value = json_string_value(json_object_get(json_object_get(object, part), key));

	return value ? value : "";
}

static bool is_ready(const json_t *pod)
{
	const json_t *ready = condition_find(json_object_get(json_object_get(pod, "status"), "conditions"), "Ready");
	const char *status = json_string_value(json_object_get(ready, "status"));

	return status && !strcmp(status, "True") &&
	       !json_object_get(json_object_get(pod, "metadata"), "deletionTimestamp");
}

/* node NULL: the Pod is gone. */
static void set_node(struct fleet *fleet, const char *name, const char *node, const char *address)
{
	json_t *place = node ? json_pack("[s, s]", node, address) : NULL;

	if (place && json_equal(json_object_get(fleet->nodes, name), place)) {
		json_decref(place);
		return;
	}
	if (place)
		(void)json_object_set_new(fleet->nodes, name, place);
	else if (json_object_del(fleet->nodes, name) < 0)
		return;
	fleet->options.on_change(fleet->options.context);
}

static const char *node_of(const json_t *place)
{
	const char *node = json_string_value(json_array_get(place, 0));

	return node ? node : "";
}

static void on_object(void *context, json_t *object)
{
	struct fleet *fleet = context;
	const char *name = text(object, "metadata", "name");

	if (fleet->listed)
		(void)json_object_set_new(fleet->listed, name, json_true());
	set_node(fleet, name, is_ready(object) ? text(object, "spec", "nodeName") : "",
	         text(object, "status", "podIP"));
}

static void on_removed(void *context, const char *namespace_, const char *name)
{
	(void)namespace_;
	set_node(context, name, NULL, NULL);
}

static void on_list(void *context, bool begins)
{
	struct fleet *fleet = context;
	_cleanup_json_ json_t *listed = TAKE_PTR(fleet->listed);
	const char *name;
	json_t *place;
	void *next;

	if (begins) {
		fleet->listed = json_object();
		return;
	}
	json_object_foreach_safe (fleet->nodes, next, name, place) /* what the list did not show is gone */
		if (listed && !json_object_get(listed, name))
			set_node(fleet, name, NULL, NULL);
	fleet->options.on_change(fleet->options.context);
}

bool fleet_synced(const struct fleet *fleet)
{
	return kubernetes_watch_statistics(fleet->watch)->synced;
}

bool fleet_node_is_ready(const struct fleet *fleet, const char *node)
{
	const char *name;
	json_t *value;

	json_object_foreach (fleet->nodes, name, value)
		if (*node && !strcmp(node_of(value), node))
			return true;
	return false;
}

size_t fleet_agents_of(const struct fleet *fleet, const char *node, struct fleet_agent *at, size_t max)
{
	const char *name;
	json_t *value;
	size_t count = 0;

	json_object_foreach (fleet->nodes, name, value) {
		const char *address = json_string_value(json_array_get(value, 1));

		if (count < max && *node && !strcmp(node_of(value), node) && address && *address)
			at[count++] = (struct fleet_agent){name, address};
	}
	return count;
}

size_t fleet_agents(const struct fleet *fleet)
{
	return json_object_size(fleet->nodes);
}

size_t fleet_ready_agents(const struct fleet *fleet)
{
	const char *name;
	json_t *value;
	size_t count = 0;

	json_object_foreach (fleet->nodes, name, value)
		count += *node_of(value) != '\0';
	return count;
}

int fleet_new(const struct fleet_options *options, struct fleet **result)
{
	struct fleet *fleet = calloc(1, sizeof(*fleet));
	struct kubernetes_watch_options watch = {
	        .group = "",
	        .version = "v1",
	        .namespace_ = options->namespace_,
	        .resource = "pods",
	        .name = "",
	        .label_selector = options->selector,
	        .field_selector = "",
	        .on_object = on_object,
	        .on_removed = on_removed,
	        .on_list = on_list,
	        .context = fleet,
	};

	if (!fleet)
		return -ENOMEM;
	fleet->options = *options;
	fleet->nodes = json_object();
	fleet->watch = fleet->nodes ? kubernetes_watch_new(options->loop, options->client, &watch) : NULL;
	if (!fleet->watch) {
		fleet_free(fleet);
		return -ENOMEM;
	}
	*result = fleet;
	return 0;
}

void fleet_free(struct fleet *fleet)
{
	if (!fleet)
		return;
	kubernetes_watch_free(fleet->watch);
	json_decref(fleet->nodes);
	json_decref(fleet->listed);
	free(fleet);
}
