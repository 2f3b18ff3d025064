// SPDX-License-Identifier: GPL-2.0-only
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/yaml.h"
#include "decode_fixture.h"

void decode_yaml(const char *yaml, struct decoded *decoded)
{
	json_t *documents;
	char error[256];

	if (yaml_load(yaml, strlen(yaml), &documents, error, sizeof(error)))
		fail_msg("%s in\n%s", error, yaml);
	assert_int_equal(decode_documents(documents, "test.yaml", decoded), 0);
	json_decref(documents);
}

void assert_refused(const struct refused_document *row)
{
	struct decoded decoded = {0};

	decode_yaml(row->yaml, &decoded);
	if (decoded.problem_count != 1 || decoded.object_count)
		fail_msg("expected one problem and no object, saw %zu and %zu in\n%s", decoded.problem_count,
		         decoded.object_count, row->yaml);
	if (strcmp(decoded.problems[0].object, row->object) || !strstr(decoded.problems[0].message, row->message))
		fail_msg("expected \"%s\": \"%s\", saw \"%s\": \"%s\" in\n%s", row->object, row->message,
		         decoded.problems[0].object, decoded.problems[0].message, row->yaml);
	decoded_free(&decoded);
}
