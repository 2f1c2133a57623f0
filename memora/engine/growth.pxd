from libc.stdint cimport uint64_t
from memora.engine.region cimport Region

cdef int grow_for(Region r, int status, uint64_t need, uint64_t units) except -1
