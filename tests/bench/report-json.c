/* SPDX-License-Identifier: MIT */

/*
 * Writes results.json:
 *
 *     {"schema": "berth-bench-1", "berth": version, "command": the command line, "quick": bool,
 *      "machine": {"cpu", "kernel", "compiler", "disk": strings, "load": number, the load average
 *                 when the bench began, "cpus": number},
 *      "works": [{"work": key, "title": string, "note": string or null,
 *                 "met": bool, "why": string, why a target is missed, or null}],
 *      "rows": [{"work": key, "contender", "unit": strings,
 *                "median", "min", "max": numbers, of the rounds' figures, or null if the contender
 *                wasn't measured; "rounds": number,
 *                "versus": the contender to compare with, or null,
 *                "ratio", "ratio_min", "ratio_max": numbers: the median, the lowest and the highest
 *                of the rounds' ratios; "ratio_fastest": number, the ratio of the fastest rounds;
 *                these four are null if there is no ratio,
 *                "bound": "at most", "at least" or null,
 *                "target": number, for the ratio if there is one, else for the median; null if
 *                there is no target; "met": bool, or null if there is no target,
 *                "remark": string or null,
 *                "missing": string, why the contender wasn't measured, or null}]}
 */

#include <berth.h>

#include <stdio.h>

#include "bench.h"
#include "report.h"

static void json_string(FILE *f, const char *key, const char *text) {
	fprintf(f, "\"%s\": ", key);
	if (!text) {
		fprintf(f, "null, ");
		return;
	}
	putc('"', f);
	for (const char *p = text; *p; p++) {
		if (*p == '"' || *p == '\\')
			putc('\\', f);
		if ((unsigned char)*p < 0x20)
			fprintf(f, "\\u%04x", *p);
		else
			putc(*p, f);
	}
	fprintf(f, "\", ");
}

static void json_number(FILE *f, const char *key, bool known, double value) {
	if (known)
		fprintf(f, "\"%s\": %.6g, ", key, value);
	else
		fprintf(f, "\"%s\": null, ", key);
}

static const char *json_bool(bool value) {
	return value ? "true" : "false";
}

static void json_row(FILE *f, const struct work *w, const struct row *r) {
	static const char *const bounds[] = {NULL, "at most", "at least"};
	bool measured = !r->missing, compared = r->ratio.count > 0;

	fprintf(f, "{");
	json_string(f, "work", w->key);
	json_string(f, "contender", r->contender);
	json_string(f, "unit", r->unit);
	json_number(f, "median", measured, series_median(&r->figures));
	json_number(f, "min", measured, series_min(&r->figures));
	json_number(f, "max", measured, series_max(&r->figures));
	json_number(f, "rounds", true, r->figures.count);
	json_string(f, "versus", r->versus);
	json_number(f, "ratio", compared, series_median(&r->ratio));
	json_number(f, "ratio_min", compared, series_min(&r->ratio));
	json_number(f, "ratio_max", compared, series_max(&r->ratio));
	json_number(f, "ratio_fastest", compared, r->ratio_fastest);
	json_string(f, "bound", bounds[r->bound]);
	json_number(f, "target", r->bound != BOUND_NONE, r->target);
	json_string(f, "remark", r->remark);
	json_string(f, "missing", r->missing);
	fprintf(f, "\"met\": %s}", r->bound == BOUND_NONE ? "null" : json_bool(row_meets(r)));
}

void report_json(FILE *f) {
	const struct machine *m = machine_describe();
	const char *between = "\n";

	fprintf(f, "{\"schema\": \"berth-bench-1\", ");
	json_string(f, "berth", BERTH_VERSION);
	json_string(f, "command", m->command);
	fprintf(f, "\"quick\": %s,\n\"machine\": {", json_bool(bench.quick));
	json_string(f, "cpu", m->cpu);
	json_string(f, "kernel", m->kernel);
	json_string(f, "compiler", m->compiler);
	json_string(f, "disk", m->disk);
	json_number(f, "load", true, m->load);
	fprintf(f, "\"cpus\": %u},\n", m->cpus);
	fprintf(f, "\"works\": [");
	for (unsigned i = 0; i < work_count; i++, between = ",\n") {
		const struct work *w = works[i];

		fprintf(f, "%s{", between);
		json_string(f, "work", w->key);
		json_string(f, "title", w->title);
		json_string(f, "note", w->note);
		json_string(f, "why", work_meets(w) ? NULL : w->why);
		fprintf(f, "\"met\": %s}", json_bool(work_meets(w)));
	}
	fprintf(f, "],\n\"rows\": [");
	between = "\n";
	for (unsigned i = 0; i < work_count; i++)
		for (unsigned k = 0; k < works[i]->count; k++, between = ",\n") {
			fprintf(f, "%s", between);
			json_row(f, works[i], &works[i]->row[k]);
		}
	fprintf(f, "]}\n");
}
