"""A prepared query, and a statement's result."""
from memora.engine.transaction cimport Transaction
from memora.sql.runtime cimport Context, Op


cdef class Program:
    cdef readonly Context context
    cdef Op root
    cdef list exprs, ops
    cdef Py_ssize_t width
    cdef public bint busy
    cpdef start(self, Transaction transaction, values)
    cdef object fetch(self)
    cpdef finish(self)


cdef class Result:
    cdef readonly tuple columns, decltypes
    cdef readonly object rowcount, lastrowid
    cdef readonly str kind
    cdef Program program
    cdef Transaction own               # a read transaction to end with the rows
    cdef object kept                   # an iterator, once rows were taken into memory
    cdef object __weakref__
