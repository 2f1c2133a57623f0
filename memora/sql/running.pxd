"""The C face of sessions: prepared statements, and what each execution passes through."""
from libc.stdint cimport int64_t

from memora.engine.region cimport Region
from memora.engine.transaction cimport Transaction
from memora.sql.effects cimport Watch
from memora.sql.program cimport Program, Result, WriteProgram
from memora.sql.runtime cimport Control

cdef enum:
    HOW_OTHER = 0
    HOW_SELECT = 1
    HOW_CHANGE = 2


cdef class Statement:
    cdef readonly object node
    cdef readonly str kind
    cdef readonly tuple params
    cdef readonly bytes what
    cdef public object schema
    cdef public list programs
    cdef public tuple columns, decltypes
    cdef readonly object description
    cdef public bint literal           # its literals decide on the plan: they stay in the text
    cdef int how
    cdef Py_ssize_t count              # parameters
    cdef bint used                     # since it was last looked at for being dropped


cdef class Running:
    cdef readonly object store
    cdef Region region
    cdef public object virtual, functions, settings, temporary, parts, collations
    cdef public Control control
    cdef readonly Watch watch          # what triggers and foreign keys share in a statement and a transaction
    cdef public int64_t total_changes, changes, last_rowid
    cdef readonly int64_t own_commits
    cdef public bint closed
    cdef public bint query_only, _writing, _bound, _dirty
    cdef public Transaction _transaction
    cdef public dict _cache, _open
    cdef public object _schema, _version, _last_commit
    cdef str unlifted                  # the text, where `lifted` is not None
    cdef tuple lifted                  # the values of the literals of the text that cached() or known() found under its shape
    cdef Statement cached(self, sql, params)
    cdef Statement known(self, sql, params)
    cdef object run(self, Statement statement, params)
    cdef Result select(self, Statement statement, params)
    cdef Result started(self, Statement statement, object values, Transaction transaction, bint own)
    cdef Program program(self, Statement statement, Transaction transaction)
    cdef object look(self, Transaction transaction)
    cdef object change(self, Statement statement, params)
    cpdef object _write(self, Statement statement, object work, object values=*)
    cpdef _finish(self, Transaction transaction)
    cdef object guarded(self, Statement statement, object work, object values)
    cdef object worked(self, Statement statement, Transaction transaction, object work, object values)
    cdef WriteProgram writer(self, Statement statement, Transaction transaction)
    cdef int set_off(self, WriteProgram program) except -1
    cdef Result written(self, Statement statement, WriteProgram program, object count, object rows)
