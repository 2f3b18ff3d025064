/* SPDX-License-Identifier: GPL-2.0-only */
#include "observe/metric.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

const char metric_type_openmetrics[] = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const char metric_type_text[] = "text/plain; version=0.0.4; charset=utf-8";

const struct metric_family metric_families[METRIC_COUNT] = {
#define X(enumerator, name, type, unit, labels, series, fold, owner, help)                                             \
	[METRIC_##enumerator] = {name, METRIC_##type, unit, labels, series, METRIC_##fold, METRIC_OF_##owner, help},
        POSTERN_METRICS(X)
#undef X
};

struct metric_text {
	char *bytes;
	size_t length;
	FILE *stream; /* to bytes */
	bool openmetrics;
	enum metric current;
	unsigned int series;        /* of the current family */
	unsigned int other_count;   /* series that went into "other" */
	double other;               /* what it says */
	uint64_t *other_buckets;    /* of a histogram */
	const double *other_bounds; /* borrowed */
	size_t other_bound_count;
	unsigned int folded;
	unsigned int total;
	bool failed;
};

static const char *const type_names[] = {
        [METRIC_GAUGE] = "gauge",
        [METRIC_COUNTER] = "counter",
        [METRIC_HISTOGRAM] = "histogram",
        [METRIC_INFO] = "info",
};

struct metric_text *metric_start(bool openmetrics)
{
	struct metric_text *text = calloc(1, sizeof(*text));

	if (!text)
		return NULL;
	text->openmetrics = openmetrics;
	text->current = METRIC_COUNT;
	text->stream = open_memstream(&text->bytes, &text->length);
	if (!text->stream) {
		free(text);
		return NULL;
	}
	return text;
}

/* Both formats escape the same in a label's value; the help has no quotes to escape in 0.0.4. */
static void put_escaped(FILE *stream, const char *value)
{
	for (; *value; value++) {
		if (*value == '\\' || *value == '"')
			fprintf(stream, "\\%c", *value);
		else if (*value == '\n')
			fputs("\\n", stream);
		else
			fputc(*value, stream);
	}
}

static void put_help(const struct metric_text *text, const char *name, const char *help)
{
	fprintf(text->stream, "# HELP %s ", name);
	if (text->openmetrics)
		put_escaped(text->stream, help);
	else
		fputs(help, text->stream); /* ours: no line break, no backslash */
	fputc('\n', text->stream);
}

static const char *suffix_of(const struct metric_family *family)
{
	switch (family->type) {
	case METRIC_COUNTER:
		return "_total";
	case METRIC_INFO:
		return "_info";
	case METRIC_GAUGE:
	case METRIC_HISTOGRAM:
		break;
	}
	return "";
}

/* 0.0.4 knows samples only, so there the family has the sample's name; and it knows no info. */
static void put_head(struct metric_text *text, const struct metric_family *family)
{
	char name[128];

	(void)snprintf(name, sizeof(name), "%s%s", family->name, text->openmetrics ? "" : suffix_of(family));
	put_help(text, name, family->help);
	fprintf(text->stream, "# TYPE %s %s\n", name,
	        type_names[family->type == METRIC_INFO && !text->openmetrics ? METRIC_GAUGE : family->type]);
	if (text->openmetrics && family->unit[0])
		fprintf(text->stream, "# UNIT %s %s\n", name, family->unit);
}

static void put_value(FILE *stream, double value)
{
	if (value == floor(value) && fabs(value) < 9007199254740992.0)
		fprintf(stream, " %.0f\n", value);
	else
		fprintf(stream, " %.9g\n", value);
}

/* Labels with their values; extra is one more pair that is written as it is, or NULL. */
static void put_labels(FILE *stream, const char *names, const char *const *values, const char *extra)
{
	const char *separator = "{";

	for (size_t i = 0; *names; i++) {
		int length = (int)strcspn(names, ",");

		fprintf(stream, "%s%.*s=\"", separator, length, names);
		put_escaped(stream, values[i]);
		fputc('"', stream);
		separator = ",";
		names += length;
		names += *names == ',';
	}
	if (extra)
		fprintf(stream, "%s%s", separator, extra);
	if (extra || separator[0] == ',')
		fputc('}', stream);
}

static void put_sample(struct metric_text *text, const char *suffix, const char *const *values, const char *extra,
                       double value)
{
	const struct metric_family *family = &metric_families[text->current];

	fprintf(text->stream, "%s%s", family->name, suffix);
	put_labels(text->stream, family->labels, values, extra);
	put_value(text->stream, value);
	text->total++;
}

static void put_histogram(struct metric_text *text, const char *const *values, const uint64_t *buckets,
                          const double *bounds, size_t bound_count, double sum)
{
	uint64_t count = 0;
	char bound[32];

	for (size_t i = 0; i <= bound_count; i++) {
		count += buckets[i];
		if (i == bound_count)
			(void)snprintf(bound, sizeof(bound), "le=\"+Inf\"");
		else /* OpenMetrics wants a canonical float */
			(void)snprintf(bound, sizeof(bound),
			               bounds[i] == floor(bounds[i]) ? "le=\"%.1f\"" : "le=\"%g\"", bounds[i]);
		put_sample(text, "_bucket", values, bound, (double)count);
	}
	put_sample(text, "_sum", values, NULL, sum);
	put_sample(text, "_count", values, NULL, (double)count);
}

static void end_family(struct metric_text *text)
{
	static const char *const others[METRIC_LABELS_MAX] = {METRIC_OTHER, METRIC_OTHER, METRIC_OTHER, METRIC_OTHER};

	if (text->current == METRIC_COUNT || text->other_count == 0)
		return;
	if (text->other_buckets)
		put_histogram(text, others, text->other_buckets, text->other_bounds, text->other_bound_count,
		              text->other);
	else
		put_sample(text, suffix_of(&metric_families[text->current]), others, NULL, text->other);
	text->folded += text->other_count;
	text->other_count = 0;
	free(text->other_buckets);
	text->other_buckets = NULL;
}

static void begin_family(struct metric_text *text, enum metric metric)
{
	if (text->current == metric)
		return;
	end_family(text);
	text->current = metric;
	text->series = 0;
	put_head(text, &metric_families[metric]);
}

static void take_values(const char *names, va_list arguments, const char *values[static METRIC_LABELS_MAX])
{
	for (size_t i = 0; *names && i < METRIC_LABELS_MAX; i++) {
		values[i] = va_arg(arguments, const char *);
		names += strcspn(names, ",");
		names += *names == ',';
	}
}

static bool has_room(const struct metric_text *text, unsigned int needed)
{
	return text->series + needed <= metric_families[text->current].series;
}

void metric_add(struct metric_text *text, enum metric metric, double value, ...)
{
	const struct metric_family *family = &metric_families[metric];
	const char *values[METRIC_LABELS_MAX] = {NULL};
	va_list arguments;

	va_start(arguments, value);
	take_values(family->labels, arguments, values);
	va_end(arguments);
	begin_family(text, metric);
	if (has_room(text, 1)) {
		text->series++;
		put_sample(text, suffix_of(family), values, NULL, value);
	} else if (text->other_count++ == 0 || (family->fold == METRIC_LEAST && value < text->other)) {
		text->other = value;
	} else if (family->fold == METRIC_SUM) {
		text->other += value;
	}
}

static void fold_histogram(struct metric_text *text, const uint64_t *buckets, const double *bounds, size_t bound_count,
                           double sum)
{
	if (text->other_count++ == 0) {
		text->other = 0;
		text->other_bounds = bounds;
		text->other_bound_count = bound_count;
		text->other_buckets = calloc(bound_count + 1, sizeof(*buckets));
		text->failed |= !text->other_buckets;
	}
	text->other += sum;
	for (size_t i = 0; text->other_buckets && i <= bound_count; i++)
		text->other_buckets[i] += buckets[i];
}

void metric_add_histogram(struct metric_text *text, enum metric metric, const uint64_t *buckets, const double *bounds,
                          size_t bound_count, double sum, ...)
{
	const char *values[METRIC_LABELS_MAX] = {NULL};
	unsigned int needed = (unsigned int)bound_count + 3;
	va_list arguments;

	va_start(arguments, sum);
	take_values(metric_families[metric].labels, arguments, values);
	va_end(arguments);
	begin_family(text, metric);
	if (has_room(text, needed)) {
		text->series += needed;
		put_histogram(text, values, buckets, bounds, bound_count, sum);
	} else {
		fold_histogram(text, buckets, bounds, bound_count, sum);
	}
}

unsigned int metric_folded(const struct metric_text *text)
{
	return text->folded + text->other_count;
}

unsigned int metric_series(const struct metric_text *text)
{
	return text->total;
}

char *metric_finish(struct metric_text *text, size_t *length)
{
	char *bytes;
	bool failed;

	end_family(text);
	if (text->openmetrics)
		fputs("# EOF\n", text->stream);
	failed = text->failed || ferror(text->stream);
	failed |= fclose(text->stream) != 0;
	bytes = TAKE_PTR(text->bytes);
	*length = text->length;
	free(text);
	if (failed) {
		free(bytes);
		return NULL;
	}
	return bytes;
}

/* ---- which format ---- */

/* The quality of one range of Accept, in thousandths; 1000 if it says nothing. */
static unsigned int quality_of(const char *range, size_t length)
{
	for (const char *at = range; at < range + length; at++) {
		unsigned int quality = 0;
		unsigned int unit = 1000;

		if (*at != ';')
			continue;
		while (at + 1 < range + length && (at[1] == ' ' || at[1] == '\t'))
			at++;
		if (at + 2 >= range + length || (at[1] != 'q' && at[1] != 'Q') || at[2] != '=')
			continue;
		for (at += 3; at < range + length && unit; at++) {
			if (*at == '.')
				continue;
			if (*at < '0' || *at > '9')
				break;
			quality += (unsigned int)(*at - '0') * unit;
			unit /= 10;
		}
		return quality > 1000 ? 1000 : quality;
	}
	return 1000;
}

static bool names_type(const char *range, size_t length, const char *type)
{
	size_t size = strlen(type);

	while (length && (*range == ' ' || *range == '\t')) {
		range++;
		length--;
	}
	return length >= size && strncmp(range, type, size) == 0 &&
	       (length == size || range[size] == ';' || range[size] == ' ');
}

bool metric_wants_openmetrics(const char *accept)
{
	unsigned int openmetrics = 0;
	unsigned int text = 0;

	for (const char *range = accept ? accept : ""; *range;) {
		size_t length = strcspn(range, ",");
		unsigned int quality = quality_of(range, length);

		if (names_type(range, length, "application/openmetrics-text"))
			openmetrics = quality > openmetrics ? quality : openmetrics;
		else if (names_type(range, length, "text/plain"))
			text = quality > text ? quality : text;
		range += length;
		range += *range == ',';
	}
	return openmetrics > 0 && openmetrics >= text;
}
