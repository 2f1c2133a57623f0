"""ORDER BY and GROUP BY."""
from libc.stdint cimport int64_t, uint8_t

from memora.engine.codec cimport Buf
from memora.sql.record cimport SlotSource
from memora.sql.runtime cimport Arena, Expr, KeyTable, Op, SortItem
from memora.sql.types cimport Value


cdef struct State:
    int64_t count
    int64_t whole          # the sum while it is an integer
    double sum, error      # the sum as a real, and Neumaier's correction
    bint approximate, overflow
    Value best
    uint8_t *bytes         # group_concat; or the best text, if it is long-lived
    size_t n, cap


cdef class Sort(Op):
    cdef Op child
    cdef list keys, descending, nulls, collations, exprs
    cdef SlotSource output
    cdef Expr limit, offset
    cdef Arena arena
    cdef SortItem *items
    cdef size_t count, room, at
    cdef Buf key
    cdef int encode(self) except -1


cdef class Aggregate:
    cdef int kind, collation
    cdef Expr operand, between, condition
    cdef bint distinct
    cdef KeyTable seen
    cdef Buf key, scratch
    cdef int add(self, State *s, int64_t group) except -1
    cdef int keep_best(self, State *s, const Value *v) except -1
    cdef int final(self, State *s, Value *out) except -1


cdef class GroupBy(Op):
    cdef Op child
    cdef list keys, collations, aggregates, bare
    cdef SlotSource output
    cdef int follow, nkeys, naggregates, nbare
    cdef bint always
    cdef Arena arena
    cdef KeyTable table
    cdef State *states                 # naggregates for each group
    cdef Value **rows                  # by group: keys, then bare
    cdef Value *slots
    cdef SortItem *items
    cdef int64_t count, room, at
    cdef Buf key
    cdef void release(self) noexcept
    cdef int new_group(self) except -1
    cdef int keep_bare(self, Value *row) except -1
