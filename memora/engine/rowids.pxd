from libc.stdint cimport int64_t, uint32_t
from memora.engine.transaction cimport Transaction

cpdef int64_t next_rowid(Transaction t, uint32_t tree, int64_t least=*) except? -1
