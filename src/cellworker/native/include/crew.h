/* Threads that share the pieces of one task after the other. The leader puts up a task and works on it himself; helpers take
 * pieces while they are there, and none is needed. Which thread does a piece is left to chance: a piece must give the same
 * result whoever does it, in whatever order. */
#ifndef CW_CREW_H
#define CW_CREW_H

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

enum { PATIENCE = 1000 }; /* looks for work before the processor is offered to others */

/* The offer holds what must change in one step, so that no piece of an old task is taken for one of the new task: the number
 * of the task (24 bits), what is to be done (8), the number of pieces (16) and the next piece (16). */
typedef struct {
    _Atomic uint64_t offer;
    _Atomic int32_t done;
    _Atomic int32_t over;
} Crew;

enum { MOST_PIECES = UINT16_MAX };

static inline void wait_a_little(int32_t *waited) {
    if (++*waited < PATIENCE) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    } else {
        sched_yield();
    }
}

/* Takes a piece: returns what is to be done, or -1 when there is none. */
static inline int32_t take(Crew *crew, int32_t *piece) {
    uint64_t offer = atomic_load_explicit(&crew->offer, memory_order_acquire);
    while ((offer & 0xFFFF) < (offer >> 16 & 0xFFFF)) {
        if (atomic_compare_exchange_weak_explicit(&crew->offer, &offer, offer + 1, memory_order_acq_rel,
                                                  memory_order_acquire)) {
            *piece = (int32_t)(offer & 0xFFFF);
            return (int32_t)(offer >> 32 & 0xFF);
        }
    }
    return -1;
}

typedef void Piecework(void *task, int32_t what, int32_t piece, int32_t member);

/* The leader's part: returns when all pieces are done. */
static inline void share(Crew *crew, Piecework *work, void *task, int32_t what, int32_t pieces) {
    const uint64_t number = (atomic_load_explicit(&crew->offer, memory_order_relaxed) >> 40) + 1;
    atomic_store_explicit(&crew->done, 0, memory_order_relaxed);
    const uint64_t offer = number << 40 | (uint64_t)what << 32 | (uint64_t)pieces << 16;
    atomic_store_explicit(&crew->offer, offer, memory_order_release);
    int32_t piece = 0, waited = 0;
    while (take(crew, &piece) >= 0) {
        work(task, what, piece, 0);
        atomic_fetch_add_explicit(&crew->done, 1, memory_order_release);
    }
    while (atomic_load_explicit(&crew->done, memory_order_acquire) < pieces) wait_a_little(&waited);
}

/* A helper's part: returns when the leader says that it is over. */
static inline void help(Crew *crew, Piecework *work, void *task, int32_t member) {
    int32_t waited = 0;
    while (!atomic_load_explicit(&crew->over, memory_order_acquire)) {
        int32_t piece = 0;
        const int32_t what = take(crew, &piece);
        if (what < 0) {
            wait_a_little(&waited);
            continue;
        }
        waited = 0;
        work(task, what, piece, member);
        atomic_fetch_add_explicit(&crew->done, 1, memory_order_release);
    }
}

#endif
