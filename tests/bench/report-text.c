/* SPDX-License-Identifier: MIT */

/* Figures as text, and the tables in Markdown. */

#include <berth.h>

#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "report.h"
#include "util.h"

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
	char a[NUMBER_SIZE], b[NUMBER_SIZE];

	to[0] = '\0';
	if (r->ratio.count)
		(void)snprintf(to, size, "%s (%s) × %s", digits_text(series_median(&r->ratio), a),
			digits_text(r->ratio_fastest, b), r->versus);
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

void texts_make(const struct row *r, struct texts *t) {
	memset(t, 0, sizeof(*t));
	figures_text(r, t->median, t->spread, sizeof(t->median));
	ratio_text(r, t->ratio, sizeof(t->ratio));
	target_text(r, t->target, sizeof(t->target));
}

/* -- Markdown ---------------------------------------------------------------------------------- */

static void target_markdown(FILE *f, const struct work *w, const struct row *r, bool first) {
	struct texts t;

	texts_make(r, &t);
	fprintf(f, "| %s | %s | %s | %s | %s |\n", first ? w->title : "", r->contender, t.median,
		t.ratio, t.target);
}

static void targets_markdown(FILE *f) {
	fprintf(f, "| work | | median | | target |\n");
	fprintf(f, "| --- | --- | --- | --- | --- |\n");
	for (unsigned i = 0; i < works_count(); i++) {
		const struct work *w = works_get(i);
		bool first = true;

		for (unsigned k = 0; k < w->count; k++) {
			if (w->row[k].bound == BOUND_NONE)
				continue;
			target_markdown(f, w, &w->row[k], first);
			first = false;
		}
	}
}

/* Works without targets that show what a pair costs in other circumstances. */
static void forms_markdown(FILE *f) {
	static const char *const keys[] = {"forms", "levels", "threads", "in-turn"};

	fprintf(f, "\n| work | | median | |\n| --- | --- | --- | --- |\n");
	for (unsigned i = 0; i < works_count(); i++) {
		const struct work *w = works_get(i);
		bool wanted = false;

		for (size_t k = 0; k < ELEMENTS(keys); k++)
			wanted |= strcmp(w->key, keys[k]) == 0;
		for (unsigned k = 0; k < w->count && wanted; k++) {
			struct texts t;

			texts_make(&w->row[k], &t);
			fprintf(f, "| %s | %s | %s | %s |\n", k ? "" : w->title,
				w->row[k].contender, t.median, t.ratio);
		}
	}
}

static const struct row *row_find(const char *work, const char *contender) {
	for (unsigned i = 0; i < works_count(); i++) {
		const struct work *w = works_get(i);

		for (unsigned k = 0; k < w->count && strcmp(w->key, work) == 0; k++)
			if (strcmp(w->row[k].contender, contender) == 0)
				return &w->row[k];
	}
	return NULL;
}

static const char *median_find(const char *work, const char *contender, struct texts *t) {
	const struct row *r = row_find(work, contender);

	if (!r || r->missing)
		return "";
	texts_make(r, t);
	return t->median;
}

static const char *remark_find(const char *work, const char *contender) {
	const struct row *r = row_find(work, contender);

	return r && r->remark ? r->remark : "";
}

static void peer_markdown(FILE *f, const struct row *pair) {
	struct texts a, b;

	if (pair->missing) {
		fprintf(f, "| %s | not measured: %s | | | |\n", pair->contender, pair->missing);
		return;
	}
	texts_make(pair, &a);
	fprintf(f, "| %s: %s | %s | %s | %s | %s |\n", pair->contender,
		pair->remark ? pair->remark : "", a.median,
		median_find("denied", pair->contender, &b), remark_find("killed", pair->contender),
		remark_find("counter-killed", pair->contender));
}

static void peers_markdown(FILE *f) {
	for (unsigned i = 0; i < works_count(); i++) {
		const struct work *w = works_get(i);

		if (strcmp(w->key, "pair") != 0)
			continue;
		fprintf(f, "\n| | a pair | denied | a killed process loses | what counts, killed, "
			   "forgets |\n");
		fprintf(f, "| --- | --- | --- | --- | --- |\n");
		for (unsigned k = 0; k < w->count; k++)
			peer_markdown(f, &w->row[k]);
	}
}

void report_markdown(FILE *f) {
	const struct machine *m = machine_describe();

	fprintf(f,
		"`%s` on %s, %u CPUs, %s, %s, berth " BERTH_VERSION "; medians of rounds; "
		"in brackets the ratio of the fastest rounds.\n\n",
		m->command, m->cpu, m->cpus, m->kernel, m->compiler);
	targets_markdown(f);
	forms_markdown(f);
	peers_markdown(f);
	for (unsigned i = 0; i < works_count(); i++)
		if (!work_meets(works_get(i)) && works_get(i)->why)
			fprintf(f, "\n%s: missed, since %s.\n", works_get(i)->title,
				works_get(i)->why);
}
