/* SPDX-License-Identifier: MIT */

/*
 * Writes the results into files. results.json:
 *
 *     {"schema": "berth-bench-1", "berth": version, "command": how it was called, "quick": bool,
 *      "machine": {"cpu", "cpus": number, "load": number, when it began, "kernel", "compiler",
 *                 "disk"},
 *      "works": [{"work": key, "title", "note": string or null, "met": bool,
 *                 "why": string or null, why a target is missed}],
 *      "rows": [{"work": key, "contender", "unit",
 *                "median", "min", "max": numbers, or null if it wasn't measured; "rounds": number,
 *                "versus": what the ratio is to, or null; "ratio", "ratio_min", "ratio_max":
 *                numbers or null, of the rounds' ratios; "ratio_fastest": that of the fastest rounds,
 *                "bound": "at most", "at least" or null; "target": number or null, for the ratio if
 *                there is one, else the median; "met": bool, or null if there is no target,
 *                "remark": string or null, "missing": string or null, why it wasn't measured}]}
 */

#include <berth.h>

#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "report.h"

static void json_string(FILE *f, const char *text) {
	if (!text) {
		fprintf(f, "null");
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
	putc('"', f);
}

static void json_text(FILE *f, const char *key, const char *text) {
	fprintf(f, "\"%s\": ", key);
	json_string(f, text);
	fprintf(f, ", ");
}

static void json_number(FILE *f, const char *key, bool known, double value) {
	fprintf(f, "\"%s\": ", key);
	if (known)
		fprintf(f, "%.6g, ", value);
	else
		fprintf(f, "null, ");
}

static const char *json_bool(bool value) {
	return value ? "true" : "false";
}

static void json_head(FILE *f) {
	const struct machine *m = machine_describe();

	fprintf(f, "{\"schema\": \"berth-bench-1\", ");
	json_text(f, "berth", BERTH_VERSION);
	json_text(f, "command", m->command);
	fprintf(f, "\"quick\": %s,\n\"machine\": {", json_bool(bench.quick));
	json_text(f, "cpu", m->cpu);
	json_text(f, "kernel", m->kernel);
	json_text(f, "compiler", m->compiler);
	json_text(f, "disk", m->disk);
	json_number(f, "load", true, m->load);
	fprintf(f, "\"cpus\": %u},\n", m->cpus);
}

static void json_work(FILE *f, const struct work *w) {
	fprintf(f, "{");
	json_text(f, "work", w->key);
	json_text(f, "title", w->title);
	json_text(f, "note", w->note);
	json_text(f, "why", work_meets(w) ? NULL : w->why);
	fprintf(f, "\"met\": %s}", json_bool(work_meets(w)));
}

static void json_row(FILE *f, const struct work *w, const struct row *r) {
	static const char *const bounds[] = {NULL, "at most", "at least"};
	bool measured = !r->missing, compared = r->ratio.count > 0;

	fprintf(f, "{");
	json_text(f, "work", w->key);
	json_text(f, "contender", r->contender);
	json_text(f, "unit", r->unit);
	json_number(f, "median", measured, series_median(&r->figures));
	json_number(f, "min", measured, series_min(&r->figures));
	json_number(f, "max", measured, series_max(&r->figures));
	json_number(f, "rounds", true, r->figures.count);
	json_text(f, "versus", r->versus);
	json_number(f, "ratio", compared, series_median(&r->ratio));
	json_number(f, "ratio_min", compared, series_min(&r->ratio));
	json_number(f, "ratio_max", compared, series_max(&r->ratio));
	json_number(f, "ratio_fastest", compared, r->ratio_fastest);
	json_text(f, "bound", bounds[r->bound]);
	json_number(f, "target", r->bound != BOUND_NONE, r->target);
	json_text(f, "remark", r->remark);
	json_text(f, "missing", r->missing);
	fprintf(f, "\"met\": %s}", r->bound == BOUND_NONE ? "null" : json_bool(row_meets(r)));
}

static void json_write(FILE *f) {
	const char *between = "\n";

	json_head(f);
	fprintf(f, "\"works\": [");
	for (unsigned i = 0; i < works_count(); i++, between = ",\n") {
		fprintf(f, "%s", between);
		json_work(f, works_get(i));
	}
	fprintf(f, "],\n\"rows\": [");
	between = "\n";
	for (unsigned i = 0; i < works_count(); i++)
		for (unsigned k = 0; k < works_get(i)->count; k++, between = ",\n") {
			fprintf(f, "%s", between);
			json_row(f, works_get(i), &works_get(i)->row[k]);
		}
	fprintf(f, "]}\n");
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
	file_write("table.txt", report_text);
	file_write("table.md", report_markdown);
	file_write("results.json", json_write);
	printf("\nIn %s: table.txt, table.md, results.json\n", bench.out);
}
