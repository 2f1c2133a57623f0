from memora.engine.region cimport Region

cdef int grow_or_raise(Region region, int st) except -1
