from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from memora.engine.commit cimport TreeRef
from memora.engine.layout cimport mm_control
from memora.engine.region cimport Region

cdef class Feed:
    cdef Region region
    cdef readonly object trees      # frozenset of tree ids, or None: all
    cdef uint64_t pos               # log position of the next record
    cdef uint64_t seen              # newest commit handed out or passed over
    cdef uint8_t *buf
    cdef uint64_t cap
    cdef uint8_t *whole             # the operations in buf with the values that they name
    cdef uint64_t cap_whole
    cdef const uint8_t *with_values(self, uint64_t n, uint32_t count, uint64_t *length) except? NULL
    cdef int locate(self) except -1
    cdef int room(self, uint64_t n) except -1
    cdef int has_next(self) noexcept
    cdef object take(self)
    cdef object ops(self, const uint8_t *p, uint64_t n, uint32_t count)

cdef class TopicReader:
    cdef Region region
    cdef TreeRef t
    cdef uint64_t pos
    cdef uint64_t next_seq
    cdef mm_control *control(self) except NULL
    cdef int gone(self) except -1
    cdef const uint8_t *ring(self, const mm_control *c, uint64_t *size) except NULL
    cdef int oldest(self, uint64_t *tail, uint64_t *seq) except -1
    cdef int locate(self) except -1
    cdef int has_next(self) noexcept
    cdef object take(self)

cdef class Waiter:
    cdef Region region
    cdef readonly int fd
    cdef object thread
    cdef bint stop
