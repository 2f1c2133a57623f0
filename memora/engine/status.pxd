from memora.engine.layout cimport mm_map
cdef object error(mm_map *m, int status, str doing=*)
