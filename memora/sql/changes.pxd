"""The C face of changes.pyx."""
from memora.engine.codec cimport Buf
from memora.sql.runtime cimport Arena, Op, Work
from memora.sql.types cimport Value
from memora.sql.writer cimport TableWriter


cdef class Change(Work):
    cdef Op op
    cdef list keys, stored
    cdef TableWriter writer
    cdef Buf locators
    cdef size_t *ends
    cdef Value **rows
    cdef size_t found, room
    cdef Arena arena
    cdef object seen
    cdef int collect(self) except -1


cdef class Update(Change):
    cdef list columns, exprs, returning
    cdef int action
