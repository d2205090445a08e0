/* SPDX-License-Identifier: MIT */

/*
 * Collects the results, and prints them as tables. The tables are Markdown, padded so that they can
 * be read in a terminal as well.
 */

#include <berth.h>

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "report.h"

struct work *works[WORKS_MAX];
unsigned work_count;

/* -- rows -------------------------------------------------------------------------------------- */

struct work *work_new(const char *key, const char *title, const char *note) {
	struct work *w = calloc(1, sizeof(*w));

	bench_check(w && work_count < WORKS_MAX, "too many works");
	w->key = key;
	w->title = title;
	w->note = note;
	works[work_count++] = w;
	return w;
}

struct row *work_row(struct work *w, const char *unit, const struct series *figures,
	const char *contender, ...) {
	struct row *r = &w->row[w->count++];
	va_list arguments;

	bench_check(w->count <= WORK_ROWS, "too many rows");
	va_start(arguments, contender);
	(void)vsnprintf(r->contender, sizeof(r->contender), contender, arguments);
	va_end(arguments);
	r->unit = unit;
	r->figures = *figures;
	return r;
}

void work_missing(struct work *w, const char *contender, const char *why) {
	const struct series none = {0};

	work_row(w, "", &none, "%s", contender)->missing = why;
}

void work_skip(const char *key, const char *title, const char *why) {
	struct work *w = work_new(key, title, NULL);

	work_missing(w, "all", why);
	report_show(w);
}

/* The best time is the least one, the best rate is the largest one. */
static double series_fastest(const struct series *s, const char *unit) {
	return strcmp(unit, "ns") == 0 ? series_min(s) : series_max(s);
}

void row_versus(struct row *r, const char *versus, const struct series *other) {
	r->versus = versus;
	r->ratio = series_ratio(&r->figures, other);
	if (r->ratio.count)
		r->ratio_fastest =
			series_fastest(&r->figures, r->unit) / series_fastest(other, r->unit);
}

void row_at_most(struct row *r, double target) {
	r->bound = BOUND_AT_MOST;
	r->target = target;
}

void row_at_least(struct row *r, double target) {
	r->bound = BOUND_AT_LEAST;
	r->target = target;
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

/* -- numbers as text --------------------------------------------------------------------------- */

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

/* Rounds to three significant digits, but numbers from 1000 on to integers. */
static const char *number_text(double value, char to[NUMBER_SIZE]) {
	double size = value < 0 ? -value : value;
	int decimals = 0;

	if (value >= 999.5)
		return count_text((unsigned)(value + 0.5), to);
	if (value != (double)(long)value)
		for (; size < 99.95 && decimals < 4; size *= 10)
			decimals++;
	(void)snprintf(to, NUMBER_SIZE, "%.*f", decimals, value);
	return to;
}

/* Chooses a unit that suits the row's figures. Returns the factor that converts the figures to the
 * unit. */
static double unit_choose(const struct row *r, const char **ret_unit) {
	static const char *const units[] = {"ns", "µs", "ms", "s"};
	double size = series_median(&r->figures), factor = 1;
	unsigned u = 0;

	*ret_unit = r->unit;
	if (strcmp(r->unit, "ns") != 0)
		return 1;
	for (; size * factor >= 9999.5 && u < 3; u++)
		factor /= 1000;
	*ret_unit = units[u];
	return factor;
}

/* -- tables ------------------------------------------------------------------------------------ */

enum { CONTENDER, MEDIAN, SPREAD, RATIO, TARGET, REMARK, COLUMNS };

#define CELL_SIZE 128
static const char *const column_title[COLUMNS] = {
	"", "median", "fastest to slowest", "ratio", "target", ""};
static const int column_width[COLUMNS] = {36, 14, 20, 40, 18, 0};

/* Pads without printf, whose width counts bytes: "µ" has two. */
static void line_print(FILE *f, const char cells[COLUMNS][CELL_SIZE]) {
	for (int i = 0; i < COLUMNS; i++) {
		int shown = 0;

		for (const char *p = cells[i]; *p; p++)
			shown += (*p & 0xC0) != 0x80;
		fprintf(f, "| %s%*s ", cells[i],
			column_width[i] > shown ? column_width[i] - shown : 0, "");
	}
	fprintf(f, "|\n");
}

static void row_print(FILE *f, const struct row *r) {
	char cells[COLUMNS][CELL_SIZE] = {0}, a[NUMBER_SIZE], b[NUMBER_SIZE];
	const char *unit;
	double factor = unit_choose(r, &unit);

	(void)snprintf(cells[CONTENDER], CELL_SIZE, "%s", r->contender);
	if (r->missing)
		(void)snprintf(cells[REMARK], CELL_SIZE, "not measured: %s", r->missing);
	else if (r->remark)
		(void)snprintf(cells[REMARK], CELL_SIZE, "%s", r->remark);
	if (!r->missing)
		(void)snprintf(cells[MEDIAN], CELL_SIZE, "%s %s",
			number_text(series_median(&r->figures) * factor, a), unit);
	if (r->figures.count > 1)
		(void)snprintf(cells[SPREAD], CELL_SIZE, "%s to %s",
			number_text(series_min(&r->figures) * factor, a),
			number_text(series_max(&r->figures) * factor, b));
	if (r->ratio.count)
		(void)snprintf(cells[RATIO], CELL_SIZE, "%s (%s) × %s",
			number_text(series_median(&r->ratio), a), number_text(r->ratio_fastest, b),
			r->versus);
	if (r->bound != BOUND_NONE)
		(void)snprintf(cells[TARGET], CELL_SIZE, "%s %s%s%s: %s",
			r->bound == BOUND_AT_MOST ? "≤" : "≥",
			number_text(r->target * (r->ratio.count ? 1 : factor), a),
			r->ratio.count ? "" : " ", r->ratio.count ? "" : unit,
			row_meets(r) ? "met" : "MISSED");
	line_print(f, cells);
}

static void work_print(FILE *f, const struct work *w) {
	char cells[COLUMNS][CELL_SIZE] = {0};

	fprintf(f, "\n%s\n\n", w->title);
	for (int i = 0; i < COLUMNS; i++)
		(void)snprintf(cells[i], CELL_SIZE, "%s", column_title[i]);
	line_print(f, cells);
	for (int i = 0; i < COLUMNS; i++)
		(void)snprintf(cells[i], CELL_SIZE, "---");
	line_print(f, cells);
	for (unsigned i = 0; i < w->count; i++)
		row_print(f, &w->row[i]);
	if (w->note)
		fprintf(f, "\n(%s)\n", w->note);
	if (!work_meets(w) && w->why)
		fprintf(f, "\nMissed, since %s.\n", w->why);
}

void report_head(FILE *f) {
	const struct machine *m = machine_describe();

	fprintf(f,
		"berth " BERTH_VERSION ", `%s`\n%s, %u CPU%s, load %.2f; %s, %s, results on %s\n\n",
		m->command, m->cpu, m->cpus, m->cpus == 1 ? "" : "s", m->load, m->kernel,
		m->compiler, m->disk);
	fprintf(f,
		"Medians of %u rounds, in which contenders take turns. A ratio is the median of "
		"the "
		"rounds' ratios; the ratio of the fastest rounds is in brackets.\n",
		bench.rounds);
}

void report_show(const struct work *w) {
	work_print(stdout, w);
}

/* -- files ------------------------------------------------------------------------------------- */

static void report_table(FILE *f) {
	report_head(f);
	for (unsigned i = 0; i < work_count; i++)
		work_print(f, works[i]);
}

static void file_write(const char *name, void (*write)(FILE *f)) {
	char path[600];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%.500s/%s", bench.out, name);
	f = fopen(path, "we");
	bench_check(f != NULL, path);
	write(f);
	bench_check(fclose(f) == 0, path);
}

void report_write(void) {
	file_write("table.txt", report_table);
	file_write("results.json", report_json);
	printf("\nIn %s: table.txt, results.json\n", bench.out);
}
