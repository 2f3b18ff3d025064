/* SPDX-License-Identifier: GPL-2.0-only */
#include "controller/lease.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/loop.h"
#include "controller/election.h"
#include "controller/json_cleanup.h"
#include "kubernetes/client.h"
#include "kubernetes/watch.h"

enum trouble {
	TROUBLE_NONE,
	TROUBLE_DENIED,   /* the server says 401 or 403 */
	TROUBLE_NO_REPLY, /* no answer, or one that means "not now" */
	TROUBLE_TAKEN,    /* another one has it that was ours */
	TROUBLE_LATE,     /* our term was over before the renewal was sent */
};

static const char *const remedies[] = {
        [TROUBLE_NONE] = "",
        [TROUBLE_DENIED] =
                "apply the Role and RoleBinding postern-controller of deploy/base/rbac-controller.yaml; they "
                "allow get, list, watch, update of the Lease, and create",
        [TROUBLE_NO_REPLY] = "see that the API server answers, and that the NetworkPolicy lets this pod reach it; who "
                             "reaches it first leads again, without being restarted",
        [TROUBLE_TAKEN] = "this replica was not run for longer than its term: see its CPU throttling and its node; the "
                          "other one writes, so nothing is lost",
        [TROUBLE_LATE] = "this replica was not run for longer than its term: see its CPU throttling and its node; it "
                         "claims the Lease again by itself",
};

struct lease {
	struct lease_options options;
	struct election election;
	struct kubernetes_watch *watch;
	struct kubernetes_request *request; /* one at a time */
	struct loop_timer timer;
	enum election_step step; /* of the request */
	uint64_t sent_ns;
	bool listed;    /* in the list that is under way */
	bool leads;     /* as on_change was told */
	bool ending;    /* it is being given up: nothing else is begun */
	bool releasing; /* the request is the release */
	uint64_t failures;
	enum trouble trouble;
	char problem[256]; /* in words; "" while there is none */
	void (*on_released)(void *context);
};

__attribute__((format(printf, 3, 4))) static void set_trouble(struct lease *lease, enum trouble trouble,
                                                              const char *format, ...)
{
	va_list arguments;

	lease->trouble = trouble;
	va_start(arguments, format);
	(void)vsnprintf(lease->problem, sizeof(lease->problem), format, arguments);
	va_end(arguments);
}

static void forget_trouble(struct lease *lease)
{
	lease->trouble = TROUBLE_NONE;
	lease->problem[0] = '\0';
}

static void note_failure(struct lease *lease, const struct kubernetes_answer *answer)
{
	bool denied = answer->status == 401 || answer->status == 403;
	const char *error = answer->error ? answer->error : "no body";

	lease->failures++;
	if (answer->status == 409 || answer->status == 404)
		return; /* who was faster is seen by the next look */
	set_trouble(lease, denied ? TROUBLE_DENIED : TROUBLE_NO_REPLY, "the Lease %s/%s cannot be written: %s",
	            lease->options.namespace_, lease->options.name, error);
}

static bool has_another(const struct lease *lease)
{
	const char *holder = lease_holder(lease);

	return *holder && strcmp(holder, lease->options.identity) != 0;
}

static void set_taken(struct lease *lease)
{
	set_trouble(lease, TROUBLE_TAKEN, "%s took the Lease, which this replica had not renewed in time",
	            lease_holder(lease));
}

/* The term is over, and nothing that failed says why. */
static void explain_loss(struct lease *lease)
{
	if (lease->trouble != TROUBLE_NONE)
		return;
	if (has_another(lease))
		set_taken(lease);
	else
		set_trouble(lease, TROUBLE_LATE, "the Lease was not renewed for %llu s",
		            (unsigned long long)(ELECTION_RENEW_NS / 1000000000));
}

/* The record as it was read. While somebody else renews it, an older failure of ours means nothing. */
static void observe(struct lease *lease, const json_t *object)
{
	uint64_t now_ns = monotonic_ns();

	election_observe(&lease->election, object, now_ns);
	if (!has_another(lease) || lease->election.observed_ns != now_ns)
		return;
	if (lease->trouble == TROUBLE_LATE)
		set_taken(lease);
	else if (lease->trouble != TROUBLE_TAKEN && !lease->leads)
		forget_trouble(lease);
}

static void won(struct lease *lease, const json_t *answer)
{
	election_won(&lease->election, answer, lease->sent_ns, monotonic_ns());
	if (election_leads(&lease->election, monotonic_ns()))
		forget_trouble(lease);
}

/* Tell if it is another answer now; and look again when the term may be over. */
static void settle(struct lease *lease)
{
	bool leads = lease_leads(lease);

	if (leads == lease->leads)
		return;
	lease->leads = leads;
	if (leads) {
		log_info("leading", "identity=%s terms=%llu", lease->options.identity,
		         (unsigned long long)lease->election.terms);
	} else {
		char cause[384];

		explain_loss(lease);
		log_warning("leading no more", "identity=%s cause=%s remedy=\"%s\"", lease->options.identity,
		            log_quote(lease->problem, cause, sizeof(cause)), lease_remedy(lease));
	}
	lease->options.on_change(lease->options.context, leads);
}

bool lease_leads(const struct lease *lease)
{
	return !lease->ending && election_leads(&lease->election, monotonic_ns());
}

const char *lease_holder(const struct lease *lease)
{
	return election_holder(&lease->election);
}

uint64_t lease_terms(const struct lease *lease)
{
	return lease->election.terms;
}

uint64_t lease_failures(const struct lease *lease)
{
	return lease->failures;
}

const char *lease_problem(const struct lease *lease)
{
	return lease->problem;
}

const char *lease_remedy(const struct lease *lease)
{
	return remedies[lease->trouble];
}

static void released(struct lease *lease)
{
	void (*on_released)(void *context) = lease->on_released;

	lease->on_released = NULL;
	if (on_released)
		on_released(lease->options.context);
}

/* The next try; never later than the end of our term, so that its end is noticed. */
static void plan(struct lease *lease, uint64_t wait_ns)
{
	if (!lease->ending)
		(void)loop_timer_set(lease->options.loop, &lease->timer, wait_ns);
}

static void on_answer(void *context, const struct kubernetes_answer *answer);

static int send_step(struct lease *lease, enum election_step step, bool release)
{
	static const char *const methods[] = {
	        [ELECTION_LOOK] = "GET", [ELECTION_WAIT] = "GET", [ELECTION_CREATE] = "POST", [ELECTION_CLAIM] = "PUT"};
	_cleanup_free_ char *path = NULL;
	_cleanup_json_ json_t *body = NULL;
	struct timespec now;
	int result = kubernetes_path("coordination.k8s.io", "v1", lease->options.namespace_, "leases",
	                             step == ELECTION_CREATE ? "" : lease->options.name, "", &path);

	if (result < 0)
		return result;
	clock_gettime(CLOCK_REALTIME, &now);
	if (step != ELECTION_LOOK && !(body = election_claim(&lease->election, &now, release)))
		return -ENOMEM;
	lease->step = step;
	lease->sent_ns = monotonic_ns();
	lease->request = kubernetes_send(lease->options.client, &(struct kubernetes_call){
	                                                                .method = methods[step],
	                                                                .path = path,
	                                                                .body = body,
	                                                                .timeout_ns = ELECTION_REQUEST_NS,
	                                                                .on_answer = on_answer,
	                                                                .context = lease,
	                                                        });
	return lease->request ? 0 : -ENOMEM;
}

static void send_release(struct lease *lease)
{
	lease->releasing = true;
	if (!election_leads(&lease->election, monotonic_ns()) || send_step(lease, ELECTION_CLAIM, true) < 0)
		(void)loop_timer_set(lease->options.loop, &lease->timer, 0);
}

/* The renewal that was under way when it was to end, or the release. */
static void ended(struct lease *lease, const struct kubernetes_answer *answer)
{
	char reason[128];

	if (lease->releasing) {
		if (answer->error)
			log_warning("lease not released", "error=%s", log_quote(answer->error, reason, sizeof(reason)));
		released(lease);
		return;
	}
	if (!answer->error && answer->body && lease->step != ELECTION_LOOK)
		election_won(&lease->election, answer->body, lease->sent_ns, monotonic_ns());
	send_release(lease);
}

static void on_answer(void *context, const struct kubernetes_answer *answer)
{
	struct lease *lease = context;

	lease->request = NULL;
	if (lease->ending) {
		ended(lease, answer);
		return;
	}
	if (lease->step == ELECTION_LOOK && answer->status == 404) {
		observe(lease, NULL);
		plan(lease, 0);
	} else if (answer->error || !answer->body) {
		char reason[128];

		note_failure(lease, answer);
		log_warning("lease not written", "status=%d error=%s", answer->status,
		            log_quote(answer->error ? answer->error : "no body", reason, sizeof(reason)));
		/* Somebody was faster, or it is gone: look before the next try. */
		if (answer->status == 409 || answer->status == 404)
			lease->election.seen = false;
		plan(lease, answer->status == 409 ? 0 : lease_leads(lease) ? ELECTION_RETRY_NS : ELECTION_PERIOD_NS);
	} else if (lease->step == ELECTION_LOOK) {
		observe(lease, answer->body);
		plan(lease, 0);
	} else {
		won(lease, answer->body);
		plan(lease, ELECTION_PERIOD_NS);
	}
	settle(lease);
}

static void take_step(struct lease *lease)
{
	uint64_t wait_ns;
	enum election_step step = election_next(&lease->election, monotonic_ns(), &wait_ns);

	if (lease->request || lease->ending)
		return;
	plan(lease, wait_ns);
	if (step != ELECTION_WAIT && send_step(lease, step, false) < 0)
		log_error("no memory for the lease", "%s", "");
}

static void on_timer(struct loop_timer *timer)
{
	struct lease *lease = container_of(timer, struct lease, timer);

	if (lease->ending) {
		if (lease->releasing && !lease->request)
			released(lease);
		return;
	}
	settle(lease);
	/* Under way, and no answer yet: the end of the term must be noticed all the same. */
	if (lease->request)
		plan(lease, ELECTION_PERIOD_NS / 4);
	else
		take_step(lease);
}

/* A watch brought news. The leader's are its own renewals. */
static void look_again(struct lease *lease)
{
	if (lease->ending)
		return;
	settle(lease);
	if (!lease->request && !lease_leads(lease))
		take_step(lease);
}

static void on_object(void *context, json_t *object)
{
	struct lease *lease = context;

	lease->listed = true;
	observe(lease, object);
	look_again(lease);
}

static void on_removed(void *context, const char *namespace_, const char *name)
{
	struct lease *lease = context;

	(void)namespace_;
	(void)name;
	observe(lease, NULL);
	look_again(lease);
}

static void on_list(void *context, bool begins)
{
	struct lease *lease = context;

	if (begins)
		lease->listed = false;
	else if (!lease->listed)
		on_removed(lease, "", "");
}

int lease_new(const struct lease_options *options, struct lease **result)
{
	struct lease *lease = calloc(1, sizeof(*lease));
	struct kubernetes_watch_options watch = {
	        .group = "coordination.k8s.io",
	        .version = "v1",
	        .namespace_ = options->namespace_,
	        .resource = "leases",
	        .name = options->name,
	        .label_selector = "",
	        .field_selector = "",
	        .on_object = on_object,
	        .on_removed = on_removed,
	        .on_list = on_list,
	        .context = lease,
	};

	if (!lease)
		return -ENOMEM;
	lease->options = *options;
	lease->timer.on_expire = on_timer;
	election_init(&lease->election, options->namespace_, options->name, options->identity);
	lease->watch = kubernetes_watch_new(options->loop, options->client, &watch);
	if (!lease->watch || loop_timer_set(options->loop, &lease->timer, 0) < 0) {
		lease_free(lease);
		return -ENOMEM;
	}
	*result = lease;
	return 0;
}

void lease_free(struct lease *lease)
{
	if (!lease)
		return;
	kubernetes_cancel(lease->request);
	kubernetes_watch_free(lease->watch);
	loop_timer_cancel(lease->options.loop, &lease->timer);
	election_free(&lease->election);
	free(lease);
}

void lease_release(struct lease *lease, void (*on_released)(void *context))
{
	lease->on_released = on_released;
	lease->ending = true;
	lease->leads = false;
	loop_timer_cancel(lease->options.loop, &lease->timer);
	/* What is under way may have reached the server: it ends first (ELECTION_REQUEST_NS at most). */
	if (!lease->request)
		send_release(lease);
}
