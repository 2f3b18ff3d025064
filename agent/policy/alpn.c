// SPDX-License-Identifier: GPL-2.0-only
/* Which protocol a port is offered (design section 6.1): the option, then appProtocol, then the Routes. */
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "policy/compilation.h"

static bool by_app_protocol(const struct service_port *port, enum alpn_protocol *alpn)
{
	static const char *const http_1_1[] = {"kubernetes.io/ws", "kubernetes.io/wss", "http", "https"};

	if (!strcmp(port->app_protocol, "kubernetes.io/h2c")) {
		*alpn = ALPN_H2;
		return true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(http_1_1); i++) {
		if (!strcasecmp(port->app_protocol, http_1_1[i])) {
			*alpn = ALPN_HTTP_1_1;
			return true;
		}
	}
	return false;
}

void choose_alpn(const struct compiler *compiler, const struct service_node *service, const struct service_port *port,
                 struct coverage *coverage)
{
	const unsigned int grpc = 1u << OBJECT_GRPC_ROUTE;
	const unsigned int opaque = 1u << OBJECT_TLS_ROUTE | 1u << OBJECT_TCP_ROUTE;
	const struct service_routes *routes = route_index_find(compiler->routes, service->namespace_, service->name);
	const struct tls_options *options = &coverage->policy->options;
	unsigned int kinds = 0;

	for (size_t i = 0; routes && i < routes->use_count; i++) {
		const struct route_use *use = &routes->uses[i];

		if (use->port && use->port != (port ? port->port : 0))
			continue;
		kinds |= 1u << use->kind;
		coverage->passthrough |= use->passthrough;
	}
	if (options->alpn_given) {
		coverage->alpn = options->alpn;
		return;
	}
	if (port && by_app_protocol(port, &coverage->alpn))
		return;
	if (kinds == grpc) {
		coverage->alpn = ALPN_H2;
	} else if (kinds && !(kinds & ~opaque)) {
		coverage->alpn = ALPN_NONE;
	} else {
		coverage->alpn = ALPN_HTTP_1_1;
		coverage->mixed_routes = kinds & grpc;
	}
}
