/* SPDX-License-Identifier: MIT */
#pragma once

/* What is measured: families of works, each in a file of its own. */

#include <stdbool.h>

void works_fast(void);        /* one process */
void works_forms(void);       /* one process: names, labels, threads, several slots, accounts */
void works_shared(void);      /* several processes */
void works_ends(void);        /* killed processes */
void works_limits(void);      /* changed limits */
void works_checkpoint(void);  /* counts being stored */
void works_scale(void);       /* a million accounts */
void works_ten_million(void); /* not in a quick run */
void works_growth(void);      /* with slots held, with processes */

/* Accounts of the berthd that clients find: 10, 100, ... and at most so many of them. */
void random_measure(unsigned most);

/* An idle berthd beside them: started first, watched from when it has settled, looked at last. */
void idle_begin(void);
void idle_watch(void);
void idle_end(void);
