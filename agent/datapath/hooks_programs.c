// SPDX-License-Identifier: GPL-2.0-only
#include "datapath/hooks_programs.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>

#include "datapath/hooks_internal.h"
#include "postern.skel.h"

static int describe(const struct bpf_program *program, struct hooks_program *description)
{
	struct bpf_prog_info info = {0};
	uint32_t size = sizeof(info);

	if (bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) != 0)
		return -errno;
	description->name = bpf_program__name(program);
	description->id = info.id;
	for (unsigned int i = 0; i < sizeof(info.tag); i++)
		(void)snprintf(description->tag + 2 * i, 3, "%02x", info.tag[i]);
	return 0;
}

int hooks_for_each_program(struct hooks *hooks, void (*each)(void *context, const struct hooks_program *program),
                           void *context)
{
	struct bpf_program *program;
	int first_error = 0;

	bpf_object__for_each_program (program, hooks->skeleton->obj) {
		struct hooks_program description = {0};
		int error = describe(program, &description);

		if (!error)
			each(context, &description);
		else if (!first_error)
			first_error = error;
	}
	return first_error;
}
