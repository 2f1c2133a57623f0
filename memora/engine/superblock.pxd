from libc.stdint cimport uint64_t
from memora.engine.layout cimport mm_map, mm_super

cdef void write_super(mm_super *s, dict g, bytes uuid, uint64_t incarnation, file_id)
cdef int read_super(mm_super *s, bytes data, uint64_t size, path, bint read_only, file_id) except -1
cdef int judge_slots(mm_super *s, bytes head, uint64_t size, path) except -1
cdef int bootstrap(mm_map *m, uint64_t units) except -1
