/* SPDX-License-Identifier: GPL-2.0-only */
#include "control/ulp_watch.h"

#include <ctype.h>
#include <errno.h>
#include <linux/tls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sorted.h"
#include "control/agent.h"
#include "datapath/gateway.h"
#include "datapath/ulp_info.h"
#include "datapath/worker_backends.h"

#define TLS_STAT      "/proc/thread-self/net/tls_stat"
#define DECRYPT_ERROR "TlsDecryptError"

/* ---- one connection ---- */

static uint16_t kernel_version(enum tls_version version)
{
	return version == TLS_VERSION_1_2 ? TLS_1_2_VERSION : TLS_1_3_VERSION;
}

static uint16_t kernel_cipher(enum tls_cipher cipher)
{
	switch (cipher) {
	case TLS_CIPHER_AES_128:
		return TLS_CIPHER_AES_GCM_128;
	case TLS_CIPHER_AES_256:
		return TLS_CIPHER_AES_GCM_256;
	case TLS_CIPHER_CHACHA20:
		return TLS_CIPHER_CHACHA20_POLY1305;
	case TLS_CIPHER_OTHER:
		break;
	}
	return 0;
}

/* Software or a device: either way the kernel has the keys. */
static bool has_keys(uint16_t configuration)
{
	return configuration != 0 && configuration != TLS_CONF_BASE;
}

bool ulp_watch_compare(const struct backend_view *believed, const struct ulp_info *seen,
                       char text[static ULP_WATCH_TEXT_MAX])
{
	static const struct ulp_info nothing = {.text = "no ULP"};
	const char *what = NULL;

	if (!seen)
		seen = &nothing;
	if (has_keys(seen->transmit) != believed->kernel_transmit)
		what = believed->kernel_transmit ? "TLS_TX is not there" : "TLS_TX is there, and should not be";
	else if (has_keys(seen->receive) != believed->kernel_receive)
		what = believed->kernel_receive ? "TLS_RX is not there" : "TLS_RX is there, and should not be";
	else if (believed->kernel_transmit && seen->version != kernel_version(believed->version))
		what = "another TLS version";
	else if (believed->kernel_transmit && seen->cipher != kernel_cipher(believed->cipher))
		what = "another cipher";
	if (!what)
		return true;
	(void)snprintf(text, ULP_WATCH_TEXT_MAX, "%s; the kernel says: %.128s", what, seen->text);
	return false;
}

/* ---- all connections ---- */

struct belief { /* of one worker */
	struct backend_view *views;
	size_t count;
};

static void cleanup_belief(struct belief *belief)
{
	free(belief->views);
}

static int by_cookie(const void *left, const void *right)
{
	uint64_t one = ((const struct backend_view *)left)->gateway_cookie;
	uint64_t other = ((const struct backend_view *)right)->gateway_cookie;

	return one < other ? -1 : one > other;
}

static bool ask_worker(struct worker *worker, bool with_ports, struct belief *belief)
{
	int error = worker_list_backends(worker, with_ports, &belief->views, &belief->count);

	if (error) {
		log_warning("a worker's backends cannot be listed", "error=\"%s\"", strerror(-error));
		return false;
	}
	sort_list(belief->views, belief->count, sizeof(*belief->views), by_cookie);
	return true;
}

/* Did the worker say the same of it both times? */
static bool is_steady(const struct backend_view *view, const struct belief *after)
{
	const struct backend_view *again = find_sorted(view, after->views, after->count, sizeof(*view), by_cookie);

	return again && again->kernel_transmit == view->kernel_transmit &&
	       again->kernel_receive == view->kernel_receive;
}

/* What the kernel says, for each namespace that gateways have. */
struct dump {
	uint64_t netns_cookie;
	struct ulp_info *list;
	size_t count;
};

struct dumps {
	struct dump *at;
	size_t count;
};

static void cleanup_dumps(struct dumps *dumps)
{
	for (size_t i = 0; i < dumps->count; i++)
		free(dumps->at[i].list);
	free(dumps->at);
}

static const struct dump *find_dump(const struct dumps *dumps, uint64_t netns_cookie)
{
	for (size_t i = 0; i < dumps->count; i++) {
		if (dumps->at[i].netns_cookie == netns_cookie)
			return &dumps->at[i];
	}
	return NULL;
}

static void ask_kernel(const struct agent *agent, struct dumps *dumps)
{
	dumps->at = calloc(agent->enrolment_count + 1, sizeof(*dumps->at));
	for (size_t i = 0; dumps->at && i < agent->enrolment_count; i++) {
		const struct gateway *gateway = agent->enrolments[i].gateway;
		struct dump *dump = &dumps->at[dumps->count];
		int error;

		if (!gateway || gateway->state != GATEWAY_READY || find_dump(dumps, gateway->netns_cookie))
			continue;
		error = ulp_info_list(gateway, &dump->list, &dump->count);
		if (error) {
			log_warning("the kernel's word about B cannot be read", "gateway=%s error=\"%s\"",
			            gateway->name, strerror(-error));
			continue;
		}
		dump->netns_cookie = gateway->netns_cookie;
		dumps->count++;
	}
}

struct turn {
	struct ulp_watch *watch;
	const struct dumps *dumps;
	uint64_t suspects[ULP_WATCH_SUSPECTS];
	size_t suspect_count;
};

static int by_number(const void *left, const void *right)
{
	uint64_t one = *(const uint64_t *)left;
	uint64_t other = *(const uint64_t *)right;

	return one < other ? -1 : one > other;
}

/* The kernel did not name it. True: it did not the last time either. */
static bool is_missing_again(struct turn *turn, uint64_t cookie)
{
	const struct ulp_watch *watch = turn->watch;

	if (find_sorted(&cookie, watch->suspects, watch->suspect_count, sizeof(cookie), by_number))
		return true;
	if (turn->suspect_count < ULP_WATCH_SUSPECTS)
		turn->suspects[turn->suspect_count++] = cookie;
	return false;
}

static void judge(struct turn *turn, struct worker *worker, const struct backend_view *view)
{
	const struct dump *dump = find_dump(turn->dumps, view->netns_cookie);
	const struct ulp_info *seen;
	char text[ULP_WATCH_TEXT_MAX];
	char quoted[2 * ULP_WATCH_TEXT_MAX];
	char destination[DESTINATION_TEXT_MAX];

	if (!dump) /* it could not be read, or the gateway has just become READY */
		return;
	seen = ulp_info_find(dump->list, dump->count, view->b_port, &view->destination);
	turn->watch->checks++;
	if (ulp_watch_compare(view, seen, text) || (!seen && !is_missing_again(turn, view->gateway_cookie)))
		return;
	turn->watch->mismatches++;
	log_error("the kernel disagrees about B",
	          "destination=%s b_port=%u detail=%s effect=\"the connection is reset\"",
	          destination_format(&view->destination, destination), view->b_port,
	          log_quote(text, quoted, sizeof(quoted)));
	if (worker_reset_backend(worker, view->gateway_cookie, REASON_KERNEL_TLS_MISMATCH, text) != 0)
		log_error("no memory", "what=\"reset of a connection\"");
}

static void compare_worker(struct turn *turn, struct worker *worker, const struct belief *before)
{
	_cleanup_(cleanup_belief) struct belief after = {NULL};

	if (before->count == 0 || !ask_worker(worker, false, &after))
		return;
	for (size_t i = 0; i < before->count; i++) {
		if (is_steady(&before->views[i], &after))
			judge(turn, worker, &before->views[i]);
	}
}

static void cleanup_beliefs(struct belief (*beliefs)[POSTERN_MAX_WORKERS])
{
	for (unsigned int i = 0; i < POSTERN_MAX_WORKERS; i++)
		free((*beliefs)[i].views);
}

static void compare_all(struct agent *agent)
{
	struct ulp_watch *watch = &agent->ulp_watch;
	_cleanup_(cleanup_beliefs) struct belief before[POSTERN_MAX_WORKERS] = {{NULL}};
	_cleanup_(cleanup_dumps) struct dumps dumps = {NULL};
	struct turn turn = {.watch = watch, .dumps = &dumps};
	size_t live = 0;

	/* Without TLS in the kernel there is nothing that it could say. */
	for (unsigned int i = 0; agent->proof.kernel_tls && i < agent->worker_count; i++) {
		if (ask_worker(agent->workers[i], true, &before[i]))
			live += before[i].count;
	}
	if (live)
		ask_kernel(agent, &dumps);
	for (unsigned int i = 0; live && i < agent->worker_count; i++)
		compare_worker(&turn, agent->workers[i], &before[i]);
	sort_list(turn.suspects, turn.suspect_count, sizeof(turn.suspects[0]), by_number);
	memcpy(watch->suspects, turn.suspects, turn.suspect_count * sizeof(turn.suspects[0]));
	watch->suspect_count = turn.suspect_count;
}

/* ---- records that did not authenticate ---- */

uint64_t ulp_watch_stat(const char *text, const char *name)
{
	size_t length = strlen(name);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, length) == 0 && isspace((unsigned char)line[length]))
			return strtoull(line + length, NULL, 10);
	}
	return 0;
}

/* False: the kernel has no TLS there. */
static bool read_errors(const struct gateway *gateway, uint64_t *errors)
{
	_cleanup_close_ int fd = gateway_open(gateway, TLS_STAT);
	char text[4096];
	ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (size <= 0)
		return false;
	text[size] = '\0';
	*errors = ulp_watch_stat(text, DECRYPT_ERROR);
	return true;
}

/* NULL: no memory. A new one has seen what there is now: what was before the agent is not its own. */
static struct ulp_watch_namespace *find_namespace(struct ulp_watch *watch, uint64_t cookie, uint64_t errors)
{
	struct ulp_watch_namespace *grown;

	for (size_t i = 0; i < watch->namespace_count; i++) {
		if (watch->namespaces[i].netns_cookie == cookie)
			return &watch->namespaces[i];
	}
	grown = reallocarray(watch->namespaces, watch->namespace_count + 1, sizeof(*grown));
	if (!grown)
		return NULL;
	watch->namespaces = grown;
	grown[watch->namespace_count] = (struct ulp_watch_namespace){cookie, errors};
	return &grown[watch->namespace_count++];
}

static void look_at_errors(struct ulp_watch *watch, const struct gateway *gateway)
{
	struct ulp_watch_namespace *namespace;
	uint64_t errors;

	if (!read_errors(gateway, &errors))
		return;
	namespace = find_namespace(watch, gateway->netns_cookie, errors);
	if (!namespace || errors <= namespace->errors)
		return;
	log_warning("records did not authenticate", "gateway=%s count=%llu source=" DECRYPT_ERROR, gateway->name,
	            (unsigned long long)(errors - namespace->errors));
	watch->decrypt_errors += errors - namespace->errors;
	namespace->errors = errors;
}

/* Those of gateways that are gone: a namespace's cookie never comes back. */
static void forget_namespaces(struct agent *agent)
{
	struct ulp_watch *watch = &agent->ulp_watch;
	size_t kept = 0;

	for (size_t i = 0; i < watch->namespace_count; i++) {
		for (size_t j = 0; j < agent->enrolment_count; j++) {
			const struct gateway *gateway = agent->enrolments[j].gateway;

			if (!gateway || gateway->netns_cookie != watch->namespaces[i].netns_cookie)
				continue;
			watch->namespaces[kept++] = watch->namespaces[i];
			break;
		}
	}
	watch->namespace_count = kept;
}

/* ---- life ---- */

static void on_timer(struct loop_timer *timer)
{
	struct ulp_watch *watch = container_of(timer, struct ulp_watch, timer);
	struct agent *agent = watch->agent;

	compare_all(agent);
	forget_namespaces(agent);
	for (size_t i = 0; i < agent->enrolment_count; i++) {
		const struct gateway *gateway = agent->enrolments[i].gateway;

		if (gateway && gateway->state == GATEWAY_READY)
			look_at_errors(watch, gateway);
	}
	if (loop_timer_set(agent->loop, timer, watch->suspect_count ? ULP_WATCH_AGAIN_NS : ULP_WATCH_NS) != 0)
		log_error("no memory", "what=\"timer of the watchdog of B\"");
}

int ulp_watch_start(struct agent *agent)
{
	struct ulp_watch *watch = &agent->ulp_watch;

	watch->agent = agent;
	watch->timer.on_expire = on_timer;
	watch->suspects = calloc(ULP_WATCH_SUSPECTS, sizeof(*watch->suspects));
	if (!watch->suspects)
		return -ENOMEM;
	return loop_timer_set(agent->loop, &watch->timer, ULP_WATCH_NS);
}

void ulp_watch_stop(struct agent *agent)
{
	struct ulp_watch *watch = &agent->ulp_watch;

	if (!watch->agent)
		return;
	loop_timer_cancel(agent->loop, &watch->timer);
	free(watch->suspects);
	free(watch->namespaces);
	*watch = (struct ulp_watch){0};
}
