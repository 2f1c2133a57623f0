from memora.engine.layout cimport mm_map

cdef int keep_budget(mm_map *m) noexcept nogil
