"""What each execute and fetch passes through: the bases of Connection and Cursor.

A statement that the session knows already, with parameters of the plain types, on a connection that nobody watches, goes
straight to the session. All else takes the way of cursor.py, Cursor._execute, which decides every case; whatever is done there for an
ordinary statement must be done here, and `ConnectionBase.free` says when this way may be taken.
"""
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.pythread cimport PyThread_get_thread_ident

from memora.sql.program cimport Result
from memora.sql.running cimport HOW_CHANGE, HOW_OTHER, HOW_SELECT, Running, Statement


cdef bint _adapting = False         # some type of plain values has an adapter


def adapting(kind):
    """Says that a type of plain values has an adapter now: none is bound as it is from here on."""
    global _adapting
    _adapting = True


cpdef bint plain(given):
    """Whether parameters are a tuple of None, int of 64 bits, float, str, bytes: nothing is to be adapted."""
    cdef int overflow = 0
    if type(given) is not tuple or _adapting:
        return False
    for value in <tuple>given:
        if type(value) is int:
            PyLong_AsLongLongAndOverflow(value, &overflow)
            if overflow:
                return False
        elif value is not None and type(value) is not str and type(value) is not float and type(value) is not bytes:
            return False
    return True


cdef class ConnectionBase:
    """The state that statements look at. _thread: the only thread that may use it, or None."""

    cdef int free(self, bint changes) except -1:
        """Whether a statement may go straight to the session; changes: it is an INSERT, UPDATE or DELETE."""
        cdef Running session = self._session
        if self._thread is not None and <unsigned long>self._thread != <unsigned long>PyThread_get_thread_ident():
            return 0
        if self._tracer is not None or self._detect_types or self.text_factory is not str or self._limits is not None:
            return 0
        # an implicit transaction may have to be begun
        return not changes or session._transaction is not None or self._isolation_level is None or type(self._autocommit) is bool


    def _all_prepared(self, rows):
        """Sets of parameters as the session takes them: a list."""
        usual = self._limits is None
        return [row if usual and plain(row) else self._prepared(row) for row in rows]


cdef class CursorBase:
    """The rows of one statement."""

    def execute(self, sql, parameters=(), /):
        """Run one statement; `parameters` is a sequence (`?`) or a mapping (`:name`). Returns the cursor."""
        if type(sql) is str and not self._closed and not self._busy and self.connection is not None and isinstance(
                self.connection._session, Running) and plain(parameters):
            if self.quick(sql, parameters) is not None:
                return self
        return self._execute(sql, parameters)

    cdef object quick(self, str sql, tuple values):
        """The straight way; None if it cannot be taken."""
        cdef ConnectionBase connection = self.connection
        cdef Running session = connection._session
        cdef Statement statement
        cdef Result result
        if session.closed:
            return None
        statement = session.known(sql, values)
        if session.lifted is not None:
            values = session.lifted
        if statement is None or statement.how == HOW_OTHER or len(values) != statement.count or not connection.free(
                statement.how == HOW_CHANGE):
            return None
        result = self._result
        self._result = self._rows = self._names = self.description = None
        self._changed = -1
        self._busy = True
        try:
            if result is not None:
                result.close()
            result = session.run(statement, values)
            if statement.how == HOW_CHANGE:
                self._changed = result.rowcount
                if result.lastrowid is not None:
                    self.lastrowid = result.lastrowid
                if result.columns is None:
                    return self
                self.description = tuple([(name, None, None, None, None, None, None) for name in result.columns])
            else:
                self.description = statement.description
            self._names = result.columns
            # Like sqlite3, go to the first row now: what fails there fails in execute().
            result.begin()
            self._result = self._rows = result
            return self
        finally:
            self._busy = False

    cdef int ready(self) except -1:
        cdef ConnectionBase connection = self.connection
        if self._closed or self._busy or connection is None or connection._session is None or (
                connection._thread is not None and <unsigned long>connection._thread != <unsigned long>PyThread_get_thread_ident()):
            self._check()
        return 0

    cdef object next_row(self):
        """The next row, or None at the end."""
        self.ready()
        if self._rows is None:
            return None
        row = (<Result>self._rows).row() if type(self._rows) is Result else next(self._rows, None)
        if row is None:
            self._rows = None
            return None
        return row if self.row_factory is None else self.row_factory(self, row)

    def __iter__(self):
        return self

    def __next__(self):
        row = self.next_row()
        if row is None and self._rows is None:
            raise StopIteration
        return row

    def fetchone(self):
        """The next row, or None."""
        return self.next_row()

    def fetchall(self):
        """All rows that are left, as a list."""
        cdef list found = []
        self.ready()
        rows, factory = self._rows, self.row_factory
        if rows is None:
            return found
        if type(rows) is Result:
            row = (<Result>rows).row()
            while row is not None:
                found.append(row if factory is None else factory(self, row))
                row = (<Result>rows).row()
        else:
            found = list(rows) if factory is None else [factory(self, row) for row in rows]
        self._rows = None
        return found
