// SPDX-License-Identifier: GPL-2.0-only
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <cmocka.h>

#include "tls_client.h"

struct tls_settings client_settings(char *ca_pem)
{
	return (struct tls_settings){
	        .id = 1,
	        .hostname = "backend.example",
	        .ca_pem = ca_pem,
	        .min_version = TLS1_2_VERSION,
	        .max_version = TLS1_3_VERSION,
	        .verify_depth = -1,
	};
}

void client_start(struct tls_client *client, const struct tls_settings *settings, int fd)
{
	char error[200] = "";

	*client = (struct tls_client){.fd = fd};
	if (tls_context_new(settings, &client->context, error, sizeof(error)) != 0)
		fail_msg("settings refused: %s", error);
	assert_int_equal(tls_session_new(client->context, fd, NULL, &client->session), 0);
}

void client_end(struct tls_client *client)
{
	tls_session_free(client->session);
	tls_context_unref(client->context);
	if (client->fd >= 0)
		close(client->fd);
	*client = (struct tls_client){.fd = -1};
}

enum tls_step client_handshake(struct tls_client *client, struct far_end *far_end)
{
	/* A handshake has five flights at most (HelloRetryRequest). */
	for (int round = 0; round < 10; round++) {
		enum tls_step step = tls_session_handshake(client->session);

		if (far_end)
			far_end_step(far_end);
		if (step == TLS_STEP_DONE || step == TLS_STEP_FAILED)
			return step;
	}
	fail_msg("the handshake hangs");
	return TLS_STEP_FAILED;
}
