from libc.stdint cimport int64_t, uint32_t, uint64_t
from memora.engine.region cimport Region

cdef int relieve(Region r, int st, uint64_t need, str doing, int64_t entry) except -1
cdef int reserve(Region r, uint32_t tree, uint64_t nbytes, uint64_t timeout_ns, uint32_t *granule, int64_t entry) except -1
cdef int unreserve(Region r, uint32_t granule) except -1
