/* SPDX-License-Identifier: MIT */
#pragma once

/* Statistics of rounds, and of single operations. */

#include <stdint.h>

#define SERIES_MAX 64

/* One figure a round, in the order of the rounds. */
struct series {
	unsigned count;
	double value[SERIES_MAX];
};

void series_add(struct series *s, double value);
/* Returns the median of the values, and sorts them. */
double median_of(double *values, unsigned count);
double series_median(const struct series *s);
double series_min(const struct series *s);
double series_max(const struct series *s);
/* Divides a by b for each round, so that a disturbance that slows both down alike cancels out. */
struct series series_ratio(const struct series *a, const struct series *b);
/* A series of a single round. */
#define SERIES_ONE(figure) (&(const struct series){1, {figure}})

/* How long single operations took, exact to a sixteenth of each time. */
#define HISTOGRAM_SIZE 1024
struct histogram {
	uint64_t total, longest;
	uint32_t count[HISTOGRAM_SIZE];
};

void histogram_add(struct histogram *h, uint64_t ns);
void histogram_merge(struct histogram *to, const struct histogram *from);
/* Returns the time that this share of the operations (a number from 0 to 1) didn't exceed. */
double histogram_quantile(const struct histogram *h, double share);
