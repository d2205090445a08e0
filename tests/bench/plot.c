/* SPDX-License-Identifier: MIT */

/* Draws a plot as SVG. Colours are told apart by those who don't see all of them, too, and each
 * line is named at its end, so that a print in grey can be read. */

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "plot.h"
#include "report.h"

#define WIDTH   760.0
#define HEIGHT  440.0
#define LEFT    76.0
#define RIGHT   170.0
#define TOP     64.0
#define BOTTOM  64.0
#define TICKS   24
#define NAME_PX 16.0 /* names of lines are at least so far apart */

static const char *const colours[PLOT_LINES] = {
	"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999", "#000000"};

struct axis {
	bool log;
	double low, high;  /* what it reaches from and to */
	double begin, end; /* in pixels */
	unsigned count;    /* of ticks */
	double tick[TICKS];
};

struct plot_line *plot_line_new(struct plot *p, const char *name) {
	struct plot_line *l = &p->line[p->count++];

	bench_check(p->count <= PLOT_LINES, "too many lines in a plot");
	l->name = name;
	return l;
}

void plot_point(struct plot_line *l, double x, const struct series *y, double factor) {
	unsigned i = l->count++;

	bench_check(l->count <= PLOT_POINTS, "too many points in a plot");
	l->x[i] = x;
	l->y[i] = series_median(y) * factor;
	l->low[i] = series_min(y) * factor;
	l->high[i] = series_max(y) * factor;
}

/* -- axes -------------------------------------------------------------------------------------- */

static double place(const struct axis *a, double value) {
	double share = a->log ? log(value / a->low) / log(a->high / a->low)
			      : (value - a->low) / (a->high - a->low);

	return a->begin + share * (a->end - a->begin);
}

static void tick_add(struct axis *a, double value) {
	if (a->count < TICKS && value >= a->low * 0.999 && value <= a->high * 1.001)
		a->tick[a->count++] = value;
}

/* Powers of ten; with 2 and 5 between them where there are few. */
static void ticks_log(struct axis *a) {
	bool few = a->high / a->low < 2000;

	for (double power = pow(10, floor(log10(a->low))); power <= a->high; power *= 10) {
		tick_add(a, power);
		if (few) {
			tick_add(a, 2 * power);
			tick_add(a, 5 * power);
		}
	}
}

/* Five to ten, at 1, 2 or 5 times a power of ten. */
static void ticks_even(struct axis *a) {
	double step = pow(10, floor(log10(a->high / 4)));

	if (a->high / step > 20)
		step *= 5;
	else if (a->high / step > 10)
		step *= 2;
	a->high = ceil(a->high / step) * step;
	for (unsigned i = 0; i * step <= a->high * 1.001; i++)
		tick_add(a, i * step);
}

static struct axis axis_x(const struct plot *p) {
	struct axis a = {.log = p->x_log, .begin = LEFT, .end = WIDTH - RIGHT, .low = INFINITY};

	for (unsigned l = 0; l < p->count; l++)
		for (unsigned i = 0; i < p->line[l].count; i++) {
			a.low = fmin(a.low, p->line[l].x[i]);
			a.high = fmax(a.high, p->line[l].x[i]);
		}
	if (a.log) {
		ticks_log(&a);
		return a;
	}
	/* Whole numbers: so many levels, so many processes. */
	for (double x = a.low; x <= a.high; x++)
		tick_add(&a, x);
	return a;
}

/* Reaches as far as medians, and as bars of the rounds that don't leave them far behind. */
static struct axis axis_y(const struct plot *p) {
	struct axis a = {.log = p->y_log, .begin = HEIGHT - BOTTOM, .end = TOP, .low = INFINITY};
	double high = 0;

	for (unsigned l = 0; l < p->count; l++)
		for (unsigned i = 0; i < p->line[l].count; i++) {
			a.low = fmin(a.low, p->line[l].low[i]);
			a.high = fmax(a.high, p->line[l].y[i]);
			high = fmax(high, p->line[l].high[i]);
		}
	a.high = fmin(high, a.high * 1.3);
	if (a.log) {
		a.low = pow(10, floor(log10(a.low)));
		a.high = pow(10, ceil(log10(a.high)));
		ticks_log(&a);
	} else {
		a.low = 0;
		ticks_even(&a);
	}
	return a;
}

/* "1,000" on an even axis; "1 k", "10 M" on a logarithmic one. */
static void tick_text(const struct axis *a, double value, char to[NUMBER_SIZE]) {
	if (!a->log && value >= 999)
		(void)count_text((unsigned)(value + 0.5), to);
	else if (value >= 999999)
		(void)snprintf(to, NUMBER_SIZE, "%g M", value / 1e6);
	else if (value >= 999)
		(void)snprintf(to, NUMBER_SIZE, "%g k", value / 1e3);
	else
		(void)snprintf(to, NUMBER_SIZE, "%g", value);
}

/* -- drawing ----------------------------------------------------------------------------------- */

static void draw_head(FILE *f, const char *title, double height, const char *what) {
	const struct machine *m = machine_describe();

	fprintf(f,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
		"font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n"
		"<text x=\"%.0f\" y=\"26\" font-size=\"16\" font-weight=\"bold\">%s</text>\n"
		"<text x=\"%.0f\" y=\"44\" font-size=\"11\" fill=\"#777\">%s, %u CPUs, %s; "
		"%s</text>\n",
		WIDTH, height, LEFT, title, LEFT, m->cpu, m->cpus, m->kernel, what);
}

static void draw_axes(FILE *f, const struct plot *p, const struct axis *x, const struct axis *y) {
	char text[NUMBER_SIZE];

	for (unsigned i = 0; i < y->count; i++) {
		double at = place(y, y->tick[i]);

		tick_text(y, y->tick[i], text);
		fprintf(f,
			"<path d=\"M%.1f %.1fH%.1f\" stroke=\"#ddd\"/>"
			"<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
			x->begin, at, x->end, x->begin - 8, at + 4, text);
	}
	for (unsigned i = 0; i < x->count; i++) {
		double at = place(x, x->tick[i]);

		tick_text(x, x->tick[i], text);
		fprintf(f,
			"<path d=\"M%.1f %.1fv5\" stroke=\"#222\"/>"
			"<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n",
			at, y->begin, at, y->begin + 20, text);
	}
	fprintf(f, "<path d=\"M%.1f %.1fH%.1f\" stroke=\"#222\"/>\n", x->begin, y->begin, x->end);
	fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n",
		(x->begin + x->end) / 2, HEIGHT - 20, p->x_label);
	fprintf(f,
		"<text transform=\"translate(20 %.1f) rotate(-90)\" text-anchor=\"middle\">"
		"%s</text>\n",
		(y->begin + y->end) / 2, p->y_label);
}

/* Bars that leave the picture are cut at its edges. */
static double place_within(const struct axis *a, double value) {
	return place(a, fmin(fmax(value, a->low), a->high));
}

static void draw_line(FILE *f, const struct plot_line *l, const char *colour, const struct axis *x,
	const struct axis *y) {
	fprintf(f, "<g stroke=\"%s\" fill=\"none\"><path stroke-width=\"2\" d=\"", colour);
	for (unsigned i = 0; i < l->count; i++)
		fprintf(f, "%s%.1f %.1f", i ? "L" : "M", place(x, l->x[i]), place(y, l->y[i]));
	fprintf(f, "\"/>\n");
	for (unsigned i = 0; i < l->count; i++)
		fprintf(f,
			"<path d=\"M%.1f %.1fV%.1f\" stroke-opacity=\"0.4\" stroke-width=\"4\"/>"
			"<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n",
			place(x, l->x[i]), place_within(y, l->low[i]), place_within(y, l->high[i]),
			place(x, l->x[i]), place(y, l->y[i]), colour);
	fprintf(f, "</g>\n");
}

/* -- names, each at the end of its line -------------------------------------------------------- */

/* Moves them apart where lines end close together: from the top down. */
static void names_place(const struct plot *p, const struct axis *y, double at[PLOT_LINES]) {
	unsigned order[PLOT_LINES] = {0};

	for (unsigned l = 0; l < p->count; l++) {
		unsigned k = l;

		at[l] = place(y, p->line[l].y[p->line[l].count - 1]);
		for (; k > 0 && at[order[k - 1]] > at[l]; k--)
			order[k] = order[k - 1];
		order[k] = l;
	}
	for (unsigned k = 1; k < p->count; k++)
		at[order[k]] = fmax(at[order[k]], at[order[k - 1]] + NAME_PX);
	/* Up again, if that went below the axis. */
	for (unsigned k = p->count; k > 0; k--) {
		double most = k == p->count ? y->begin : at[order[k]] - NAME_PX;

		at[order[k - 1]] = fmin(at[order[k - 1]], most);
	}
}

static void draw_names(FILE *f, const struct plot *p, const struct axis *x, const struct axis *y) {
	double at[PLOT_LINES];

	names_place(p, y, at);
	for (unsigned l = 0; l < p->count; l++) {
		const struct plot_line *line = &p->line[l];
		double end = place(x, line->x[line->count - 1]);

		fprintf(f,
			"<path d=\"M%.1f %.1fL%.1f %.1f\" stroke=\"%s\" stroke-opacity=\"0.5\" "
			"stroke-dasharray=\"2 2\"/>"
			"<text x=\"%.1f\" y=\"%.1f\" fill=\"%s\" font-weight=\"bold\">%s</text>\n",
			end + 5, place(y, line->y[line->count - 1]), x->end + 12, at[l], colours[l],
			x->end + 15, at[l] + 4, colours[l], line->name);
	}
}

static FILE *plot_open(const char *name) {
	char path[600];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%.500s/%s", bench.out, name);
	f = fopen(path, "we");
	bench_check(f != NULL, path);
	return f;
}

static void plot_close(FILE *f) {
	fprintf(f, "</svg>\n");
	bench_check(fclose(f) == 0, "writing a plot");
}

void plot_write(const struct plot *p, const char *name) {
	struct axis x = axis_x(p), y = axis_y(p);
	FILE *f = plot_open(name);

	draw_head(f, p->title, HEIGHT, "medians, and what the rounds spread");
	draw_axes(f, p, &x, &y);
	for (unsigned l = 0; l < p->count; l++)
		draw_line(f, &p->line[l], colours[l], &x, &y);
	draw_names(f, p, &x, &y);
	plot_close(f);
}

/* -- bars -------------------------------------------------------------------------------------- */

#define BAR_HEIGHT 18.0
#define BAR_STEP   28.0
#define BAR_LEFT   180.0

static struct axis axis_bars(const struct work *w) {
	struct axis a = {.log = true, .begin = BAR_LEFT, .end = WIDTH - RIGHT, .low = INFINITY};

	for (unsigned i = 0; i < w->count; i++) {
		double median = series_median(&w->row[i].figures);

		if (w->row[i].missing)
			continue;
		a.low = fmin(a.low, median);
		a.high = fmax(a.high, median);
	}
	a.low = pow(10, floor(log10(a.low)));
	a.high = pow(10, ceil(log10(a.high)));
	ticks_log(&a);
	return a;
}

static void draw_bar(
	FILE *f, const struct row *r, const struct axis *x, double y, const char *colour) {
	struct texts t;
	double end;

	fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", BAR_LEFT - 8,
		y + BAR_HEIGHT - 5, r->contender);
	if (r->missing)
		return;
	texts_make(r, &t);
	end = place(x, series_median(&r->figures));
	fprintf(f,
		"<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>"
		"<text x=\"%.1f\" y=\"%.1f\">%s</text>\n",
		x->begin, y, end - x->begin, BAR_HEIGHT, colour, end + 6, y + BAR_HEIGHT - 5,
		t.median);
}

static void draw_ticks(FILE *f, const struct axis *x, double bottom) {
	char text[NUMBER_SIZE];

	for (unsigned i = 0; i < x->count; i++) {
		double at = place(x, x->tick[i]);

		tick_text(x, x->tick[i], text);
		fprintf(f,
			"<path d=\"M%.1f %.1fV%.1f\" stroke=\"#ddd\"/>"
			"<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n",
			at, TOP, bottom, at, bottom + 16, text);
	}
}

void plot_bars(const struct work *w, const char *x_label, const char *name) {
	double bottom = TOP + BAR_STEP * w->count;
	struct axis x = axis_bars(w);
	FILE *f = plot_open(name);

	draw_head(f, w->title, bottom + BOTTOM, "medians");
	draw_ticks(f, &x, bottom);
	for (unsigned i = 0; i < w->count; i++)
		draw_bar(f, &w->row[i], &x, TOP + BAR_STEP * i + (BAR_STEP - BAR_HEIGHT) / 2,
			colours[i == 0 ? 0 : 6]);
	fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n",
		(x.begin + x.end) / 2, bottom + 44, x_label);
	plot_close(f);
}
