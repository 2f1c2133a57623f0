"""The C face of connections and cursors."""


cdef class ConnectionBase:
    cdef public object _session, _tracer, _limits, row_factory, text_factory, _autocommit, _isolation_level
    cdef public int _detect_types
    cdef public object _thread
    cdef unsigned long thread          # 0: any may use it
    cdef int free(self, bint changes) except -1


cdef class CursorBase:
    cdef public ConnectionBase connection
    cdef public object description, lastrowid, arraysize, row_factory
    cdef public object _result, _rows, _changed, _names
    cdef public bint _closed, _busy
    cdef object quick(self, str sql, tuple values)
    cdef int ready(self) except -1
    cdef object next_row(self)
