"""The C face of what changing a row sets off: see `effects.pyx`."""
from libc.stdint cimport int64_t

from memora.engine.transaction cimport Transaction
from memora.sql.record cimport EitherRow, Source
from memora.sql.runtime cimport Context, Expr, Op, Work


cdef class Watch:
    cdef public int64_t changes, total, last_rowid
    cdef public int64_t immediate, deferred
    cdef public bint recursive, defer_all
    cdef int64_t total_before
    cdef readonly Transaction transaction      # of the main database
    cdef int depth
    cdef list active                   # tokens of the programs that run
    cpdef begin(self, Transaction transaction, Context context)
    cpdef settle(self)
    cdef int64_t violations(self, bint deferred) noexcept
    cdef void add(self, bint deferred, int64_t n) noexcept


cdef class Drain(Work):
    cdef Op op
    cdef list exprs


cdef class Step:
    cdef Context context
    cdef Work work
    cdef list ops
    cdef object parts, database        # where the database that is written is noted, or None
    cdef int run(self, Watch watch) except -1


cdef class Body:
    cdef readonly EitherRow old, new
    cdef Expr when
    cdef Context context
    cdef list ops, steps
    cdef int wanted(self, Watch watch) except -1


cdef class RowProgram:
    cdef object token, make
    cdef bint always
    cdef list idle
    cdef int fire(self, Watch watch, Source old, Source new) except -1


cdef class Probe:
    cdef readonly EitherRow row
    cdef Context context, holder
    cdef Op op
    cdef list ops
    cdef bint one
    cdef int64_t count(self, Watch watch, Source source) except -1


cdef class ChildKey:
    cdef list columns, parent_columns
    cdef Probe parent
    cdef bint rowid, deferred
    cdef int names_itself(self, Source row) except -1
    cdef int has_parent(self, Watch watch, Source row) except -1
    cdef int came(self, Watch watch, Source new) except -1
    cdef int gone(self, Watch watch, Source old) except -1


cdef class ParentKey:
    cdef list columns
    cdef Probe others, all             # children but for the row itself; all children
    cdef bint deferred, restrict
    cdef RowProgram action
    cdef int came(self, Watch watch, Source old, Source new) except -1
    cdef int gone(self, Watch watch, Source old, Source new) except -1
    cdef int act(self, Watch watch, Source old, Source new) except -1


cdef class Effects:
    cdef readonly Watch watch
    cdef readonly list before, after, children, parents
    cdef readonly set columns
    cdef readonly bint taken_out
    cdef int fire(self, list programs, Source old, Source new) except -1
    cdef int came(self, Source old, Source new) except -1
    cdef int gone(self, Source old, Source new) except -1
    cdef int act(self, Source old, Source new) except -1
