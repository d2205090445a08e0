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

/* A time is best when it is least, a rate when it is most. */
static double series_fastest(const struct series *s, const char *unit) {
	return strcmp(unit, "ns") == 0 ? series_min(s) : series_max(s);
}

void row_versus(struct row *r, const char *versus, const struct series *other, enum bound bound,
	double target) {
	r->versus = versus;
	r->ratio = series_ratio(&r->figures, other);
	if (r->ratio.count)
		r->ratio_fastest =
			series_fastest(&r->figures, r->unit) / series_fastest(other, r->unit);
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

/* -- as they are shown ------------------------------------------------------------------------- */

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
	struct texts t;

	fprintf(f, "  ");
	pad(f, r->contender, 36);
	if (r->missing) {
		fprintf(f, "  not measured: %s\n", r->missing);
		return;
	}
	texts_make(r, &t);
	fprintf(f, "%*s", 14 > characters(t.median) ? 14 - characters(t.median) : 1, "");
	pad(f, t.median, 0);
	fprintf(f, "  ");
	pad(f, t.spread, 20);
	pad(f, t.ratio, 40);
	pad(f, t.target, 20);
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

	fprintf(f, "berth " BERTH_VERSION ", %s\n%s, %u CPU%s, load %.2f; %s, %s, results on %s\n",
		m->command, m->cpu, m->cpus, m->cpus == 1 ? "" : "s", m->load, m->kernel,
		m->compiler, m->disk);
	fprintf(f,
		"Median of %u rounds that take turns, fastest to slowest; a ratio is the median of "
		"the rounds' ratios, and in brackets that of the fastest rounds.\n",
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
