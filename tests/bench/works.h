/* SPDX-License-Identifier: MIT */
#pragma once

/* The families of works. A work (report.h) is one thing that is measured. */

void works_fast(void);        /* one process, every peer */
void works_forms(void);       /* one process: names, labels, threads, several slots, accounts */
void works_shared(void);      /* several processes */
void works_ends(void);        /* killed processes */
void works_limits(void);      /* changed limits */
void works_checkpoint(void);  /* storing counts */
void works_scale(void);       /* a million accounts, see also random_measure() */
void works_ten_million(void); /* ten million accounts; left out of a quick run */
void works_growth(void);      /* many held slots, many processes */

/* Measures accounts chosen at random among 10, 100, ... `most` accounts of the last berthd. */
void random_measure(unsigned most);

/* An idle berthd runs beside all families. idle_begin() starts it. idle_watch() is called after
 * each family, and begins to count the wake-ups once this berthd has stored its counts. idle_end()
 * reports them. */
void idle_begin(void);
void idle_watch(void);
void idle_end(void);
