"""A prepared query that can be started, and the result that a statement hands out."""
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from cpython.ref cimport Py_INCREF
from cpython.unicode cimport PyUnicode_DecodeUTF8

from memora.engine.transaction cimport Transaction
from memora.sql.effects cimport Watch
from memora.sql.runtime cimport Context, Expr, Op, Work, weigh
from memora.sql.types cimport T_TEXT, Value, to_python

from memora.errors import IntegrityError, NotText

from .conflicts import FailConflict


cdef class Program:
    """An operator tree with its result expressions. One execution at a time: `busy` while rows may still be asked for."""

    def __cinit__(self, Context context, Op root, list exprs, list ops):
        self.context, self.root, self.exprs, self.ops = context, root, exprs, ops
        self.width = len(exprs)

    cpdef start(self, Transaction transaction, values):
        """Begins an execution over a transaction, with all parameters by index."""
        self.context.start(transaction, values)
        self.busy = True
        self.lenient = False
        self.root.open()

    cdef object fetch(self):
        """The next row as a tuple, or None at the end."""
        cdef Value v
        cdef Py_ssize_t i
        cdef tuple row
        cdef object o
        if not self.root.next():
            return None
        row = PyTuple_New(self.width)
        for i in range(self.width):
            (<Expr>self.exprs[i]).eval(&v)
            self.at = i
            weigh(self.context, &v)
            if self.lenient and v.tag == T_TEXT:
                o = PyUnicode_DecodeUTF8(<const char *>v.u.p, v.n, "surrogateescape")
            else:
                o = to_python(&v)
            Py_INCREF(o)
            PyTuple_SET_ITEM(row, i, o)
        return row

    cpdef finish(self):
        """Ends an execution and lets go of cursors, kept rows and the transaction."""
        if self.busy:
            self.context.stop(self.ops)
            self.busy = False


cdef class WriteProgram:
    """A prepared change. run(transaction, values) -> rows changed; `work` is the Insert, Update or Delete that does it; watch: the run, if
    it sets off triggers or foreign keys."""

    def __cinit__(self, Context context, Work work, writer, list ops, columns, bint is_insert, database, Watch watch=None):
        self.context, self.work, self.writer, self.ops = context, work, writer, ops
        self.columns, self.is_insert, self.database, self.watch = columns, is_insert, database, watch

    cpdef object run(self, Transaction transaction, values):
        """Makes the change; the number of rows."""
        cdef int64_t count
        if self.watch is not None:
            self.watch.begin(transaction, self.context)
        self.context.start(transaction, values)
        try:
            count = self.work.go()
        except IntegrityError as error:
            if self.is_insert and self.writer is not None:
                self.writer.unused()            # what ON CONFLICT FAIL leaves goes on with this number
            if self.watch is not None and isinstance(error, FailConflict):
                self.watch.settle()
            raise
        finally:
            self.context.stop(self.ops)
        if self.watch is not None:
            self.watch.settle()
        return count

    @property
    def returned(self):
        """The rows of RETURNING, or None."""
        return self.work.returned

    @property
    def lastrowid(self):
        """The rowid of the last row that was inserted, or None."""
        return self.writer.last_rowid if self.is_insert and self.work.inserted else None


cdef class Result:
    """What `Session.execute` returns: an iterator of tuples and what is known about them.

    columns: names of the result columns, None if the statement has no rows; decltypes: declared types, by column;
    rowcount: rows changed, -1 for others than INSERT, UPDATE, DELETE; lastrowid: rowid of the last inserted row, or None;
    kind: "select", "insert", "update", "delete", "begin", ... A SELECT is lazy: outside of a transaction it holds its own
    snapshot until the rows are exhausted or it is closed.
    """

    def __init__(self, kind, columns=None, decltypes=None, rowcount=-1, lastrowid=None, rows=None, Program program=None,
                 Transaction own=None):
        self.kind, self.columns, self.decltypes, self.rowcount, self.lastrowid = kind, columns, decltypes, rowcount, lastrowid
        self.program, self.own = program, own
        if rows is not None:
            self.kept = iter(rows)

    def __iter__(self):
        return self

    def __next__(self):
        row = self.row()
        if row is None:
            raise StopIteration
        return row

    cdef object row(self):
        """The next row, or None at the end."""
        cdef object row = self.first
        if row is not None:
            self.first = None
            return row
        if self.program is not None:
            try:
                row = self.program.fetch()
            except BaseException as error:
                at = self.program.at
                self.close()
                if type(error) is NotText:
                    raise NotText(error.data, self.columns[at]) from None
                raise
            if row is None:
                self.close()
            return row
        return None if self.kept is None else next(self.kept, None)

    @property
    def open(self):
        """Whether rows are still to be computed."""
        return self.program is not None

    cdef int begin(self) except -1:
        self.first = self.row()
        return 0

    def escape(self):
        """Bytes in texts that are not UTF-8 come as half surrogate pairs from here on, as "surrogateescape" makes them; else NotText is raised."""
        if self.program is not None:
            self.program.lenient = True

    def ready(self):
        """Computes the first row, so that what can go wrong before it goes wrong now."""
        self.begin()

    def settle(self):
        """Computes all rows that are left and keeps them: the transaction is about to change or to end."""
        if self.program is not None:
            rows = list(self)
            self.kept = iter(rows)

    cpdef close(self):
        """Ends the result; it has no more rows. May be called again."""
        cdef Program program = self.program
        cdef Transaction own = self.own
        self.program = None
        self.own = None
        self.kept = self.first = None
        if self.among is not None:
            self.among.pop(<size_t><void *>self, None)
            self.among = None
        if program is not None:
            program.finish()
        if own is not None:
            own.rollback()

    def __del__(self):
        self.close()
