from libc.stdint cimport uint32_t, uint64_t
from memora.engine.region cimport Region

cdef int take_turn(Region r, uint64_t timeout_ns, uint64_t mine) except -1
cdef int wait_ticket(Region r, uint64_t timeout_ns, uint64_t mine, int taking) except -1
cdef uint64_t enter(Region r, uint32_t entry, uint64_t timeout_ns, uint64_t for_ns) except 0
