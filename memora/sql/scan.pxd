"""The operators that read trees, and the source of a row that is reached through an index."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from memora.engine.codec cimport Buf
from memora.engine.cursor cimport Cell, Cursor
from memora.sql.record cimport RecordSource, SlotSource, Source
from memora.sql.runtime cimport BLOCK, Arena, Context, Expr, KeyTable, Op
from memora.sql.types cimport Value


cdef class IndexSource(RecordSource):
    cdef Context context
    cdef uint32_t tree                 # of the table
    cdef bint loaded
    cdef int parts                     # how many components of the key were read
    cdef int *positions                # column -> component of the index key, or -1
    cdef int components
    cdef Value *values
    cdef Buf *scratch
    cdef list descending
    cdef bint *real
    cdef const uint8_t *key
    cdef const uint8_t *key_end
    cdef const uint8_t *at
    cdef const uint8_t *locator
    cdef size_t locator_n
    cdef str name
    cdef int point(self, const uint8_t *key, size_t n, const uint8_t *value, size_t vn, bint rowids) except -1
    cdef int fetch(self) except -1


cdef class TableScan(Op):
    cdef Context context
    cdef RecordSource source
    cdef uint32_t tree
    cdef Expr low, high
    cdef bint low_open, high_open, reverse
    cdef Cursor cursor
    cdef uint64_t epoch
    cdef int state
    cdef int64_t first, last
    cdef uint8_t[8] end                # the key where the cursor stops
    cdef Cell[BLOCK] cells             # of a block
    cdef int bound(self, Expr e, bint is_low, bint is_open, int64_t *out) except -1
    cdef int begin(self) except -1
