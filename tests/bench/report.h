/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The results: works, each with a row for every contender. Shown as text, and written as Markdown
 * and JSON.
 */

#include <stdbool.h>
#include <stdio.h>

#include "series.h"

enum bound { BOUND_NONE, BOUND_AT_MOST, BOUND_AT_LEAST };

struct row {
	char contender[64];
	const char *unit;
	struct series figures;
	/* Figures divided by those of another contender. */
	const char *versus;
	struct series ratio;
	double ratio_fastest; /* of the fastest rounds of both */
	/* What the median of the ratio is to be; of the figures, if there is no ratio. */
	enum bound bound;
	double target;
	const char *remark;  /* what to know about it; or NULL */
	const char *missing; /* why it wasn't measured; or NULL */
};

#define WORK_ROWS 24
struct work {
	const char *key, *title;
	const char *note; /* how it was measured */
	const char *why;  /* a target is missed, if one is; goes on after "since" */
	unsigned count;
	struct row row[WORK_ROWS];
};

struct work *work_new(const char *key, const char *title, const char *note);
struct row *work_row(
	struct work *w, const char *contender, const char *unit, const struct series *figures);
/* The row's figures are to be at most, or at least, so many times the other's. */
void row_versus(struct row *r, const char *versus, const struct series *other, enum bound bound,
	double target);
/* They are to be at most, or at least, that much. */
void row_bound(struct row *r, enum bound bound, double target);
void work_missing(struct work *w, const char *contender, const char *why);
bool row_meets(const struct row *r);
bool work_meets(const struct work *w);

/* Shows a finished work. */
void report_show(const struct work *w);
void report_head(void);
/* All of them as text (report.c); as Markdown what has a target, what a pair costs with names, levels
 * and threads, and the peers (report-text.c). */
void report_text(FILE *f);
void report_markdown(FILE *f);
/* Writes table.txt, table.md and results.json (report-files.c). */
void report_write(void);

/* "3", "12.3", "4,560": no more digits than matter. */
#define NUMBER_SIZE 32
const char *number_text(double value, char to[NUMBER_SIZE]);
/* "1,000,000": all of them. */
const char *count_text(unsigned count, char to[NUMBER_SIZE]);

/* A row's columns. */
struct texts {
	char median[64], spread[64], ratio[96], target[64];
};
void texts_make(const struct row *r, struct texts *t);

/* All works so far (report.c). */
unsigned works_count(void);
const struct work *works_get(unsigned i);
