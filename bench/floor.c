/* The native floor of `python -m bench seeds`: what the same work costs in C, n times a call. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

enum { RECORDS = 256, INTS = 256 };

struct record { int32_t id; int64_t count; double price; char name[8]; };
struct __attribute__((packed)) tight { int32_t id; int64_t count; double price; char name[8]; };

_Static_assert(sizeof(struct record) == 32 && sizeof(struct tight) == 28, "as bench/seeds.py and bench/typed.pyx have them");

/* The compiler must believe that somebody looks at p after each iteration. */
#define LOOKED_AT(p) __asm__ volatile("" : : "r"(p) : "memory")

void copy_ints(void *to, const void *from, long n) {
    for (long i = 0; i < n; i++) {
        memcpy(to, from, INTS * sizeof(int32_t));
        LOOKED_AT(to);
    }
}

void count_records(void *at, long n) {
    struct record *r = at;
    for (long i = 0; i < n; i++) {
        r[i & (RECORDS - 1)].count++;
        LOOKED_AT(r);
    }
}

void count_tight(void *at, long n) {
    struct tight *r = at;
    for (long i = 0; i < n; i++) {
        r[i & (RECORDS - 1)].count++;
        LOOKED_AT(r);
    }
}

/* n counters, 256 of them between two looks. */
void count_all(void *at, long n) {
    int64_t *c = at;
    for (long i = 0; i < n; i += RECORDS) {
        for (int k = 0; k < RECORDS; k++)
            c[k]++;
        LOOKED_AT(c);
    }
}

/* Memory of a process, of an open file on tmpfs, and of System V; NULL: errno says why. */
void *private_bytes(size_t size) { return calloc(1, size); }

void *mapped_bytes(int fd, size_t size) {
    void *p;
    if (ftruncate(fd, (off_t)size) || (p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED)
        return NULL;
    return p;
}

void *sysv_bytes(size_t size) {
    int id = shmget(IPC_PRIVATE, size, IPC_CREAT | 0600);
    void *p;
    if (id < 0)
        return NULL;
    p = shmat(id, NULL, 0);
    shmctl(id, IPC_RMID, NULL);         /* it lives until its last process detaches */
    return p == (void *)-1 ? NULL : p;
}

void free_private(void *p) { free(p); }
void free_mapped(void *p, size_t size) { munmap(p, size); }
void free_sysv(void *p) { shmdt(p); }
