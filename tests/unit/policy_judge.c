// SPDX-License-Identifier: GPL-2.0-only
#include "policy_judge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/yaml.h"
#include "policy/decode.h"

void judge_spec(const char *spec, struct tls_options *options, struct text *problems)
{
	_cleanup_free_ char *yaml = NULL;
	struct decoded decoded = {0};
	json_t *documents;
	char error[256];

	assert_true(asprintf(&yaml,
	                     "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: p}\n"
	                     "spec: {%s}\n",
	                     spec) > 0);
	if (yaml_load(yaml, strlen(yaml), &documents, error, sizeof(error)))
		fail_msg("%s in %s", error, yaml);
	assert_int_equal(decode_documents(documents, "test", &decoded), 0);
	json_decref(documents);
	if (decoded.problem_count)
		fail_msg("{%s}: %s", spec, decoded.problems[0].message);
	assert_int_equal(decoded.object_count, 1);
	validate_backend_tls_policy(&decoded.objects[0]->backend_tls_policy, options, problems);
	decoded_free(&decoded);
}

void judge_all(const struct judged *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct text problems = {0};
		struct tls_options options;

		judge_spec(rows[i].spec, &options, &problems);
		if (!rows[i].problem && !text_is_empty(&problems))
			fail_msg("{%s}: expected valid, saw \"%s\"", rows[i].spec, problems.data);
		if (rows[i].problem && (!problems.data || !strstr(problems.data, rows[i].problem)))
			fail_msg("{%s}: expected \"%s\", saw \"%s\"", rows[i].spec, rows[i].problem,
			         problems.data ? problems.data : "valid");
		text_free(&problems);
	}
}
