/* SPDX-License-Identifier: MIT */
#pragma once

/* Memory that is needed now and then, and not kept meanwhile. */

/* Before the first allocation: large blocks go back to the kernel when they are freed, whatever was
 * freed before. */
void memory_init(void);

/* After a large job: small blocks, too, as far as whole pages of them are free. */
void memory_give_back(void);

/* Once berthd serves: what only its start has run is read again from the files, should it be needed. */
void memory_forget_start(void);
