/* Atomics, fences, futex, clocks, byte locks: their only place in Memora.
 *
 * Every word that two processes touch is read and written through these functions. Acquire pairs with release;
 * mm_fence() is the full fence of the snapshot protocol (procs.pyx). On x86-64 loads, stores and the acquire and
 * release fences are compiler barriers; on aarch64 they are real instructions.
 *
 * Byte locks (mm_life_*) are open-file-description locks: fcntl(2), F_OFD_SETLK.
 */
#ifndef MEMORA_SYNC_H
#define MEMORA_SYNC_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MM_LIKELY(x) __builtin_expect(!!(x), 1)
#define MM_UNLIKELY(x) __builtin_expect(!!(x), 0)

static inline uint16_t mm_ld16(const void *p) { return __atomic_load_n((const uint16_t *)p, __ATOMIC_RELAXED); }
static inline uint32_t mm_ld32(const void *p) { return __atomic_load_n((const uint32_t *)p, __ATOMIC_ACQUIRE); }
static inline uint64_t mm_ld64(const void *p) { return __atomic_load_n((const uint64_t *)p, __ATOMIC_ACQUIRE); }
static inline uint64_t mm_ld64r(const void *p) { return __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED); }
static inline void mm_st32(void *p, uint32_t v) { __atomic_store_n((uint32_t *)p, v, __ATOMIC_RELEASE); }
static inline void mm_st64(void *p, uint64_t v) { __atomic_store_n((uint64_t *)p, v, __ATOMIC_RELEASE); }
static inline void mm_st64r(void *p, uint64_t v) { __atomic_store_n((uint64_t *)p, v, __ATOMIC_RELAXED); }
static inline int mm_cas32(void *p, uint32_t old, uint32_t new_) {
    return __atomic_compare_exchange_n((uint32_t *)p, &old, new_, 0, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE);
}
static inline int mm_cas64(void *p, uint64_t old, uint64_t new_) {
    return __atomic_compare_exchange_n((uint64_t *)p, &old, new_, 0, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE);
}
static inline uint32_t mm_xchg32(void *p, uint32_t v) { return __atomic_exchange_n((uint32_t *)p, v, __ATOMIC_SEQ_CST); }
static inline uint64_t mm_xchg64(void *p, uint64_t v) { return __atomic_exchange_n((uint64_t *)p, v, __ATOMIC_SEQ_CST); }
static inline uint64_t mm_add64(void *p, uint64_t v) { return __atomic_fetch_add((uint64_t *)p, v, __ATOMIC_ACQ_REL); }
static inline uint32_t mm_add32(void *p, uint32_t v) { return __atomic_fetch_add((uint32_t *)p, v, __ATOMIC_SEQ_CST); }
static inline void mm_or32(void *p, uint32_t v) { __atomic_fetch_or((uint32_t *)p, v, __ATOMIC_SEQ_CST); }
static inline void mm_or64r(void *p, uint64_t v) { __atomic_fetch_or((uint64_t *)p, v, __ATOMIC_RELAXED); }
static inline void mm_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void mm_fence_acq(void) { __atomic_thread_fence(__ATOMIC_ACQUIRE); }
static inline void mm_fence_rel(void) { __atomic_thread_fence(__ATOMIC_RELEASE); }
/* Ask for a line that will be read soon; never faults, also outside the region. */
static inline void mm_prefetch(const void *p) { __builtin_prefetch(p, 0, 3); }
/* A whole page. With a size that it knows the compiler writes `rep movs`, which is slower than the library's copy. */
static inline void mm_copy_page(void *to, const void *from) {
    size_t n = 4096;
    __asm__("" : "+r"(n));
    memcpy(to, from, n);
}
static inline void mm_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* Big-endian heads of keys, for comparing as integers. */
static inline uint32_t mm_be32(const uint8_t *p, size_t n) {
    uint32_t v = 0;
    if (MM_LIKELY(n >= 4)) { memcpy(&v, p, 4); return __builtin_bswap32(v); }
    for (size_t i = 0; i < n; i++) v |= (uint32_t)p[i] << (24 - 8 * i);
    return v;
}

/* Of v > 0, rounded down. */
static inline uint32_t mm_log2(uint32_t v) { return 31u - (uint32_t)__builtin_clz(v); }
/* Bytes that nobody can guess. 0, or an errno. */
static inline int mm_random(void *p, size_t n) { return getrandom(p, n, 0) == (ssize_t)n ? 0 : errno ? errno : EIO; }

/* Futexes are shared (not FUTEX_PRIVATE_FLAG): the word lies in a file mapping. 0 = woken or changed, else errno. */
static inline int mm_futex_wait(void *p, uint32_t seen, uint64_t timeout_ns) {
    struct timespec t = {(time_t)(timeout_ns / 1000000000u), (long)(timeout_ns % 1000000000u)};
    if (syscall(SYS_futex, p, FUTEX_WAIT, seen, &t, NULL, 0) == 0) return 0;
    return errno == EAGAIN ? 0 : errno;
}
static inline void mm_nap(uint64_t ns) { struct timespec t = {0, (long)ns}; clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL); }
static inline long mm_futex_wake(void *p, int n) { return syscall(SYS_futex, p, FUTEX_WAKE, n, NULL, NULL, 0); }

static inline uint64_t mm_clock_ns(int id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
static inline uint64_t mm_mono_ns(void) { return mm_clock_ns(CLOCK_MONOTONIC); }
static inline uint64_t mm_coarse_ns(void) { return mm_clock_ns(CLOCK_MONOTONIC_COARSE); }    /* of the last tick: 4 ms, a quarter of the price */
static inline uint64_t mm_wall_ns(void) { return mm_clock_ns(CLOCK_REALTIME); }

/* Life of a process: a write lock on one byte of a file, held by a mapping alone (DECISIONS 11).
 * mm_life_hold opens `path` anew, locks the byte, maps one page and closes the descriptor; the mapping keeps the open
 * file description, and with it the lock, until the address space ends. Returns the mapping, or NULL with errno. */
static inline void *mm_life_hold(const char *path, int64_t byte, int exclusive, int across_fork) {
    int fd = open(path, (exclusive ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (fd < 0) return NULL;
    struct flock l = {.l_type = (short)(exclusive ? F_WRLCK : F_RDLCK), .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    void *p = NULL;
    if (fcntl(fd, F_OFD_SETLK, &l) == 0) {
        p = mmap(NULL, 4096, PROT_NONE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) p = NULL;
        else if (!across_fork && madvise(p, 4096, MADV_DONTFORK)) { int e = errno; munmap(p, 4096); errno = e; p = NULL; }
    }
    int e = errno;
    close(fd);
    errno = e;
    return p;
}
/* 1 = somebody holds a lock on the byte that conflicts with a write lock, 0 = nobody, -1 = could not ask (never means dead). */
static inline int mm_life_held(int fd, uint64_t dev, uint64_t ino, int64_t byte) {
    struct stat s;
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    if (fstat(fd, &s) || (uint64_t)s.st_dev != dev || (uint64_t)s.st_ino != ino) return -1;
    if (fcntl(fd, F_OFD_GETLK, &l)) return -1;
    if (fstat(fd, &s) || (uint64_t)s.st_dev != dev || (uint64_t)s.st_ino != ino) return -1;
    return l.l_type != F_UNLCK;
}

/* crc32c (Castagnoli, RFC 3720 appendix B.4), continued from `crc`. Hardware where the processor has it. */
static inline uint32_t mm_crc32c_soft(uint32_t crc, const uint8_t *p, size_t n) {
    static uint32_t table[256];
    if (!table[1])
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i;
            for (int k = 0; k < 8; k++) c = (c >> 1) ^ (0x82f63b78u & (0u - (c & 1)));
            __atomic_store_n(&table[i], c, __ATOMIC_RELAXED);
        }
    for (size_t i = 0; i < n; i++) crc = (crc >> 8) ^ table[(crc ^ p[i]) & 255];
    return crc;
}
#if defined(__x86_64__)
__attribute__((target("sse4.2")))
static inline uint32_t mm_crc32c_hard(uint32_t crc, const uint8_t *p, size_t n) {
    uint64_t c = crc, v;
    for (; n >= 8; n -= 8, p += 8) { memcpy(&v, p, 8); c = __builtin_ia32_crc32di(c, v); }
    for (; n; n--, p++) c = __builtin_ia32_crc32qi((uint32_t)c, *p);
    return (uint32_t)c;
}
static inline int mm_crc32c_has(void) { return __builtin_cpu_supports("sse4.2"); }
#else
static inline uint32_t mm_crc32c_hard(uint32_t crc, const uint8_t *p, size_t n) { return mm_crc32c_soft(crc, p, n); }
static inline int mm_crc32c_has(void) { return 0; }
#endif
static inline uint32_t mm_crc32c(uint32_t seed, const void *p, size_t n) {
    uint32_t c = ~seed;
    c = mm_crc32c_has() ? mm_crc32c_hard(c, (const uint8_t *)p, n) : mm_crc32c_soft(c, (const uint8_t *)p, n);
    return ~c;
}

/* A counter that moves in every forked child, so that handles notice without asking the kernel for their pid. */
static uint32_t mm_fork_epoch_word;
static void mm_fork_child_(void) { mm_fork_epoch_word++; }
static inline void mm_fork_watch(void) {
    static int done;
    if (!done) { done = 1; pthread_atfork(NULL, NULL, mm_fork_child_); }
}
#endif
