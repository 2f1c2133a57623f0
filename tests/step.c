/* Single-steps a traced child and reports every image of the memory that it shares with us.
 *
 * The child has called PTRACE_TRACEME and stopped itself; it stops itself once more when it is done. After each instruction the
 * shared bytes are compared with the last image, in two classes. Words that a reader or the next owner of the lock would look at:
 * header and hot words, the descriptor's state and, while it is sealed, all of it; page table and side arrays; the heads of frames, but
 * for frames whose gen is odd before and after (being filled); while the descriptor is sealed, all of the units that are extents.
 * These are compared at each step. What nobody should look at (bodies of pages and new extents, an unsealed descriptor, the log, which is
 * written outside its window) is compared every 32 steps and at the end.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <elf.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

enum { UNIT = 4096, HEAD = 64, BODY_EVERY = 32 };
typedef int (*seen_fn)(long step, int body_only);

enum { DESC = 8192, DESC_BYTES = 16384 };

static uint64_t word(const uint8_t *p) { return __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED); }

static int differs(const uint8_t *a, const uint8_t *b, size_t n, size_t arrays, size_t data, const uint8_t *whole) {
    if (memcmp(a, b, DESC + 8) || memcmp(a + arrays, b + arrays, data - arrays)) return 1;
    int sealed = word(a + DESC) != 0;
    if (sealed && memcmp(a + DESC, b + DESC, DESC_BYTES)) return 1;
    for (size_t u = 0, at = data; at + UNIT <= n; u++, at += UNIT) {
        if (!whole[u] && (word(a + at) & word(b + at) & 1)) continue;
        if (whole[u] ? sealed && memcmp(a + at, b + at, UNIT) : memcmp(a + at, b + at, HEAD)) return 1;
    }
    return 0;
}

/* last: a copy of the n bytes at `region`, kept up to date. whole[u]: unit u is compared whole at each step. seen() returns nonzero to stop.
 * Returns the number of steps, or -1 (child ended, status in *status). */
long step_child(int pid, const uint8_t *region, uint8_t *last, size_t n, size_t arrays, size_t data, const uint8_t *whole, seen_fn seen,
                int *status) {
    long steps = 0;
    for (;;) {
        if (ptrace(PTRACE_SINGLESTEP, pid, 0, 0) || waitpid(pid, status, 0) != pid) return -1;
        if (!WIFSTOPPED(*status)) return -1;
        if (WSTOPSIG(*status) != SIGTRAP && WSTOPSIG(*status) != SIGSTOP) return -1;
        steps++;
        int end = WSTOPSIG(*status) == SIGSTOP;
        int changed = differs(region, last, n, arrays, data, whole);
        if (!changed && (end || steps % BODY_EVERY == 0)) changed = 2 * (memcmp(region, last, n) != 0);
        if (changed) {
            memcpy(last, region, n);
            if (seen(steps, changed == 2)) return steps;
        }
        if (end) return steps;
    }
}

/* Steps n instructions, or until the child stops itself. Returns the number of steps; -1: the child ended. */
long step_some(int pid, long n, int *status) {
    for (long steps = 0; steps < n;) {
        if (ptrace(PTRACE_SINGLESTEP, pid, 0, 0) || waitpid(pid, status, 0) != pid || !WIFSTOPPED(*status)) return -1;
        steps++;
        if (WSTOPSIG(*status) != SIGTRAP) return steps;
    }
    return n;
}

/* Lets the child run until it stops itself. 0, or -1: it ended. */
int run_on(int pid, int *status) {
    if (ptrace(PTRACE_CONT, pid, 0, 0) || waitpid(pid, status, 0) != pid || !WIFSTOPPED(*status)) return -1;
    return 0;
}

/* Where the child is about to go on, 0 if that cannot be told. */
static uint64_t place(int pid) {
    struct user_regs_struct regs;
    struct iovec v = {&regs, sizeof(regs)};
    if (ptrace(PTRACE_GETREGSET, pid, (void *)NT_PRSTATUS, &v)) return 0;
#if defined(__x86_64__)
    return regs.rip;
#else
    return regs.pc;
#endif
}

/* Steps until the child stops itself, and notes where each of the first n instructions is. Returns the number of steps, or -1. */
long step_places(int pid, uint64_t *places, long n, int *status) {
    for (long steps = 0;;) {
        if (ptrace(PTRACE_SINGLESTEP, pid, 0, 0) || waitpid(pid, status, 0) != pid || !WIFSTOPPED(*status)) return -1;
        if (WSTOPSIG(*status) != SIGTRAP) return steps + 1;
        if (steps < n) places[steps] = place(pid);
        steps++;
    }
}

/* Steps until the child is about to go on in [lo, hi), and k instructions further. 0; 1 if it stopped itself before; -1: it ended. */
int step_into(int pid, uint64_t lo, uint64_t hi, long k, int *status) {
    for (int in = 0;;) {
        if (!in) { uint64_t at = place(pid); in = lo <= at && at < hi; }
        if (in && k-- <= 0) return 0;
        if (ptrace(PTRACE_SINGLESTEP, pid, 0, 0) || waitpid(pid, status, 0) != pid || !WIFSTOPPED(*status)) return -1;
        if (WSTOPSIG(*status) != SIGTRAP) return 1;
    }
}
