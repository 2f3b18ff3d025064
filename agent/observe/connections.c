/* SPDX-License-Identifier: GPL-2.0-only */
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "datapath/ulp_info.h"
#include "datapath/worker.h"
#include "observe/json.h"
#include "observe/status.h"

json_t *connection_row(const struct connection_view *view)
{
	const struct relay_stats *stats = &view->stats;
	json_t *row = json_object();

	json_set(&row, "gateway", json_text(view->gateway));
	json_set(&row, "gateway_port", json_integer(view->gateway_port));
	json_set(&row, "backend_port", json_integer(view->b_port));
	json_set(&row, "destination", json_destination(&view->destination));
	json_set(&row, "policy", json_text(view->policy));
	json_set(&row, "sni", json_text(view->sni));
	json_set(&row, "peer", json_text(view->peer_identity));
	json_set(&row, "tls_version", json_text(view->tls_version));
	json_set(&row, "cipher", json_text(view->cipher));
	json_set(&row, "alpn", json_text(view->alpn));
	json_set(&row, "resumed", json_boolean(view->resumed));
	json_set(&row, "client_certificate", json_boolean(view->shows_certificate));
	json_set(&row, "draining", json_boolean(view->draining));
	json_set(&row, "peer_valid_until", json_integer(view->peer_valid_until));
	json_set(&row, "to_backend", json_text(relay_mode_name(stats->to_backend)));
	json_set(&row, "to_gateway", json_text(relay_mode_name(stats->to_gateway)));
	json_set(&row, "mode_reason", json_text(reason_name(stats->mode_reason)));
	json_set(&row, "lane", json_boolean(stats->lane));
	json_set(&row, "ulp", json_text(view->ulp));
	json_set(&row, "bytes_to_backend", json_integer((json_int_t)stats->bytes_to_backend));
	json_set(&row, "bytes_to_gateway", json_integer((json_int_t)stats->bytes_to_gateway));
	json_set(&row, "age_seconds", json_seconds(view->age_ns));
	return row;
}

static json_t *not_whole(size_t worker, int error)
{
	log_warning("worker's connections cannot be listed", "worker=%zu errno=%d", worker, -error);
	return json_pack("{s:o}", "error",
	                 json_sprintf("worker %zu cannot say what connections it has: %s", worker, strerror(-error)));
}

json_t *connections_document(const struct status_sources *sources)
{
	_cleanup_free_ struct connection_view *views = NULL;
	size_t count = 0, silent = 0;
	int error = worker_list_connections(sources->workers, sources->worker_count, &views, &count, &silent);
	json_t *rows;

	if (error)
		return not_whole(silent, error);
	error = count ? ulp_info_fill(sources->gateways, sources->gateway_count, views, count) : 0;
	if (error)
		log_warning("the kernel's word about B cannot be read", "errno=%d", -error);
	rows = json_array();
	for (size_t i = 0; i < count; i++)
		json_append(&rows, connection_row(&views[i]));
	return rows;
}
