from libc.stdint cimport uint8_t, uint32_t, uint64_t
from memora.engine.codec cimport Buf
from memora.engine.commit cimport TreeRef
from memora.engine.frames cimport Look
from memora.engine.region cimport Region
from memora.engine.transaction cimport Transaction

cdef class Space:
    cdef Region region
    cdef readonly object store
    cdef readonly str name
    cdef readonly object row            # the catalog's
    cdef readonly Transaction transaction
    cdef readonly bint pickle
    cdef uint64_t timeout_ns
    cdef TreeRef t
    cdef Buf key, value
    cdef int resolve(self) except -1
    cdef void visit(self, const Look *look, uint32_t slot) noexcept
    cdef object read(self, const uint8_t *k, size_t kn, object default)
    cdef object view_bytes(self, const uint8_t *k, size_t kn, object key)
    cdef object count(self, object key, object by, object initial, uint64_t until)
    cdef int get_some(self, Transaction t, list keys, Py_ssize_t at, Py_ssize_t end, Buf *b, dict out) except -1
    cdef int write(self, int op, object key, object value, uint64_t expiry) except -1
