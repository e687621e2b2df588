/* Handles access to a mapped page that its file no longer has: the file was cut short, or its disk fails.
 *
 * Without a handler, SIGBUS ends the process. In a map that is registered here, the handler puts zeros in place of the
 * lost page and of all pages after it, marks the map, and lets the thread continue. The caller checks the mark
 * afterwards and discards the result. Kernels trust row bounds, so row bounds get the last bound that remains, not
 * zeros: the lost rows are empty, and none ends before it begins.
 *
 * The handler calls only fstat, mmap, mprotect and sigaction, which are plain system calls. */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE
#endif
#ifndef _DARWIN_C_SOURCE
#define _DARWIN_C_SOURCE
#endif
#include "cellworker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_MAPS = 256, MAX_BOUNDS = 32, MAX_PAGE = 1 << 16 };

typedef struct {
    uintptr_t first; /* address of the first bound */
    int64_t count;
} Bounds;

typedef struct {
    _Atomic uintptr_t start; /* 0: the place is free */
    uintptr_t end;
    _Atomic uintptr_t lost; /* our own memory starts at this page; `end` while the file has all pages */
    int32_t descriptor;
    Bounds bounds[MAX_BOUNDS];
    int32_t n_bounds;
} Map;

static Map maps[MAX_MAPS];
static pthread_mutex_t places = PTHREAD_MUTEX_INITIALIZER; /* never taken by the handler */
static atomic_flag mending = ATOMIC_FLAG_INIT;
static struct sigaction earlier;
static int (*_Atomic tell)(int);
static _Atomic uintptr_t last_thread;
static uintptr_t page_size = 4096;

/* Fill the row bounds from `from` on with the last one before it. The pages from `from` on are already private. */
static void continue_bounds(const Bounds *bounds, uintptr_t from) {
    uintptr_t end = bounds->first + (uintptr_t)bounds->count * sizeof(int64_t), first_page, last_page;
    int64_t last = 0;
    if (end <= from) return;
    if (from <= bounds->first) {
        from = bounds->first;
    } else {
        from -= (from - bounds->first) % sizeof last; /* a bound that was cut in two is lost */
        if (from > bounds->first) memcpy(&last, (const void *)(from - sizeof last), sizeof last);
    }
    first_page = from & ~(page_size - 1);
    last_page = (end + page_size - 1) & ~(page_size - 1);
    if (mprotect((void *)first_page, last_page - first_page, PROT_READ | PROT_WRITE) != 0) return;
    for (uintptr_t at = from; at < end; at += sizeof last) memcpy((void *)at, &last, sizeof last);
    (void)mprotect((void *)first_page, last_page - first_page, PROT_READ);
}

/* Map our own memory from `page` up to where it already begins, and copy the `kept` bytes that remain. */
static int replace(Map *map, uintptr_t page, size_t kept) {
    static unsigned char held[MAX_PAGE]; /* one thread at a time repairs */
    uintptr_t lost = atomic_load(&map->lost);
    if (kept > sizeof held || page >= lost) return page >= lost;
    memcpy(held, (const void *)page, kept);
    if (mmap((void *)page, lost - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
        return 0;
    if (kept > 0 && mprotect((void *)page, page_size, PROT_READ | PROT_WRITE) == 0) {
        memcpy((void *)page, held, kept);
        (void)mprotect((void *)page, page_size, PROT_READ);
    }
    atomic_store(&map->lost, page);
    for (int32_t i = 0; i < map->n_bounds; i++) continue_bounds(&map->bounds[i], page + kept);
    return 1;
}

/* Repair the page of a fault. Return whether it can be accessed now. */
static int mend(Map *map, uintptr_t page) {
    struct stat file;
    uintptr_t end;
    int done;
    while (atomic_flag_test_and_set(&mending)) {}
    end = atomic_load(&map->start) + (fstat(map->descriptor, &file) == 0 ? (uintptr_t)file.st_size : map->end);
    if (end > page) /* the file is long enough: its disk fails, or its server */
        done = replace(map, page, 0);
    else done = replace(map, end & ~(page_size - 1), end & (page_size - 1));
    atomic_flag_clear(&mending);
    return done;
}

static void on_bus_error(int number, siginfo_t *info, void *context) {
    int saved = errno;
    uintptr_t at = (uintptr_t)info->si_addr;
    (void)context;
    for (int i = 0; i < MAX_MAPS; i++) {
        uintptr_t start = atomic_load(&maps[i].start);
        if (start == 0 || at < start || at >= maps[i].end || info->si_code <= 0) continue;
        if (!mend(&maps[i], at & ~(page_size - 1))) break;
        atomic_store(&last_thread, (uintptr_t)pthread_self());
        int (*told)(int) = atomic_load(&tell);
        if (told) (void)told(number);
        errno = saved;
        return;
    }
    /* Not our map: the same instruction faults again, and the earlier handler gets the signal. */
    (void)sigaction(number, &earlier, NULL);
    errno = saved;
}

int32_t cw_catch_page_faults(void *told, int32_t again) {
    struct sigaction now, ours;
    page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
    atomic_store(&tell, (int (*)(int))told);
    if (sigaction(SIGBUS, NULL, &now) != 0) return 0;
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_bus_error) return 1;
    if (!again) earlier = now;
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = on_bus_error;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    (void)sigemptyset(&ours.sa_mask);
    return sigaction(SIGBUS, &ours, NULL) == 0;
}

int32_t cw_watch_pages(uint8_t *pages, int64_t length, int32_t descriptor, const int64_t *offsets,
                       const int64_t *counts, int64_t n) {
    int32_t found = -1;
    if (n > MAX_BOUNDS) return -1;
    (void)pthread_mutex_lock(&places);
    for (int32_t i = 0; i < MAX_MAPS && found < 0; i++) {
        Map *map = &maps[i];
        if (atomic_load(&map->start) != 0) continue;
        map->end = ((uintptr_t)pages + (uintptr_t)length + page_size - 1) & ~(page_size - 1);
        map->descriptor = descriptor;
        map->n_bounds = (int32_t)n;
        for (int64_t k = 0; k < n; k++) map->bounds[k] = (Bounds){(uintptr_t)pages + (uintptr_t)offsets[k], counts[k]};
        atomic_store(&map->lost, map->end);
        atomic_store(&map->start, (uintptr_t)pages);
        found = i;
    }
    (void)pthread_mutex_unlock(&places);
    return found;
}

int32_t cw_lost_pages(int32_t place) { return atomic_load(&maps[place].lost) < maps[place].end; }

void cw_forget_pages(int32_t place) { atomic_store(&maps[place].start, 0); }

uint64_t cw_thread_of_last_fault(void) { return (uint64_t)atomic_load(&last_thread); }
