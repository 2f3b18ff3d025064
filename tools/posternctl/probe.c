/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * posternctl probe: what the agent proved at its start, each with what it means; --run proves it once more, in this
 * process, beside the agent: cgroups, namespaces and programs of its own, nothing of the agent's is touched.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent_client.h"
#include "base/cgroup.h"
#include "base/log.h"
#include "datapath/gateway.h"
#include "datapath/proof.h"
#include "observe/json.h"
#include "observe/status.h"
#include "posternctl.h"
#include "print.h"
#include "status.h"
#include "terminal.h"
#include "tls/context.h"

static const struct {
	const char *hook;
	const char *safe;
	const char *otherwise;
} meanings[] = {
        {"hold", "connect() waits until the backend is verified", "the agent serves no gateway on this kernel"},
        {"guard", "nothing plain leaves a gateway towards a covered address",
         "the agent serves no gateway on this kernel"},
        {"witness", "what the agent sends to a backend is looked at on its way: TLS records or nothing",
         "the agent serves no gateway on this kernel"},
        {"lane", "small messages skip the loopback's TCP stack", "they go by TCP, which costs a little more"},
};

static void print_meanings(const json_t *proof)
{
	size_t index;
	json_t *hook;

	puts("\nWhat that means");
	printf("  %-16s %s\n", "kernel TLS",
	       truth_of(proof, "kernel_tls") ? "the kernel encrypts; modes that are not proved run in user space"
	                                     : "the kernel has no TLS: all of it runs in user space. Remedy: load the "
	                                       "module tls (modprobe tls), or use a kernel with CONFIG_TLS");
	json_array_foreach (json_object_get(proof, "hooks"), index, hook) {
		bool safe = strcmp(text_of(hook, "verdict"), "safe") == 0;

		for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++)
			if (strcmp(meanings[i].hook, text_of(hook, "hook")) == 0)
				printf("  %-16s %s\n", meanings[i].hook,
				       safe ? meanings[i].safe : meanings[i].otherwise);
	}
}

/* Hold, guard and witness carry the promise. */
static bool keeps_the_promise(const json_t *proof)
{
	const json_t *hooks = json_object_get(proof, "hooks");
	size_t index;
	json_t *hook;

	json_array_foreach (hooks, index, hook)
		if (strcmp(text_of(hook, "verdict"), "safe") != 0 && strcmp(text_of(hook, "hook"), "lane") != 0)
			return false;
	return json_array_size(hooks) > 0;
}

static int enter_cgroup(const char *path)
{
	return mkdir(path, 0755) == -1 && errno != EEXIST ? -errno : cgroup_join(path);
}

static int prove_in_child(const char *cgroup, int output)
{
	struct proof *proof = calloc(1, sizeof(*proof));
	json_t *document;

	log_set_level(LOG_LEVEL_ERROR);
	if (!proof || tls_global_init() != 0 || enter_cgroup(cgroup) != 0)
		return 1;
	proof_run_crypto(proof);
	proof_run_hooks(proof, cgroup);
	document = status_proof(proof);
	return document && json_dumpfd(document, output, JSON_COMPACT) == 0 ? 0 : 1;
}

/* In a child and a cgroup of its own: B's of the proof belong there, and what the proof makes goes with it. */
static json_t *prove_now(void)
{
	const char *mount = cgroup2_mount();
	json_t *document = NULL;
	char cgroup[512];
	int ends[2];
	pid_t child;

	if (!mount || pipe2(ends, O_CLOEXEC) == -1)
		return NULL;
	(void)snprintf(cgroup, sizeof(cgroup), "%.400s/posternctl-probe.%ld", mount, (long)getpid());
	(void)fflush(NULL);
	child = fork();
	if (child == 0)
		_exit(prove_in_child(cgroup, ends[1]));
	close(ends[1]);
	if (child > 0) {
		document = json_loadfd(ends[0], 0, NULL);
		(void)waitpid(child, NULL, 0);
	}
	close(ends[0]);
	(void)rmdir(cgroup);
	return document;
}

int command_probe(const struct options *options)
{
	json_t *proof = NULL;
	json_t *document = NULL;
	int status;

	if (options->run) {
		if (geteuid() != 0) {
			fprintf(stderr, "posternctl: probe --run takes root\n");
			return EXIT_WRONG;
		}
		proof = prove_now();
		if (!proof) {
			fprintf(stderr, "posternctl: the proof could not be run: is cgroup2 mounted and writable?\n");
			return EXIT_WRONG;
		}
	} else {
		status = ask_or_complain(options, "status", JSON_OBJECT, &document);
		if (status)
			return status;
		proof = json_incref(json_object_get(document, "proof"));
		json_decref(document);
	}
	status = keeps_the_promise(proof) ? EXIT_FINE : EXIT_WRONG;
	if (options->json)
		return print_json(options, proof) == EXIT_FINE ? status : EXIT_WRONG;
	print_proof(proof);
	print_meanings(proof);
	json_decref(proof);
	return status;
}
