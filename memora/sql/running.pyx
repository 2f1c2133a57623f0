"""What each execution of a statement passes through: the cache, a snapshot or a transaction, an idle program, the result.

session.py has what happens rarely (definitions, savepoints, pragmas, databases); this is the way of SELECT, INSERT, UPDATE, DELETE.
Outside of a transaction each statement is one: a SELECT reads its own snapshot until its rows are exhausted or closed, a change
is committed before `execute` returns, and is run again by itself if another commit was in its way. Inside of one, a failed
statement undoes only itself.

CACHE   text, or its shape (parsing.pyx), -> Statement (syntax tree) -> programs, valid for one Schema. A program runs once at a time; if it is still being
        read, another one is built. The schema is looked at anew whenever the engine's version moves. When the cache is full, the
        oldest statement goes that was not used since it was last looked at.
OPEN    results of a transaction that are still being read: address -> weak reference. They are taken into memory before the
        transaction changes or ends.
"""
import time
import weakref

from libc.stdint cimport int64_t, uint32_t, uint64_t

from memora.engine.region cimport Region
from memora.engine.retries import Retries
from memora.engine.transaction cimport Transaction
from memora.sql.effects cimport Watch
from memora.sql.parsing cimport Tables
from memora.sql.program cimport Program, Result, WriteProgram
from memora.sql.runtime cimport Context, Control, tick

from memora.errors import Error, IntegrityError, ProgrammingError, ReadOnly, SerializationError, SnapshotTooOld, SQLSyntaxError

from .conflicts import FailConflict, RollbackConflict
from .costs import LEAST_ROWS
from .parser import is_blank, parse, tables

CACHE_SIZE = 256
OUTGROWN = 4.0                  # a plan of a join is made again when a table is that many times larger or smaller
SHOWN = 199                     # characters of a statement that memora_processes shows


cdef class Statement:
    """One text, parsed, with its programs for the current schema. kind: the name of its node's class in lower case."""

    def __init__(self, node, str text=""):
        self.node, self.params = node, node.params
        self.count = len(self.params)
        self.what = text[:SHOWN].encode(errors="replace")       # what others see while it runs
        self.kind = type(node).__name__.lower()
        self.programs = []
        self.how = HOW_SELECT if self.kind == "select" else HOW_CHANGE if self.kind in ("insert", "update", "delete") else HOW_OTHER


cdef class Running:
    """The base of Session.

    virtual: dict of providers for what is not a table; provider(session, row) -> (column names, rows(transaction)).
    transaction: an open engine transaction to work in; then SQL cannot begin or end one.
    """

    def __init__(self, store, virtual=None, transaction=None, *, parts=None):
        self.store = store
        region = getattr(store, "region", None)
        self.region = region if isinstance(region, Region) else None
        self.virtual = virtual or {}
        self.functions = {}             # (folded name, number of arguments or -1) -> callbacks.UserFunction
        self.collations = {}            # upper-case name -> callbacks.Collation
        self.control = Control()
        self.watch = Watch()
        self.settings = {}
        self.temporary = {}             # temporary views, which live as long as the session
        self.parts = parts              # temporary tables and attached databases
        self.query_only = False         # changes are refused
        self._writing = False           # a statement outside of a transaction is writing
        self.total_changes = self.changes = self.last_rowid = 0
        self.closed = False
        self._transaction = transaction
        self._bound = transaction is not None
        self._cache = {}
        self._schema = self._version = self._last_commit = None
        self._dirty = False             # this transaction changed the catalog: the schema is its own
        self._open = {}

    def move(self, store, virtual):
        """Goes on with another store, outside of a transaction: what users added and set stays."""
        self.store, self.virtual = store, virtual
        self.region = store.region
        self._schema = self._version = self._last_commit = None
        self._cache.clear()

    # -- statements

    def execute(self, sql, params=()):
        """Runs one statement.

        params: a sequence for `?`, a mapping for named ones. Raises ProgrammingError for a wrong number of them, a second
        statement in the text or a closed session; OperationalError and IntegrityError as `sqlite3` does.
        """
        cdef Statement statement = self.cached(sql, params)
        if statement is None:
            return Result("empty")
        return self.run(statement, params if self.lifted is None else self.lifted)

    def executemany(self, sql, seq):
        """Runs one INSERT, UPDATE or DELETE for each set of parameters, all in one transaction."""
        cdef Statement statement = self.cached(sql, None)
        if statement is None or statement.how != HOW_CHANGE:
            raise ProgrammingError("executemany() can only execute DML statements.")
        sets = seq if type(seq) is list else list(seq)
        return self._write(statement, lambda transaction: self._many(statement, transaction, sets))

    cdef Statement known(self, sql, params):
        """The statement of a text or of its shape, if there is one; `lifted` are then the values to run it with, None for `params`."""
        cdef Statement statement = self._cache.get(sql)
        self.lifted = None
        if statement is None and params == () and type(sql) is str:
            shape = (<Tables>tables()).lift(sql)
            if shape is not None:
                statement = self._cache.get(shape[0])
                if statement is None:
                    # the first of its shape; a text that is wrong is parsed as it was written, for the message
                    try:
                        statement = self._parse(shape[0])
                    except Error:
                        return None
                    if statement is None or statement.count != len(<tuple>shape[1]):
                        return None
                if statement.literal:
                    return self._parse(sql)
                self.lifted, self.unlifted = shape[1], sql
        if statement is not None:
            statement.used = True
        return statement

    cdef Statement cached(self, sql, params):
        """The statement of a text, parsed if need be; None if there is none in it."""
        cdef Statement statement = self.known(sql, params)
        return self._parse(sql) if statement is None else statement

    def _parse(self, sql):
        if self.closed:
            raise ProgrammingError("Cannot operate on a closed session.")
        cdef Statement statement, oldest
        cdef dict cache = self._cache
        try:
            statement = Statement(parse(sql), sql)
        except SQLSyntaxError:
            if is_blank(sql):
                return None
            raise
        while len(cache) >= CACHE_SIZE:
            text = next(iter(cache))
            oldest = cache.pop(text)
            if oldest.used:
                oldest.used = False
                cache[text] = oldest
        cache[sql] = statement
        return statement

    cdef object run(self, Statement statement, params):
        if statement.how == HOW_SELECT:
            return self.select(statement, params)
        if statement.how == HOW_CHANGE:
            return self.change(statement, params)
        return self._run(statement, params)

    # -- SELECT

    cdef Result select(self, Statement statement, params):
        cdef object values = params
        cdef Transaction own
        cdef Result result
        if self.closed:
            raise ProgrammingError("Cannot operate on a closed session.")
        self.control.begin()
        if type(params) is not tuple or len(<tuple>params) != statement.count:
            values = self._values(statement, params)
        if self._transaction is not None:
            return self.started(statement, values, self._transaction, False)
        if self.region is not None and not self.region.m.unregistered:
            own = Transaction(self.region, read_only=True, timeout_s=self.store.timeout_s)
            return self.started(statement, values, own, True)
        patience = self.store.patience
        for left in range(patience - 1, -1, -1):
            try:
                own = self.store.begin(read_only=True)
                result = self.started(statement, values, own, True)
                if patience > 1:
                    result.begin()          # whoever is overtaken before the first row begins again
                return result
            except SnapshotTooOld:
                if not left:
                    raise

    cdef Result started(self, Statement statement, object values, Transaction transaction, bint own):
        """The result of a SELECT in a transaction; own: one that ends with it."""
        cdef Program program
        cdef Context context
        cdef Result result
        try:
            transaction.say(statement.what)
            program = self.program(statement, transaction)
            context = program.context
            context.changes, context.total_changes, context.last_rowid = self.changes, self.total_changes, self.last_rowid
            try:
                program.start(transaction, values)
            except BaseException:
                program.finish()
                raise
        except BaseException:
            if own:
                transaction.rollback()
            raise
        result = Result.__new__(Result)
        result.kind = "select"
        result.columns, result.decltypes = statement.columns, statement.decltypes
        result.rowcount = -1
        result.program = program
        if own:
            result.own = transaction
        else:
            result.among = self._open
            self._open[<size_t><void *>result] = weakref.ref(result)
        return result

    cdef Program program(self, Statement statement, Transaction transaction):
        """An idle program of a SELECT for the schema that the transaction sees."""
        cdef Program program
        schema = self.look(transaction)
        if statement.schema is not schema:
            statement.programs, statement.schema = [], schema
        for program in statement.programs:
            if not program.busy:
                if program.guesses is not None and outgrown(program.guesses, transaction):
                    statement.programs = []
                    break
                return program
        program, statement.columns, statement.decltypes = self._compile(statement, schema, transaction)
        statement.description = tuple([(name, None, None, None, None, None, None) for name in statement.columns])
        if statement.literal and self.lifted is not None:
            # it was parsed without its literals before this was known; the program for these ones serves once, without parameters
            return self._compile(Statement(parse(self.unlifted)), schema, transaction)[0]
        if len(statement.programs) < 8:
            statement.programs.append(program)
        return program

    cdef object look(self, Transaction transaction):
        """The schema that a transaction sees."""
        if not self.parts.parts:
            if self._dirty:
                return self._schema
            if self.region is not None and self._version is not None and self._schema is not None:
                transaction.on_schema = True
                if <int64_t>self._version == transaction.c_schema_version():
                    return self._schema
        return self._current_schema(transaction)

    # -- changes

    cdef object change(self, Statement statement, params):
        cdef object values = params
        if self.closed:
            raise ProgrammingError("Cannot operate on a closed session.")
        if type(params) is not tuple or len(<tuple>params) != statement.count:
            values = self._values(statement, params)
        return self._write(statement, None, values)

    cpdef object _write(self, Statement statement, object work, object values=None):
        """Runs work(transaction) -> Result in the open transaction, or in one of its own, again after a conflict.

        work: None for the statement itself, an INSERT, UPDATE or DELETE, with these values."""
        cdef Transaction transaction
        retries = None
        self.control.begin()
        if self.query_only or (self.region.m.read_only if self.region is not None else self.store.read_only):
            raise ReadOnly("attempt to write a readonly database")
        if self._transaction is not None:
            self._transaction.say(statement.what)
            return self.guarded(statement, work, values)
        while True:
            if retries is not None or self.region is None:
                transaction = self.store.begin(immediate=retries is not None and retries.immediate)
            else:
                transaction = Transaction(self.region, timeout_s=self.store.timeout_s)
            transaction.say(statement.what)
            self._writing = True
            self.watch.forget()
            try:
                result = self.worked(statement, transaction, work, values)
                if self.watch.deferred > 0:
                    self.total_changes -= self.changes
                    self.changes = 0
                    self.watch.check()
                self._finish(transaction)
                return result
            except (SerializationError, SnapshotTooOld) as error:
                self._abandon(transaction)
                retries = retries or Retries()
                pause = retries.after(error)
            except FailConflict as error:
                if self.watch.deferred > 0:
                    self._abandon(transaction)
                    self.watch.check()
                self._finish(transaction)
                raise IntegrityError(*error.args) from None
            except BaseException as error:
                self._abandon(transaction)
                if isinstance(error, RollbackConflict):
                    raise IntegrityError(*error.args) from None
                raise
            finally:
                self._writing = False
            time.sleep(pause)

    cpdef _finish(self, Transaction transaction):
        """Commits; the further databases after the main one, which alone can fail when it was written."""
        cdef uint64_t seen = transaction.s
        self._last_commit = transaction.commit()
        if self._last_commit != seen:
            self.own_commits += 1
        self._dirty = False
        if self.parts.parts:
            self.parts.commit()

    def _abandon(self, Transaction transaction):
        if not transaction.closed:
            transaction.rollback()
        self.parts.rollback()
        if self._dirty:
            self._dirty, self._version = False, None

    cdef object guarded(self, Statement statement, object work, object values):
        """A statement inside of a transaction: what fails undoes itself."""
        cdef Transaction transaction = self._transaction
        if self._open:
            self._settle()
        parts = self.parts if self.parts.parts else None
        savepoint, others = transaction.savepoint(), None if parts is None else parts.savepoints()
        dirty, schema, deferred = self._dirty, self._schema, self.watch.deferred
        try:
            return self.worked(statement, transaction, work, values)
        except FailConflict as error:
            raise IntegrityError(*error.args) from None
        except RollbackConflict as error:
            self.rollback()
            raise IntegrityError(*error.args) from None
        except BaseException:
            if not transaction.closed:
                transaction.rollback_to(savepoint)
                self.parts.back(others or {})
                self._dirty, self._schema, self.watch.deferred = dirty, schema, deferred
            raise
        finally:
            if not transaction.closed:
                transaction.release(savepoint)
                if parts is not None:
                    parts.release(others)

    cdef object worked(self, Statement statement, Transaction transaction, object work, object values):
        cdef WriteProgram program
        cdef Context context
        if work is not None:
            return work(transaction)
        program = self.writer(statement, transaction)
        context = program.context
        context.changes, context.total_changes, context.last_rowid = self.changes, self.total_changes, self.last_rowid
        try:
            count = program.run(transaction, values)
        except BaseException as error:
            self.changes = program.writer.written if isinstance(error, FailConflict) and program.writer is not None else 0
            self.total_changes += self.changes
            raise
        finally:
            self.set_off(program)
        return self.written(statement, program, count, program.work.returned)

    cdef WriteProgram writer(self, Statement statement, Transaction transaction):
        """The program of a change for the schema that the transaction sees."""
        cdef WriteProgram program
        schema = self.look(transaction)
        if statement.schema is not schema:
            statement.programs, statement.schema = [], schema
        if statement.programs:
            program = statement.programs[0]
            if program.guesses is not None and outgrown(program.guesses, transaction):
                statement.programs = []
        if not statement.programs:
            statement.programs.append(self._compile_change(statement, schema, transaction))
        program = statement.programs[0]
        if statement.literal and self.lifted is not None:
            program = self._compile_change(Statement(parse(self.unlifted)), schema, transaction)
        if self.parts.parts:
            self.parts.writes(program.database)
        return program

    def _many(self, Statement statement, Transaction transaction, list sets):
        cdef WriteProgram program = self.writer(statement, transaction)
        cdef int64_t count = 0
        if program.columns is not None:
            raise ProgrammingError("executemany() can only execute DML statements.")
        for params in sets:
            if type(params) is not tuple or len(<tuple>params) != statement.count:
                params = self._values(statement, params)
            tick(program.context)
            try:
                count += program.run(transaction, params)
            except BaseException:
                self.changes = 0
                self.total_changes += count
                raise
            finally:
                self.set_off(program)
        return self.written(statement, program, count, None)

    cdef int set_off(self, WriteProgram program) except -1:
        """Counts the rows that a program's run changed by triggers and foreign keys."""
        if program.watch is not None:
            self.total_changes += program.watch.total
        return 0

    cdef Result written(self, Statement statement, WriteProgram program, object count, object rows):
        cdef Result result = Result.__new__(Result)
        if program.is_insert and program.work.inserted:
            self.last_rowid = program.writer.last_rowid
        self.changes = count
        self.total_changes += self.changes
        result.kind = statement.kind
        result.columns = program.columns
        result.rowcount = count
        if statement.kind == "insert":
            result.lastrowid = self.last_rowid
        if rows is not None:
            result.decltypes = (None,) * len(program.columns)
            result.kept = iter(rows)
        return result


cdef bint outgrown(dict guesses, Transaction transaction) except -1:
    """Whether one of the trees, whose sizes decided on a plan, has now several times as many entries as was guessed, or as few."""
    cdef double guess, now
    cdef uint32_t tree
    for tree, guess in guesses.items():
        now = transaction.entries_about(tree)
        if now >= 0:
            now = max(now, LEAST_ROWS)
            if now > OUTGROWN * guess or guess > OUTGROWN * now:
                return True
    return False
