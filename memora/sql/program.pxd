"""The C face of prepared statements and their results."""
from libc.stdint cimport int64_t

from memora.engine.transaction cimport Transaction
from memora.sql.effects cimport Watch
from memora.sql.runtime cimport Context, Op, Work


cdef class Program:
    cdef readonly Context context
    cdef Op root
    cdef list exprs, ops
    cdef public dict guesses           # {tree: entries} that the plan rests on, or None
    cdef Py_ssize_t width, at          # at: the column that was last computed
    cdef public bint busy, lenient     # lenient: text need not be UTF-8
    cpdef start(self, Transaction transaction, values)
    cdef object fetch(self)
    cpdef finish(self)


cdef class WriteProgram:
    cdef readonly Context context
    cdef readonly Work work
    cdef readonly Watch watch
    cdef readonly object writer, columns, database
    cdef public dict guesses
    cdef readonly list ops
    cdef readonly bint is_insert
    cdef public bint busy
    cpdef object run(self, Transaction transaction, values)


cdef class Result:
    cdef readonly tuple columns, decltypes
    cdef readonly object rowcount, lastrowid
    cdef readonly str kind
    cdef Program program
    cdef Transaction own               # a read transaction to end with the rows
    cdef object kept                   # an iterator, once rows were taken into memory
    cdef object first                  # a row computed ahead
    cdef dict among                    # where the session finds it while rows are to be computed
    cdef object __weakref__
    cdef object row(self)
    cdef int begin(self) except -1
    cpdef close(self)
