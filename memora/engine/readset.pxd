from libc.stdint cimport uint32_t, uint64_t
from memora.engine.layout cimport mm_map

ctypedef struct ReadSet:
    uint32_t *page
    uint32_t n, cap, last

# A place in a read set to go back to.
ctypedef struct ReadMark:
    uint32_t n, last

cdef ReadMark read_mark(const ReadSet *r) noexcept nogil
cdef void read_back(ReadSet *r, ReadMark mark) noexcept nogil
cdef int read_page(ReadSet *r, uint32_t pgno) noexcept nogil
cdef int validate(const mm_map *m, const ReadSet *reads, uint64_t s) noexcept nogil
