"""Expression nodes that other modules build on; see `expressions.pyx`."""
from memora.engine.codec cimport Buf
from memora.sql.record cimport Source
from memora.sql.runtime cimport Arena, Context, Expr, KeyTable, Op
from memora.sql.types cimport Value


cdef class Const(Expr):
    cdef Value value
    cdef list keep


cdef class ColumnRef(Expr):
    cdef Source source
    cdef readonly int index


cdef class Held(Expr):
    cdef Value value


cdef class Scratch(Expr):
    cdef Buf buffer
