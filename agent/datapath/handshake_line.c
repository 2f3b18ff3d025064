/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/handshake_line.h"

#include <string.h>

#include "base/cleanup.h"

uint64_t handshake_line_join(struct handshake_line *line)
{
	return ++line->last_number;
}

void handshake_line_answered(struct handshake_line *line, uint64_t number,
                             const struct postern_destination_key *destination, uint64_t now_ns)
{
	line->answers[line->next] = (struct handshake_answer){
	        .number = number,
	        .answered_ns = now_ns,
	        .destination = *destination,
	};
	line->next = (line->next + 1) % ARRAY_SIZE(line->answers);
}

uint64_t handshake_line_moved_ns(const struct handshake_line *line, uint64_t number,
                                 const struct postern_destination_key *destination)
{
	/* From the latest one back. */
	for (size_t i = 1; i <= ARRAY_SIZE(line->answers); i++) {
		const struct handshake_answer *answer =
		        &line->answers[(line->next + ARRAY_SIZE(line->answers) - i) % ARRAY_SIZE(line->answers)];

		if (answer->answered_ns == 0)
			break;
		if (answer->number < number && memcmp(&answer->destination, destination, sizeof(*destination)) == 0)
			return answer->answered_ns;
	}
	return 0;
}
