"""Operators between the scans and the result."""
from libc.stdint cimport int64_t, uint8_t, uint64_t

from memora.engine.codec cimport Buf
from memora.sql.record cimport SlotSource, Source
from memora.sql.runtime cimport Arena, Context, Expr, KeyTable, Op, SortItem
from memora.sql.types cimport Value


cdef class ExprSource(Source):
    cdef list exprs


cdef class Gate(Op):
    cdef Op child
    cdef Source source


cdef class Filter(Op):
    cdef Op child
    cdef list conditions
    cdef Py_ssize_t count


cdef class Precondition(Op):
    cdef Op child
    cdef list conditions
    cdef bint passed


cdef class NestedLoop(Op):
    cdef Op left, right
    cdef bint outer, inside, matched
    cdef list sources


cdef class FullJoin(Op):
    cdef Op left, right
    cdef list keep, conditions, left_sources
    cdef SlotSource output
    cdef bint full, matched
    cdef Arena arena
    cdef Value **rows
    cdef uint8_t *hit
    cdef int64_t count, room, at
    cdef int state
    cdef int fill(self) except -1
    cdef int nulls(self, bint value) except -1


cdef class Limit(Op):
    cdef Op child
    cdef Expr limit, offset
    cdef int64_t left, skip


cdef class Materialize(Op):
    cdef Context context
    cdef Op child
    cdef list exprs
    cdef SlotSource output
    cdef bint correlated, ready
    cdef uint64_t epoch
    cdef Arena arena
    cdef Value **rows
    cdef int64_t count, room, at
    cdef int fill(self) except -1


cdef class HashLookup(Op):
    cdef Context context
    cdef Op child
    cdef list keys, probes, exprs, affinities, collations
    cdef SlotSource output
    cdef bint ready
    cdef uint64_t epoch
    cdef Arena arena
    cdef KeyTable table
    cdef Value **heads                 # by key number: newest first; slot 0 of a row links to the next one
    cdef int64_t room
    cdef Value *current
    cdef Buf key, scratch
    cdef int encode(self, list exprs) except -1
    cdef int fill(self) except -1


cdef class Distinct(Op):
    cdef Op child
    cdef list exprs, collations
    cdef KeyTable table
    cdef Buf key


cdef class Project(Op):
    cdef Op child
    cdef list exprs
    cdef SlotSource output
    cdef Value *values


cdef class Concatenate(Op):
    cdef list arms, exprs
    cdef SlotSource output
    cdef Value *values
    cdef Py_ssize_t at
    cdef bint opened
    cdef int width


cdef class SetOperation(Op):
    cdef Op left, right
    cdef list left_exprs, right_exprs, collations
    cdef SlotSource output
    cdef int operator, width
    cdef Arena arena
    cdef KeyTable table, other
    cdef SortItem *items
    cdef int64_t room, count, at
    cdef Buf key
    cdef int encode(self, list exprs, Value *row) except -1
    cdef int add(self, Op op, list exprs, bint wanted, bint check) except -1
    cdef int remember(self) except -1


cdef class Recursive(Op):
    cdef Op first
    cdef list steps, first_exprs, step_exprs, collations
    cdef SlotSource output, feedback
    cdef bint distinct, stepping
    cdef Arena arena
    cdef KeyTable table
    cdef Value **queue
    cdef int64_t room, count, at
    cdef int width
    cdef Buf key
    cdef int add(self, list exprs) except -1


cdef class Once(Op):
    cdef bint done
