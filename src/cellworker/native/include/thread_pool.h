/* Threads that share the pieces of one task at a time. The calling thread posts a task and runs pieces too; worker
 * threads take pieces while there are any. A pool without worker threads works as well. Any thread may run any piece,
 * so a piece must give the same result on every thread and in every order. */
#ifndef CW_THREAD_POOL_H
#define CW_THREAD_POOL_H

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

enum { SPINS_BEFORE_YIELD = 1000 }; /* a piece takes microseconds: a sleeping thread wakes too late */

/* `offer` packs the fields that must change in one step: the number of the task (24 bits), the kind of work (8), the
 * number of pieces (16) and the next piece (16). So no thread mistakes a piece of an old task for one of the new task.
 * */
typedef struct {
    _Atomic uint64_t offer;
    _Atomic int32_t done;
    _Atomic int32_t closed;
} Pool;

enum { MAX_PIECES = UINT16_MAX };

static inline void spin_or_yield(int32_t *spins) {
    if (++*spins < SPINS_BEFORE_YIELD) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    } else {
        sched_yield();
    }
}

/* Takes a piece: returns the kind of work, or -1 when there is no piece. */
static inline int32_t take_piece(Pool *pool, int32_t *piece) {
    uint64_t offer = atomic_load_explicit(&pool->offer, memory_order_acquire);
    while ((offer & 0xFFFF) < (offer >> 16 & 0xFFFF)) {
        if (atomic_compare_exchange_weak_explicit(&pool->offer, &offer, offer + 1, memory_order_acq_rel,
                                                  memory_order_acquire)) {
            *piece = (int32_t)(offer & 0xFFFF);
            return (int32_t)(offer >> 32 & 0xFF);
        }
    }
    return -1;
}

typedef void PieceFunction(void *task, int32_t what, int32_t piece, int32_t thread);

/* Called by the thread that posts the task. Returns when all pieces are done. */
static inline void run_pieces(Pool *pool, PieceFunction *work, void *task, int32_t what, int32_t pieces) {
    const uint64_t number = (atomic_load_explicit(&pool->offer, memory_order_relaxed) >> 40) + 1;
    atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
    const uint64_t offer = number << 40 | (uint64_t)what << 32 | (uint64_t)pieces << 16;
    atomic_store_explicit(&pool->offer, offer, memory_order_release);
    int32_t piece = 0, spins = 0;
    while (take_piece(pool, &piece) >= 0) {
        work(task, what, piece, 0);
        atomic_fetch_add_explicit(&pool->done, 1, memory_order_release);
    }
    while (atomic_load_explicit(&pool->done, memory_order_acquire) < pieces) spin_or_yield(&spins);
}

/* Called by a worker thread. Returns when the pool is closed. */
static inline void work_until_closed(Pool *pool, PieceFunction *work, void *task, int32_t thread) {
    int32_t spins = 0;
    while (!atomic_load_explicit(&pool->closed, memory_order_acquire)) {
        int32_t piece = 0;
        const int32_t what = take_piece(pool, &piece);
        if (what < 0) {
            spin_or_yield(&spins);
            continue;
        }
        spins = 0;
        work(task, what, piece, thread);
        atomic_fetch_add_explicit(&pool->done, 1, memory_order_release);
    }
}

#endif
