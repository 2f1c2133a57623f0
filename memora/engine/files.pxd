from libc.stdint cimport uint8_t, uint64_t
from memora.engine.region cimport Region

cdef class Files:
    cdef Region region
    cdef readonly str path              # of the checkpoint
    cdef readonly str wal               # directory of the segments
    cdef readonly str durability
    cdef bytes uuid
    cdef uint64_t incarnation
    cdef void *shared                   # mapping that holds the shared lock
    cdef object thread
    cdef bint stop
    cdef object local                   # one flush at a time in this process
    cdef object segment                 # (start lsn, descriptor)
    cdef int lease(self) except -1
    cdef int write_log(self, bint sync) except -1
