from libc.stdint cimport int64_t, uint32_t
from memora.engine.transaction cimport Transaction

cdef int give_back(Transaction t, uint32_t tree, int64_t rowid) except -1
cpdef int64_t next_rowid(Transaction t, uint32_t tree, int64_t least=*) except? -1
