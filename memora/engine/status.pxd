from libc.stdint cimport uint32_t, uint64_t
from memora.engine.layout cimport mm_map, mm_slot

cdef object error(mm_map *m, int status, str doing=*)
cdef str what_of(const mm_slot *s)
cdef str tree_of(region, uint32_t tree)
cdef str doing_of(mm_map *m, region)
cdef double age_of(uint64_t since_ns)
cdef object lock_timeout(mm_map *m, str name, uint64_t timeout_ns, region)
cdef object ticket_timeout(mm_map *m, str name, uint64_t ticket, str why)
