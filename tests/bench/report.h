/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The results. A work is one thing that is measured, with a row for every contender. Each work is
 * printed when it is finished; at the end, report_write() writes all of them into table.txt and
 * results.json (report-json.c has its schema).
 */

#include <stdbool.h>
#include <stdio.h>

#include "series.h"

enum bound { BOUND_NONE, BOUND_AT_MOST, BOUND_AT_LEAST };

struct row {
	char contender[64];
	const char *unit;
	struct series figures;
	/* The figures divided by those of another contender, whose name is `versus`. */
	const char *versus;
	struct series ratio;
	double ratio_fastest; /* the ratio of the fastest rounds of both contenders */
	/* The target for the median of the ratio or, in a row without a ratio, of the figures. */
	enum bound bound;
	double target;
	const char *remark;  /* NULL: none */
	const char *missing; /* why the contender wasn't measured; NULL: it was */
};

#define WORK_ROWS 24
struct work {
	const char *key, *title;
	const char *note; /* how the work was measured; NULL: nothing to say */
	const char *why;  /* why a target may be missed; shown after "since" if one is missed */
	unsigned count;
	struct row row[WORK_ROWS];
};

struct work *work_new(const char *key, const char *title, const char *note);
/* Adds a row. The contender's name is formatted as by printf. */
struct row *work_row(struct work *w, const char *unit, const struct series *figures,
	const char *contender, ...) __attribute__((format(printf, 4, 5)));
/* Adds a row for a contender that can't be measured here. */
void work_missing(struct work *w, const char *contender, const char *why);
/* Reports a work that can't be measured here at all. */
void work_skip(const char *key, const char *title, const char *why);
/* Sets the row's ratio: its figures divided by another contender's figures of the same rounds. */
void row_versus(struct row *r, const char *versus, const struct series *other);
/* Set the row's target. After row_versus(), the target is for the ratio. */
void row_at_most(struct row *r, double target);
void row_at_least(struct row *r, double target);
bool row_meets(const struct row *r);
bool work_meets(const struct work *w);

/* report_head() prints the machine; report_show() prints a finished work. */
void report_head(FILE *f);
void report_show(const struct work *w);
/* Writes table.txt and results.json into the results' directory. */
void report_write(void);

/* "1,000,000" */
#define NUMBER_SIZE 32
const char *count_text(unsigned count, char to[NUMBER_SIZE]);

/* All works so far, for report-json.c. */
#define WORKS_MAX 48
extern struct work *works[WORKS_MAX];
extern unsigned work_count;
void report_json(FILE *f);
