cimport cython
from libc.stdint cimport uint8_t, uint32_t, int64_t
from memora.engine.cursor cimport Cursor
from memora.engine.region cimport Region
from memora.engine.transaction cimport Transaction

@cython.final
cdef class Scan:
    cdef object store
    cdef Region region
    cdef Transaction transaction
    cdef Cursor cursor
    cdef uint32_t tree
    cdef bint own, plain, pickle, reverse, values
    cdef bytes low, high
    cdef int64_t left
    cdef object last            # the key given last, where the caller may write between two
    cdef const uint8_t *kp
    cdef size_t kn
    cdef const uint8_t *vp
    cdef size_t vn
    cdef uint8_t keybuf[512]
    cdef int any_step(self) except -1
    cdef int plain_step(self) except -1
    cdef int begin(self) except -1
    cdef int first(self) except -1
    cdef int stand(self, int more) except -1
    cdef int step(self) except -1
    cdef int again(self) except -1
    cpdef close(self)
