/* What keepers know about workers, besides the memory. */
#pragma once

#define WORKER_EXIT_BUSY     75      /* another worker is there */
#define WORKER_EXIT_UNUSABLE 76      /* the recovery memory is damaged: no other worker could do more with it */
#define WORKER_LEAVE         SIGUSR1 /* stop reading, finish what can be finished soon, and end */
