from libc.stdint cimport uint8_t, uint64_t
from memora.engine.region cimport Region

cdef class Hold:
    cdef void *shared                   # a mapping

cdef class Files:
    cdef Region region
    cdef readonly str path              # of the checkpoint
    cdef readonly str wal               # directory of the segments
    cdef readonly str durability
    cdef readonly uint64_t syncs        # of the log, by this process
    cdef bytes uuid
    cdef uint64_t incarnation
    cdef object hold
    cdef object thread, checkpointer
    cdef bint stop
    cdef object local                   # one flush at a time in this process
    cdef object pointing                # one checkpoint at a time in this process
    cdef object segment                 # (start lsn, descriptor)
    cdef object lost                    # FileReplaced, once that was seen
    cdef uint64_t mine                  # the lease as this process wrote it
    cdef int lease(self) except -1
    cdef int give_back_lease(self) except -1
    cdef int write_log(self, bint sync) except -1
    cdef int write_batch(self) except -1
    cdef int sync_log(self) except -1
    cdef int passed(self, uint64_t commit, uint64_t lsn) except -1
