from libc.stdint cimport uint8_t, uint32_t, uint64_t
from memora.engine.layout cimport mm_map, mm_frame

# A page as a reader at some commit found it. Bytes read from it count only if still_there() afterwards.
ctypedef struct Look:
    const mm_frame *page
    uint64_t gen
    uint32_t frame
    uint32_t pgno
    uint32_t seen           # set by a search: the page whose version changes with every commit that changes what was found here
    int hopped              # an older version was followed: gc_floor must be asked, too

cdef int page_at(mm_map *m, uint64_t s, uint32_t pgno, Look *out) noexcept nogil
cdef void expect_leaf(mm_map *m, uint32_t pgno) noexcept nogil
cdef const uint8_t *page_bytes(mm_map *m, uint32_t pgno) noexcept nogil
cdef void expect_page(mm_map *m, uint32_t pgno) noexcept nogil
cdef int still_there(const Look *look) noexcept nogil
cdef int unregistered_ok(const mm_map *m, uint64_t s, const Look *look) noexcept nogil

cdef int corrupt(mm_map *m, uint32_t page, const char *what) noexcept nogil
cdef mm_frame *current(mm_map *m, uint32_t pgno) noexcept nogil
cdef mm_frame *dirty(mm_map *m, uint32_t pgno) noexcept nogil
cdef mm_frame *new_page(mm_map *m, uint32_t tree, uint8_t kind, uint8_t level, uint32_t *pgno) noexcept nogil
cdef int free_page(mm_map *m, uint32_t pgno) noexcept nogil
cdef void finish(mm_map *m) noexcept nogil
cdef int collect(mm_map *m, int forced) noexcept nogil
cdef uint32_t reserve(const mm_map *m) noexcept nogil
cdef int reserve_low(const mm_map *m) noexcept nogil
cdef void scan_snapshots(mm_map *m) noexcept nogil
cdef int needed(const mm_map *m, uint64_t made, uint64_t retired) noexcept nogil
cdef int counts_hold(mm_map *m) noexcept nogil
cdef uint64_t published_units(mm_map *m, uint64_t wanted) noexcept nogil
