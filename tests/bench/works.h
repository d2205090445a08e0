/* SPDX-License-Identifier: MIT */
#pragma once

/* What is measured: families of works, each in a file of its own. */

void works_fast(void);   /* one process */
void works_shared(void); /* several processes */
