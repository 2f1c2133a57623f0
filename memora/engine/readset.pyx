"""The read set of a transaction: what its commit looks at again.

INVARIANTS  (1) Catalog and roots pages never conflict by themselves; the schema is compared by its own number (commit.pyx).
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport realloc
from memora.engine.layout cimport *


cdef ReadMark read_mark(const ReadSet *r) noexcept nogil:
    cdef ReadMark mark
    mark.n = r.n
    mark.last = r.last
    return mark


cdef void read_back(ReadSet *r, ReadMark mark) noexcept nogil:
    """Forget what was read since the mark: the caller vouches for it in another way."""
    r.n = mark.n
    r.last = mark.last


cdef int read_page(ReadSet *r, uint32_t pgno) noexcept nogil:
    """Remember that a transaction read this leaf. MM_OK or MM_NOMEM."""
    cdef void *p
    if r.last == pgno:
        return MM_OK
    if r.n == r.cap:
        p = realloc(r.page, (r.cap * 2 + 32) * sizeof(uint32_t))
        if p == NULL:
            return MM_NOMEM
        r.page = <uint32_t *>p
        r.cap = r.cap * 2 + 32
    r.page[r.n] = pgno
    r.n += 1
    r.last = pgno
    return MM_OK


cdef int validate(const mm_map *m, const ReadSet *reads, uint64_t s) noexcept nogil:
    """Step 3, by page: a page freed or with a newer version may hold other keys than were read."""
    cdef uint32_t i, e
    for i in range(reads.n):
        e = m.pt[reads.page[i]]
        if e & MM_PT_BITS or mm_frame_at(m, e).ver > s:
            return MM_CONFLICT
    return MM_OK
