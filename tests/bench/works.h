/* SPDX-License-Identifier: MIT */
#pragma once

/* What is measured: families of works, each in a file of its own. */

void works_fast(void);       /* one process */
void works_shared(void);     /* several processes */
void works_scale(void);      /* many accounts */
void works_ends(void);       /* killed processes */
void works_limits(void);     /* changed limits */
void works_checkpoint(void); /* counts being stored */

/* An idle berthd beside them: started first, watched from when it has settled, looked at last. */
void idle_begin(void);
void idle_watch(void);
void idle_end(void);
