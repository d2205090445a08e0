/* SPDX-License-Identifier: MIT */

/* Collects the results, and shows each work when it is finished. */

#include <berth.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "report.h"

#define WORKS_MAX 48

static struct work *works[WORKS_MAX];
static unsigned work_count;

struct work *work_new(const char *key, const char *title, const char *note) {
	struct work *w = calloc(1, sizeof(*w));

	bench_check(w && work_count < WORKS_MAX, "too many works");
	w->key = key;
	w->title = title;
	w->note = note;
	works[work_count++] = w;
	return w;
}

struct row *work_row(
	struct work *w, const char *contender, const char *unit, const struct series *figures) {
	struct row *r = &w->row[w->count++];

	bench_check(w->count <= WORK_ROWS, "too many rows");
	(void)snprintf(r->contender, sizeof(r->contender), "%s", contender);
	r->unit = unit;
	r->figures = *figures;
	return r;
}

void work_missing(struct work *w, const char *contender, const char *why) {
	const struct series none = {0};

	work_row(w, contender, "", &none)->missing = why;
}

void row_bound(struct row *r, enum bound bound, double target) {
	r->bound = bound;
	r->target = target;
}

void row_versus(struct row *r, const char *versus, const struct series *other, enum bound bound,
	double target) {
	r->versus = versus;
	r->ratio = series_ratio(&r->figures, other);
	row_bound(r, bound, target);
}

bool row_meets(const struct row *r) {
	double value = series_median(r->ratio.count ? &r->ratio : &r->figures);

	switch (r->bound) {
	case BOUND_AT_MOST:
		return value <= r->target;
	case BOUND_AT_LEAST:
		return value >= r->target;
	default:
		return true;
	}
}

bool work_meets(const struct work *w) {
	for (unsigned i = 0; i < w->count; i++)
		if (!row_meets(&w->row[i]))
			return false;
	return true;
}

unsigned works_count(void) {
	return work_count;
}

const struct work *works_get(unsigned i) {
	return works[i];
}

/* -- text --------------------------------------------------------------------------------------- */

static const char *digits_text(double value, char to[NUMBER_SIZE]) {
	double size = value < 0 ? -value : value;

	if (size >= 999999.5)
		(void)snprintf(to, NUMBER_SIZE, "%.1f M", value / 1e6);
	else if (size >= 999.5)
		(void)snprintf(to, NUMBER_SIZE, "%ld,%03ld", (long)(value + 0.5) / 1000,
			(long)(value + 0.5) % 1000);
	else
		(void)snprintf(to, NUMBER_SIZE, "%.*f",
			size >= 99.95    ? 0
			: size >= 9.995  ? 1
			: size >= 0.0995 ? 2
					 : 4,
			value);
	return to;
}

const char *number_text(double value, char to[NUMBER_SIZE]) {
	double off = value - (double)(long)value;

	if (value > -1000 && value < 999.5 && off < 1e-6 && off > -1e-6)
		(void)snprintf(to, NUMBER_SIZE, "%ld", (long)value);
	else
		(void)digits_text(value, to);
	return to;
}

const char *count_text(unsigned count, char to[NUMBER_SIZE]) {
	char digits[16];
	unsigned length = (unsigned)snprintf(digits, sizeof(digits), "%u", count), used = 0;

	for (unsigned i = 0; i < length; i++) {
		to[used++] = digits[i];
		if ((length - i) % 3 == 1 && i + 1 < length)
			to[used++] = ',';
	}
	to[used] = '\0';
	return to;
}

/* A time of a row in a unit that suits it. */
static const char *unit_scale(const struct row *r, double *ret_factor) {
	static const char *const units[] = {"ns", "µs", "ms", "s"};
	double size = series_median(&r->figures);
	unsigned u = 0;

	*ret_factor = 1;
	if (!r->unit || strcmp(r->unit, "ns") != 0)
		return r->unit;
	while (size >= 9999.5 && u < 3) {
		size /= 1000;
		*ret_factor /= 1000;
		u++;
	}
	return units[u];
}

static void figures_text(const struct row *r, char *median, char *spread, size_t size) {
	char a[NUMBER_SIZE], b[NUMBER_SIZE];
	double factor;
	const char *unit = unit_scale(r, &factor);

	(void)snprintf(
		median, size, "%s %s", number_text(series_median(&r->figures) * factor, a), unit);
	spread[0] = '\0';
	if (r->figures.count > 1)
		(void)snprintf(spread, size, "%s to %s",
			number_text(series_min(&r->figures) * factor, a),
			number_text(series_max(&r->figures) * factor, b));
}

static void ratio_text(const struct row *r, char *to, size_t size) {
	char a[NUMBER_SIZE];

	to[0] = '\0';
	if (r->ratio.count)
		(void)snprintf(
			to, size, "%s × %s", digits_text(series_median(&r->ratio), a), r->versus);
}

static void target_text(const struct row *r, char *to, size_t size) {
	char a[NUMBER_SIZE];
	double factor = 1;
	const char *unit = r->ratio.count ? NULL : unit_scale(r, &factor);

	to[0] = '\0';
	if (r->bound == BOUND_NONE)
		return;
	(void)snprintf(to, size, "%s %s%s%s: %s", r->bound == BOUND_AT_MOST ? "≤" : "≥",
		number_text(r->target * factor, a), unit ? " " : "", unit ? unit : "",
		row_meets(r) ? "met" : "MISSED");
}

/* printf pads bytes, not characters. */
static int characters(const char *text) {
	int n = 0;

	for (const char *p = text; *p; p++)
		n += (*p & 0xC0) != 0x80;
	return n;
}

static void pad(FILE *f, const char *text, int width) {
	int shown = characters(text);

	fprintf(f, "%s%*s", text, width > shown ? width - shown : 0, "");
}

static void row_show(FILE *f, const struct row *r) {
	char median[64], spread[64], ratio[96], target[64];

	fprintf(f, "  ");
	pad(f, r->contender, 30);
	if (r->missing) {
		fprintf(f, "  not measured: %s\n", r->missing);
		return;
	}
	figures_text(r, median, spread, sizeof(median));
	ratio_text(r, ratio, sizeof(ratio));
	target_text(r, target, sizeof(target));
	fprintf(f, "%*s", 14 > characters(median) ? 14 - characters(median) : 1, "");
	pad(f, median, 0);
	fprintf(f, "  ");
	pad(f, spread, 20);
	pad(f, ratio, 18);
	pad(f, target, 20);
	fprintf(f, "%s\n", r->remark ? r->remark : "");
}

static void work_show(FILE *f, const struct work *w) {
	fprintf(f, "\n%s\n", w->title);
	for (unsigned i = 0; i < w->count; i++)
		row_show(f, &w->row[i]);
	if (w->note)
		fprintf(f, "  (%s)\n", w->note);
	if (!work_meets(w) && w->why)
		fprintf(f, "  Missed, since %s.\n", w->why);
}

static void head_show(FILE *f) {
	const struct machine *m = machine_describe();

	fprintf(f, "berth " BERTH_VERSION ", %s\n%s, %u CPU%s, %s, %s, results on %s\n", m->command,
		m->cpu, m->cpus, m->cpus == 1 ? "" : "s", m->kernel, m->compiler, m->disk);
	fprintf(f,
		"Median of %u rounds that take turns, fastest to slowest; ratios are medians of "
		"the "
		"rounds' ratios.\n",
		bench.rounds);
}

void report_head(void) {
	head_show(stdout);
}

void report_show(const struct work *w) {
	work_show(stdout, w);
}

void report_text(FILE *f) {
	head_show(f);
	for (unsigned i = 0; i < work_count; i++)
		work_show(f, works[i]);
}

/* -- Markdown ----------------------------------------------------------------------------------- */

static void row_markdown(FILE *f, const struct work *w, const struct row *r, bool first) {
	char median[64], spread[64], ratio[96], target[64];

	fprintf(f, "| %s | %s | ", first ? w->title : "", r->contender);
	if (r->missing) {
		fprintf(f, "not measured: %s | | | | |\n", r->missing);
		return;
	}
	figures_text(r, median, spread, sizeof(median));
	ratio_text(r, ratio, sizeof(ratio));
	target_text(r, target, sizeof(target));
	fprintf(f, "%s | %s | %s | %s | %s |\n", median, spread, ratio, target,
		r->remark ? r->remark : "");
}

void report_markdown(FILE *f) {
	const struct machine *m = machine_describe();

	fprintf(f, "`%s` on %s, %u CPUs, %s, %s, berth " BERTH_VERSION ":\n\n", m->command, m->cpu,
		m->cpus, m->kernel, m->compiler);
	fprintf(f, "| work | contender | median | spread | ratio | target | |\n");
	fprintf(f, "| --- | --- | --- | --- | --- | --- | --- |\n");
	for (unsigned i = 0; i < work_count; i++)
		for (unsigned k = 0; k < works[i]->count; k++)
			row_markdown(f, works[i], &works[i]->row[k], k == 0);
	for (unsigned i = 0; i < work_count; i++)
		if (!work_meets(works[i]) && works[i]->why)
			fprintf(f, "\n%s: missed, since %s.\n", works[i]->title, works[i]->why);
}
