/* SPDX-License-Identifier: MIT */
#pragma once

/* Plots as SVG: lines over points, logarithmic axes where growth is what matters. */

#include <stdbool.h>

#include "series.h"

#define PLOT_LINES  8
#define PLOT_POINTS 16

struct plot_line {
	const char *name;
	unsigned count;
	double x[PLOT_POINTS], y[PLOT_POINTS], low[PLOT_POINTS], high[PLOT_POINTS];
};

struct plot {
	const char *title, *x_label, *y_label;
	bool x_log, y_log;
	unsigned count;
	struct plot_line line[PLOT_LINES];
};

struct plot_line *plot_line_new(struct plot *p, const char *name);
/* The median at x, with the fastest and the slowest round as a bar. */
void plot_point(struct plot_line *l, double x, const struct series *y, double factor);
/* Writes it into the results' directory. */
void plot_write(const struct plot *p, const char *name);
/* The medians of a work's rows, in ns, as bars on a logarithmic axis; the first stands out. */
struct work;
void plot_bars(const struct work *w, const char *x_label, const char *name);
