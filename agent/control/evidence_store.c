/* SPDX-License-Identifier: GPL-2.0-only */
#include "control/evidence_store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/evidence.h"
#include "base/log.h"
#include "control/agent.h"
#include "observe/evidence_document.h"

#define LOOK_NS    1000000000ull
#define SAVE_LOOKS 60
#define FILE_MAX   (64u << 20)

static int write_all(int fd, const char *text, size_t size)
{
	while (size) {
		ssize_t written = write(fd, text, size);

		if (written == -1 && errno == EINTR)
			continue;
		if (written <= 0)
			return written == -1 ? -errno : -EIO;
		text += written;
		size -= (size_t)written;
	}
	return 0;
}

static int save_to(const char *path, const char *text)
{
	char fresh[PATH_MAX];
	_cleanup_close_ int fd = -1;
	int error;

	if ((size_t)snprintf(fresh, sizeof(fresh), "%s.new", path) >= sizeof(fresh))
		return -ENAMETOOLONG;
	fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd == -1)
		return -errno;
	error = write_all(fd, text, strlen(text));
	if (!error && fsync(fd) == -1)
		error = -errno;
	if (!error && rename(fresh, path) == -1)
		error = -errno;
	if (error)
		(void)unlink(fresh);
	return error;
}

static void path_of(const struct agent *agent, char path[static PATH_MAX])
{
	(void)snprintf(path, PATH_MAX, "%.3900s/" EVIDENCE_FILE, agent->config.run_dir);
}

static void tell(struct evidence_store *store, int error)
{
	char problem[sizeof(store->problem)] = "";

	if (error)
		(void)snprintf(problem, sizeof(problem), "it is not saved: %s: %s", EVIDENCE_FILE, strerror(-error));
	if (strcmp(problem, store->problem) == 0)
		return;
	if (error)
		log_warning("evidence not saved",
		            "file=%s error=\"%s\" effect=\"what is counted is lost if the agent "
		            "ends\"",
		            EVIDENCE_FILE, strerror(-error));
	else
		log_info("evidence saved again", "file=%s", EVIDENCE_FILE);
	memcpy(store->problem, problem, sizeof(problem));
}

static void save(struct evidence_store *store)
{
	char path[PATH_MAX];
	json_t *document = evidence_save(store->agent->evidence);
	_cleanup_free_ char *text = document ? json_dumps(document, JSON_COMPACT) : NULL;

	json_decref(document);
	path_of(store->agent, path);
	tell(store, text ? save_to(path, text) : -ENOMEM);
}

static void load(struct agent *agent)
{
	char path[PATH_MAX];
	_cleanup_fclose_ FILE *file = NULL;
	json_error_t error;
	json_t *document;
	size_t left_out;

	path_of(agent, path);
	file = fopen(path, "re");
	if (!file)
		return;
	document = fseek(file, 0, SEEK_END) == 0 && ftell(file) <= (long)FILE_MAX && fseek(file, 0, SEEK_SET) == 0
	                   ? json_loadf(file, 0, &error)
	                   : NULL;
	left_out = document ? evidence_load(agent->evidence, document) : 1;
	if (left_out)
		log_warning("evidence not read whole", "file=%s left_out=%zu", EVIDENCE_FILE, left_out);
	json_decref(document);
}

static const char *mode_of(const struct enrolment *enrolment)
{
	if (!enrolment->gateway || enrolment->gateway->state != GATEWAY_READY)
		return "not ready";
	return enrolment->gateway->mode == POSTERN_MODE_OBSERVE ? "observe" : "enforce";
}

static void look(struct agent *agent)
{
	int64_t now = (int64_t)time(NULL);

	for (size_t i = 0; i < agent->enrolment_count; i++) {
		const struct enrolment *enrolment = &agent->enrolments[i];

		if (enrolment->name)
			evidence_gateway(agent->evidence, enrolment->name, mode_of(enrolment), now);
	}
}

static void on_timer(struct loop_timer *timer)
{
	struct evidence_store *store = container_of(timer, struct evidence_store, timer);

	look(store->agent);
	if (store->until_save-- == 0) {
		store->until_save = SAVE_LOOKS - 1;
		save(store);
	}
	if (loop_timer_set(store->agent->loop, timer, LOOK_NS) != 0)
		log_error("no memory", "what=\"timer of the evidence\"");
}

void evidence_store_start(struct agent *agent)
{
	struct evidence_store *store = &agent->evidence_store;

	if (store->agent)
		return;
	store->agent = agent;
	store->until_save = 0; /* at once: a disk that is full is told now */
	store->timer.on_expire = on_timer;
	load(agent);
	if (loop_timer_set(agent->loop, &store->timer, LOOK_NS) != 0)
		log_error("no memory", "what=\"timer of the evidence\"");
}

void evidence_store_stop(struct agent *agent)
{
	struct evidence_store *store = &agent->evidence_store;

	if (!store->agent)
		return;
	look(agent);
	save(store);
	loop_timer_cancel(agent->loop, &store->timer);
	store->agent = NULL;
}
