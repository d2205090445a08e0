/* SPDX-License-Identifier: MIT */

/* Statistics: medians of rounds, ratios round by round, quantiles of single operations. */

#include <stdlib.h>

#include "bench.h"
#include "series.h"

void series_add(struct series *s, double value) {
	bench_check(s->count < SERIES_MAX, "more rounds than a series holds");
	s->value[s->count++] = value;
}

static int compare(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double median_of(double *values, unsigned count) {
	if (count == 0)
		return 0;
	qsort(values, count, sizeof(values[0]), compare);
	return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

double series_median(const struct series *s) {
	struct series sorted = *s;

	return median_of(sorted.value, sorted.count);
}

double series_min(const struct series *s) {
	double least = s->count ? s->value[0] : 0;

	for (unsigned i = 1; i < s->count; i++)
		least = s->value[i] < least ? s->value[i] : least;
	return least;
}

double series_max(const struct series *s) {
	double most = s->count ? s->value[0] : 0;

	for (unsigned i = 1; i < s->count; i++)
		most = s->value[i] > most ? s->value[i] : most;
	return most;
}

struct series series_ratio(const struct series *a, const struct series *b) {
	struct series ratio = {0};

	for (unsigned i = 0; i < a->count && i < b->count; i++)
		series_add(&ratio, a->value[i] / b->value[i]);
	return ratio;
}

/* Each time below 16 ns has a bucket of its own; above, each doubling has 16 buckets. */
static unsigned bucket_of(uint64_t ns) {
	unsigned doubling;

	if (ns < 16)
		return (unsigned)ns;
	doubling = 63 - (unsigned)__builtin_clzll(ns) - 3;
	return doubling * 16 + (unsigned)(ns >> (doubling - 1) & 15);
}

/* The longest time that belongs to the bucket. */
static double bucket_end(unsigned bucket) {
	unsigned doubling = bucket / 16;

	if (doubling == 0)
		return bucket;
	return (double)(((UINT64_C(16) + bucket % 16 + 1) << (doubling - 1)) - 1);
}

void histogram_add(struct histogram *h, uint64_t ns) {
	h->total++;
	h->count[bucket_of(ns)]++;
	h->longest = ns > h->longest ? ns : h->longest;
}

void histogram_merge(struct histogram *to, const struct histogram *from) {
	to->total += from->total;
	to->longest = from->longest > to->longest ? from->longest : to->longest;
	for (unsigned b = 0; b < HISTOGRAM_SIZE; b++)
		to->count[b] += from->count[b];
}

double histogram_quantile(const struct histogram *h, double share) {
	uint64_t wanted = (uint64_t)((double)h->total * share), seen = 0;

	for (unsigned b = 0; b < HISTOGRAM_SIZE; b++) {
		seen += h->count[b];
		if (seen > wanted || seen == h->total)
			return bucket_end(b) < (double)h->longest ? bucket_end(b)
								  : (double)h->longest;
	}
	return (double)h->longest;
}
