from libc.stdint cimport uint8_t, uint64_t

cdef uint64_t gather(uint8_t *p, uint64_t n) noexcept nogil

cdef class Backing:
    cdef public object directory
    cdef void *map(self, size_t size, bint writable) except NULL

cdef class File(Backing):
    cdef readonly object name, dev, ino
    cdef readonly bint writable
    cdef int opened
    cdef bint is_ours(self)

cdef class Segment(Backing):
    cdef readonly int key, id
    cdef readonly uint64_t size
    cdef uint8_t *at
