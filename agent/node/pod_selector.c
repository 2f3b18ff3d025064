/* SPDX-License-Identifier: GPL-2.0-only */
#include "node/pod_selector.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/printable.h"
#include "policy/object.h"

#define WORD_MAX 318 /* of a key: 253 for the prefix, '/', 63 for the name; a value has 63 */

enum comparison {
	EQUALS,
	DIFFERS,
	EXISTS,
	IN,
	NOT_IN,
};

struct cursor {
	const char *at;
	const char *problem;
};

static void skip_blanks(struct cursor *cursor)
{
	while (*cursor->at == ' ' || *cursor->at == '\t')
		cursor->at++;
}

static bool is_word_character(char c)
{
	return isalnum((unsigned char)c) || c == '-' || c == '_' || c == '.' || c == '/';
}

/* What stands here up to a character that no key and no value can have. False: too long. */
static bool take_word(struct cursor *cursor, char word[static WORD_MAX])
{
	size_t length = 0;

	skip_blanks(cursor);
	while (is_word_character(cursor->at[length]))
		length++;
	if (length >= WORD_MAX) {
		cursor->problem = "a word of it is longer than a label can be";
		return false;
	}
	memcpy(word, cursor->at, length);
	word[length] = '\0';
	cursor->at += length;
	skip_blanks(cursor);
	return true;
}

static bool take(struct cursor *cursor, const char *token)
{
	size_t length = strlen(token);

	if (strncmp(cursor->at, token, length) != 0)
		return false;
	cursor->at += length;
	skip_blanks(cursor);
	return true;
}

/* "in" and "notin" are words of their own: behind them comes a list. */
static bool take_keyword(struct cursor *cursor, const char *keyword)
{
	struct cursor look = *cursor;

	if (!take(&look, keyword) || *look.at != '(')
		return false;
	*cursor = look;
	return true;
}

static enum comparison take_comparison(struct cursor *cursor)
{
	if (take(cursor, "!="))
		return DIFFERS;
	if (take(cursor, "==") || take(cursor, "="))
		return EQUALS;
	if (take_keyword(cursor, "notin"))
		return NOT_IN;
	if (take_keyword(cursor, "in"))
		return IN;
	return EXISTS;
}

static const char *label_of(const struct pod *pod, const char *key)
{
	for (size_t i = 0; pod && i < pod->label_count; i++) {
		if (strcmp(pod->labels[i].key, key) == 0)
			return pod->labels[i].value;
	}
	return NULL;
}

/* "(a, b)": is the label's value one of them? */
static bool take_list(struct cursor *cursor, const char *label, bool *listed)
{
	char word[WORD_MAX];

	*listed = false;
	if (!take(cursor, "("))
		return false;
	do {
		if (!take_word(cursor, word))
			return false;
		*listed |= label && strcmp(label, word) == 0;
	} while (take(cursor, ","));
	if (take(cursor, ")"))
		return true;
	cursor->problem = "a list has no end";
	return false;
}

/* One term. False: not well-formed, with the problem. */
static bool take_term(struct cursor *cursor, const struct pod *pod, bool *holds)
{
	bool negated = take(cursor, "!");
	char key[WORD_MAX], value[WORD_MAX];
	enum comparison comparison;
	const char *label;
	bool listed = false;

	if (!take_word(cursor, key))
		return false;
	if (!key[0]) {
		cursor->problem = "a term has no key";
		return false;
	}
	label = label_of(pod, key);
	comparison = take_comparison(cursor);
	if (negated && comparison != EXISTS) {
		cursor->problem = "a term begins with '!' and has a value";
		return false;
	}
	switch (comparison) {
	case EXISTS:
		*holds = negated ? !label : label != NULL;
		return true;
	case EQUALS:
	case DIFFERS:
		if (!take_word(cursor, value))
			return false;
		*holds = (label && strcmp(label, value) == 0) == (comparison == EQUALS);
		return true;
	case IN:
	case NOT_IN:
		if (!take_list(cursor, label, &listed))
			return false;
		*holds = listed == (comparison == IN);
		return true;
	}
	return false;
}

/* NULL: well-formed, and *selects says whether all terms hold. */
static const char *walk(const char *selector, const struct pod *pod, bool *selects)
{
	struct cursor cursor = {.at = selector};

	*selects = true;
	if (strlen(selector) > POD_SELECTOR_MAX)
		return "it is too long";
	skip_blanks(&cursor);
	if (!*cursor.at)
		return "it has no term, and selects nothing";
	do {
		bool holds = false;

		skip_blanks(&cursor);
		if (!take_term(&cursor, pod, &holds))
			return cursor.problem ? cursor.problem : "a term cannot be read";
		*selects &= holds;
	} while (take(&cursor, ","));
	return *cursor.at ? "something stands behind a term that is not a comma" : NULL;
}

bool pod_selector_valid(const char *selector, char *problem, size_t size)
{
	char shown[PRINTABLE_MAX];
	bool selects;
	const char *why = walk(selector, NULL, &selects);

	if (why)
		snprintf(problem, size, "\"%s\": %s", printable(selector, shown), why);
	return !why;
}

bool pod_selector_selects(const char *selector, const struct pod *pod)
{
	bool selects;

	return !walk(selector, pod, &selects) && selects;
}
