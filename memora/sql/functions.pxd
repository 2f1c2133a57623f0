"""How a scalar function is written: a C function over evaluated arguments."""
from libc.stdint cimport uint8_t

from memora.engine.codec cimport Buf
from memora.sql.expressions cimport Scratch
from memora.sql.runtime cimport Context, Expr
from memora.sql.types cimport Value

ctypedef int (*scalar)(Function self, Value *args, int n, Value *out) except -1


cdef class Scalar:
    cdef scalar code
    cdef readonly str name
    cdef readonly int least, most
    cdef readonly bint deterministic


cdef class Function(Scratch):
    cdef Context context
    cdef list args
    cdef Value *values
    cdef int count
    cdef scalar code
    cdef int collation
    cdef str name
    cdef Buf first, second, third
    cdef object state                  # what a function wants to keep between calls


cdef int like(const uint8_t *p, size_t pn, const uint8_t *s, size_t sn, bint glob, bint cased, int escape, Context context) except -1


cdef int add(str name, int least, int most, scalar code, bint deterministic=*) except -1
